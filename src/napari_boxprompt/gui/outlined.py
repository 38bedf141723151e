"""Boxes round objects that are outlined already, in a Labels layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.layers import labels_to_boxes, layers_with_role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from napari_boxprompt.boxes import Box
    from napari_boxprompt.gui.state import Session

__all__ = ["boxes_from_labels"]


def boxes_from_labels(session: Session, *, one: bool = False) -> int:
    """Draw a box round objects of a Labels layer on the plane on screen; return how many.

    The active Labels layer is taken, else the newest result with the layers of all its classes, else the only
    Labels layer. Boxes have the class that the table of a result says, else that of the next box.

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
    layers = _labels_layers(session)
    if session.view is None or session.plane is None:
        raise BoxError("Go to a plane of the image first, in 2-D display.")
    active, modes = session.viewer.layers.selection.active, [layer.mode for layer in layers]
    target = session.new_boxes_layer()
    if active is not None:
        session.viewer.layers.selection.active = active
        for layer, mode in zip(layers, modes, strict=True):
            layer.mode = mode
    wanted = [_in_hand(layers, session.viewer)] if one else [(layer, None) for layer in layers]
    known = {one.layer: one.only for one in session.results.alive}
    parts = []
    for layer, number in wanted:
        name = known.get(layer) or target.classes.current.name
        part = labels_to_boxes(layer, target.view, session.plane, name=name, selected=number)
        parts.append(_with_classes(part, layer))
    overlapping = any(known.get(layer) for layer, _ in wanted)
    found = replace(BoxSet.merge(parts), exclusive=not overlapping)
    if not found.boxes:
        names = ", ".join(layer.name for layer, _ in wanted)
        raise BoxError(f"{names}: there is no such object on this plane.")
    if one and any(_same(found.boxes[0], box) for box in target.boxset.on(session.plane)):
        raise BoxError("This object has its box already.")
    target.add_boxes(found)
    return len(found)


def _same(one: Box, other: Box) -> bool:
    """Whether two boxes of a plane are duplicates."""
    return one.label == other.label and bool(np.allclose(one.as_tuple(), other.as_tuple(), atol=0.5))


def _labels_layers(session: Session) -> list[Labels]:
    active = session.viewer.layers.selection.active
    ours = layers_with_role(session.viewer, "preview")
    others = [layer for layer in session.viewer.layers if isinstance(layer, Labels) and layer not in ours]
    if isinstance(active, Labels) and active in others:
        return [active]
    if session.result is not None:
        return [one.layer for one in session.result.siblings if one.alive]
    if len(others) == 1:
        return others
    raise BoxError("Select the Labels layer whose objects are to become boxes.")


def _in_hand(layers: Sequence[Labels], viewer: ViewerModel) -> tuple[Labels, int]:
    """Return the object under the cursor, or the selected one, with its layer; the topmost layer counts."""
    under = ((layer, _object_under_cursor(layer, viewer)) for layer in reversed(layers))
    return next((found for found in under if found[1]), (layers[-1], int(layers[-1].selected_label)))


def _with_classes(found: BoxSet, labels: Labels) -> BoxSet:
    """Return boxes with the classes of their objects, where a table says them."""
    boxes = tuple(replace(box, label=_class_of(labels, box.id) or box.label) for box in found.boxes)
    return replace(found, boxes=boxes, classes=tuple(dict.fromkeys(box.label for box in boxes)))


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
