"""Boxes, classes, completeness and undo, on a viewer without a window."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.layers import ROLE_KEY, PlaneView, new_boxes_layer


@pytest.fixture
def drawn() -> BoxLayer:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((6, 64, 80)), name="stack")
    view = PlaneView.from_viewer(image, viewer)
    shapes = new_boxes_layer(view, name="boxes", role="boxes")
    viewer.layers.append(shapes)
    return BoxLayer(viewer, view, shapes)


def rectangle(z: float, y: float, x: float, height: float = 10, width: float = 12) -> np.ndarray:
    """Corners in napari's coordinates, where pixel i reaches from i - 0.5 to i + 0.5."""
    y, x = y - 0.5, x - 0.5
    return np.array([[z, y, x], [z, y, x + width], [z, y + height, x + width], [z, y + height, x]])


def draw(boxes: BoxLayer, *places: tuple[float, ...]) -> None:
    for place in places:
        boxes.shapes.add(rectangle(*place), shape_type="rectangle")


def state(boxes: BoxLayer) -> Any:
    return (
        [np.round(vertices, 3).tolist() for vertices in boxes.shapes.data],
        list(boxes.shapes.features["class"]),
        boxes.classes.names,
        dict(boxes.boxset.planes),
    )


def plane(z: int) -> PlaneId:
    return PlaneId("stack", (z,))


def test_boxes_are_read_with_plane_and_class(drawn: BoxLayer) -> None:
    draw(drawn, (2, 5, 7), (3, 1, 1))
    drawn.add_class("mitosis")
    draw(drawn, (3, 20, 20))
    boxes = drawn.boxset.boxes
    assert boxes[0] == Box(5, 7, 15, 19, plane(2), "object")
    assert [box.label for box in boxes] == ["object", "object", "mitosis"]
    assert drawn.boxset.classes == ("object", "mitosis")
    assert drawn.boxset.boxed_planes == (plane(2), plane(3))


def test_every_gesture_can_be_undone_and_redone(drawn: BoxLayer) -> None:
    shapes = drawn.shapes

    def move() -> None:
        shapes.data = [shapes.data[0] + [0, 3, 3], *shapes.data[1:]]

    def select_and_class() -> None:
        shapes.mode = "select"
        shapes.selected_data = {0}
        drawn.choose_class(1)

    def delete() -> None:
        shapes.selected_data = {1}
        shapes.remove_selected()

    gestures = [
        lambda: draw(drawn, (1, 5, 5)),
        lambda: draw(drawn, (2, 8, 8)),
        move,
        lambda: drawn.add_class("other"),
        select_and_class,
        lambda: drawn.rename_class(1, "renamed"),
        lambda: drawn.toggle_complete(plane(2)),
        delete,
        lambda: drawn.add_boxes(BoxSet((Box(1, 1, 9, 9, plane(4), "new"),), {plane(4): PlaneInfo()})),
        lambda: drawn.remove_class(0),
        lambda: drawn.toggle_complete(plane(2)),
    ]
    states = [state(drawn)]
    for gesture in gestures:
        gesture()
        states.append(state(drawn))
    assert all(one != other for one, other in pairwise(states))
    for expected in reversed(states[:-1]):
        drawn.undo()
        assert state(drawn) == expected
    assert not drawn.can_undo
    for expected in states[1:]:
        drawn.redo()
        assert state(drawn) == expected
    assert not drawn.can_redo


def test_pasted_boxes_are_noticed(drawn: BoxLayer) -> None:
    # napari tells of a paste by the features alone.
    draw(drawn, (1, 5, 5))
    drawn.shapes.selected_data = {0}
    drawn.shapes._copy_data()
    drawn.shapes._paste_data()
    assert len(drawn.shapes.data) == 2
    drawn.undo()
    assert len(drawn.shapes.data) == 1


def test_deleting_all_boxes_and_undo_brings_their_classes_back(drawn: BoxLayer) -> None:
    drawn.add_class("b")
    draw(drawn, (1, 5, 5), (1, 30, 30))
    drawn.delete([0, 1])
    assert drawn.shapes.nshapes == 0
    assert len(drawn.shapes.features) == 0
    drawn.undo()
    assert [box.label for box in drawn.boxset.boxes] == ["b", "b"]


def test_class_key_while_drawing_leaves_the_drawn_boxes_alone(drawn: BoxLayer) -> None:
    drawn.add_class("b")
    drawn.choose_class(0)
    draw(drawn, (1, 5, 5))
    drawn.shapes.mode = "add_rectangle"
    drawn.shapes.selected_data = {0}
    drawn.choose_class(1)
    draw(drawn, (1, 30, 30))
    assert [box.label for box in drawn.boxset.boxes] == ["object", "b"]


def test_boxes_have_the_colour_of_their_class(drawn: BoxLayer) -> None:
    draw(drawn, (1, 5, 5))
    drawn.add_class("b")
    draw(drawn, (1, 30, 30))
    colors = [item.color for item in drawn.classes.items]
    np.testing.assert_allclose(drawn.shapes.edge_color, colors, atol=1e-3)
    drawn.recolor_class(0, (1.0, 0.0, 0.0, 1.0))
    np.testing.assert_allclose(drawn.shapes.edge_color[0], (1, 0, 0, 1))
    assert drawn.shapes.metadata[ROLE_KEY]["classes"][0] == ["object", "#ff0000"]


def test_complete_plane_is_a_rectangle_that_is_seen(drawn: BoxLayer) -> None:
    draw(drawn, (1, 5, 5))
    assert drawn.complete is None
    assert drawn.toggle_complete(plane(1))
    assert drawn.complete is not None
    assert drawn.complete.nshapes == 1
    info = drawn.boxset.planes[plane(1)]
    assert info.complete
    assert info.shape == (64, 80)
    assert not drawn.toggle_complete(plane(1))
    assert drawn.complete.nshapes == 0
    assert not drawn.boxset.planes[plane(1)].complete


def test_a_smaller_rectangle_is_a_complete_region(drawn: BoxLayer) -> None:
    draw(drawn, (1, 5, 5))
    drawn.complete_layer().add(rectangle(1, 2, 3, 20, 30), shape_type="rectangle")
    info = drawn.boxset.planes[plane(1)]
    assert not info.complete
    assert info.complete_regions == ((2.0, 3.0, 22.0, 33.0),)


def test_a_complete_plane_without_boxes_is_a_negative(drawn: BoxLayer) -> None:
    drawn.toggle_complete(plane(5))
    assert drawn.boxset.boxed_planes == (plane(5),)
    assert not drawn.boxset.boxes


def test_marking_complete_leaves_the_active_layer_active(drawn: BoxLayer) -> None:
    viewer = drawn._viewer
    viewer.layers.selection.active = drawn.shapes
    drawn.toggle_complete(plane(1))
    assert viewer.layers.selection.active == drawn.shapes


def test_fix_mends_what_can_be_mended(drawn: BoxLayer) -> None:
    turned = rectangle(1, 20, 20)
    turned[:, 1:] = turned[:, 1:] @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + [0, 20]
    draw(drawn, (0, 5, 5), (0, 5, 5), (2, 60, 75), (3, 200, 200))
    drawn.shapes.add(turned, shape_type="rectangle")
    kinds = {problem.kind for problem in drawn.problems}
    assert {"duplicate", "partly outside", "outside", "rotated"} <= kinds
    drawn.shapes.add_rectangles(rectangle(3, 40, 40, 0.4))
    assert [problem.kind for problem in drawn.problems if problem.index == 5] == ["tiny"]
    before = state(drawn)
    assert drawn.fix() == 5
    assert not drawn.problems
    assert len(drawn.boxset.boxes) == 3
    assert drawn.fix() == 0
    drawn.undo()
    assert state(drawn) == before


def test_added_boxes_bring_classes_and_complete_planes(drawn: BoxLayer) -> None:
    given = BoxSet(
        (Box(1, 2, 30, 40, plane(0), "a"), Box(5, 5, 20, 20, plane(3), "b")),
        {plane(0): PlaneInfo(complete=True), plane(3): PlaneInfo(complete_regions=((0, 0, 32, 32),))},
        ("a", "b"),
    )
    drawn.add_boxes(given)
    assert drawn.boxset.boxes == given.boxes
    assert drawn.boxset.planes[plane(0)].complete
    assert drawn.boxset.planes[plane(3)].complete_regions == ((0.0, 0.0, 32.0, 32.0),)
    drawn.undo()
    assert not drawn.boxset.boxes


def test_a_layer_without_class_column_gets_one() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((64, 64)), name="flat")
    shapes = viewer.add_shapes([np.array([[5, 5], [15, 15]])], shape_type="rectangle")
    boxes = BoxLayer(viewer, PlaneView.from_viewer(image, viewer), shapes)
    assert [box.label for box in boxes.boxset.boxes] == ["object"]
    assert boxes.boxset.boxed_planes == (PlaneId("flat"),)


def test_events_of_a_closed_layer_are_not_heard(drawn: BoxLayer) -> None:
    heard: list[int] = []
    drawn.changed.connect(lambda: heard.append(1))
    drawn.close()
    draw(drawn, (1, 5, 5))
    assert not heard


def test_an_empty_layer_can_be_undone_to(drawn: BoxLayer) -> None:
    draw(drawn, (1, 5, 5))
    drawn.undo()
    assert drawn.shapes.nshapes == 0
    drawn.redo()
    draw(drawn, (1, 30, 30))
    assert len(drawn.boxset.boxes) == 2
