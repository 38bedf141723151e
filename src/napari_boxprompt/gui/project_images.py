"""Which image layers belong to a project, what they are called there, and how they are shown."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from napari.utils.colormaps import AVAILABLE_COLORMAPS

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.gui.geometry import pixel_steps
from napari_boxprompt.gui.layers import ROLE_KEY, PlaneView
from napari_boxprompt.images import IMAGE_SUFFIXES
from napari_boxprompt.project import Look

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt
    from napari.layers import Layer

    from napari_boxprompt.images import Images
    from napari_boxprompt.normalization import Normalization
    from napari_boxprompt.project import ImageEntry, Project

__all__ = [
    "ImageTable",
    "Loaded",
    "Wanted",
    "as_copied",
    "file_of",
    "files_open",
    "fits",
    "image_layer",
    "layer_name",
    "look_of",
    "pixel_size_of",
    "shown_names",
    "wanted",
]


@dataclass(frozen=True)
class Wanted:
    """An image layer that is to be in a project, as a worker needs it.

    Parameters
    ----------
    name : str
        Name of the layer.
    path : Path, optional
        Its file; None for an array, a sample, or what was computed.
    images : Images
        Its planes, to be written where the file cannot be used.
    extent, shape : tuple of int
        Its planes: how many along each axis, and their size.
    channel : int, optional
        The channel that is used.
    pixel_size : dict
        Size of a pixel by axis, with its unit.
    look : Look
        How it is shown.
    """

    name: str
    path: Path | None
    images: Images
    extent: tuple[int, ...]
    shape: tuple[int, int]
    channel: int | None
    pixel_size: dict[Any, tuple[float, str]]
    look: Look


@dataclass(frozen=True)
class Loaded:
    """An image of a project whose pixels have been read.

    Parameters
    ----------
    entry : ImageEntry
        What the project says of it.
    path : Path
        Its file.
    data : array
        Pixels, with the axes that the file has.
    rgb : bool
        Whether the last axis holds colours.
    look : Look
        How to show it.
    """

    entry: ImageEntry
    path: Path
    data: npt.NDArray[np.generic]
    rgb: bool
    look: Look


def file_of(layer: Layer) -> Path | None:
    """Return the image file that a layer names, None without one; the drive is not asked.

    The file may have other planes: a layer that was made of several files names the first of them. Whether
    it has the same is for `has_planes`, or for `fits` where a project knows the file.
    """
    ours = layer.metadata.get(ROLE_KEY)
    path = (ours.get("file") if isinstance(ours, dict) else None) or layer.source.path
    return Path(path) if path and Path(path).suffix.lower() in IMAGE_SUFFIXES else None


def files_open(layers: Iterable[Layer]) -> frozenset[tuple[str, tuple[int, ...]]]:
    """Return the files that layers name, in a form that can be compared, with the lengths of the layers."""
    named = ((file_of(layer), layer) for layer in layers)
    return frozenset((_plain(path), _lengths(layer)) for path, layer in named if path is not None)


def fits(entry: ImageEntry, lengths: tuple[int, ...]) -> bool:
    """Whether an array, its colours not counted, can be cut into the planes that a project knows."""
    for axes, channel_axis in _ways(entry, len(lengths)):
        planes = tuple(n for axis, n in enumerate(lengths) if axis not in (*axes, channel_axis))
        if (planes, (lengths[axes[0]], lengths[axes[1]])) == (entry.extent, entry.shape):
            return True
    return False


def wanted(view: PlaneView, look: Look) -> Wanted:
    """Describe an image layer for a worker.

    Raises
    ------
    ImageError
        Its planes cannot be used.
    """
    return Wanted(
        view.name,
        file_of(view.layer),
        view.images(),
        view.extent,
        view.shape,
        None if view.layer.rgb else view.channel,
        pixel_size_of(view),
        look,
    )


def pixel_size_of(view: PlaneView) -> dict[Any, tuple[float, str]]:
    """Return the size of a pixel along y, x and, in a stack, z, where the layer knows it."""
    axes = {"y": view.axes[0], "x": view.axes[1]}
    if view.plane_axes:
        axes["z"] = view.plane_axes[-1]
    steps = pixel_steps(view.layer)
    known = {name: step for name, axis in axes.items() if (step := steps[axis]) is not None}
    return {
        name: (size, str(unit)) for name, (size, unit) in known.items() if unit.is_compatible_with("meter")
    }


def look_of(view: PlaneView, contrast: Normalization | None, *, by_hand: bool, reader: str = "") -> Look:
    """Note how an image layer is shown.

    Parameters
    ----------
    view : PlaneView
        The image.
    contrast : Normalization, optional
        The brightness scale of the model.
    by_hand : bool
        Whether somebody has set it.
    reader : str
        Plugin that read the file, for a layer that does not say.
    """
    layer = view.layer
    low, high = (float(limit) for limit in layer.contrast_limits)
    # The affine is not noted, but the size of a pixel, which may be in it, stays when the image is reopened.
    own = zip(layer.scale, layer.units, strict=True)
    steps = [step or (abs(scale), unit) for step, (scale, unit) in zip(pixel_steps(layer), own, strict=True)]
    return Look(
        name=view.name,
        reader=layer.source.reader_plugin or reader,
        axes=view.axes,
        channel_axis=view.channel_axis,
        limits=None if layer.rgb or not low < high else (low, high),
        gamma=float(layer.gamma),
        colormap="" if layer.rgb else str(layer.colormap.name),
        scale=tuple(math.copysign(size, way) for (size, _), way in zip(steps, layer.scale, strict=True)),
        units=tuple(str(unit) for _, unit in steps),
        axis_labels=tuple(str(label) for label in layer.axis_labels),
        contrast=contrast,
        contrast_by_hand=by_hand,
    )


def as_copied(look: Look) -> Look:
    """Return how an image is shown after its planes were written as a stack, planes first."""
    ndim = len(look.scale)
    shown = look.axes or (ndim - 2, ndim - 1)
    order = [axis for axis in range(ndim) if axis not in (*shown, look.channel_axis)] + list(shown)
    moved = {
        name: tuple(getattr(look, name)[axis] for axis in order) for name in ("scale", "units", "axis_labels")
    }
    last = (len(order) - 2, len(order) - 1)
    return look.model_copy(update={**moved, "axes": last, "channel_axis": None, "reader": ""})


def image_layer(loaded: Loaded) -> Image:
    """Make the layer of an image as it was shown last."""
    look, ndim = loaded.look, loaded.data.ndim - loaded.rgb
    shown: dict[str, Any] = {"gamma": look.gamma}
    if not loaded.rgb:
        shown |= {"contrast_limits": look.limits} if look.limits else {}
        shown |= {"colormap": look.colormap} if look.colormap in AVAILABLE_COLORMAPS else {}
    for name in ("scale", "units", "axis_labels"):
        values = getattr(look, name)
        if len(values) == ndim:  # another reader may give the file other axes
            shown[name] = values
    sizes: dict[Any, tuple[float, str]] = loaded.entry.pixel_size
    if "scale" not in shown and {"y", "x"} <= sizes.keys():
        known = [sizes.get(axis, (1.0, "pixel")) for axis in ("z", "y", "x")][-ndim:]
        filled = [(1.0, "pixel")] * (ndim - len(known)) + known
        shown |= {"scale": [size for size, _ in filled], "units": [unit for _, unit in filled]}
    metadata = {ROLE_KEY: {"file": str(loaded.path)}}
    return Image(loaded.data, name=layer_name(loaded.entry), rgb=loaded.rgb, metadata=metadata, **shown)


def layer_name(entry: ImageEntry) -> str:
    """Return the name that the layer of an image has, if no other has it."""
    look = entry.look
    return (look.name if look is not None else "") or PurePath(entry.path).name.partition(".")[0]


class ImageTable:
    """Image layers of an open project, and their names in it.

    Parameters
    ----------
    project : Project
        The project.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._pairs: list[tuple[Image, str]] = []

    @property
    def pairs(self) -> tuple[tuple[Image, str], ...]:
        """Layers and names."""
        return tuple(self._pairs)

    @property
    def closed(self) -> list[str]:
        """Names of the images that are not open."""
        shown = {name for _, name in self._pairs}
        return [name for name in self._project.images.names if name not in shown]

    def bind(self, layer: Image, name: str) -> None:
        """Note that a layer is an image of the project."""
        self._pairs = [pair for pair in self._pairs if pair[1] != name]
        self._pairs.append((layer, name))

    def bind_files(self, layers: Iterable[Image]) -> tuple[str, ...]:
        """Find the layers that have the planes of files of the project; return the names in it."""
        places = {_plain(self._project.folder / e.path): e.name for e in self._project.entries.values()}
        found = []
        for layer in layers:
            path = file_of(layer)
            name = None if path is None else places.get(_plain(path))
            if name is None or name not in self._project.images.names or self.layer_of(name) is not None:
                continue
            if fits(self._project.entries[name], _lengths(layer)):
                self.bind(layer, name)
                found.append(name)
        return tuple(found)

    def forget(self, layer: Layer) -> None:
        """Leave out a layer that is gone."""
        self._pairs = [pair for pair in self._pairs if pair[0] != layer]

    def name_of(self, layer: Layer) -> str | None:
        """Return the name of a layer in the project, None where it is not in it."""
        return next((name for known, name in self._pairs if known == layer), None)

    def layer_of(self, name: str) -> Image | None:
        """Return the layer of an image, None where it is not open."""
        return next((layer for layer, known in self._pairs if known == name), None)

    def entry_of(self, view: PlaneView) -> ImageEntry | None:
        """Return what the project says of an image; None where it is not in it, or cut into other planes."""
        name = self.name_of(view.layer)
        entry = None if name is None else self._project.entries.get(name)
        if entry is None or name in self._project.changed:
            return None
        return entry if (view.extent, view.shape) == (entry.extent, entry.shape) else None

    def stored(self, view: PlaneView, plane: PlaneId) -> PlaneId | None:
        """Return a plane as the project calls it, None where it is not in the project."""
        entry = self.entry_of(view)
        return None if entry is None else PlaneId(entry.name, plane.index)

    def mark(self, layer: Image) -> None:
        """Note in a layer whose planes were written into the project where, if the copy has the same axes.

        So the project finds it again in the same viewer, and need not read the copy.
        """
        name = self.name_of(layer)
        entry = None if name is None else self._project.entries.get(name)
        if entry is None or not self.is_copy(layer):
            return
        if _lengths(layer) == (*entry.extent, *entry.shape):
            known = layer.metadata.get(ROLE_KEY)
            place = {"file": os.path.abspath(self._project.folder / entry.path)}
            kept = known if isinstance(known, dict) else {}
            layer.metadata = {**layer.metadata, ROLE_KEY: {**kept, **place}}

    def is_copy(self, layer: Layer) -> bool:
        """Whether the project has a copy of a layer's planes and not the file that it came from."""
        name, path = self.name_of(layer), layer.source.path or file_of(layer)
        entry = None if name is None else self._project.entries.get(name)
        return entry is not None and (
            path is None or _plain(Path(path)) != _plain(self._project.folder / entry.path)
        )

    def view_of(self, name: str) -> PlaneView | None:
        """Return how an open image is cut into planes according to the project."""
        layer, entry = self.layer_of(name), self._project.entries.get(name)
        if layer is None or entry is None:
            return None
        for axes, channel_axis in _ways(entry, layer.ndim):
            channel = None if channel_axis is None else entry.channel
            view = PlaneView(layer, axes, channel_axis, channel)
            if self.entry_of(view) is not None:
                return view
        return None


def shown_names(table: ImageTable | None) -> tuple[str, ...]:
    """Return the names of the images of a project that are open."""
    return () if table is None else tuple(name for _, name in table.pairs)


def _ways(entry: ImageEntry, ndim: int) -> list[tuple[tuple[int, int], int | None]]:
    """Return axes of the planes and of channels: as the image was shown last, else the last two."""
    look = entry.look
    ways: list[tuple[tuple[int, int], int | None]] = [((ndim - 2, ndim - 1), None)]
    if look is not None and look.axes is not None:
        ways.insert(0, (look.axes, look.channel_axis))
    return [(axes, channel_axis) for axes, channel_axis in ways if max(*axes, channel_axis or 0) < ndim]


def _lengths(layer: Layer) -> tuple[int, ...]:
    """Return the lengths of the data axes of an image, colours not counted."""
    finest = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(n) for n in finest.shape[: layer.ndim])


def _plain(path: Path) -> str:
    """Return a path in a form that can be compared, without asking the drive."""
    return os.path.normcase(os.path.abspath(path))
