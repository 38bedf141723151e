"""Masks in COCO files: run lengths, written and read, and polygons, read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.errors import BoxError
from napari_boxprompt.formats.coco import read_coco

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box, BoxSet, PlaneId
    from napari_boxprompt.formats.coco import CocoFile

__all__ = ["class_masks", "decode_mask", "encode_class_masks", "encode_mask", "load_coco_masks"]


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask ``(H, W)`` as uncompressed run lengths, column by column, as COCO has them."""
    flat = np.asarray(mask, bool).ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]]))
    # The first run is one of background, if an empty one.
    counts = [0, *runs.tolist()] if flat.size and flat[0] else runs.tolist()
    return {"size": list(mask.shape), "counts": counts}


def decode_mask(segmentation: Any, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the mask ``(H, W)`` of a segmentation.

    Parameters
    ----------
    segmentation : dict or list
        Run lengths, compressed or not, or polygons ``[[x, y, x, y, ...], ...]``.
    shape : tuple of int
        Height and width of the plane.

    Raises
    ------
    BoxError
        It is something else, or of another size.
    """
    if isinstance(segmentation, list):
        return _filled(segmentation, shape)
    counts: Any = segmentation.get("counts") if isinstance(segmentation, dict) else None
    if isinstance(counts, str):
        counts = _unpacked(counts)
    fits = isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts)
    size = tuple(segmentation.get("size", ())) if isinstance(segmentation, dict) else ()
    if not fits or size != tuple(shape) or sum(counts) != shape[0] * shape[1]:
        raise BoxError(
            f"A segmentation does not describe a mask of {shape[0]} x {shape[1]}; export it again."
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(shape, order="F")


def _unpacked(text: str) -> list[int]:
    """Return run lengths from the compressed form of the COCO programs: six bits a character, differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text.encode():
        bits = character - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _filled(polygons: Sequence[Any], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    from skimage.draw import polygon2mask

    mask = np.zeros(shape, bool)
    for polygon in polygons:
        points = np.asarray(polygon, float)
        if points.ndim != 1 or points.size < 6 or points.size % 2:
            raise BoxError("A polygon needs at least three points, [x, y, x, y, x, y]; export it again.")
        # Outlines run along the edges of pixels, whose middles count here.
        mask |= polygon2mask(shape, points.reshape(-1, 2)[:, ::-1] - 0.5)
    return mask


def load_coco_masks(
    path: str | Path, *, overlap: bool = False
) -> dict[PlaneId, tuple[npt.NDArray[np.uint32], dict[int, str]]]:
    """Read the masks of a COCO file as label images; crowds are left out, as in `load_coco`.

    Parameters
    ----------
    path : str or Path
        The file.
    overlap : bool
        Whether classes may overlap: then each class that a plane has objects of has a layer.

    Returns
    -------
    dict of PlaneId to (ndarray, dict)
        Numbers of the objects, ``(H, W)``, or ``(classes, H, W)`` where classes may overlap, and the class of
        each; only planes that have a mask. Where objects of a layer overlap, the later one is seen.

    Raises
    ------
    BoxError
        The file is not COCO, or a mask does not fit its image.
    """
    found: dict[PlaneId, tuple[dict[str, npt.NDArray[np.uint32]], dict[int, str]]] = {}
    for box, mask in _outlined(path, read_coco(path)):
        if mask is None:
            continue
        layers, classes = found.setdefault(box.plane, ({}, {}))
        name = box.label if overlap else ""
        if name not in layers:
            layers[name] = np.zeros(mask.shape, np.uint32)
        number = box.id if box.id > 0 and box.id not in classes else max(classes, default=0) + 1
        layers[name][mask] = number
        classes[number] = box.label
    return {
        plane: (np.stack(list(layers.values())) if overlap else layers[""], classes)
        for plane, (layers, classes) in found.items()
    }


def _outlined(path: str | Path, file: CocoFile) -> Iterator[tuple[Box, npt.NDArray[np.bool_] | None]]:
    """Yield each box of a file with its mask, None where it has none."""
    for entry, box in zip(file.entries, file.boxes.boxes, strict=True):
        segmentation = entry.get("segmentation")
        shape = file.boxes.planes[box.plane].shape
        if segmentation and shape is None:
            raise BoxError(f"{path} does not say how large {box.plane} is; add its width and height.")
        yield box, decode_mask(segmentation, shape) if segmentation and shape else None


def class_masks(path: str | Path) -> dict[PlaneId, npt.NDArray[np.uint8]]:
    """Read what a training learns from outlines: which pixels are of which class.

    Parameters
    ----------
    path : str or Path
        A COCO file.

    Returns
    -------
    dict of PlaneId to ndarray, uint8
        ``(H, W)``, k + 1 for the k-th class of the file, or ``(K, H, W)`` of 0 and 1 where its classes may
        overlap; only planes that have an outline and no crowd, whose objects would be background.

    Raises
    ------
    BoxError
        The file is not COCO, an outline does not fit its image, or a plane has boxes with outlines and boxes
        without.
    """
    file = read_coco(path)
    boxes = file.boxes
    numbers = {name: k for k, name in enumerate(boxes.classes)}
    found: dict[PlaneId, npt.NDArray[np.uint8]] = {}
    bare: dict[PlaneId, None] = {}
    for box, outline in _outlined(path, file):
        if box.plane in file.crowds:
            continue
        if outline is None:
            bare[box.plane] = None
            continue
        lead = () if boxes.exclusive else (len(numbers),)
        mask = found.setdefault(box.plane, np.zeros((*lead, *outline.shape), np.uint8))
        if boxes.exclusive:
            mask[outline] = numbers[box.label] + 1
        else:
            mask[numbers[box.label]][outline] = 1
    mixed = next((plane for plane in bare if plane in found), None)
    if mixed is not None:
        raise BoxError(
            f"{path}: some objects on {mixed} have an outline and some have only a box; outline them all, or "
            "train without outlines."
        )
    return found


def encode_class_masks(
    boxes: BoxSet, masks: Mapping[PlaneId, npt.NDArray[np.integer]]
) -> dict[int, dict[str, Any]]:
    """Return what `napari_boxprompt.formats.coco.save_coco` needs so that `class_masks` reads these masks.

    Parameters
    ----------
    boxes : BoxSet
        Every object of a mask lies in a box of its class.
    masks : mapping of PlaneId to ndarray
        As `class_masks` returns them, for the classes of `boxes`.

    Returns
    -------
    dict of int to dict
        Outlines by the place of the box in the set: the pixels of its class inside it, of touching objects
        too.
    """
    found: dict[int, dict[str, Any]] = {}
    for place, box in enumerate(boxes.boxes):
        mask = masks.get(box.plane)
        if mask is None:
            continue
        k = boxes.classes.index(box.label)
        pixels = mask == k + 1 if mask.ndim == 2 else mask[k] > 0
        inside = np.zeros(pixels.shape, bool)
        window = np.s_[math.floor(box.y0) : math.ceil(box.y1), math.floor(box.x0) : math.ceil(box.x1)]
        inside[window] = pixels[window]
        found[place] = encode_mask(inside)
    return found
