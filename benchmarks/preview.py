"""How long after a box is drawn its mask is on screen, once the plane has been looked at.

Opens a real viewer on one plane of the nuclei, adds one box after the other as a mouse release does, and
waits in Qt's event loop, as napari does, for the preview layer to change.
Without a display: ``xvfb-run -a python benchmarks/preview.py``.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import napari
import numpy as np
from napari.layers.base import ActionType
from qtpy.QtCore import QEventLoop, QTimer

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.demo import load_nuclei
from napari_boxprompt.gui.layers import box_corners, layers_with_role
from napari_boxprompt.gui.widget import BoxPromptWidget

if TYPE_CHECKING:
    from napari.utils.events import Event


def until(*signals: object, milliseconds: int = 120_000) -> None:
    """Run the event loop until one of these is emitted."""
    loop = QEventLoop()
    for signal in signals:
        signal.connect(lambda *_: loop.quit())  # type: ignore[attr-defined]
    late = QTimer()
    late.timeout.connect(lambda: loop.exit(1))
    late.start(milliseconds)
    if loop.exec():
        raise SystemExit("Nothing happened for two minutes.")


def rest(widget: BoxPromptWidget) -> None:
    """Run the event loop until there is no more background work."""
    timer = QTimer()
    timer.start(50)
    until(timer.timeout)
    while widget.jobs.names or widget._later.isActive():
        until(timer.timeout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plane", type=int, default=31)
    arguments = parser.parse_args()
    nuclei = load_nuclei()
    viewer = napari.Viewer()
    widget = BoxPromptWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.add_image(nuclei.image, name="nuclei")
    viewer.dims.set_current_step(0, arguments.plane)
    widget.actions.new_boxes_layer()
    boxes = widget.session.boxes
    assert boxes is not None
    drawn = nuclei.boxes(PlaneId("nuclei", (arguments.plane,))).boxes
    # The first boxes decide on contrast and working scale, for which the plane is looked at anew.
    boxes.add_boxes(nuclei.boxes(PlaneId("nuclei", (arguments.plane,))).with_boxes(drawn[:5]))
    rest(widget)
    times: list[float] = []
    started = 0.0

    def release(event: Event) -> None:
        # By now napari has the shape; at a release of the mouse too, for the press has made it.
        nonlocal started
        if event.action == ActionType.ADDED:
            started = time.perf_counter()

    boxes.shapes.events.data.connect(release, position="first")
    for box in drawn[5:]:
        (layer,) = layers_with_role(viewer, "preview")
        boxes.shapes.add(box_corners(box, boxes.view, boxes.shapes), shape_type="rectangle")
        until(layer.events.set_data)
        times.append(1000 * (time.perf_counter() - started))
        rest(widget)
    median, most = np.percentile(times, (50, 95))
    print(
        f"{len(times)} boxes: median {median:.0f} ms, 95 % within {most:.0f} ms, longest {max(times):.0f} ms"
    )
    viewer.close()


if __name__ == "__main__":
    main()
