"""Boxes layers that are in the viewer already, for instance of a sample, and the image that each is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from napari.layers import Shapes

from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.layers import ROLE_KEY, PlaneView, layers_with_role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image

__all__ = ["stored_boxes"]


def stored_boxes(
    viewer: ViewerModel, known: Sequence[BoxLayer], images: Sequence[Image], chosen: PlaneView | None
) -> Iterator[BoxLayer]:
    """Take up the boxes layers of a viewer that nobody has taken up.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer.
    known : sequence of BoxLayer
        Those taken up before; what is yielded is to be added to it at once.
    images : sequence of Image
        Images that boxes can be about.
    chosen : PlaneView, optional
        The image that is worked on: for boxes whose image has another name now.

    Yields
    ------
    BoxLayer
        Boxes, with the layer of what is complete if there is one. Layers whose image is not there, or has
        other boxes, are left alone; the latter are copies, and are taken for boxes layers no more.
    """
    for shapes in layers_with_role(viewer, "boxes"):
        if not isinstance(shapes, Shapes) or shapes in [boxes.shapes for boxes in known]:
            continue
        role = shapes.metadata[ROLE_KEY]
        used = [boxes.view.layer for boxes in known]
        free = [layer for layer in images if layer not in used]
        image = _named(free, role.get("image"))
        if image is None and chosen is not None and chosen.layer in free:
            image = chosen.layer
        if image is None:
            if _named(used, role.get("image")) is not None:  # a copy, which is the user's own
                shapes.metadata = {key: value for key, value in shapes.metadata.items() if key != ROLE_KEY}
            continue
        frames = [boxes.complete for boxes in known]
        areas = [layer for layer in layers_with_role(viewer, "complete") if layer not in frames]
        complete = next((a for a in areas if a.metadata[ROLE_KEY].get("image") == role.get("image")), None)
        yield BoxLayer(viewer, _stored_view(viewer, image, role, chosen), shapes, complete)


def _stored_view(
    viewer: ViewerModel, image: Image, role: Mapping[str, Any], chosen: PlaneView | None
) -> PlaneView:
    """Planes as they were when a boxes layer was made, as far as it says so."""
    axes, channel_axis = role.get("axes"), role.get("channel_axis")
    if axes is None or len(axes) != 2 or max(axes) >= image.ndim:
        return PlaneView.from_viewer(image, viewer)
    channel = None if channel_axis is None else 0
    if chosen is not None and chosen.layer == image and chosen.channel_axis == channel_axis:
        channel = chosen.channel
    return PlaneView(image, (int(axes[0]), int(axes[1])), channel_axis, channel)


def _named(layers: Sequence[Image], name: object) -> Image | None:
    """Layer of a name, or of that name with the number that napari adds to a second one."""
    exact = [layer for layer in layers if layer.name == name]
    numbered = [layer for layer in layers if re.sub(r" \[\d+\]$", "", layer.name) == name]
    return next(iter([*exact, *numbered]), None)
