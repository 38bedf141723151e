"""What a training learns from in a project: drawn boxes, and masks that were painted or accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_boxprompt.boxes import BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import ImageError, ProjectError
from napari_boxprompt.labels import boxes_from_labels
from napari_boxprompt.project.masks import SAME_OBJECT, Mask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from napari_boxprompt.boxes import Box
    from napari_boxprompt.project.project import Project

__all__ = ["ClassMasks", "Lessons", "project_lessons"]


class ClassMasks(Mapping[PlaneId, npt.NDArray[np.uint8]]):
    """Class masks of planes of a project, each read when it is asked for first: there may be hundreds.

    Parameters
    ----------
    project : Project
        An open project.
    planes : mapping of PlaneId to PlaneId
        Its planes, by the names that they have here.
    classes : tuple of str
        Class k of a mask is the k-th of these: k + 1 in ``(H, W)``, or layer k of ``(K, H, W)`` where
        classes may overlap.
    others : mapping of PlaneId to numpy.ndarray, optional
        Masks of other planes, which are at hand.
    """

    def __init__(
        self,
        project: Project,
        planes: Mapping[PlaneId, PlaneId],
        classes: tuple[str, ...],
        others: Mapping[PlaneId, npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        self._project, self._planes, self._classes = project, dict(planes), classes
        self._read = dict(others or {})
        # Once and for all: a worker reads while the viewer asks which there are.
        self._all = tuple(dict.fromkeys((*self._read, *self._planes)))

    def __getitem__(self, plane: PlaneId) -> npt.NDArray[np.uint8]:
        """Read a mask.

        Raises
        ------
        KeyError
            There is no such plane here.
        ProjectError, ImageError
            Its file is missing or damaged.
        """
        if plane not in self._read:
            mask = self._project.mask(self._planes[plane])
            if mask is None:
                raise ProjectError(f"{self._planes[plane]} has no mask any more; start again.")
            self._read[plane] = _class_mask(mask, self._classes, self._project.classes)
        return self._read[plane]

    def __iter__(self) -> Iterator[PlaneId]:
        """Return the planes, none of them read."""
        return iter(self._all)

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self._all)


class Lessons(NamedTuple):
    """What a training learns from.

    Attributes
    ----------
    boxes : BoxSet
        Boxes of all planes; on those in `masks`, the boxes of its objects.
    masks : mapping of PlaneId to numpy.ndarray
        Class masks uint8, see `napari_boxprompt.training.fit`; class k is that of `boxes`.
    drawn : BoxSet
        Boxes that were drawn by a person, by which a model is judged.
    troubles : tuple of str
        Masks that could not be read and are left out, a sentence for each.
    """

    boxes: BoxSet
    masks: Mapping[PlaneId, npt.NDArray[np.uint8]]
    drawn: BoxSet
    troubles: tuple[str, ...] = ()


def project_lessons(
    project: Project, images: Collection[str] | None = None, *, lenient: bool = False
) -> Lessons:
    """Boxes and masks of a project, as `napari_boxprompt.api.start_training` takes them.

    An accepted plane is right and complete. A plane that was only corrected is as complete as its boxes say,
    and teaches its mask where this shows an object for each of them; else it teaches the boxes.

    Parameters
    ----------
    project : Project
        An open project.
    images : collection of str, optional
        Those of its images that teach, all by default.
    lenient : bool
        Leave out masks that cannot be read, and name them in the result.

    Raises
    ------
    ProjectError, ImageError
        The file of a mask is missing or damaged.
    """
    drawn = project.usable_boxes()
    drawn = drawn.restrict(plane for plane in drawn.planes if images is None or plane.image in images)
    painted, parts, troubles = dict[PlaneId, PlaneId](), list[BoxSet](), list[str]()
    for plane in project.masked_planes():
        if images is not None and plane.image not in images:
            continue
        try:
            mask = project.mask(plane)
        except (ProjectError, ImageError) as error:
            if not lenient:
                raise
            troubles.append(str(error))
            continue
        accepted = project.status(plane) == "accepted"
        objects = () if mask is None else _objects(mask, plane, project.classes)
        if mask is None or not (accepted or _shows_all(objects, drawn.on(plane))):
            continue
        info = drawn.planes.get(plane, PlaneInfo())
        known = replace(info, shape=_shape(mask), complete=info.complete or accepted)
        parts.append(BoxSet(objects, {plane: known}, project.classes, project.exclusive))
        painted[plane] = plane
    parts.insert(0, drawn.restrict(plane for plane in drawn.planes if plane not in painted))
    used = {box.label for part in parts for box in part.boxes}  # others have nothing to learn from
    classes = tuple(name for name in project.classes if name in used)
    learnt = BoxSet.merge(replace(part, classes=classes) for part in parts)
    return Lessons(learnt, ClassMasks(project, painted, classes), drawn, tuple(troubles))


def _objects(mask: Mask, plane: PlaneId, classes: tuple[str, ...]) -> tuple[Box, ...]:
    layers = mask.labels.reshape(-1, *_shape(mask))
    boxes = (box for layer in layers for box in boxes_from_labels(layer, plane))
    return tuple(replace(box, label=_class_of(mask, box.id, classes)) for box in boxes)


def _shows_all(objects: Sequence[Box], drawn: Sequence[Box]) -> bool:
    """Whether each drawn box has an object of its class: what has none would be learnt as background."""
    return all(
        any(found.label == box.label and found.iou(box) >= SAME_OBJECT for found in objects) for box in drawn
    )


def _shape(mask: Mask) -> tuple[int, int]:
    return (mask.labels.shape[-2], mask.labels.shape[-1])


def _class_of(mask: Mask, number: int, classes: tuple[str, ...]) -> str:
    """Class of an object; those that have none have the first one, as everywhere in a project."""
    name = mask.classes.get(number, "")
    return name if name in classes else classes[0]


def _class_mask(mask: Mask, used: tuple[str, ...], classes: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    if mask.labels.ndim == 3:
        layers = mask.split(classes).labels
        return np.stack([layers[classes.index(name)] > 0 for name in used]).astype(np.uint8)
    numbers, inverse = np.unique(mask.labels, return_inverse=True)
    values = [used.index(_class_of(mask, int(n), classes)) + 1 if n else 0 for n in numbers]
    return np.asarray(values, np.uint8)[inverse].reshape(mask.labels.shape)
