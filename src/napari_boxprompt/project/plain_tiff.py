"""The plain kind of TIFF that masks are written as, read many times faster than a whole TIFF reader can.

A project may have thousands of mask files, one a plane. To look at all that a TIFF can say takes much longer
than to read these pixels, so what is not plain in every respect is left to tifffile.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["read_plain"]

_WIDTH, _LENGTH, _BITS, _STARTS, _ROWS, _COUNTS = 256, 257, 258, 273, 278, 279
_NEEDED = {_WIDTH, _LENGTH, _BITS, _STARTS, _ROWS, _COUNTS}

_FIXED = {259: 8, 262: 1, 277: 1}
"""Deflate, black is zero, one sample a pixel."""

_NEEDLESS = {270, 282, 283, 296, 305}
"""Description, resolution and its unit, program: nothing that the pixels depend on."""

_TYPES = {3: "H", 4: "I"}
"""Signs of the types of numbers, for `struct`."""


def read_plain(data: bytes) -> npt.NDArray[Any] | None:
    """Return the pixels of a TIFF, None if it is damaged or not as `write_labels` writes a single plane.

    Parameters
    ----------
    data : bytes
        The whole file.

    References
    ----------
    TIFF 6.0, Adobe, 1992, sections 2 and 8; compression 8 is in Adobe's TIFF technical notes of 2002.
    """
    try:
        tags = _tags(data)
        if tags is None:
            return None
        (width,), (length,), (bits,), (rows,) = (tags[key] for key in (_WIDTH, _LENGTH, _BITS, _ROWS))
        strips = zip(tags[_STARTS], tags[_COUNTS], strict=True)
        raw = b"".join(zlib.decompress(data[start : start + count]) for start, count in strips)
    except (struct.error, zlib.error, ValueError):
        return None
    size = width * length * bits // 8
    if bits not in (8, 16, 32) or not rows or len(tags[_STARTS]) != -(-length // rows):
        return None
    if not size or len(raw) != size:
        return None
    pixels = np.frombuffer(raw, np.dtype(f"<u{bits // 8}")).reshape(length, width)
    return pixels.astype(pixels.dtype.newbyteorder("="))  # a copy, since whoever asks may paint on it


def _tags(data: bytes) -> dict[int, tuple[int, ...]] | None:
    """Return the numbers of each tag that matters, None where there are more pages or other tags."""
    if data[:4] != b"II*\0":
        return None
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    (following,) = struct.unpack_from("<I", data, first + 2 + 12 * count)
    if following:
        return None
    tags: dict[int, tuple[int, ...]] = {}
    for place in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from("<HHI", data, place)
        if tag in _NEEDLESS:
            continue
        if kind not in _TYPES or not 0 < number <= len(data):
            return None
        form = f"<{number}{_TYPES[kind]}"
        at = place + 8
        if struct.calcsize(form) > 4:
            (at,) = struct.unpack_from("<I", data, at)
        tags[tag] = struct.unpack_from(form, data, at)
    whole = tags.keys() == _NEEDED | _FIXED.keys()
    return tags if whole and all(tags[tag] == (value,) for tag, value in _FIXED.items()) else None
