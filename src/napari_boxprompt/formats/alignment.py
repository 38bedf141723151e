"""Bring boxes and images together: names, plane indices, sizes, borders."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.images import Images

__all__ = ["NameIndex", "align", "align_masks"]

_log = logging.getLogger(__name__)


class NameIndex:
    """Finds the image a box file means.

    The same relative path wins; else the same file name, else the same name without its ending. Among several
    of one file name, the one that shares most folders counted from the file wins. Where only the file name is
    the same and the folders have other names, it may be another image, as there may be an ``img.png`` in each
    of many folders: `tell` says so.

    Parameters
    ----------
    names : iterable of str
        Names of the images.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._exact = frozenset(self._names)
        self._elsewhere: dict[str, str] = {}
        self._by_file: defaultdict[str, list[str]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in self._names:
            self._by_file[PurePosixPath(name).name].append(name)
            self._by_stem[stem(name)].append(name)

    def find(self, name: str) -> str | None:
        """Return the image a name means, None if there is none.

        Raises
        ------
        BoxError
            If several images fit equally well.
        """
        wanted = PurePosixPath(name.replace("\\", "/"))
        if name in self._exact:
            return name
        if wanted.as_posix() in self._exact:
            return wanted.as_posix()
        fitting = self._by_file.get(wanted.name) or self._by_stem.get(stem(wanted.as_posix())) or []
        if not fitting:
            return None
        if len(fitting) == 1:
            self._note(wanted, fitting[0])
            return fitting[0]
        scores = {candidate: _shared_folders(wanted, PurePosixPath(candidate)) for candidate in fitting}
        best = max(scores.values())
        winners = [candidate for candidate, score in scores.items() if score == best]
        if len(winners) > 1:
            raise BoxError(
                f"The boxes name the image '{name}', which fits {' and '.join(winners[:3])} equally well; "
                "write the folder into the box file, or give the images different names."
            )
        return winners[0]

    def _note(self, wanted: PurePosixPath, found: str) -> None:
        """Remember an image whose folder has another name than the one that is wanted."""
        one, other = wanted.parent.name, PurePosixPath(found).parent.name
        if one and other and one != other:
            self._elsewhere[wanted.as_posix()] = found

    def tell(self) -> None:
        """Say in the log, once, which images were found in other folders than the boxes name."""
        if self._elsewhere:
            named, found = next(iter(self._elsewhere.items()))
            _log.warning(
                "%d images that the boxes name are taken from other folders, the first is %s for %s; open "
                "the folder above if these are different images.",
                len(self._elsewhere),
                found,
                named,
            )
            self._elsewhere.clear()


def stem(name: str) -> str:
    """Return a file name without folders and without its ending; ``.ome.tif`` is one ending."""
    bare = PurePosixPath(name).stem
    return bare[:-4] if bare.lower().endswith(".ome") else bare


def _shared_folders(first: PurePosixPath, second: PurePosixPath) -> int:
    count = 0
    for one, other in zip(reversed(first.parts[:-1]), reversed(second.parts[:-1]), strict=False):
        if one != other:
            break
        count += 1
    return count


def align(boxset: BoxSet, images: Images) -> BoxSet:
    """Fit boxes to images.

    Planes get the names that the images have, their sizes are filled in, and boxes that reach beyond the
    border are cut there, with one warning in the log. Planes that are not among the images are left out, with
    a warning too, and so it is said where only the file name fits and folders have other names.

    Parameters
    ----------
    boxset : BoxSet
        The boxes; their images may be named by a bare file name or a path in another folder.
    images : Images
        The images.

    Returns
    -------
    BoxSet
        Every plane is one of `images` and has a shape; every box lies inside its plane.

    Raises
    ------
    BoxError
        If no image fits, a name fits several, a plane does not exist in a stack or is not named, the size
        noted beside the boxes is not the size of the image, or a box lies fully outside.
    """
    matched = _match_planes(boxset, images)
    infos: dict[PlaneId, PlaneInfo] = {}
    shapes: dict[PlaneId, tuple[int, int]] = {}
    for old, new in matched.items():
        if new in infos:
            twin = next(plane for plane, target in matched.items() if target == new)
            raise BoxError(
                f"The boxes name both '{twin}' and '{old}', and both fit the image {new}; "
                "open the folder above, so that the images keep their folders."
            )
        shapes[new] = images.shape(new)
        infos[new] = _with_shape(boxset.planes[old], new, shapes[new])
    boxes = tuple(
        box if box.plane == matched[box.plane] else replace(box, plane=matched[box.plane])
        for box in boxset.boxes
        if box.plane in matched
    )
    _look_at_borders(boxes, shapes)
    return replace(boxset, boxes=boxes, planes=infos).clipped(shapes)


def align_masks(
    masks: Mapping[PlaneId, npt.NDArray[np.integer]], boxset: BoxSet, images: Images
) -> dict[PlaneId, npt.NDArray[np.integer]]:
    """Fit masks to images: planes get the names that the images have.

    Parameters
    ----------
    masks : mapping of PlaneId to numpy.ndarray
        Masks ``(H, W)`` or ``(K, H, W)``; named as in `align`.
    boxset : BoxSet
        The boxes, aligned with the images.
    images : Images
        The images.

    Raises
    ------
    BoxError
        A mask lies on a plane that the boxes do not name, or has another size.
    """
    index = NameIndex(images.names)
    found: dict[PlaneId, npt.NDArray[np.integer]] = {}
    for plane, mask in masks.items():
        name = index.find(plane.image)
        target = plane if name is None else _existing(plane, name, images)
        info = boxset.planes.get(target)
        if info is None:
            raise BoxError(
                f"There is a mask of {plane}, which is no boxed plane; add its boxes, or leave the mask out."
            )
        if info.shape != mask.shape[-2:]:
            raise BoxError(
                f"The mask of {plane} has the shape {mask.shape}, the image {info.shape}; use the mask of "
                "the same image."
            )
        found[target] = mask
    return found


def _match_planes(boxset: BoxSet, images: Images) -> dict[PlaneId, PlaneId]:
    index = NameIndex(images.names)
    found = {name: index.find(name) for name in dict.fromkeys(plane.image for plane in boxset.planes)}
    index.tell()
    matched: dict[PlaneId, PlaneId] = {}
    missing: list[PlaneId] = []
    for plane in boxset.planes:
        name = found[plane.image]
        target = None if name is None else _existing(plane, name, images)
        if target is not None and target in images:
            matched[plane] = target
        else:
            missing.append(plane)
    if missing and not matched:
        known = ", ".join(images.names[:3]) + (", ..." if len(images.names) > 3 else "")
        raise BoxError(
            f"None of the images that the boxes name ({missing[0]}, ...) is among the opened ones ({known}); "
            "open the folder the boxes were drawn on."
        )
    if missing:
        lost = sum(box.plane not in matched for box in boxset.boxes)
        _log.warning(
            "%d planes with %d boxes are not among the images and are left out, the first is %s.",
            len(missing),
            lost,
            missing[0],
        )
    return matched


def _existing(plane: PlaneId, name: str, images: Images) -> PlaneId:
    """Return the plane under its name in `images` if its index exists in the stack."""
    extent = images.extent(name)
    count = math.prod(extent)
    if extent and not plane.index:
        if count == 1:
            return PlaneId(name, (0,) * len(extent))
        example = [0] * len(extent)
        raise BoxError(
            f"{name} is a stack of {count} planes but the boxes on it do not say which plane they lie on; "
            f'add "plane": {example} (or another index) to the image entry of the box file.'
        )
    if len(extent) != len(plane.index) or not all(
        0 <= i < n for i, n in zip(plane.index, extent, strict=True)
    ):
        exists = ", ".join(f"0 to {n - 1}" for n in extent)
        where = f"its planes are [{exists}]" if extent else "it is a single image without plane index"
        raise BoxError(
            f"The boxes name plane {list(plane.index)} of {name}, but {where}; correct the box file."
        )
    return PlaneId(name, plane.index)


def _with_shape(info: PlaneInfo, plane: PlaneId, shape: tuple[int, int]) -> PlaneInfo:
    if info.shape is not None and tuple(info.shape) != shape:
        raise BoxError(
            f"The boxes were drawn on a {info.shape[1]} x {info.shape[0]} version of {plane}, but the image "
            f"is {shape[1]} x {shape[0]} (width x height); use the original images or scale the boxes."
        )
    return replace(info, shape=shape)


def _look_at_borders(boxes: tuple[Box, ...], shapes: dict[PlaneId, tuple[int, int]]) -> None:
    cut: list[Box] = []
    for box in boxes:
        part = box.clip(*shapes[box.plane])
        if part is None:
            height, width = shapes[box.plane]
            raise BoxError(
                f"A box on {box.plane} (y {box.y0:g} to {box.y1:g}, x {box.x0:g} to {box.x1:g}) lies outside "
                f"the image, which is {height} high and {width} wide; remove the box or move it."
            )
        if part is not box:
            cut.append(box)
    if cut:
        _log.warning(
            "%d boxes reach beyond their image and are cut, the first on %s.", len(cut), cut[0].plane
        )
