from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from tests.project.conftest import DEEP, FLAT, SECOND, SIDE

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError, ProjectError
from napari_boxprompt.normalization import Normalization
from napari_boxprompt.project import (
    Look,
    Project,
    Round,
    best_round,
    describe,
    name_of,
    newest_model,
    verdict,
)


def box(plane: PlaneId, start: float = 4, label: str = "cell", number: int = 1) -> Box:
    return Box(start, start, start + 10.5, start + 12, plane, label, number)


def same(one: Project, other: Project) -> bool:
    planes = one.images.planes
    masks = [(one.mask(plane), other.mask(plane)) for plane in planes]
    return (
        (one.boxes, one.classes, one.rounds, dict(one.settings))
        == (other.boxes, other.classes, other.rounds, dict(other.settings))
        and [one.status(plane) for plane in planes] == [other.status(plane) for plane in planes]
        and all((a is None) == (b is None) for a, b in masks)
        and all(np.array_equal(a.labels, b.labels) and a.classes == b.classes for a, b in masks if a and b)
    )


def everything(project: Project) -> None:
    project.set_boxes(FLAT, [box(FLAT), box(FLAT, 30.123456789012, "nucleus", 2)], complete=True)
    project.set_boxes(DEEP, [box(DEEP)], complete_regions=[(0, 0, 20, 20.5)])
    project.set_boxes(SECOND, [box(SECOND, label="nerve é")])
    project.set_boxes(SECOND, [])
    project.paint(DEEP, np.full((5, 6), 3), 10, 20, classes={3: "nucleus"})
    project.paint(DEEP, np.zeros((2, 2), int), 11, 21)
    project.accept(PlaneId("stack.tif", (0,)), np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 70_000)
    project.note_predictions({plane: index / 10 for index, plane in enumerate(project.images.planes)})
    project.set_status(PlaneId("stack.tif", (1,)), "rejected")
    project.set_settings({"steps": 12, "loss": {"size": 0.01}})
    project.add_round(Round(number=project.next_round(), boxes=3, scores={"box_agreement": 0.5}))


@pytest.mark.parametrize("saved", [False, True], ids=["journal", "files"])
def test_everything_is_found_again(project, reopen, saved):
    everything(project)
    if saved:
        project.save()
        assert (project.unsaved, (project.folder / "journal.jsonl").read_bytes()) == (0, b"")
    assert same(project, reopen())
    assert not reopen().problems or "written by" in reopen().problems[0]


def test_saving_at_any_moment_changes_nothing(project, reopen):
    plane = DEEP
    for step in range(6):
        project.paint(plane, np.full((4, 4), step + 1), 3 * step, 5)
        if step % 2:
            project.save()
        assert same(project, reopen())
    assert [path.name for path in project.folder.rglob("plane*.tif")] == ["plane-0002.v6.ome.tif"]


def test_files_are_readable_without_us(project):
    everything(project)
    project.save()
    folder = project.folder
    coco = json.loads((folder / "boxes.json").read_text("utf-8"))
    assert coco["annotations"][0]["bbox"] == [4, 4, 12, 10.5]
    planes = json.loads((folder / "planes.json").read_text("utf-8"))["planes"]
    record = next(entry for entry in planes if (entry["image"], entry["plane"]) == ("stack.tif", [2]))
    assert record["status"] == "corrected"
    mask = tifffile.imread(folder / record["mask"]["file"])
    assert mask[10:15, 20:26].sum() == 3 * (30 - 4)
    assert json.loads((folder / "rounds" / "001.json").read_text("utf-8"))["boxes"] == 3
    described = json.loads((folder / "project.json").read_text("utf-8"))
    assert (described["format"], described["version"]) == ("napari-boxprompt project", 1)
    assert described["images"][0]["path"] == "../images/flat.tif"


def test_a_box_file_that_others_have_changed_counts(project, reopen):
    project.set_boxes(FLAT, [box(FLAT)])
    project.close()
    path = project.folder / "boxes.json"
    BoxSet.load(path).with_boxes([box(FLAT, 20, "new class")]).save(path)
    found = reopen()
    assert found.boxes.on(FLAT) == (box(FLAT, 20, "new class"),)
    assert "new class" in found.classes


def test_status_follows_the_work(project):
    assert project.status(FLAT) == "new"
    project.set_boxes(FLAT, [box(FLAT)])
    assert project.status(FLAT) == "boxed"
    project.set_boxes(FLAT, [])
    assert project.status(FLAT) == "new"
    project.note_predictions({FLAT: 0.7}, {FLAT: "views disagree"}, {FLAT: {"views": 0.4}})
    assert (project.status(FLAT), project.record(FLAT).reason) == ("predicted", "views disagree")
    assert project.record(FLAT).signs == {"views": 0.4}
    project.set_boxes(FLAT, [], complete=True)  # nothing on it: this is work too
    assert project.status(FLAT) == "boxed"
    project.set_boxes(FLAT, [], complete=False)
    assert project.status(FLAT) == "predicted"
    project.paint(FLAT, np.ones((3, 3), int))
    assert project.status(FLAT) == "corrected"
    project.set_boxes(FLAT, [box(FLAT)])
    assert project.status(FLAT) == "corrected"
    project.remove_mask(FLAT)
    assert project.status(FLAT) == "boxed"


def test_predictions_never_take_the_place_of_work(project):
    project.accept(FLAT, np.ones((SIDE, SIDE), int))
    project.set_boxes(SECOND, [box(SECOND)])
    project.note_predictions({FLAT: 0.9, SECOND: 0.8, DEEP: 0.1})
    assert [project.status(plane) for plane in (FLAT, SECOND, DEEP)] == ["accepted", "boxed", "predicted"]
    assert project.mask(FLAT).labels.all()
    assert project.counts()["accepted"] == 1


def test_queue(project):
    first, *others = project.images.planes
    project.note_predictions({plane: index / 10 for index, plane in enumerate(others)})
    assert project.queue() == [*reversed(others), first]
    assert project.next_plane() == others[-1]
    assert project.next_plane(others[-1]) == others[-2]
    project.set_status(others[-1], "accepted")
    project.set_status(others[-2], "rejected")  # comes back
    assert project.next_plane() == others[-2]
    assert project.next_plane(first) == others[-2]
    for plane in project.images.planes:
        project.set_status(plane, "accepted")
    assert project.next_plane() is None


def test_what_a_training_learns_from(project):
    project.set_boxes(FLAT, [box(FLAT)])
    project.accept(SECOND, np.eye(SIDE, dtype=int) * 5, classes={5: "nucleus"})
    project.paint(DEEP, np.full((2, 2), 9))
    project.set_status(DEEP, "rejected")
    assert project.masked_planes() == (SECOND,)
    masks = project.class_masks()
    assert np.array_equal(masks[SECOND], np.eye(SIDE) * 2)
    assert project.usable_boxes().boxed_planes == (FLAT,)


def test_overlapping_classes_have_a_mask_each(project, reopen):
    labels = np.zeros((2, SIDE, SIDE), int)
    labels[0, 3:9, 3:9], labels[1, 5:12, 5:12] = 1, 2
    project.accept(FLAT, labels, {1: "cell", 2: "nucleus"})
    project.paint(FLAT, labels[:, 5:7, 5:7] * 0, 5, 5)
    project.save()
    found = reopen().mask(FLAT).class_mask(("cell", "nucleus"))
    assert (found.shape, int(found[0].sum()), int(found[1].sum())) == ((2, SIDE, SIDE), 36 - 4, 2 * (49 - 4))


def test_layers_of_a_mask_are_in_the_order_of_the_classes(project):
    labels = np.zeros((1, SIDE, SIDE), int)
    labels[0, 3:9, 3:9] = 7  # of two classes, one has objects
    project.accept(FLAT, labels, {7: "nucleus"})
    project.accept(SECOND, labels[0], {7: "nucleus"})
    masks = project.class_masks()
    assert masks[FLAT].shape == (2, SIDE, SIDE)
    assert np.array_equal(masks[FLAT][1], labels[0] // 7 * 2)
    assert not masks[FLAT][0].any()
    flat, deep = project.mask(SECOND), project.mask(FLAT)
    assert np.array_equal(flat.split(project.classes).labels, deep.split(project.classes).labels)


def test_boxes_of_a_set_are_added_as_one_gesture(project, reopen):
    project.set_boxes(FLAT, [box(FLAT)])
    infos = {FLAT: PlaneInfo(), SECOND: PlaneInfo(complete=True)}
    project.add_boxes(BoxSet((box(FLAT, 30, "third"),), infos, ("third",)))
    assert len((project.folder / "journal.jsonl").read_bytes().splitlines()) == 2
    found = reopen()
    assert found.boxes.on(FLAT) == (box(FLAT), box(FLAT, 30, "third"))
    assert found.boxes.planes[SECOND].complete
    assert found.classes == ("cell", "nucleus", "third")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: p.set_boxes(PlaneId("nowhere.tif"), []),
        lambda p: p.set_boxes(PlaneId("stack.tif", (5,)), []),
        lambda p: p.set_boxes(FLAT, [box(SECOND)]),
        lambda p: p.paint(FLAT, np.ones((3, 3)), 0, 0),
        lambda p: p.paint(FLAT, np.ones((3, 3), int), SIDE - 2, 0),
        lambda p: p.paint(FLAT, -np.ones((3, 3), int)),
        lambda p: p.set_classes(["cell", "cell"]),
        lambda p: p.set_classes([]),
        lambda p: p.confirm_image("flat.tif"),
        lambda p: p.set_boxes(FLAT, [box(FLAT, label=" ")]),
        lambda p: p.set_boxes(FLAT, [box(FLAT, label="\ud800")]),
        lambda p: p.set_boxes(FLAT, [Box(-1e300, 0, 1e300, 1, FLAT, "cell")]),
        lambda p: p.set_boxes(FLAT, [Box(0, 0, 1e-12, 1, FLAT, "cell")]),
        lambda p: p.note_predictions({FLAT: float("nan")}),
        lambda p: p.set_status(FLAT, "done"),
        lambda p: p.set_settings({"model": object()}),
        lambda p: p.add_round(Round(number=1, settings={"model": object()})),
    ],
)
def test_refusals_change_nothing(project, wrong):
    with pytest.raises((BoxError, ProjectError)):
        wrong(project)
    assert project.unsaved == project.unwritten == 0
    project.set_status(SECOND, "accepted")
    assert project.unwritten == 0


def test_classes_in_use_stay(project):
    project.set_boxes(FLAT, [box(FLAT)])
    with pytest.raises(ProjectError, match="cell"):
        project.set_classes(["nucleus"])
    project.set_classes(["nucleus", "cell"], exclusive=False)
    assert (project.classes, project.exclusive) == (("nucleus", "cell"), False)


def test_rounds_are_compared_on_the_same_planes():
    better = Round(number=2, scores={"box_agreement": 0.8}, previous={"box_agreement": 0.7}, frozen={"x": 1})
    assert [verdict(better), verdict(better, "frozen"), verdict(better, tolerance=0.2)] == [
        "better",
        "unknown",
        "same",
    ]
    worse = Round(number=3, scores={"box_agreement": 0.6}, previous={"box_agreement": 0.8})
    assert verdict(worse) == "worse"
    assert best_round([better, worse, Round(number=4)]) is better
    assert best_round([]) is None


def test_a_folder_in_use_is_not_made_a_project(folder, images, tmp_path):
    with pytest.raises(ProjectError, match="already holds"):
        Project.create(folder, images)
    with pytest.raises(ProjectError, match="no project"):
        Project.open(tmp_path)
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("saved", [False, True], ids=["journal", "files"])
def test_a_loaded_model_is_a_record_among_the_rounds(project, reopen, saved):
    trained = Round(number=1, scores={"box_agreement": 0.7}, model="models/001")
    loaded = Round(number=2, against=1, loaded_from="/home/anna/nuclei", model="models/002")
    for record in (trained, loaded):
        (project.folder / record.model).mkdir(parents=True)
        project.add_round(record)
    if saved:
        project.save()
        files = [json.loads((project.folder / "rounds" / f"00{n}.json").read_text("utf-8")) for n in (1, 2)]
        assert "loaded_from" not in files[0], "versions that do not know the key read what was trained"
        assert files[1]["loaded_from"] == "/home/anna/nuclei"
    rounds = reopen().rounds
    assert rounds == (trained, loaded)
    assert newest_model(rounds, project.folder) == loaded
    back = [trained, loaded.model_copy(update={"taken_back": True})]
    assert newest_model(back, project.folder) == trained
    assert best_round(rounds) is rounds[0]
    assert describe(loaded) == "The model was loaded from /home/anna/nuclei."
    assert [name_of(number, rounds) for number in (0, 1, 2)] == [
        "the model before",
        "round 1",
        "the loaded model",
    ]
    worse = Round(number=3, scores={"box_agreement": 0.6}, previous={"box_agreement": 0.8}, against=2)
    assert "0.20 worse than the loaded model" in describe(worse, rounds)
    assert "Round 2: loaded from /home/anna/nuclei." in (project.folder / "log.txt").read_text("utf-8")


@pytest.mark.parametrize("name", ["project.json", "planes.json", "boxes.json", "rounds/001.json"])
def test_damaged_and_newer_files_are_named(project, name):
    everything(project)
    project.close()
    path = project.folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises((ProjectError, BoxError), match=path.name):
        Project.open(project.folder)
    if name in ("project.json", "planes.json"):
        path.write_bytes(content.replace(b'"version": 1', b'"version": 99'))
        with pytest.raises(ProjectError, match="newer"):
            Project.open(project.folder)
    path.write_bytes(content)
    Project.open(project.folder).close()  # the failed tries have left no lock


def test_a_closed_project_refuses(project):
    project.close()
    project.close()
    with pytest.raises(ProjectError, match="closed"):
        project.set_status(FLAT, "accepted")


def test_writing_in_the_background(folder, reopen):
    project = Project.open(folder, background=True)
    for step in range(20):
        project.set_boxes(FLAT, [box(FLAT, step)])
    project.flush()
    assert project.unwritten == 0
    assert same(project, reopen())
    project.set_status(SECOND, "accepted")
    project.close()
    assert reopen().status(SECOND) == "accepted"


def test_other_threads_may_read_and_save_meanwhile(project, reopen):
    stop, seen = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            seen.append((len(project.boxes), len(project.masked_planes()), project.next_plane()))
            project.save()

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        for step in range(60):
            plane = project.images.planes[step % 7]
            project.set_boxes(plane, [box(plane, step / 4)] * (step % 3))
            project.paint(plane, np.full((6, 6), step), step % 9, 3)
        stop.set()
        watching.result()
    assert len(seen) > 1
    assert same(project, reopen())


def test_import_is_quick_and_light():
    code = "import sys, napari_boxprompt.project; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "skimage", "scipy", "zarr", "napari", "qtpy"} & set(done.stdout.split())


def test_colours_and_looks_survive_a_crash_and_a_save(project, reopen):
    look = Look(name="plate", limits=(1.0, 9.0), contrast=Normalization(low=(0.0,), high=(2.0,)))
    project.set_colors({"cell": "#ff0000"})
    project.set_look("flat.tif", look, pixel_size={"y": (0.5, "micrometer")})
    for again in (reopen(), project):
        assert again.colors == {"cell": "#ff0000"}
        assert again.entries["flat.tif"].look == look
        assert again.entries["flat.tif"].pixel_size == {"y": (0.5, "micrometer")}
    project.save()
    assert reopen().entries["flat.tif"].look == look
    with pytest.raises(ProjectError, match="no image"):
        project.set_look("other.tif", look)


def test_a_confirmed_image_keeps_how_it_was_shown(folder, images):
    with Project.open(folder) as project:
        project.set_look("flat.tif", Look(name="plate"))
    tifffile.imwrite(images / "flat.tif", np.zeros((SIDE, SIDE), np.uint8), photometric="minisblack")
    with Project.open(folder) as project:
        assert project.changed == ("flat.tif",)
        project.confirm_image("flat.tif")
        entry = project.entries["flat.tif"]
        assert entry.look == Look(name="plate")
    with Project.open(folder) as project:
        assert not project.changed


def test_images_under_names_of_their_own(tmp_path, images):
    with Project.create(tmp_path / "p", {"a/one": images / "flat.tif"}) as project:
        project.add_images({"two": images / "second.tif"})
        assert set(project.images.names) == {"a/one", "two"}


@pytest.mark.parametrize("saved", [False, True], ids=["journal", "files"])
def test_objects_of_a_class_get_another_in_the_masks_of_an_image(project, reopen, saved):
    everything(project)
    project.accept(FLAT, np.eye(SIDE, dtype=int), classes={1: "nucleus"})
    if saved:
        project.save()
    before = {plane: project.mask(plane) for plane in project.images.planes}
    entries = project.unsaved
    project.rename_objects("stack.tif", "nucleus", "blob")
    assert project.unsaved == entries + 1
    assert project.mask_classes(DEEP) == {3: "blob"}
    assert project.mask_classes(FLAT) == {1: "nucleus"}, "of another image"
    for plane, mask in before.items():
        if mask is not None:
            np.testing.assert_array_equal(project.mask(plane).labels, mask.labels)
    assert same(project, reopen())
    project.paint(DEEP, np.full((1, 1), 3))
    project.save()
    assert project.mask_classes(DEEP) == reopen().mask_classes(DEEP) == {3: "blob"}
    project.rename_objects("stack.tif", "nucleus", "blob")
    assert project.unsaved == 0, "none has the class any more"
