"""How bright the pixels of the image are: bars above the slider of the contrast."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QWidget

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.style import ACCENT
from napari_boxprompt.normalization import sample_values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy.typing as npt
    from qtpy.QtGui import QPaintEvent

    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.planes import PlaneView
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.images import Images

__all__ = ["Bars", "Brightness"]

JOB = "brightness of the image"
BARS, HEIGHT = 64, 28
MARGIN = 7
"""Half a handle of the slider below, in pixels: its ends lie that far inside."""


class Bars(QWidget):
    """A histogram of pixel values; those that the model can tell apart are in colour.

    Heights are square roots of the counts: beside the many pixels of the background, few of objects are seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT)
        self.setToolTip("How many pixels there are of each brightness, on a few planes over all the image.")
        self._values: npt.NDArray[np.float32] = np.empty(0, np.float32)
        self._ends = self._chosen = (0.0, 1.0)
        self.heights: npt.NDArray[np.float64] = np.zeros(BARS)

    def show_values(self, values: npt.NDArray[np.float32]) -> None:
        """Count these values."""
        self._values = values
        self._count()

    def show_range(self, ends: tuple[float, float], chosen: tuple[float, float]) -> None:
        """Span the range of the slider, and colour what lies between its handles."""
        counted = self._ends == ends
        self._ends, self._chosen = ends, chosen
        if not counted:
            self._count()
        self.update()

    def _count(self) -> None:
        low, high = self._ends
        counts = (
            np.histogram(self._values.clip(low, high), BARS, (low, high))[0] if high > low else np.zeros(BARS)
        )
        self.heights = np.sqrt(counts / max(1, counts.max()))
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:  # noqa: N802 (Qt's way of writing)
        """Draw the bars."""
        painter = QPainter(self)
        low, high = self._ends
        width = max(1.0, self.width() - 2 * MARGIN) / BARS
        quiet = self.palette().text().color()
        quiet.setAlphaF(0.35)
        for place, tall in enumerate(self.heights * self.height()):
            middle = low + (place + 0.5) * (high - low) / BARS
            inside = self._chosen[0] <= middle <= self._chosen[1]
            bar = QRectF(MARGIN + place * width, self.height() - tall, width, tall)
            painter.fillRect(bar, QColor(ACCENT) if inside else quiet)
        painter.end()


class Brightness:
    """Reads some pixels of the chosen image in the background, once its contrast is known.

    Parameters
    ----------
    session, jobs
        See the classes.
    show : callable
        Called with values of pixels; with none of them while there are none.
    """

    def __init__(self, session: Session, jobs: Jobs, show: Callable[[npt.NDArray[np.float32]], None]) -> None:
        self._session, self._jobs, self._show = session, jobs, show
        self._view: PlaneView | None = None
        self._pixels: Any = None
        session.contrast_changed.connect(self._look)
        session.image_changed.connect(self._forget)

    def _forget(self) -> None:
        """Hold no pixels of an image that is not worked on any more: it may be gone, and large."""
        if self._session.view != self._view:
            self._view = self._pixels = None

    def _look(self) -> None:
        session, view = self._session, self._session.view
        if view is None or session.contrast is None:
            return
        pixels = view.layer.data  # kept, not its id: another array may get that of one that is gone
        if view == self._view and pixels is self._pixels:
            return
        self._view, self._pixels = view, pixels
        self._show(np.empty(0, np.float32))
        work = partial(_read, images=view.images())
        self._jobs.start(JOB, work, on_result=self._show, replace=True)


def _read(stop: Stop, images: Images) -> Generator[None, None, npt.NDArray[np.float32]]:
    """Sample in a worker; an image that cannot be read has no bars: whoever needs its pixels says why."""
    yield
    try:
        return np.empty(0, np.float32) if stop.is_set() else sample_values(images)
    except BoxPromptError:
        return np.empty(0, np.float32)
