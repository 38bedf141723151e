"""Children that are killed, and what must have remained of their work; for project_faults.py."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.project import Project, Round


def content(project: Project, planes: Iterable[PlaneId], rounds: Sequence[Round] = ()) -> str:
    """Hash what is known of planes, classes, settings and these rounds."""
    total = hashlib.sha256()
    boxes = project.boxes
    for plane in planes:
        record = project.record(plane).model_copy(update={"mask": None})
        mask = project.mask(plane)
        parts = (record, boxes.on(plane), boxes.planes.get(plane), mask and sorted(mask.classes.items()))
        total.update(repr(parts).encode())
        total.update(b"" if mask is None else mask.labels.astype(np.uint32).tobytes())
    total.update(repr((tuple(rounds), project.classes, dict(project.settings))).encode())
    return total.hexdigest()


class Known:
    """What a project is after each gesture of a script, from one in which nobody is killed.

    Parameters
    ----------
    reference : Project
        In which nothing has been done.
    gesture : callable
        Makes the gesture of a number.
    hashed : callable
        Hashes a project.
    """

    def __init__(
        self, reference: Project, gesture: Callable[[Project, int], None], hashed: Callable[[Project], str]
    ) -> None:
        self._reference, self._gesture, self._hashed = reference, gesture, hashed
        self._states = [hashed(reference)]

    def done(self, found: Project, last: int) -> int:
        """Return how many gestures an opened project has; `last` is the last one that was reported.

        Raises
        ------
        AssertionError
            One is missing, or the project is not consistent.
        """
        while len(self._states) < last + 3:
            self._gesture(self._reference, len(self._states) - 1)
            self._states.append(self._hashed(self._reference))
        self._reference.save()
        if found.read_only or found.problems:
            raise AssertionError(f"after gesture {last}: {found.problems or 'read-only'}")
        halves = [path.name for path in found.folder.rglob("*.part*")]
        if halves:
            raise AssertionError(f"halves of files are left: {halves}")
        state = self._hashed(found)
        if state not in self._states[last + 1 : last + 3]:
            where = self._states.index(state) if state in self._states else "nowhere"
            raise AssertionError(f"gestures to {last} were reported, the project is at {where}")
        return last + 1 + self._states[last + 1 : last + 3].index(state)


def killed(command: Sequence[str], delay: float, sign: str | None) -> list[str]:
    """Let a child work, kill it some time after it has printed a sign (or a round); return its lines."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as child,
    ):
        if child.stdout is None:
            raise RuntimeError("the child has no output")
        lines = []
        while sign is not None and (line := child.stdout.readline()):
            lines.append(line)
            if line.strip() in (sign, "round"):
                break
        time.sleep(delay)
        child.kill()
        lines += child.stdout.read().splitlines(keepends=True)
        if child.wait() != -9:
            said.seek(0)
            raise RuntimeError(f"a child ended by itself: {said.read()[-3000:].decode(errors='replace')}")
    return [line.strip() for line in lines if line.endswith("\n")]


def last_of(lines: Iterable[str], start: int) -> int:
    """Return the last gesture that a child has reported, or the one before `start`."""
    return max([start - 1, *(int(line) for line in lines if line.isdecimal())])
