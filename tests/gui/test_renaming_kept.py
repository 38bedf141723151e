"""Classes renamed in a session over a project: its masks and its models have the new name too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from psygnal import Signal
from tests.gui import test_overlapping
from tests.gui.test_overlapping import overlapping
from tests.gui.test_project_saving import Work, box, folder, plane, predicted, reopen, shown, stored, work

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxError

__all__ = ["folder", "overlapping", "reopen", "work"]

pytestmark = pytest.mark.usefixtures("qtbot")


def names(work: Work) -> list[set[str]]:
    """Classes in the mask of each plane of the project."""
    return [set(work.project.mask_classes(stored(z)).values()) for z in range(6)]


@pytest.mark.parametrize("end", ["close", "crash"])
@pytest.mark.parametrize("saved", [False, True], ids=["in the journal", "in files"])
def test_masks_have_the_new_name(work: Work, reopen: Callable[[], Work], end: str, saved: bool) -> None:
    work.boxes.add_boxes(BoxSet((box(0), box(1), box(1, "b"))))
    result = predicted(work)
    work.session.set_status(plane(2), "accepted")
    work.session.set_status(plane(5), "rejected")
    result.layer.paint((3, 30, 30), 99)
    work.autosave._predicted.close()  # what is written one by one
    if saved:
        work.project.save()
    files = {path: path.stat().st_mtime_ns for path in (work.folder / "masks").rglob("*.tif")}
    pixels = result.layer.data.copy()
    work.boxes.rename_class(0, "nucleus")
    assert names(work) == [{"nucleus", "b"}] * 6
    assert work.project.classes == ("nucleus", "b")
    assert work.project.status(stored(3)) == "corrected"
    assert {path: path.stat().st_mtime_ns for path in files} == files, "no pixel has changed"
    getattr(work, end)()

    again = reopen()
    assert names(again) == [{"nucleus", "b"}] * 6
    assert (again.project.classes, again.boxes.classes.names) == (("nucleus", "b"),) * 2
    back = shown(again)
    np.testing.assert_array_equal(back.layer.data > 0, pixels > 0)
    assert back.known == ("nucleus", "b")
    assert set(back.layer.features["class"][1:]) == {"nucleus", "b"}
    assert back.status == {plane(2): "accepted", plane(5): "rejected"}
    assert again.session.training_set()[1].classes == ("nucleus", "b")
    again.boxes.rename_class(0, "cell")
    assert names(again) == [{"cell", "b"}] * 6


def test_undo_of_a_new_name_is_kept(work: Work, reopen: Callable[[], Work]) -> None:
    work.boxes.add_boxes(BoxSet((box(0), box(1, "b"))))
    predicted(work)
    work.session.set_status(plane(2), "accepted")
    work.autosave._predicted.close()
    work.boxes.rename_class(0, "nucleus")
    work.boxes.undo()
    assert names(work) == [{"a", "b"}] * 6
    work.close()
    assert reopen().project.classes == ("a", "b")


def test_strokes_and_their_undo_after_a_new_name(work: Work) -> None:
    work.boxes.add_boxes(BoxSet((box(0), box(1, "b"))))
    result = predicted(work)
    work.viewer.dims.set_current_step(0, 3)
    result.layer.brush_size = 5
    result.layer.paint((3, 30, 30), 99)
    work.boxes.rename_class(0, "nucleus")
    result.layer.undo()
    mask = work.project.mask(stored(3))
    assert mask is not None
    np.testing.assert_array_equal(mask.labels, result.plane(plane(3)))
    result.layer.paint((3, 20, 30), 98)
    mask = work.project.mask(stored(3))
    assert mask is not None
    np.testing.assert_array_equal(mask.labels, result.plane(plane(3)))
    assert set(mask.classes.values()) == {"nucleus", "b"}


def test_masks_of_classes_that_overlap(
    overlapping: Callable[[], Work],
    trained: TrainedModel,
) -> None:
    work = overlapping()
    results = test_overlapping.predicted(work, trained)
    work.session.set_status(plane(1), "accepted")
    results[1].layer.paint((2, 35, 35), 77)
    kept = [test_overlapping.pixels(results, z) for z in range(4)]
    work.boxes.rename_class(0, "nucleus")
    results[0].layer.paint((2, 3, 35), 78)
    kept[2] = test_overlapping.pixels(results, 2)
    assert names(work)[:4] == [{"nucleus", "b"}] * 4
    work.close()

    again = overlapping()
    assert again.session.result is not None
    back = tuple(again.session.result.siblings)
    assert [one.only for one in back] == ["nucleus", "b"]
    for z in range(4):
        np.testing.assert_array_equal(test_overlapping.pixels(back, z), kept[z], str(z))


def test_objects_that_lie_over_each_other_stay_apart(
    overlapping: Callable[[], Work],
    trained: TrainedModel,
) -> None:
    work = overlapping()
    test_overlapping.predicted(work, trained)
    work.session.set_status(plane(1), "accepted")
    work.boxes.remove_class(1)
    with pytest.raises(BoxError, match="choose another name"):
        work.boxes.rename_class(0, "b")
    assert names(work)[1] == {"a", "b"}
    assert work.boxes.classes.names == ("a",)


@pytest.mark.parametrize("there", ["the other class", "none"])
def test_masks_whose_layers_are_deleted_stay_apart(
    overlapping: Callable[[], Work],
    trained: TrainedModel,
    there: str,
) -> None:
    work = overlapping()
    results = test_overlapping.predicted(work, trained)
    work.session.set_status(plane(1), "accepted")
    for result in results if there == "none" else results[1:]:
        work.viewer.layers.remove(result.layer)
    work.boxes.remove_class(1)
    before = work.project.mask(stored(1))
    with pytest.raises(BoxError, match="choose another name"):
        work.boxes.rename_class(0, "b")
    after = work.project.mask(stored(1))
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after.labels, before.labels)
    assert names(work)[1] == {"a", "b"}
    work.boxes.rename_class(0, "nucleus")
    assert names(work)[1] == {"nucleus", "b"}


def test_a_training_that_runs_gives_a_model_of_the_new_name(work: Work, trained: TrainedModel) -> None:
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.work import Trained

    class Jobs:
        stop_asked = Signal()
        leaving = Signal()

        def running(self, _: str) -> bool:
            return True

    preview: Any = None
    trainer = Trainer(work.session, Jobs(), preview, preview)  # type: ignore[arg-type]
    work.boxes.add_boxes(BoxSet((box(0), box(1, "b"))))
    work.boxes.rename_class(0, "nucleus")
    work.boxes.rename_class(0, "cell")
    model = replace(trained, model=replace(trained.model, classes=("a", "b")))
    trainer._on_result(Trained(model, stopped=False, steps=1))
    assert work.session.trained is not None
    assert work.session.trained.model.classes == ("cell", "b")
