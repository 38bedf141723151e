"""Boxes round objects that are outlined already, in a Labels layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.from_shapes import box_key, boxes_beside
from napari_boxprompt.gui.layers import labels_to_boxes, layers_with_role
from napari_boxprompt.gui.sampling import LabelPlanes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import pandas as pd
    from napari.components import ViewerModel

    from napari_boxprompt.boxes import Box, PlaneId
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.state import Session

__all__ = ["boxes_from_all_labels", "boxes_from_labels"]

JOB = "boxes from labels"


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
    target = boxes_beside(session, layers)
    wanted = [_in_hand(layers, session.viewer)] if one else [(layer, None) for layer in layers]
    known = {one.layer: one.only for one in session.results.alive}
    parts = []
    for layer, number in wanted:
        name = known.get(layer) or target.classes.current.name
        part = labels_to_boxes(layer, target.view, session.plane, name=name, selected=number)
        parts.append(_with_classes(part, layer.features))
    overlapping = any(known.get(layer) for layer, _ in wanted)
    found = replace(BoxSet.merge(parts), exclusive=not overlapping)
    if not found.boxes:
        names = ", ".join(layer.name for layer, _ in wanted)
        raise BoxError(f"{names}: there is no such object on this plane.")
    if one and any(_same(found.boxes[0], box) for box in target.boxset.on(session.plane)):
        raise BoxError("This object has its box already.")
    target.add_boxes(found)
    return len(found)


def boxes_from_all_labels(session: Session, jobs: Jobs, done: Callable[[int], object]) -> None:
    """Draw a box round each object that a Labels layer has, on every plane, in the background.

    Boxes that are there already are not drawn again; all others are one gesture. When the job is stopped,
    those of the planes done so far are drawn.

    Parameters
    ----------
    session : Session
        As for `boxes_from_labels`.
    jobs : Jobs
        Reads the labels.
    done : callable
        Called with the number of boxes added.

    Raises
    ------
    BoxError
        No image, or no such layer.
    """
    layers = _labels_layers(session)
    target = boxes_beside(session, layers)
    known = {one.layer: one.only for one in session.results.alive}
    sources = [
        (
            LabelPlanes(layer, target.view),
            layer.features.copy(),
            known.get(layer) or target.classes.current.name,
        )
        for layer in layers
    ]
    overlapping = any(known.get(layer) for layer in layers)
    planes = target.view.images().planes

    def take(found: list[BoxSet]) -> None:
        if target not in session.box_layers:
            raise BoxError("The boxes layer is gone; nothing was added.")
        there = {box_key(box) for box in target.boxset.boxes}
        merged = replace(BoxSet.merge(found), exclusive=not overlapping)
        new = [box for box in merged.boxes if box_key(box) not in there]
        if new:
            target.add_boxes(merged.with_boxes(new))
        done(len(new))

    jobs.start(JOB, partial(_read_all, sources=sources, planes=planes), on_result=take)


def _read_all(
    stop: Stop, sources: Sequence[tuple[LabelPlanes, pd.DataFrame, str]], planes: Sequence[PlaneId]
) -> Generator[None, None, list[BoxSet]]:
    """Boxes on each plane; what is there when it is stopped is returned."""
    found: list[BoxSet] = []
    for plane in planes:
        for labels, table, name in sources:
            part = BoxSet.from_labels(labels.plane(plane), plane, name=name, complete=False)
            if part.boxes:
                found.append(_with_classes(part, table))
        if stop.is_set():
            break
        yield
    return found


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


def _with_classes(found: BoxSet, table: pd.DataFrame) -> BoxSet:
    """Return boxes with the classes of their objects, where a table says them."""
    said = {"index", "class"} <= set(table.columns)
    classes = dict(zip(table["index"][::-1], map(str, table["class"][::-1]), strict=True)) if said else {}
    boxes = tuple(replace(box, label=classes.get(box.id, box.label)) for box in found.boxes)
    return replace(found, boxes=boxes, classes=tuple(dict.fromkeys(box.label for box in boxes)))


def _object_under_cursor(labels: Labels, viewer: ViewerModel) -> int:
    """Return the number of the object that the cursor is on, 0 where it is on none."""
    value = labels.get_value(viewer.cursor.position, world=True)
    return int(value) if isinstance(value, (int, np.integer)) else 0
