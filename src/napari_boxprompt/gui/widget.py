"""The dock widget: it puts the panels together and is what commands and keys call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.components import ViewerModel  # noqa: TC002 (napari reads the annotation)
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_boxprompt.gui import keys
from napari_boxprompt.gui.actions import Actions
from napari_boxprompt.gui.boxes_panel import BoxesPanel
from napari_boxprompt.gui.image_panel import ImagePanel
from napari_boxprompt.gui.jobs import Jobs
from napari_boxprompt.gui.pixels import PixelWatch
from napari_boxprompt.gui.predict_panel import PredictPanel
from napari_boxprompt.gui.predicting import Predicting
from napari_boxprompt.gui.preview import Preview
from napari_boxprompt.gui.project_part import ProjectPart
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.review_panel import ReviewPanel
from napari_boxprompt.gui.rounds import RoundBook
from napari_boxprompt.gui.section import Section, wrapping_label
from napari_boxprompt.gui.settings import PluginSettings, follow_settings, make_cache, plugin_settings
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.style import plot_colors, style_sheet
from napari_boxprompt.gui.thumbnails import Thumbnails
from napari_boxprompt.gui.train_panel import TrainPanel
from napari_boxprompt.gui.trainer import Trainer
from napari_boxprompt.gui.work import Encoders

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_boxprompt.events import Progress
    from napari_boxprompt.gui.projects import Projects

__all__ = ["BoxPromptWidget"]

QUIET_MS = 20
"""Changes that follow each other faster than this are answered once."""


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
        self.jobs = Jobs(self)
        self.encoders = Encoders(lambda: make_cache(plugin_settings()))
        self.preview = Preview(self.session, self.jobs, self.encoders, lambda: self.train_panel.model)
        # Before the panels hear of it: the worker looks at a new box while they draw theirs.
        self.session.boxes_changed.connect(self._look)
        self.pixels = PixelWatch(self.session)
        self.trainer = Trainer(self.session, self.jobs, self.encoders, self.preview)
        self.predicting = Predicting(self.session, self.jobs)
        self.review = Review(self.session)
        self.image_panel = ImagePanel(self.session)
        self.boxes_panel = BoxesPanel(self.session)
        self.train_panel = TrainPanel(self.session, self.trainer)
        self.train_panel.set_defaults(preferences.model, preferences.device)
        self.rounds = RoundBook(self.session, self.jobs, self.trainer)
        self.train_panel.add_rounds(self.rounds)
        self.project = ProjectPart(self)
        self.actions = Actions(
            self,
            self.session,
            self.jobs,
            self.trainer,
            self.predicting,
            self.review,
            self.train_panel.start,
            lambda: self.sections["Keys"].open(),
            self.project.actions,
        )
        self.predict_panel = PredictPanel(self.session, self.predicting)
        self.review_panel = ReviewPanel(self.session, self.review, Thumbnails(self.session, self.jobs))
        self.sections = {
            "Image": Section("1  Image", self.image_panel),
            "Boxes": Section("2  Boxes", self.boxes_panel),
            "Train": Section("3  Train", self.train_panel),
            "Predict": Section("4  Predict", self.predict_panel, is_open=False),
            "Review": Section("5  Review", self.review_panel, is_open=False),
            "Keys": Section("Keys", _keys_table(), is_open=False),
        }
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(QUIET_MS)
        self._later.timeout.connect(self._look)
        self._opened: Section | None = None
        self._unfolded = QTimer(self)  # a section has its height only when it has been laid out
        self._unfolded.setSingleShot(True)
        self._unfolded.setInterval(QUIET_MS)
        self._unfolded.timeout.connect(self._bring_into_view)
        self._lay_out()
        self._connect()
        self._unfollow = follow_settings(self._take_preferences)
        self._bind_keys()
        self._follow_theme()
        self.refresh_summaries()
        self.train_panel.load_choices(self.jobs)
        self._later.start()

    @property
    def projects(self) -> Projects:
        """The project that is open, if one is."""
        return self.project.projects

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(6)
        for section in self.sections.values():
            column.addWidget(section)
        column.addStretch(1)
        self._scroll = scroll = QScrollArea()
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.project.bar)  # always in sight, however far the steps are scrolled
        layout.addWidget(scroll)
        self.setMinimumWidth(350)

    def _connect(self) -> None:
        session, boxes, train, actions = self.session, self.boxes_panel, self.train_panel, self.actions
        for signal in (session.image_changed, session.plane_changed, session.contrast_changed):
            signal.connect(self._later_look)
        self.pixels.replaced.connect(self._on_new_pixels)
        self.pixels.redrawn.connect(self.preview.forget)
        session.boxes_changed.connect(self._bind_keys)
        session.result_changed.connect(self._bind_keys)
        for signal in (
            session.image_changed,
            session.boxes_changed,
            session.model_changed,
            session.result_changed,
            self.trainer.timed,
            self.trainer.started,
            self.trainer.ended,
            self.predicting.started,
            self.predicting.ended,
            self.rounds.changed,
        ):
            signal.connect(self.refresh_summaries)
        session.model_changed.connect(self._open_predict)
        self.trainer.started.connect(self._make_room)
        self.predicting.ended.connect(self._open_review)
        self.preview.progressed.connect(self._show_preview_progress)
        self.image_panel.sample_wanted.connect(actions.open_sample)
        boxes.from_file.connect(actions.boxes_from_file)
        boxes.from_labels.connect(actions.boxes_from_labels)
        boxes.from_object.connect(actions.box_from_object)
        boxes.export_wanted.connect(actions.export_boxes)
        boxes.regions_wanted.connect(actions.draw_complete_region)
        boxes.preview_wanted.connect(self._switch_preview)
        train.save_wanted.connect(actions.save_model)
        train.load_wanted.connect(actions.load_model)
        train.command_wanted.connect(actions.copy_command)
        self.predict_panel.folder_wanted.connect(actions.predict_folder)
        self.predict_panel.load_wanted.connect(actions.load_model)
        self.review_panel.export_wanted.connect(actions.export_labels)
        self.viewer.events.theme.connect(self._follow_theme)
        for section in self.sections.values():
            section.toggled.connect(self._note_opened)

    def event(self, event: QEvent) -> bool:
        """Come to rest when the widget is taken out of its dock.

        That is all that the dock's x does: no `closeEvent`, and the object lives on for as long as anything
        refers to it. It must not answer the viewer meanwhile.
        """
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._later.stop()
            self._unfolded.stop()
            self.projects.close_apart()
            self.jobs.close()
            self.pixels.close()
            self.session.close()
            self._unfollow()
            self.viewer.events.theme.disconnect(self._follow_theme)
        return bool(super().event(event))

    # Looks

    def refresh_summaries(self, *_: object) -> None:
        """One line for each section."""
        for name, panel in (
            ("Image", self.image_panel),
            ("Boxes", self.boxes_panel),
            ("Train", self.train_panel),
            ("Predict", self.predict_panel),
            ("Review", self.review_panel),
        ):
            doubled = panel is self.train_panel and self.train_panel.summary_is_preset
            self.sections[name].set_summary(panel.summary, doubled=doubled)

    def _take_preferences(self, new: PluginSettings) -> None:
        """Preferences that change while the widget is open count from the next job on."""
        old, self._preferences = self._preferences, new
        if (old.cache_folder, old.cache_gb) != (new.cache_folder, new.cache_gb):
            self.encoders.renew()
        changed = {name: getattr(new, name) for name in ("model", "device")}
        changed = {name: value for name, value in changed.items() if value != getattr(old, name)}
        if changed:
            self.train_panel.follow_defaults(**changed)
            self._later_look()

    def _later_look(self) -> None:
        self._later.start()

    def _look(self) -> None:
        self._later.stop()
        self.preview.request()

    def _on_new_pixels(self) -> None:
        self.preview.forget()
        if not self.session.contrast_is_manual:
            self.session.forget_contrast()  # what was measured on other pixels says nothing of these
        self._later_look()

    def _show_preview_progress(self, progress: Progress | None) -> None:
        text = self.image_panel.summary if progress is None else "looking at this plane …"
        self.sections["Image"].set_summary(text)
        if progress is None:
            self.train_panel.measure()

    def _switch_preview(self, wanted: bool) -> None:
        self.preview.enabled = wanted
        if wanted:
            self._look()
        else:
            self.preview.hide()

    def _make_room(self, _: object) -> None:
        """Fold what is done, so that the plot is seen without scrolling."""
        for name in ("Image", "Boxes"):
            self.sections[name].open(False)
        self.sections["Train"].open()  # folded for a review, and with it the button that stops

    def _open_predict(self) -> None:
        if self.session.trained is None:
            return
        self.sections["Image"].open(False)  # or Review would be below the lower edge
        self.sections["Predict"].open()

    def _open_review(self, done: int) -> None:
        review = self.sections["Review"]
        if self.session.result is not None and not review.is_open:
            for name in ("Image", "Boxes", "Train"):  # or the list would be below the lower edge
                self.sections[name].open(False)
            review.open()

    def _note_opened(self, is_open: bool) -> None:
        section = self.sender()
        if is_open and isinstance(section, Section):
            self._opened = section
            self._unfolded.start()

    def _bring_into_view(self) -> None:
        """Scroll to what was opened, as it may be below the lower edge."""
        if self._opened is not None:
            self._scroll.ensureWidgetVisible(self._opened, 0, 0)

    def _bind_keys(self) -> None:
        boxes, result = self.session.boxes, self.session.result
        called: dict[str, Callable[[], object]] = {
            key.action: getattr(self.actions, key.action) for key in (*keys.BOX_KEYS, *keys.REVIEW_KEYS)
        }
        if boxes is not None:
            keys.bind_classes(boxes.shapes, boxes.choose_class)
            for layer in (boxes.shapes, boxes.complete):
                if layer is not None:
                    keys.bind(layer, keys.BOX_KEYS, called)
        if result is not None and result.alive:
            keys.bind(result.layer, keys.REVIEW_KEYS, called)

    def _follow_theme(self, _: object = None) -> None:
        self.setStyleSheet(style_sheet(self.viewer.theme))
        self.train_panel.set_theme(*plot_colors(self.viewer.theme))


def _keys_table() -> QWidget:
    """All keys, in line with what stands in the other sections."""
    table = wrapping_label(keys.as_html())
    table.setContentsMargins(8, 0, 4, 4)
    return table
