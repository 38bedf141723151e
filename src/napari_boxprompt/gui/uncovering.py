"""Several images in one viewer: which of them a layer belongs to, and which is to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.gui.layers import ROLE_KEY, layers_with_role

if TYPE_CHECKING:
    from napari.components import LayerList
    from napari.layers import Image, Layer

    from napari_boxprompt.gui.planes import PlaneView
    from napari_boxprompt.gui.state import Session

__all__ = ["uncover", "view_behind"]


SEEN_THROUGH = ("additive", "minimum", "multiplicative")
"""Blending with which an image is laid over another to be seen together with it, as channels are."""


def uncover(session: Session, image: Image, *, whole: bool = False) -> None:
    """Show an image and its layers, and hide those of the others that lie over each other with it.

    Images that are opened together lie on one place, and the upper one hides the others; boxes and objects
    of all of them lie above all images. Where one is looked at through the other, both images stay.

    Parameters
    ----------
    session : Session
        Images, boxes and results.
    image : Image
        The image to be seen.
    whole : bool
        Show its layers also where the image can be seen alone already; else what the user has hidden there
        stays hidden.
    """
    layers, beside = session.viewer.layers, session.viewer.canvas.grid.enabled
    images = {*session.image_layers, *(one.view.layer for one in session.results.alive)}
    others = [one for one in images if one != image and not beside and _meet(one, image)]
    covering = [layer for one in others for layer in _made_for(session, one) if layer.visible]
    covering += [o for o in others if o in layers and o.visible and not _both_seen(layers, o, image)]
    for layer in covering:
        layer.visible = False
    if covering or whole or not image.visible:
        for layer in _layers(session, image):
            if not layer.visible:  # shown twice, napari would bring back the mode of an earlier time
                layer.visible = True


def view_behind(session: Session, layer: Layer | None) -> PlaneView | None:
    """Return the image that a layer of boxes or of objects belongs to; None for other layers."""
    boxes = ((one.view, (one.shapes, one.complete)) for one in session.box_layers)
    found = ((one.view, (one.layer,)) for one in session.results.alive)
    return next((view for view, layers in (*boxes, *found) if layer is not None and layer in layers), None)


def _layers(session: Session, image: Image) -> list[Layer]:
    """Image, boxes, what is complete and the newest objects; the preview shows itself where it is right."""
    latest = session.results.latest.get(image.name)
    return [image, *_drawn(session, image), *(one.layer for one in (latest.together if latest else ()))]


def _made_for(session: Session, image: Image) -> list[Layer]:
    """All that lies over an image: boxes, what is complete, objects of all its results, and the preview."""
    found = [one.layer for one in session.results.alive if one.view.layer == image]
    previews = layers_with_role(session.viewer, "preview")
    mine = [layer for layer in previews if layer.metadata[ROLE_KEY].get("image") == image.name]
    return [*_drawn(session, image), *found, *mine]


def _drawn(session: Session, image: Image) -> list[Layer]:
    boxes = session.boxes_of(image)
    drawn = () if boxes is None else (boxes.shapes, boxes.complete)
    return [layer for layer in drawn if layer is not None and layer in session.viewer.layers]


def _both_seen(layers: LayerList, one: Image, other: Image) -> bool:
    over = other not in layers or layers.index(one) > layers.index(other)  # objects may outlive their image
    return str((one if over else other).blending) in SEEN_THROUGH


def _meet(one: Layer, other: Layer) -> bool:
    """Whether two layers lie over each other, in the axes that both have."""
    ndim = min(one.ndim, other.ndim)
    first, second = (np.asarray(layer.extent.world)[:, -ndim:] for layer in (one, other))
    return bool(np.all((first[0] <= second[1]) & (second[0] <= first[1])))
