"""Masks that a project keeps of an image, put together for a Labels layer.

That takes long with thousands of planes, and a worker does it: no Qt and no layers in here.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.events import Progress
from napari_boxprompt.gui.object_table import ObjectTable
from napari_boxprompt.project import SETTLED

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.project import ImageEntry, Mask, Project

__all__ = ["WORK", "Counts", "KeptImage", "KeptLabels", "areas_of", "checksum", "read_kept"]


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


class KeptImage:
    """Masks of an image.

    Parameters
    ----------
    project : Project
        Where it is in.
    name : str
        The image.
    exclusive : bool
        Whether its masks have one layer; else each class of the project has one.

    Attributes
    ----------
    layers : tuple of KeptLabels
        One, or one for each class.
    same : set of PlaneId
        Planes whose objects have the numbers that they have in the project.
    """

    def __init__(self, project: Project, name: str, *, exclusive: bool) -> None:
        self._project, self._classes, self._exclusive = project, project.classes, exclusive
        entry, first = project.entries[name], next(iter(self._classes), "")
        names = (None,) if exclusive else self._classes
        self.layers = tuple(KeptLabels(entry, first, only) for only in names)
        self.same: set[PlaneId] = set()

    @property
    def masked(self) -> frozenset[tuple[int, ...]]:
        """Index of each plane that was put."""
        return frozenset(self.layers[0].counts)

    def fits(self, mask: Mask) -> bool:
        """Whether the layers can take a mask: one of classes that overlap needs a layer for each."""
        return mask.labels.ndim == 2 or not self._exclusive

    def put(self, plane: PlaneId, mask: Mask) -> None:
        """Take the mask of a plane, which must fit."""
        predicted = self._project.status(plane) not in SETTLED
        if self._exclusive:
            kept = [self.layers[0].put(plane, mask.labels, mask.classes, predicted=predicted)]
        else:
            parts = zip(self.layers, mask.split(self._classes).labels, strict=True)
            kept = [layer.put(plane, part, {}, predicted=predicted) for layer, part in parts]
        if all(kept):
            self.same.add(plane)


def read_kept(
    project: Project, name: str, planes: Sequence[PlaneId], troubles: list[str], *, exclusive: bool = True
) -> Generator[Progress, None, KeptImage | None]:
    """Read the masks of an image; None where it has none.

    Parameters
    ----------
    project : Project
        The project.
    name : str
        The image.
    planes : sequence of PlaneId
        Its planes.
    troubles : list of str
        Takes what could not be read, one sentence each.
    exclusive : bool
        Put the masks into one layer, if the project and the masks allow it.
    """
    exclusive, kept, said = exclusive and project.exclusive, None, []
    for number, plane in enumerate(planes):
        yield Progress("prepare", number, len(planes), str(plane))
        try:
            mask = project.mask(plane)
        except BoxPromptError as error:
            said.append(str(error))
            continue
        if mask is None:
            continue
        if mask.labels.shape[-2:] != project.entries[name].shape:
            said.append(f"The mask of {plane} is damaged: it is not of the size of its image.")
            continue
        kept = kept or KeptImage(project, name, exclusive=exclusive)
        if not kept.fits(mask):
            return (yield from read_kept(project, name, planes, troubles, exclusive=False))
        kept.put(plane, mask)
    troubles += said
    return kept


def areas_of(labels: npt.NDArray[Any]) -> dict[int, int]:
    """Return the number of pixels of each object."""
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)  # much less to sort than the whole
    return dict(zip(numbers.tolist(), areas.tolist(), strict=True))


def checksum(labels: npt.NDArray[Any]) -> int:
    """Tell planes apart; painting is not always told by an event, and undo is."""
    return zlib.crc32(np.ascontiguousarray(labels).data)
