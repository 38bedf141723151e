"""Boxes round objects that are outlined already, in a Labels layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels

from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.layers import labels_to_boxes, layers_with_role

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_boxprompt.boxes import Box
    from napari_boxprompt.gui.state import Session

__all__ = ["boxes_from_labels"]


def boxes_from_labels(session: Session, *, one: bool = False) -> int:
    """Draw a box round objects of a Labels layer on the plane on screen; return how many.

    The active Labels layer is taken, else the newest result, else the only Labels layer.

    Parameters
    ----------
    session : Session
        Gives image, plane and boxes layer.
    one : bool
        Only the object under the cursor, or the selected one where there is none.

    Raises
    ------
    BoxError
        No plane on screen, or no such layer, or nothing on it there; or the one object has its box.
    """
    labels = _labels_layer(session)
    if session.view is None or session.plane is None:
        raise BoxError("Go to a plane of the image first, in 2-D display.")
    active, mode = session.viewer.layers.selection.active, labels.mode
    target = session.new_boxes_layer()
    if active is not None:
        session.viewer.layers.selection.active = active
        labels.mode = mode
    number = _object_under_cursor(labels, session.viewer) or int(labels.selected_label)
    name = _class_of(labels, number) if one else None
    found = labels_to_boxes(
        labels,
        target.view,
        session.plane,
        name=name or target.classes.current.name,
        selected=number if one else None,
    )
    if not found.boxes:
        raise BoxError(f"{labels.name} has no such object on this plane.")
    if one and any(_same(found.boxes[0], box) for box in target.boxset.on(session.plane)):
        raise BoxError("This object has its box already.")
    target.add_boxes(found)
    return len(found)


def _same(one: Box, other: Box) -> bool:
    """Whether two boxes of a plane are duplicates."""
    return one.label == other.label and bool(np.allclose(one.as_tuple(), other.as_tuple(), atol=0.5))


def _labels_layer(session: Session) -> Labels:
    active = session.viewer.layers.selection.active
    ours = layers_with_role(session.viewer, "preview")
    others = [layer for layer in session.viewer.layers if isinstance(layer, Labels) and layer not in ours]
    if isinstance(active, Labels) and active in others:
        return active
    if session.result is not None and session.result.alive:
        return session.result.layer
    if len(others) == 1:
        return others[0]
    raise BoxError("Select the Labels layer whose objects are to become boxes.")


def _object_under_cursor(labels: Labels, viewer: ViewerModel) -> int:
    """Return the number of the object that the cursor is on, 0 where it is on none."""
    value = labels.get_value(viewer.cursor.position, world=True)
    return int(value) if isinstance(value, (int, np.integer)) else 0


def _class_of(labels: Labels, number: int) -> str | None:
    """Class of an object in the table of a result; None where the table does not say."""
    table = labels.features
    if not {"index", "class"} <= set(table.columns):
        return None
    found = table.loc[table["index"] == number, "class"]
    return str(found.iloc[0]) if len(found) else None
