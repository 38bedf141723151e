"""Boxes from label images: one per object, per connected component, or one round everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_boxprompt.boxes import Box, LabelMode, PlaneId
from napari_boxprompt.errors import BoxError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["boxes_from_labels"]

MANY = 65_535
"""Numbers up to this are taken as they are."""


def boxes_from_labels(
    mask: npt.NDArray[Any],
    plane: PlaneId,
    *,
    mode: LabelMode = "instances",
    label: int | None = None,
    name: str = "object",
) -> tuple[Box, ...]:
    """Return boxes round the objects of a label image.

    Parameters
    ----------
    mask : ndarray, shape (H, W), bool or integer
        The label image; values of 0 and below are background.
    plane : PlaneId
        The plane the boxes lie on.
    mode : {"instances", "components", "hull"}
        One box per value, per connected component (diagonal neighbours touch) of ``mask == label`` (of
        ``mask > 0`` without a label), or one box round all of it.
    label : int, optional
        Use only pixels with this value.
    name : str
        Class of the boxes.

    Returns
    -------
    tuple of Box
        In the order of their ids: the value for "instances", else 1, 2, ...

    Raises
    ------
    BoxError
        If the mask is not a two-dimensional label image or the mode is unknown.
    """
    from skimage.measure import label as connected
    from skimage.measure import regionprops

    values = np.asarray(mask)
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise BoxError(
            f"The label image for {plane} has shape {values.shape} and type {values.dtype}; "
            "pass one two-dimensional plane of whole numbers."
        )
    wanted = values > 0 if label is None else values == label
    if mode == "instances":
        regions, ids = _numbered(np.where(wanted, values, 0))
    elif mode == "components":
        regions = np.asarray(connected(wanted, connectivity=2))
        ids = np.arange(1, regions.max(initial=0) + 1)
    elif mode == "hull":
        regions = wanted.astype(np.int64)
        ids = np.array([1])
    else:
        raise BoxError(f"The mode '{mode}' is not known; use one of {', '.join(get_args(LabelMode))}.")
    corners = ((region.bbox, int(ids[region.label - 1])) for region in regionprops(regions))
    return tuple(Box(y0, x0, y1, x1, plane, name, number) for (y0, x0, y1, x1), number in corners)


def _numbered(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Objects with numbers that are not too large, and what number each has by these.

    `regionprops` needs memory for the largest number; but to find consecutive ones takes long.
    """
    largest = int(values.max(initial=0))
    if largest <= MANY:
        return values.astype(np.int32), np.arange(1, largest + 1)
    ids, inverse = np.unique(values, return_inverse=True)
    return np.where(values, inverse.reshape(values.shape) + 1, 0), ids
