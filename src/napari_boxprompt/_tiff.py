"""Reader of TIFF files, one plane at a time: memory-mapped where possible, else page by page."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tifffile

from napari_boxprompt._readers import (
    all_indices,
    check_channels,
    check_dtype,
    check_index,
    check_size,
    reading,
)
from napari_boxprompt.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["TiffHandles", "TiffReader"]

_HANDLES = 8
_RGB_PHOTOMETRIC = frozenset({2, 6, 8})  # RGB, YCbCr, CIE Lab

_log = logging.getLogger(__name__)


class TiffHandles:
    """The TIFF files opened last; a copy or a pickle of it starts empty.

    Parameters
    ----------
    size : int
        How many files stay open.
    """

    def __init__(self, size: int = _HANDLES) -> None:
        self._size = size
        self._open: OrderedDict[Path, tifffile.TiffFile] = OrderedDict()
        self._lock = threading.RLock()
        weakref.finalize(self, _close_all, self._open)

    def __reduce__(self) -> tuple[type[TiffHandles], tuple[int]]:
        return (type(self), (self._size,))

    @contextmanager
    def use(self, path: Path) -> Iterator[tifffile.TiffFile]:
        """Give the open file; other threads wait, since a file has one position."""
        with self._lock:
            if path not in self._open:
                while len(self._open) >= self._size:
                    self._open.popitem(last=False)[1].close()
                self._open[path] = tifffile.TiffFile(path)
            self._open.move_to_end(path)
            yield self._open[path]

    def close(self) -> None:
        """Close all files; they open again when needed."""
        with self._lock:
            _close_all(self._open)


def _close_all(files: OrderedDict[Path, tifffile.TiffFile]) -> None:
    while files:
        files.popitem()[1].close()


class TiffReader:
    """Planes of the first series of a TIFF, OME-TIFF, ImageJ or LSM file; reads its header once."""

    def __init__(self, path: Path, handles: TiffHandles, channel: int | None = None) -> None:
        self._path, self._handles, self._channel = path, handles, channel
        with reading(path), handles.use(path) as tif:  # in which it stays open, with its list of pages
            if not tif.series:
                raise ImageError(f"{path} holds no image; save or copy it again, or move it away.")
            series = tif.series[0]
            _check_chain(tif, path)
            if len(tif.series) > 1:
                _log.warning("%s holds %d series; only the first is used.", path, len(tif.series))
            page = series.keyframe
            axes, shape = series.axes, tuple(int(n) for n in series.shape)
            check_dtype(path, series.dtype)
            self._offset, self._byteorder = series.dataoffset, tif.byteorder
            self._dtype, self._page_ndim = series.dtype, page.ndim
            colours = int(page.photometric) in _RGB_PHOTOMETRIC
            extra = bool(page.extrasamples)
        if "Y" not in axes or "X" not in axes:
            raise ImageError(f"{path} has the axes {axes}; a height (Y) and a width (X) are needed.")
        self._full = shape
        self._y, self._x = axes.rindex("Y"), axes.rindex("X")
        letter = "S" if "S" in axes else "C"
        self._c = axes.rindex(letter) if letter in axes else None
        self._others = tuple(a for a in range(len(axes)) if a not in (self._y, self._x, self._c))
        self._extent = tuple(shape[a] for a in self._others)
        self._shape = check_size(path, (shape[self._y], shape[self._x]))
        count = 1 if self._c is None else shape[self._c]
        self._alpha = letter == "S" and ((colours and count == 4) or (count == 2 and extra))
        check_channels(path, count - self._alpha, channel)

    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Return the index of every plane, in order."""
        return all_indices(self._extent)

    def extent(self) -> tuple[int, ...]:
        """Return the length of every non-spatial axis."""
        return self._extent

    def shape(self, index: tuple[int, ...]) -> tuple[int, int]:
        """Return ``(height, width)`` of one plane in pixels."""
        check_index(self._path, index, self._extent)
        return self._shape

    def read(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return one plane ``(H, W, C)`` with C = 1 or 3, in the raw type; other planes are not read."""
        check_index(self._path, index, self._extent)
        key: list[int | slice] = [slice(None)] * len(self._full)
        for axis, position in zip(self._others, index, strict=True):
            key[axis] = position
        with reading(self._path):
            if self._c is None:
                return self._part(key)[:, :, np.newaxis]
            last = self._full[self._c] - self._alpha
            first = 0 if self._channel is None else self._channel
            if self._channel is not None:
                last = first + 1
            if self._offset is None and self._c < len(self._full) - self._page_ndim:
                parts = []
                for key[self._c] in range(first, last):
                    parts.append(self._part(key))
                return np.stack(parts, axis=-1)
            key[self._c] = slice(first, last)
            return self._part(key)

    def _part(self, key: list[int | slice]) -> npt.NDArray[Any]:
        """Return ``(H, W)`` or ``(H, W, C)``: the part of the series that `key` selects."""
        if self._offset is not None:
            dtype = np.dtype(self._byteorder + self._dtype.char)
            mapped = np.memmap(self._path, dtype, "r", self._offset, self._full)
            pixels = np.array(mapped[tuple(key)], dtype=self._dtype.newbyteorder("="))
        else:
            pixels = self._decoded(key)
        # Axes that remain, in the order of the file, are brought into the order Y, X, C.
        remaining = [axis for axis, part in enumerate(key) if isinstance(part, slice)]
        wanted = [self._y, self._x] + ([self._c] if self._c in remaining else [])
        return pixels.transpose([remaining.index(axis) for axis in wanted])

    def _decoded(self, key: list[int | slice]) -> npt.NDArray[Any]:
        """Decode the one page that holds what `key` selects, or everything if pages are not planes."""
        lead = len(self._full) - self._page_ndim
        with self._handles.use(self._path) as tif:
            series = tif.series[0]
            paged = len(series.pages) == math.prod(self._full[:lead])
            place = [part for part in key[:lead] if isinstance(part, int)]
            if not paged or len(place) < lead:
                return series.asarray()[tuple(key)]
            number = int(np.ravel_multi_index(place, self._full[:lead])) if lead else 0
            page = series.pages[number]
            if page is None:  # OME-TIFF may leave planes out
                return np.zeros(self._full[lead:], self._dtype)[tuple(key[lead:])]
            return page.asarray()[tuple(key[lead:])]


def _check_chain(tif: tifffile.TiffFile, path: Path) -> None:
    """Refuse a file whose list of pages breaks off: tifffile would show a stack that is too short."""
    if tif.is_lsm or tif.is_ndpi or tif.is_stk or tif.is_scanimage:
        return  # they number their pages in ways of their own
    position = tif.pages.next_page_offset
    if not position:
        return
    tif.filehandle.seek(position)
    order: Literal["little", "big"] = "little" if tif.byteorder == "<" else "big"
    if int.from_bytes(tif.filehandle.read(tif.tiff.offsetsize), order) != 0:
        raise ImageError(
            f"{path} is damaged or cut short: after page {len(tif.pages)} more are announced than are there; "
            "save or copy it again, or move it away."
        )
