"""Layers on screen, worked out from napari's public answers and not by the code under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pint
from napari.layers import Layer


def to_world(layer: Layer, points: Any, unit: Sequence[str]) -> np.ndarray:
    """World coordinates of data points ``(..., layer.ndim)``, in the given unit per axis."""
    values = np.asarray(points, dtype=float)
    world = np.array([layer.data_to_world(point) for point in values.reshape(-1, layer.ndim)])
    factors = [
        pint.Quantity(1, own).to(other).magnitude for own, other in zip(layer.units, unit, strict=True)
    ]
    return (world * factors).reshape(values.shape)


def from_world(layer: Layer, points: Any, unit: Sequence[str]) -> np.ndarray:
    """Data coordinates of world points ``(..., layer.ndim)`` that are in the given unit per axis."""
    values = np.asarray(points, dtype=float)
    factors = [
        pint.Quantity(1, other).to(own).magnitude for own, other in zip(layer.units, unit, strict=True)
    ]
    data = [layer.world_to_data(point * factors) for point in values.reshape(-1, layer.ndim)]
    return np.array(data).reshape(values.shape)


def frame(axes: tuple[int, int], place: Sequence[float], bounds: Sequence[float]) -> np.ndarray:
    """Corners, in napari's data coordinates, of half-open pixel bounds y0, x0, y1, x1."""
    corners = np.tile(np.asarray(place, dtype=float), (4, 1))
    y0, x0, y1, x1 = np.asarray(bounds) - 0.5
    corners[:, axes[0]] = [y0, y0, y1, y1]
    corners[:, axes[1]] = [x0, x1, x1, x0]
    return corners


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Mask of a disc."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def bounds_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Half-open bounds y0, x0, y1, x1 of a mask."""
    rows, columns = np.nonzero(mask)
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
