"""What a training learns from in a project: drawn boxes, and masks that were painted or accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_boxprompt.boxes import BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.labels import boxes_from_labels

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_boxprompt.project.masks import Mask
    from napari_boxprompt.project.project import Project

__all__ = ["Lessons", "project_lessons"]


class Lessons(NamedTuple):
    """What a training learns from.

    Attributes
    ----------
    boxes : BoxSet
        Boxes of all planes; on those with a mask, the boxes of its objects.
    masks : dict of PlaneId to numpy.ndarray
        Class masks uint8, see `napari_boxprompt.training.fit`; class k is that of `boxes`.
    drawn : BoxSet
        Boxes that were drawn by a person, by which a model is judged.
    """

    boxes: BoxSet
    masks: dict[PlaneId, npt.NDArray[np.uint8]]
    drawn: BoxSet


def project_lessons(project: Project) -> Lessons:
    """Boxes and masks of a project, as `napari_boxprompt.api.start_training` takes them.

    An accepted plane is right and complete. A plane that was only corrected is as complete as its boxes say.

    Parameters
    ----------
    project : Project
        An open project.
    """
    drawn = project.usable_boxes()
    found = ((plane, project.mask(plane)) for plane in project.masked_planes())
    painted = {plane: mask for plane, mask in found if mask is not None}
    parts = [drawn.restrict(plane for plane in drawn.planes if plane not in painted)]
    for plane, mask in painted.items():
        info = drawn.planes.get(plane, PlaneInfo())
        complete = info.complete or project.status(plane) == "accepted"
        known = replace(info, shape=_shape(mask), complete=complete)
        layers = mask.labels.reshape(-1, *_shape(mask))
        boxes = (box for layer in layers for box in boxes_from_labels(layer, plane))
        named = tuple(replace(box, label=_class_of(mask, box.id, project.classes)) for box in boxes)
        parts.append(BoxSet(named, {plane: known}, project.classes, project.exclusive))
    used = {box.label for part in parts for box in part.boxes}  # others have nothing to learn from
    classes = tuple(name for name in project.classes if name in used)
    learnt = BoxSet.merge(replace(part, classes=classes) for part in parts)
    masks = {plane: _class_mask(mask, classes, project.classes) for plane, mask in painted.items()}
    return Lessons(learnt, masks, drawn)


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
