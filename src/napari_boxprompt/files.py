"""Writing files so that a crash never leaves half of one behind."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_boxprompt.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["atomic_path", "atomic_write_bytes", "explain", "flush_folder"]

_HINTS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the folder is read-only; choose another folder",
    errno.EACCES: "writing there is not permitted; choose another folder",
    errno.EPERM: "writing there is not permitted; choose another folder",
    errno.EISDIR: "there is a folder of that name; choose another name",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends well.

    The temporary file lies in the same folder, which is made if needed, and keeps the suffix. It is flushed
    to the disk and then renamed over `path` in one step; whatever ends the block early, even Ctrl-C, removes
    it and leaves an existing `path` as it was. If `path` is a link, the file it points to is replaced.

    Parameters
    ----------
    path : str or path-like
        The file to write.

    Yields
    ------
    Path
        Write here; a block that writes nothing is an error.

    Raises
    ------
    OutputError
        If the system refuses to write: read-only folder, full disk, a folder of that name.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem[:64]}.{uuid.uuid4().hex[:8]}.part{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        flush_folder(target.parent)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {explain(error)}.") from error


def explain(error: OSError) -> str:
    """Say in words why the system refuses to write, and what to do."""
    return _HINTS.get(error.errno or 0, f"{error.strerror or error}; choose another folder or name")


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, all of it or nothing.

    Parameters
    ----------
    path : str or path-like
        The file to write; an existing one is replaced.
    data : bytes
        The new content.

    Raises
    ------
    OutputError
        If the system refuses to write.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _flush(path: Path) -> None:
    # Opened for writing because Windows refuses to flush a file opened for reading.
    with path.open("r+b") as handle:
        os.fsync(handle.fileno())


def flush_folder(folder: Path) -> None:
    """Make what was renamed in a folder durable, where the system lets us."""
    # Windows cannot flush a folder, nor can some network file systems; the file itself is already safe.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
