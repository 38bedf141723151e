"""The journal: one line for each gesture, on the disk before the next one.

A line is JSON with the CRC-32 of the bytes of its entry in front::

    {"crc32":"5f1d7b21","entry":{"sequence":12,"time":"2026-11-24T10:00:00+00:00","gestures":[...]}}

A line that a crash cut short has no end or a wrong sum and is known by it.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError

from napari_boxprompt.errors import OutputError, ProjectError
from napari_boxprompt.files import atomic_write_bytes, explain
from napari_boxprompt.project.gestures import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Journal", "JournalContent", "encode_entry", "read_journal"]

_HEAD, _MIDDLE, _END = b'{"crc32":"', b'","entry":', b"}\n"
_SUM = len(_HEAD) + 8


@dataclass(frozen=True)
class JournalContent:
    """What a journal holds.

    Parameters
    ----------
    entries : tuple of Entry
        Whole entries in their order.
    end : int
        Bytes up to which the file is good; what comes after was cut short.
    size : int
        Bytes in all.
    damaged : tuple of int
        Numbers, from 1, of damaged lines that whole ones follow: not the work of a crash.
    """

    entries: tuple[Entry, ...] = ()
    end: int = 0
    size: int = 0
    damaged: tuple[int, ...] = ()


def encode_entry(entry: Entry) -> bytes:
    """Return the line of an entry."""
    body = entry.model_dump_json(exclude_none=True).encode()
    return _HEAD + b"%08x" % zlib.crc32(body) + _MIDDLE + body + _END


def _decode(line: bytes) -> Entry | None:
    body = line[_SUM + len(_MIDDLE) : -len(_END)]
    if line != _HEAD + b"%08x" % zlib.crc32(body) + _MIDDLE + body + _END:
        return None
    try:
        return Entry.model_validate_json(body)
    except ValidationError as error:
        raise ProjectError(
            "The journal of the project has an entry that this version does not know "
            f"({error.errors()[0]['msg']}); run 'pip install -U napari-boxprompt'."
        ) from error


def read_journal(path: Path) -> JournalContent:
    """Read a journal; a missing one is empty, a last line that was cut short is left out.

    Raises
    ------
    ProjectError
        It cannot be read, or was written by a newer version.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return JournalContent()
    except OSError as error:
        raise ProjectError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    entries: list[Entry] = []
    damaged: list[int] = []
    suspects: list[int] = []
    position = end = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        position += len(line)
        entry = _decode(line)
        if entry is None:
            suspects.append(number)
            continue
        entries.append(entry)
        damaged += suspects
        suspects, end = [], position
    return JournalContent(tuple(entries), end, len(content), tuple(damaged))


class Journal:
    """The journal of a project that is open for writing.

    Parameters
    ----------
    path : Path
        The file.
    content : JournalContent
        What was read from it; a line that was cut short is removed when the first entry is added.
    """

    def __init__(self, path: Path, content: JournalContent) -> None:
        self._path, self._end = path, content.end
        self._torn = content.end != content.size
        self._file: BinaryIO | None = None

    def append(self, line: bytes) -> None:
        """Add a line; it is on the disk when this returns.

        Raises
        ------
        OutputError
            The system refuses. What was there before is unharmed, and a later call may work.
        ProjectError
            Another program has written the journal meanwhile.
        """
        try:
            if self._file is None:
                self._file = self._open()
            self._check(self._file)
            self._torn = True
            _write(self._file, line)
        except OSError as error:
            self.close()
            raise OutputError(f"Cannot write {self._path}: {explain(error)}.") from error
        self._end += len(line)
        self._torn = False

    def _open(self) -> BinaryIO:
        if not self._path.exists():
            # In this way the new name is on the disk too, not only what the file holds.
            atomic_write_bytes(self._path, b"")
        # Unbuffered, so that a refused line does not come back when the file is closed.
        return self._path.open("r+b", buffering=0)

    def _check(self, file: BinaryIO) -> None:
        """Go to the end; the next line must not be glued to one that was cut short."""
        size = file.seek(0, os.SEEK_END)
        if self._torn and size >= self._end:
            file.truncate(self._end)
            file.seek(self._end)
        elif size != self._end:
            raise ProjectError(
                f"Another program has written {self._path}; close the project and open it again."
            )

    def replace(self, lines: Iterable[bytes]) -> None:
        """Put other lines in the place of all there are, in one step.

        Raises
        ------
        OutputError
            The system refuses; the journal is as it was.
        """
        content = b"".join(lines)
        self.close()  # Windows cannot replace an open file.
        atomic_write_bytes(self._path, content)
        self._end = len(content)
        self._torn = False

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        if self._file is not None:
            # All that counts was made durable when it was written.
            with suppress(OSError):
                self._file.close()
            self._file = None


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` and make it durable."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())
