"""Step 4: segment planes, images and folders."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QMenu,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_boxprompt.gui.section import make_primary, say, wrapping_label
from napari_boxprompt.gui.steps import next_step
from napari_boxprompt.gui.telling import counted, duration, told
from napari_boxprompt.gui.trainer import time_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_boxprompt.events import Progress
    from napari_boxprompt.gui.predicting import Predicting
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.unopened import Unopened

__all__ = ["PredictPanel"]

PROJECT_IMAGES = "Images of the project that are not open"


class PredictPanel(QWidget):
    """Starts and stops predictions.

    Parameters
    ----------
    session : Session
        State of the widget.
    predicting : Predicting
        Runs them.
    estimate : callable, optional
        Gives the seconds that all planes take, or None where that is not known.
    unopened : Unopened, optional
        Images of a project that are not open; not offered by default.
    """

    folder_wanted = Signal()
    load_wanted = Signal()
    summary_changed = Signal()

    def __init__(
        self,
        session: Session,
        predicting: Predicting,
        estimate: Callable[[], float | None] = lambda: None,
        unopened: Unopened | None = None,
    ) -> None:
        super().__init__()
        self._unopened = unopened
        self._session, self._predicting, self._estimate = session, predicting, estimate
        self._started = 0.0
        self._before = 0
        self._last: Progress | None = None
        self._progress = ""
        self._seconds: float | None = None
        self.waits = wrapping_label("Train a model first, or load one.", name="boxprompt-quiet")
        self.load = QPushButton("Load model …")
        self.here = QPushButton("This plane")
        self.all = QPushButton("All planes")
        self.more = QPushButton("More")
        menu = QMenu(self.more)
        self._range_action = menu.addAction("Some planes …", self.ask_range)
        menu.addAction("Other open images", told(predicting.others))
        self._project_action = menu.addAction(PROJECT_IMAGES, self.predict_unopened)
        menu.aboutToShow.connect(self._count_unopened)
        menu.addAction("A folder …", self.folder_wanted.emit)
        menu.addSeparator()
        self.compare = menu.addAction("Compare two views of each plane")
        self.compare.setCheckable(True)
        self.compare.setToolTip(
            "Takes up to twice as long. Review then knows the planes on which they disagree, and can begin "
            "with them."
        )
        menu.setToolTipsVisible(True)
        self.more.setMenu(menu)
        self.more.setObjectName("boxprompt-menu")
        self.about = wrapping_label(name="boxprompt-quiet")
        self.first, self.last = QSpinBox(), QSpinBox()
        self.some = QPushButton("Predict these")
        self._range = QWidget()
        self.bar = QProgressBar()
        self.stop = QPushButton("Stop, keep what is done")
        self.said = wrapping_label(name="boxprompt-quiet")
        self._timer = QTimer(self)
        self._timer.setInterval(250)
        self._timer.timeout.connect(self._show_tiles)
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        row, some = QHBoxLayout(), QHBoxLayout(self._range)
        row.addWidget(self.here)
        row.addWidget(self.all, 1)
        row.addWidget(self.more)
        some.setContentsMargins(0, 0, 0, 0)
        for widget in (self.first, self.last, self.some):
            some.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 0, 4, 4)
        layout.addWidget(self.waits)
        layout.addWidget(self.load)
        layout.addLayout(row)
        for widget in (self.about, self._range, self.bar, self.stop, self.said):
            layout.addWidget(widget)
        for widget in (self._range, self.bar, self.stop, self.said):
            widget.setVisible(False)
        self.last.setPrefix("to ")

    def _connect(self) -> None:
        session, predicting = self._session, self._predicting
        for signal in (session.plane_changed, session.result_changed):
            signal.connect(self.refresh)
        for signal in (session.model_changed, session.image_changed):
            signal.connect(self.estimate)
        session.model_changed.connect(self._forget)
        session.image_changed.connect(lambda *_: self._range.setVisible(False))  # it was of the other image
        predicting.started.connect(self._on_started)
        predicting.progressed.connect(self._on_progress)
        predicting.ended.connect(self._on_ended)
        predicting.stop_asked.connect(self._show_stopping)
        self.load.clicked.connect(self.load_wanted)
        self.here.clicked.connect(lambda: told(predicting.plane)())
        self.all.clicked.connect(lambda: told(predicting.planes)())
        self.some.clicked.connect(self._predict_range)
        self.stop.clicked.connect(predicting.stop)
        self.compare.toggled.connect(self._compare)

    def ask_range(self) -> None:
        """Ask for planes of the last axis: from here on, or the whole stack of a time point."""
        session = self._session
        view, plane = session.view, session.plane
        if view is None or not view.extent:
            return
        here = plane.index if plane is not None else (0,) * len(view.extent)
        length, series = view.extent[-1], len(here) > 1
        self._before = int(np.ravel_multi_index((*here[:-1], 0), view.extent))
        for box, value in ((self.first, 0 if series else here[-1]), (self.last, length - 1)):
            box.setMaximum(length - 1)
            box.setValue(value)
        names = [view.axis_names()[axis] for axis in view.plane_axes]
        place = ", ".join(f"{name} {i}" for name, i in zip(names[:-1], here[:-1], strict=True))
        self.first.setPrefix(f"{names[-1]} from ")
        self.some.setText(f"Predict at {place}" if series else "Predict these")
        self._range.setVisible(True)

    @told
    def predict_unopened(self) -> None:
        """Segment the images of the project that are not open."""
        if self._unopened is not None:
            self._unopened.predict()

    def _count_unopened(self) -> None:
        """Offer the images of a project that are not open, where there are any."""
        planes = [] if self._unopened is None else self._unopened.planes()
        images = len({plane.image for plane in planes})
        self._project_action.setVisible(bool(planes))
        self._project_action.setText(f"{PROJECT_IMAGES} ({images})")

    def _predict_range(self) -> None:
        told(self._predicting.planes)(self._before + self.first.value(), self._before + self.last.value())

    def _compare(self, wanted: bool) -> None:
        self._predicting.compares_views = wanted  # from the next prediction on

    @property
    def summary(self) -> str:
        """One line."""
        if self._predicting.running:
            return f"predicting · {self._progress}" if self._progress else "predicting …"
        view = self._session.view
        result = None if view is None else self._session.results.latest.get(view.name)
        if result is not None and result.doubts:
            return f"{counted(result.count, 'object')} on {counted(len(result.counts), 'plane')}"
        return "" if self._session.trained is not None else "waits for a model"

    @property
    def summary_is_doubled(self) -> bool:
        """Whether the summary says no more than the bar."""
        return self._predicting.running

    def estimate(self, *_: object) -> None:
        """Find out how long all planes take; not for each plane that is turned to."""
        self._seconds = self._estimate()
        self.refresh()

    def refresh(self) -> None:
        """Say what can be done."""
        session, running = self._session, self._predicting.running
        self._show_stopping()
        ready = session.trained is not None and session.view is not None
        count = 0 if session.view is None else session.view.count
        self.waits.setVisible(session.trained is None)
        self.load.setVisible(session.trained is None)
        for button in (self.here, self.all, self.more):
            button.setVisible(session.trained is not None)
            button.setEnabled(ready and not running)
        self.here.setEnabled(ready and not running and session.plane is not None)
        self.here.setText("This plane" if count > 1 else "This image")
        self.all.setText(f"All {count} planes")
        self.all.setVisible(session.trained is not None and count > 1)
        self._range_action.setVisible(count > 1)
        wanted = ready and not running and next_step(session) == "Predict"
        make_primary(self.all if count > 1 else self.here, wanted)
        # Not in the button: it would make the dock wider than it is.
        known = wanted and count > 1 and self._seconds is not None
        say(self.about, f"All planes take about {duration(self._seconds or 0)}." if known else "")

    def _forget(self) -> None:
        """What was predicted last says nothing of another model."""
        if not self._predicting.running:
            say(self.said, "")

    def _on_started(self) -> None:
        self._started, self._last, self._progress = time.monotonic(), None, ""
        self.bar.setRange(0, 0)
        self.bar.setFormat("Predicting")
        say(self.said, f"Reading the first plane … {_hidden(self._predicting.hidden)}".strip())
        for widget in (self.bar, self.stop):
            widget.setVisible(True)
        self._timer.start()
        self.refresh()

    def _on_progress(self, event: Progress) -> None:
        self._last = event
        if event.done:
            say(self.said, _hidden(self._predicting.hidden))
        self.bar.setRange(0, event.total if event.done else 0)
        self.bar.setValue(event.done)
        left = time_left(event, time.monotonic() - self._started)
        rest = "" if left is None else f" · {duration(left)} left"
        self._show_text(f"{event.done} of {event.total}{rest}")
        self._show_stopping()

    def _show_tiles(self) -> None:
        """A plane of many tiles takes minutes: count them."""
        done, total = self._predicting.tiles
        if total > 1 and (self._last is None or self._last.total == 1):
            self.bar.setRange(0, total)
            self.bar.setValue(done)
            self._show_text(f"part {done} of {total}")
        self._show_stopping()

    def _show_text(self, text: str) -> None:
        """Tell how far it is, in the bar and where the step is folded."""
        self.bar.setFormat(text)
        if text != self._progress:
            self._progress = text
            self.summary_changed.emit()

    def _show_stopping(self) -> None:
        """Answer at once who has asked for an end: a plane of many tiles takes its time."""
        self.stop.setEnabled(not self._predicting.stopping)
        if self._predicting.stopping:
            self.bar.setFormat("Stopping …")

    def _on_ended(self, done: int) -> None:
        self._timer.stop()
        for widget in (self.bar, self.stop, self._range):
            widget.setVisible(False)
        seconds = duration(time.monotonic() - self._started)
        each = "" if done < 2 else " Objects are counted on each plane."
        hidden = _hidden(self._predicting.hidden)
        say(self.said, f"{counted(done, 'plane')} in {seconds}.{each} {hidden}".strip())
        self.refresh()


def _hidden(names: tuple[str, ...]) -> str:
    """Say where older results are, as they seem to be gone."""
    if not names:
        return ""
    listed, are = ", ".join(f"'{name}'" for name in names), "is" if len(names) == 1 else "are"
    return f"{listed} {are} kept, but hidden: the eye in the layer list shows older results again."
