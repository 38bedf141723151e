"""How long after a box is drawn its mask is on screen, once the plane has been looked at.

Opens a real viewer on one plane of the nuclei, adds one box after the other as a mouse release does, and
waits for the preview layer to change. Without a display: ``xvfb-run -a python benchmarks/preview.py``.
"""

from __future__ import annotations

import argparse
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.demo import load_nuclei
from napari_boxprompt.gui.layers import box_corners, layers_with_role
from napari_boxprompt.gui.widget import BoxPromptWidget


def wait(condition: object, seconds: float = 120.0) -> None:
    """Let the event loop run until something is true."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise SystemExit("Nothing happened for two minutes.")
        QApplication.processEvents()
        time.sleep(0.001)


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
    drawn = nuclei.boxes(PlaneId("nuclei", (arguments.plane,))).boxes
    # The first boxes decide on contrast and working scale, for which the plane is looked at anew.
    boxes.add_boxes(nuclei.boxes(PlaneId("nuclei", (arguments.plane,))).with_boxes(drawn[:5]))
    wait(lambda: not widget.jobs.names and not widget._later.isActive())
    times = []
    for box in drawn[5:]:
        (layer,) = layers_with_role(viewer, "preview")
        before, started = int((layer.data > 0).sum()), time.perf_counter()
        boxes.shapes.add(box_corners(box, boxes.view, boxes.shapes), shape_type="rectangle")
        wait(lambda layer=layer, before=before: int((layer.data > 0).sum()) != before)
        times.append(1000 * (time.perf_counter() - started))
        wait(lambda: not widget.jobs.names and not widget._later.isActive())
    median, most = np.percentile(times, (50, 95))
    print(
        f"{len(times)} boxes: median {median:.0f} ms, 95 % within {most:.0f} ms, longest {max(times):.0f} ms"
    )
    viewer.close()


if __name__ == "__main__":
    main()
