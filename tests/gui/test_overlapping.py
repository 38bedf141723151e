"""Classes that may overlap: a layer for each, and one mask of all of them in the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.test_project_saving import Work, box, folder, plane, reopen, stored, work
from tests.gui.test_results import found, overlapping_on

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.gui.outlined import boxes_from_labels
from napari_boxprompt.gui.results import Result
from napari_boxprompt.gui.review import Review
from napari_boxprompt.project import Project, project_lessons

__all__ = ["folder", "reopen", "work"]

pytestmark = pytest.mark.usefixtures("qtbot")


@pytest.fixture
def overlapping(folder: Path, reopen: Callable[[], Work]) -> Callable[[], Work]:
    with Project.open(folder) as project:
        project.set_classes(["a", "b"], exclusive=False)
    return reopen


def predicted(work: Work, trained: TrainedModel, planes: range = range(4)) -> tuple[Result, ...]:
    """What a model of classes that overlap has found."""
    work.boxes.add_boxes(BoxSet((box(0), box(5, "b")), classes=("a", "b")))
    work.session.set_model(
        replace(trained, model=replace(trained.model, classes=("a", "b"), exclusive=False))
    )
    return more(work, planes)


def more(work: Work, planes: range) -> tuple[Result, ...]:
    assert work.session.view is not None
    results = work.session.new_results([work.session.view])["stack"]
    for z in planes:
        for result in results:
            result.add(overlapping_on(z))
        work.session.results.filled.emit(results[-1], plane(z))
    work.session.result_changed.emit()
    return tuple(results)


def shown(work: Work) -> tuple[Result, Result]:
    """The layers of class a and b that the project has brought back."""
    assert work.session.result is not None
    a, b = work.session.result.siblings
    assert (a.only, b.only) == ("a", "b")
    return a, b


def pixels(results: tuple[Result, ...], z: int) -> np.ndarray:
    return np.stack([result.plane(plane(z)) > 0 for result in results])


def test_all_of_it_comes_back_and_teaches(overlapping: Callable[[], Work], trained: TrainedModel) -> None:
    work = overlapping()
    results = predicted(work, trained)
    work.session.set_status(plane(1), "accepted")
    work.session.set_status(plane(2), "rejected")
    results[0].layer.data[3, :3, :3] = 2  # a number that an object of the other class has
    work.autosave._painted.note_strokes(results[0], [plane(3)])
    kept = {z: pixels(results, z) for z in range(4)}
    work.close()

    again = overlapping()
    assert not again.project.exclusive
    assert not again.boxes.exclusive
    statuses = [again.project.status(stored(z)) for z in range(4)]
    assert statuses == ["boxed", "accepted", "rejected", "corrected"]
    back = shown(again)
    for z in range(4):
        np.testing.assert_array_equal(pixels(back, z), kept[z], str(z))
    for result in back:
        assert result.status == {plane(1): "accepted", plane(2): "rejected"}
        assert {result.class_of(int(n)) for n in np.unique(result.layer.data) if n} == {result.only}
    _, boxes = again.session.training_set()
    assert not boxes.exclusive
    assert boxes.planes[plane(1)].complete
    masks = again.session.lessons.masks(boxes, again.session.drawn)
    np.testing.assert_array_equal(masks[plane(1)] > 0, kept[1])
    again.close()

    with Project.open(again.folder) as project:
        lessons = project_lessons(project)
        assert {tuple(p.index) for p in lessons.masks} == {(1,), (3,)}
        for z in (1, 3):
            np.testing.assert_array_equal(lessons.masks[stored(z)] > 0, kept[z])
        assert sorted(b.label for b in lessons.boxes.on(stored(3))) == ["a", "a", "b"]


def test_the_layer_of_any_class_is_reviewed(overlapping: Callable[[], Work], trained: TrainedModel) -> None:
    work = overlapping()
    a, b = predicted(work, trained)
    review, layers = Review(work.session), work.viewer.layers
    layers.selection.active = a.layer
    review.go(plane(1))
    review.edit()
    assert (layers.selection.active, a.layer.mode, b.layer.mode) == (a.layer, "paint", "pan_zoom")
    review.accept()
    assert a.status == b.status == {plane(1): "accepted"}
    assert layers.selection.active == a.layer
    layers.selection.active = work.boxes.shapes
    review.go(plane(1))
    assert layers.selection.active == b.layer


def test_objects_of_all_classes_are_counted(overlapping: Callable[[], Work], trained: TrainedModel) -> None:
    results = predicted(overlapping(), trained)
    assert [result.count for result in results] == [8, 8]


def test_objects_of_all_classes_become_boxes(overlapping: Callable[[], Work], trained: TrainedModel) -> None:
    work = overlapping()
    a, _ = predicted(work, trained)
    work.viewer.dims.set_current_step(0, 1)
    work.viewer.layers.selection.active = work.boxes.shapes
    work.boxes.exclusive = True
    assert boxes_from_labels(work.session) == 2
    assert not work.boxes.exclusive, "or a training would take the pixels of the one from the other"
    assert {(x.label, x.as_tuple()) for x in work.boxes.boxset.on(plane(1))} == {
        ("a", (4, 4, 20, 20)),
        ("b", (8, 8, 30, 30)),
    }
    work.viewer.dims.set_current_step(0, 2)
    for place, label in (((2, 25, 25), "b"), ((2, 5, 5), "a")):
        work.viewer.cursor.position = place
        assert boxes_from_labels(work.session, one=True) == 1
        assert work.boxes.boxset.on(plane(2))[-1].label == label
    work.viewer.layers.selection.active = a.layer  # whose class a painted object has, in no table yet
    a.plane(plane(3))[...] = 0
    a.plane(plane(3))[30:35, 30:35] = a.layer.selected_label = 90
    work.viewer.dims.set_current_step(0, 3)
    work.boxes.choose_class(1)
    assert boxes_from_labels(work.session) == 1
    assert work.boxes.boxset.on(plane(3))[-1].label == "a"


def test_opening_writes_nothing(overlapping: Callable[[], Work], trained: TrainedModel) -> None:
    work = overlapping()
    predicted(work, trained)
    work.session.set_status(plane(1), "accepted")
    work.close()
    before = {path: path.read_bytes() for path in (work.folder / "masks").rglob("*") if path.is_file()}
    again = overlapping()
    again.session.result_changed.emit()
    assert (again.folder / "journal.jsonl").read_bytes() == b""
    again.close()
    assert before == {p: p.read_bytes() for p in (work.folder / "masks").rglob("*") if p.is_file()}


def test_a_stroke_in_one_layer_leaves_the_others(
    overlapping: Callable[[], Work], trained: TrainedModel
) -> None:
    work = overlapping()
    a, b = predicted(work, trained)
    for layer in (a, b):
        layer.layer.data[1, 35:, 40:] = 7
        work.autosave._painted.note_strokes(layer, [plane(1)])
    a.layer.data[1, :2, :2] = 8
    work.autosave._painted.note_strokes(a, [plane(1)])
    mask = work.project.mask(stored(1))
    assert mask is not None
    np.testing.assert_array_equal(mask.split(("a", "b")).labels > 0, pixels((a, b), 1))
    numbers = [set(np.unique(layer)) - {0} for layer in mask.labels]
    assert not numbers[0] & numbers[1], "every object of a plane has a number of its own"
    work.crash()
    np.testing.assert_array_equal(pixels(shown(overlapping()), 1), pixels((a, b), 1))


def test_the_next_prediction_keeps_what_was_accepted_or_painted(
    overlapping: Callable[[], Work], trained: TrainedModel
) -> None:
    work = overlapping()
    a, b = predicted(work, trained)
    a.layer.data[1, 4:20, 4:20] = 0  # the only object of its class is rubbed out
    work.autosave._painted.note_strokes(a, [plane(1)])
    work.session.set_status(plane(1), "accepted")
    b.layer.data[2, :5, :5] = 9
    work.autosave._painted.note_strokes(b, [plane(2)])
    kept = {z: pixels((a, b), z) for z in (1, 2)}
    assert work.session.trained is not None
    # Another model, of classes that exclude each other: the work does not fit into one layer.
    work.session.set_model(replace(trained, model=replace(trained.model, classes=("b",))))
    assert work.session.view is not None
    new = work.session.new_results([work.session.view])["stack"]
    assert [result.only for result in new] == ["b", "a"]
    for z in range(4):
        for result in new:
            result.add(found(z, ["b"]))
        work.session.results.filled.emit(new[-1], plane(z))
    work.session.result_changed.emit()
    for z in (1, 2):
        np.testing.assert_array_equal(pixels(tuple(new[::-1]), z), kept[z])
        mask = work.project.mask(stored(z))
        assert mask is not None
        np.testing.assert_array_equal(mask.split(("a", "b")).labels > 0, kept[z])
    assert pixels(tuple(new), 3)[0].any()
    assert not pixels(tuple(new), 3)[1].any(), "the model knows nothing of the other class"
    assert set(work.session.lessons.accepted()) == {plane(1)}
    assert new[-1].status == {plane(1): "accepted"}


def test_a_class_without_a_layer_stays_in_the_project(
    overlapping: Callable[[], Work], trained: TrainedModel
) -> None:
    work = overlapping()
    a, b = predicted(work, trained)
    work.session.set_status(plane(1), "accepted")
    kept = pixels((a, b), 1)
    work.close()
    again = overlapping()
    a, b = shown(again)
    again.viewer.layers.remove(b.layer)
    a.layer.data[1, :5, :5] = 50
    again.autosave._painted.note_strokes(a, [plane(1)])
    again.session.result_changed.emit()
    kept[0] |= pixels((a,), 1)[0]
    again.close()
    last = overlapping()
    assert last.project.status(stored(1)) == "accepted"
    assert last.project.status(stored(3)) == "predicted"
    np.testing.assert_array_equal(pixels(shown(last), 1), kept)
    assert pixels(shown(last), 3)[1].any(), "a layer that is deleted deletes nothing in the project"


def test_masks_of_one_layer_are_shown_class_by_class(overlapping: Callable[[], Work]) -> None:
    work = overlapping()
    labels = np.zeros((40, 50), int)
    labels[:5], labels[5:9], labels[20:] = 1, 2, 3
    work.project.accept(stored(1), labels, {1: "a", 2: "b", 3: "a"})
    work.close()
    again = overlapping()
    a, b = shown(again)
    np.testing.assert_array_equal(a.plane(plane(1)), np.where(labels == 2, 0, labels))
    np.testing.assert_array_equal(b.plane(plane(1)), np.where(labels == 2, 2, 0))
    assert again.project.mask(stored(1)).labels.ndim == 2, "nothing was changed"  # type: ignore[union-attr]


def test_boxes_of_classes_that_overlap_make_the_project_so(work: Work) -> None:
    assert work.project.exclusive
    work.boxes.add_boxes(BoxSet((box(0),), classes=("a", "b"), exclusive=False))
    assert not work.project.exclusive
