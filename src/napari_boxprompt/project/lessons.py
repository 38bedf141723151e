"""What a training learns from in a project: drawn boxes, and masks that were painted or accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_boxprompt.boxes import BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.labels import boxes_from_labels
from napari_boxprompt.project.masks import SAME_OBJECT, Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box
    from napari_boxprompt.project.project import Project

__all__ = ["Lessons", "project_lessons"]


class Lessons(NamedTuple):
    """What a training learns from.

    Attributes
    ----------
    boxes : BoxSet
        Boxes of all planes; on those in `masks`, the boxes of its objects.
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

    An accepted plane is right and complete. A plane that was only corrected is as complete as its boxes say,
    and teaches its mask where this shows an object for each of them; else it teaches the boxes.

    Parameters
    ----------
    project : Project
        An open project.
    """
    drawn = project.usable_boxes()
    painted, parts = dict[PlaneId, Mask](), list[BoxSet]()
    for plane in project.masked_planes():
        mask = project.mask(plane)
        accepted = project.status(plane) == "accepted"
        objects = () if mask is None else _objects(mask, plane, project.classes)
        if mask is None or not (accepted or _shows_all(objects, drawn.on(plane))):
            continue
        info = drawn.planes.get(plane, PlaneInfo())
        known = replace(info, shape=_shape(mask), complete=info.complete or accepted)
        parts.append(BoxSet(objects, {plane: known}, project.classes, project.exclusive))
        painted[plane] = mask
    parts.insert(0, drawn.restrict(plane for plane in drawn.planes if plane not in painted))
    used = {box.label for part in parts for box in part.boxes}  # others have nothing to learn from
    classes = tuple(name for name in project.classes if name in used)
    learnt = BoxSet.merge(replace(part, classes=classes) for part in parts)
    masks = {plane: _class_mask(mask, classes, project.classes) for plane, mask in painted.items()}
    return Lessons(learnt, masks, drawn)


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
