"""Masks that a model proposes, kept in a project until somebody has looked at them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_boxprompt.project.documents import SETTLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.project.documents import Status
    from napari_boxprompt.project.project import Project

__all__ = ["keep_proposal", "take_classes", "unsettled"]


def unsettled(project: Project) -> list[PlaneId]:
    """Return the planes that nobody has painted on or accepted, in the order of the images."""
    return [plane for plane in project.images.planes if project.status(plane) not in SETTLED]


def take_classes(project: Project, classes: Iterable[str], *, exclusive: bool) -> None:
    """Have the classes of a model in a project; where its objects may overlap, they may from now on.

    Raises
    ------
    OutputError
        The disk refuses.
    """
    names = tuple(dict.fromkeys((*project.classes, *classes)))
    exclusive = exclusive and project.exclusive
    if (names, exclusive) != (project.classes, project.exclusive):
        project.set_classes(names, exclusive=exclusive)


def keep_proposal(
    project: Project,
    plane: PlaneId,
    labels: npt.NDArray[Any],
    classes: Mapping[int, str],
    doubt: float,
    signs: Mapping[str, float],
) -> None:
    """Keep what a model has found on a plane; work on it stays, and nothing is kept then.

    Parameters
    ----------
    project : Project
        Open for writing; it has the classes of the model, see `take_classes`.
    plane : PlaneId
        A plane of it.
    labels : ndarray, shape (H, W), or (classes, H, W) where classes may overlap
        Numbers of the objects, 0 for background.
    classes : mapping of int to str
        Class of each object.
    doubt : float
        How urgently it should be looked at, in 0..1; nan where that is not known.
    signs : mapping of str to float
        What else speaks for a look, see `Project.note_predictions`.

    Raises
    ------
    BoxError
        The project has no such plane.
    OutputError
        The disk refuses.
    """
    status = project.status(plane)
    if status in SETTLED:
        return
    new: Status = "boxed" if status == "boxed" else "predicted"
    project.paint(plane, labels, classes=classes, status=new)
    if math.isfinite(doubt):
        project.note_predictions({plane: float(doubt)}, signs={plane: signs})
