"""YOLO text files: one per image, one line per box, ``class x_center y_center width height`` from 0 to 1."""

from __future__ import annotations

import logging
import math
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError
from napari_boxprompt.files import atomic_write_bytes
from napari_boxprompt.formats.alignment import NameIndex

if TYPE_CHECKING:
    from napari_boxprompt.images import Images

__all__ = ["label_files", "load_yolo", "save_yolo"]

_NAME_FILES = ("classes.txt", "obj.names", "data.yaml", "data.yml", "dataset.yaml")
_NOT_LABELS = frozenset({"classes.txt", "train.txt", "val.txt", "test.txt", "readme.txt", "requirements.txt"})
_SLACK = 1e-4  # programs that write six digits overshoot a little

_log = logging.getLogger(__name__)


def label_files(folder: Path) -> list[Path]:
    """Return the label files in a folder and its sub-folders, sorted."""
    return sorted(
        path
        for path in folder.rglob("*.txt")
        if path.name.lower() not in _NOT_LABELS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def load_yolo(path: str | Path, images: Images, *, at: PlaneId | None = None) -> BoxSet:
    """Read YOLO boxes.

    Class names come from ``classes.txt``, ``obj.names`` or ``data.yaml`` in the folder or up to two above;
    without them classes are called "class 0", "class 1", ... An empty file says that somebody looked and
    found nothing, so its image is complete; an image without file stays unknown, and files without image are
    left out with a warning. Edges that overshoot the border by rounding are cut.

    Parameters
    ----------
    path : str or Path
        A folder of text files, sub-folders included, or one text file.
    images : Images
        The images; their sizes turn fractions into pixels.
    at : PlaneId, optional
        The plane that a single text file is about, whatever it is called; it may be one of a stack.

    Returns
    -------
    BoxSet
        Its planes are planes of `images`.

    Raises
    ------
    BoxError
        If a line cannot be used (the message names file and line), no image fits a file, or the image is a
        stack.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    files = label_files(path) if path.is_dir() else [path]
    if not files:
        raise BoxError(f"{path} holds no YOLO .txt files; check the path.")
    names = _class_names(folder)
    index = NameIndex(images.names)
    boxes: list[Box] = []
    infos: dict[PlaneId, PlaneInfo] = {}
    missing: list[Path] = []
    for file in files:
        name = index.find(file.relative_to(folder).as_posix()) if at is None else at.image
        if name is None:
            missing.append(file)
            continue
        plane = _single_plane(name, file, images) if at is None else at
        if plane in infos:
            raise BoxError(f"Two label files fit the image {name}, one is {file}; keep one of them.")
        found = _read_file(file, plane, images.shape(plane), names)
        infos[plane] = PlaneInfo(images.shape(plane), complete=not found)
        boxes.extend(found)
    index.tell()
    if missing and not infos:
        raise BoxError(f"No image is called like {missing[0]}; open the images the boxes were drawn on.")
    if missing:
        _log.warning(
            "%d label files fit no image and are left out, the first is %s.", len(missing), missing[0]
        )
    return BoxSet(tuple(boxes), infos, _numbered(boxes) if names is None else names)


def _numbered(boxes: list[Box]) -> tuple[str, ...]:
    """Return the classes of boxes, "class 0", "class 1" and so on, in the order of their numbers."""
    return tuple(sorted({box.label for box in boxes}, key=lambda label: int(label.split()[-1])))


def save_yolo(boxset: BoxSet, folder: str | Path) -> None:
    """Write boxes as YOLO text files and a ``classes.txt``.

    Boxed and complete planes get a file, an empty one if there is no object; a plane nobody looked at gets
    none. Boxes are cut at the border. YOLO cannot say that a plane with boxes is complete, nor hold ids.

    Parameters
    ----------
    boxset : BoxSet
        Boxes on two-dimensional images of known size.
    folder : str or Path
        Where to write; sub-folders are made as in the names of the images.

    Raises
    ------
    BoxError
        If a plane belongs to a stack, its size is unknown, or two images would share a label file.
    OutputError
        If a file cannot be written.
    """
    folder = Path(folder)
    boxset = boxset.with_boxes(boxset.boxes)
    number = {name: i for i, name in enumerate(boxset.classes)}
    if any("\n" in name or name != name.strip() or not name for name in boxset.classes):
        raise BoxError("YOLO class names must be one line each without spaces around; rename the classes.")
    contents: dict[Path, bytes] = {}
    for plane in boxset.boxed_planes:
        if plane.index:
            raise BoxError(f"YOLO files cannot name the planes of a stack ({plane}); save as COCO instead.")
        shape = boxset.planes[plane].shape
        if shape is None:
            raise BoxError(
                f"The size of {plane} is not known; align the boxes to their images before saving."
            )
        name = PurePosixPath(plane.image)
        if name.is_absolute() or ".." in name.parts or not name.name:
            raise BoxError(f"The image name '{plane.image}' leads out of the folder; align the boxes first.")
        target = folder / name.with_suffix(".txt")
        if target in contents or target.name in _NOT_LABELS:
            raise BoxError(
                f"The label file {target} of {plane} has the name of another file; rename the image."
            )
        parts = (box.clip(*shape) for box in boxset.on(plane))
        lines = [_line(number[part.label], part, shape) for part in parts if part is not None]
        contents[target] = "".join(lines).encode()
    for target, content in contents.items():
        atomic_write_bytes(target, content)
    atomic_write_bytes(folder / "classes.txt", "".join(f"{name}\n" for name in boxset.classes).encode())


def _line(number: int, box: Box, shape: tuple[int, int]) -> str:
    height, width = shape
    values = (
        (box.x0 + box.x1) / 2 / width,
        (box.y0 + box.y1) / 2 / height,
        box.width / width,
        box.height / height,
    )
    return f"{number} {' '.join(f'{value:.12g}' for value in values)}\n"


def _single_plane(name: str, file: Path, images: Images) -> PlaneId:
    extent = images.extent(name)
    if math.prod(extent) != 1:
        raise BoxError(
            f"{file} belongs to {name}, a stack of {math.prod(extent)} planes, and YOLO cannot say which "
            'plane a box lies on; use COCO JSON with "plane" for stacks.'
        )
    return PlaneId(name, (0,) * len(extent))


def _read_file(
    file: Path, plane: PlaneId, shape: tuple[int, int], names: tuple[str, ...] | None
) -> list[Box]:
    lines = _read_text(file).splitlines()
    return [
        _read_line(line.split(), f"{file}, line {number}", plane, shape, names)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _read_line(
    words: list[str], where: str, plane: PlaneId, shape: tuple[int, int], names: tuple[str, ...] | None
) -> Box:
    if len(words) >= 7:
        raise BoxError(
            f"{where}: {len(words)} values are a rotated box or an outline; only upright boxes can be used, "
            "'class x y width height'."
        )
    if len(words) != 5:
        raise BoxError(f"{where}: there are {len(words)} values; five are needed, 'class x y width height'.")
    try:
        kind, x, y, width, height = map(float, words)
    except ValueError as error:
        raise BoxError(f"{where}: '{' '.join(words)}' is not five numbers; correct or remove it.") from error
    values = (x, y, width, height)
    if not all(map(math.isfinite, (kind, *values))):
        raise BoxError(f"{where}: a value is not finite; correct or remove the line.")
    if kind < 0 or not kind.is_integer():
        raise BoxError(f"{where}: the class '{words[0]}' is not a whole number from 0; correct it.")
    if names is not None and kind >= len(names):
        raise BoxError(
            f"{where}: the class {kind:.0f} is not known, there are {len(names)} names; add its name."
        )
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
        raise BoxError(f"{where}: a value is outside 0 to 1; YOLO boxes are fractions of width and height.")
    if width <= 0 or height <= 0:
        raise BoxError(f"{where}: the box has no area; correct or remove the line.")
    rows, columns = shape
    y0, y1 = max(0.0, (y - height / 2) * rows), min(float(rows), (y + height / 2) * rows)
    x0, x1 = max(0.0, (x - width / 2) * columns), min(float(columns), (x + width / 2) * columns)
    if not (y1 > y0 and x1 > x0):
        raise BoxError(f"{where}: the box has no area inside the image; correct or remove the line.")
    label = f"class {kind:.0f}" if names is None else names[int(kind)]
    return Box(y0, x0, y1, x1, plane, label)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BoxError(
            f"{file} cannot be read ({error.strerror}); check the path and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise BoxError(f"{file} is not a text file; remove it or save it as UTF-8 text.") from error


def _class_names(folder: Path) -> tuple[str, ...] | None:
    """Return the class names found nearest to the labels, None if there are none."""
    home = Path(folder).absolute()
    for place in (home, *home.parents[:2]):
        for name in _NAME_FILES:
            file = place / name
            if file.is_file():
                text = _read_text(file)
                names = _yaml_names(text, file) if file.suffix in (".yaml", ".yml") else _plain_names(text)
                if len(set(names)) != len(names):
                    raise BoxError(f"{file}: a class name appears twice; give every class its own name.")
                return names
    return None


def _plain_names(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.rstrip().splitlines())


def _yaml_names(text: str, file: Path) -> tuple[str, ...]:
    import yaml

    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BoxError(
            f"{file} is not valid YAML; correct it or write the class names to classes.txt."
        ) from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise BoxError(f'{file} has no list "names" numbered from 0; write the class names to classes.txt.')
    return tuple(str(name) for name in names)
