"""Masks that a project keeps of an image, put together for a Labels layer.

That takes long with thousands of planes, and a worker does it: no Qt and no layers in here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_boxprompt.gui.object_table import ObjectTable
from napari_boxprompt.project import SETTLED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.project import ImageEntry, Mask, Project

__all__ = ["WORK", "Counts", "KeptImage", "KeptLabels", "areas_of", "checksum", "keep"]


class Counts(NamedTuple):
    """Objects that were found on a plane, and how many of them the model half believes in."""

    objects: int
    unsure: int


WORK = -1
"""In the place of a checksum: of a plane that a person has made as it is."""


class KeptLabels:
    """Labels of all planes of an image, or of one class of it where classes may overlap.

    Parameters
    ----------
    entry : ImageEntry
        The image.
    first : str
        Class of the objects of which none is known.
    only : str, optional
        The class that all objects have; each its own by default.

    Attributes
    ----------
    labels : numpy.ndarray
        Numbers of the objects, ``(planes..., H, W)``.
    table : ObjectTable
        The objects.
    counts : dict
        Objects of each plane that was put, by the index of the plane.
    made : dict
        Checksum of each of these planes as it was predicted, `WORK` where it was not.
    """

    def __init__(self, entry: ImageEntry, first: str, only: str | None = None) -> None:
        self.only, self._first = only, first
        self.labels = np.zeros((*entry.extent, *entry.shape), np.uint32)
        self.table = ObjectTable()
        self.counts: dict[tuple[int, ...], Counts] = {}
        self.made: dict[tuple[int, ...], int] = {}

    def put(
        self, plane: PlaneId, labels: npt.NDArray[Any], classes: Mapping[int, str], *, predicted: bool
    ) -> bool:
        """Take a plane as it was kept; return whether its objects have the numbers that they had.

        Parameters
        ----------
        plane : PlaneId
            A plane of the image.
        labels : numpy.ndarray
            Numbers of the objects, ``(H, W)``.
        classes : mapping of int to str
            Class of each object.
        predicted : bool
            It is as it was predicted; else it is somebody's work.
        """
        areas = areas_of(labels)
        used = self.table.classes.keys()
        first = max(used, default=0) if areas.keys() & used else 0
        here = self.labels[plane.index]
        here[...] = labels
        if first:
            here[here > 0] += np.uint32(first)
        for number, area in areas.items():
            self.table.add(number + first, plane, self.only or classes.get(number, self._first), area)
        self.counts[plane.index] = Counts(len(areas), 0)
        self.made[plane.index] = checksum(here) if predicted else WORK
        return not first


@dataclass(frozen=True)
class KeptImage:
    """What a project keeps of the masks of an image.

    Parameters
    ----------
    layers : tuple of KeptLabels
        One, or one for each class of the project where classes may overlap.
    same : frozenset of PlaneId
        Planes whose objects have the numbers that they have in the project.
    """

    layers: tuple[KeptLabels, ...]
    same: frozenset[PlaneId]

    @property
    def indices(self) -> frozenset[tuple[int, ...]]:
        """Of the planes that have a mask."""
        return frozenset(self.layers[0].counts)


def keep(project: Project, name: str, masks: dict[PlaneId, Mask]) -> KeptImage:
    """Put the masks of an image together.

    Parameters
    ----------
    project : Project
        The project.
    name : str
        The image.
    masks : dict of PlaneId to Mask
        Of its planes; emptied on the way, since they may be large.
    """
    entry, classes = project.entries[name], project.classes
    exclusive = project.exclusive and all(mask.labels.ndim == 2 for mask in masks.values())
    first = next(iter(classes), "")
    layers = tuple(KeptLabels(entry, first, only) for only in ((None,) if exclusive else classes))
    same = []
    for plane in list(masks):
        mask, predicted = masks.pop(plane), project.status(plane) not in SETTLED
        if exclusive:
            kept = [layers[0].put(plane, mask.labels, mask.classes, predicted=predicted)]
        else:
            parts = zip(layers, mask.split(classes).labels, strict=True)
            kept = [layer.put(plane, part, {}, predicted=predicted) for layer, part in parts]
        same += [plane] if all(kept) else []
    return KeptImage(layers, frozenset(same))


def areas_of(labels: npt.NDArray[Any]) -> dict[int, int]:
    """Return the number of pixels of each object."""
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)  # much less to sort than the whole
    return dict(zip(numbers.tolist(), areas.tolist(), strict=True))


def checksum(labels: npt.NDArray[Any]) -> int:
    """Tell planes apart; painting is not always told by an event, and undo is."""
    return zlib.crc32(np.ascontiguousarray(labels).data)
