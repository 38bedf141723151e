"""Who writes a project: one program at a time, and the others are told which."""

from __future__ import annotations

import getpass
import os
import platform
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout
from pydantic import ValidationError

from napari_boxprompt.files import atomic_write_bytes
from napari_boxprompt.project.documents import Document, now

__all__ = ["LockOwner", "ProjectLock"]

_LOCK, _OWNER = ".lock", "lock.json"

_PATIENCE = 5.0
"""Seconds after which a file system that does not answer counts as one without locks."""

_Answer = Literal["ours", "theirs", "no locks"]


class LockOwner(Document):
    """``lock.json``: the program that writes a project."""

    user: str
    host: str
    pid: int
    boot: str
    started: float
    since: str

    @classmethod
    def here(cls) -> LockOwner:
        """Return the record of this process."""
        return cls(
            user=_user(),
            host=platform.node(),
            pid=os.getpid(),
            boot=_boot(),
            started=psutil.Process().create_time(),
            since=now(),
        )

    def __str__(self) -> str:
        return f"{self.user} on {self.host} (process {self.pid}, since {self.since})"

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this computer, of whatever time."""
        return self.host == platform.node()

    @property
    def is_dead(self) -> bool:
        """Whether the process has surely ended; False also where that cannot be known from here."""
        if not self.is_here:
            return False
        if self.boot != _boot():
            return True
        try:
            # Another process may have got the number since.
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) > 2.0)
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def _boot() -> str:
    """Return what differs from one start of the computer to the next."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        # To ten seconds, since some systems compute it from a clock that is set right now and then.
        return f"{psutil.boot_time() / 10:.0f}"


class ProjectLock:
    """The lock of a project folder.

    A lock of the operating system, where the file system has them, says whether somebody writes; it ends with
    its process. ``lock.json`` says who. Where there are no such locks, as on some network drives,
    ``lock.json`` alone decides.

    Parameters
    ----------
    folder : Path
        The project.
    """

    def __init__(self, folder: Path) -> None:
        self._record = folder / _OWNER
        # Given back by whichever thread closes the project.
        self._lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
        self._mine: LockOwner | None = None
        self.guarded = True

    @property
    def owner(self) -> LockOwner | None:
        """Who writes the project, as far as ``lock.json`` says."""
        try:
            return LockOwner.model_validate_json(self._record.read_bytes())
        except (OSError, ValidationError):
            return None

    @property
    def is_lost(self) -> bool:
        """Whether another program has taken the project over; a lock of the system cannot be taken."""
        if self.guarded:
            return False
        try:
            return LockOwner.model_validate_json(self._record.read_bytes()) != self._mine
        except FileNotFoundError:
            return True  # Taken over, and given back since.
        except (OSError, ValidationError):
            return False  # A drive that fails is another trouble, of which writing will tell.

    def acquire(self, *, take_over: bool = False) -> bool:
        """Try to get the lock, without waiting for it.

        Parameters
        ----------
        take_over : bool
            Take it even from a program of which nobody here can know whether it still runs: one on another
            computer, on a drive without locks.

        Returns
        -------
        bool
            Whether this process writes the project now.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        answer = self._ask()
        owner = self.owner
        # Children of a process that has died may hold its lock still, but they write no project.
        free = owner is None or owner.is_dead
        if answer == "theirs" and (owner is None or not free):
            return False
        if answer == "ours" and owner is not None and owner.is_here:
            free = True  # Its process has ended, or the system would not have given the lock.
        if not free and not take_over:
            self._release_system_lock()
            return False
        self.guarded = answer == "ours"
        self._mine = LockOwner.here()
        with ExitStack() as undo:
            undo.callback(self._release_system_lock)
            atomic_write_bytes(self._record, self._mine.model_dump_json(indent=1).encode() + b"\n")
            undo.pop_all()
        return True

    def _ask(self) -> _Answer:
        """Ask the operating system; a network drive may answer late or never."""
        answers: list[_Answer] = []
        late = threading.Event()

        def ask() -> None:
            try:
                self._lock.acquire()
            except Timeout:
                answers.append("theirs")
            except (OSError, NotImplementedError):
                answers.append("no locks")
            else:
                answers.append("ours")
                if late.is_set():
                    self._lock.release()

        worker = threading.Thread(target=ask, name="project-lock", daemon=True)
        worker.start()
        worker.join(_PATIENCE)
        if not answers:
            late.set()
            return "no locks"
        return answers[0]

    def release(self) -> None:
        """Give the lock back; a lock that another program has taken over stays."""
        if self._mine is not None and self.owner == self._mine:
            self._record.unlink(missing_ok=True)
        self._mine = None
        self._release_system_lock()

    def _release_system_lock(self) -> None:
        if self._lock.is_locked:
            self._lock.release()
