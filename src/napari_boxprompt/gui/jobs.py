"""Background work of a widget: one thread a job, callbacks on the main thread, errors as notifications.

Threads of our own instead of superqt's workers, for three reasons. Those run in the application's thread
pool, and a thread of a pool that has lowered its priority cannot raise it again for the next worker. The pool
has as many threads as there are cores, so a training and an encoding would keep other plugins waiting on a
small machine. And each worker swaps the warning filters of the whole process while it runs, which goes wrong
when two of them overlap.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from napari.utils.notifications import show_error
from qtpy.QtCore import QCoreApplication, QObject, Qt, Signal, Slot

from napari_boxprompt.errors import BoxPromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Job", "Jobs", "Stop"]

R = TypeVar("R")

NICENESS = 10
"""How far a worker stands back behind the viewer: the middle of the 19 steps that Linux has."""

UNREAD = 16
"""Events that may wait for the main thread; with more, the worker waits: a flood would shut out the user."""

logger = logging.getLogger(__name__)


class Stop(threading.Event):
    """Asks a job to end: it looks at `is_set` between yields, cleans up and returns what it has."""


class _Relay(QObject):
    """Carries calls from a worker to the main thread; it has no parent, so that it outlives the widget."""

    called = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.called.connect(self._call, Qt.ConnectionType.QueuedConnection)

    @Slot(object)
    def _call(self, call: Callable[[], None]) -> None:
        call()


class Job(Generic[R]):
    """Work in progress; made by `Jobs.start`.

    Parameters
    ----------
    name : str
        What is being done.
    on_event, on_result, on_error, on_end, on_free
        See `Jobs.start`; `on_free` comes before the last of them.

    Attributes
    ----------
    stop : Stop
        Set it to end the job; it still gives its result.
    """

    def __init__(
        self,
        name: str,
        *,
        on_event: Callable[[object], None] | None,
        on_result: Callable[[R], None] | None,
        on_error: Callable[[str], None] | None,
        on_end: Callable[[], None] | None,
        on_free: Callable[[], object],
    ) -> None:
        self.name, self.stop = name, Stop()
        self._on_event, self._on_result = on_event, on_result
        self._on_error, self._on_end, self._on_free = on_error, on_end, on_free
        self._abandoned = self._failed = False
        self._relay = _Relay()
        self._unread = threading.Semaphore(UNREAD)
        self._thread = threading.Thread(name=f"boxprompt {name}")

    @property
    def running(self) -> bool:
        """Whether its thread is alive."""
        return self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the thread has ended; for tests, because the viewer stands still meanwhile.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Returns
        -------
        bool
            Whether it has ended.
        """
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """End it without its result: none of its callbacks comes any more."""
        self._abandoned = True
        self.stop.set()

    def begin(self, work: Callable[[Stop], Generator[object, None, R]], after: Job[R] | None) -> None:
        """Start the thread; it waits for another job to end first."""
        # Not a daemon: one that is inside torch when Python ends takes the process down.
        self._thread = threading.Thread(target=self._run, args=(work, after), name=self._thread.name)
        self._thread.start()

    # In the worker thread.

    def _run(self, work: Callable[[Stop], Generator[object, None, R]], after: Job[R] | None) -> None:
        _lower_priority()
        if after is not None:
            after.wait()
        try:
            if self._unwanted():
                return
            result = self._drain(work(self.stop))
        except BoxPromptError as error:
            logger.info("%s: %s", self.name, error, exc_info=True)
            self._relay.called.emit(partial(self._end_failed, str(error)))
        except BaseException as error:
            logger.exception("Unexpected error in the job %r", self.name)
            self._relay.called.emit(partial(self._end_failed, _unexpected(self.name, error)))
        else:
            self._relay.called.emit(partial(self._end, result))

    def _drain(self, generator: Generator[object, None, R]) -> R | None:
        while True:
            try:
                event = next(generator)
            except StopIteration as ended:
                value: R = ended.value
                return value
            while not self._unread.acquire(timeout=0.1):
                if self._unwanted():
                    break
            if self._unwanted():
                generator.close()
                return None
            self._relay.called.emit(partial(self._event, event))

    def _unwanted(self) -> bool:
        # The main thread ends before Python waits for the others.
        return self._abandoned or not threading.main_thread().is_alive()

    # On the main thread.

    def _event(self, event: object) -> None:
        self._unread.release()
        if self._on_event is not None:
            self._guarded(self._on_event, event)

    def _guarded(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back, and end the job where that fails, so that it fails once and not at every event."""
        if self._abandoned or self._failed:
            return
        try:
            callback(*arguments)
        except Exception:
            self._failed = True
            self.stop.set()
            raise

    def _end(self, result: R | None) -> None:
        try:
            self._free()
            if self._on_result is not None:
                self._guarded(self._on_result, result)
        finally:
            self._last()

    def _end_failed(self, message: str) -> None:
        try:
            self._free()
            if not self._abandoned:
                show_error(message)
            if self._on_error is not None:
                self._guarded(self._on_error, message)
        finally:
            self._last()

    def _free(self) -> None:
        if not self._abandoned:
            self._on_free()

    def _last(self) -> None:
        if self._on_end is not None and not self._abandoned:
            self._on_end()


class Jobs(QObject):
    """Background work of one widget; used from the main thread only.

    Parameters
    ----------
    parent : QObject, optional
        The widget; the work ends with it, however it goes.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs: dict[str, Job[object]] = {}
        self._closed = False
        # Not a method: those of a destroyed object are not called.
        self.destroyed.connect(partial(_abandon_all, self._jobs))
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.close)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the jobs that run."""
        return tuple(self._jobs)

    def running(self, name: str) -> bool:
        """Whether a job of this name runs; a job that has been asked to stop runs until it has ended."""
        return name in self._jobs

    def start(
        self,
        name: str,
        work: Callable[[Stop], Generator[object, None, R]],
        *,
        on_event: Callable[[object], None] | None = None,
        on_result: Callable[[R], None] | None = None,
        on_error: Callable[[str], None] | None = None,
        on_end: Callable[[], None] | None = None,
        replace: bool = False,
    ) -> Job[R]:
        """Run `work` in a thread of low priority.

        All callbacks come on the main thread, in order. A callback that fails ends the job; its error is
        raised once, for napari to show.

        Parameters
        ----------
        name : str
            What is being done; there is one job of a name at a time.
        work : callable
            Called with a `Stop`, gives a generator. It runs in the thread, so it must not touch layers.
        on_event : callable, optional
            Called with each value that `work` yields.
        on_result : callable, optional
            Called with what `work` returns, also after a stop. By then the name is free again.
        on_error : callable, optional
            Called with the message that has been shown to the user. The name is free again.
        on_end : callable, optional
            Called last, whatever happened, except after `close`.
        replace : bool
            Let go of a running job of the same name: none of its callbacks comes any more, not even `on_end`,
            and the new one starts once it has ended.

        Raises
        ------
        BoxPromptError
            A job of this name runs, or the widget is closed.
        """
        if self._closed:
            raise BoxPromptError("The widget has been closed; open it again from the Plugins menu.")
        before = self._jobs.get(name)
        if before is not None:
            if not replace:
                raise BoxPromptError(f"'{name}' is still running; wait until it has ended or stop it first.")
            before.abandon()
        job: Job[R] = Job(
            name,
            on_event=on_event,
            on_result=on_result,
            on_error=on_error,
            on_end=on_end,
            on_free=partial(self._jobs.pop, name, None),
        )
        self._jobs[name] = job  # type: ignore[assignment]
        job.begin(work, before)  # type: ignore[arg-type]
        return job

    def stop(self, name: str) -> None:
        """Ask a job to end and to give what it has; nothing happens where none runs."""
        if name in self._jobs:
            self._jobs[name].stop.set()

    def stop_all(self) -> None:
        """Ask all jobs to end and to give what they have."""
        for job in self._jobs.values():
            job.stop.set()

    def close(self) -> None:
        """End all work without results; no callback comes any more, and nothing can be started."""
        self._closed = True
        _abandon_all(self._jobs)


def _abandon_all(jobs: dict[str, Job[object]], _destroyed: object = None) -> None:
    for job in jobs.values():
        job.abandon()
    jobs.clear()


def _lower_priority() -> None:
    """Let the viewer go first; OpenMP's threads are started from this one and inherit it."""
    if sys.platform == "linux":
        # Linux knows a priority of each thread; elsewhere that would be the whole process.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _unexpected(name: str, error: BaseException) -> str:
    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        f"'{name}' ended with an unexpected error ({detail}); try again, and if it comes back, "
        "see the log for the full report."
    )
