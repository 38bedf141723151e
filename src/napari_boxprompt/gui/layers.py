"""The border post between napari's layers and the domain: every conversion passes here."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Labels, Shapes

from napari_boxprompt.gui.colors import class_colormap
from napari_boxprompt.gui.geometry import (
    data_to_world,
    image_from_layer,
    layer_from_image,
    physical_matrix,
    unit_factors,
)
from napari_boxprompt.gui.planes import PlaneView, combined_images
from napari_boxprompt.gui.reading import BoxProblem, BoxReading, box_corners, corners_of, read_boxes
from napari_boxprompt.gui.sampling import labels_on_plane, labels_to_boxes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_boxprompt.boxes import PlaneId

__all__ = [
    "ROLE_KEY",
    "BoxProblem",
    "BoxReading",
    "PlaneView",
    "Role",
    "box_corners",
    "class_colormap",
    "combined_images",
    "corners_of",
    "empty_labels",
    "forget_strokes",
    "image_from_layer",
    "labels_on_plane",
    "labels_to_boxes",
    "layer_from_image",
    "layer_transform",
    "layers_with_role",
    "match_units",
    "new_boxes_layer",
    "new_labels_layer",
    "on_layer",
    "plane_slice",
    "read_boxes",
    "role_of",
    "same_selection",
]

ROLE_KEY = "napari-boxprompt"
"""Key in the metadata of our layers; the entry is a dict with at least ``role``."""

Role = Literal["boxes", "complete", "preview", "prediction"]


def layer_transform(view: PlaneView) -> dict[str, Any]:
    """Return what a new layer with as many axes as the image needs to lie over it."""
    layer = view.layer
    return {
        "scale": np.array(layer.scale),
        "translate": np.array(layer.translate),
        "rotate": np.array(layer.rotate),
        "shear": np.array(layer.shear),
        "affine": np.array(layer.affine.affine_matrix),
        "units": tuple(layer.units),
        "axis_labels": tuple(layer.axis_labels),
    }


def _metadata(view: PlaneView, role: Role, given: dict[str, Any]) -> dict[str, Any]:
    entry = {"role": role, "image": view.name, "axes": view.axes, "channel_axis": view.channel_axis}
    return {**given.pop("metadata", {}), ROLE_KEY: entry}


def new_boxes_layer(view: PlaneView, *, name: str, role: Role = "boxes", **kwargs: Any) -> Shapes:
    """Make an empty Shapes layer over the image.

    A leading channel axis is left out, so that a box is seen on every channel. Along another one, which
    napari cannot leave out, position 0 of the layer is stretched over all channels.

    Parameters
    ----------
    view : PlaneView
        The image.
    name : str
        Name of the layer.
    role : Role
        What the layer is for.
    **kwargs
        Passed on to `napari.layers.Shapes`.
    """
    place, ndim = layer_transform(view), view.ndim
    if view.channel_axis == 0:
        matrix = data_to_world(view.layer)[1:, 1:]
        place = {"affine": matrix, "units": place["units"][1:], "axis_labels": place["axis_labels"][1:]}
        ndim -= 1
    else:
        _stretch_over_channels(view, place, np.zeros(ndim))
    metadata = _metadata(view, role, kwargs)
    return Shapes(ndim=ndim, name=name, metadata=metadata, **{**place, **kwargs})


def match_units(layer: Layer, units: Sequence[Any] | None) -> None:
    """Express where one of our layers lies in the units of the viewer; it stays where it is.

    napari hands mouse positions in the viewer's units to a layer that takes them for its own: what is drawn
    in a layer in micrometres lands a thousand times too far once another layer is in nanometres.

    Parameters
    ----------
    layer : napari.layers.Layer
        A layer that we made; a user's layer is left alone.
    units : sequence of pint.Unit, optional
        Units of the viewer, ``viewer.dims.units``; with None, or units of another kind, nothing is done.
    """
    if units is None or role_of(layer) is None:
        return
    wanted = tuple(units)[-layer.ndim :]
    factors = unit_factors(layer.units, wanted)
    if np.all(factors == 1):
        return
    # In this order: a matrix that napari keeps is made anew when the affine changes, not when units do.
    layer.units = wanted
    layer.affine = np.diag([*factors, 1.0]) @ np.array(layer.affine.affine_matrix)


def empty_labels(
    view: PlaneView, dtype: npt.DTypeLike = np.uint32, plane: PlaneId | None = None
) -> npt.NDArray[Any]:
    """Return zeros for the whole image, or for one plane of it.

    Parameters
    ----------
    view : PlaneView
        The image.
    dtype : data type
        Type of the labels.
    plane : PlaneId, optional
        Only this plane.

    Returns
    -------
    ndarray, view.ndim axes
        As long as the image along its axes; 1 along a channel axis and, for one plane, along plane axes.
    """
    lengths = list(view.lengths)
    single = [] if plane is None else list(view.plane_axes)
    if view.channel_axis is not None:
        single.append(view.channel_axis)
    for axis in single:
        lengths[axis] = 1
    return np.zeros(lengths, dtype)


def on_layer(view: PlaneView, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return all planes of the image, ``(planes..., H, W)``, as an array like that of `empty_labels`."""
    turned = planes.transpose(np.argsort((*view.plane_axes, *view.axes)))
    return turned if view.channel_axis is None else np.expand_dims(turned, view.channel_axis)


def plane_slice(view: PlaneView, plane: PlaneId, *, of_one_plane: bool = False) -> tuple[int | slice, ...]:
    """Return the index of the ``(H, W)`` plane in an array from `empty_labels`.

    Parameters
    ----------
    view : PlaneView
        The image.
    plane : PlaneId
        The plane.
    of_one_plane : bool
        Whether the array holds one plane only.
    """
    key: list[int | slice] = [0] * view.ndim
    if not of_one_plane:
        for axis, position in zip(view.plane_axes, plane.index, strict=True):
            key[axis] = position
    for axis in view.axes:
        key[axis] = slice(None)
    return tuple(key)


def new_labels_layer(
    view: PlaneView, data: Any, *, name: str, role: Role, offset: Sequence[int] = (), **kwargs: Any
) -> Labels:
    """Make a Labels layer whose pixels lie on those of the image.

    Parameters
    ----------
    view : PlaneView
        The image.
    data : array with view.ndim axes
        Labels, as from `empty_labels`; a length of 1 along a channel axis is stretched over all channels.
    name : str
        Name of the layer.
    role : Role
        What the layer is for.
    offset : sequence of int
        Data index of the first element in the image; none by default.
    **kwargs
        Passed on to `napari.layers.Labels`.
    """
    place = layer_transform(view)
    first = np.array(offset, dtype=np.float64) if len(offset) else np.zeros(view.ndim)
    if view.channel_axis is not None and data.shape[view.channel_axis] == 1:
        _stretch_over_channels(view, place, first)
    else:
        _move(view, place, first)
    metadata = _metadata(view, role, kwargs)
    return Labels(data, name=name, metadata=metadata, **{**place, **kwargs})


def _stretch_over_channels(view: PlaneView, place: dict[str, Any], first: npt.NDArray[np.float64]) -> None:
    """Let position 0 along the channel axis be that of every channel; nothing happens where there is none."""
    axis = view.channel_axis
    if axis is not None:
        channels, stretch = view.lengths[axis], np.ones(view.ndim)
        stretch[axis], first[axis] = channels, (channels - 1) / 2
        place["scale"] = place["scale"] * stretch
    _move(view, place, first)


def _move(view: PlaneView, place: dict[str, Any], first: npt.NDArray[np.float64]) -> None:
    """Begin at an element of the image."""
    place["translate"] = place["translate"] + physical_matrix(view.layer)[:-1, :-1] @ first


def forget_strokes(layer: Labels) -> None:
    """Empty the undo of a layer whose pixels are about to be written in place.

    It keeps what was under each stroke, and would put that over the new pixels. Only a layer that cannot be
    edited forgets it; the tool stays in the hand.
    """
    if layer.editable:
        mode = layer.mode
        layer.editable = False
        layer.editable = True
        layer.mode = mode


def role_of(layer: Layer) -> str | None:
    """Return the role of a layer, None if it is not one of ours."""
    entry = layer.metadata.get(ROLE_KEY)
    role = entry.get("role") if isinstance(entry, dict) else None
    return role if isinstance(role, str) else None


def layers_with_role(viewer: ViewerModel, role: Role) -> list[Layer]:
    """Return the layers with a role, from bottom to top, whatever they are called."""
    return [layer for layer in viewer.layers if role_of(layer) == role]


@contextmanager
def same_selection(viewer: ViewerModel) -> Iterator[None]:
    """Add layers, which napari selects, and leave those selected that were, be it none, one or several."""
    selection = viewer.layers.selection
    before = set(selection)
    try:
        yield
    finally:
        there = {layer for layer in before if layer in viewer.layers}
        selection.update(there)  # first these, or another layer would be the active one for a moment
        selection.intersection_update(there)
