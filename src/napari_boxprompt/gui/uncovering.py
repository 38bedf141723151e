"""Several images in one viewer: which of them a layer belongs to, and which is to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_boxprompt.gui.planes import PlaneView
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session

__all__ = ["uncover", "view_behind"]


def uncover(session: Session, result: Result) -> None:
    """Show the layers of an image that is reviewed, and hide those of the others that lie over them.

    Images that are opened together lie on one place, and the upper one hides the others.

    Parameters
    ----------
    session : Session
        Boxes and results.
    result : Result
        The newest one of the image to be seen. Nothing happens while that image can be seen alone.
    """
    image = result.view.layer
    others = [one for one in session.results.latest.values() if one.view.layer != image]
    covering = [one for one in others if one.view.layer.visible and _meet(one.view.layer, image)]
    for one in covering:
        for layer in _layers(session, one):
            layer.visible = False
    if covering or not image.visible:
        for layer in _layers(session, result):
            layer.visible = True


def view_behind(session: Session, layer: Layer | None) -> PlaneView | None:
    """Return the image that a layer of boxes or of objects belongs to; None for other layers."""
    boxes = ((one.view, (one.shapes, one.complete)) for one in session.box_layers)
    found = ((one.view, (one.layer,)) for one in session.results.alive)
    return next((view for view, layers in (*boxes, *found) if layer is not None and layer in layers), None)


def _layers(session: Session, result: Result) -> list[Layer]:
    """Image, objects, boxes and what is complete, as far as they are in the viewer."""
    boxes = session.boxes_of(result.view.layer)
    drawn = () if boxes is None else (boxes.shapes, boxes.complete)
    layers = (result.view.layer, *(one.layer for one in result.together), *drawn)
    return [layer for layer in layers if layer is not None and layer in session.viewer.layers]


def _meet(one: Layer, other: Layer) -> bool:
    """Whether two layers lie over each other, in the axes that both have."""
    ndim = min(one.ndim, other.ndim)
    first, second = (np.asarray(layer.extent.world)[:, -ndim:] for layer in (one, other))
    return bool(np.all((first[0] <= second[1]) & (second[0] <= first[1])))
