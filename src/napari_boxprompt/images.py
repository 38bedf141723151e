"""Images as ordered planes, read one at a time, and one brightness scale for all of them."""

from __future__ import annotations

import glob
import os
import re
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt._readers import ArrayReader, PictureReader, Reader, describe_extent, reading
from napari_boxprompt._tiff import TiffHandles, TiffReader
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import ImageError
from napari_boxprompt.normalization import Normalization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

__all__ = [
    "IMAGE_SUFFIXES",
    "Images",
    "Normalization",
    "find_files",
    "open_images",
    "open_reader",
    "read_mask",
]

_TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk", ".qptiff", ".svs", ".ndpi"})
_PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".bmp", ".webp", ".gif", ".pgm", ".ppm", ".pnm", ".tga"}
)
IMAGE_SUFFIXES = _TIFF_SUFFIXES | _PICTURE_SUFFIXES | {".npy"}
"""Endings, in lower case, of the files that are taken from a folder."""

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Images:
    """Ordered planes of files or of an array; pixels are read when asked for.

    Make one with `open_images`.

    Parameters
    ----------
    readers : mapping of str to Reader
        The reader of every image, by the name used in `PlaneId.image`.
    planes : iterable of PlaneId, optional
        The planes to offer, all by default.

    Raises
    ------
    ImageError
        If a file cannot be read, or a plane in `planes` does not exist.
    """

    def __init__(self, readers: Mapping[str, Reader], planes: Iterable[PlaneId] | None = None) -> None:
        self._readers = dict(readers)
        self._wanted = None if planes is None else tuple(dict.fromkeys(planes))

    @cached_property
    def planes(self) -> tuple[PlaneId, ...]:
        """The planes, files in natural order, the last axis of a stack running fastest."""
        if self._wanted is not None:
            return self._wanted
        # Only now: images are often asked for one plane, and there may be thousands.
        return tuple(PlaneId(name, i) for name, reader in self._readers.items() for i in reader.indices())

    @cached_property
    def _known(self) -> frozenset[PlaneId]:
        return frozenset(self.planes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, each once, in the order of the planes."""
        return tuple(dict.fromkeys(plane.image for plane in self.planes))

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self.planes)

    def __contains__(self, plane: object) -> bool:
        """Return whether a plane is offered."""
        return plane in self._known

    def __repr__(self) -> str:
        """Return the number of images and planes."""
        return f"Images({len(self.names)} images, {len(self)} planes)"

    def extent(self, name: str) -> tuple[int, ...]:
        """Return the length of every non-spatial axis of an image, ``()`` for a two-dimensional one."""
        return self._reader(PlaneId(name)).extent()

    def shape(self, plane: PlaneId) -> tuple[int, int]:
        """Return ``(height, width)`` of a plane in pixels.

        Raises
        ------
        ImageError
            If there is no such plane, or its file cannot be read.
        """
        reader = self._reader(plane)
        self._check(plane, reader)
        return reader.shape(plane.index)

    def read(self, plane: PlaneId) -> npt.NDArray[Any]:
        """Return the pixels of a plane ``(H, W, C)``, C = 1 or 3, in the raw type.

        Raises
        ------
        ImageError
            If there is no such plane, or its file cannot be read.
        """
        reader = self._reader(plane)
        self._check(plane, reader)
        return reader.read(plane.index)

    def restrict(self, planes: Iterable[PlaneId]) -> Images:
        """Return the same images with only these planes, in the given order.

        Raises
        ------
        ImageError
            If one of the planes does not exist.
        """
        wanted = tuple(planes)
        for plane in wanted:
            self._check(plane, self._reader(plane))
        return Images(self._readers, wanted)

    def join(self, other: Images, names: Mapping[str, str]) -> Images:
        """Return these planes and then those of some other images.

        Parameters
        ----------
        other : Images
            The others.
        names : mapping of str to str
            Which of them, and what they are called here. None of them may have the name of one of these.
        """
        readers = {called: other._readers[name] for name, called in names.items()}
        joined = self._readers | readers
        if self._wanted is None and other._wanted is None:
            return Images(joined)
        planes = (PlaneId(names[plane.image], plane.index) for plane in other.planes if plane.image in names)
        return Images(joined, (*self.planes, *planes))

    def _reader(self, plane: PlaneId) -> Reader:
        if plane.image not in self._readers:
            raise ImageError(f"There is no image {plane.image} among the {len(self._readers)} opened ones.")
        return self._readers[plane.image]

    def _check(self, plane: PlaneId, reader: Reader) -> None:
        if plane not in self._known:
            raise ImageError(
                f"{plane.image} has no plane {list(plane.index)} here; {describe_extent(reader.extent())}."
            )


def open_images(
    source: str | Path | Sequence[str | Path] | npt.NDArray[Any],
    *,
    channel: int | None = None,
    name: str = "image",
    channel_axis: int | None = None,
    rgb: bool | None = None,
    on_error: Callable[[str, ImageError], None] | None = None,
) -> Images:
    """Open images without reading their pixels.

    Parameters
    ----------
    source : str, Path, sequence of those, or array
        A file, a folder (its image files, not those of its sub-folders), a glob pattern (``**`` goes through
        sub-folders), a list of files, or an array (numpy, dask, zarr) with the axes ``(..., Y, X)`` or, for
        RGB and RGBA, ``(..., Y, X, 3 or 4)``. Alpha is dropped.
    channel : int, optional
        Use only this channel. Needed for images that have neither one nor three.
    name : str
        Name of the image, for arrays.
    channel_axis : int, optional
        The axis of an array that holds channels; not needed for RGB.
    rgb : bool, optional
        Whether the last axis of an array holds colours; by default if it has 3 or 4 entries and Y and X more.
    on_error : callable, optional
        Called with the name of each file that cannot be opened, and the error; these files are left out.

    Returns
    -------
    Images
        `PlaneId.image` is the path relative to the folder, or to the folder all files of a list or pattern
        share, with forward slashes.

    Raises
    ------
    ImageError
        If nothing is found, or a file is missing, empty, damaged, too small or has channels to choose from;
        with `on_error`, if that is so of all files.
    """
    if not isinstance(source, (str, PurePath)) and hasattr(source, "shape") and hasattr(source, "dtype"):
        return Images({name: ArrayReader(source, name, channel, channel_axis, rgb)})
    files = find_files(source)
    handles = TiffHandles()
    readers: dict[str, Reader] = {}
    first: ImageError | None = None
    for key, path in files.items():
        try:
            readers[key] = open_reader(path, handles, channel)
        except ImageError as error:
            if on_error is None or len(files) == 1:
                raise
            on_error(key, error)
            first = first or error
    if first is not None and not readers:
        raise ImageError(f"None of the {len(files)} images can be opened. {first}") from first
    return Images(readers)


def find_files(source: Any) -> dict[str, Path]:
    """Return the files that `open_images` would open, in order, by the names it would give them.

    Raises
    ------
    ImageError
        If nothing is found.
    """
    if not isinstance(source, (str, PurePath)):
        entries = list(source) if isinstance(source, (list, tuple)) else [source]
        if not entries:
            raise ImageError("The list of images is empty; name at least one file.")
        for entry in entries:
            if not isinstance(entry, (str, PurePath)):
                raise ImageError(
                    f"Images cannot be opened from {type(entry).__name__}; pass paths or one array."
                )
        return _named([Path(entry) for entry in entries])
    path = Path(source)
    if path.is_dir():
        found = [entry for entry in path.iterdir() if _is_image(entry)]
        if not found:
            wanted = ", ".join(sorted(IMAGE_SUFFIXES))
            raise ImageError(
                f"The folder {path} holds no images ({wanted}); "
                f"for sub-folders use the pattern {path / '**' / '*'}."
            )
        return {entry.name: entry for entry in sorted(found, key=_natural)}
    if path.exists() or not glob.has_magic(str(source)):
        return _named([path])
    matches = [Path(entry) for entry in glob.glob(str(source), recursive=True)]
    found = [entry for entry in matches if _is_image(entry)]
    if not found:
        raise ImageError(
            f"No image matches {source} (looked in {Path.cwd() if not path.is_absolute() else 'there'}, "
            f"{len(matches)} other files match); check the pattern."
        )
    return _named(sorted(found, key=_natural))


def _named(files: list[Path]) -> dict[str, Path]:
    """Name files by their path relative to the folder they share."""
    absolute = {Path(os.path.abspath(path)): path for path in files}
    try:
        root = os.path.commonpath([path.parent for path in absolute])
    except ValueError as error:  # two drives
        raise ImageError("The images lie on different drives; put them into one folder.") from error
    return {path.relative_to(root).as_posix(): given for path, given in absolute.items()}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Order ``z2`` before ``z10``; the exact name decides between equals."""
    parts = re.split(r"(\d+)", path.as_posix().casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part], path.as_posix()


def read_mask(path: Path) -> npt.NDArray[Any]:
    """Return the first plane ``(H, W)`` of a file with a label image; of a palette, the numbers.

    Raises
    ------
    ImageError
        The file cannot be read, or holds colours.
    """
    reader = open_reader(path, TiffHandles(), None, numbers=True)
    values = reader.read(reader.indices()[0])
    if values.shape[2] != 1:
        raise ImageError(
            f"The mask {path} has three colour channels; save it with one channel that holds the numbers of "
            "the objects or classes."
        )
    return values[..., 0]


def open_reader(path: Path, handles: TiffHandles, channel: int | None, *, numbers: bool = False) -> Reader:
    """Open one file; its header is read, not its pixels. For `numbers` see `PictureReader`.

    Raises
    ------
    ImageError
        If it is missing, empty, damaged, too small or has channels to choose from.
    """
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name the files, or pass the folder alone.")
    with reading(path):
        empty = path.stat().st_size == 0
    if empty:
        raise ImageError(f"{path} is empty (0 bytes); copy it again or remove it.")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        with reading(path):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        return ArrayReader(array, str(path), channel)
    if suffix in _PICTURE_SUFFIXES:
        return PictureReader(path, channel, numbers=numbers)
    if suffix not in _TIFF_SUFFIXES:
        with reading(path), path.open("rb") as handle:
            start = handle.read(4)
        if start not in _TIFF_STARTS:
            return PictureReader(path, channel, numbers=numbers)
    return TiffReader(path, handles, channel)
