"""Reading the files of masks, of which a project may have thousands."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_boxprompt._readers import reading
from napari_boxprompt.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["read_labels"]

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _OFFSETS, _COUNTS = 256, 257, 258, 259, 273, 279
_READ = frozenset({_WIDTH, _LENGTH, _BITS, _COMPRESSION, _OFFSETS, _COUNTS})
_WRITTEN = frozenset({262, 270, 277, 278, 282, 283, 296, 305})
"""The other tags that `napari_boxprompt.outputs.write_labels` writes; others may change what pixels mean."""

_DEFLATE = 8
_TYPES = {3: "H", 4: "I"}
"""Types of numbers in TIFF, as `struct` calls them."""


def read_labels(path: Path) -> npt.NDArray[Any]:
    """Read a file of labels.

    What we have written, which is nearly every mask, is decoded here: tifffile takes five times as long for
    a small one, for tags and OME-XML that a mask does not need.

    Raises
    ------
    ProjectError
        The file is missing.
    ImageError
        It is damaged.
    """
    if not path.is_file():
        raise ProjectError(f"The mask {path} is missing; copy it back into the project, or paint it again.")
    with reading(path):
        try:
            pages = list(_pages(path.read_bytes()))
            return pages[0] if len(pages) == 1 else np.stack(pages)
        except (LookupError, ValueError, struct.error, zlib.error):  # another program's, or damaged
            return np.asarray(tifffile.imread(path))


def _pages(data: bytes) -> Iterator[npt.NDArray[Any]]:
    """Decode the pages of a TIFF that we have written.

    Raises
    ------
    LookupError, ValueError, struct.error, zlib.error
        It is not as we write it.
    """
    mark, place = struct.unpack_from("<4sI", data)
    last = 0
    while place:
        tags, following = _tags(data, place)
        if mark != b"II*\0" or place <= last or tags[_COMPRESSION] != (_DEFLATE,):
            raise ValueError
        strips = zip(tags[_OFFSETS], tags[_COUNTS], strict=True)
        pixels = b"".join(zlib.decompress(data[first : first + size]) for first, size in strips)
        labels = np.frombuffer(bytearray(pixels), f"<u{tags[_BITS][0] // 8}")
        yield labels.reshape(tags[_LENGTH] + tags[_WIDTH])
        place, last = following, place


def _tags(data: bytes, place: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the tags of a page that tell where its pixels are, and the place of the next page or 0."""
    found: dict[int, tuple[int, ...]] = {}
    (number,) = struct.unpack_from("<H", data, place)
    end = place + 2 + 12 * number
    for entry in range(place + 2, end, 12):
        tag, kind, count, value = struct.unpack_from("<HHII", data, entry)
        if tag in _READ:
            form = f"<{count}{_TYPES[kind]}"
            found[tag] = struct.unpack_from(form, data, value if struct.calcsize(form) > 4 else entry + 8)
        elif tag not in _WRITTEN:
            raise ValueError
    return found, int(struct.unpack_from("<I", data, end)[0])
