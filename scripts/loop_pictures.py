"""The pictures of docs/loop.md, which screenshots.py takes: one way round the loop, in a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from napari.layers import Labels
    from screenshots import Studio

CHECKS = 3
"""Points on the curve of the held-out boxes before the picture of a training is taken."""

DRAWN = 8
"""Boxes on the first picture."""

SHARP = (26, 28, 30, 33, 34, 36)
"""Planes in the middle of the stack, without boxes: one is corrected, the others are accepted as they are."""

LEAST_PIXELS = 200
"""Size of a nucleus that is worth a correction."""


def loop(studio: Studio, folder: Path, steps: int | None) -> None:
    """Draw, train, predict, look, correct, accept, train again, export."""
    widget = studio.widget
    widget.image_panel.sample.click()
    studio.viewer.fit_to_view()
    widget.projects.new(folder / "nuclei")
    studio.settle()
    draw(studio)
    train(studio, steps, "loop-3-train")
    widget.predict_panel.all.click()
    studio.wait(lambda: not widget.predicting.running)
    studio.settle()
    widget.actions.next_plane()
    studio.settle()
    studio.photograph("loop-4-next")
    widget.actions.reject_plane()
    correct_and_accept(studio)
    studio.section("Predict", False)
    train_again(studio, "loop-7-rounds")
    export(studio)


def train(studio: Studio, steps: int | None, name: str) -> None:
    """Train with the preset fast; a picture of this name when the curves have some points."""
    from napari_boxprompt.config import make_config

    widget = studio.widget
    panel = widget.train_panel
    panel.preset.setCurrentIndex(panel.preset.findData("fast"))
    panel.preset.activated.emit(panel.preset.currentIndex())
    if steps is not None:
        # With checks as close as in a whole training, or it would be over when there is a curve.
        panel.form.setValue(make_config("fast", steps=steps, validate_every=max(1, steps // 6)))
    studio.settle()
    panel.train.click()

    def has_points() -> bool:
        drawn = 0 if panel.plot is None else len(panel.plot.points("agreement", "box_agreement")[0])
        return drawn >= CHECKS or not widget.trainer.running

    studio.wait(has_points)
    studio.photograph(name)
    studio.wait(lambda: not widget.trainer.running)
    studio.settle()


def train_again(studio: Studio, name: str) -> None:
    """Train with what was accepted too; a picture of this name when both rounds are compared."""
    studio.section("Review", False)
    studio.section("Train")
    studio.settle()
    studio.widget.train_panel.train.click()
    studio.wait(lambda: not studio.widget.trainer.running)
    studio.settle()
    studio.section("Predict", False)
    studio.photograph(name)


def draw(studio: Studio) -> None:
    """One of the boxed planes of the sample is boxed anew, and marked complete."""
    widget = studio.widget
    boxes, plane = widget.session.boxes, widget.session.plane
    found = boxes.reading
    mine = [row for row, box in zip(found.rows, found.boxes, strict=True) if box.plane == plane]
    corners = [boxes.shapes.data[row] for row in mine]
    boxes.delete(mine)
    boxes.toggle_complete(plane)
    widget.actions.new_boxes_layer()
    corners.sort(key=lambda box: box[:, 1].mean())
    boxes.shapes.add(corners[:DRAWN], shape_type="rectangle")
    studio.settle()
    studio.photograph("loop-1-box")
    boxes.shapes.add(corners[DRAWN:], shape_type="rectangle")
    widget.actions.toggle_complete()
    studio.settle()
    studio.photograph("loop-2-complete")
    boxes.shapes.mode = "pan_zoom"


def correct_and_accept(studio: Studio) -> None:
    """Go through some planes, paint the nucleus right that was found worst, and accept them."""
    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.demo import load_nuclei

    widget = studio.widget
    layer, order = widget.session.result.layer, widget.review_panel.order
    truth = load_nuclei().labels
    order.setCurrentIndex(order.findData("index"))
    order.activated.emit(order.currentIndex())
    worst = min(SHARP, key=lambda z: poorest(layer.data[z], truth[z])[0])
    for z in sorted(SHARP, key=lambda z: z != worst):
        widget.review.go(PlaneId("nuclei", (z,)))
        studio.settle()
        if z == worst:
            widget.actions.edit_plane()
            layer.brush_size = 6
            repaint(layer, z, truth[z], poorest(layer.data[z], truth[z])[1])
            studio.settle()
            studio.photograph("loop-5-correct")
            layer.mode = "pan_zoom"
        widget.actions.accept_plane()
    widget.review.go(PlaneId("nuclei", (max(SHARP),)))
    studio.settle()
    studio.photograph("loop-6-accept")


def repaint(layer: Labels, z: int, truth: npt.NDArray[np.integer], here: npt.NDArray[np.bool_]) -> None:
    """Paint a nucleus with the selected label; what was found of it and of no other goes first."""
    met = np.bincount(layer.data[z][here])[1:]
    if met.any():
        found = layer.data[z] == met.argmax() + 1
        if not (truth[found & ~here] > 0).any():
            layer.data_setitem((np.full(found.sum(), z), *np.nonzero(found)), 0)
    layer.data_setitem((np.full(here.sum(), z), *np.nonzero(here)), layer.selected_label)


def poorest(
    found: npt.NDArray[np.integer], truth: npt.NDArray[np.integer]
) -> tuple[float, npt.NDArray[np.bool_]]:
    """Overlap and pixels of the nucleus that was found worst."""
    from skimage.morphology import convex_hull_image

    worst, where = 2.0, truth > 0
    for number in np.unique(truth)[1:]:
        mine = truth == number
        if mine.sum() < LEAST_PIXELS:
            continue
        here = convex_hull_image(mine) & (mine | (truth == 0))  # the reference has holes
        values = np.bincount(found[here])
        values[0] = 0
        met = (found == values.argmax()) & (found > 0)
        overlap = (met & here).sum() / (met | here).sum()
        if overlap < worst:
            worst, where = float(overlap), here
    return worst, where


def export(studio: Studio) -> None:
    """Open the menu of the project and, in it, what can be exported."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    bar = studio.widget.project.bar
    bar.menu.popup(bar.more.mapToGlobal(QPoint(-180, bar.more.height())))
    (entry,) = (action for action in bar.menu.actions() if action.text() == "Export")
    bar.menu.setActiveAction(entry)
    QTest.keyClick(bar.menu, Qt.Key.Key_Right)
    studio.photograph("loop-8-export", menus=True)
    bar.menu.hide()
