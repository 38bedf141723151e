"""Step 3: train, and watch it learn."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QMenu,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_boxprompt.config import OURS, make_config
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.events import Metrics, Progress
from napari_boxprompt.gui.form import SettingsForm
from napari_boxprompt.gui.rounds_view import RoundsView
from napari_boxprompt.gui.section import Section, make_primary, say, wrapping_label
from napari_boxprompt.gui.steps import next_step
from napari_boxprompt.gui.telling import duration, told
from napari_boxprompt.gui.trainer import time_left
from napari_boxprompt.gui.work import model_names

if TYPE_CHECKING:
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.gui.from_preview import FromPreview
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.plot import TrainingPlot
    from napari_boxprompt.gui.rounds import RoundBook
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.work import Trained
    from napari_boxprompt.project.rounds import Round

__all__ = ["TrainPanel"]

CHECKED_PLANES = 3
"""Planes with boxes from which on one is held out, on which the model is checked."""

CHOICES = {
    "model": ("litemedsam",),
    "generator": ("auto", "light", "wide", "simple"),
    "device": ("auto", "cpu", "cuda", "mps"),
}
"""Lists of the form; the models are found out in the background, because PyTorch takes seconds to load."""

PHASES = {
    "prepare": "Preparing",
    "download": "Downloading",
    "encode": "Looking at images",
    "train": "Training",
}


class TrainPanel(QWidget):
    """Chooses settings, starts and stops a training, shows how it goes.

    Parameters
    ----------
    session : Session
        State of the widget.
    trainer : Trainer
        Runs the training.
    """

    save_wanted = Signal()
    load_wanted = Signal()
    command_wanted = Signal()
    preview_wanted = Signal()
    settings_changed = Signal()
    summary_changed = Signal()

    def __init__(self, session: Session, trainer: Trainer) -> None:
        super().__init__()
        self._session, self._trainer = session, trainer
        self._phase, self._phase_started, self._device = "", 0.0, ""
        self._progress = ""
        self._agreement: float | None = None
        self.preset = QComboBox()
        for name in OURS:
            self.preset.addItem(name, name)
        self.preset.setCurrentIndex(self.preset.findData("balanced"))
        self.preset.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.preset.setToolTip("fast to try, balanced for most, best when there is time.")
        self.go_on = QCheckBox("start from the present model")
        self.go_on.setToolTip("Go on learning with its weights instead of from nothing.")
        self.form = SettingsForm(CHOICES)
        self.advanced = Section("Advanced", self.form, is_open=False)
        self.train = QPushButton("Train")
        self.stop = QPushButton("Stop, keep the best")
        self.more = QPushButton("Model")
        menu = QMenu(self.more)
        self._save = menu.addAction("Save model …", self.save_wanted.emit)
        menu.addAction("Load model …", self.load_wanted.emit)
        self._copy = menu.addAction("Copy as command", self.command_wanted.emit)
        self.more.setMenu(menu)
        self.more.setObjectName("boxprompt-menu")
        self.bar = QProgressBar()
        self.bar.setVisible(False)
        self.waits = wrapping_label(name="boxprompt-quiet")
        self.use_preview = QPushButton()
        self.use_preview.setToolTip("An object for each box of the plane on screen, without a training.")
        self.from_preview: FromPreview | None = None
        self.lessons = wrapping_label(name="boxprompt-quiet")
        self.said = wrapping_label(name="boxprompt-quiet")
        self.said.setVisible(False)
        self.plot: TrainingPlot | None = None
        self.rounds: RoundsView | None = None
        self._theme = ("#000000", "#ffffff")
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(8, 0, 4, 4)
        row, buttons = QHBoxLayout(), QHBoxLayout()
        row.addWidget(self.preset, 1)
        row.addWidget(self.more)
        buttons.addWidget(self.train, 1)
        buttons.addWidget(self.stop, 1)
        self._layout.addLayout(row)
        for widget in (self.go_on, self.advanced, self.waits, self.use_preview, self.lessons):
            self._layout.addWidget(widget)
        self._layout.addLayout(buttons)
        for widget in (self.bar, self.said):
            self._layout.addWidget(widget)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        session, trainer = self._session, self._trainer
        session.boxes_changed.connect(self.refresh)
        session.model_changed.connect(self.refresh)
        session.result_changed.connect(self.refresh)
        session.plane_changed.connect(self._offer_preview)
        self.use_preview.clicked.connect(self.preview_wanted)
        trainer.timed.connect(self.refresh)
        trainer.started.connect(self._on_started)
        trainer.event.connect(self._on_event)
        trainer.ended.connect(self._on_ended)
        trainer.stop_asked.connect(self._show_stopping)
        self.preset.activated.connect(self._choose_preset)
        self.form.valueChanged.connect(self._on_settings)
        self.train.clicked.connect(lambda: self.start())
        self.stop.clicked.connect(trainer.stop)

    @property
    def summary(self) -> str:
        """One line."""
        if self._trainer.running:
            return self._progress.lower() if self._progress else "training …"
        lessons = self._session.lessons.describe(self._session.drawn)
        if lessons and self._has_new_lessons():
            return lessons
        if self._session.trained is not None:
            agreement = "" if self._agreement is None else f", boxes agree {self._agreement:.2f}"
            return f"model ready{agreement}"
        return str(self.preset.currentText())

    def _has_new_lessons(self) -> bool:
        """Whether other planes are accepted than at the last training."""
        last, lessons = self._trainer.last, self._session.lessons
        away = lessons.elsewhere
        now = {*lessons.accepted(self._session.drawn), *(() if away is None else away.masked)}
        return now != set(last.masks if last else ())

    @property
    def summary_is_doubled(self) -> bool:
        """Whether the summary says no more than the list of presets, or than the bar."""
        return self._trainer.running or self._session.trained is None

    @property
    def config(self) -> TrainConfig:
        """Settings as they stand.

        Raises
        ------
        ConfigError
            A setting that is not allowed.
        """
        return self.form.value()

    @property
    def model(self) -> tuple[str, str]:
        """Frozen model and device; previews need them even where another setting is not allowed."""
        return self.form.text("model"), self.form.text("device")

    def measure(self) -> None:
        """Find out in the background how long a training takes here, once for each model."""
        with contextlib.suppress(BoxPromptError):  # the panel says already what is wrong
            self._trainer.time(self.config)

    @told
    def start(self) -> None:
        """Start a training."""
        self._trainer.start(self.config, go_on=self.go_on.isChecked() and not self.go_on.isHidden())

    def set_defaults(self, model: str, device: str) -> None:
        """Take what the plugin's preferences say."""
        self.form.setValue(make_config(self._preset_name, model=model, device=device))

    def take(self, config: TrainConfig) -> None:
        """Take settings that were kept."""
        self.form.setValue(config)
        self.preset.setCurrentIndex(max(0, self.preset.findData(config.preset)))

    def follow_defaults(self, **changed: str) -> None:
        """Take what has changed of the plugin's preferences; the other settings stay as they are."""
        try:
            self.form.setValue(self.config.model_copy(update=changed))
        except BoxPromptError:  # a setting that is not allowed: it stays for the user to mend
            return

    def load_choices(self, jobs: Jobs) -> None:
        """Fill the list of models in the background."""
        jobs.start(
            "listing the models", model_names, on_result=lambda names: self.form.set_choices("model", names)
        )

    def add_rounds(self, book: RoundBook) -> None:
        """Show what came of the rounds, below the sentence about the last training."""
        self.rounds = RoundsView(book)
        self._layout.insertWidget(self._layout.indexOf(self.said) + 1, self.rounds)
        book.recorded.connect(self._on_recorded)
        book.loaded.connect(self._on_recorded)

    def add_preview(self, from_preview: FromPreview) -> None:
        """Offer what the frozen model makes of boxes where there are too few for a training."""
        self.from_preview = from_preview
        from_preview.changed.connect(self._offer_preview)
        self._offer_preview()

    def _offer_preview(self) -> None:
        offered = self.from_preview
        waits = bool(self.waits.text()) and not self._trainer.running
        self.use_preview.setVisible(waits and offered is not None and offered.possible)
        self.use_preview.setEnabled(offered is not None and not offered.running)
        shown = offered is not None and offered.is_shown
        self.use_preview.setText("Use the preview as the result" if shown else "Outline the boxed objects")

    def _on_recorded(self, record: Round) -> None:
        """Tell the agreement of the whole round, not the one that chose among the steps of its training."""
        self._agreement = record.scores.get("box_agreement")
        self.refresh()

    def set_theme(self, background: str, text: str) -> None:
        """Colours of the plot."""
        self._theme = (background, text)
        if self.plot is not None:
            self.plot.set_colors(*self._theme)
        if self.rounds is not None:
            self.rounds.set_theme(*self._theme)

    @property
    def _preset_name(self) -> str:
        return str(self.preset.currentData())

    def refresh(self) -> None:
        """Say what can be done and how long it takes."""
        running = self._trainer.running
        reason = self._reason()
        self.waits.setVisible(bool(reason) and not running)
        self.waits.setText(reason)
        self._offer_preview()
        lessons = self._session.lessons.describe(self._session.drawn)
        lines = [f"Learns from {lessons}."] if lessons else []
        away = self._session.lessons.elsewhere
        boxed = len(self._session.all_boxes().boxed_planes) + len(away.drawn.boxed_planes if away else ())
        if not reason and boxed < CHECKED_PLANES:
            lines.append("With boxes on one more plane, the model can also be checked.")
        if not reason and boxed > (most := self.form.value().max_encodings):
            lines.append(f"At most {most} of {boxed} planes are learnt from: see 'Most views encoded'.")
        say(self.lessons, " ".join(lines))
        self.train.setEnabled(not reason and not running)
        self.train.setVisible(not running)
        self.stop.setVisible(running)
        self._show_stopping()
        self.go_on.setVisible(self._session.trained is not None)
        self._save.setEnabled(self._session.trained is not None)
        self._copy.setEnabled(self._trainer.last is not None)
        make_primary(self.train, not reason and next_step(self._session, trains=True) == "Train")
        self.train.setText("Train" if self._session.trained is None else "Train again")
        self._show_times()

    def _show_stopping(self) -> None:
        """Answer at once who has asked for an end: to reach it takes seconds."""
        self.stop.setEnabled(not self._trainer.stopping)
        if self._trainer.stopping:
            self.bar.setFormat("Stopping …")

    def _reason(self) -> str:
        """What a training waits for, empty where it can start."""
        try:
            self._session.training_set()
            self.form.value()
        except BoxPromptError as error:
            return str(error)
        return ""

    def _show_times(self) -> None:
        """Beside each preset, how long it takes here."""
        try:
            config = self.config
        except BoxPromptError:
            return
        for row in range(self.preset.count()):
            name = str(self.preset.itemData(row))
            shown = (
                config
                if name == config.preset
                else make_config(name, model=config.model, device=config.device)
            )
            seconds = self._trainer.estimate(shown)
            self.preset.setItemText(row, name if seconds is None else f"{name} · about {duration(seconds)}")

    def _choose_preset(self, _: int = 0) -> None:
        try:
            now = self.config
            self.form.setValue(
                make_config(self._preset_name, model=now.model, generator=now.generator, device=now.device)
            )
        except BoxPromptError:
            self.form.setValue(make_config(self._preset_name))

    def _on_settings(self) -> None:
        self.refresh()
        self.settings_changed.emit()

    def _on_started(self, config: TrainConfig) -> None:
        from napari_boxprompt.gui.plot import TrainingPlot

        if self.plot is None:
            self.plot = TrainingPlot()
            self.plot.set_colors(*self._theme)
            self._layout.addWidget(self.plot)
        self.plot.clear(config.steps)
        self._agreement = None
        self._phase = self._device = self._progress = ""
        self.bar.setVisible(True)
        self.bar.setRange(0, 0)
        say(self.said, "")
        self.refresh()

    def _on_event(self, event: object) -> None:
        if isinstance(event, Progress):
            self._show_progress(event)
        elif isinstance(event, Metrics) and self.plot is not None:
            self.plot.add(event)
            self._agreement = event.validation.get("box_agreement", self._agreement)

    def _show_progress(self, event: Progress) -> None:
        if event.phase != self._phase:
            self._phase, self._phase_started = event.phase, time.monotonic()
        self.bar.setRange(0, event.total if event.done else 0)
        self.bar.setValue(event.done)
        if event.phase == "prepare" and event.done:
            self._device = event.message
        now = " · ".join(filter(None, (PHASES.get(event.phase, event.phase), self._left(event))))
        self.bar.setFormat(" · ".join(filter(None, (now, self._device))))
        if now != self._progress:  # a folded step tells it too
            self._progress = now
            self.summary_changed.emit()
        self._show_stopping()

    def _left(self, event: Progress) -> str:
        """Say how long it will take until the training has ended, not only this part of it."""
        left = time_left(event, time.monotonic() - self._phase_started) if event.done > 1 else None
        if left is None:
            return ""
        if event.phase != "encode":
            return f"{duration(left)} left"
        steps = self._trainer.stepping
        return f"{duration(left)}, then training" if steps is None else f"{duration(left + steps)} left"

    def _on_ended(self, result: Trained | None) -> None:
        self.bar.setVisible(False)
        if result is not None:
            seconds = duration(sum(result.seconds.values()))
            kept = (
                "stopped early, the best of this training is kept"
                if result.stopped
                else f"done in {seconds} on {self._device}"
            )
            say(self.said, f"{kept.capitalize()}.")
        else:
            say(self.said, "Nothing was learnt; your boxes are as they were.")
        self.refresh()
