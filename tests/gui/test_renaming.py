"""A class that is renamed or recoloured in the boxes is so in results and models, there and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from tests.gui.test_results import found, overlapping_on, plane
from tests.gui.test_rounds import FakeTrainer

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.jobs import Jobs
from napari_boxprompt.gui.renaming import Renaming
from napari_boxprompt.gui.results import Result
from napari_boxprompt.gui.rounds import RoundBook
from napari_boxprompt.gui.state import Session

RED = (1.0, 0.0, 0.0, 1.0)


def boxed(viewer: ViewerModel, session: Session, name: str, *labels: str) -> BoxLayer:
    """Add an image with a box of each class on planes 0 and 1."""
    layer = viewer.add_image(np.zeros((6, 40, 50)), name=name)
    session.choose_image(layer)
    boxes = session.new_boxes_layer()
    drawn = (Box(3, 3, 13, 13, PlaneId(name, (z,)), label) for z in range(2) for label in labels)
    boxes.add_boxes(BoxSet(tuple(drawn), classes=labels))
    return boxes


@pytest.fixture
def session() -> Session:
    viewer = ViewerModel()
    session = Session(viewer)
    boxed(viewer, session, "stack", "a", "b")
    return session


def boxes_of(session: Session) -> BoxLayer:
    assert session.boxes is not None
    return session.boxes


def classes_of(session: Session) -> tuple[str, ...]:
    assert session.trained is not None
    return session.trained.model.classes


def predict(session: Session, *, exclusive: bool = True) -> list[Result]:
    """What the model finds: on planes 2 and 3 one object of each class."""
    assert session.view is not None
    results = session.new_results([session.view])[session.view.name]
    for z in (2, 3):
        for result in results:
            result.add(found(z, ["a", "b"]) if exclusive else overlapping_on(z))
    return results


@pytest.fixture
def result(session: Session, trained: Any) -> Result:
    """A result with an accepted plane, of a model of both classes."""
    limits = {"object_area": {"a": (1, 2, 3), "b": (4, 5, 6)}, "most_objects": {"a": 1}}
    session.set_model(replace(trained, model=replace(trained.model, classes=("a", "b"), **limits)))
    (result,) = predict(session)
    result.renew()
    session.set_status(plane(2), "accepted")
    return result


def names_in(result: Result) -> list[str]:
    return list(result.layer.features["class"][1:])


def test_a_renamed_class_is_the_same_class_everywhere(session: Session, result: Result) -> None:
    session.training_set()  # which remembers the boxes of accepted planes
    heard: list[Renaming] = []
    session.renamed.connect(heard.append)
    boxes_of(session).rename_class(0, "nucleus")
    assert [(said.old, said.new) for said in heard] == [("a", "nucleus")]
    assert names_in(result) == ["nucleus", "b", "nucleus", "b"]
    assert result.known == result.classes == tuple(result.colors) == ("nucleus", "b")
    assert result.color_of(1) == boxes_of(session).classes.color_of("nucleus")[:3]
    model = session.trained.model if session.trained else None
    assert model is not None
    assert (model.classes, model.most_objects) == (("nucleus", "b"), {"nucleus": 1})
    assert model.object_area == {"nucleus": (1, 2, 3), "b": (4, 5, 6)}
    _, boxes = session.training_set()
    assert boxes.classes == model.classes, "a training can go on from its weights"
    mask = session.lessons.masks(boxes, session.drawn)[plane(2)]
    assert (mask[5, 1], mask[5, 7]) == (1, 2)


def test_undo_and_redo_of_a_new_name(session: Session, result: Result) -> None:
    boxes = boxes_of(session)
    boxes.rename_class(0, "nucleus")
    boxes.rename_class(0, "cell")
    for step, name in ((boxes.undo, "nucleus"), (boxes.undo, "a"), (boxes.redo, "nucleus")):
        step()
        assert (*classes_of(session), *result.known) == (name, "b") * 2
        assert names_in(result) == [name, "b"] * 2
        assert session.training_set()[1].classes == (name, "b")


def test_other_gestures_rename_nothing(session: Session, result: Result) -> None:
    boxes, heard = boxes_of(session), []
    session.renamed.connect(heard.append)
    boxes.add_class("c")
    boxes.undo()
    boxes.remove_class(0)
    boxes.undo()
    boxes.shapes.selected_data = {0}
    boxes.shapes.mode = "select"
    boxes.choose_class(1)
    boxes.undo()
    boxes.delete([0])
    boxes.undo()
    assert not heard
    assert names_in(result) == ["a", "b"] * 2


def test_boxes_from_a_file_in_a_new_layer_rename_nothing(trained: Any) -> None:
    viewer = ViewerModel()
    session = Session(viewer)
    boxes = boxed(viewer, session, "stack", "nucleus")
    session.set_model(replace(trained, model=replace(trained.model, classes=("nucleus",))))
    boxes.undo()
    assert boxes.classes.names == ("object",)
    assert classes_of(session) == ("nucleus",)


def test_a_prediction_goes_on_in_its_layer_under_the_new_name(session: Session, result: Result) -> None:
    boxes_of(session).rename_class(0, "b2")
    result.add(found(4, ["a", "b"]))  # it began before
    result.renew()
    assert names_in(result)[4:] == ["b2", "b"]
    assert predict(session) == [result], "the same model has made it"


def test_names_that_change_places(session: Session, result: Result) -> None:
    boxes = boxes_of(session)
    for index, name in ((0, "c"), (1, "a"), (0, "b")):
        boxes.rename_class(index, name)
    result.add(found(4, ["a", "b"]))  # it began before
    result.renew()
    assert names_in(result) == ["b", "a"] * 3
    assert classes_of(session) == ("b", "a")
    result.reserving().add(found(5, ["a", "b"]))  # of the model as it is called now
    result.renew()
    assert names_in(result)[6:] == ["a", "b"]


def test_classes_that_overlap(session: Session, trained: Any) -> None:
    boxes = boxes_of(session)
    boxes.add_boxes(BoxSet(exclusive=False))
    model = replace(trained.model, classes=("a", "b"), exclusive=False)
    session.set_model(replace(trained, model=model))
    first, second = predict(session, exclusive=False)
    session.set_status(plane(2), "accepted")
    second.layer.name = "mine"
    boxes.rename_class(0, "nucleus")
    boxes.rename_class(1, "cell")
    assert [(one.only, one.layer.name) for one in (first, second)] == [
        ("nucleus", "stack nucleus"),
        ("cell", "mine"),
    ]
    for one in (first, second):
        assert one.known == one.classes == tuple(one.colors) == ("nucleus", "cell")
        one.add(overlapping_on(4))  # it began before
        assert np.count_nonzero(one.plane(plane(4))) == np.count_nonzero(one.plane(plane(3)))
        assert set(names_in(one)) == {one.only}
    _, learnt = session.training_set()
    assert learnt.classes == classes_of(session) == ("nucleus", "cell")
    mask = session.lessons.masks(learnt, session.drawn)[plane(2)]
    assert (mask.reshape(2, -1).sum(axis=1) == [256, 484]).all()


def test_a_name_that_another_layer_has_is_refused_before_anything_changes(
    session: Session, trained: Any
) -> None:
    session.set_model(replace(trained, model=replace(trained.model, classes=("a", "b"), exclusive=False)))
    first, second = predict(session, exclusive=False)
    boxes, heard = boxes_of(session), []
    session.renamed.connect(heard.append)
    boxes.remove_class(1)
    drawn = boxes.boxset
    with pytest.raises(BoxError, match="class 'b' on 'stack' already"):
        boxes.rename_class(0, "b")
    assert (boxes.classes.names, boxes.boxset) == (("a",), drawn)
    assert not heard
    assert (first.only, second.only, classes_of(session)) == ("a", "b", ("a", "b"))
    assert set(names_in(first)) == {"a"}
    boxes.rename_class(0, "a")
    boxes.rename_class(0, "c")
    assert (first.only, second.only) == ("c", "b"), "other names are free"
    boxes.undo()
    assert (first.only, second.only) == ("a", "b")


def test_what_the_refusal_of_a_name_says_makes_one_class(session: Session, trained: Any) -> None:
    session.set_model(replace(trained, model=replace(trained.model, classes=("a", "b"), exclusive=False)))
    predict(session, exclusive=False)
    boxes = boxes_of(session)
    boxes.remove_class(1)
    boxes.add_class("b")
    boxes.shapes.mode = "select"
    boxes.shapes.selected_data = set(range(boxes.shapes.nshapes))
    boxes.choose_class(1)
    assert {box.label for box in boxes.boxset.boxes} == {"b"}


def test_layers_of_another_image_refuse_a_name_only_where_they_would_follow(
    session: Session, trained: Any
) -> None:
    session.set_model(replace(trained, model=replace(trained.model, classes=("a", "b"), exclusive=False)))
    predict(session, exclusive=False)
    mine = boxes_of(session)
    others = boxed(session.viewer, session, "other", "a")
    others.rename_class(0, "b")
    assert others.classes.names == ("b",), "the boxes of the first image have their own names"
    others.undo()
    mine.delete(range(mine.shapes.nshapes))
    with pytest.raises(BoxError, match="on 'stack'"):
        others.rename_class(0, "b")
    assert others.classes.names == ("a",)


def test_a_name_that_other_boxes_have_stays_with_them(session: Session, result: Result) -> None:
    mine = boxes_of(session)
    others = boxed(session.viewer, session, "other", "a")
    theirs = Result(session.viewer, others.view, result.colors)
    session.results._note(theirs, None)
    mine.rename_class(0, "nucleus")
    assert (result.known, theirs.known) == (("nucleus", "b"), ("a", "b"))
    assert classes_of(session) == ("a", "b")
    session.choose_image(mine.view.layer)
    (again,) = predict(session)
    assert (again is not result, again.known) == (True, ("a", "b")), (
        "what the model says has a layer of its own"
    )
    others.rename_class(0, "nucleus")
    assert theirs.known == again.known == classes_of(session) == ("nucleus", "b"), "now none has it any more"


def test_results_of_images_without_boxes_follow(session: Session, result: Result) -> None:
    boxes = boxes_of(session)
    layer = session.viewer.add_image(np.zeros((6, 40, 50)), name="other")
    theirs = Result(session.viewer, replace(boxes.view, layer=layer), result.colors)
    session.results._note(theirs, None)
    boxes.rename_class(0, "nucleus")
    boxes.recolor_class(0, RED)
    assert theirs.colors["nucleus"] == RED


def test_a_colour_reaches_results_there_and_back(session: Session, result: Result) -> None:
    boxes = boxes_of(session)
    before = result.color_of(1)
    boxes.recolor_class(0, RED)
    assert result.color_of(1) == RED[:3]
    shown = result.layer.colormap.color_dict[1]
    np.testing.assert_allclose(shown, [0.7, 0, 0, 1], atol=0.01)
    assert result.color_of(2) == boxes.classes.color_of("b")[:3]
    boxes.undo()
    assert result.color_of(1) == before


def test_rounds_know_their_models_under_the_new_name(session: Session, trained: Any) -> None:
    previous = replace(trained, model=replace(trained.model, classes=("a", "b")))
    newest = replace(previous)
    trainer = FakeTrainer()
    book = RoundBook(session, cast("Jobs", None), cast("Any", trainer))
    book.restore([], {1: previous, 2: newest})
    session.set_model(newest)
    trainer.started.emit(None)
    boxes_of(session).rename_class(0, "nucleus")
    assert book.current == 2
    assert all(model.model.classes == ("nucleus", "b") for model in book.models.values())
    assert book._before is session.trained, "the next round is judged against it"
    assert book._drawn is not None
    assert book._drawn == session.all_boxes()
