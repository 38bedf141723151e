"""COCO JSON, read and written; our own files are COCO with a few keys more.

Ours have a top-level key ``napari_boxprompt`` with ``version`` and ``exclusive``, and per image entry
``plane`` (index in a stack), ``complete`` and ``complete_regions`` (``[x, y, width, height]`` each); other
programs ignore them. COCO counts ``bbox = [x, y, width, height]`` in pixels from the corner of the image,
as we do.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError
from napari_boxprompt.files import atomic_write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FORMAT_VERSION", "CocoFile", "load_coco", "read_coco", "save_coco"]

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Version of the keys we add; a file with a higher one is refused."""

_KEY = "napari_boxprompt"

# A start and a length do not always add up to the stop they came from, so that a box on the border would come
# back a little beyond it; rounding on both sides gives the same box every time.
_DIGITS = 9


def save_coco(
    boxset: BoxSet, path: str | Path, segmentations: Mapping[int, Mapping[str, Any]] | None = None
) -> None:
    """Write boxes as COCO JSON, all of it or nothing; coordinates are rounded to 1e-9 pixels.

    Parameters
    ----------
    boxset : BoxSet
        The boxes; planes without boxes are kept.
    path : str or Path
        The file; an existing one is replaced.
    segmentations : mapping of int to mapping, optional
        Masks of boxes in the form of `napari_boxprompt.formats.outlines`, by the place of the box in the set.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    classes = tuple(dict.fromkeys((*boxset.classes, *(box.label for box in boxset.boxes))))
    category = {name: number for number, name in enumerate(classes, start=1)}
    image = {plane: number for number, plane in enumerate(boxset.planes, start=1)}
    outlines = segmentations or {}
    content = {
        _KEY: {"version": FORMAT_VERSION, "exclusive": boxset.exclusive},
        "images": [_image_entry(image[plane], plane, info) for plane, info in boxset.planes.items()],
        "annotations": [
            {
                "id": number,
                "image_id": image[box.plane],
                "category_id": category[box.label],
                "bbox": _to_coco(box.as_tuple()),
                "area": box.area,
                "iscrowd": 0,
                "object_id": box.id,
                **({"segmentation": outlines[number - 1]} if number - 1 in outlines else {}),
            }
            for number, box in enumerate(boxset.boxes, start=1)
        ],
        "categories": [{"id": number, "name": name} for name, number in category.items()],
    }
    atomic_write_bytes(path, _one_line_each(content).encode())


def _one_line_each(content: dict[str, Any]) -> str:
    """Return JSON with a line for each entry: quicker to write than with indents, easy to compare."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    parts = []
    for key, value in content.items():
        rows = ",\n  ".join(map(text, value)) if isinstance(value, list) else ""
        parts.append(f" {text(key)}: " + (f"[\n  {rows}\n ]" if rows else text(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


class CocoFile(NamedTuple):
    """What a COCO file says.

    Parameters
    ----------
    boxes : BoxSet
        Its boxes, crowds left out.
    entries : tuple of dict
        The annotation that each box was read from, in the same order.
    crowds : mapping of PlaneId to int
        Planes that have groups of objects under one annotation (``iscrowd``), and how many: these objects
        have no boxes of their own.
    marked : int
        How many annotations are marked as crowds; where there are no `crowds` they are objects all the same.
    """

    boxes: BoxSet
    entries: tuple[dict[str, Any], ...]
    crowds: Mapping[PlaneId, int]
    marked: int

    def tell(self, path: Path) -> None:
        """Say in the log what was made of crowds."""
        if self.crowds:
            _log.warning(
                "%s: %d annotations marked as a crowd (iscrowd 1) are left out, the first on %s; if they are "
                "single objects, which CVAT marks so when they are painted, set their iscrowd to 0.",
                path,
                sum(self.crowds.values()),
                next(iter(self.crowds)),
            )
        elif self.marked:
            _log.warning(
                "%s: all %d annotations are marked as a crowd (iscrowd 1), as CVAT marks what is painted; "
                "each is taken as one object.",
                path,
                self.marked,
            )


def load_coco(path: str | Path) -> BoxSet:
    """Read boxes from COCO JSON; outlines (``segmentation``) are not read.

    Crowds (``iscrowd`` 1), which are groups of objects under one box, are left out with a warning in the log.
    Where a file marks everything so, as CVAT does with painted objects, the entries are objects.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    BoxSet
        Planes are named as in the file, in its order.

    Raises
    ------
    BoxError
        If the file is not COCO or an entry cannot be used; the message names the file and the entry.
    """
    found = read_coco(path)
    found.tell(Path(path))
    return found.boxes


def read_coco(path: str | Path) -> CocoFile:
    """Read boxes as `load_coco` does, without a word about crowds.

    Parameters
    ----------
    path : str or Path
        The file.

    Raises
    ------
    BoxError
        As in `load_coco`.
    """
    path = Path(path)
    content = _read_json(path)
    exclusive = _read_own(content.get(_KEY), path)
    labels: dict[Any, str] = {}
    for entry in _entries(content, "categories", path):
        key = _unique_id(entry, "category", labels, path)
        labels[key] = _text(entry, "name", f"category {key}", path)
    if len(set(labels.values())) != len(labels):
        raise BoxError(f"{path}: two categories have the same name; give each its own.")
    planes: dict[Any, PlaneId] = {}
    infos: dict[PlaneId, PlaneInfo] = {}
    for entry in _entries(content, "images", path):
        key = _unique_id(entry, "image", planes, path)
        plane, info = _read_image(entry, key, path)
        if plane in infos:
            raise BoxError(f"{path}: image {key} lists {plane} a second time; keep one entry per plane.")
        planes[key], infos[plane] = plane, info
    annotations = _entries(content, "annotations", path)
    marked = sum(map(_is_crowd, annotations))
    every = marked == len(annotations)
    seen: dict[Any, None] = {}
    taken: list[tuple[Box, dict[str, Any]]] = []
    crowds: dict[PlaneId, int] = {}
    for number, entry in enumerate(annotations):
        key = _unique_id(entry, "annotation", seen, path) if "id" in entry else f"number {number + 1}"
        seen[key] = None
        plane = _plane_of(entry, f"annotation {key}", planes, path)
        if _is_crowd(entry) and not every:
            crowds[plane] = crowds.get(plane, 0) + 1
            continue
        taken.append((_read_box(entry, f"annotation {key}", plane, labels, path), entry))
    boxes = BoxSet(tuple(box for box, _ in taken), infos, tuple(labels.values()), exclusive)
    return CocoFile(boxes, tuple(entry for _, entry in taken), crowds, marked)


def _is_crowd(entry: dict[str, Any]) -> bool:
    return entry.get("iscrowd") in (1, "1")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise BoxError(f"There is no box file {path}; check the path.") from error
    except OSError as error:
        raise BoxError(
            f"{path} cannot be read ({error.strerror}); check the path and its permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BoxError(f"{path} is not valid JSON ({error}); save it again as COCO JSON.") from error
    if not isinstance(content, dict) or "images" not in content or "annotations" not in content:
        raise BoxError(
            f'{path} is not a COCO file: "images", "annotations" and "categories" are needed; '
            "export it as COCO."
        )
    return content


def _read_own(own: Any, path: Path) -> bool:
    """Check the version of our keys and return whether classes exclude each other."""
    if own is None:
        return True
    version = own.get("version") if isinstance(own, dict) else None
    if not _whole(version) or version < 1 or not isinstance(own.get("exclusive", True), bool):
        raise BoxError(
            f'{path}: the key "{_KEY}" is damaged; it should be {{"version": 1, "exclusive": true}}.'
        )
    if version > FORMAT_VERSION:
        raise BoxError(
            f"{path} was written by a newer version (format {version}, this one reads {FORMAT_VERSION}); "
            "update napari-boxprompt."
        )
    return bool(own.get("exclusive", True))


def _entries(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BoxError(f'{path}: "{key}" is missing or not a list of entries; export the file as COCO again.')
    return entries


def _unique_id(entry: dict[str, Any], kind: str, seen: dict[Any, Any], path: Path) -> int | str:
    key = entry.get("id")
    if not _whole(key) and not isinstance(key, str):
        raise BoxError(
            f'{path}: an entry of the kind {kind} has no "id" (found {key!r}); number the entries.'
        )
    if key in seen:
        raise BoxError(f"{path}: the {kind} id {key} is used twice; give every {kind} its own id.")
    return key


def _text(entry: dict[str, Any], key: str, where: str, path: Path) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BoxError(f'{path}: {where} has no "{key}"; add it.')
    return value


def _read_image(entry: dict[str, Any], key: Any, path: Path) -> tuple[PlaneId, PlaneInfo]:
    where = f"image {key}"
    name = _text(entry, "file_name", where, path)
    index = entry.get("plane", [])
    if not isinstance(index, list) or not all(_whole(i) and i >= 0 for i in index):
        raise BoxError(
            f'{path}: {where} has the plane {index!r}; write a list of whole numbers such as "plane": [0].'
        )
    size = [entry.get("height"), entry.get("width")]
    if size != [None, None] and not all(_whole(n) and n > 0 for n in size):
        raise BoxError(
            f"{path}: {where} has height {size[0]!r} and width {size[1]!r}; write its size in pixels."
        )
    complete = entry.get("complete", False)
    regions = entry.get("complete_regions", [])
    if not isinstance(complete, bool) or not isinstance(regions, list):
        raise BoxError(
            f'{path}: {where} has a damaged "complete" or "complete_regions"; '
            "write true or false, and a list."
        )
    info = PlaneInfo(
        shape=None if size[0] is None or size[1] is None else (int(size[0]), int(size[1])),
        complete=complete,
        complete_regions=tuple(
            _from_coco(region, f"a complete region of {where}", path) for region in regions
        ),
    )
    return PlaneId(name, tuple(index)), info


def _plane_of(entry: dict[str, Any], where: str, planes: dict[Any, PlaneId], path: Path) -> PlaneId:
    image = entry.get("image_id")
    if not isinstance(image, (int, str)) or image not in planes:
        raise BoxError(
            f'{path}: {where} lies on image {image!r}, which "images" does not list; add or remove it.'
        )
    return planes[image]


def _read_box(entry: dict[str, Any], where: str, plane: PlaneId, labels: dict[Any, str], path: Path) -> Box:
    category = entry.get("category_id")
    if not isinstance(category, (int, str)) or category not in labels:
        raise BoxError(
            f'{path}: {where} has the category {category!r}, which "categories" does not list; add it.'
        )
    attributes = entry.get("attributes")
    for place in (entry, attributes if isinstance(attributes, dict) else {}):
        for key in ("rotation", "angle"):
            if place.get(key) not in (None, 0, "", "0"):
                raise BoxError(
                    f"{path}: {where} is rotated ({key} {place[key]}); only upright boxes can be used."
                )
    number = entry.get("object_id", entry.get("id"))
    y0, x0, y1, x1 = _from_coco(entry.get("bbox"), where, path)
    return Box(y0, x0, y1, x1, plane, labels[category], number if _whole(number) else 0)


def _image_entry(number: int, plane: PlaneId, info: PlaneInfo) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": number, "file_name": plane.image}
    if info.shape is not None:
        entry |= {"width": info.shape[1], "height": info.shape[0]}
    entry |= {"plane": list(plane.index), "complete": info.complete}
    if info.complete_regions:
        entry["complete_regions"] = [_to_coco(region) for region in info.complete_regions]
    return entry


def _from_coco(bbox: Any, where: str, path: Path) -> tuple[float, float, float, float]:
    if isinstance(bbox, list) and len(bbox) in (5, 8):
        raise BoxError(
            f"{path}: {where} is a rotated box ({len(bbox)} numbers); only upright boxes can be used, "
            "[x, y, width, height]."
        )
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_real(value) for value in bbox):
        raise BoxError(
            f'{path}: {where} needs a "bbox" of four numbers, [x, y, width, height], not {bbox!r}.'
        )
    x, y, width, height = map(float, bbox)
    if not all(map(math.isfinite, (x, y, x + width, y + height))):
        raise BoxError(f"{path}: {where} has a bbox that is not finite, {bbox}; correct or remove it.")
    if not (width > 0 and height > 0 and x + width > x and y + height > y):
        raise BoxError(f"{path}: {where} has a bbox without area, {bbox}; correct or remove it.")
    return (_round(y), _round(x), _stop(y, height), _stop(x, width))


def _to_coco(box: Sequence[float]) -> list[float]:
    y0, x0, y1, x1 = box
    return [_round(x0), _round(y0), _length(x0, x1), _length(y0, y1)]


def _round(value: float) -> float:
    return round(value, _DIGITS)


def _length(start: float, stop: float) -> float:
    return _round(_round(stop) - _round(start)) or stop - start


def _stop(start: float, length: float) -> float:
    stop = _round(start + length)
    return stop if stop > _round(start) else start + length


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: object) -> TypeGuard[int | float]:
    # A whole number beyond the range of float cannot become one.
    return isinstance(value, float) or (_whole(value) and abs(value) < 10**300)
