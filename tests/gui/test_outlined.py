"""Boxes round objects of a Labels layer."""

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.outlined import boxes_from_labels
from napari_boxprompt.gui.state import Session


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def test_boxes_from_labels(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a")
    labels = np.zeros((5, 40, 50), int)
    labels[2, 3:9, 4:20] = 5
    labels[2, 20:30, 4:20] = 6
    layer = viewer.add_labels(labels)
    viewer.dims.set_current_step(0, 2)
    assert boxes_from_labels(session) == 2
    layer.selected_label = 6
    assert session.boxes is not None
    session.boxes.delete([0, 1])
    assert boxes_from_labels(session, one=True) == 1
    assert session.boxes.boxset.boxes[0].as_tuple() == (20, 4, 30, 20)
    viewer.dims.set_current_step(0, 0)
    with pytest.raises(BoxError, match="no such object"):
        boxes_from_labels(session)


def test_box_from_the_object_under_the_cursor(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((40, 50)), name="a")
    labels = np.zeros((40, 50), int)
    labels[3:9, 4:20], labels[20:30, 4:20] = 5, 6
    table = {"index": [0, 5, 6], "class": ["", "nucleus", "mitosis"]}
    layer = viewer.add_labels(labels, features=table)
    viewer.layers.selection.active = layer
    layer.mode = "pick"
    viewer.cursor.position = (25, 10)
    assert boxes_from_labels(session, one=True) == 1
    (box,) = session.all_boxes().boxes
    assert box.as_tuple() == (20, 4, 30, 20)
    assert box.label == "mitosis", "the table of the result says so"
    assert viewer.layers.selection.active == layer
    assert layer.mode == "pick"
    boxes = session.boxes
    assert boxes is not None
    boxes.undo()
    assert not session.all_boxes().boxes
    boxes.redo()
    assert session.all_boxes().boxes[0].label == "mitosis"
    with pytest.raises(BoxError, match="box already"):
        boxes_from_labels(session, one=True)
    assert len(session.all_boxes()) == 1
    boxes.delete([0])
    assert boxes_from_labels(session) == 2
    assert [box.label for box in session.all_boxes().boxes] == ["nucleus", "mitosis"]
    assert session.all_boxes().exclusive
