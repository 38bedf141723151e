"""What napari's layers do that would spoil boxes and masks; without our answer to it each test fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers import Labels
from napari.layers.base import ActionType
from tests.gui.test_box_layer import draw, drawn, rectangle
from tests.gui.test_layers import drag
from tests.gui.test_results import COLORS, found, overlapping_on, plane, view, viewer

from napari_boxprompt.boxes import Box
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.gui import exchange
from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.classes import Classes
from napari_boxprompt.gui.jobs import Jobs
from napari_boxprompt.gui.layers import PlaneView, layers_with_role
from napari_boxprompt.gui.preview import Preview
from napari_boxprompt.gui.results import Result
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.trainer import Trainer

__all__ = ["drawn", "view", "viewer"]  # fixtures


# napari's own undo, over pixels that were written in place


def stroke(viewer: ViewerModel, result: Result, z: int, number: int = 50) -> None:
    """Paint over the first object of a plane, and beside it."""
    viewer.dims.set_current_step(0, z)
    result.layer.brush_size = 7
    result.layer.paint((z, 6, 2), number)


@pytest.mark.parametrize("first", ["rejected", "undone", "undone where nothing was"])
def test_undo_and_redo_leave_a_prediction_alone(viewer: ViewerModel, view: PlaneView, first: str) -> None:
    result = Result(viewer, view, COLORS)
    if first != "undone where nothing was":
        result.add(found(1, ["a", "b"]))
    stroke(viewer, result, 1)
    if first == "rejected":
        result.status[plane(1)] = "rejected"
    else:
        result.layer.undo()
    result.add(found(1, []))
    result.add(found(1, ["b"]))
    predicted = result.plane(plane(1)).copy()
    assert 50 not in predicted
    for step in (result.layer.undo, result.layer.redo, result.layer.undo):
        step()
        np.testing.assert_array_equal(result.plane(plane(1)), predicted)
    assert not result.is_work(plane(1)), "what nobody has touched is no work"


def test_undo_after_a_prediction_takes_back_the_strokes_on_other_planes(
    viewer: ViewerModel, view: PlaneView
) -> None:
    result = Result(viewer, view, COLORS)
    result.add(found(1))
    before = result.plane(plane(1)).copy()
    stroke(viewer, result, 1)
    result.add(found(2, ["a", "b"]))
    predicted = result.plane(plane(2)).copy()
    result.layer.undo()
    np.testing.assert_array_equal(result.plane(plane(1)), before)
    np.testing.assert_array_equal(result.plane(plane(2)), predicted)
    result.layer.redo()
    assert 50 in result.plane(plane(1))


def test_the_brush_stays_in_the_hand_and_can_be_undone(viewer: ViewerModel, view: PlaneView) -> None:
    result = Result(viewer, view, COLORS)
    result.add(found(1))
    stroke(viewer, result, 1)
    result.status[plane(1)] = "rejected"
    result.layer.mode = "paint"
    result.add(found(1, ["b"]))
    assert result.layer.mode == "paint"
    assert result.layer.editable
    predicted = result.plane(plane(1)).copy()
    stroke(viewer, result, 1, 60)
    assert result.is_work(plane(1))
    result.layer.undo()
    np.testing.assert_array_equal(result.plane(plane(1)), predicted)


def test_undo_where_classes_have_a_layer_each(viewer: ViewerModel, view: PlaneView) -> None:
    last = Result.of_each_class(viewer, view, COLORS)
    for one in last.siblings:
        one.add(overlapping_on(1))
        stroke(viewer, one, 1)
        one.status[plane(1)] = "rejected"
    for one in last.siblings:
        one.add(found(1, ["b", "a"]))
        predicted = one.plane(plane(1)).copy()
        one.layer.undo()
        np.testing.assert_array_equal(one.plane(plane(1)), predicted)


def test_nobody_paints_into_a_preview(viewer: ViewerModel) -> None:
    session = Session(viewer)
    preview = Preview(session, Jobs(), SimpleNamespace(), lambda: ("litemedsam", "cpu"))  # type: ignore[arg-type]
    for z in (1, 1, 2):  # the same plane is written in place; for another the layer gets other data
        preview.show(plane(z), np.ones((40, 50), np.uint8))
        (layer,) = layers_with_role(viewer, "preview")
        assert isinstance(layer, Labels)
        layer.mode = "paint"
        assert layer.mode == "pan_zoom", "the next look takes strokes away, and undo would bring them back"


# Features edited in place, of which no event tells


def shown(boxes: BoxLayer) -> list[str]:
    """What the layer writes beside its boxes."""
    return [str(text) for text in boxes.shapes.text.values]


@pytest.fixture
def texts(drawn: BoxLayer) -> BoxLayer:
    """Two boxes of class a and one of b, each with its class beside it."""
    drawn.take_classes(Classes.named(("a", "b")))
    drawn.shapes.text = "{class}"
    draw(drawn, (1, 5, 5), (1, 30, 30))
    drawn.choose_class(1)
    draw(drawn, (2, 5, 5))
    assert shown(drawn) == ["a", "a", "b"]
    return drawn


def test_texts_follow_every_change_of_classes_and_boxes(texts: BoxLayer) -> None:
    shapes, told = texts.shapes, list[str]()
    shapes.events.features.connect(lambda event: told.append(event.type))

    def choose() -> None:
        shapes.mode = "select"
        shapes.selected_data = {1}
        texts.choose_class(1)

    def empty() -> None:
        shapes.data = []  # napari keeps the rows and the texts of what was there

    for gesture, expected in (
        (choose, ["a", "b", "b"]),
        (lambda: texts.rename_class(1, "cell"), ["a", "cell", "cell"]),
        (lambda: texts.delete([1]), ["a", "cell"]),
        (texts.undo, ["a", "cell", "cell"]),
        (lambda: texts.remove_class(0), ["cell", "cell"]),
        (empty, []),
        (lambda: draw(texts, (3, 5, 5)), ["cell"]),
        (texts.undo, []),
        (texts.undo, ["cell", "cell"]),
    ):
        told.clear()
        gesture()
        assert told, "tables that others show follow too"
        assert shown(texts) == list(shapes.features["class"]) == expected
        assert [box.label for box in texts.boxset.boxes] == expected


def test_classes_edited_in_place_are_taken_with_the_next_gesture(texts: BoxLayer) -> None:
    texts.shapes.features.loc[0, "class"] = "b"
    assert shown(texts) == ["a", "a", "b"], "napari tells nobody"
    draw(texts, (3, 5, 5))
    assert shown(texts) == ["b", "a", "b", "b"]
    assert [box.label for box in texts.boxset.boxes] == ["b", "a", "b", "b"]
    np.testing.assert_allclose(texts.shapes.edge_color[0], texts.classes.color_of("b"), atol=1e-3)
    texts.undo()
    assert shown(texts) == [box.label for box in texts.boxset.boxes] == ["a", "a", "b"]


def test_a_look_takes_classes_edited_in_place(texts: BoxLayer) -> None:
    told: list[int] = []
    texts.changed.connect(lambda: told.append(1))
    texts.look()
    assert not told
    texts.shapes.features["class"] = ["b", "new", "b"]
    texts.look()
    texts.look()
    assert told == [1]
    assert shown(texts) == [box.label for box in texts.boxset.boxes] == ["b", "new", "b"]
    assert texts.classes.names == ("a", "b", "new")
    texts.undo()
    assert [box.label for box in texts.boxset.boxes] == ["a", "a", "b"]


def test_boxes_are_exported_with_classes_edited_in_place(viewer: ViewerModel, tmp_path: Any) -> None:
    session = Session(viewer)
    boxes = session.new_boxes_layer()
    draw(boxes, (1, 5, 5), (2, 5, 5))
    assert [box.label for box in boxes.boxset.boxes] == ["object"] * 2
    boxes.shapes.features.loc[1, "class"] = "mitosis"
    exchange.save_boxes(session, tmp_path / "boxes.json")
    assert "mitosis" in (tmp_path / "boxes.json").read_text()


def test_a_training_begins_with_classes_edited_in_place(viewer: ViewerModel) -> None:
    session, begun = Session(viewer), list[Any]()
    boxes = session.new_boxes_layer()
    draw(boxes, (1, 5, 5), (2, 5, 5))
    assert session.training_set()[1].classes == ("object",)
    boxes.shapes.features.loc[1, "class"] = "mitosis"
    jobs, preview = Jobs(), SimpleNamespace(begin_training=lambda: None)
    jobs.start = lambda name, work, **_: begun.append(work.keywords["task"])  # type: ignore[assignment]
    Trainer(session, jobs, SimpleNamespace(), preview).start(TrainConfig())  # type: ignore[arg-type]
    (task,) = begun
    assert task.boxes.classes == ("object", "mitosis")


# When Shapes tell of what


def listen(boxes: BoxLayer) -> list[tuple[str, Any, int, list[str], list[str]]]:
    """Note at each event what the layer holds, and what we have read once we have heard of it too."""
    heard: list[tuple[str, Any, int, list[str], list[str]]] = []
    shapes = boxes.shapes

    def note(event: Any) -> None:
        rows = list(shapes.features["class"])
        read = [box.label for box in boxes.boxset.boxes]
        heard.append((str(event.action), event.data_indices, shapes.nshapes, rows, read))

    shapes.events.data.connect(note, position="last")
    return heard


def test_boxes_are_read_when_they_are_there(texts: BoxLayer) -> None:
    """Not at the beginning of a gesture, when napari has neither shapes nor classes; and all of them."""
    heard, told = listen(texts), []
    texts.changed.connect(lambda: told.append([box.label for box in texts.boxset.boxes]))
    texts.shapes.add([rectangle(3, 5, 5), rectangle(3, 30, 30)], shape_type="rectangle")
    before, after = ["a", "a", "b"], ["a", "a", "b", "b", "b"]
    assert heard == [("adding", (-1,), 3, before, before), ("added", (-1,), 5, after, after)]
    heard.clear()
    texts.shapes.selected_data = {1, 2}
    texts.shapes.remove_selected()
    kept = ["a", "b", "b"]
    assert heard == [("removing", (1, 2), 5, after, after), ("removed", (1, 2), 3, kept, kept)]
    assert told == [after, kept], "one gesture, one change"
    assert {action for action, *_ in heard} <= {str(action) for action in ActionType}


def test_a_box_in_the_making_is_no_box_yet() -> None:
    """napari says "adding" when the mouse goes down; the shape and its row are there long before its end."""
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 40, 50)), name="stack", scale=(2, 0.3, 0.3))
    boxes = Session(viewer).new_boxes_layer()
    boxes.take_classes(Classes.named(("a", "b")).choose(1))
    heard = listen(boxes)
    during: list[tuple[int, list[str], int]] = []

    def watch(*_: Any) -> None:
        boxes.look()  # as a timer does, while the mouse is down
        during.append((boxes.shapes.nshapes, list(boxes.shapes.features["class"]), len(boxes.boxset.boxes)))

    boxes.shapes.events.set_data.connect(watch)
    viewer.dims.set_current_step(0, 3)
    during.clear()
    drag(viewer, boxes.shapes, image.data_to_world((3, 4.5, 5.5)), image.data_to_world((3, 19.5, 29.5)))
    assert (1, ["b"], 0) in during, "half drawn"
    assert [(action, number, read) for action, _, number, _, read in heard] == [
        ("adding", 0, []),
        ("added", 1, ["b"]),
    ]
    (box,) = boxes.boxset.boxes
    assert box.plane == plane(3)
    np.testing.assert_allclose(box.as_tuple(), (5, 6, 20, 30), atol=1e-3)
    boxes.undo()
    assert not boxes.can_undo, "one gesture"
    assert boxes.shapes.nshapes == 0


def test_a_moved_box_is_read_at_the_end(drawn: BoxLayer) -> None:
    """Of a move by the mouse napari tells with the data alone."""
    draw(drawn, (2, 5, 7))
    (before,) = drawn.boxset.boxes
    drawn.shapes.mode = "select"
    drawn._viewer.dims.set_current_step(0, 2)
    heard = listen(drawn)
    drag(drawn._viewer, drawn.shapes, (2, 9, 12), (2, 19, 32))
    assert [action for action, *_ in heard] == ["changing", "changed"]
    (box,) = drawn.boxset.boxes
    assert box == Box(before.y0 + 10, before.x0 + 20, before.y1 + 10, before.x1 + 20, before.plane, "object")
