"""Label files that go out of a project and come back, and those of other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from PIL import Image
from tests.helpers.commands import boxprompt
from tests.project.conftest import DEEP, FLAT, SECOND, SIDE

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxPromptError, ProjectError
from napari_boxprompt.formats import save_coco
from napari_boxprompt.formats.outlines import load_coco_masks
from napari_boxprompt.outputs import write_labels
from napari_boxprompt.project import Project, export_project, import_into

KINDS = pytest.mark.parametrize("kind", ["tiff", "zarr"])
Labels = npt.NDArray[np.uint32]


def disc(number: int, y: int, x: int) -> Labels:
    rows, columns = np.indices((SIDE, SIDE))
    return (number * (np.hypot(rows - y, columns - x) < 12)).astype(np.uint32)


CELLS, NUCLEI = disc(70_000, 20, 20), disc(3, 24, 22) + disc(9, 50, 50)
BOTH = np.stack([CELLS, NUCLEI])
CLASSES = {70_000: "cell", 3: "nucleus", 9: "nucleus"}


def layers(project: Project) -> dict[PlaneId, dict[str, list[list[int]]]]:
    """Objects of each class on each plane."""
    found = {}
    for plane in project.masked_planes():
        mask = project.mask(plane)
        assert mask is not None
        parts = mask.split(project.classes).labels
        found[plane] = {name: part.tolist() for name, part in zip(project.classes, parts, strict=True)}
    return found


@pytest.fixture
def overlapping(project: Project) -> Project:
    """Masks of classes that overlap, and one of a single layer."""
    project.set_classes(["cell", "nucleus"], exclusive=False)
    project.accept(FLAT, BOTH, CLASSES)
    project.paint(DEEP, BOTH[::-1], classes=CLASSES)
    project.accept(PlaneId(DEEP.image, (4,)), NUCLEI, {3: "cell", 9: "nucleus"})
    return project


def new(tmp_path: Path, images: str | Path, **options: object) -> Project:
    return Project.create(tmp_path / "other", images, **options)  # type: ignore[arg-type]


@KINDS
def test_classes_that_overlap_come_back(
    overlapping: Project, images: Path, tmp_path: Path, kind: str
) -> None:
    assert np.any((CELLS > 0) & (NUCLEI > 0))
    export_project(overlapping, kind, tmp_path / "out")
    with new(tmp_path, images) as other:
        assert import_into(other, tmp_path / "out") == "Masks of 3 planes imported."
        assert (other.classes, other.exclusive) == (("cell", "nucleus"), False)
        assert layers(other) == layers(overlapping)
        assert layers(other)[FLAT]["cell"] == CELLS.tolist()


@pytest.mark.parametrize("said", ["file", "project"])
def test_coco_keeps_what_lies_under_another_class(
    overlapping: Project, images: Path, tmp_path: Path, said: str
) -> None:
    path = tmp_path / "out.json"
    export_project(overlapping, "coco", path)
    options: dict[str, object] = {"classes": ["cell", "nucleus"]}
    if said == "project":  # other programs do not say whether classes may overlap
        content = json.loads(path.read_text())
        del content["napari_boxprompt"]
        path.write_text(json.dumps(content))
        options["exclusive"] = False
    with new(tmp_path, images, **options) as other:
        assert import_into(other, path).endswith("masks of 3 planes imported.")
        assert (other.classes, other.exclusive) == (("cell", "nucleus"), False)
        assert layers(other) == layers(overlapping)


def test_coco_of_classes_in_another_order(overlapping: Project, images: Path, tmp_path: Path) -> None:
    export_project(overlapping, "coco", tmp_path / "out.json")
    with new(tmp_path, images, classes=["debris", "nucleus"]) as other:
        import_into(other, tmp_path / "out.json")
        assert (other.classes, other.exclusive) == (("debris", "nucleus", "cell"), False)
        assert layers(other)[FLAT] == {
            "debris": np.zeros_like(CELLS).tolist(),
            "nucleus": NUCLEI.tolist(),
            "cell": CELLS.tolist(),
        }


def test_coco_where_classes_exclude_each_other_has_one_layer(
    overlapping: Project, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    export_project(overlapping, "coco", path)
    path.write_text(path.read_text().replace('"exclusive": false', '"exclusive": true'))
    with new(tmp_path, images, classes=["cell", "nucleus"]) as other:
        import_into(other, path)
        mask = other.mask(FLAT)
        assert other.exclusive
        assert mask is not None
        assert np.array_equal(mask.labels, np.where(NUCLEI, NUCLEI, CELLS)), "the later one is seen"


def test_a_number_in_the_layers_of_two_classes_is_one_object_in_coco(
    project: Project, tmp_path: Path
) -> None:
    project.set_classes(["cell", "nucleus"], exclusive=False)
    halves = np.stack([CELLS > 0, NUCLEI > 0])
    project.accept(FLAT, halves.astype(np.uint8), {1: "nucleus"})
    export_project(project, "coco", tmp_path / "out.json")
    labels, classes = load_coco_masks(tmp_path / "out.json", overlap=True)[FLAT]
    assert classes == {1: "nucleus"}
    assert np.array_equal(labels[0] > 0, halves.any(axis=0))


@KINDS
@pytest.mark.parametrize("classes", [["cell", "nucleus"], ["nuc & <é>", "2", "cell"]])
def test_classes_that_exclude_each_other_come_back(
    project: Project, images: Path, tmp_path: Path, kind: str, classes: list[str]
) -> None:
    project.set_classes(classes)
    project.accept(FLAT, NUCLEI, {9: classes[1]})
    project.accept(DEEP, CELLS, {70_000: classes[-1]})
    export_project(project, kind, tmp_path / "out")
    with new(tmp_path, images) as other:
        import_into(other, tmp_path / "out")
        assert (other.classes, other.exclusive) == (tuple(classes), True)
        assert layers(other) == layers(project)
        assert other.mask_classes(FLAT) == {3: classes[0], 9: classes[1]}
        mask = other.mask(DEEP)
        assert mask is not None
        assert np.array_equal(mask.labels, CELLS)


@KINDS
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("shape", [(1,), (1, 3), (2, 1)])
def test_axes_of_length_one_come_back(
    tmp_path: Path, kind: str, exclusive: bool, shape: tuple[int, ...]
) -> None:
    np.save(tmp_path / "array.npy", np.zeros((*shape, SIDE, SIDE), np.uint8))
    said = {"classes": ["cell"], "exclusive": exclusive}
    with Project.create(tmp_path / "one", tmp_path / "array.npy", **said) as project:  # type: ignore[arg-type]
        plane = project.images.planes[-1]
        project.accept(plane, NUCLEI)
        export_project(project, kind, tmp_path / "out")
        with new(tmp_path, tmp_path / "array.npy") as other:
            import_into(other, tmp_path / "out")
            assert (other.classes, other.exclusive) == (("cell",), exclusive)
            assert layers(other) == layers(project)


@KINDS
def test_images_of_one_name_in_several_folders(tmp_path: Path, kind: str) -> None:
    for day in ("day1", "day2"):
        (tmp_path / "images" / day).mkdir(parents=True)
        image = np.random.default_rng(int(day[-1])).integers(0, 255, (SIDE, SIDE), np.uint8)
        tifffile.imwrite(tmp_path / "images" / day / "a.tif", image)
    with Project.create(tmp_path / "one", str(tmp_path / "images" / "**" / "*")) as project:
        project.accept(PlaneId("day1/a.tif"), CELLS)
        project.accept(PlaneId("day2/a.tif"), NUCLEI)
        export_project(project, kind, tmp_path / "out")
        with new(tmp_path, str(tmp_path / "images" / "**" / "*")) as other:
            import_into(other, tmp_path / "out")
            assert layers(other) == layers(project)


def test_work_and_classes_that_are_there_stay(overlapping: Project, images: Path, tmp_path: Path) -> None:
    export_project(overlapping, "tiff", tmp_path / "out")
    with new(tmp_path, images, classes=["debris", "nucleus"]) as other:
        other.accept(FLAT, NUCLEI, {3: "debris"})
        said = import_into(other, tmp_path / "out")
        assert said.startswith("Masks of 2 planes imported. 1 planes were corrected")
        assert (other.classes, other.exclusive) == (("debris", "nucleus", "cell"), False)
        mask = other.mask(DEEP)
        assert mask is not None
        assert mask.labels.shape == (3, SIDE, SIDE), "a layer for each class of the project"
        assert np.array_equal(mask.labels, [np.zeros_like(CELLS), NUCLEI, CELLS])
        kept = other.mask(FLAT)
        assert kept is not None
        assert np.array_equal(kept.labels, NUCLEI)


@pytest.mark.parametrize("name", ["flat_objects.tif", "flat.ome.tif"])
def test_layers_that_use_the_same_numbers(images: Path, tmp_path: Path, name: str) -> None:
    same = np.stack([disc(1, 20, 20), disc(1, 24, 22) + disc(2, 50, 50)])
    write_labels(tmp_path / name, same.astype(np.uint8), classes=["cell", "nucleus"], overlap=True)
    with new(tmp_path, images) as other:
        import_into(other, tmp_path / name)
        mask = other.mask(FLAT)
        assert mask is not None
        assert np.array_equal(mask.labels > 0, same > 0)
        assert mask.classes == {1: "cell", 3: "nucleus", 4: "nucleus"}
        assert set(np.unique(mask.labels[1])) == {0, 3, 4}


@pytest.mark.parametrize("axes", ["CZYX", "ZCYX"])
@pytest.mark.parametrize("ending", ["ome.tif", "tif"])
def test_channels_without_a_name_are_the_classes_of_the_project(
    images: Path, tmp_path: Path, axes: str, ending: str
) -> None:
    stack = np.zeros((5, 2, SIDE, SIDE), np.uint32)
    stack[DEEP.index] = BOTH
    stack = stack if axes == "ZCYX" else stack.swapaxes(0, 1)
    path = tmp_path / f"stack_labels.{ending}"
    tifffile.imwrite(path, stack, metadata={"axes": axes}, photometric="minisblack")
    with new(tmp_path, images, classes=["cell", "nucleus", "debris"]) as other:
        with pytest.raises(BoxPromptError, match="2 classes without their names, and the project has 3"):
            import_into(other, path)
        assert other.exclusive
        other.set_classes(["cell", "nucleus"])
        import_into(other, path)
        assert layers(other) == {DEEP: {"cell": CELLS.tolist(), "nucleus": NUCLEI.tolist()}}


def test_a_single_channel_is_no_class(images: Path, tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Channel": {"Name": ["Channel 0"]}}
    tifffile.imwrite(tmp_path / "flat.ome.tif", CELLS[None], metadata=metadata, photometric="minisblack")
    with new(tmp_path, images) as other:
        import_into(other, tmp_path / "flat.ome.tif")
        assert (other.classes, other.exclusive) == (("object",), True)
        assert other.mask(FLAT).labels.shape == (SIDE, SIDE)  # type: ignore[union-attr]


def unnamed(folder: Path) -> None:
    write_labels(folder / "flat_objects.tif", BOTH, classes=["cell"], overlap=True)


def twice(folder: Path) -> None:
    write_labels(folder / "flat_objects.tif", BOTH, classes=["cell", "cell"], overlap=True)


def small(folder: Path) -> None:
    write_labels(folder / "flat_objects.tif", BOTH[:, 1:], classes=["cell", "nucleus"], overlap=True)


def depth(folder: Path) -> None:
    write_labels(folder / "flat_objects.tif", BOTH, classes=["cell", "nucleus"])


def beside(folder: Path) -> None:
    write_labels(folder / "flat_objects.tif", CELLS, classes=["cell"])
    write_labels(folder / "flat_mask.tif", CELLS[1:], classes=["cell"])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (unnamed, "an axis of 2 classes, but names 1; export it again"),
        (twice, "a name of its own"),
        (small, r"shape \(2, 63, 64\), its image flat.tif \(64, 64\)"),
        (depth, r"shape \(2, 64, 64\), its image flat.tif \(64, 64\)"),
        (beside, r"flat_mask.tif has the shape \(63, 64\)"),
    ],
    ids=["unnamed", "twice", "small", "depth", "beside"],
)
def test_what_does_not_fit_changes_nothing(images: Path, tmp_path: Path, write: object, words: str) -> None:
    place = tmp_path / "out"
    write_labels(place / "early" / "second_objects.tif", BOTH, classes=["a", "b"], overlap=True)
    assert callable(write)
    write(place)
    with new(tmp_path, images) as other:
        with pytest.raises(BoxPromptError, match=words):
            import_into(other, place)
        assert (other.classes, other.exclusive, other.masked_planes()) == (("object",), True, ())
        assert not other.unsaved


def test_classes_beside_objects_of_another_program_are_not_taken(images: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "second_objects.tif", NUCLEI)
    tifffile.imwrite(tmp_path / "second_mask.tif", (NUCLEI > 0).astype(np.uint8) * 255)
    with new(tmp_path, images) as other:
        import_into(other, tmp_path / "second_objects.tif")
        assert other.mask_classes(SECOND) == {}


def test_objects_without_their_classes_and_classes_without_objects(
    project: Project, images: Path, tmp_path: Path
) -> None:
    project.accept(FLAT, NUCLEI, {9: "nucleus"})
    export_project(project, "tiff", tmp_path / "out")
    kinds = tmp_path / "out" / "flat.tif_mask.ome.tif"
    with Project.create(tmp_path / "classes", images) as other:
        import_into(other, kinds)
        assert other.classes == ("cell", "nucleus")
        assert other.mask_classes(FLAT) == {1: "cell", 2: "nucleus"}
    kinds.unlink()
    with new(tmp_path, images) as other:
        import_into(other, tmp_path / "out")
        assert other.classes == ("object",), "or all would be of the first class that the file names"
        assert other.mask_classes(FLAT) == {}


def test_classes_of_an_ome_zarr_without_names_are_not_taken(
    project: Project, images: Path, tmp_path: Path
) -> None:
    project.accept(FLAT, NUCLEI, {9: "nucleus"})
    export_project(project, "zarr", tmp_path / "out")
    group = zarr.open_group(tmp_path / "out" / "flat.tif.ome.zarr")["labels/classes"]
    group.attrs["ome"] = {**group.attrs["ome"], "image-label": {"properties": [{"label-value": 1}]}}
    with new(tmp_path, images) as other:
        import_into(other, tmp_path / "out")
        assert other.classes == ("object",)
        assert other.mask_classes(FLAT) == {}


def test_more_axes_than_ome_zarr_has(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros((2, 1, 2, SIDE, SIDE), np.uint8))
    with Project.create(tmp_path / "one", tmp_path / "array.npy") as project:
        project.accept(project.images.planes[-1], CELLS)
        export_project(project, "zarr", tmp_path / "out")
        project.set_classes(["object"], exclusive=False)
        with pytest.raises(ProjectError, match="6 axes, OME-Zarr has 5 at most; export TIFF"):
            export_project(project, "zarr", tmp_path / "more")


@KINDS
def test_commands(overlapping: Project, images: Path, tmp_path: Path, kind: str) -> None:
    overlapping.close()
    place = tmp_path / "other"
    boxprompt("project", "export", overlapping.folder, kind, tmp_path / "out").ok()
    boxprompt("project", "new", place, images).ok()
    assert "3 planes imported" in boxprompt("project", "import", place, tmp_path / "out").ok().out
    with Project.open(place, read_only=True) as other:
        assert not other.exclusive
        assert layers(other) == layers(overlapping)
    if kind == "tiff":
        path = tmp_path / "out" / "flat.tif_objects.ome.tif"
        path.write_bytes((tmp_path / "out" / "stack.tif_objects.ome.tif").read_bytes())
        assert "its image flat.tif" in boxprompt("project", "import", place, path).sentence()


# PNG files


NUMBERS = (NUCLEI * 1000).astype(np.uint16)


@pytest.mark.parametrize(
    "name", ["flat.png", "flat_labels.PNG", "flat.tif.png", "flat_masks.png", "flat_mask.png"]
)
@pytest.mark.parametrize("whole_folder", [True, False])
def test_labels_come_from_png(project: Project, tmp_path: Path, name: str, whole_folder: bool) -> None:
    place = tmp_path / "labels"
    place.mkdir()
    Image.fromarray(NUMBERS).save(place / name, "png")
    assert import_into(project, place if whole_folder else place / name) == "Masks of 1 planes imported."
    mask = project.mask(FLAT)
    assert mask is not None
    np.testing.assert_array_equal(mask.labels, NUMBERS)
    assert project.status(FLAT) == "accepted"


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_png_of_few_numbers(project: Project, tmp_path: Path, mode: str) -> None:
    labels = (CELLS > 0).astype(np.uint8) * (1 if mode == "1" else 7)
    picture = Image.fromarray(labels)
    if mode == "1":
        picture = Image.fromarray(labels.astype(bool))
    if mode == "P":
        picture.putpalette([n % 251 for n in range(768)])
    assert picture.mode == mode
    picture.save(tmp_path / "flat.png")
    import_into(project, tmp_path / "flat.png")
    mask = project.mask(FLAT)
    assert mask is not None
    np.testing.assert_array_equal(mask.labels, labels)


def test_png_that_hold_no_labels_are_refused_before_anything_is_taken(
    project: Project, tmp_path: Path
) -> None:
    place = tmp_path / "labels"
    place.mkdir()
    Image.fromarray(NUMBERS).save(place / "flat.png")
    for bad, reason in {
        "RGB": "one channel",
        "RGBA": "one channel",
        "LA": "one channel",
        "small": "use the labels of the same image",
        "text": "not an image",
    }.items():
        picture = Image.new(bad if bad.isupper() else "L", (SIDE, SIDE if bad != "small" else SIDE - 1))
        picture.save(place / "second.png")
        if bad == "text":
            (place / "second.png").write_text("none")
        with pytest.raises(BoxPromptError, match=reason):
            import_into(project, place)
        assert project.masked_planes() == ()


def test_an_image_of_the_project_is_no_label_file(tmp_path: Path) -> None:
    place = tmp_path / "images"
    place.mkdir()
    Image.fromarray(NUMBERS).save(place / "flat.png")
    tifffile.imwrite(place / "second.tif", NUMBERS)
    with new(tmp_path, place) as project:
        for name in ("flat.png", "second.tif"):
            with pytest.raises(BoxPromptError, match="is an image of the project"):
                import_into(project, place / name)
        assert project.masked_planes() == ()


def test_png_files_beside_boxes_are_the_images(project: Project, tmp_path: Path) -> None:
    project.remove_images(["stack.tif"])
    place = tmp_path / "yolo"
    place.mkdir()
    Image.fromarray(NUMBERS).save(place / "flat.png")
    (place / "flat.txt").write_text("0 0.5 0.5 0.2 0.2")
    assert "1 boxes" in import_into(project, place)
    (place / "flat.txt").unlink()
    box = Box(1, 2, 30, 40, SECOND, "cell", 1)
    save_coco(BoxSet((box,)), place / "boxes.json")
    assert "1 boxes" in import_into(project, place)
    assert project.masked_planes() == ()


@pytest.mark.parametrize("name", ["flat.jpg", "flat.npy"])
def test_labels_in_other_images_are_not_taken_for_boxes(project: Project, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89none")
    with pytest.raises(BoxPromptError, match=r"export the labels as PNG, TIFF or OME-Zarr\.$"):
        import_into(project, tmp_path / name)
