"""Label layers of the user, on whatever grid, seen on the planes of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.gui.geometry import layer_from_image, transform

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_boxprompt.boxes import LabelMode, PlaneId
    from napari_boxprompt.gui.planes import PlaneView

__all__ = ["labels_on_plane", "labels_to_boxes"]

_BLOCK_PIXELS = 1 << 20
"""Pixels looked up at a time, so that a large plane needs no memory to speak of."""


def labels_on_plane(labels: Labels, view: PlaneView, plane: PlaneId) -> npt.NDArray[Any]:
    """Return what a Labels layer says on the pixels of a plane, by the nearest of its pixels.

    Parameters
    ----------
    labels : napari.layers.Labels
        Any label layer, with transforms and units of its own; of axes that only it has, the first position
        is taken.
    view : PlaneView
        The image.
    plane : PlaneId
        A plane of the image.

    Returns
    -------
    ndarray, shape (H, W)
        Labels; 0 where the layer does not reach.
    """
    array = labels.data[0] if labels.multiscale else labels.data
    matrix = layer_from_image(labels, view)
    height, width = view.shape
    found = np.zeros((height, width), array.dtype)
    corner = np.zeros(view.ndim)
    for axis, position in zip(view.plane_axes, plane.index, strict=True):
        corner[axis] = position
    if view.channel_axis is not None:
        corner[view.channel_axis] = view.channel or 0
    per_row, per_column = matrix[:-1, view.axes[0]], matrix[:-1, view.axes[1]]
    columns = np.arange(width)[:, np.newaxis] * per_column
    step = max(1, _BLOCK_PIXELS // width)
    for start in range(0, height, step):
        rows = np.arange(start, min(start + step, height))[:, np.newaxis, np.newaxis] * per_row
        index = np.rint(transform(matrix, corner) + rows + columns).astype(np.int64)
        _look_up(array, index, found[start : start + step])
    return found


def _look_up(array: Any, index: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
    """Fill `out` with ``array[index]`` where that exists; reads one block, for the array may be lazy."""
    inside = np.all((index >= 0) & (index < np.array(array.shape)), axis=-1)
    if not inside.any():
        return
    places = index[inside]
    low = places.min(axis=0)
    high = places.max(axis=0) + 1
    block = np.asarray(array[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))])
    out[inside] = block[tuple((places - low).T)]


def labels_to_boxes(
    labels: Labels,
    view: PlaneView,
    plane: PlaneId,
    *,
    name: str,
    selected: int | None = None,
    mode: LabelMode = "instances",
) -> BoxSet:
    """Return boxes round the objects of a Labels layer on one plane of the image.

    Parameters
    ----------
    labels : napari.layers.Labels
        The label layer.
    view : PlaneView
        The image.
    plane : PlaneId
        The plane.
    name : str
        Class of the boxes.
    selected : int, optional
        Only the object with this number.
    mode : {"instances", "components", "hull"}
        See `napari_boxprompt.labels.boxes_from_labels`.

    Returns
    -------
    BoxSet
        The plane is not marked complete: only the user knows that.
    """
    mask = labels_on_plane(labels, view, plane)
    return BoxSet.from_labels(mask, plane, mode=mode, label=selected, name=name, complete=False)
