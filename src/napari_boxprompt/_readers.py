"""Readers of arrays and pictures (PNG, JPEG, ...), one plane at a time; TIFF is in `_tiff`."""

from __future__ import annotations

import itertools
import lzma
import struct
import tokenize
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from napari_boxprompt.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "MIN_SIDE",
    "ArrayReader",
    "PictureReader",
    "Reader",
    "all_indices",
    "check_channels",
    "check_dtype",
    "check_index",
    "check_size",
    "describe_extent",
    "reading",
]

MIN_SIDE = 32
"""Shortest side of an image, in pixels, that can be worked with."""

_READ_ERRORS = (
    OSError,
    ArithmeticError,
    AssertionError,  # tifffile, on sizes that contradict each other
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    SyntaxError,  # Pillow, on a broken PNG
    NotImplementedError,
    RuntimeError,
    MemoryError,
    EOFError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,  # numpy, on a broken .npy header
    zlib.error,
    tifffile.TiffFileError,
    Image.DecompressionBombError,
)


class Reader(Protocol):
    """Something that holds the planes of one image."""

    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Return the index of every plane, in order."""

    def extent(self) -> tuple[int, ...]:
        """Return the length of every non-spatial axis."""

    def shape(self, index: tuple[int, ...]) -> tuple[int, int]:
        """Return ``(height, width)`` of one plane in pixels."""

    def read(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return one plane ``(H, W, C)`` with C = 1 or 3, in the raw type."""


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Turn whatever a library raises on a bad file into an `ImageError` that names the file."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {name}; check the path.") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read; check its permissions.") from error
    except MemoryError as error:
        raise ImageError(f"{name} does not fit into memory; cut it into smaller images.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not an image that can be read; copy it again, convert it to PNG or TIFF, or move it "
            "away."
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large for its format; save it as TIFF.") from error
    except _READ_ERRORS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if "imagecodecs" in reason:
            raise ImageError(
                f"{name} is compressed in a way that needs another package; run 'pip install imagecodecs'."
            ) from error
        raise ImageError(
            f"{name} is damaged, cut short or not an image ({reason}); save or copy it again, or move it "
            "away."
        ) from error


def check_size(name: object, shape: Sequence[int]) -> tuple[int, int]:
    """Return ``(height, width)`` as plain numbers if an image of that size can be used."""
    height, width = int(shape[0]), int(shape[1])
    if height == 0 or width == 0:
        raise ImageError(f"{name} has no pixels ({height} x {width}); leave it out.")
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"{name} is {height} x {width} pixels; both sides must be at least {MIN_SIDE}, "
            "enlarge it or leave it out."
        )
    return height, width


def check_dtype(name: object, dtype: Any) -> None:
    """Refuse pixel types that are not real numbers."""
    if np.dtype(dtype).kind not in "biuf":
        raise ImageError(f"{name} has pixels of type {dtype}; convert them to whole or real numbers.")


def pick_channels(
    pixels: npt.NDArray[Any], name: object, channel: int | None, *, alpha: bool = False
) -> npt.NDArray[Any]:
    """Return ``(H, W, 1 or 3)`` from ``(H, W, C)``: drop a last alpha channel, or take the chosen channel."""
    if alpha and pixels.shape[2] in (2, 4):
        pixels = pixels[:, :, :-1]
    count = pixels.shape[2]
    check_channels(name, count, channel)
    if channel is not None:
        pixels = pixels[:, :, channel : channel + 1]
    return pixels


def check_channels(name: object, count: int, channel: int | None) -> None:
    """Refuse a channel that does not exist, and a number of channels that needs a choice."""
    if channel is not None and not 0 <= channel < count:
        known = "one channel, 0" if count == 1 else f"channels 0 to {count - 1}"
        raise ImageError(f"{name} has no channel {channel}; it has {known}.")
    if channel is None and count not in (1, 3):
        raise ImageError(f"{name} has {count} channels; choose one with --channel (0 to {count - 1}).")


def check_index(name: object, index: tuple[int, ...], extent: tuple[int, ...]) -> None:
    """Refuse an index outside a stack."""
    if len(index) == len(extent) and all(0 <= i < n for i, n in zip(index, extent, strict=True)):
        return
    raise ImageError(f"{name} has no plane {list(index)}; {describe_extent(extent)}.")


def describe_extent(extent: tuple[int, ...]) -> str:
    """Say in words which plane indices exist."""
    if not extent:
        return "it is a single plane, whose index is []"
    ranges = ", ".join(f"0 to {n - 1}" for n in extent)
    return f"its planes have indices [{ranges}]"


def all_indices(extent: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return every index of a stack, the last axis running fastest."""
    return tuple(itertools.product(*map(range, extent)))


class ArrayReader:
    """Planes of an array in memory or of a lazy one (dask, zarr, memory map).

    Parameters
    ----------
    array : array-like with shape, dtype and slicing
        Axes: planes..., Y, X, and last the colours if it is an RGB(A) array.
    name : str
        Name for messages.
    channel : int, optional
        Channel to take.
    channel_axis : int, optional
        Axis that holds channels, for arrays that are not RGB.
    rgb : bool, optional
        Whether the last axis holds colours; by default if it has 3 or 4 entries and Y and X have more.
    """

    def __init__(
        self,
        array: Any,
        name: str,
        channel: int | None = None,
        channel_axis: int | None = None,
        rgb: bool | None = None,
    ) -> None:
        shape = tuple(int(n) for n in array.shape)
        check_dtype(name, array.dtype)
        if channel_axis is None and (rgb if rgb is not None else _looks_rgb(shape)):
            channel_axis, self._alpha = len(shape) - 1, shape[-1] == 4
        else:
            self._alpha = False
        if channel_axis is not None and not -len(shape) <= channel_axis < len(shape):
            raise ImageError(f"{name} has no axis {channel_axis} for channels; its shape is {shape}.")
        spatial = [axis for axis in range(len(shape)) if axis != _positive(channel_axis, len(shape))]
        if len(spatial) < 2:
            raise ImageError(f"{name} has {len(shape)} axes; pass at least a height and a width.")
        self._array, self._name, self._channel = array, name, channel
        self._channel_axis = _positive(channel_axis, len(shape))
        self._extent = tuple(shape[axis] for axis in spatial[:-2])
        self._shape = check_size(name, (shape[spatial[-2]], shape[spatial[-1]]))
        if 0 in self._extent:
            raise ImageError(f"{name} has no planes (shape {shape}); leave it out.")
        if self._channel_axis is None and channel not in (None, 0):
            raise ImageError(f"{name} has no channel {channel}: no axis of its shape {shape} holds channels.")
        count = 1 if self._channel_axis is None else shape[self._channel_axis] - self._alpha
        check_channels(name, count, channel)

    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Return the index of every plane, in order."""
        return all_indices(self._extent)

    def extent(self) -> tuple[int, ...]:
        """Return the length of every non-spatial axis."""
        return self._extent

    def shape(self, index: tuple[int, ...]) -> tuple[int, int]:
        """Return ``(height, width)`` of one plane in pixels."""
        check_index(self._name, index, self._extent)
        return self._shape

    def read(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return one plane ``(H, W, C)`` with C = 1 or 3, in the raw type."""
        check_index(self._name, index, self._extent)
        key: list[int | slice] = [*index, slice(None), slice(None)]
        axis = self._channel_axis
        if axis is None:
            with reading(self._name):
                return np.asarray(self._array[tuple(key)])[:, :, np.newaxis]
        key.insert(axis, slice(None) if self._channel is None else self._channel)
        with reading(self._name):
            plane = np.asarray(self._array[tuple(key)])
        if self._channel is not None:
            return plane[:, :, np.newaxis]
        plane = np.moveaxis(plane, max(0, axis - len(index)), -1)
        return plane[:, :, :-1] if self._alpha else plane


class PictureReader:
    """One picture in a file that Pillow reads; animations give their first frame.

    Parameters
    ----------
    path : Path
        The file.
    channel : int, optional
        Channel to take.
    numbers : bool
        Of a picture with a palette, give the numbers of the colours and not these.
    """

    def __init__(self, path: Path, channel: int | None = None, *, numbers: bool = False) -> None:
        self._path, self._channel, self._numbers = path, channel, numbers
        self._shape: tuple[int, int] | None = None

    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Return the index of every plane, in order."""
        return ((),)

    def extent(self) -> tuple[int, ...]:
        """Return the length of every non-spatial axis."""
        return ()

    def shape(self, index: tuple[int, ...]) -> tuple[int, int]:
        """Return ``(height, width)`` of one plane in pixels; reads the header once."""
        check_index(self._path, index, ())
        if self._shape is None:
            with reading(self._path), Image.open(self._path) as picture:
                width, height = picture.size
            self._shape = check_size(self._path, (height, width))
        return self._shape

    def read(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return one plane ``(H, W, C)`` with C = 1 or 3, in the raw type.

        The orientation that cameras note beside the pixels is not applied, as in napari.
        """
        check_index(self._path, index, ())
        with reading(self._path), Image.open(self._path) as picture:
            check_size(self._path, (picture.height, picture.width))
            alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La")
            if picture.mode in ("P", "PA") and not self._numbers:
                alpha = "transparency" in picture.info or picture.mode == "PA"
                pixels = np.asarray(picture.convert("RGBA" if alpha else "RGB"))
                if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(
                    pixels[..., 0], pixels[..., 2]
                ):
                    pixels, alpha = pixels[..., :1], False
            elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
                pixels = np.asarray(picture.convert("RGB"))
            else:
                pixels = np.asarray(picture)
        pixels = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
        self._shape = (pixels.shape[0], pixels.shape[1])
        return pick_channels(pixels, self._path, self._channel, alpha=alpha)


def _looks_rgb(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > shape[-1]


def _positive(axis: int | None, ndim: int) -> int | None:
    return None if axis is None else axis % ndim
