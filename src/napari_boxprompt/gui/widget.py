"""The dock widget: it puts the panels together and is what commands and keys call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.components import ViewerModel  # noqa: TC002 (napari reads the annotation)
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_boxprompt.gui.actions import Actions
from napari_boxprompt.gui.asking import StopRow
from napari_boxprompt.gui.boxes_panel import BoxesPanel
from napari_boxprompt.gui.deleted import Deleted
from napari_boxprompt.gui.from_preview import FromPreview
from napari_boxprompt.gui.image_panel import ImagePanel
from napari_boxprompt.gui.jobs import Jobs
from napari_boxprompt.gui.key_table import KeyTable
from napari_boxprompt.gui.keys import bind_all
from napari_boxprompt.gui.last_move import LastMoves
from napari_boxprompt.gui.looking import Looks
from napari_boxprompt.gui.predict_panel import PredictPanel
from napari_boxprompt.gui.predicting import Predicting
from napari_boxprompt.gui.preview import Preview
from napari_boxprompt.gui.project_part import ProjectPart
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.review_panel import ReviewPanel
from napari_boxprompt.gui.rounds import RoundBook
from napari_boxprompt.gui.settings import PluginSettings, follow_settings, make_cache, plugin_settings
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.steps import Steps
from napari_boxprompt.gui.style import plot_colors, style_sheet
from napari_boxprompt.gui.thumbnails import Thumbnails
from napari_boxprompt.gui.train_panel import TrainPanel
from napari_boxprompt.gui.trainer import Trainer
from napari_boxprompt.gui.work import Encoders

if TYPE_CHECKING:
    from psygnal import SignalInstance

    from napari_boxprompt.events import Progress
    from napari_boxprompt.gui.projects import Projects

__all__ = ["BoxPromptWidget"]


class BoxPromptWidget(QWidget):
    """Draw boxes, train, predict, review.

    Parameters
    ----------
    napari_viewer : ViewerModel
        The viewer; napari hands it over because of the parameter's name.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._preferences = preferences = plugin_settings()
        self.session = Session(napari_viewer)
        self._last_moves, self.deleted = LastMoves(napari_viewer), Deleted(self.session)
        self.keys = KeyTable()
        self.jobs = Jobs(self)
        self.encoders = Encoders(lambda: make_cache(plugin_settings()))
        self.preview = Preview(self.session, self.jobs, self.encoders, lambda: self.train_panel.model)
        self._later = Looks(self.session, self.preview, self)
        self.trainer = Trainer(self.session, self.jobs, self.encoders, self.preview)
        self.predicting = Predicting(self.session, self.jobs)
        self.from_preview = FromPreview(self.session, self.jobs, self.encoders, self.preview)
        self.review = Review(self.session)
        self.image_panel = ImagePanel(self.session, self.jobs)
        self.boxes_panel = BoxesPanel(self.session, self.keys, self.deleted)
        self.train_panel = TrainPanel(self.session, self.trainer)
        self.train_panel.set_defaults(preferences.model, preferences.device)
        self.rounds = RoundBook(self.session, self.jobs, self.trainer)
        self.train_panel.add_rounds(self.rounds)
        self.train_panel.add_preview(self.from_preview)
        self.session.left.show(self.trainer, self.rounds, self.train_panel)
        self.session.left.arrived = self.session.set_model
        self.project = ProjectPart(self)
        self.asking = StopRow(self.trainer, self.predicting)
        self.actions = Actions(
            self,
            self.session,
            self.jobs,
            self.trainer,
            self.predicting,
            self.from_preview,
            self.review,
            self.rounds,
            self.train_panel.start,
            lambda: self._steps.show_keys(),
            self.project.actions,
            self.asking,
        )
        self.predict_panel = PredictPanel(
            self.session, self.predicting, self.trainer.estimate_prediction, self.project.unopened
        )
        self.review_panel = ReviewPanel(
            self.session, self.review, Thumbnails(self.session, self.jobs), self.keys
        )
        self._steps = Steps(self.session, self._panels, self.keys)
        self.sections = self._steps.sections
        self._lay_out()
        self._connect()
        self._unfollow = follow_settings(self._take_preferences)
        self._bind_keys()
        self._follow_theme()
        self.refresh_summaries()
        self.train_panel.load_choices(self.jobs)
        self._later.start()

    @property
    def _panels(self) -> dict[str, QWidget]:
        return {
            "Image": self.image_panel,
            "Boxes": self.boxes_panel,
            "Train": self.train_panel,
            "Predict": self.predict_panel,
            "Review": self.review_panel,
        }

    @property
    def projects(self) -> Projects:
        """The project that is open, if one is."""
        return self.project.projects

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.project.bar)  # always in sight, however far the steps are scrolled
        layout.addWidget(self.asking)
        layout.addWidget(self._steps)
        self.setMinimumWidth(350)

    def _connect(self) -> None:
        session, boxes, train, actions = self.session, self.boxes_panel, self.train_panel, self.actions
        for signal in (
            session.boxes_changed,
            session.result_changed,
            self.keys.changed,
            *self._beginnings_and_ends,
        ):
            signal.connect(self._bind_keys)
        for signal in (
            session.image_changed,
            session.boxes_changed,
            session.model_changed,
            session.result_changed,
            self.trainer.timed,
            self.rounds.changed,
            *self._beginnings_and_ends,
        ):
            signal.connect(self.refresh_summaries)
        session.model_changed.connect(self._steps.show_prediction)
        self.trainer.started.connect(self._steps.show_training)
        self.trainer.started.connect(lambda _: boxes.show_learning(True))
        self.trainer.ended.connect(lambda _: boxes.show_learning(False))
        self.trainer.timed.connect(self.predict_panel.estimate)
        self.predicting.ended.connect(self._steps.show_review)
        self.from_preview.ended.connect(self._steps.show_review)
        self.project.unopened.ended.connect(lambda: self._steps.show_review(there=True))
        self.predicting.started.connect(self.preview.begin_prediction)
        self.preview.progressed.connect(self._show_preview_progress)
        self.image_panel.sample_wanted.connect(actions.open_sample)
        boxes.from_file.connect(actions.boxes_from_file)
        boxes.from_labels.connect(actions.boxes_from_labels)
        boxes.from_all_labels.connect(actions.boxes_from_all_labels)
        boxes.from_shapes.connect(actions.boxes_from_shapes)
        boxes.from_object.connect(actions.box_from_object)
        boxes.export_wanted.connect(actions.export_boxes)
        boxes.regions_wanted.connect(actions.draw_complete_region)
        boxes.preview_wanted.connect(self._later.switch)
        boxes.preview_wanted.connect(lambda _: self.from_preview.changed.emit())
        train.preview_wanted.connect(actions.use_preview)
        train.save_wanted.connect(actions.save_model)
        train.load_wanted.connect(actions.load_model)
        train.command_wanted.connect(actions.copy_command)
        self.predict_panel.folder_wanted.connect(actions.predict_folder)
        self.predict_panel.load_wanted.connect(actions.load_model)
        self.review_panel.export_wanted.connect(actions.export_labels)
        actions.writing.connect(self.review_panel.show_writing)
        self.viewer.events.theme.connect(self._follow_theme)

    def event(self, event: QEvent) -> bool:
        """Come to rest when the widget is taken out of its dock.

        That is all that the dock's x does: no `closeEvent`, and the object lives on for as long as anything
        refers to it. It must not answer the viewer meanwhile.
        """
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._later.close()
            self._last_moves.close()
            self.deleted.close()
            self._steps.come_to_rest()
            self.project.rounds.leave()
            self.session.left.note(self.trainer, self.rounds, self.train_panel)
            self.projects.close_apart()
            self.jobs.close()
            self.session.close()
            self._unfollow()
            self.viewer.events.theme.disconnect(self._follow_theme)
        return bool(super().event(event))

    # Looks

    def refresh_summaries(self, *_: object) -> None:
        """One line for each section."""
        self._steps.refresh()

    def _take_preferences(self, new: PluginSettings) -> None:
        """Preferences that change while the widget is open count from the next job on."""
        old, self._preferences = self._preferences, new
        if (old.cache_folder, old.cache_gb) != (new.cache_folder, new.cache_gb):
            self.encoders.renew()
        changed = {name: getattr(new, name) for name in ("model", "device")}
        changed = {name: value for name, value in changed.items() if value != getattr(old, name)}
        if changed:
            self.train_panel.follow_defaults(**changed)
            self._later.soon()

    def _show_preview_progress(self, progress: Progress | None) -> None:
        text = self.image_panel.summary if progress is None else "looking at this plane …"
        self.sections["Image"].set_summary(text)
        if progress is None:
            self.train_panel.measure()

    @property
    def _beginnings_and_ends(self) -> tuple[SignalInstance, ...]:
        works = (self.trainer, self.predicting)
        return tuple(signal for work in works for signal in (work.started, work.ended))

    def _bind_keys(self, *_: object) -> None:
        bind_all(self.session, self.actions, self.keys)

    def _follow_theme(self, _: object = None) -> None:
        self.setStyleSheet(style_sheet(self.viewer.theme))
        self.train_panel.set_theme(*plot_colors(self.viewer.theme))
