"""How long after a box is drawn its mask is on screen, once the plane has been looked at.

Opens a real viewer on one plane of the nuclei and draws one box after the other with the mouse. Two times
count from the release of its button, in Qt's event loop as napari runs it: until the masks are in their
layer, and until the canvas has painted them.
Without a display: ``xvfb-run -a python benchmarks/preview.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import napari
import numpy as np
from qtpy.QtCore import QEvent, QEventLoop, QObject, QTimer

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.demo import load_nuclei
from napari_boxprompt.gui.layers import layers_with_role
from napari_boxprompt.gui.widget import BoxPromptWidget

sys.path.append(str(Path(__file__).parents[1]))
from tests.helpers.hand import Hand

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

FIRST = 5
"""Boxes that are there when the first one is drawn."""


class Watch(QObject):
    """Notes when the canvas gets a release of the mouse, and when it is painted."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, float] = {}
        """Of the last release."""
        self.loop = QEventLoop()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Leave every event to the canvas."""
        if event.type() == QEvent.Type.MouseButtonRelease:
            self.times = {"release": time.perf_counter()}
        elif event.type() == QEvent.Type.Paint and "masks" in self.times:
            # At the end of the next turn of the event loop it has been painted.
            QTimer.singleShot(0, partial(self.note, "painted", self.times))
        return False

    def note(self, name: str, times: dict[str, float]) -> None:
        """Something is there after a release; the last of it ends the wait."""
        times.setdefault(name, time.perf_counter())
        if "painted" in self.times:
            self.loop.quit()

    def since_release(self) -> tuple[float, float]:
        """Wait until the masks are painted; return milliseconds until the layer had them, and until then."""
        if "painted" not in self.times:
            late = QTimer()
            late.timeout.connect(lambda: self.loop.exit(1))
            late.start(120_000)
            if self.loop.exec():
                raise SystemExit("Nothing happened for two minutes.")
        masks, painted = (1000 * (self.times[name] - self.times["release"]) for name in ("masks", "painted"))
        return masks, painted


class Patience:
    """What a `Hand` waits with, outside the tests."""

    def waitUntil(self, done: Callable[[], bool], timeout: int) -> None:  # noqa: N802
        """Run the event loop until something is done."""
        ends = time.monotonic() + timeout / 1000
        while not done():
            if time.monotonic() > ends:
                raise SystemExit("The mouse did not get there.")
            loop = QEventLoop()
            QTimer.singleShot(10, loop.quit)
            loop.exec()


def rest(widget: BoxPromptWidget) -> None:
    """Run the event loop until there is no more background work."""
    loop, timer = QEventLoop(), QTimer()

    def ask() -> None:
        if not widget.jobs.names and not widget._later.isActive():
            loop.quit()

    timer.timeout.connect(ask)
    timer.start(100)
    loop.exec()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plane", type=int, default=31)
    arguments = parser.parse_args()
    nuclei = load_nuclei()
    plane = PlaneId("nuclei", (arguments.plane,))
    viewer = napari.Viewer()
    widget = BoxPromptWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.add_image(nuclei.image, name="nuclei")
    viewer.dims.set_current_step(0, arguments.plane)
    widget.actions.new_boxes_layer()
    boxes = widget.session.boxes
    assert boxes is not None
    known = nuclei.boxes(plane)
    # The first boxes decide on contrast and working scale, for which the plane is looked at anew.
    boxes.add_boxes(known.with_boxes(known.boxes[:FIRST]))
    rest(widget)
    viewer.fit_to_view()
    rest(widget)
    hand = Hand(viewer, cast("QtBot", Patience()))
    watch = Watch()
    hand.canvas.installEventFilter(watch)
    (layer,) = layers_with_role(viewer, "preview")
    layer.events.set_data.connect(lambda _: watch.note("masks", watch.times))
    boxes.shapes.mode = "add_rectangle"
    times = []
    for box in known.boxes[FIRST:]:
        corners = np.clip([(box.y0, box.x0), (box.y1, box.x1)], 1, min(nuclei.image.shape[1:]) - 2)
        hand.draw(*(cast("tuple[float, float]", tuple(corner)) for corner in corners))
        times.append(watch.since_release())
        rest(widget)
    for name, values in zip(("in the layer", "painted"), np.transpose(times), strict=True):
        median, most = np.percentile(values, (50, 95))
        print(
            f"{len(values)} boxes, {name}: median {median:.0f} ms, 95 % within {most:.0f} ms, "
            f"longest {max(values):.0f} ms"
        )
    viewer.close()


if __name__ == "__main__":
    main()
