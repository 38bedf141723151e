"""What is done in a session is in the project, and what is in a project comes back: no window needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from tests.gui.test_results import found

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.gui.autosave import Autosave
from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.project_images import ImageTable, Loaded, image_layer
from napari_boxprompt.gui.project_layers import ProjectLayers
from napari_boxprompt.gui.project_work import Opened, read_masks
from napari_boxprompt.gui.results import Result
from napari_boxprompt.gui.state import Session
from napari_boxprompt.normalization import Normalization
from napari_boxprompt.project import Look, Project

SHAPE = (6, 40, 50)
COLORS = {"a": (1.0, 0.0, 0.0, 1.0), "b": (0.0, 0.0, 1.0, 1.0)}


class Work:
    """A session over one project, without a window."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.viewer = ViewerModel()
        self.session = Session(self.viewer)
        self.project = Project.open(folder)
        self.table = ImageTable(self.project)
        self.layers = ProjectLayers(self.session, self.project, self.table)
        images = []
        for name in self.project.images.names:
            entry = self.project.entries[name]
            path = folder / entry.path
            images.append(Loaded(entry, path, tifffile.imread(path), False, entry.look or Look()))
        opened = Opened(self.project)
        list(read_masks(opened, self.project.images.names))
        self.layers.show(images, opened.masks)
        self.autosave = Autosave(self.session, self.project, self.table, restored=self.layers.restored)
        self.autosave.troubled.connect(self.said.append)

    @property
    def boxes(self) -> BoxLayer:
        (boxes,) = self.session.box_layers
        return boxes

    def close(self) -> None:
        self.autosave.close()
        self.project.close()

    def crash(self) -> None:
        """End without saving: only the journal is on the disk."""
        self.autosave.let_go()
        self.project.abandon()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stack = np.random.default_rng(1).integers(0, 255, SHAPE, np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    place = tmp_path / "project"
    Project.create(place, tmp_path / "stack.tif", classes=["a", "b"]).close()
    return place


@pytest.fixture
def reopen(folder: Path) -> Iterator[Callable[[], Work]]:
    opened: list[Work] = []

    def again() -> Work:
        opened.append(Work(folder))
        return opened[-1]

    yield again
    for work in opened:
        work.project.abandon()


@pytest.fixture
def work(reopen: Callable[[], Work]) -> Work:
    return reopen()


def plane(z: int) -> PlaneId:
    return PlaneId("stack", (z,))


def stored(z: int) -> PlaneId:
    return PlaneId("stack.tif", (z,))


def box(z: int, label: str = "a", y: float = 3.0) -> Box:
    return Box(y, 3, y + 10, 13.3, plane(z), label)


def predicted(work: Work) -> Result:
    view = work.session.view
    assert view is not None
    result = work.session.results.restore(view, COLORS)
    for z in range(6):
        result.add(found(z, ["a", "b"]))
    work.session.result_changed.emit()
    return result


def test_boxes_are_in_the_journal_at_once(work: Work, reopen: Callable[[], Work]) -> None:
    work.boxes.add_boxes(BoxSet((box(1), box(4, "b"))))
    work.boxes.toggle_complete(plane(4))
    work.crash()
    again = reopen()
    drawn = again.boxes.boxset
    assert [(b.label, b.plane.index) for b in drawn.boxes] == [("a", (1,)), ("b", (4,))]
    np.testing.assert_allclose(drawn.boxes[0].as_tuple(), (3, 3, 13, 13.3), atol=1e-4)
    assert drawn.planes[plane(4)].complete
    assert not drawn.planes[plane(1)].complete
    assert again.project.status(stored(4)) == "boxed"
    assert not again.boxes.can_undo, "what was there at the beginning cannot be undone"


def test_opening_changes_nothing(work: Work, reopen: Callable[[], Work]) -> None:
    work.boxes.add_boxes(BoxSet((box(1), box(1, "b", 20.123456))))
    work.session.set_contrast(Normalization(low=(3.0,), high=(200.0,), gamma=0.7), manual=True)
    work.close()
    again = reopen()
    again.autosave.note_quiet()
    assert again.project.unsaved == 0


def test_a_plane_that_did_not_change_is_not_recorded_again(work: Work) -> None:
    work.boxes.add_boxes(BoxSet((box(1), box(2))))
    before = work.project.unsaved
    work.boxes.delete([0])
    assert work.project.unsaved == before + 1
    work.session.boxes_changed.emit()
    assert work.project.unsaved == before + 1


def test_undo_and_deleted_boxes_are_recorded(work: Work, reopen: Callable[[], Work]) -> None:
    work.boxes.add_boxes(BoxSet((box(1), box(2))))
    work.boxes.delete([0])
    assert set(work.project.boxes.planes) == {stored(2)}
    work.boxes.undo()
    assert set(work.project.boxes.planes) == {stored(1), stored(2)}
    work.boxes.undo()
    assert not work.project.boxes


def test_classes_and_their_colours_come_back(work: Work, reopen: Callable[[], Work]) -> None:
    work.boxes.add_class("c")
    work.boxes.recolor_class(1, (0.0, 1.0, 1.0, 1.0))
    work.boxes.add_boxes(BoxSet((box(1, "b"),)))
    work.close()
    again = reopen()
    assert again.boxes.classes.names == ("a", "b", "c")
    assert again.boxes.classes.items[1].hex == "#00ffff"


def test_a_class_that_is_renamed_or_removed_is_not_kept(work: Work) -> None:
    work.boxes.add_boxes(BoxSet((box(1, "b"),)))
    work.boxes.rename_class(1, "nucleus")
    assert work.project.classes == ("a", "nucleus")
    assert [b.label for b in work.project.boxes.boxes] == ["nucleus"]
    work.boxes.remove_class(0)
    assert work.project.classes == ("nucleus",)
    assert set(work.project.colors) == {"nucleus"}


def test_a_deleted_layer_deletes_no_boxes(work: Work) -> None:
    work.boxes.add_boxes(BoxSet((box(1), box(2))))
    work.viewer.layers.remove(work.boxes.shapes)
    assert len(work.project.boxes) == 2
    new = work.session.new_boxes_layer()
    assert len(new.boxset) == 2, "the next layer has them again"
    assert len(work.project.boxes) == 2


def test_a_box_keeps_the_number_of_its_object(folder: Path, reopen: Callable[[], Work]) -> None:
    with Project.open(folder) as project:
        project.set_boxes(stored(1), [Box(3, 3, 13, 13, stored(1), "a", 7)])
    work = reopen()
    work.boxes.add_boxes(BoxSet((box(1, y=25),)))
    assert [b.id for b in work.project.boxes.boxes] == [7, 0]


def test_accepted_and_rejected_planes_come_back(work: Work, reopen: Callable[[], Work]) -> None:
    result = predicted(work)
    work.session.set_status(plane(2), "accepted")
    work.session.set_status(plane(5), "rejected")
    kept = result.plane(plane(2)).copy()
    work.crash()
    again = reopen()
    new = again.session.result
    assert new is not None
    assert new.status == {plane(2): "accepted", plane(5): "rejected"}
    np.testing.assert_array_equal(new.plane(plane(2)), kept)
    assert {new.class_of(int(n)) for n in np.unique(kept) if n} == {"a", "b"}
    assert not new.plane(plane(5)).any()
    assert again.project.status(stored(0)) == "predicted"
    assert again.project.record(stored(0)).score == pytest.approx(0.1)


def test_the_keys_of_what_there_is_to_do_are_at_hand(work: Work, reopen: Callable[[], Work]) -> None:
    work.boxes.add_boxes(BoxSet((box(1),)))
    work.crash()
    again = reopen()
    assert again.session.viewer.layers.selection.active == again.boxes.shapes
    predicted(again)
    again.close()
    last = reopen()
    assert last.session.viewer.layers.selection.active == shown(last).layer


def test_an_accepted_plane_teaches_after_reopening(work: Work, reopen: Callable[[], Work]) -> None:
    predicted(work)
    work.boxes.add_boxes(BoxSet((box(0), box(1))))
    work.session.set_status(plane(2), "accepted")
    work.close()
    again = reopen()
    assert again.session.lessons.describe(again.session.drawn) == "2 boxed and 1 accepted plane"


def test_a_new_prediction_keeps_what_was_accepted_before_reopening(
    work: Work,
    reopen: Callable[[], Work],
    trained: TrainedModel,
) -> None:
    kept = predicted(work).plane(plane(2)).copy()
    work.session.set_status(plane(2), "accepted")
    work.close()
    again = reopen()
    again.session.set_model(trained)
    assert again.session.predicted == set(), "what was kept is of no model that is known now"
    view = again.session.view
    assert view is not None
    (new,) = again.session.new_results([view])["stack"]
    assert new.status == {plane(2): "accepted"}
    np.testing.assert_array_equal(new.plane(plane(2)) > 0, kept > 0)


def test_of_two_predictions_the_newer_one_counts(work: Work) -> None:
    predicted(work)
    view = work.session.view
    assert view is not None
    newer = work.session.results.restore(view, COLORS)
    newer.add(found(2, ["a"], doubt=0.7))
    work.session.result_changed.emit()
    entries = work.project.unsaved
    assert work.project.record(stored(2)).score == pytest.approx(0.7)
    work.session.result_changed.emit()
    assert work.project.unsaved == entries


def test_an_image_may_be_renamed(work: Work) -> None:
    work.viewer.layers["stack"].name = "other"
    work.boxes.add_boxes(BoxSet((Box(1, 1, 9, 9, PlaneId("other", (1,)), "a"),)))
    assert set(work.project.boxes.planes) == {stored(1)}


@pytest.mark.parametrize("end", ["close", "later"])
def test_classes_edited_in_place_are_recorded(work: Work, reopen: Callable[[], Work], end: str) -> None:
    """As by napari's table of features, of which no event tells."""
    work.boxes.add_boxes(BoxSet((box(0), box(1))))
    work.boxes.shapes.features.loc[1, "class"] = "b"
    if end == "close":
        work.close()
    else:
        work.autosave.note_quiet()  # a timer looks now and then
        work.crash()
    assert [drawn.label for drawn in reopen().boxes.boxset.boxes] == ["a", "b"]


def test_strokes_are_recorded_with_their_undo(work: Work, reopen: Callable[[], Work]) -> None:
    result = predicted(work)
    work.viewer.dims.set_current_step(0, 3)
    layer = result.layer
    layer.brush_size = 5
    layer.paint((3, 30, 30), 99)
    assert work.project.status(stored(3)) == "corrected"
    layer.paint((3, 20, 30), 99)
    mask = work.project.mask(stored(3))
    assert mask is not None
    np.testing.assert_array_equal(mask.labels, result.plane(plane(3)))
    assert mask.classes[99] == "a"
    layer.undo()
    work.crash()
    again = reopen()
    new = again.session.result
    assert new is not None
    np.testing.assert_array_equal(new.plane(plane(3)), result.plane(plane(3)))
    assert new.plane(plane(3))[30, 30] == 99
    assert new.plane(plane(3))[20, 30] == 0
    assert new.status == {}, "it is painted, and not accepted yet"


def test_a_stroke_costs_what_it_covers(work: Work) -> None:
    result = predicted(work)
    result.layer.paint((3, 30, 30), 99)
    before = (work.folder / "journal.jsonl").stat().st_size
    result.layer.paint((3, 10, 30), 99)
    assert (work.folder / "journal.jsonl").stat().st_size - before < 700


def test_painting_on_an_accepted_plane_keeps_it_accepted(work: Work) -> None:
    result = predicted(work)
    work.session.set_status(plane(3), "accepted")
    result.layer.paint((3, 30, 30), 99)
    assert work.project.status(stored(3)) == "accepted"
    mask = work.project.mask(stored(3))
    assert mask is not None
    assert mask.labels[30, 30] == 99


def test_what_a_new_prediction_inherits_is_not_written_again(work: Work, trained: TrainedModel) -> None:
    predicted(work)
    work.session.set_status(plane(3), "accepted")
    before = work.project.record(stored(3)), work.project.mask(stored(3))
    work.session.set_model(trained)
    view = work.session.view
    assert view is not None
    entries = work.project.unsaved
    (new,) = work.session.new_results([view])["stack"]
    assert new.status == {plane(3): "accepted"}
    assert work.project.unsaved == entries
    # A stroke on it is: the whole plane, since its objects have other numbers now.
    new.layer.paint((3, 30, 30), 77)
    mask = work.project.mask(stored(3))
    assert before[1] is not None
    assert mask is not None
    np.testing.assert_array_equal(mask.labels, new.plane(plane(3)))


def test_brightness_scale_and_looks_come_back(work: Work, reopen: Callable[[], Work]) -> None:
    layer = work.viewer.layers["stack"]
    layer.contrast_limits = (10, 90)
    layer.gamma = 0.5
    layer.colormap = "magma"
    layer.scale, layer.units = (2.0, 0.25, 0.25), ("um", "um", "um")
    layer.name = "my stack"
    contrast = Normalization(low=(3.0,), high=(200.0,), gamma=0.7)
    work.session.set_contrast(contrast, manual=True)
    work.close()
    again = reopen()
    new = again.viewer.layers["my stack"]
    assert new.contrast_limits == [10, 90]
    assert (new.gamma, new.colormap.name) == (0.5, "magma")
    assert new.scale.tolist() == [2.0, 0.25, 0.25]
    assert [str(unit) for unit in new.units] == ["micrometer"] * 3
    assert again.session.contrast == contrast
    assert again.session.contrast_is_manual
    assert again.project.entries["stack.tif"].pixel_size["y"] == (0.25, "micrometer")


def test_a_size_that_is_in_the_affine_outlasts_the_project(work: Work, reopen: Callable[[], Work]) -> None:
    layer = work.viewer.layers["stack"]
    layer.scale, layer.units = (1, -1, 1), ("um", "um", "um")
    layer.affine = np.diag([2.0, 0.25, 0.5, 1.0])
    work.close()
    again = reopen()
    layer = again.viewer.layers["stack"]
    assert layer.scale.tolist() == [2.0, -0.25, 0.5], "it has no affine now, but lies as large"
    sizes = again.project.entries["stack.tif"].pixel_size
    layer.gamma = 0.5
    again.close()
    third = reopen()
    assert third.project.entries["stack.tif"].pixel_size == sizes
    assert sizes["y"] == (0.25, "micrometer")


def test_an_image_that_is_not_in_the_project_stays_out_of_it(work: Work) -> None:
    work.viewer.add_image(np.zeros((40, 50)), name="other")
    work.session.choose_image(work.viewer.layers["other"])
    other = work.session.new_boxes_layer()
    other.add_boxes(BoxSet((Box(1, 1, 9, 9, PlaneId("other"), "z"),)))
    assert not work.project.boxes
    assert work.project.classes == ("a", "b")
    assert not work.said


def test_a_project_without_looks_shows_the_size_of_its_pixels(folder: Path) -> None:
    with Project.open(folder) as project:
        sizes = {"y": (0.5, "micrometer"), "x": (0.5, "micrometer")}
        entry = project.entries["stack.tif"].model_copy(update={"pixel_size": sizes})
    layer = image_layer(Loaded(entry, folder / entry.path, np.zeros(SHAPE, np.uint8), False, Look()))
    assert layer.scale.tolist() == [1.0, 0.5, 0.5]
    assert layer.name == "stack"


# --- predictions that nobody has touched --------------------------------------------------------------------


def shown(work: Work) -> Result:
    """The result on screen, which is the only one."""
    (result,) = work.session.results.alive
    return result


def test_predictions_come_back_and_teach_nothing(work: Work, reopen: Callable[[], Work]) -> None:
    result = predicted(work)
    work.close()
    again = reopen()
    new = shown(again)
    for z in range(6):
        assert result.plane(plane(z)).any()
        np.testing.assert_array_equal(new.plane(plane(z)) > 0, result.plane(plane(z)) > 0)
        classes = {new.class_of(int(n)) for n in np.unique(new.plane(plane(z))) if n}
        assert classes == {"a", "b"}
    assert again.project.counts()["predicted"] == 6
    assert new.doubts == pytest.approx(result.doubts)
    assert not new.status
    assert not again.project.masked_planes()
    assert again.project.unsaved == 0, "what came out of the project is not written again"


def test_a_plane_is_kept_as_soon_as_it_is_predicted(work: Work, reopen: Callable[[], Work]) -> None:
    view = work.session.view
    assert view is not None
    result = work.session.results.restore(view, COLORS)
    result.add(found(3, ["a"]))
    work.session.results.filled.emit(result, plane(3))
    work.crash()
    again = reopen()
    np.testing.assert_array_equal(shown(again).plane(plane(3)) > 0, result.plane(plane(3)) > 0)
    assert again.project.status(stored(3)) == "predicted"


@pytest.mark.parametrize("moment", ["as they come", "later"])
def test_a_prediction_takes_the_place_of_a_prediction_and_of_nothing_else(
    work: Work, reopen: Callable[[], Work], moment: str
) -> None:
    first = predicted(work)
    work.boxes.add_boxes(BoxSet((box(0),)))
    work.session.set_status(plane(1), "accepted")
    first.layer.data[2, :5, :5] = 77
    work.autosave._painted.note_strokes(first, [plane(2)])
    work.session.set_status(plane(3), "rejected")
    view = work.session.view
    assert view is not None
    newer = work.session.results.restore(view, COLORS)
    for z in range(5):
        newer.add(found(z, ["b"], doubt=0.9))
        if moment == "as they come":
            work.session.results.filled.emit(newer, plane(z))
    work.session.result_changed.emit()
    work.close()
    statuses = [work.project.status(stored(z)) for z in range(6)]
    assert statuses == ["boxed", "accepted", "corrected", "predicted", "predicted", "predicted"]
    new = shown(reopen())
    for z, origin in enumerate((newer, first, first, newer, newer, first)):
        np.testing.assert_array_equal(new.plane(plane(z)) > 0, origin.plane(plane(z)) > 0)
    assert newer.plane(plane(4)).any()
    assert (newer.plane(plane(4)) > 0).sum() != (first.plane(plane(4)) > 0).sum()


def test_a_rejected_plane_that_is_predicted_again_waits_like_the_others(
    work: Work, reopen: Callable[[], Work]
) -> None:
    result = predicted(work)
    work.session.set_status(plane(3), "rejected")
    assert work.project.status(stored(3)) == "rejected"
    for turn in range(2):  # by the same model: it is as sure as before
        result.add(found(3, ["b"], doubt=result.scores[plane(3)].doubt))
        work.session.results.filled.emit(result, plane(3))
        work.session.result_changed.emit()
        assert plane(3) not in result.status
        assert work.project.status(stored(3)) == "predicted"
        if not turn:
            work.session.set_status(plane(3), "rejected")
            assert work.project.status(stored(3)) == "rejected"
    work.close()
    assert work.project.status(stored(3)) == "predicted"
    again = shown(reopen())
    assert plane(3) not in again.status
    np.testing.assert_array_equal(again.plane(plane(3)) > 0, result.plane(plane(3)) > 0)


def test_what_was_painted_before_there_was_a_project_is_a_correction(
    work: Work, reopen: Callable[[], Work]
) -> None:
    result = predicted(work)
    result.plane(plane(2))[30:34, 30:34] = 50  # before it is written, and no event tells of it
    kept = result.plane(plane(2)).copy()
    work.close()
    again = reopen()
    assert again.project.masked_planes() == (stored(2),)
    np.testing.assert_array_equal(shown(again).plane(plane(2)) > 0, kept > 0)
    assert shown(again).is_work(plane(2))
    assert not shown(again).is_work(plane(3))


def test_a_stroke_on_a_prediction_that_came_back_corrects_it(work: Work, reopen: Callable[[], Work]) -> None:
    predicted(work)
    work.close()
    again = reopen()
    result = shown(again)
    result.layer.data[4, :5, :5] = 50
    again.autosave._painted.note_strokes(result, [plane(4)])
    kept = result.plane(plane(4)).copy()
    again.close()
    last = reopen()
    assert last.project.masked_planes() == (stored(4),)
    np.testing.assert_array_equal(shown(last).plane(plane(4)) > 0, kept > 0)


def test_a_refused_prediction_is_said_once(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_boxprompt.errors import OutputError

    def refuse(*_: object, **__: object) -> None:
        raise OutputError("The disk is full.")

    monkeypatch.setattr(work.project, "paint", refuse)
    result = predicted(work)
    for z in range(6):
        work.session.results.filled.emit(result, plane(z))
    work.autosave._predicted.close()
    assert work.said == ["The disk is full."]
    monkeypatch.undo()
    work.session.result_changed.emit()
    work.close()
    assert work.project.counts()["predicted"] == 6
