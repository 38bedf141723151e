"""Masks of a project: painted parts in the journal, whole masks as OME-TIFF."""

from __future__ import annotations

import base64
import math
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tifffile

from napari_boxprompt._readers import reading
from napari_boxprompt.errors import ProjectError
from napari_boxprompt.outputs import write_labels
from napari_boxprompt.project.documents import MaskFile
from napari_boxprompt.project.gestures import MaskPatch
from napari_boxprompt.project.plain_tiff import read_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.project.documents import ImageEntry, PlaneRecord

__all__ = [
    "MASKS",
    "SAME_OBJECT",
    "Mask",
    "classes_of",
    "load_mask",
    "make_patch",
    "renamed",
    "store_mask",
    "worth_a_file",
]

MASKS = "masks"
"""Folder of the masks in a project."""

SAME_OBJECT = 0.5
"""Overlap from which a drawn box and an object of a mask are taken for the same thing."""

_LARGE_MASK = 1 << 22
"""A mask of more pixels than this is written only when there is enough to write."""

_MUCH_PAINT = 1 << 20
"""Characters of painted parts that are enough."""


@dataclass(frozen=True)
class Mask:
    """A mask of one plane.

    Parameters
    ----------
    labels : ndarray, shape (H, W), or (classes, H, W) where classes may overlap
        Numbers of the objects, 0 for background.
    classes : mapping of int to str
        Class of each object by its number; others have the first class of the project.
    """

    labels: npt.NDArray[np.unsignedinteger[Any]]
    classes: Mapping[int, str] = field(default_factory=dict)

    def class_mask(self, names: tuple[str, ...]) -> npt.NDArray[np.uint8]:
        """Return 0 for background and k + 1 for the k-th of `names`; a class axis is in their order."""
        return (self if self.labels.ndim == 2 else self.split(names))._class_numbers(names)

    def split(self, names: tuple[str, ...]) -> Mask:
        """Return the objects of each of `names` in a layer of its own, ``(classes, H, W)``."""
        found = self._class_numbers(names)
        parts = (np.where(found == k, self.labels, 0) for k in range(1, len(names) + 1))
        layers = [part.reshape(-1, *part.shape[-2:]).max(axis=0) for part in parts]
        return Mask(np.stack(layers), self.classes)

    def _class_numbers(self, names: tuple[str, ...]) -> npt.NDArray[np.uint8]:
        numbers, inverse = np.unique(self.labels, return_inverse=True)
        place = {name: k for k, name in enumerate(names, start=1)}
        values = [place.get(self.classes.get(int(n), ""), 1) if n else 0 for n in numbers]
        return np.asarray(values, np.uint8)[inverse].reshape(self.labels.shape)


def make_patch(
    labels: npt.NDArray[Any],
    y: int,
    x: int,
    shape: tuple[int, ...],
    classes: Mapping[int, str] | None = None,
) -> MaskPatch:
    """Make the entry for a painted part of a mask.

    Parameters
    ----------
    labels : ndarray, shape (h, w) or (classes, h, w)
        The part as it is now.
    y, x : int
        Where it starts.
    shape : tuple of int
        Shape of the whole mask.
    classes : mapping of int to str, optional
        Class of each object of the whole mask.

    Raises
    ------
    ProjectError
        Not whole numbers from 0 to 4294967295, or a part that is not inside the mask.
    """
    part = np.asarray(labels)
    top = part.max(initial=0)
    if part.dtype.kind not in "biu" or part.min(initial=0) < 0 or top >= 2**32:
        raise ProjectError("A mask must hold whole numbers from 0 to 4294967295; convert the labels.")
    inside = part.ndim == len(shape) >= 2 and part.shape[:-2] == tuple(shape[:-2])
    if not inside or y < 0 or x < 0 or y + part.shape[-2] > shape[-2] or x + part.shape[-1] > shape[-1]:
        raise ProjectError(
            f"The painted part {part.shape} at row {y}, column {x} does not lie in its mask {tuple(shape)}; "
            "paint on a Labels layer of the size of the image."
        )
    dtype = np.uint8 if top < 2**8 else np.uint16 if top < 2**16 else np.uint32
    raw = np.ascontiguousarray(part, np.dtype(dtype).newbyteorder("<")).tobytes()
    return MaskPatch(
        shape=tuple(shape),
        y=y,
        x=x,
        size=part.shape,
        dtype=cast("Any", np.dtype(dtype).name),
        data=base64.b64encode(zlib.compress(raw, 1)).decode(),
        classes=dict(classes or {}),
    )


def worth_a_file(patches: Sequence[MaskPatch]) -> bool:
    """Return whether a mask should be written now, for what was painted on it."""
    small = math.prod(patches[-1].shape) <= _LARGE_MASK
    return small or sum(len(patch.data) for patch in patches) > _MUCH_PAINT


def classes_of(record: PlaneRecord, patches: Sequence[MaskPatch]) -> Mapping[int, str]:
    """Return the class of each object of a mask."""
    if patches:
        return patches[-1].classes
    return {} if record.mask is None else record.mask.classes


def renamed(
    record: PlaneRecord, patches: Sequence[MaskPatch], old: str, new: str, *, exclusive: bool
) -> MaskFile | MaskPatch | None:
    """Return what gives the objects of a class in a mask another, and no pixel; None if nothing has to.

    Where classes do not exclude each other, two do not become one: their objects lie over each other.
    """
    names = classes_of(record, patches)
    if old not in names.values() or (new in names.values() and not exclusive):
        return None
    names = {number: new if name == old else name for number, name in names.items()}
    if patches:
        shape = patches[-1].shape
        return make_patch(np.zeros((*shape[:-2], 0, 0), np.uint8), 0, 0, shape, names)
    return None if record.mask is None else record.mask.model_copy(update={"classes": names})


def load_mask(folder: Path, record: PlaneRecord, patches: Iterable[MaskPatch]) -> Mask | None:
    """Read the mask of a plane as it is after all that was painted; None if it has none.

    Raises
    ------
    ProjectError
        The file is missing or damaged.
    """
    base: npt.NDArray[Any] | None = None
    names: Mapping[int, str] = {}
    if record.mask is not None:
        base, names = _read(folder / record.mask.file), record.mask.classes
    for patch in patches:
        if base is None or base.shape != patch.shape:
            base = np.zeros(patch.shape, patch.dtype)
        base = _painted(base, patch)
        names = patch.classes
    return None if base is None else Mask(base, dict(names))


def _read(path: Path) -> npt.NDArray[Any]:
    if not path.is_file():
        raise ProjectError(f"The mask {path} is missing; copy it back into the project, or paint it again.")
    with reading(path):
        pixels = read_plain(path.read_bytes())
    if pixels is not None:
        return pixels
    with reading(path), tifffile.TiffFile(path) as tif:
        # Nearly all masks have one page: to put series together takes longer than to read it.
        return np.asarray(tif.pages[0].asarray() if len(tif.pages) == 1 else tif.asarray())


def _painted(base: npt.NDArray[Any], patch: MaskPatch) -> npt.NDArray[Any]:
    """Paint a part, where it can into the very array."""
    raw = zlib.decompress(base64.b64decode(patch.data))
    part = np.frombuffer(raw, np.dtype(patch.dtype).newbyteorder("<")).reshape(patch.size)
    # Copied only to hold larger numbers: there may be hundreds of strokes on a mask of many megapixels.
    result = base.astype(np.promote_types(base.dtype, patch.dtype), copy=not base.flags.writeable)
    result[..., patch.y : patch.y + part.shape[-2], patch.x : patch.x + part.shape[-1]] = part
    return result


def store_mask(folder: Path, mask: Mask, plane: PlaneId, sequence: int, image: ImageEntry | None) -> MaskFile:
    """Write a mask to a file of its own and return the reference to it.

    The number of the journal entry is part of the name: a file in use is never written over.

    Raises
    ------
    OutputError
        The system refuses to write.
    """
    index = "-".join(f"{i:04d}" for i in plane.index)
    name = f"{MASKS}/{_safe(plane.image)}/{f'plane-{index}' if index else 'plane'}.v{sequence}.ome.tif"
    labels = mask.labels
    if labels.dtype == np.uint32 and labels.max(initial=0) < 2**16:
        labels = labels.astype(np.uint16)
    sizes = {} if image is None else {str(axis): size for axis, size in image.pixel_size.items()}
    write_labels(folder / name, labels, pixel_size=sizes)
    return MaskFile(file=name, classes=dict(mask.classes))


def _safe(name: str) -> str:
    """Return a name of an image as a path that every system can have, different for different names."""
    clean = re.sub(r'[<>:"|?*\\\x00-\x1f]', "_", name)
    parts = [part.rstrip(". ") for part in clean.split("/")]
    safe = "/".join(part for part in parts if part)
    if safe == name and len(name) < 120:
        return name
    return f"{safe[-80:].strip('/')}-{zlib.crc32(name.encode()):08x}"
