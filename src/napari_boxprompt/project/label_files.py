"""Label files of this or another program: objects of an image, and what is said of their classes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile
from PIL import Image

from napari_boxprompt._readers import check_size, reading
from napari_boxprompt.errors import BoxError
from napari_boxprompt.formats.yolo import label_files as yolo_files
from napari_boxprompt.images import IMAGE_SUFFIXES, read_mask
from napari_boxprompt.project.folder import checked_classes
from napari_boxprompt.project.masks import Mask
from napari_boxprompt.project.omezarr import open_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from napari_boxprompt.formats.alignment import NameIndex
    from napari_boxprompt.project.documents import ImageEntry

__all__ = ["LabelFile", "find_label_files", "image_of", "open_label_file"]

_SURE = (".tif", ".tiff", ".zarr")
_KINDS = (*_SURE, ".png")
# Of other kinds of PNG the numbers are not what they were, or are those of colours.
_NUMBERS = ("1", "L", "P", "I")


class LabelFile(NamedTuple):
    """Labels of an image, not read yet.

    Parameters
    ----------
    extent : tuple of int
        Planes of the image along each axis.
    names : tuple of str
        Classes 1, 2, ...; none where they are not known.
    axis : int or None
        Which axis runs over the classes, where these may overlap.
    read : callable
        Gives the numbers of the objects, and the class of each pixel or None.
    """

    extent: tuple[int, ...]
    names: tuple[str, ...]
    axis: int | None
    read: Callable[[], tuple[Any, Any]]

    def masks(self) -> Iterator[tuple[tuple[int, ...], Mask]]:
        """Read the planes that have objects, with their index."""
        objects, classes = self.read()
        for index in np.ndindex(*self.extent):
            if self.axis is not None:
                labels = np.asarray(objects[(*index[: self.axis], slice(None), *index[self.axis :])])
                mask = _layered(labels, self.names)
            else:
                labels = np.asarray(objects[index])
                kinds = None if classes is None else np.asarray(classes[index])
                mask = Mask(labels, {} if kinds is None else _classes_of(labels, kinds, self.names))
            if labels.any():
                yield index, mask


def find_label_files(source: Path) -> list[Path]:
    """Return the label file, or those in a folder; none where it is something else.

    In a folder, PNG files are label files where there are no others and no files of boxes: beside these they
    are the images.

    Raises
    ------
    BoxError
        It is an image of another kind: labels in it cannot be trusted.
    """
    if source.is_file() or source.suffix.lower() == ".zarr":
        if source.suffix.lower() in _KINDS:
            return [source]
        if source.suffix.lower() in IMAGE_SUFFIXES:
            raise BoxError(
                f"{source} is an image of a kind that may not keep numbers as they are; export the labels "
                "as PNG, TIFF or OME-Zarr."
            )
        return []
    found = sorted(path for path in source.rglob("*") if not path.name.startswith("."))
    files = [path for path in found if path.suffix.lower() in _SURE]
    if not files and not any(source.glob("*.json")) and not yolo_files(source):
        files = [path for path in found if path.suffix.lower() == ".png"]
    return [path for path in files if not re.search(r"_mask(\.ome)?\.tiff?$", path.name, re.IGNORECASE)]


def image_of(path: Path, images: NameIndex) -> str:
    """Return the image that a label file is called like.

    Raises
    ------
    BoxError
        There is none, or several fit equally well.
    """
    stem = re.sub(r"(\.ome)?\.(tiff?|zarr|png)$", "", path.name, flags=re.IGNORECASE)
    stem = re.sub(r"_(objects|labels|label|mask|masks)$", "", stem)
    name = images.find(path.with_name(stem).as_posix())  # of several with this name, that in such a folder
    if name is None:
        raise BoxError(f"No image of the project is called like {path.name}; rename the file.")
    return name


def open_label_file(path: Path, image: ImageEntry, classes: tuple[str, ...]) -> LabelFile:
    """Look at the labels of an image, without reading its pixels.

    Parameters
    ----------
    path : Path
        A TIFF, beside which another with the classes may lie, an OME-Zarr, or a PNG of numbers.
    image : ImageEntry
        The image.
    classes : tuple of str
        What an axis over the classes stands for where the file does not say it.

    Raises
    ------
    BoxPromptError
        It cannot be read, or does not fit the image or the classes.
    """
    match path.suffix.lower():
        case ".zarr":
            return _open_zarr(path, image, classes)
        case ".png":
            return _open_png(path, image)
    return _open_tiff(path, image, classes)


def _open_png(path: Path, image: ImageEntry) -> LabelFile:
    with reading(path), Image.open(path) as picture:
        mode, shape = picture.mode.partition(";")[0], check_size(path, (picture.height, picture.width))
    if mode not in _NUMBERS:
        raise BoxError(
            f"{path} holds colours or transparency; export the labels as a PNG of one channel with the "
            "numbers of the objects, or as TIFF."
        )
    _check(path, shape, _lean(shape) == _lean((*image.extent, *image.shape)), image)

    def read() -> tuple[Any, Any]:
        return read_mask(path).astype(np.uint32).reshape(*image.extent, *image.shape), None

    return LabelFile(image.extent, (), None, read)


def _open_zarr(path: Path, image: ImageEntry, classes: tuple[str, ...]) -> LabelFile:
    objects, kinds, axes, names = open_labels(path)
    flat = (*image.extent, *image.shape)
    axis = axes.index("c") if "c" in axes and objects.ndim == len(flat) + 1 else None
    for array in (objects,) if kinds is None else (objects, kinds):
        _check(path, array.shape, _without(array.shape, axis) == flat, image)
    if axis is not None:
        names = _named(path, names, objects.shape[axis], classes)
    return LabelFile(image.extent, names, axis, lambda: (objects, kinds))


def _open_tiff(path: Path, image: ImageEntry, classes: tuple[str, ...]) -> LabelFile:
    axes, shape, names, channels = _describe(path)
    flat = (*image.extent, *image.shape)
    # A single channel says nothing about classes, unless it has the name of one.
    layered = bool(names and names == channels) or ("C" in axes and _lean(shape) != _lean(flat))
    place = axes.index("C") if layered and "C" in axes else None
    _check(path, shape, _lean(_without(shape, place)) == _lean(flat), image)
    if layered:
        count = 1 if place is None else shape[place]
        names, flat = _named(path, names or channels, count, classes), (*image.extent, count, *image.shape)
    # Classes of other programs, which do not name them in this way, could be anything.
    beside_name, written = re.subn(r"_(objects|mask)(?=(\.ome)?\.tiff?$)", "_mask", path.name)
    beside, known = path.with_name(beside_name), False
    if written and names and not layered and beside.is_file():
        _, other, said, _ = _describe(beside)
        known = said == names
        _check(beside, other, not known or other == shape, image)
    if not known and not layered:
        names = ()

    def read() -> tuple[Any, Any]:
        objects = _pixels(path) if place is None else np.moveaxis(_pixels(path), place, -3)
        return objects.reshape(flat), _pixels(beside).reshape(flat) if known else None

    return LabelFile(image.extent, names, len(image.extent) if layered else None, read)


def _pixels(path: Path) -> npt.NDArray[Any]:
    with reading(path):
        return np.asarray(tifffile.imread(path))


def _describe(path: Path) -> tuple[str, tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the axes of a TIFF, their lengths, the classes that it names and the names of its channels."""
    with reading(path), tifffile.TiffFile(path) as file:
        axes, shape = file.series[0].axes, file.series[0].shape
        if file.ome_metadata:
            root = ElementTree.fromstring(file.ome_metadata)
            text: Any = root.findtext("{*}Image/{*}Description")
            channels: Any = [channel.get("Name") for channel in root.iterfind(".//{*}Channel")]
        else:
            about = (file.shaped_metadata or ({},))[0]
            text, channels = about.get("Description"), about.get("Channel", {}).get("Name")
    try:
        classes = json.loads(text)["classes"]
    except (ValueError, KeyError, TypeError):  # of another program, or none
        classes = []
    return axes, shape, _names(classes), _names(channels)


def _names(found: Any) -> tuple[str, ...]:
    """Return a list of names; nothing where it is something else, or a name is missing."""
    whole = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return tuple(found) if whole else ()


def _named(path: Path, names: tuple[str, ...], count: int, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of so many classes: those of the file, else those of the project."""
    if names and len(names) != count:
        raise BoxError(f"{path} has an axis of {count} classes, but names {len(names)}; export it again.")
    if not names and len(classes) != count:
        raise BoxError(
            f"{path} has an axis of {count} classes without their names, and the project has {len(classes)}; "
            f"give the project these {count} in their order, or the channels of the file their names."
        )
    return checked_classes(names or classes)


def _check(path: Path, shape: tuple[int, ...], fits: bool, image: ImageEntry) -> None:
    """Refuse labels that do not fit their image."""
    if not fits:
        raise BoxError(
            f"{path} has the shape {shape}, its image {image.name} {(*image.extent, *image.shape)}; "
            "use the labels of the same image."
        )


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return tuple(n for place, n in enumerate(shape) if place != axis)


def _lean(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out axes of length 1: some files do not keep them."""
    return tuple(n for n in shape if n != 1)


def _layered(layers: npt.NDArray[Any], names: tuple[str, ...]) -> Mask:
    """Give the objects of each layer its class, and other numbers where two layers have the same."""
    classes: dict[int, str] = {}
    parts, top = [], int(layers.max(initial=0))
    for layer, name in zip(layers, names, strict=True):
        part, numbers = layer, np.unique(layer[layer != 0]).tolist()
        if classes.keys() & set(numbers):
            part = np.where(layer, layer.astype(np.int64) + top, 0)
            numbers = [number + top for number in numbers]
            top = max(numbers)
        parts.append(part)
        classes |= dict.fromkeys(numbers, name)
    return Mask(np.stack(parts), classes)


def _classes_of(labels: npt.NDArray[Any], kinds: npt.NDArray[Any], names: tuple[str, ...]) -> dict[int, str]:
    """Return the class of each object, which its first pixel has."""
    numbers, first = np.unique(labels, return_index=True)
    found = zip(numbers.tolist(), kinds.ravel()[first].tolist(), strict=True)
    return {number: names[kind - 1] for number, kind in found if number and 0 < kind <= len(names)}
