"""The images of a project on the disk: known by their content, found again when moved."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_boxprompt._readers import all_indices, check_index, reading
from napari_boxprompt._tiff import TiffHandles
from napari_boxprompt.errors import ImageError, ProjectError
from napari_boxprompt.images import IMAGE_SUFFIXES, Images, find_files, open_reader
from napari_boxprompt.project.documents import ImageEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from napari_boxprompt._readers import Reader

__all__ = ["CONTENT", "Found", "describe_images", "fingerprint", "images_of", "look_for", "relative_to"]

CONTENT = ("sha256", "size", "modified_ns")
"""What an entry says about the content of its file."""

_THREADS = 16  # The time of a look at a file on a network drive is spent waiting.
_READERS = 4
_BLOCK = 1 << 20


@dataclass
class Found:
    """What became of the images of a project.

    Parameters
    ----------
    present : dict of str to Path
        Where the images lie that are as they were, by name.
    renewed : dict of str to ImageEntry
        New entries of those that were moved, or whose time of change is another with the content the same.
    changed : dict of str to Path
        Files whose content is another.
    missing : tuple of str
        Names of images that are nowhere.
    """

    present: dict[str, Path] = field(default_factory=dict)
    renewed: dict[str, ImageEntry] = field(default_factory=dict)
    changed: dict[str, Path] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    ImageError
        It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    return digest.hexdigest()


def relative_to(folder: Path, path: Path) -> str:
    """Return a path as a project notes it: relative where there is a way, with forward slashes."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def describe_images(
    source: Any,
    folder: Path,
    *,
    channel: int | None = None,
    pixel_size: Mapping[Any, tuple[float, str]] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[tuple[ImageEntry, ...], Path]:
    """Read the headers and hash the content of images.

    Parameters
    ----------
    source : str, Path, sequence of those, or mapping of str to Path
        A file, a folder, a pattern or a list, as for `napari_boxprompt.images.open_images`; or files by name.
    folder : Path
        The project, to which paths are relative.
    channel : int, optional
        The channel to use.
    pixel_size : mapping, optional
        Size of a pixel by axis, ``{"y": (0.5, "micrometer"), ...}``.
    progress : callable, optional
        Called with images done, images in all and a name.

    Returns
    -------
    tuple of ImageEntry, Path
        One entry for each image, and the folder that they share.

    Raises
    ------
    ImageError
        Nothing is found, or an image cannot be used.
    ProjectError
        The size of a pixel is none.
    """
    named = source if isinstance(source, Mapping) else find_files(source)
    files = {name: Path(os.path.abspath(path)) for name, path in named.items()}
    more = {"channel": channel, "pixel_size": dict(pixel_size or {})}
    handles = TiffHandles(1)
    entries = []
    with ThreadPoolExecutor(_READERS) as pool, ExitStack() as ending:
        # One bad image ends it, and the others need not be read any more.
        ending.callback(pool.shutdown, wait=False, cancel_futures=True)
        # The time first: a file that changes while it is read is looked at again the next time.
        known = pool.map(lambda path: (path, _stat_of(path), fingerprint(path)), files.values())
        for name, (path, state, sha256) in zip(files, known, strict=True):
            reader = open_reader(path, handles, channel)
            about = {"name": name, "path": relative_to(folder, path), "sha256": sha256, **more}
            entries.append(_described(about, state, reader))
            if progress is not None:
                progress(len(entries), len(files), name)
    handles.close()
    return tuple(entries), Path(os.path.commonpath([path.parent for path in files.values()]))


def look_for(
    entries: Iterable[ImageEntry],
    folder: Path,
    roots: Iterable[Path],
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> Found:
    """Find the images of a project.

    Size and time of change are compared; only where they differ, or the file is missing, is content hashed.

    Parameters
    ----------
    entries : iterable of ImageEntry
        The images.
    folder : Path
        The project.
    roots : iterable of Path
        Folders in which moved images are looked for, with all that is in them.
    progress : callable, optional
        Called with files hashed, files to hash and a name.
    """
    entries = tuple(entries)
    found = Found()
    with ThreadPoolExecutor(_THREADS) as pool:
        states = list(pool.map(lambda entry: _stat(folder / entry.path), entries))
    doubtful: list[tuple[ImageEntry, os.stat_result]] = []
    gone: list[ImageEntry] = []
    for entry, state in zip(entries, states, strict=True):
        if state is None:
            gone.append(entry)
        elif (state.st_size, state.st_mtime_ns) == (entry.size, entry.modified_ns):
            found.present[entry.name] = folder / entry.path
        else:
            doubtful.append((entry, state))
    for done, (entry, state) in enumerate(doubtful, start=1):
        path = folder / entry.path
        if state.st_size == entry.size and fingerprint(path) == entry.sha256:
            found.present[entry.name] = path
            found.renewed[entry.name] = entry.model_copy(update={"modified_ns": state.st_mtime_ns})
        else:
            found.changed[entry.name] = path
        if progress is not None:
            progress(done, len(doubtful), entry.name)
    # A file that was renamed, and another given its name: the old content may still be about.
    seek = [*gone, *(entry for entry, _ in doubtful if entry.name in found.changed)]
    if seek:
        _look_elsewhere(seek, folder, roots, found)
    found.missing = tuple(e.name for e in gone if e.name not in found.present)
    return found


def _described(known: dict[str, Any], state: os.stat_result, reader: Reader) -> ImageEntry:
    extent = reader.extent()
    shape = reader.shape((0,) * len(extent))
    try:
        return ImageEntry(
            **known, size=state.st_size, modified_ns=state.st_mtime_ns, shape=shape, extent=extent
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ProjectError(f"{known['name']} cannot be in a project: {where}: {first['msg']}.") from error


def _stat_of(path: Path) -> os.stat_result:
    with reading(path):
        return path.stat()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _look_elsewhere(seek: list[ImageEntry], folder: Path, roots: Iterable[Path], found: Found) -> None:
    """Move entries from missing or changed to present where their content lies elsewhere."""
    wanted: dict[int, dict[str, list[ImageEntry]]] = {}
    for entry in seek:
        wanted.setdefault(entry.size, {}).setdefault(entry.sha256, []).append(entry)
    suffixes = IMAGE_SUFFIXES | {Path(entry.path).suffix.lower() for entry in seek}
    taken = {os.path.realpath(path) for path in found.present.values()}
    for path, state in _files_in(roots, suffixes):
        hashes = wanted.get(state.st_size)
        if not hashes or os.path.realpath(path) in taken:
            continue
        same = hashes.get(fingerprint(path))
        if not same:
            continue
        entry = same.pop(0)
        place = relative_to(folder, path)
        found.present[entry.name] = path
        found.renewed[entry.name] = entry.model_copy(update={"path": place, "modified_ns": state.st_mtime_ns})
        found.changed.pop(entry.name, None)


def _files_in(roots: Iterable[Path], suffixes: frozenset[str]) -> Iterator[tuple[Path, os.stat_result]]:
    seen: set[str] = set()
    for root in roots:
        for place, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(place, name)
                real = os.path.realpath(path)
                if path.suffix.lower() in suffixes and real not in seen:
                    seen.add(real)
                    state = _stat(path)
                    if state is not None:
                        yield path, state


class LateReader:
    """An image that is opened when its pixels are asked for, so that thousands are listed at once."""

    def __init__(self, entry: ImageEntry, path: Path, handles: TiffHandles) -> None:
        self._entry, self._path, self._handles = entry, path, handles
        self._reader: Reader | None = None

    def indices(self) -> tuple[tuple[int, ...], ...]:
        """Return the index of every plane, in order."""
        return all_indices(self._entry.extent)

    def extent(self) -> tuple[int, ...]:
        """Return the length of every non-spatial axis."""
        return self._entry.extent

    def shape(self, index: tuple[int, ...]) -> tuple[int, int]:
        """Return ``(height, width)`` of one plane in pixels."""
        check_index(self._path, index, self._entry.extent)
        return self._entry.shape

    def read(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return one plane ``(H, W, C)`` with C = 1 or 3, in the raw type."""
        if self._reader is None:
            self._reader = open_reader(self._path, self._handles, self._entry.channel)
        return self._reader.read(index)


def images_of(entries: Mapping[str, ImageEntry], places: Mapping[str, Path]) -> Images:
    """Return the images that are there; no file is opened yet."""
    handles = TiffHandles()
    return Images(
        {name: LateReader(entry, places[name], handles) for name, entry in entries.items() if name in places}
    )
