"""Take the pictures of the documentation from a real run in a real viewer.

    xvfb-run -a -s "-screen 0 1366x768x24" python scripts/screenshots.py [--out FOLDER] [--steps N]

Needs `pip install "napari-boxprompt[all,demo]"`. The nuclei sample is opened, the embedded model is trained
on its boxes with the preset `fast` and finds the nuclei of all planes; on the way the window is
photographed. Then a second viewer goes once round the loop, in a project (loop_pictures.py). On two
processor cores that takes some minutes; a second run is faster, because it finds what the first one kept.
`--steps` makes the training shorter and `--only NAME` takes only pictures whose name begins so, for a try.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from loop_pictures import loop, train, train_again
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

ROOT = Path(__file__).parents[1]
SIZE = (1366, 768)
"""Of the window: the screen of a small laptop."""

MOST_BYTES = 150_000
COLORS = (256, 192, 144, 112, 88, 72, 56)
"""Sizes of palettes that are tried, the largest first, until a picture is small enough."""

FLAT_COLORS = 24
"""The most frequent colours, which panels, buttons and text have, go into the palette as they are."""

UNTOUCHED = 34
"""A plane without boxes, full of nuclei, on which the result is shown."""

RIGHT = (28, 36)
"""Such planes that are accepted."""

LIMIT = 3600.0
"""Seconds after which something must have gone wrong."""

log = logging.getLogger("screenshots")


class Studio:
    """A viewer with the dock widget in it, and a camera.

    Parameters
    ----------
    out : Path
        Folder of the pictures.
    only : str, optional
        Take only pictures whose name begins with this.
    """

    def __init__(self, out: Path, only: str = "") -> None:
        import napari

        from napari_boxprompt import estimates
        from napari_boxprompt.gui.commands import open_widget

        # The times beside the presets are those of a machine that does nothing else.
        estimates.time = SimpleNamespace(perf_counter=time.thread_time)

        self._out, self._only = out, only
        self.viewer = napari.Viewer(show=False)
        self.viewer.theme = "dark"
        self.viewer.show()
        # After it is shown, because napari then gives the window the size that it remembers.
        self.viewer.window.set_geometry(0, 0, *SIZE)
        self.widget = open_widget(self.viewer)
        self.settle()

    def wait(self, until: Callable[[], bool]) -> None:
        """Let the viewer work until something is so."""
        from qtpy.QtWidgets import QApplication

        started = time.monotonic()
        while not until():
            if time.monotonic() - started > LIMIT:
                raise TimeoutError("the viewer did not get there; is the machine very busy?")
            QApplication.processEvents()
            time.sleep(0.005)

    def pause(self, seconds: float) -> None:
        """Let the viewer work for a while."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def settle(self) -> None:
        """Let the viewer work until no job has run, and nothing had to be saved, for half a second."""
        quiet_since = time.monotonic()

        def quiet() -> bool:
            nonlocal quiet_since
            if self.widget.jobs.names or self.widget.projects.state not in ("", "saved"):
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > 0.5

        self.wait(quiet)

    def section(self, name: str, is_open: bool = True) -> None:
        """Open or close one of the steps, as a click on its heading does."""
        self.widget.sections[name].open(is_open)

    def photograph(self, name: str, *, menus: bool = False) -> None:
        """Write a picture of the whole window, or of the screen with the menus that are open."""
        if not name.startswith(self._only):
            return
        self.pause(0.3)
        pixels = self._screen() if menus else self.viewer.screenshot(canvas_only=False, flash=False)
        path = self._out / f"{name}.png"
        path.write_bytes(small_png(pixels))
        log.info("%s: %d kB", path, path.stat().st_size // 1000)

    def _screen(self) -> npt.NDArray[np.uint8]:
        from qtpy.QtCore import QBuffer
        from qtpy.QtGui import QGuiApplication

        buffer = QBuffer()
        buffer.open(QBuffer.OpenModeFlag.ReadWrite)
        QGuiApplication.primaryScreen().grabWindow(0).save(buffer, "PNG")
        return np.asarray(Image.open(BytesIO(buffer.data().data())).convert("RGB"))


def small_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG with as many colours as its size allows; those of panels and text are exact."""
    pixels = np.ascontiguousarray(pixels[..., :3])
    picture = Image.fromarray(pixels)
    found, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    frequent = found[np.argsort(-counts)]
    written = b""
    for colors in COLORS:
        # This method keeps colours that few pixels have, such as those of curves.
        rest = picture.quantize(colors - FLAT_COLORS, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
        palette = Image.new("P", (1, 1))
        palette.putpalette([*frequent[:FLAT_COLORS].ravel().tolist(), *rest[: 3 * (colors - FLAT_COLORS)]])
        buffer = BytesIO()
        few = picture.quantize(palette=palette, dither=Image.Dither.NONE)
        few.save(buffer, format="PNG", optimize=True)
        written = buffer.getvalue()
        if len(written) < MOST_BYTES:
            break
    return written


def first_steps(studio: Studio) -> None:
    """The empty viewer; the sample with its boxes; a box that is drawn askew."""
    widget, viewer = studio.widget, studio.viewer
    studio.photograph("viewer-empty")
    widget.image_panel.sample.click()
    viewer.fit_to_view()
    studio.settle()
    studio.photograph("viewer-boxes")
    boxes = viewer.layers["nuclei boxes"]
    plane, middle = viewer.dims.current_step[0], np.array(viewer.layers["nuclei"].data.shape[1:]) / 2
    here = [row for row, corners in enumerate(boxes.data) if round(corners[0, 0]) == plane]
    turned = min(here, key=lambda row: np.hypot(*(boxes.data[row][:, 1:].mean(axis=0) - middle)))
    corners = list(boxes.data)
    corners[turned] = rotated(corners[turned], 25.0)
    boxes.data = corners
    studio.settle()
    widget.boxes_panel.problems.linkActivated.emit("0")  # "Show"
    studio.settle()
    studio.photograph("viewer-problem")
    widget.boxes_panel.undo.click()
    boxes.mode = "pan_zoom"
    studio.settle()


def rotated(corners: npt.NDArray[Any], degrees: float) -> npt.NDArray[Any]:
    """Corners of a box on its plane after a turn about its middle."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = corners[:, 1:].mean(axis=0)
    result = corners.copy()
    result[:, 1:] = (corners[:, 1:] - middle) @ turn.T + middle
    return result


def review(studio: Studio) -> None:
    """Segment all planes and accept some; the same in the light theme."""
    from napari_boxprompt.boxes import PlaneId

    widget, viewer = studio.widget, studio.viewer
    widget.predict_panel.all.click()
    studio.wait(lambda: not widget.predicting.running)
    studio.section("Train", False)
    widget.actions.next_plane()
    studio.settle()
    for z in (*RIGHT, UNTOUCHED):
        widget.review.go(PlaneId("nuclei", (z,)))
        studio.settle()
        if z in RIGHT:
            widget.actions.accept_plane()
    studio.settle()
    studio.photograph("viewer-result")
    viewer.theme = "light"
    studio.settle()
    studio.photograph("viewer-light")


def project(studio: Studio, folder: Path) -> None:
    """Keep all of it in a project, close that, and open it again."""
    from napari_boxprompt.boxes import PlaneId

    widget, viewer = studio.widget, studio.viewer
    viewer.theme = "dark"
    widget.review.go(PlaneId("nuclei", (UNTOUCHED,)))
    widget.actions.accept_plane()
    widget.projects.new(folder)
    studio.settle()
    studio.pause(2.0)  # until it is saved
    studio.settle()
    widget.actions.close_project()
    studio.settle()
    widget.projects.open(folder)
    studio.settle()
    studio.pause(2.0)
    studio.section("Train", False)
    studio.section("Review")
    widget.review.go(PlaneId("nuclei", (UNTOUCHED,)))
    viewer.fit_to_view()
    studio.settle()
    studio.photograph("viewer-project")


def tour(studio: Studio, folder: Path, steps: int | None) -> None:
    """Everything that docs/widget.md shows."""
    first_steps(studio)
    train(studio, steps, "viewer-training")
    review(studio)
    studio.viewer.theme = "dark"
    train_again(studio, "viewer-rounds")
    project(studio, folder / "nuclei project")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--steps", type=int, help="training steps, instead of those of the preset fast")
    parser.add_argument("--only", default="", help="take only pictures whose name begins with this")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # napari as a new user has it: nobody's settings, and no greeting over the picture.
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        for name, journey in {"viewer": tour, "loop": loop}.items():
            if name.startswith(arguments.only[: len(name)]):
                studio = Studio(arguments.out, arguments.only)
                journey(studio, Path(folder), arguments.steps)
                studio.viewer.close()


if __name__ == "__main__":
    main()
