"""Pixels of the images of a project: read from their files, or written where there is no file."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_boxprompt._readers import reading
from napari_boxprompt._tiff import TiffHandles
from napari_boxprompt.errors import ImageError
from napari_boxprompt.files import atomic_path
from napari_boxprompt.gui.project_images import Loaded
from napari_boxprompt.images import open_images, open_reader
from napari_boxprompt.project import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.project_images import Wanted
    from napari_boxprompt.images import Images
    from napari_boxprompt.project import ImageEntry

__all__ = ["COPIES", "file_for", "has_planes", "load_image"]

LAZY_BYTES = 2 << 30
"""Files from this size on are read plane by plane, when a plane is looked at."""

COPIES = "images"
"""Folder in a project for images that were no files."""

_OME_TYPES = frozenset({"uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"})


def file_for(item: Wanted, folder: Path, *, copies: bool) -> tuple[Path, bool]:
    """Return the file of an image if it has the same planes, else write one; and whether it was written.

    Raises
    ------
    ImageError
        There is no such file, and none is to be written.
    """
    if item.path is not None and has_planes(item.path, item.extent, item.shape, item.channel):
        return item.path, False
    if not copies:
        why = "is not a file on the disk" if item.path is None else "has other planes than its file"
        raise ImageError(f"{item.name} {why}, and so it is not in the project.")
    return _write_copy(item, folder / COPIES), True


def has_planes(
    path: Path, extent: tuple[int, ...], shape: tuple[int, int], channel: int | None = None
) -> bool:
    """Whether a file has the planes of the image layer that names it; its header is read.

    A layer made of several files names the first of them, and one that was cropped the whole.

    Parameters
    ----------
    path : Path
        The file, which may be missing.
    extent, shape : tuple of int
        Planes of the layer: how many along each axis, and their size.
    channel : int, optional
        The channel that is used.
    """
    with suppress(ImageError):
        reader = open_reader(path, TiffHandles(1), channel)
        found = reader.extent()
        return (found, reader.shape((0,) * len(found))) == (extent, shape)
    return False


def _write_copy(item: Wanted, folder: Path) -> Path:
    """Write the planes of an image as a stack: OME-TIFF where that can hold them."""
    planes = item.images.planes
    first = item.images.read(planes[0])
    rgb = first.shape[2] == 3
    dtype = np.dtype(np.uint8) if first.dtype == bool else first.dtype
    stack = np.empty((*item.extent, *first.shape[: 3 if rgb else 2]), dtype)
    for plane in planes:
        pixels = item.images.read(plane)
        stack[plane.index] = pixels if rgb else pixels[..., 0]
    ome = dtype.name in _OME_TYPES and len(item.extent) < 3
    axes = ("", "Z", "TZ")[len(item.extent)] + "YX" if ome else ""
    metadata: dict[str, Any] = {"axes": axes + ("S" if rgb else "")} if ome else {}
    path = _free(folder, item.name, ".ome.tif" if ome else ".tif")
    with atomic_path(path) as scratch:
        tifffile.imwrite(
            scratch,
            stack,
            ome=ome,
            metadata=metadata,
            photometric="rgb" if rgb else "minisblack",
            bigtiff=stack.nbytes > 3_000_000_000,
        )
    return path


def _free(folder: Path, name: str, suffix: str) -> Path:
    """Return a path that no file has; names of layers may hold what those of files must not."""
    stem = "".join(sign if sign.isalnum() or sign in " -_." else "_" for sign in name).strip(" .") or "image"
    path, number = folder / f"{stem}{suffix}", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}{suffix}", number + 1
    return path


def load_image(entry: ImageEntry, path: Path) -> Loaded:
    """Read the pixels of an image as the viewer had them, or as far as the project needs them."""
    look = entry.look or Look()
    if look.reader and look.axes is not None:
        with suppress(ImageError), reading(path):
            return _load_with(look.reader, entry, path, look)
    images = open_images(path, channel=entry.channel, name=entry.name)
    return _load_plainly(images, entry, path, look)


def _load_with(reader: str, entry: ImageEntry, path: Path, look: Look) -> Loaded:
    """Read a file with the plugin that read it before.

    Raises
    ------
    ImageError
        It gives something else than one image, or other axes.
    """
    from npe2 import read

    found: list[Any] = list(read([str(path)], stack=False, plugin_name=reader))
    if len(found) != 1 or (len(found[0]) > 2 and found[0][2] not in ("image", "")):
        raise ImageError(f"{reader} reads {path} as something else than one image; see how it was read.")
    pixels, *rest = found[0]
    meta = dict(rest[0]) if rest else {}
    if isinstance(pixels, (list, tuple)):
        pixels = pixels[0]
    colours = meta.get("rgb")
    if colours is None:
        colours = pixels.ndim == len(look.scale) + 1 and pixels.shape[-1] in (3, 4)
    lengths = pixels.shape[: pixels.ndim - bool(colours)]
    axes = look.axes or (0, 1)
    if "channel_axis" in meta or max(axes) >= len(lengths):
        raise ImageError(f"{reader} gives {path} other axes than before; see how it was read.")
    rows = (lengths[axes[0]], lengths[axes[1]])
    planes = tuple(n for axis, n in enumerate(lengths) if axis not in (*axes, look.channel_axis))
    if (planes, rows) != (entry.extent, entry.shape):
        raise ImageError(f"{reader} gives {path} other planes than before; see how it was read.")
    return Loaded(entry, path, pixels, bool(colours), look)


def _load_plainly(images: Images, entry: ImageEntry, path: Path, look: Look) -> Loaded:
    """Read the planes that the project knows; those of a large file when they are looked at."""
    planes = images.planes
    name = planes[0].image
    sample = images.read(planes[0])
    rgb = sample.shape[2] == 3
    shape = (*entry.extent, *entry.shape, *((3,) if rgb else ()))

    def pixels_of(plane: PlaneId) -> npt.NDArray[Any]:
        pixels = images.read(plane)
        return pixels if rgb else pixels[..., 0]

    if entry.size < LAZY_BYTES:
        data = np.empty(shape, sample.dtype)
        for plane in planes:
            data[plane.index] = pixels_of(plane)
    else:
        data = _lazily(pixels_of, [p for p in planes if p.image == name], shape, sample.dtype)
    # It has the axes of its planes only, whatever the viewer had.
    flat = look.model_copy(update={"axes": None, "channel_axis": None, "reader": ""})
    return Loaded(entry, path, data, rgb, flat)


def _lazily(
    pixels_of: Callable[[PlaneId], npt.NDArray[Any]],
    planes: Sequence[PlaneId],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Any:
    """Return an array that reads a plane when it is needed."""
    import dask.array as da
    from dask.delayed import delayed

    part = shape[len(planes[0].index) :]
    read = delayed(pixels_of, pure=False)
    parts = [da.from_delayed(read(plane), part, dtype) for plane in planes]  # type: ignore[no-untyped-call]
    return da.stack(parts).reshape(shape)  # type: ignore[no-untyped-call]
