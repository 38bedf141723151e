"""Boxes that the user has drawn already, in a Shapes layer of their own."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari.layers import Shapes

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.geometry import shared_axes
from napari_boxprompt.gui.layers import read_boxes, role_of
from napari_boxprompt.gui.telling import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Labels

    from napari_boxprompt.boxes import Box
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.state import Session

__all__ = ["box_key", "boxes_beside", "boxes_from_shapes"]

WHY: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "there": ("is there already", "are there already"),
        "rotated": ("is rotated", "are rotated"),
        "not a rectangle": ("is no rectangle", "are no rectangles"),
        "across planes": ("lies on no single plane", "lie on no single plane"),
        "outside": ("lies outside the image", "lie outside the image"),
        "tiny": ("has no area", "have no area"),
        "duplicate": ("is there twice", "are there twice"),
    }
)
"""Why a shape is left out, of one and of several."""

NO_BOX = ("rotated", "not a rectangle")
"""What is wrong with shapes round which a box could be drawn, but not the one that the user meant."""


def boxes_from_shapes(session: Session) -> tuple[int, str]:
    """Add the upright rectangles of a Shapes layer to the boxes of the chosen image, as one gesture.

    The active Shapes layer is taken, else the only one that does not hold boxes here already. Shapes of a
    layer with fewer axes than the image come onto the plane on screen. The column ``class`` of the layer's
    features names classes; without it boxes have the class of the next box.

    Parameters
    ----------
    session : Session
        Gives image, plane and boxes layer.

    Returns
    -------
    int
        How many were added.
    str
        Which shapes were left out, and why; empty where none was.

    Raises
    ------
    BoxError
        No image, no such layer, or no plane on screen where shapes do not say theirs; or nothing to add.
    """
    if session.view is None:
        raise BoxError("Boxes need an image: open one, or choose it under Image.")
    shapes = _shapes_layer(session)
    missing = set(session.view.plane_axes) - set(shared_axes(shapes, session.view)[1])
    if session.plane is None and missing:
        raise BoxError("Go to a plane of the image first, in 2-D display.")
    target = boxes_beside(session, [shapes])
    reading = read_boxes(shapes, target.view, at=session.plane, classes=[target.classes.current.name])
    why = {problem.index: problem.kind for problem in reading.problems if problem.kind in NO_BOX}
    why |= {p.index: p.kind for p in reading.problems if p.index not in reading.rows}
    there = {box_key(box) for box in target.boxset.boxes}
    found: list[Box] = []
    for row, box in zip(reading.rows, reading.boxes, strict=True):
        if row not in why and box_key(box) in there:
            why[row] = "there"
        elif row not in why:
            found.append(box)
    left_out = _said(Counter(why.values()))
    if not found:
        raise BoxError(left_out or f"{shapes.name} has no shapes.")
    target.add_boxes(BoxSet(tuple(found), {}, tuple(dict.fromkeys(box.label for box in found))))
    return len(found), left_out


def _shapes_layer(session: Session) -> Shapes:
    ours = [boxes.shapes for boxes in session.box_layers]
    mine = None if session.boxes is None else session.boxes.shapes
    layers = [
        layer for layer in session.viewer.layers if isinstance(layer, Shapes) and role_of(layer) != "complete"
    ]
    active = session.viewer.layers.selection.active
    if isinstance(active, Shapes) and active in layers and active != mine:
        return active
    others = [layer for layer in layers if layer not in ours]
    if len(others) == 1:
        return others[0]
    raise BoxError(
        "Select the Shapes layer whose rectangles are to become boxes."
        if others
        else "There is no Shapes layer besides those with boxes."
    )


def boxes_beside(session: Session, layers: Sequence[Labels | Shapes]) -> BoxLayer:
    """Return the boxes of the image, made now if there are none; the layer and tools in hand stay in hand."""
    active, modes = session.viewer.layers.selection.active, [layer.mode for layer in layers]
    target = session.new_boxes_layer()
    if active is not None:
        session.viewer.layers.selection.active = active
        for layer, mode in zip(layers, modes, strict=True):
            layer.mode = mode
    return target


def box_key(box: Box) -> tuple[object, ...]:
    """What boxes have in common that are the same to a person."""
    return (box.plane, box.label, *(round(value) for value in box.as_tuple()))


def _said(counts: Counter[str]) -> str:
    if not counts:
        return ""
    total = counts.total()
    reasons = ", ".join(
        f"{counts[kind]} {words[counts[kind] > 1]}" for kind, words in WHY.items() if counts[kind]
    )
    return f"{counted(total, 'shape')} {'was' if total == 1 else 'were'} left out: {reasons}."
