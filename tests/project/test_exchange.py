from __future__ import annotations

import csv
import json
import shutil
import zipfile

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tests.helpers.commands import boxprompt
from tests.project.conftest import DEEP, FLAT, SECOND, SIDE

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxError, OutputError, ProjectError
from napari_boxprompt.formats import load_coco, save_coco
from napari_boxprompt.formats.outlines import decode_mask, encode_mask, load_coco_masks
from napari_boxprompt.project import Project, export_project, import_into, pack, unpack

MICRO = (0.5, "micrometer")


@pytest.fixture
def labelled(project):
    """Boxes on all images, masks on two planes."""
    labels = np.zeros((SIDE, SIDE), int)
    labels[3:13, 4:24], labels[30:40, 30:50] = 1, 7
    project.set_boxes(FLAT, [Box(3, 4, 13.5, 24, FLAT, "cell", 1), Box(50, 50, 60, 60, FLAT, "cell", 2)])
    project.set_boxes(SECOND, [Box(1, 2, 30, 40, SECOND, "nucleus", 1)])
    project.set_boxes(DEEP, [Box(1, 2, 30, 40, DEEP, "nucleus", 1)])
    project.paint(FLAT, labels, classes={1: "cell", 7: "nucleus"})
    project.accept(DEEP, labels, classes={1: "nucleus"})
    project.accept(SECOND, labels)
    project.set_status(SECOND, "rejected")
    return project


# Run lengths


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)))
def test_run_lengths_are_exact(mask):
    encoded = json.loads(json.dumps(encode_mask(mask)))
    assert np.array_equal(decode_mask(encoded, mask.shape), mask)


def packed(counts: list[int]) -> str:
    """Run lengths as the COCO programs compress them, from the description of the format."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr((bits | 0x20 if more else bits) + 48)
            if not more:
                break
    return text


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=9))
def test_compressed_run_lengths(counts):
    shape = (sum(counts), 1)
    plain = decode_mask({"size": list(shape), "counts": counts}, shape)
    assert np.array_equal(decode_mask({"size": list(shape), "counts": packed(counts)}, shape), plain)


def test_compressed_run_lengths_of_pycocotools():
    mask = np.zeros((5, 11), bool)
    mask[1:4, 3:9] = mask[0, 0] = True
    assert np.array_equal(decode_mask({"size": [5, 11], "counts": "01?2C0000000009"}, (5, 11)), mask)


def test_polygons_are_filled():
    mask = decode_mask([[2, 1, 6, 1, 6, 4, 2, 4]], (8, 9))
    assert np.array_equal(np.argwhere(mask).min(0), [1, 2])
    assert mask.sum() == 12


@pytest.mark.parametrize("bad", [{"size": [2, 2], "counts": [3]}, {"counts": [4]}, "text", [[1, 2]], {}])
def test_bad_segmentations(bad):
    with pytest.raises(BoxError):
        decode_mask(bad, (2, 2))


# Out and in


def test_coco(labelled, tmp_path, folder):
    said = export_project(labelled, "coco", tmp_path / "out.json")
    assert said.startswith("7 boxes, 4 of them with a mask")
    boxes = load_coco(tmp_path / "out.json")
    # The drawn box stays where it means an object of the mask.
    assert Box(3, 4, 13.5, 24, FLAT, "cell", 1) in boxes.on(FLAT)
    assert len(boxes.on(FLAT)) == 3
    masks = load_coco_masks(tmp_path / "out.json")
    assert set(masks) == {FLAT, DEEP}
    labels, classes = masks[FLAT]
    assert np.array_equal(labels, labelled.mask(FLAT).labels)
    assert classes == {1: "cell", 7: "nucleus"}
    images = folder.with_name("images")
    with Project.create(tmp_path / "other", images, classes=["cell", "nucleus"]) as other:
        other.paint(FLAT, np.ones((2, 2), int))
        said = import_into(other, tmp_path / "out.json")
        assert "1 planes were corrected" in said
        assert other.mask(FLAT).labels.sum() == 4
        assert np.array_equal(other.mask(DEEP).labels, labelled.mask(DEEP).labels)
        assert other.boxes.on(SECOND) == labelled.boxes.on(SECOND)


def test_yolo(labelled, tmp_path):
    with pytest.raises(BoxError, match="stack"):
        export_project(labelled, "yolo", tmp_path / "yolo")
    labelled.remove_images(["stack.tif"])
    export_project(labelled, "yolo", tmp_path / "yolo")
    assert (tmp_path / "yolo" / "second.txt").read_text().split()[0] == "1"
    before = labelled.boxes.on(SECOND)
    labelled.set_boxes(SECOND, [])
    import_into(labelled, tmp_path / "yolo")
    assert np.allclose(labelled.boxes.on(SECOND)[0].as_tuple(), before[0].as_tuple())


def test_tiff(labelled, tmp_path, folder):
    export_project(labelled, "tiff", tmp_path / "masks")
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == [
        f"{name}.tif_{kind}.ome.tif" for name in ("flat", "stack") for kind in ("mask", "objects")
    ]
    stack = tifffile.imread(tmp_path / "masks" / "stack.tif_objects.ome.tif")
    assert stack.shape == (5, SIDE, SIDE)
    assert np.array_equal(stack[2], labelled.mask(DEEP).labels)
    classes = tifffile.imread(tmp_path / "masks" / "flat.tif_mask.ome.tif")
    assert set(np.unique(classes)) == {0, 1, 2}
    with Project.create(tmp_path / "other", folder.with_name("images")) as other:
        assert "2 planes" in import_into(other, tmp_path / "masks")
        assert other.masked_planes() == (FLAT, DEEP)
        assert np.array_equal(other.mask(DEEP).labels, labelled.mask(DEEP).labels)
        tifffile.imwrite(tmp_path / "flat_labels.tif", np.zeros((9, 9), np.uint8))
        with pytest.raises(BoxError, match="shape"):
            import_into(other, tmp_path / "flat_labels.tif")


def test_zarr(labelled, tmp_path, folder):
    assert export_project(labelled, "zarr", tmp_path / "labels").startswith("Labels of 2 images")
    place = tmp_path / "labels" / "stack.tif.ome.zarr"
    described = json.loads((place / "labels" / "objects" / "zarr.json").read_text())["attributes"]["ome"]
    assert [axis["name"] for axis in described["multiscales"][0]["axes"]] == ["z", "y", "x"]
    classes = json.loads((place / "labels" / "classes" / "zarr.json").read_text())["attributes"]["ome"]
    assert classes["image-label"]["properties"][1] == {"label-value": 2, "class": "nucleus"}
    with pytest.raises(ProjectError, match="exists already"):
        export_project(labelled, "zarr", tmp_path / "labels")
    with Project.create(tmp_path / "other", folder.with_name("images")) as other:
        assert "2 planes" in import_into(other, tmp_path / "labels")
        assert np.array_equal(other.mask(DEEP).labels, labelled.mask(DEEP).labels)
        other.remove_mask(DEEP)
        assert "1 planes" in import_into(other, place)
        (tmp_path / "flat.zarr").mkdir()
        with pytest.raises(ProjectError, match="no OME-Zarr labels"):
            import_into(other, tmp_path / "flat.zarr")
    labelled.accept(DEEP, np.stack([np.eye(SIDE, dtype=int), np.eye(SIDE, dtype=int) * 2]), {2: "nucleus"})
    export_project(labelled, "zarr", tmp_path / "more")
    layers = zarr.open_group(tmp_path / "more" / "stack.tif.ome.zarr")["labels/objects"]
    axes = layers.attrs["ome"]["multiscales"][0]["axes"]
    assert [axis["name"] for axis in axes] == ["c", "z", "y", "x"], "in the order of OME-Zarr"
    assert np.array_equal(layers["0"][:, 2], labelled.mask(DEEP).labels)


def test_a_mask_with_a_class_axis_gives_all_of_its_image_one(labelled, tmp_path):
    with Project.create(tmp_path / "other", labelled.folder.with_name("images")) as other:
        other.set_classes(["cell", "nucleus"], exclusive=False)
        flat = np.zeros((SIDE, SIDE), int)
        flat[:4], flat[4:9] = 1, 2
        both = np.stack([np.eye(SIDE, dtype=int) * 3, np.eye(SIDE, dtype=int) * 4])
        other.accept(DEEP, flat, {1: "cell", 2: "nucleus"})
        other.accept(PlaneId(DEEP.image, (0,)), both, {3: "nucleus", 4: "cell"})
        export_project(other, "tiff", tmp_path / "masks")
    classes = tifffile.imread(tmp_path / "masks" / f"{DEEP.image}_mask.ome.tif")
    with tifffile.TiffFile(tmp_path / "masks" / f"{DEEP.image}_objects.ome.tif") as file:
        objects = file.asarray()
        assert file.series[0].axes == "ZCYX"
        channels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
    assert [channel["Name"] for channel in channels] == ["cell", "nucleus"]
    assert classes.shape[1:] == (2, SIDE, SIDE)
    assert np.array_equal(objects[DEEP.index], np.stack([flat * (flat == 1), flat * (flat == 2)]))
    assert np.array_equal(objects[0], both[::-1]), "in the order of the classes of the project"
    assert np.array_equal(classes[0], np.stack([np.eye(SIDE), 2 * np.eye(SIDE)]))


@pytest.fixture
def unseen(images, tmp_path):
    """One accepted mask, and of those nobody has looked at, one rejected and one on a boxed plane."""
    labels = np.zeros((SIDE, SIDE), int)
    labels[10:20, 30:50] = 1
    with Project.create(tmp_path / "unseen", images) as project:
        project.accept(FLAT, labels)
        for z, status in ((0, "predicted"), (2, "boxed"), (3, "rejected")):
            project.paint(PlaneId("stack.tif", (z,)), labels, status=status)
        yield project


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("kind", ["coco", "tiff", "zarr"])
def test_masks_that_nobody_has_looked_at_are_exported_where_asked_for(
    unseen, images, tmp_path, kind, predicted
):
    out = tmp_path / ("out.json" if kind == "coco" else "out")
    export_project(unseen, kind, out, predicted=predicted)
    with Project.create(tmp_path / "other", images) as other:
        import_into(other, out)
        masks = {plane: other.mask(plane) for plane in other.images.planes}
    found = {plane for plane, mask in masks.items() if mask is not None and mask.labels.any()}
    assert found == {FLAT, *(PlaneId("stack.tif", (z,)) for z in (0, 2) if predicted)}


def test_tables_have_masks_that_nobody_has_looked_at_where_asked_for(unseen, tmp_path):
    assert export_project(unseen, "csv", tmp_path / "few.csv").startswith("1 objects")
    assert export_project(unseen, "csv", tmp_path / "all.csv", predicted=True).startswith("3 objects")
    rows = csv.DictReader((tmp_path / "all.csv").read_text().splitlines())
    assert [row["status"] for row in rows] == ["accepted", "predicted", "boxed"]
    rows = csv.DictReader((tmp_path / "all_planes.csv").read_text().splitlines())
    assert [row["status"] for row in rows if row["mask"] == "1"] == ["accepted", "predicted", "boxed"]


def test_csv_in_physical_units(images, tmp_path):
    sizes = {"y": MICRO, "x": MICRO}
    with Project.create(tmp_path / "project", images, pixel_size=sizes) as project:
        labels = np.zeros((SIDE, SIDE), int)
        labels[10:20, 30:50] = 3
        project.accept(FLAT, labels)
        assert export_project(project, "csv", tmp_path / "objects.csv").startswith("1 objects")
    (row,) = csv.DictReader((tmp_path / "objects.csv").read_text().splitlines())
    assert (row["image"], row["object"], row["class"], row["unit"]) == (
        "flat.tif",
        "3",
        "object",
        "micrometer",
    )
    assert (float(row["area"]), int(row["area_px"])) == (50, 200)
    assert (float(row["y"]), float(row["x"])) == (7.25, 19.75)
    assert [int(row[name]) for name in ("y0", "x0", "y1", "x1")] == [10, 30, 20, 50]
    planes = list(csv.DictReader((tmp_path / "objects_planes.csv").read_text().splitlines()))
    assert next(row["status"] for row in planes) == "accepted"
    assert len(planes) == 7


def test_mask_files_carry_the_size_of_a_pixel(images, tmp_path):
    with Project.create(tmp_path / "project", images, pixel_size={"y": MICRO, "x": MICRO}) as project:
        project.accept(FLAT, np.ones((SIDE, SIDE), int))
        project.save()
        (path,) = project.folder.rglob("plane*.ome.tif")
        with tifffile.TiffFile(path) as tif:
            assert 'PhysicalSizeX="0.5"' in tif.ome_metadata


# Classes that nobody has named, boxes that are there already


def write_heads(path, *more):
    save_coco(BoxSet((Box(1, 2, 30, 40, FLAT, "head", 1), *more), classes=("tail", "head", "arm")), path)
    return path


def test_the_class_that_nobody_has_named_gives_way_to_those_of_the_boxes(images, tmp_path):
    boxes = write_heads(tmp_path / "heads.json", Box(3, 4, 20, 20, DEEP, "tail", 2))
    with Project.create(tmp_path / "one", images) as project:
        import_into(project, boxes)
        assert project.classes == ("tail", "head"), "in the order of the file, without those of no box"
    with Project.create(tmp_path / "two", images) as project:
        project.set_boxes(SECOND, [])
        project.set_boxes(DEEP, [], complete=True)
        import_into(project, boxes)
        assert project.classes == ("tail", "head"), "no box has the class, though a plane is complete"


def test_masks_that_come_after_boxes_have_their_class(images, tmp_path):
    place = tmp_path / "project"
    boxprompt("project", "new", place, images, "--boxes", write_heads(tmp_path / "heads.json")).ok()
    tifffile.imwrite(tmp_path / "flat_labels.tif", np.eye(SIDE, dtype=np.uint8))
    boxprompt("project", "import", place, tmp_path / "flat_labels.tif").ok()
    with Project.open(place, read_only=True) as project:
        assert project.classes == ("head",)
        export_project(project, "coco", tmp_path / "out.json")
    assert {box.label for box in load_coco(tmp_path / "out.json").boxes} == {"head"}


def test_the_class_object_stays_where_it_is_named_or_used(images, tmp_path):
    boxes = write_heads(tmp_path / "heads.json")
    with Project.create(tmp_path / "boxed", images) as project:
        project.set_boxes(SECOND, [Box(1, 2, 30, 40, SECOND, "object", 1)])
        import_into(project, boxes)
        assert project.classes == ("object", "head")
    with Project.create(tmp_path / "masked", images) as project:
        project.paint(SECOND, np.eye(SIDE, dtype=int), status="predicted")
        import_into(project, boxes)
        assert project.classes == ("object", "head")
    with Project.create(tmp_path / "lost", images) as project:
        project.accept(SECOND, np.eye(SIDE, dtype=int))
    second = (images / "second.tif").read_bytes()
    (images / "second.tif").unlink()
    with Project.open(tmp_path / "lost") as project:
        import_into(project, boxes)
        assert project.classes == ("object", "head"), "a mask of an image that is not there just now"
    (images / "second.tif").write_bytes(second)
    boxprompt("project", "new", tmp_path / "named", images, "--class", "object", "--boxes", boxes).ok()
    with Project.open(tmp_path / "named", read_only=True) as project:
        assert project.classes == ("object", "head")


def test_boxes_that_are_there_are_passed_over(project, tmp_path):
    drawn = (Box(1, 2, 30, 40, FLAT, "cell", 1), Box(5, 6, 20.5, 30, FLAT, "cell", 2))
    first = BoxSet((*drawn, Box(1, 2, 30, 40, DEEP, "cell", 1)))
    save_coco(first, tmp_path / "boxes.json")
    assert import_into(project, tmp_path / "boxes.json").startswith("3 boxes and")
    said = import_into(project, tmp_path / "boxes.json")
    assert said.startswith("0 boxes and")
    assert "3 boxes that were there already" in said
    assert project.boxes.on(FLAT) == drawn
    near, away = Box(1.008, 2, 30, 39.992, FLAT, "cell", 1), Box(1.012, 2, 30, 40, FLAT, "cell", 1)
    others = (Box(1, 2, 30, 40, FLAT, "nucleus", 1), Box(1, 2, 30, 40, SECOND, "cell", 1))
    save_coco(BoxSet((near, away, *others)).complete([FLAT]), tmp_path / "more.json")
    said = import_into(project, tmp_path / "more.json")
    assert said.startswith("3 boxes and")
    assert "1 boxes that were there already" in said
    assert [box.as_tuple() for box in project.boxes.on(FLAT, "cell")] == [
        *(box.as_tuple() for box in drawn),
        away.as_tuple(),
    ]
    assert len(project.boxes.on(FLAT, "nucleus")) == len(project.boxes.on(SECOND)) == 1
    assert project.boxes.planes[FLAT].complete


def test_yolo_boxes_come_back_once(project, tmp_path):
    project.remove_images(["stack.tif"])
    project.set_boxes(FLAT, [Box(1 / 3, 2, 30.123456, 40, FLAT, "cell", 1)])
    export_project(project, "yolo", tmp_path / "yolo")
    assert "1 boxes that were there" in import_into(project, tmp_path / "yolo")
    assert len(project.boxes) == 1


def test_two_objects_in_a_file_with_the_same_box_are_two(project, tmp_path):
    twins = (Box(1, 2, 30, 40, FLAT, "cell", 1), Box(1, 2, 30, 40, FLAT, "cell", 2))
    save_coco(BoxSet(twins), tmp_path / "boxes.json")
    import_into(project, tmp_path / "boxes.json")
    assert len(project.boxes) == 2


# One file for a colleague


@pytest.mark.parametrize("with_images", [True, False])
def test_packed_and_unpacked(labelled, tmp_path, with_images):
    pack(labelled, tmp_path / "all.zip", images=with_images)
    place = unpack(tmp_path / "all.zip", tmp_path / "colleague" / "project")
    if with_images:
        shutil.rmtree(labelled.folder.with_name("images"))
    with Project.open(place, search=[] if with_images else [labelled.folder.with_name("images")]) as other:
        assert not other.problems
        assert not other.read_only
        assert other.boxes == labelled.boxes
        assert np.array_equal(other.mask(DEEP).labels, labelled.mask(DEEP).labels)
        assert other.images.read(FLAT).shape == (SIDE, SIDE, 1)
    with pytest.raises(ProjectError, match="not empty"):
        unpack(tmp_path / "all.zip", place)


def test_what_is_not_a_packed_project(tmp_path, labelled):
    (tmp_path / "text.zip").write_text("no zip")
    for name in ("text.zip", "nowhere.zip"):
        with pytest.raises(ProjectError, match="not a zip"):
            unpack(tmp_path / name, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ProjectError, match="no project"):
        unpack(tmp_path / "other.zip", tmp_path / "out")
    pack(labelled, tmp_path / "evil.zip")
    with zipfile.ZipFile(tmp_path / "evil.zip", "a") as archive:
        archive.writestr("../evil.txt", "hello")
    with pytest.raises(ProjectError, match="do not trust"):
        unpack(tmp_path / "evil.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ProjectError, match="use coco"):
        export_project(labelled, "dance", tmp_path / "x")
    with pytest.raises(OutputError):
        pack(labelled, tmp_path)


# The command line


def test_commands(images, tmp_path):
    boxes = tmp_path / "boxes.json"
    save_coco(BoxSet((Box(1, 2, 30, 40, FLAT, "cell", 1),)), boxes)
    place = tmp_path / "project"
    options = ("--class", "cell", "--pixel-size", "0.5 micrometer", "--boxes", boxes)
    said = boxprompt("project", "new", place, images, *options).ok().out
    assert "7 planes" in said
    found = json.loads(boxprompt("project", "info", place, "--json").ok().out)
    assert (found["boxes"], found["status"]["boxed"], found["not saved"]) == (1, 1, 0)
    assert "boxed 1" in boxprompt("project", "info", place).ok().out
    for kind, name in {
        "coco": "a.json",
        "yolo": "y",
        "tiff": "t",
        "zarr": "z",
        "csv": "a.csv",
        "zip": "a.zip",
    }.items():
        assert str(tmp_path / name) in boxprompt("project", "export", place, kind, tmp_path / name).ok().out
    boxprompt("project", "import", place, tmp_path / "a.json").ok()
    said = boxprompt("project", "import", tmp_path / "second" / "one", tmp_path / "a.zip").ok()
    assert "3 images unpacked" in said.out
    assert "say in which folder" in " ".join(said.messages)
    assert (
        "write for instance"
        in boxprompt("project", "new", tmp_path / "x", images, "--pixel-size", "big").sentence()
    )
    assert "no project" in boxprompt("project", "info", tmp_path).sentence()
    assert "already holds" in boxprompt("project", "new", place, images).sentence()


@pytest.mark.parametrize("name", ["notes.png", "notes.tif"])
def test_one_image_that_cannot_be_read_is_named_with_what_to_do(images, tmp_path, name):
    (images / name).write_text("these are no pixels, and so this is no image" * 9)
    said = boxprompt("project", "new", tmp_path / "project", images).sentence()
    assert str(images / name) in said
    assert "copy it again" in said
    assert "move it away" in said
    assert not (tmp_path / "project").exists()
    (images / name).unlink()
    boxprompt("project", "new", tmp_path / "project", images).ok()


def test_boxes_are_marked_complete_as_in_a_training(images, tmp_path):
    boxes = write_heads(tmp_path / "heads.json")

    def complete(place):
        with Project.open(place, read_only=True) as project:
            return [plane for plane, info in project.boxes.planes.items() if info.complete]

    one, two = tmp_path / "one", tmp_path / "two"
    boxprompt("project", "new", one, images, "--boxes", boxes, "--complete").ok()
    assert complete(one) == [FLAT]
    boxprompt("project", "new", two, images, "--boxes", boxes).ok()
    assert complete(two) == []
    said = boxprompt("project", "import", two, boxes, "--complete").ok().out
    assert "1 boxes that were there already" in said
    assert complete(two) == [FLAT], "also where the boxes are there"
    refused = boxprompt("project", "new", tmp_path / "three", images, "--complete").sentence()
    assert "--boxes FILE" in refused
    assert not (tmp_path / "three").exists()
    boxprompt("project", "export", one, "zip", tmp_path / "one.zip").ok()
    refused = boxprompt("project", "import", tmp_path / "four", tmp_path / "one.zip", "--complete").sentence()
    assert "leave out --complete" in refused
    assert not (tmp_path / "four").exists()


def test_info_while_it_is_open_elsewhere(labelled):
    found = json.loads(boxprompt("project", "info", labelled.folder, "--json").ok().out)
    assert found["masks"] == 2
    assert PlaneId("flat.tif") in labelled.images
