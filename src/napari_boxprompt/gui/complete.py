"""The layer of what is complete: rectangles inside which every object has its box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_boxprompt.boxes import PlaneInfo
from napari_boxprompt.gui.classes import COMPLETE_COLOR
from napari_boxprompt.gui.layers import new_boxes_layer, read_boxes

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_boxprompt.boxes import Box, PlaneId
    from napari_boxprompt.gui.layers import PlaneView

__all__ = ["new_complete_layer", "read_complete", "style_complete", "whole_rows"]

WHOLE = 0.98
"""A rectangle that covers this part of a plane makes the plane complete."""


def new_complete_layer(view: PlaneView) -> Shapes:
    """Make an empty layer for the complete areas of an image; it is not in the viewer yet."""
    # Opaque, or its word would be pale on a canvas that is white.
    return new_boxes_layer(view, name=f"{view.name} complete", role="complete", opacity=1.0)


def style_complete(layer: Shapes, width: float) -> None:
    """Green frames with a word, so that what is complete cannot be overlooked.

    Parameters
    ----------
    layer : Shapes
        Layer of the complete areas.
    width : float
        Line width of the boxes, in pixels; that of the frames is twice as large.
    """
    layer.current_edge_color = COMPLETE_COLOR
    layer.current_face_color = "transparent"
    layer.current_edge_width = 2 * width
    word = {"constant": "complete"}
    layer.text = {"string": word, "color": COMPLETE_COLOR, "size": 10, "anchor": "upper_left"}


def read_complete(layer: Shapes, view: PlaneView) -> dict[PlaneId, PlaneInfo]:
    """Read which planes have complete areas, or are complete as a whole."""
    regions: dict[PlaneId, list[Box]] = {}
    for box in read_boxes(layer, view).boxes:
        regions.setdefault(box.plane, []).append(box)
    return {
        plane: PlaneInfo(
            view.shape,
            complete=any(_is_whole(box, view) for box in found),
            complete_regions=tuple(box.as_tuple() for box in found if not _is_whole(box, view)),
        )
        for plane, found in regions.items()
    }


def whole_rows(layer: Shapes, view: PlaneView, plane: PlaneId) -> set[int]:
    """Rows of the layer with rectangles that make a plane complete."""
    found = read_boxes(layer, view)
    return {
        row
        for row, box in zip(found.rows, found.boxes, strict=True)
        if box.plane == plane and _is_whole(box, view)
    }


def _is_whole(box: Box, view: PlaneView) -> bool:
    height, width = view.shape
    return box.area >= WHOLE * height * width
