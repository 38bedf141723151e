"""Boxes that can be clicked on every plane of a scaled stack."""

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers import Shapes

from napari_boxprompt.gui.hits import keep_clickable


def stack(scale: float) -> tuple[ViewerModel, Shapes]:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((30, 40, 50)), scale=(scale, 1, 1))
    square = np.array([[0, 5, 5], [0, 5, 20], [0, 20, 20], [0, 20, 5]], float)
    shapes = viewer.add_shapes(
        [square + np.array([z, 0, 0]) for z in range(30)], shape_type="rectangle", scale=(scale, 1, 1)
    )
    return viewer, shapes


def clicked(viewer: ViewerModel, shapes: Shapes, z: int) -> int | None:
    viewer.dims.set_current_step(0, z)
    for callback in list(shapes.mouse_drag_callbacks)[:1]:
        callback(shapes, None)
    return shapes.get_value((viewer.dims.point[0], 10, 10), world=True)[0]


@pytest.mark.parametrize("scale", [0.1, 0.29, 0.3, 0.7, 1.0, 2.0])
def test_every_plane_answers(scale: float) -> None:
    viewer, shapes = stack(scale)
    keep_clickable(shapes)
    assert [clicked(viewer, shapes, z) for z in range(30)] == list(range(30))


def test_napari_still_needs_help() -> None:
    # When this fails, napari has mended it: then gui/hits.py can go.
    viewer, shapes = stack(0.1)
    shapes.mouse_drag_callbacks.clear()
    assert None in [clicked(viewer, shapes, z) for z in range(30)]


def test_a_place_between_planes_stays() -> None:
    viewer, shapes = stack(1.0)
    keep_clickable(shapes)
    viewer.dims.set_point(0, 3.4)
    assert shapes.get_value((3.4, 10, 10), world=True)[0] is None
