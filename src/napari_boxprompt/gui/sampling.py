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

__all__ = ["LabelPlanes", "labels_on_plane", "labels_to_boxes"]

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
    return LabelPlanes(labels, view).plane(plane)


class LabelPlanes:
    """What a Labels layer says on the planes of an image, for a worker: it holds no layer.

    Parameters
    ----------
    labels, view
        See `labels_on_plane`.
    """

    def __init__(self, labels: Labels, view: PlaneView) -> None:
        self._array = labels.data[0] if labels.multiscale else labels.data
        self._matrix = layer_from_image(labels, view)
        self._shape, self._axes, self._plane_axes = view.shape, view.axes, view.plane_axes
        self._corner = np.zeros(view.ndim)
        if view.channel_axis is not None:
            self._corner[view.channel_axis] = view.channel or 0

    def plane(self, plane: PlaneId) -> npt.NDArray[Any]:
        """Labels on the pixels of a plane, ``(H, W)``; 0 where the layer does not reach."""
        height, width = self._shape
        found = np.zeros((height, width), self._array.dtype)
        corner = self._corner.copy()
        for axis, position in zip(self._plane_axes, plane.index, strict=True):
            corner[axis] = position
        first = transform(self._matrix, corner)
        per_row, per_column = (self._matrix[:-1, axis] for axis in self._axes)
        if (
            np.count_nonzero(per_row) == np.count_nonzero(per_column) == 1
            and not (per_row * per_column).any()
        ):
            _look_up_grid(self._array, first, per_row, per_column, found)
            return found
        columns = np.arange(width)[:, np.newaxis] * per_column
        step = max(1, _BLOCK_PIXELS // width)
        for start in range(0, height, step):
            rows = np.arange(start, min(start + step, height))[:, np.newaxis, np.newaxis] * per_row
            index = np.rint(first + rows + columns).astype(np.int64)
            _look_up(self._array, index, found[start : start + step])
        return found


def _look_up_grid(
    array: Any,
    first: npt.NDArray[np.floating[Any]],
    per_row: npt.NDArray[np.floating[Any]],
    per_column: npt.NDArray[np.floating[Any]],
    out: npt.NDArray[Any],
) -> None:
    """Do what `_look_up` does where rows and columns lie along axes of the array: ten times as quick."""
    lines: list[npt.NDArray[np.int64]] = []
    insides: list[npt.NDArray[np.bool_]] = []
    axes = [int(np.flatnonzero(step)[0]) for step in (per_row, per_column)]
    for axis, step, length in zip(axes, (per_row, per_column), out.shape, strict=True):
        places = np.rint(first[axis] + np.arange(length) * step[axis]).astype(np.int64)
        insides.append((places >= 0) & (places < array.shape[axis]))
        lines.append(places[insides[-1]])
    key: list[int | slice] = [round(float(place)) for place in first]
    lost = any(not 0 <= key[i] < array.shape[i] for i in range(len(key)) if i not in axes)  # type: ignore[operator]
    if lost or not all(map(len, lines)):
        return
    for axis, line in zip(axes, lines, strict=True):
        key[axis] = slice(int(line.min()), int(line.max()) + 1)
    block = np.asarray(array[tuple(key)])
    if axes[0] > axes[1]:
        block = block.T
    rows, columns = (line - line.min() for line in lines)
    out[np.ix_(*insides)] = block[np.ix_(rows, columns)]


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
