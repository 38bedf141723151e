"""Boxes that can be clicked on every plane of a scaled stack."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Shapes

__all__ = ["keep_clickable"]

HALF = 0.5
"""Of a plane: as far away as napari still draws a shape."""

CLOSE = 1e-6
"""Of a plane: far more than what rounding costs, far less than anybody could mean."""


def keep_clickable(shapes: Shapes, *, stretched: bool = False) -> None:
    """Make the shapes of a layer answer to the mouse on every plane.

    napari 0.9 draws the shapes within half a plane of where the slider stands, but looks for the one under
    the mouse only among those whose plane is exactly there. The slider's place is its world coordinate
    divided by the scale: on a stack with a scale of 0.1 that is 2.9999999999999996 for plane 3, and no box
    of plane 3 can be selected, moved or resized. So the layer's place is rounded before each look.

    There is no public way to do this. Where napari does it another way one day, nothing happens here.

    Parameters
    ----------
    shapes : napari.layers.Shapes
        A layer that we made.
    stretched : bool
        A position of the layer is several channels of the image, which lie within half a plane of it.
    """
    look = partial(_round_place, near=HALF if stretched else CLOSE)
    for callbacks in (shapes.mouse_move_callbacks, shapes.mouse_drag_callbacks):
        callbacks.insert(0, look)  # before napari's own look for the shape under the mouse


def _round_place(shapes: Shapes, _event: object = None, *, near: float) -> None:
    view = getattr(shapes, "_data_view", None)
    place = np.asarray(getattr(view, "slice_key", ()), dtype=float)
    whole = np.rint(place)
    if view is not None and place.size and np.any(place != whole) and np.all(np.abs(place - whole) < near):
        view.slice_key = whole
