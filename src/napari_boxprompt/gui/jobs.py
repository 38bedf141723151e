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
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from napari.utils.notifications import show_error
from qtpy.QtCore import QCoreApplication, QEvent, QObject, Qt, Signal, Slot

from napari_boxprompt.errors import BoxPromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Job", "Jobs", "Stop"]

R = TypeVar("R")

NICENESS = 10
"""How far a worker stands back behind the viewer, in steps of Linux's nice; ten are a tenth of the share."""

UNREAD = 16
"""Events that may wait for the main thread; with more, the worker waits: a flood would shut out the user."""

logger = logging.getLogger(__name__)


class Stop(threading.Event):
    """Asks a job to end: it looks at `is_set` between yields, cleans up and returns what it has."""


class _Relay(QObject):
    """Carries calls from a worker to the main thread; the application owns it, so it outlives the widget."""

    called = Signal(object)

    def __init__(self) -> None:
        super().__init__(QCoreApplication.instance())
        self.called.connect(self._call, Qt.ConnectionType.QueuedConnection)

    @Slot(object)
    def _call(self, call: Callable[[], None]) -> None:
        call()


@dataclass(frozen=True)
class _Callbacks(Generic[R]):
    """What a job calls on the main thread; see `Jobs.start`. `on_free` comes when its name is free again."""

    on_event: Callable[[object], None] | None
    on_result: Callable[[R], None] | None
    on_error: Callable[[str], None] | None
    on_end: Callable[[], None] | None
    on_free: Callable[[], object]


class Job(Generic[R]):
    """Work in progress; made by `Jobs.start`.

    Parameters
    ----------
    name : str
        What is being done.
    work : callable
        See `Jobs.start`.
    callbacks : _Callbacks
        What to call on the main thread.
    after : Job, optional
        A job that must have ended before this one begins.

    Attributes
    ----------
    stop : Stop
        Set it to end the job; it still gives its result.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Stop], Generator[object, None, R]],
        callbacks: _Callbacks[R],
        after: Job[R] | None = None,
    ) -> None:
        self.name, self.stop = name, Stop()
        self._callbacks = callbacks
        self._abandoned = self._failed = False
        self._relay = _Relay()
        self._unread = threading.Semaphore(UNREAD)
        self._begun = threading.Event()
        # Not a daemon: one that is inside torch when Python ends takes the process down.
        self._thread = threading.Thread(target=self._run, args=(work, after), name=f"boxprompt {name}")
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether its thread is alive."""
        return self._thread.is_alive()

    def wait_for_first(self, seconds: float) -> None:
        """Do nothing until it has told something or has ended, but no longer than that.

        For work that takes a moment and whose result the user waits for: two threads that both run Python
        hinder each other, and what the viewer would paint meanwhile it would have to paint again. Callbacks
        come afterwards, as always.
        """
        self._begun.wait(seconds)

    def leave(self, on_result: Callable[[R], None]) -> None:
        """End it with its result, of which only this callback hears any more."""
        self._callbacks = _Callbacks(None, on_result, None, None, lambda: None)
        self.stop.set()

    def abandon(self) -> None:
        """End it without its result: none of its callbacks comes any more."""
        self._abandoned = True
        self.stop.set()

    # In the worker thread.

    def _run(self, work: Callable[[Stop], Generator[object, None, R]], after: Job[R] | None) -> None:
        _lower_priority()
        if after is not None:
            after._thread.join()
        try:
            result = self._drain(work(self.stop))
        except BoxPromptError as error:
            logger.info("The job %r ended: %s", self.name, error, exc_info=True)
            last = partial(self._end_failed, str(error))
        except BaseException as error:
            if self._unwanted():  # Python may be ending: then libraries refuse to start threads of their own
                logger.info("The job %r was cut off.", self.name, exc_info=True)
            else:
                logger.exception("Unexpected error in the job %r", self.name)
            last = partial(self._end_failed, _unexpected(self.name, error))
        else:
            last = partial(self._end, result)
        self._post(last)

    def _post(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the application has gone, and the relay with it
            self._relay.called.emit(call)
        self._begun.set()

    def _drain(self, generator: Generator[object, None, R]) -> R | None:
        while not self._unwanted():
            try:
                event = next(generator)
            except StopIteration as ended:
                value: R = ended.value
                return value
            if self._callbacks.on_event is None:  # each call of nothing would still wake the main thread
                self._begun.set()
                continue
            while not self._unread.acquire(timeout=0.1):
                if self._unwanted():
                    break
            self._post(partial(self._event, event))
        generator.close()
        return None

    def _unwanted(self) -> bool:
        # Where nobody has said that Python is ending: it waits for this thread once the main one is over.
        return self._abandoned or not threading.main_thread().is_alive()

    # On the main thread.

    def _event(self, event: object) -> None:
        self._unread.release()
        if not self._failed:
            self._call(self._callbacks.on_event, event)

    def _end(self, result: R | None) -> None:
        try:
            self._free()
            self._call(self._callbacks.on_result, result)
        finally:
            self._last()

    def _end_failed(self, message: str) -> None:
        try:
            self._free()
            if not self._abandoned:
                show_error(message)
            self._call(self._callbacks.on_error, message)
        finally:
            self._last()

    def _free(self) -> None:
        if not self._abandoned:
            self._callbacks.on_free()

    def _call(self, callback: Callable[..., None] | None, *arguments: object) -> None:
        """Call back, and end the job where that fails, so that it fails once and not at every event.

        What it has by then is still its result: a picture that cannot be shown must not cost a model.
        """
        if callback is None or self._abandoned:
            return
        try:
            callback(*arguments)
        except BoxPromptError as error:
            self._fail()
            logger.info("The job %r ended: %s", self.name, error, exc_info=True)
            show_error(str(error))
        except Exception:
            self._fail()
            raise

    def _fail(self) -> None:
        self._failed = True
        self.stop.set()

    def _last(self) -> None:
        self._relay.deleteLater()
        if self._callbacks.on_end is not None and not self._abandoned:
            self._callbacks.on_end()


class Jobs(QObject):
    """Background work of one widget; used from the main thread only.

    Parameters
    ----------
    parent : QWidget, optional
        The widget; the work ends when it is destroyed or taken out of its dock.

    Attributes
    ----------
    stop_asked : Signal
        Jobs were asked to end, which takes them a moment.
    leaving : Signal
        The widget is taken out of its dock: the last moment for `let_go`.
    """

    stop_asked = Signal()
    leaving = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs: dict[str, Job[Any]] = {}
        self._closed = Stop()
        # Not a method: those of a destroyed object are not called.
        self.destroyed.connect(partial(_close, self._closed, self._jobs))
        if parent is not None:
            parent.installEventFilter(self)
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

    def stopping(self, name: str) -> bool:
        """Whether a job of this name runs and has been asked to stop."""
        return name in self._jobs and self._jobs[name].stop.is_set()

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

        All callbacks come on the main thread, in order. A callback that fails ends the job: a
        `BoxPromptError` is shown as one of the work would be, anything else is raised for napari to show.
        Where it is `on_event`, no more events come, and then the result does; `on_end` always comes.

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
        if self._closed.is_set():
            raise BoxPromptError("The widget has been closed; open it again from the Plugins menu.")
        before = self._jobs.get(name)
        if before is not None:
            if not replace:
                raise BoxPromptError(f"'{name}' is still running; wait until it has ended or stop it first.")
            before.abandon()
        free = partial(self._jobs.pop, name, None)
        callbacks = _Callbacks(on_event, on_result, on_error, on_end, free)
        self._jobs[name] = job = Job(name, work, callbacks, before)
        return job

    def stop(self, name: str) -> None:
        """Ask a job to end and to give what it has; nothing happens where none runs."""
        if name in self._jobs:
            self._jobs[name].stop.set()
            self.stop_asked.emit()

    def let_go(self, name: str, on_result: Callable[[Any], None]) -> None:
        """Ask a job to end and to give what it has to `on_result`, also where this is closed meanwhile."""
        job = self._jobs.pop(name, None)
        if job is not None:
            job.leave(on_result)

    def stop_all(self) -> None:
        """Ask all jobs to end and to give what they have."""
        for job in self._jobs.values():
            job.stop.set()
        self.stop_asked.emit()

    def close(self) -> None:
        """End all work without results; no callback comes any more, and nothing can be started."""
        _close(self._closed, self._jobs)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """End all work when the widget is taken out of its dock.

        That is all that the dock's button does: no `closeEvent`, and the widget is only destroyed once
        nothing refers to it, as running work does. A widget that is docked again can start new work.
        """
        if event.type() == QEvent.Type.ParentChange and watched.parent() is None:
            self.leaving.emit()
            _abandon(self._jobs)
        return False


def _close(closed: Stop, jobs: dict[str, Job[Any]], _destroyed: object = None) -> None:
    closed.set()
    _abandon(jobs)


def _abandon(jobs: dict[str, Job[Any]]) -> None:
    for job in jobs.values():
        job.abandon()
    jobs.clear()


def _lower_priority() -> None:
    """Let the viewer go first; OpenMP's threads are started from this one and inherit it."""
    if sys.platform == "linux":
        # Linux knows a priority of each thread; elsewhere that would be the whole process.
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            lowered = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
            os.setpriority(os.PRIO_PROCESS, thread, min(lowered, 19))


def _unexpected(name: str, error: BaseException) -> str:
    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        f"'{name}' ended with an unexpected error ({detail}). What was there before is kept. Try again, and "
        "if it comes back, see the log for the full report."
    )
