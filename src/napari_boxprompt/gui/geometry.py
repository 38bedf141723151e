"""Where a layer lies: matrices between the data coordinates of layers and of the viewer, aware of units.

All matrices are homogeneous and act on column vectors ``(axis 0, axis 1, ..., 1)`` in napari's data
coordinates, where pixel ``i`` covers ``[i - 0.5, i + 0.5]``. Layers with different numbers of axes are
aligned at their last axis, as napari does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.components import Dims
    from napari.layers import Layer

    from napari_boxprompt.gui.planes import PlaneView

__all__ = [
    "data_to_world",
    "displayed_axes",
    "image_from_layer",
    "layer_from_image",
    "physical_matrix",
    "pixel_steps",
    "shared_axes",
    "slider_matrix",
    "transform",
    "unit_factors",
]

Matrix = np.ndarray[Any, np.dtype[np.floating[Any]]]

ROUNDING = 1e-9
"""A part of a step that is smaller, relative to the largest, is an error of rounding."""


def transform(matrix: Matrix, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Apply a homogeneous matrix ``(m + 1, n + 1)`` to points ``(..., n)``; returns ``(..., m)``."""
    values = np.asarray(points, dtype=np.float64)
    moved: npt.NDArray[np.float64] = values @ matrix[:-1, :-1].T + matrix[:-1, -1]
    return moved


def physical_matrix(layer: Layer) -> Matrix:
    """Return scale, shear, rotation and translation of a layer as one matrix, without its extra affine."""
    inner = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim
    )
    return np.asarray(inner.affine_matrix, dtype=np.float64)


def data_to_world(layer: Layer) -> Matrix:
    """Return the matrix from data to world coordinates, the latter in the layer's own units."""
    return np.asarray(layer.affine.affine_matrix, dtype=np.float64) @ physical_matrix(layer)


def pixel_steps(layer: Layer) -> tuple[tuple[float, Any] | None, ...]:
    """Return how far it is from one pixel to the next along each data axis, and in which unit.

    Parameters
    ----------
    layer : napari.layers.Layer
        An image. The size of its pixels may be in its scale or in its affine, and shear stretches them.

    Returns
    -------
    tuple of (float, pint.Unit) or None, one per data axis
        Lengths are greater than 0, also where an axis is mirrored. None where the step has no length: in
        pixels, and where it goes along axes of the world that have different units.
    """
    return tuple(_step(column, layer.units) for column in data_to_world(layer)[:-1, :-1].T)


def _step(parts: Matrix, units: Sequence[Any]) -> tuple[float, Any] | None:
    """Return length and unit of a step with a part along each axis of the world."""
    counts = np.abs(parts) > ROUNDING * np.abs(parts).max()
    found = {unit for unit, there in zip(units, counts, strict=True) if there}
    if len(found) != 1 or str(unit := found.pop()) == "pixel":
        return None
    # Rounded, or pixels that are square would not be so any more in an image that is rotated.
    return float(f"{np.linalg.norm(parts[counts]):.12g}"), unit


def unit_factors(source: Sequence[Any], target: Sequence[Any] | None) -> npt.NDArray[np.float64]:
    """Return what lengths in `source` units are multiplied by to be in `target` units, one per axis.

    Where one axis cannot be converted, as from pixels to micrometres, nothing is: napari, too, shows layers
    by their bare numbers then.

    Parameters
    ----------
    source, target : sequence of pint.Unit
        Equally many; None stands for the same units.
    """
    if target is None:
        return np.ones(len(source))
    pairs = list(zip(source, target, strict=True))
    if any(own.dimensionality != other.dimensionality for own, other in pairs):
        return np.ones(len(pairs))
    return np.array([float((1.0 * own).to(other).magnitude) for own, other in pairs])


def shared_axes(layer: Layer, view: PlaneView) -> tuple[list[int], list[int]]:
    """Return the axes of a layer, and of the image, that are the same axes of the world: the last ones."""
    count = min(layer.ndim, view.ndim)
    return list(range(layer.ndim - count, layer.ndim)), list(range(view.ndim - count, view.ndim))


def _blocks(layer: Layer, view: PlaneView) -> tuple[Matrix, Matrix, list[int], list[int]]:
    """Return data to shared world coordinates, in units of the image, of the layer and of the image."""
    own, of_image = shared_axes(layer, view)
    image = view.layer
    factors = unit_factors([layer.units[i] for i in own], [image.units[i] for i in of_image])
    from_layer = np.diag([*factors, 1.0]) @ _cut(data_to_world(layer), own)
    return from_layer, _cut(data_to_world(image), of_image), own, of_image


def _cut(matrix: Matrix, axes: list[int]) -> Matrix:
    """Return the part of a square matrix that acts on some axes."""
    kept = [*axes, len(matrix) - 1]
    return matrix[np.ix_(kept, kept)]


def _spread(matrix: Matrix, rows: list[int], row_axes: int, columns: list[int], column_axes: int) -> Matrix:
    """Place a matrix between some axes into one between all of them; other axes become 0."""
    full = np.zeros((row_axes + 1, column_axes + 1))
    full[np.ix_([*rows, row_axes], [*columns, column_axes])] = matrix
    return full


def image_from_layer(layer: Layer, view: PlaneView) -> Matrix:
    """Return the matrix from data coordinates of a layer to data coordinates of the image.

    Parameters
    ----------
    layer : napari.layers.Layer
        Any layer; axes that only it has are left out.
    view : PlaneView
        The image; axes that only it has become 0.

    Returns
    -------
    ndarray, shape (view.ndim + 1, layer.ndim + 1)
        Homogeneous matrix.
    """
    from_layer, from_image, own, of_image = _blocks(layer, view)
    return _spread(np.linalg.solve(from_image, from_layer), of_image, view.ndim, own, layer.ndim)


def layer_from_image(layer: Layer, view: PlaneView) -> Matrix:
    """Return the matrix from data coordinates of the image to data coordinates of a layer.

    The inverse of `image_from_layer` on the axes that both have.
    """
    from_layer, from_image, own, of_image = _blocks(layer, view)
    return _spread(np.linalg.solve(from_layer, from_image), own, layer.ndim, of_image, view.ndim)


def displayed_axes(ndim: int, dims: Dims) -> tuple[int, ...]:
    """Return the data axes that the viewer displays of a layer with `ndim` axes, in display order."""
    offset = dims.ndim - ndim
    order = [axis - offset for axis in dims.order if axis >= offset]
    return tuple([*range(-offset), *order][-dims.ndisplay :] if offset < 0 else order[-dims.ndisplay :])


def slider_matrix(layer: Layer, dims: Dims, axes: Sequence[int]) -> Matrix:
    """Return the matrix from the positions of sliders to data coordinates, for the axes not displayed.

    napari cuts a layer with the part of the inverse transform that acts on these axes, so this does too.

    Parameters
    ----------
    layer : napari.layers.Layer
        A layer with at most as many axes as the viewer.
    dims : napari.components.Dims
        The viewer's sliders.
    axes : sequence of int
        Data axes of the layer that are not displayed.
    """
    units = None if dims.units is None else dims.units[-layer.ndim :]
    world = np.diag([*unit_factors(layer.units, units), 1.0]) @ data_to_world(layer)
    return _cut(np.linalg.inv(world), list(axes))
