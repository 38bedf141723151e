"""An image layer seen as a stack of planes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt._readers import MIN_SIDE, all_indices, check_dtype, check_index, check_size, reading
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import ImageError
from napari_boxprompt.gui.geometry import displayed_axes, pixel_steps, slider_matrix, transform
from napari_boxprompt.images import Images

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

__all__ = ["PlaneView", "combined_images", "planes_touched"]


@dataclass(frozen=True)
class PlaneView:
    """How an image layer is cut into planes.

    Parameters
    ----------
    layer : napari.layers.Image
        The image: numpy, dask or zarr; of a multiscale one the finest level is used.
    axes : tuple of int
        Data axes of the rows and of the columns, ascending.
    channel_axis : int, optional
        A data axis that holds channels, not planes; never for RGB.
    channel : int, optional
        The channel to read.
    """

    layer: Image
    axes: tuple[int, int]
    channel_axis: int | None = None
    channel: int | None = None

    @classmethod
    def from_viewer(
        cls,
        layer: Image,
        viewer: ViewerModel,
        channel_axis: int | None = None,
        channel: int | None = None,
    ) -> PlaneView:
        """Cut a layer along the axes that the viewer displays, in three dimensions along the last two."""
        shown = [axis for axis in displayed_axes(layer.ndim, viewer.dims) if axis != channel_axis][-2:]
        if len(shown) < 2:
            shown = [axis for axis in range(layer.ndim) if axis != channel_axis][-2:]
        if len(shown) < 2:
            raise ImageError(f"{layer.name} has no plane beside its channels; choose another channel axis.")
        first, second = sorted(shown)
        return cls(layer, (first, second), channel_axis, channel)

    @property
    def name(self) -> str:
        """Name of the layer, which is the name of the image in `PlaneId`."""
        return str(self.layer.name)

    @property
    def ndim(self) -> int:
        """Number of data axes, colours not counted."""
        return int(self.layer.ndim)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length of every data axis, colours not counted."""
        return tuple(int(n) for n in _finest(self.layer).shape[: self.ndim])

    @property
    def plane_axes(self) -> tuple[int, ...]:
        """Data axes along which planes are counted, ascending."""
        return tuple(axis for axis in range(self.ndim) if axis not in (*self.axes, self.channel_axis))

    @property
    def extent(self) -> tuple[int, ...]:
        """Length of every plane axis."""
        lengths = self.lengths
        return tuple(lengths[axis] for axis in self.plane_axes)

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of a plane in pixels."""
        lengths = self.lengths
        return lengths[self.axes[0]], lengths[self.axes[1]]

    @property
    def count(self) -> int:
        """Number of planes."""
        return math.prod(self.extent)

    def plane(self, index: Sequence[int]) -> PlaneId | None:
        """Return the plane at a position, None if there is none."""
        place = tuple(int(i) for i in index)
        inside = len(place) == len(self.plane_axes) and all(
            0 <= i < n for i, n in zip(place, self.extent, strict=True)
        )
        return PlaneId(self.name, place) if inside else None

    def images(self) -> Images:
        """Return the planes for the domain; pixels are read when asked for, from any thread.

        Raises
        ------
        ImageError
            If the planes are too small, hold no real numbers, or have channels to choose from.
        """
        return Images({self.name: _PlaneReader(self)})

    def plane_shown(self, viewer: ViewerModel) -> PlaneId | None:
        """Return the plane on screen, None outside the image or if another orientation is displayed."""
        dims = viewer.dims
        if dims.ndim < self.ndim or set(displayed_axes(self.ndim, dims)) != set(self.axes):
            return None
        position = self._sliders(viewer)
        return self.plane([round(position[axis]) for axis in self.plane_axes])

    def as_shown(self, viewer: ViewerModel) -> PlaneView:
        """Cut it along the axes that the viewer displays; in three dimensions it stays as it is.

        Raises
        ------
        ImageError
            The planes on screen cannot be used; the message says which can.
        """
        shown = PlaneView.from_viewer(self.layer, viewer, self.channel_axis, self.channel)
        if viewer.dims.ndisplay != 2 or shown.axes == self.axes:
            return self
        if min(shown.shape) < MIN_SIDE:
            names = self.axis_names()
            raise ImageError(
                f"The planes of {self.name} on screen cannot be used: they are {shown.shape[0]} x "
                f"{shown.shape[1]} pixels, and both sides must be at least {MIN_SIDE}. Roll the axes until "
                f"{names[self.axes[0]]} and {names[self.axes[1]]} are shown."
            )
        shown.images()
        return shown

    def show(self, viewer: ViewerModel, plane: PlaneId) -> None:
        """Move the viewer's sliders to a plane; turn the displayed axes only if they cut it otherwise."""
        dims = viewer.dims
        offset = dims.ndim - self.ndim
        if offset < 0 or self.plane(plane.index) is None:
            return
        if dims.ndisplay == 2 and set(displayed_axes(self.ndim, dims)) != set(self.axes):
            rows_columns = tuple(axis + offset for axis in self.axes)
            dims.order = (*(axis for axis in dims.order if axis not in rows_columns), *rows_columns)
        position = self._sliders(viewer)
        if not position:
            return
        wanted = {**position, **dict(zip(self.plane_axes, plane.index, strict=True))}
        axes = list(position)
        to_world = np.linalg.inv(slider_matrix(self.layer, dims, axes))
        point = transform(to_world, [wanted[axis] for axis in axes])
        dims.set_point([axis + offset for axis in axes], [float(value) for value in point])

    def _sliders(self, viewer: ViewerModel) -> dict[int, float]:
        """Return the data coordinate of every axis that is not displayed."""
        dims = viewer.dims
        shown = displayed_axes(self.ndim, dims)
        axes = [axis for axis in range(self.ndim) if axis not in shown]
        world = [dims.point[axis + dims.ndim - self.ndim] for axis in axes]
        data = transform(slider_matrix(self.layer, dims, axes), world)
        return {axis: float(value) for axis, value in zip(axes, data, strict=True)}

    def axis_names(self) -> tuple[str, ...]:
        """Return the name of every data axis: its label, or ``t z y x`` counted from the last."""
        counted = [axis for axis in range(self.ndim) if axis != self.channel_axis]
        usual = dict(zip(reversed(counted), "xyzt", strict=False))
        labels = [str(label) for label in self.layer.axis_labels]
        plain = [label == str(axis - self.ndim) for axis, label in enumerate(labels)]
        default = {**{axis: f"axis {axis}" for axis in counted}, **usual}
        if self.channel_axis is not None:
            default[self.channel_axis] = "c"
        return tuple(default[axis] if plain[axis] else labels[axis] for axis in range(self.ndim))

    def describe(self) -> str:
        """Say what the image is, for example "60 planes of 256 x 256, z"."""
        height, width = self.shape
        if not self.plane_axes:
            return f"1 plane of {height} x {width}"
        names = self.axis_names()
        counts = " x ".join(str(n) for n in self.extent)
        planes = "plane" if self.count == 1 else "planes"
        return f"{counts} {planes} of {height} x {width}, {' '.join(names[axis] for axis in self.plane_axes)}"

    def pixel_size(self) -> dict[str, tuple[float, str]]:
        """Return the size of a pixel along the last axes that hold no channels, where they have one.

        Returns
        -------
        dict of str to (float, str)
            As ``{"z": (2.0, "micrometer"), "y": (0.5, "micrometer"), ...}``. Names follow the order of the
            data, however the image is cut into planes: an array of that order is written with them.
        """
        steps = pixel_steps(self.layer)
        counted = [steps[axis] for axis in reversed(range(self.ndim)) if axis != self.channel_axis]
        named = zip("xyz", counted, strict=False)
        return {name: (step[0], str(step[1])) for name, step in named if step is not None}

    def size_in_units(self) -> str:
        """Say how large a plane is in the units of the layer, "64 x 80 µm"; empty where it has none."""
        steps = pixel_steps(self.layer)
        known = [step for axis in self.axes if (step := steps[axis]) is not None]
        if len(known) < 2:
            return ""
        first, second = (
            (length * size * unit).to_compact()
            for length, (size, unit) in zip(self.shape, known, strict=True)
        )
        if first.check(second.dimensionality):
            said = f"{first.magnitude:.3g} x {second.to(first.units):.3g~P}"
        else:
            said = f"{first:.3g~P} x {second:.3g~P}"
        return said.replace(
            "\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"
        )  # which it is depends on pint's version


def combined_images(views: Sequence[PlaneView]) -> Images:
    """Return the planes of several layers, in order."""
    return Images({view.name: _PlaneReader(view) for view in views})


def _finest(layer: Image) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


class _PlaneReader:
    """Planes of an image layer; holds the array, not the layer, which belongs to the main thread."""

    def __init__(self, view: PlaneView) -> None:
        self._array, self._name, self._rgb = _finest(view.layer), view.name, bool(view.layer.rgb)
        self._axes, self._plane_axes, self._extent = view.axes, view.plane_axes, view.extent
        self._channel_axis, self._channel = view.channel_axis, view.channel
        check_dtype(self._name, self._array.dtype)
        self._shape = check_size(self._name, view.shape)
        if 0 in self._extent:
            raise ImageError(f"{self._name} has no planes; choose another image.")
        self._check_channels(view)

    def _check_channels(self, view: PlaneView) -> None:
        count = 1 if self._channel_axis is None else view.lengths[self._channel_axis]
        if self._channel is not None and not self._rgb and not 0 <= self._channel < count:
            raise ImageError(f"{self._name} has no channel {self._channel}; it has 0 to {count - 1}.")
        if self._channel is None and count not in (1, 3):
            raise ImageError(f"{self._name} has {count} channels; choose one of them.")

    def indices(self) -> tuple[tuple[int, ...], ...]:
        return all_indices(self._extent)

    def extent(self) -> tuple[int, ...]:
        return self._extent

    def shape(self, index: tuple[int, ...]) -> tuple[int, int]:
        check_index(self._name, index, self._extent)
        return self._shape

    def read(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        check_index(self._name, index, self._extent)
        key: list[int | slice] = [slice(None)] * len(self._array.shape)
        for axis, position in zip(self._plane_axes, index, strict=True):
            key[axis] = position
        if self._channel_axis is not None and self._channel is not None:
            key[self._channel_axis] = self._channel
        with reading(self._name):
            pixels = np.asarray(self._array[tuple(key)])
        if self._rgb:
            return pixels[:, :, :3]
        if pixels.ndim == 2:
            return pixels[:, :, np.newaxis]
        kept = sorted((*self._axes, self._channel_axis or 0))
        return np.moveaxis(pixels, kept.index(self._channel_axis or 0), -1)


def planes_touched(view: PlaneView, strokes: Any) -> list[PlaneId]:
    """Return the planes that a step of napari's painting history has touched.

    Parameters
    ----------
    view : PlaneView
        How the image under the layer is cut into planes.
    strokes : sequence
        Of objects with a ``slice_key``, or of tuples that begin with a numpy index.
    """
    found: dict[PlaneId, None] = {}
    axes, extent = view.plane_axes, view.extent
    for stroke in strokes:
        key = getattr(stroke, "slice_key", None)
        if key is None:
            key = stroke[0]
        places = [_positions(key[axis], length) for axis, length in zip(axes, extent, strict=True)]
        grid = np.array(np.meshgrid(*places, indexing="ij")).reshape(len(axes), -1).T if axes else [()]
        found |= dict.fromkeys(PlaneId(view.name, tuple(int(i) for i in place)) for place in grid)
    return list(found)


def _positions(key: Any, length: int) -> list[int]:
    """Return the positions along one axis that an index takes."""
    if isinstance(key, slice):
        return list(range(*key.indices(length)))
    return [int(i) for i in np.unique(np.asarray(key)) if 0 <= i < length]
