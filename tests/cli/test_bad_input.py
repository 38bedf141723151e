"""Everything a user can get wrong: one sentence that says what to do, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.helpers.commands import Discs, boxprompt, everything, process, write_image

from napari_boxprompt.errors import BoxError, ImageError

pytestmark = pytest.mark.usefixtures("fake_weights", "tiny_generator")

Coco = dict[str, Any]
TINY = ("--complete", "--generator", "tiny", "--set", "steps=1", "--set", "augment.views=0")


def refused(images: object, boxes: object, place: Path, *more: object) -> str:
    """Train, see that it fails and leaves nothing, and return what is said."""
    place.mkdir(exist_ok=True)
    said = boxprompt("train", images, "--boxes", boxes, "--out", place / "model", *TINY, *more).sentence()
    assert everything(place) == set()
    return said


# Images


def cut(path: Path, pixels: np.ndarray) -> None:
    write_image(path, pixels)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


IMAGES: dict[str, tuple[str, Callable[[Path, np.ndarray], object], str]] = {
    "empty": ("image3.png", lambda path, _: path.write_bytes(b""), "copy it again or remove it"),
    "cut png": ("image3.png", cut, "save or copy it again"),
    "cut tiff": ("image3.tif", cut, "save or copy it again"),
    "text": ("image3.png", lambda path, _: path.write_text("no picture"), "convert it to PNG or TIFF"),
    "tiny": ("image3.png", lambda path, pixels: write_image(path, pixels[:20, :20]), "32"),
    "five channels": (
        "image3.tif",
        lambda path, pixels: tifffile.imwrite(
            path, np.stack([pixels] * 5), metadata={"axes": "CYX"}, photometric="minisblack"
        ),
        "choose one with --channel (0 to 4)",
    ),
    "complex": ("image3.tif", lambda path, pixels: write_image(path, pixels + 1j), "convert them to"),
    "mixed": ("image3.png", lambda path, pixels: write_image(path, np.stack([pixels] * 3, -1)), "--channel"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images_that_cannot_be_read(case: str, discs: Discs, tmp_path: Path) -> None:
    name, spoil, advice = IMAGES[case]
    folder = tmp_path / "images [old]"
    folder.mkdir()
    for file in discs.images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    pixels = np.asarray(Image.open(folder / "image3.png"))
    (folder / "image3.png").unlink()
    spoil(folder / name, pixels)
    said = refused(folder, discs.boxes, tmp_path / "out")
    assert advice in said
    assert name in said
    if case != "mixed":
        assert str(folder / name) in said


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        ("nowhere", "check the path"),
        ("nowhere/*.png", "check the pattern"),
        ("texts", "holds no images"),
    ],
)
def test_images_that_are_not_there(images: str, advice: str, discs: Discs, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.md").write_text("none", encoding="utf-8")
    assert advice in refused(tmp_path / images, discs.boxes, tmp_path / "out")


# Boxes


def first(key: str, value: object) -> Callable[[Coco], None]:
    """Change the first annotation."""
    return lambda coco: coco["annotations"][0].update({key: value})


def image(key: str, value: object) -> Callable[[Coco], None]:
    """Change the first image entry."""
    return lambda coco: coco["images"][0].update({key: value})


def only_first_image(coco: Coco) -> None:
    coco["annotations"] = [entry for entry in coco["annotations"] if entry["image_id"] == 0]


BOXES: dict[str, tuple[Callable[[Coco], object], str]] = {
    "outside": (first("bbox", [900, 900, 10, 10]), "remove the box or move it"),
    "no area": (first("bbox", [10, 10, 0, 5]), "correct or remove it"),
    "NaN": (first("bbox", [10, float("nan"), 5, 5]), "correct or remove it"),
    "infinite": (first("bbox", [10, 10, float("inf"), 5]), "correct or remove it"),
    "rotated": (first("bbox", [10, 10, 20, 20, 30]), "upright boxes can be used, [x, y, width, height]"),
    "angle": (first("attributes", {"rotation": 30}), "only upright boxes can be used"),
    "words": (first("bbox", ["a", 1, 2, 3]), "[x, y, width, height]"),
    "plane of a flat image": (image("plane", [3]), "correct the box file"),
    "other size": (lambda coco: coco["images"][0].update(width=9, height=9), "use the original images"),
    "unknown class": (first("category_id", 7), "add it"),
    "unknown image": (first("image_id", 7), "add or remove it"),
    "no boxes": (lambda coco: coco["annotations"].clear(), "draw boxes"),
    "nothing": (lambda coco: coco.update(images=[], annotations=[], categories=[]), "draw boxes"),
    "one plane": (only_first_image, "draw boxes on one more"),
    "not COCO": (lambda coco: coco.pop("annotations"), "export it as COCO"),
    "newer": (lambda coco: coco.update(napari_boxprompt={"version": 9}), "update napari-boxprompt"),
    "other names": (lambda c: [e.update(file_name=f"x{e['id']}") for e in c["images"]], "open the folder"),
}


@pytest.mark.parametrize("place", ["labels.png", "labels.TIF", "labels.zarr", "."])
def test_labels_that_are_given_as_boxes(place: str, discs: Discs, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    write_image(folder / "labels.png", np.eye(64, dtype=np.uint8))
    (folder / "labels.TIF").write_bytes(b"II*\0")
    (folder / "labels.zarr").mkdir()
    said = refused(discs.images, folder / place, tmp_path / "out")
    assert str(folder / place) in said
    assert "JSON (" not in said
    assert "project import" in said
    assert "Boxes from a Labels layer" in said


@pytest.mark.parametrize("case", BOXES)
def test_boxes_that_cannot_be_used(case: str, discs: Discs, tmp_path: Path) -> None:
    spoil, advice = BOXES[case]
    coco = json.loads(discs.boxes.read_text(encoding="utf-8"))
    spoil(coco)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(coco), encoding="utf-8")
    assert advice in refused(discs.images, boxes, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "advice"),
    [(b"", "save it again"), (b"{", "save it again"), (b"\xff\xfe\x00", "save it again"), (None, "check")],
)
def test_box_files_that_cannot_be_read(
    content: bytes | None, advice: str, discs: Discs, tmp_path: Path
) -> None:
    boxes = tmp_path / "boxes.json"
    if content is not None:
        boxes.write_bytes(content)
    assert advice in refused(discs.images, boxes, tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("3 0.5 0.5 0.2 0.2", "add its name"),
        ("0 0.5 0.5 0 0.2", "has no area"),
        ("0 nan 0.5 0.2 0.2", "not finite"),
        ("0 50 50 20 20", "fractions of width and height"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "only upright boxes"),
        ("disc 0.5 0.5 0.2 0.2", "correct or remove it"),
    ],
)
def test_yolo_lines_that_cannot_be_used(line: str, advice: str, discs: Discs, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for file in (discs.folder / "labels").iterdir():
        (labels / file.name).write_bytes(file.read_bytes())
    (labels / "image1.txt").write_text(f"{line}\n", encoding="utf-8")
    said = refused(discs.images, labels, tmp_path / "out")
    assert advice in said
    assert "image1.txt, line 1" in said


def test_planes_of_a_stack(discs: Discs, tmp_path: Path) -> None:
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((3, 64, 64), np.uint8), photometric="minisblack")
    for plane, advice in (
        ([], '"plane": [0]'),
        ([3], "its planes are [0 to 2]"),
        ([0, 0], "correct the box"),
    ):
        boxes = {
            "images": [{"id": 1, "file_name": "stack.tif", "plane": plane}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20]}],
            "categories": [{"id": 1, "name": "disc"}],
        }
        (tmp_path / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
        assert advice in refused(stack, tmp_path / "boxes.json", tmp_path / "out")
    assert "use COCO JSON" in refused(stack, yolo_of(stack), tmp_path / "out")


def yolo_of(stack: Path) -> Path:
    labels = stack.with_suffix(".txt")
    labels.write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    return labels


# How it is said


def test_as_a_process_of_its_own(discs: Discs, tmp_path: Path) -> None:
    words = ("train", tmp_path / "nowhere", "--boxes", discs.boxes, "--out", tmp_path / "model")
    quiet = process(*words)
    assert "check the path" in quiet.sentence()
    assert quiet.out == ""
    loud = process("--debug", *words)
    assert loud.code == 1
    assert "Traceback" in loud.err
    assert ImageError.__name__ in loud.err
    assert everything(tmp_path) == set()


def test_debug_lets_the_error_through(discs: Discs, tmp_path: Path) -> None:
    boxes = tmp_path / "none.json"
    with pytest.raises(BoxError, match="check the path"):
        boxprompt("--debug", "train", discs.images, "--boxes", boxes, "--out", tmp_path / "model")


def test_an_unforeseen_error_asks_for_a_report(
    discs: Discs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom [/red] in [x, y]")

    monkeypatch.setattr("napari_boxprompt.formats.load_boxes", fail)
    words = ("train", discs.images, "--boxes", discs.boxes, "--out", tmp_path / "model")
    ended = boxprompt(*words)
    assert ended.code == 1
    assert ended.messages[0] == "Error: RuntimeError: boom [/red] in [x, y]"
    assert "boxprompt --debug" in ended.messages[1]
    with pytest.raises(RuntimeError, match="boom"):
        boxprompt("--debug", *words)


# Words


def test_a_pattern_without_quotes(discs: Discs, tmp_path: Path) -> None:
    files = sorted(discs.images.glob("*.png"))
    more = f"'{files[1]}' and {len(files) - 2} more"
    for words in (
        ("train", *files, "--boxes", discs.boxes, "--out", tmp_path / "out"),
        ("predict", tmp_path / "model", *files, "--out", tmp_path / "out"),
        ("project", "new", tmp_path / "project", *files),
    ):
        said = boxprompt(*words).sentence()
        assert more in said
        assert "in quotes" in said
    said = boxprompt("project", "import", tmp_path / "project", *files).sentence()
    assert more in said
    assert "name the folder." in said, "where no pattern is taken"
    assert not {"out", "project"} & everything(tmp_path)


def test_settings_are_listed() -> None:
    shown = boxprompt("train", "--set", "list").ok()
    assert {"steps", "loss.size", "augment.views"} <= set(shown.out.split())
    assert not shown.messages
