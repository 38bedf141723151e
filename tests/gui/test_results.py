"""Predictions as layers, and the way through them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui import results, telling
from napari_boxprompt.gui.layers import PlaneView
from napari_boxprompt.gui.result_book import ResultBook
from napari_boxprompt.gui.results import Result
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.segmenting import Found
from napari_boxprompt.gui.state import Session
from napari_boxprompt.instances import Instance
from napari_boxprompt.prediction import Prediction
from napari_boxprompt.ranking import PlaneScores

COLORS = {"a": (1.0, 0.0, 0.0, 1.0), "b": (0.0, 0.0, 1.0, 1.0)}


def plane(z: int) -> PlaneId:
    return PlaneId("stack", (z,))


def found(z: int, labels: Sequence[str] = ("a",), doubt: float = 0.1) -> Found:
    """Objects of 4 x 4 pixels side by side."""
    numbers = np.zeros((40, 50), np.uint32)
    mask = np.zeros((40, 50), np.uint8)
    objects = []
    for i, label in enumerate(labels):
        numbers[4:8, 6 * i : 6 * i + 4] = i + 1
        mask[4:8, 6 * i : 6 * i + 4] = 1 + list(COLORS).index(label)
        objects.append(Instance(i + 1, label, 16, (4, 6 * i, 8, 6 * i + 4), 0.9))
    probability = np.where(mask > 0, 230, 10).astype(np.uint8)
    prediction = Prediction(plane(z), mask, probability, numbers, tuple(objects))
    return Found(prediction, PlaneScores(plane(z), doubt, 0.0))


def overlapping_on(z: int) -> Found:
    """An object of class a and one of class b that share pixels."""
    labels = np.zeros((2, 40, 50), np.uint32)
    labels[0, 4:20, 4:20], labels[1, 8:30, 8:30] = 1, 2
    objects = (Instance(1, "a", 256, (4, 4, 20, 20), 0.9), Instance(2, "b", 484, (8, 8, 30, 30), 0.8))
    both = Prediction(plane(z), (labels > 0).astype(np.uint8), labels.astype(np.uint8), labels, objects)
    return Found(both, PlaneScores(plane(z), 0.2, 0.0))


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((6, 40, 50)), name="stack", scale=(3, 0.5, 0.5), units=("um", "um", "um"))
    return viewer


@pytest.fixture
def view(viewer: ViewerModel) -> PlaneView:
    return PlaneView.from_viewer(viewer.layers["stack"], viewer)


def test_objects_of_all_planes_have_numbers_of_their_own(viewer: ViewerModel, view: PlaneView) -> None:
    result = Result(viewer, view, COLORS)
    result.add(found(1, ["a", "b"]))
    result.add(found(4, ["b"]))
    result.add(found(5, []))
    result.renew()
    assert set(np.unique(result.plane(plane(1)))) == {0, 1, 2}
    assert set(np.unique(result.plane(plane(4)))) == {0, 3}
    table = result.layer.features
    assert list(table["index"]) == [0, 1, 2, 3]
    assert list(table["class"]) == ["", "a", "b", "b"]
    assert list(table["plane"]) == ["", "1", "1", "4"]
    assert list(table["area"]) == [0, 16, 16, 16]
    assert result.count == 3
    assert set(result.doubts) == {plane(1), plane(4), plane(5)}


def test_objects_have_the_hue_of_their_class(viewer: ViewerModel, view: PlaneView) -> None:
    result = Result(viewer, view, COLORS)
    result.add(found(1, ["a", "a", "b"]))
    result.renew()
    first, second, third = (np.asarray(result.layer.get_color(i))[:3] for i in (1, 2, 3))
    assert first[0] > first[2]
    assert second[0] > second[2]
    assert third[2] > third[0]
    assert not np.allclose(first, second), "neighbours can be told apart"


def test_very_many_objects_of_two_classes_are_shown_without_numba(
    viewer: ViewerModel, view: PlaneView, said: list[str]
) -> None:
    from napari.utils.colormap_backend import ColormapBackend
    from napari.utils.colormaps import _accelerated_cmap as module

    before = module.COLORMAP_BACKEND
    module.set_colormap_backend(ColormapBackend.pure_python)
    try:
        result = Result(viewer, view, COLORS)
        result.plane(plane(0))[0, 0] = 65_600  # painted: the numbers of what is found are above
        result.reserving()
        result.add(found(1, ["a", "b"]))
        result.renew()
        result.add(found(2, ["b"]))
        result.renew()
    finally:
        module.set_colormap_backend(before)
    assert set(np.unique(result.plane(plane(1)))) == {0, 65_601, 65_602}
    assert result.count == 3
    assert len(said) == 1, "once is enough"
    assert "pip install numba" in said[0]


@pytest.mark.parametrize(("cost", "renewals"), [(0.01, 7), (0.45, 2)])
def test_a_renewal_that_takes_long_comes_seldom(
    viewer: ViewerModel, view: PlaneView, monkeypatch: pytest.MonkeyPatch, cost: float, renewals: int
) -> None:
    now, real, seen = [100.0], results.class_colormap, list[float]()

    def slow(*given: Any) -> Any:
        seen.append(now[0])
        now[0] += cost
        return real(*given)

    monkeypatch.setattr(results.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(results, "class_colormap", slow)
    result = Result(viewer, view, COLORS)
    for step in range(7):
        result.add(found(step % 6))
        now[0] += 1.01
    assert len(seen) == renewals


def test_a_result_does_not_take_the_tool_out_of_the_hand(viewer: ViewerModel, view: PlaneView) -> None:
    active = viewer.add_shapes(name="in hand")
    Result(viewer, view, COLORS)
    assert viewer.layers.selection.active == active


def test_result_lies_on_the_image(viewer: ViewerModel, view: PlaneView) -> None:
    result = Result(viewer, view, COLORS)
    image = viewer.layers["stack"]
    np.testing.assert_allclose(result.layer.extent.world, image.extent.world)
    assert result.layer.units == image.units
    assert result.pixel_size() == {
        "z": (3.0, "micrometer"),
        "y": (0.5, "micrometer"),
        "x": (0.5, "micrometer"),
    }


def test_pixels_keep_their_size_beside_an_image_in_another_unit(viewer: ViewerModel) -> None:
    session = Session(viewer)
    assert session.view is not None
    result = Result(viewer, session.view, COLORS)
    before = result.pixel_size()
    viewer.add_image(np.zeros((6, 40, 50)), name="fine", scale=(3000, 500, 500), units=("nm",) * 3)
    assert [str(unit) for unit in result.layer.units] == ["nanometer"] * 3, "so that it can be painted on"
    assert result.pixel_size() == before
    assert before["y"] == (0.5, "micrometer")


def test_overlapping_classes_have_layers_of_their_own(
    viewer: ViewerModel, view: PlaneView, trained: Any
) -> None:
    model = dataclasses.replace(trained.model, classes=("a", "b"), exclusive=False)
    book = ResultBook(viewer)
    results = book.take([view], model, COLORS)["stack"]
    for result in results:
        result.add(overlapping_on(1))
        result.renew()
    assert [result.layer.name for result in results] == ["stack a", "stack b"]
    assert [list(result.layer.features["class"]) for result in results] == [["", "a"], ["", "b"]]
    assert [int((result.plane(plane(1)) > 0).sum()) for result in results] == [256, 484]


def test_one_model_fills_one_layer_and_another_one_begins_its_own(
    viewer: ViewerModel, view: PlaneView, trained: Any
) -> None:
    book, model = ResultBook(viewer), trained.model
    (first,) = book.take([view], model, COLORS)["stack"]
    first.add(found(1))
    assert book.take([view], model, COLORS)["stack"] == [first]
    first.add(found(2, ["a", "b"]))
    first.renew()
    assert first.layer.visible
    (second,) = book.take([view], dataclasses.replace(model), COLORS)["stack"]
    second.add(found(1))
    assert second is not first
    assert first.plane(plane(2)).any()
    assert not first.layer.visible
    assert book.newest is second
    viewer.layers.remove(second.layer)
    assert book.forget(second.layer)
    assert book.newest is first


def test_a_plane_predicted_again_takes_the_place_of_its_prediction(
    viewer: ViewerModel, view: PlaneView, trained: Any
) -> None:
    (result,) = ResultBook(viewer).take([view], trained.model, COLORS)["stack"]
    result.add(found(1, ["a", "b"]))
    result.add(found(2, ["a"]))
    result.status[plane(1)] = "rejected"
    result.add(found(1, ["b"], doubt=0.7))
    result.renew()
    assert list(result.layer.features["class"]) == ["", "a", "b"]
    assert result.counts[plane(1)].objects == 1
    assert result.count == 2
    assert set(np.unique(result.plane(plane(1)))) == {0, result.layer.features["index"].iloc[2]}
    assert plane(1) not in result.status, "the verdict was about another prediction"
    assert result.doubts[plane(1)] == 0.7


@pytest.mark.parametrize("by", ["brush", "script", "rubber"])
def test_what_the_user_has_changed_survives_every_prediction(
    viewer: ViewerModel, view: PlaneView, trained: Any, by: str
) -> None:
    book, model = ResultBook(viewer), trained.model
    (result,) = book.take([view], model, COLORS)["stack"]
    for z in (1, 2):
        result.add(found(z))
    viewer.dims.set_current_step(0, 1)
    told: list[bool] = []
    book.corrected.connect(lambda: told.append(True))
    if by == "brush":
        result.layer.paint((1, 30, 30), 7)
        assert told == [True]
        result.layer.paint((1, 31, 31), 7)
        assert told == [True], "once for a plane"
    elif by == "script":
        result.plane(plane(1))[30:34, 30:34] = 7
    else:
        result.plane(plane(1))[...] = 0
    kept = result.plane(plane(1)).copy()
    result.add(found(1, ["a", "b"]))
    np.testing.assert_array_equal(result.plane(plane(1)), kept)
    assert result.agreement[plane(1)] < 1
    assert book.work() == {plane(1): result}
    for _ in range(2):
        (newer,) = book.take([view], dataclasses.replace(model), COLORS)["stack"]
        for z in (1, 2):
            newer.add(found(z, ["b"]))
        np.testing.assert_array_equal(newer.plane(plane(1)) > 0, kept > 0)
        assert newer.plane(plane(2)).any()


def test_what_was_undone_or_rejected_is_predicted_again(
    viewer: ViewerModel, view: PlaneView, trained: Any
) -> None:
    (result,) = ResultBook(viewer).take([view], trained.model, COLORS)["stack"]
    for z in (1, 2):
        result.add(found(z))
    for z in (1, 2, 3):  # nothing was predicted on the last of them
        viewer.dims.set_current_step(0, z)
        result.layer.paint((z, 30, 30), 7)
    result.status[plane(2)] = "rejected"
    for z in (1, 3):
        result.plane(plane(z))[result.plane(plane(z)) == 7] = 0
    for z in (1, 2, 3):
        result.add(found(z, ["a", "b"]))
        assert len(np.unique(result.plane(plane(z)))) == 3


def test_painted_numbers_are_not_given_away(viewer: ViewerModel, view: PlaneView, trained: Any) -> None:
    book, model = ResultBook(viewer), trained.model
    (result,) = book.take([view], model, COLORS)["stack"]
    result.add(found(1, ["a"]))
    result.plane(plane(1))[20:24, 20:24] = 2  # painted, and not accepted
    assert book.take([view], model, COLORS)["stack"] == [result]
    result.add(found(2, ["b"]))
    result.renew()
    assert set(np.unique(result.plane(plane(2)))) == {0, 3}
    assert result.class_of(2) is None, "what was painted has no class until it is accepted"


def test_only_what_is_predicted_is_looked_at_for_work_where_a_layer_is_filled_up(
    viewer: ViewerModel, view: PlaneView, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(viewer)
    session.set_model(trained)
    (result,) = session.new_results([view])["stack"]
    for z in range(6):
        result.add(found(z))
    result.plane(plane(2))[30:34, 30:34] = 50  # no event tells of these two
    result.plane(plane(4))[30:34, 30:34] = 60
    viewer.dims.set_current_step(0, 1)
    result.layer.paint((1, 30, 30), 70)
    real, seen = results.checksum, list[int]()

    def counted(labels: np.ndarray) -> int:
        seen.append(int(labels.max()))
        return real(labels)

    monkeypatch.setattr(results, "checksum", counted)
    assert session.new_results([view], [plane(0), plane(2)])["stack"] == [result]
    assert sorted(seen) == [1, 50, 70], "planes 0 and 2, which are predicted, and 1, where a stroke was seen"
    assert [result.class_of(number) is not None for number in (50, 60, 70)] == [True, False, True]
    session.set_model(dataclasses.replace(trained, model=dataclasses.replace(trained.model)))
    (newer,) = session.new_results([view], [plane(0)])["stack"]
    assert newer is not result
    kept = [z for z in range(6) if newer.plane(plane(z)).any()]
    assert kept == [1, 2, 4], "a new layer has all of the user's work"
    assert result.class_of(60) is not None


def test_a_renamed_image_keeps_its_result(viewer: ViewerModel, view: PlaneView, trained: Any) -> None:
    session = Session(viewer)
    session.set_model(trained)
    (result,) = session.new_results([view])["stack"]
    result.add(found(1))
    session.set_status(plane(1), "accepted")
    viewer.layers["stack"].name = "renamed"
    result.add(found(2))  # a prediction that began under the old name
    assert set(result.doubts) == {PlaneId("renamed", (1,)), PlaneId("renamed", (2,))}
    assert result.status == {PlaneId("renamed", (1,)): "accepted"}
    assert session.plane is not None
    assert session.plane.image == "renamed"


@pytest.fixture
def session(viewer: ViewerModel, trained: Any, monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session(viewer)
    session.set_model(trained)
    assert session.view is not None
    [plane(z) for z in range(4)]
    (result,) = session.new_results([session.view])["stack"]
    for z, doubt in enumerate((0.1, 0.4, 0.3, 0.2)):
        result.add(found(z, doubt=doubt))
    viewer.dims.set_current_step(0, 0)
    said: list[str] = []
    monkeypatch.setattr(telling, "show_error", said.append)
    session.said = said  # type: ignore[attr-defined]
    return session


def test_review_goes_from_doubt_to_certainty_and_back(session: Session) -> None:
    review = Review(session)
    seen = []
    for _ in range(3):
        review.next()
        seen.append(session.plane)
    assert seen == [plane(1), plane(2), plane(3)]
    review.previous()
    assert session.plane == plane(2)


def test_review_ends_when_every_plane_was_judged(session: Session) -> None:
    review, result = Review(session), session.result
    assert result is not None
    review.next()
    for _ in range(4):
        review.accept()
    assert set(result.status.values()) == {"accepted"}
    assert not review.order.waiting()
    review.next()
    assert "Every plane has been accepted" in session.said[-1]  # type: ignore[attr-defined]


def test_rejected_planes_wait_at_the_end_until_they_are_accepted(session: Session) -> None:
    review, result = Review(session), session.result
    assert result is not None
    review.go(plane(1))
    review.reject()
    assert result.status == {plane(1): "rejected"}
    assert session.plane == plane(2)
    assert review.order.waiting() == [plane(2), plane(3), plane(0), plane(1)]
    for _ in range(3):
        review.accept()
    assert session.plane == plane(1), "back to what was rejected"
    review.reject()
    assert session.plane == plane(1)
    assert not session.said  # type: ignore[attr-defined]
    review.next()
    assert "Only this plane is left" in session.said[-1]  # type: ignore[attr-defined]
    review.accept()
    assert set(result.status.values()) == {"accepted"}
    assert not review.order.waiting()


def test_a_plane_without_prediction_cannot_be_judged(session: Session) -> None:
    session.viewer.dims.set_current_step(0, 5)
    Review(session).accept()
    assert "no prediction" in session.said[-1]  # type: ignore[attr-defined]


def test_edit_takes_the_brush_to_the_result(session: Session) -> None:
    assert session.result is not None
    Review(session).edit()
    assert session.viewer.layers.selection.active == session.result.layer
    assert session.result.layer.mode == "paint"


def test_the_brush_begins_a_new_object_on_the_next_plane(session: Session) -> None:
    """A stroke there must not become part of what was painted on the plane before."""
    assert session.result is not None
    layer, review = session.result.layer, Review(session)
    review.edit()
    painted = layer.selected_label
    layer.paint((0, 20, 20), painted)
    review.next()
    assert layer.mode == "paint"
    assert layer.selected_label == painted + 1
    layer.mode = "pan_zoom"
    layer.selected_label = 1
    review.previous()
    assert layer.selected_label == 1, "what somebody has picked"


def test_edit_begins_with_a_new_object(session: Session) -> None:
    """A stroke beside object 1 must not become part of it."""
    assert session.result is not None
    layer = session.result.layer
    numbers = set(np.unique(layer.data).tolist())
    assert layer.selected_label in numbers, "as napari has it"
    Review(session).edit()
    assert layer.selected_label not in numbers
    layer.paint((0, 20, 20), layer.selected_label)
    Review(session).edit()
    assert layer.selected_label == max(numbers) + 2, "and so does the next edit"


def test_a_layer_with_other_data_takes_no_more_objects(viewer: ViewerModel, view: PlaneView) -> None:
    result = Result(viewer, view, COLORS)
    result.add(found(1))
    for other in (np.ones((2, 40, 50), np.uint32), np.ones((6, 40, 50), np.uint8)):
        result.layer.data = other
        with pytest.raises(BoxPromptError, match="was given other data"):
            result.add(found(2))
        assert (result.layer.data == 1).all(), "what the user put there stays"
    result.layer.data = np.zeros((6, 40, 50), np.int64)
    result.add(found(2))
    assert result.layer.data[2].any()


def test_a_layer_with_other_data_is_not_filled_up(viewer: ViewerModel, view: PlaneView, trained: Any) -> None:
    book = ResultBook(viewer)
    (old,) = book.take([view], trained.model, COLORS)["stack"]
    old.layer.data = np.ones((2, 40, 50), np.uint32)
    (new,) = book.take([view], trained.model, COLORS)["stack"]
    assert new.layer != old.layer


def test_objects_are_counted_by_plane(viewer: ViewerModel, view: PlaneView) -> None:
    result = Result(viewer, view, COLORS)
    result.add(found(1, ["a", "a", "b"]))
    result.add(found(2, []))
    assert result.counts == {plane(1): (3, 0), plane(2): (0, 0)}


def test_a_new_result_leaves_all_selected_layers_selected(viewer: ViewerModel, view: PlaneView) -> None:
    other = viewer.add_points(np.zeros((1, 3)))
    chosen = {viewer.layers["stack"], other}
    viewer.layers.selection = chosen
    Result.of_each_class(viewer, view, COLORS)
    assert set(viewer.layers.selection) == chosen
    viewer.layers.selection.clear()
    last = Result(viewer, view, COLORS)
    assert viewer.layers.selection.active == last.layer, "with nothing in hand, its keys are at hand"
