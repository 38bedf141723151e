"""Boxes whose layer was deleted come back."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.deleted import Deleted
from napari_boxprompt.gui.layers import layers_with_role
from napari_boxprompt.gui.state import Session

HERE, EMPTY = PlaneId("stack", (1,)), PlaneId("stack", (2,))


@pytest.fixture
def session() -> Session:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 60, 70)), name="stack")
    session = Session(viewer)
    boxes = session.new_boxes_layer()
    whole = PlaneInfo((60, 70), complete=True)
    drawn = (Box(5, 6, 25, 30, HERE, "round"), Box(30, 6, 50, 30, HERE, "long"))
    boxes.add_boxes(BoxSet(drawn, {HERE: whole, EMPTY: whole}, ("round", "long")))
    boxes.recolor_class(1, (1.0, 0.0, 0.0, 1.0))
    return session


def test_they_come_back_with_classes_and_what_is_complete(session: Session) -> None:
    deleted, heard = Deleted(session), list[bool]()
    deleted.changed.connect(lambda: heard.append(True))
    assert session.boxes is not None
    before, colors = session.boxes.boxset, session.boxes.classes.stored()
    session.viewer.layers.remove(session.boxes.shapes)
    assert session.boxes is None
    deleted.tidy()
    assert not list(layers_with_role(session.viewer, "complete")), "it would say that there is nothing"
    session.viewer.layers["stack"].name = "renamed"
    deleted.bring_back()
    assert len(heard) == 2
    assert session.boxes is not None
    found = session.boxes.boxset
    assert [box.as_tuple() for box in found.boxes] == [box.as_tuple() for box in before.boxes]
    assert found.classes == before.classes
    assert session.boxes.classes.stored() == colors
    assert [plane.index for plane, info in found.planes.items() if info.complete] == [(1,), (2,)]
    assert deleted.here is None
    with pytest.raises(BoxError, match="deleted"):
        deleted.bring_back()


def test_they_are_not_offered_beside_new_ones_or_for_another_image(session: Session) -> None:
    deleted = Deleted(session)
    assert session.boxes is not None
    session.viewer.layers.remove(session.boxes.shapes)
    assert deleted.here is not None
    other = session.viewer.add_image(np.zeros((60, 70)), name="other")
    session.choose_image(other)
    assert deleted.here is None
    session.choose_image(session.viewer.layers["stack"])
    assert deleted.here is not None
    boxes = session.new_boxes_layer()
    assert deleted.here is not None, "nothing is drawn yet"
    boxes.add_boxes(BoxSet((Box(1, 1, 20, 20, HERE, "round"),)))
    assert deleted.here is None
    boxes.undo()
    assert deleted.here is not None
    session.viewer.layers.remove(session.viewer.layers["stack"])
    session.viewer.add_image(np.zeros((4, 60, 70)), name="stack")
    assert deleted.here is None, "they went with their image"


def test_what_is_complete_stays_with_its_boxes(session: Session) -> None:
    deleted = Deleted(session)
    assert session.boxes is not None
    session.viewer.layers.remove(session.boxes.shapes)
    boxes = session.new_boxes_layer()
    deleted.tidy()
    assert boxes.is_complete(EMPTY), "the layer has been taken up by other boxes"
    deleted.close()
    boxes.add_boxes(BoxSet((Box(1, 1, 20, 20, HERE, "round"),)))
    session.viewer.layers.remove(boxes.shapes)
    assert deleted.here is not None
    assert len(deleted.here.drawn) == 2, "nobody listens any more"


@pytest.mark.parametrize("first", ["boxes", "complete"])
def test_both_layers_are_deleted(session: Session, first: str) -> None:
    deleted, boxes = Deleted(session), session.boxes
    assert boxes is not None
    assert boxes.complete is not None
    both = [boxes.shapes, boxes.complete]
    session.viewer.layers.selection = set(both)
    for layer in both if first == "boxes" else both[::-1]:
        session.viewer.layers.remove(layer)
    deleted.tidy()
    deleted.bring_back()
    assert session.boxes is not None
    assert len(session.boxes.boxset) == 2
    assert session.boxes.is_complete(EMPTY)


def test_what_is_complete_that_goes_alone_is_no_loss_of_boxes(session: Session) -> None:
    deleted, boxes = Deleted(session), session.boxes
    assert boxes is not None
    assert boxes.complete is not None
    session.viewer.layers.selection = {boxes.complete}
    session.viewer.layers.remove_selected()
    assert session.boxes is boxes
    assert deleted.here is None
    boxes.delete([0, 1])
    assert deleted.here is None


def test_all_layers_at_once(session: Session) -> None:
    deleted = Deleted(session)
    session.viewer.layers.clear()
    deleted.tidy()
    assert deleted.here is None
