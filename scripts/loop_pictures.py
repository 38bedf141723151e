"""The pictures of docs/loop.md, which screenshots.py takes: one way round the loop, in a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from screenshots import Studio

CHECKS = 2
"""Points on the curve of the held-out boxes before the picture of a training is taken."""

DRAWN = 8
"""Boxes on the first picture."""

ACCEPTED = 3
"""Planes that are accepted before the second training, besides the one that is corrected."""

LEAST_PIXELS = 200
"""Size of a nucleus that is worth a correction."""

POOR = 0.6
"""Overlap (IoU) with the reference below which an outline is corrected."""

LOOKS = 8
"""Planes that are looked at, at most, until there is a nucleus to correct."""


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
    correct(studio)
    widget.actions.accept_plane()
    for _ in range(ACCEPTED):
        studio.settle()
        widget.actions.accept_plane()
    studio.settle()
    studio.photograph("loop-6-accept")
    studio.section("Review", False)
    studio.section("Predict", False)
    studio.section("Train")
    studio.settle()
    widget.train_panel.train.click()
    studio.wait(lambda: not widget.trainer.running)
    studio.settle()
    studio.section("Predict", False)
    studio.photograph("loop-7-rounds")
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


def correct(studio: Studio) -> None:
    """Go where a look is worth most, on to a plane with a poor outline, and paint that one right."""
    from napari_boxprompt.demo import load_nuclei

    widget = studio.widget
    truth = load_nuclei().labels
    layer = widget.session.result.layer
    for _ in range(LOOKS):
        widget.actions.next_plane()
        studio.settle()
        (z,) = widget.session.plane.index
        overlap, here = poorest(layer.data[z], truth[z])
        if overlap < POOR:
            break
    studio.photograph("loop-4-next")
    widget.actions.edit_plane()
    layer.brush_size = 6
    old = np.bincount(layer.data[z][here], minlength=1)[1:]
    if old.any():  # what was found of it goes, but not where it is a part of a larger object
        found = layer.data[z] == old.argmax() + 1
        if 2 * (found & here).sum() > found.sum():
            layer.data_setitem((np.full(found.sum(), z), *np.nonzero(found)), 0)
    layer.data_setitem((np.full(here.sum(), z), *np.nonzero(here)), layer.selected_label)
    studio.settle()
    studio.photograph("loop-5-correct")
    layer.mode = "pan_zoom"


def poorest(
    found: npt.NDArray[np.integer], truth: npt.NDArray[np.integer]
) -> tuple[float, npt.NDArray[np.bool_]]:
    """Overlap and pixels of the nucleus that was found worst."""
    worst, where = 2.0, truth > 0
    for number in np.unique(truth)[1:]:
        here = truth == number
        if here.sum() < LEAST_PIXELS:
            continue
        met = found == np.bincount(found[here]).argmax() if (found[here] > 0).any() else found < 0
        overlap = (met & here & (found > 0)).sum() / (met | here).sum()
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
