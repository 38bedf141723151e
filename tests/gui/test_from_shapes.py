"""Boxes out of Shapes layers that the user has drawn themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers import Layer, Shapes
from qtpy.QtWidgets import QMenu
from tests.gui.conftest import Desk

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.from_shapes import boxes_from_shapes
from napari_boxprompt.gui.layers import role_of
from napari_boxprompt.gui.state import Session

PLANE = PlaneId("a", (2,))


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def session(viewer: ViewerModel) -> Session:
    session = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a", scale=(3, 0.5, 0.5))
    viewer.dims.set_current_step(0, 2)
    return session


def rectangle(y0: float, x0: float, y1: float, x1: float, *place: float) -> np.ndarray:
    corners = np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]], float) - 0.5
    return np.column_stack([np.tile(place, (4, 1)).reshape(4, len(place)), corners])


def copy_of(shapes: Any) -> Shapes:
    """What *Duplicate selected layers* makes."""
    data, state, kind = shapes.as_layer_data_tuple()
    copied = Layer.create(data, {**state, "name": f"{shapes.name} copy"}, kind)
    assert isinstance(copied, Shapes)
    return copied


def test_flat_shapes_come_onto_the_plane_on_screen(session: Session, viewer: ViewerModel) -> None:
    layer = viewer.add_shapes([rectangle(4, 6, 20, 30), rectangle(1, 1, 9, 9)], scale=(0.5, 0.5))
    layer.mode = "select"
    assert boxes_from_shapes(session) == (2, "")
    assert session.boxes is not None
    assert session.boxes.boxset.boxes == (Box(4, 6, 20, 30, PLANE), Box(1, 1, 9, 9, PLANE))
    assert viewer.layers.selection.active == layer
    assert layer.mode == "select"
    session.boxes.undo()
    assert not session.boxes.boxset.boxes, "one gesture"
    session.boxes.redo()
    assert len(session.boxes.boxset) == 2


def test_shapes_with_planes_keep_them_and_their_classes(session: Session, viewer: ViewerModel) -> None:
    shapes = [rectangle(4, 6, 20, 30, 1), rectangle(1, 1, 9, 9, 4), rectangle(20, 20, 30, 30, 4)]
    viewer.add_shapes(shapes, scale=(3, 0.5, 0.5), features={"class": ["x", "y", None]})
    session.new_boxes_layer().add_class("mine")
    assert boxes_from_shapes(session)[0] == 3, "the only other Shapes layer"
    found = session.all_boxes().boxes
    assert [(box.plane.index, box.label) for box in found] == [((1,), "x"), ((4,), "y"), ((4,), "mine")]


def test_what_is_left_out_is_said(session: Session, viewer: ViewerModel) -> None:
    middle = np.array([20.0, 20.0])
    tilted = middle + np.array([[0, -8], [8, 0], [0, 8], [-8, 0]])
    layer = viewer.add_shapes(scale=(0.5, 0.5))
    layer.add([rectangle(4, 6, 20, 30), tilted, tilted + 3], shape_type="rectangle")
    layer.add(rectangle(2, 2, 12, 12), shape_type="ellipse")
    layer.add(rectangle(90, 90, 99, 99), shape_type="rectangle")
    count, left_out = boxes_from_shapes(session)
    assert count == 1
    assert left_out == "4 shapes were left out: 2 are rotated, 1 is no rectangle, 1 lies outside the image."
    with pytest.raises(BoxError, match="5 shapes were left out: 1 is there already, 2 are rotated"):
        boxes_from_shapes(session)
    assert len(session.all_boxes()) == 1


def test_a_copy_of_our_own_layer_can_be_taken(session: Session, viewer: ViewerModel) -> None:
    boxes = session.new_boxes_layer()
    drawn = (Box(4, 6, 20, 30, PLANE, "x"), Box(1, 1, 9, 9, PlaneId("a", (4,)), "y"))
    boxes.add_boxes(BoxSet(drawn))
    copied = copy_of(boxes.shapes)
    viewer.layers.append(copied)
    assert session.boxes is boxes
    assert role_of(copied) is None
    boxes.delete([0])
    count, left_out = boxes_from_shapes(session)
    assert (count, left_out) == (1, "1 shape was left out: 1 is there already.")
    assert set(boxes.boxset.boxes) == set(drawn)
    viewer.layers.remove(boxes.shapes)
    made = session.new_boxes_layer()
    assert made.shapes is not copied, "or the user would draw in a layer that nobody reads"
    assert viewer.layers.selection.active == made.shapes
    viewer.layers.selection.active = copied
    assert boxes_from_shapes(session) == (2, "")
    assert set(made.boxset.boxes) == set(drawn)


def test_which_layer_is_meant_has_to_be_clear(session: Session, viewer: ViewerModel) -> None:
    session.new_boxes_layer().toggle_complete(PLANE)
    with pytest.raises(BoxError, match="no Shapes layer besides"):
        boxes_from_shapes(session)
    for name in "pq":
        viewer.add_shapes([rectangle(4, 6, 20, 30)], scale=(0.5, 0.5), name=name)
    viewer.layers.selection.active = viewer.layers["a boxes"]
    with pytest.raises(BoxError, match="Select the Shapes layer"):
        boxes_from_shapes(session)
    viewer.layers.selection.active = viewer.layers["p"]
    viewer.dims.ndisplay = 3
    with pytest.raises(BoxError, match="2-D display"):
        boxes_from_shapes(session)
    viewer.dims.ndisplay = 2
    assert boxes_from_shapes(session)[0] == 1


def test_shapes_over_no_image(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_shapes([rectangle(4, 6, 20, 30)])
    with pytest.raises(BoxError, match="need an image"):
        boxes_from_shapes(session)


@pytest.mark.usefixtures("fake_encoders")
def test_the_menu_takes_them(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    desk.viewer.add_image(np.random.default_rng(0).random((40, 50)), name="a")
    layer = desk.viewer.add_shapes([rectangle(4, 6, 20, 30)])
    layer.add(rectangle(2, 2, 12, 12), shape_type="ellipse")
    (menu,) = desk.widget.boxes_panel.sources.findChildren(QMenu)
    (entry,) = [action for action in menu.actions() if action.text() == "Boxes from a Shapes layer"]
    entry.trigger()
    assert "1 box was added. 1 shape was left out: 1 is no rectangle." in desk.said[-1]
    assert len(desk.widget.session.all_boxes()) == 1
    desk.settle()
