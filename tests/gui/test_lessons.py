"""What a training learns from: drawn boxes, and planes that were accepted."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from psygnal import Signal
from tests.gui.test_results import found, overlapping_on, plane

from napari_boxprompt.boxes import Box, BoxSet
from napari_boxprompt.config import make_config
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.results import Result
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.state import Session


@pytest.fixture
def session(trained: Any) -> Session:
    """Boxes of classes a and b on planes 0 and 1, and what a model of both found on all six planes."""
    viewer = ViewerModel()
    viewer.add_image(np.zeros((6, 40, 50)), name="stack")
    session = Session(viewer)
    session.new_boxes_layer().add_boxes(
        BoxSet((Box(3, 3, 13, 13, plane(0), "a"), Box(3, 3, 13, 13, plane(1), "b")), classes=("a", "b"))
    )
    session.set_model(replace(trained, model=replace(trained.model, classes=("b", "a"))))
    predict(session)
    return session


def predict(session: Session) -> Result:
    """What another model finds: it has a layer of its own."""
    assert session.view is not None
    assert session.trained is not None
    session.set_model(replace(session.trained, model=replace(session.trained.model)))
    (result,) = session.new_results([session.view])["stack"]
    for z in range(6):
        result.add(found(z, ["a", "b"] if z < 5 else []))
    return result


def newest(session: Session) -> Result:
    assert session.result is not None
    return session.result


def masks(session: Session) -> dict[Any, Any]:
    return session.lessons.masks(session.training_set()[1], session.drawn)


def test_complete_planes_alone_are_no_boxes(session: Session) -> None:
    boxes = session.new_boxes_layer()
    boxes.delete([0, 1])
    for z in range(2):
        boxes.toggle_complete(plane(z))
    with pytest.raises(BoxError, match="no boxes yet"):
        session.training_set()


def test_an_accepted_plane_teaches_its_outlines_and_all_the_rest_as_background(session: Session) -> None:
    assert session.lessons.describe(session.drawn) == ""
    session.set_status(plane(3), "accepted")
    images, boxes = session.training_set()
    assert {box.label: box.as_tuple() for box in boxes.on(plane(3))} == {
        "a": (4, 0, 8, 4),
        "b": (4, 6, 8, 10),
    }
    assert boxes.planes[plane(3)].complete
    assert not boxes.planes[plane(0)].complete
    assert boxes.classes == ("a", "b"), "as in the boxes layer, whatever the order of the model"
    (mask,) = session.lessons.masks(boxes, session.drawn).values()
    assert mask.shape == images.shape(plane(3))
    assert mask.dtype == np.uint8
    assert np.unique(mask[4:8, 0:4]).tolist() == [1]
    assert np.unique(mask[4:8, 6:10]).tolist() == [2]
    assert np.count_nonzero(mask) == 32
    assert session.lessons.describe(session.drawn) == "2 boxed and 1 accepted plane"


def test_an_accepted_plane_counts_more_than_boxes_drawn_on_it(session: Session) -> None:
    session.set_status(plane(1), "accepted")
    _, boxes = session.training_set()
    assert Box(3, 3, 13, 13, plane(1), "b") not in boxes.boxes
    assert len(boxes.on(plane(1))) == 2
    assert len(session.all_boxes()) == 2, "the user's layer is as it was"
    assert session.lessons.describe(session.drawn) == "1 boxed and 1 accepted plane"


def test_accepted_planes_are_enough(session: Session) -> None:
    assert session.boxes is not None
    session.boxes.delete([0, 1])
    with pytest.raises(BoxError, match="no boxes yet"):
        session.training_set()
    session.set_status(plane(2), "accepted")
    with pytest.raises(BoxError, match="two planes"):
        session.training_set()
    session.set_status(plane(3), "accepted")
    images, boxes = session.training_set()
    assert boxes.boxed_planes == (plane(2), plane(3))
    assert plane(3) in images
    assert session.lessons.describe(session.drawn) == "2 accepted planes"


def test_a_plane_without_objects_can_be_accepted(session: Session) -> None:
    session.set_status(plane(5), "accepted")
    _, boxes = session.training_set()
    assert not boxes.on(plane(5))
    assert boxes.planes[plane(5)].complete
    assert not masks(session)[plane(5)].any()


def test_what_was_painted_has_the_class_of_the_next_box(session: Session) -> None:
    assert session.boxes is not None
    session.boxes.choose_class(1)
    newest(session).plane(plane(3))[20:30, 20:30] = 900
    session.set_status(plane(3), "accepted")
    session.boxes.choose_class(0)
    _, boxes = session.training_set()
    assert Box(20, 20, 30, 30, plane(3), "b", 900) in boxes.boxes, "as it was when the plane was accepted"
    assert masks(session)[plane(3)][25, 25] == 2
    table = newest(session).layer.features.set_index("index")
    assert table.loc[900, "class"] == "b"
    assert table.loc[900, "area"] == 100
    assert newest(session).counts[plane(3)].objects == 3


def test_what_is_painted_after_accepting_counts_at_the_next_training(session: Session) -> None:
    session.set_status(plane(3), "accepted")
    session.training_set()
    newest(session).plane(plane(3))[4:8, 0:4] = 0
    session.lessons.forget()
    assert [box.label for box in session.training_set()[1].on(plane(3))] == ["b"]
    assert np.count_nonzero(masks(session)[plane(3)]) == 16


def test_a_rejected_plane_teaches_nothing_until_it_is_accepted(session: Session) -> None:
    session.set_status(plane(3), "accepted")
    session.set_status(plane(3), "rejected")
    assert not masks(session)
    session.set_status(plane(3), "accepted")
    assert list(masks(session)) == [plane(3)]


def test_planes_accepted_in_an_earlier_result_still_teach(session: Session) -> None:
    session.set_status(plane(3), "accepted")
    old = newest(session)
    old.plane(plane(3))[20:30, 20:30] = 900
    new = predict(session)
    assert new is not old
    assert masks(session)[plane(3)][25, 25] == 1
    session.set_status(plane(3), "rejected")
    assert not masks(session), "the last word counts"


def test_a_class_that_the_model_did_not_know_is_not_background_on_its_planes(session: Session) -> None:
    session.set_status(plane(3), "accepted")
    assert session.boxes is not None
    session.boxes.add_boxes(BoxSet((Box(20, 20, 30, 30, plane(4), "c"),)))
    _, boxes = session.training_set()
    assert boxes.classes == ("a", "b", "c")
    assert not boxes.planes[plane(3)].complete


def test_classes_that_overlap_teach_each_its_own(session: Session, trained: Any) -> None:
    assert session.boxes is not None
    assert session.view is not None
    session.boxes.add_boxes(BoxSet(exclusive=False))
    overlapping = replace(trained.model, classes=("a", "b"), exclusive=False)
    session.set_model(replace(trained, model=overlapping))
    a, b = session.new_results([session.view])["stack"]
    for result in (a, b):
        result.add(overlapping_on(3))
    session.set_status(plane(3), "accepted")
    _, boxes = session.training_set()
    assert (boxes.classes, boxes.exclusive) == (("a", "b"), False)
    assert boxes.planes[plane(3)].complete
    assert [box.label for box in boxes.on(plane(3))] == ["a", "b"]
    b.layer.data[3, 30:35, 30:35] = 9  # painted, with no other class to have than that of its layer
    session.lessons.forget()
    assert [box.label for box in session.training_set()[1].on(plane(3))] == ["a", "b", "b"]
    found = masks(session)[plane(3)]
    assert found.dtype == np.uint8
    assert np.array_equal(found > 0, np.stack([a.plane(plane(3)), b.plane(plane(3))]) > 0)
    assert (found[0] & found[1]).any(), "they do overlap"
    session.viewer.layers.remove(b.layer)
    assert [box.label for box in session.training_set()[1].on(plane(3))] == ["a"]
    assert not session.training_set()[1].planes[plane(3)].complete, "of the other class nothing is known now"


def test_a_layer_that_is_gone_or_has_other_data_teaches_nothing(session: Session) -> None:
    session.set_status(plane(3), "accepted")
    layer = newest(session).layer
    data = layer.data
    layer.data = np.zeros((2, 40, 50), np.uint32)
    assert not masks(session)
    layer.data = data
    assert masks(session)
    session.viewer.layers.remove(layer)
    assert not masks(session)


def test_a_renamed_image_keeps_what_was_accepted(session: Session) -> None:
    session.set_status(plane(3), "accepted")
    session.viewer.layers["stack"].name = "other"
    images, boxes = session.training_set()
    assert {p.image for p in boxes.planes} == {"other"}
    assert all(p in images for p in session.lessons.masks(boxes, session.drawn))


class Jobs:
    """Takes work and does none of it."""

    stop_asked = Signal()
    leaving = Signal()

    def __init__(self) -> None:
        self.work: list[Any] = []

    def start(self, name: str, work: Any, **_: Any) -> None:
        self.work.append(work)

    def running(self, name: str) -> bool:
        return False


def test_a_training_is_given_the_masks(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_boxprompt import api
    from napari_boxprompt.gui.preview import Preview
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.work import Encoders

    session.set_status(plane(3), "accepted")
    session.training_set()
    newest(session).plane(plane(3))[4:8, 0:4] = 0  # after it was looked at
    jobs: Any = Jobs()
    encoders = Encoders(lambda: pytest.fail("nothing is encoded here"))
    preview = Preview(session, jobs, encoders, lambda: ("litemedsam", "cpu"))
    trainer = Trainer(session, jobs, encoders, preview)
    trainer.start(make_config("fast"))
    assert trainer.last is not None
    assert [box.label for box in trainer.last.boxes.on(plane(3))] == ["b"]
    given: dict[str, Any] = {}

    def start_training(*_: Any, **kwargs: Any) -> Any:
        given.update(kwargs)
        raise BoxError("enough")

    monkeypatch.setattr(api, "start_training", start_training)
    assert session.trained is not None
    encoder = session.trained.encoder
    monkeypatch.setattr(encoders, "get", lambda *_: encoder)
    with pytest.raises(BoxError, match="enough"):
        list(jobs.work[-1](threading.Event()))
    assert np.count_nonzero(given["masks"][plane(3)]) == 16


def test_what_was_accepted_is_in_the_next_result_too(session: Session) -> None:
    """A later prediction never takes the place of what the user has accepted or painted."""
    old = newest(session)
    old.plane(plane(3))[4:8, 0:4] = 0
    old.plane(plane(3))[20:30, 20:30] = 900
    session.set_status(plane(3), "accepted")
    session.set_status(plane(4), "rejected")
    before = old.layer.data.copy()
    new = predict(session)
    new.renew()
    assert new is not old
    np.testing.assert_array_equal(old.layer.data, before)
    np.testing.assert_array_equal(new.plane(plane(3)) > 0, old.plane(plane(3)) > 0)
    assert new.status == {plane(3): "accepted"}, "a new model is given a new look at what was rejected"
    assert set(new.doubts) == {plane(z) for z in range(6)}
    table = new.layer.features.set_index("index")
    there = np.setdiff1d(np.unique(new.layer.data), [0])
    assert set(there) <= set(table.index), "every object has a row"
    assert table.index.is_unique
    painted = int(new.plane(plane(3))[25, 25])
    assert table.loc[painted, ["class", "area"]].tolist() == ["a", 100]
    third = predict(session)
    np.testing.assert_array_equal(third.plane(plane(3)) > 0, old.plane(plane(3)) > 0)
    assert masks(session)[plane(3)][25, 25] == 1


def test_a_plane_that_was_accepted_before_can_be_rejected_in_the_next_result(session: Session) -> None:
    session.set_status(plane(3), "accepted")
    new = predict(session)
    assert session.view is not None
    session.view.show(session.viewer, plane(3))
    Review(session).reject()
    assert new.status == {plane(3): "rejected"}
    assert not masks(session)
