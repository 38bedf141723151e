"""Work in threads: order, stopping, errors, and a widget that goes while work runs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from napari.utils.notifications import Notification, NotificationSeverity, notification_manager
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QWidget

from napari_boxprompt.errors import BoxPromptError, ImageError
from napari_boxprompt.gui import jobs as jobs_module
from napari_boxprompt.gui.jobs import UNREAD, Jobs, Stop

Work = Generator[object, None, object]

TIMEOUT = 20_000
"""Milliseconds; these tests also run on machines that do other things."""


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("boxprompt ")]


def count(stop: Stop, to: int = 10**9, pause: float = 0.002) -> Work:
    """Count until stopped and say how far it came."""
    done = 0
    while done < to and not stop.is_set():
        time.sleep(pause)
        done += 1
        yield done
    return done


class Record:
    """What the callbacks were told, in which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, kind: str) -> Callable[..., None]:
        def called(*values: object) -> None:
            self.calls.append((kind, *values) if values else (kind, None))
            self.threads.add(threading.current_thread())

        return called

    @property
    def all(self) -> dict[str, Callable[..., None]]:
        return {kind: self(kind) for kind in ("on_event", "on_result", "on_error", "on_end")}

    def of(self, kind: str) -> list[object]:
        return [value for name, value in self.calls if name == kind]

    @property
    def ended(self) -> bool:
        return bool(self.of("on_end"))


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def jobs(qtbot: QtBot) -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.close()
    qtbot.waitUntil(lambda: not workers(), timeout=TIMEOUT)


@pytest.fixture
def notifications() -> Iterator[list[Notification]]:
    """What napari would show."""
    found = list[Notification]()
    notification_manager.notification_ready.connect(found.append)
    yield found
    notification_manager.notification_ready.disconnect(found.append)


def test_events_come_in_order_on_the_main_thread(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    where = list[threading.Thread]()

    def work(stop: Stop) -> Work:
        where.append(threading.current_thread())
        return (yield from count(stop, to=50, pause=0))

    jobs.start("count", work, **record.all)
    assert jobs.running("count")
    assert jobs.names == ("count",)
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    events = [("on_event", value) for value in range(1, 51)]
    assert record.calls == [*events, ("on_result", 50), ("on_end", None)]
    assert record.threads == {threading.main_thread()}
    assert where[0] is not threading.main_thread()
    assert not jobs.names


def test_stop_returns_what_there_is(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    jobs.start("count", count, **record.all)
    qtbot.waitUntil(lambda: len(record.of("on_event")) >= 3, timeout=TIMEOUT)
    jobs.stop("count")
    assert jobs.running("count")  # until it has ended
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert record.of("on_result") == [record.of("on_event")[-1]]
    jobs.stop("count")  # nothing to stop is no error


def test_waiting_for_the_first_event(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    job = jobs.start("count", lambda stop: count(stop, 3, pause=0.05), **record.all)
    job.wait_for_first(TIMEOUT / 1000)
    assert not record.calls, "callbacks come in the event loop"
    assert job._thread.is_alive(), "the others have still to come"
    qtbot.waitUntil(lambda: not jobs.names, timeout=TIMEOUT)
    assert record.of("on_event") == [1, 2, 3]


def test_waiting_ends_with_the_work_or_with_patience(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    silent = jobs.start("silent", lambda stop: count(stop, 0), **record.all)
    silent.wait_for_first(TIMEOUT / 1000)
    qtbot.waitUntil(lambda: not jobs.names, timeout=TIMEOUT)
    assert record.of("on_result") == [0]
    started = time.monotonic()
    slow = jobs.start("slow", lambda stop: count(stop, 1, pause=2), **record.all)
    slow.wait_for_first(0.01)
    assert time.monotonic() - started < 2
    assert not slow._begun.is_set()
    qtbot.waitUntil(lambda: not jobs.names, timeout=TIMEOUT)


def test_stop_all(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    for name in ("one", "two"):
        jobs.start(name, count, **record.all)
    jobs.stop_all()
    qtbot.waitUntil(lambda: len(record.of("on_end")) == 2, timeout=TIMEOUT)
    assert len(record.of("on_result")) == 2


def test_own_error_is_one_sentence(
    qtbot: QtBot, jobs: Jobs, record: Record, notifications: list[Notification]
) -> None:
    def work(stop: Stop) -> Work:
        yield "began"
        raise ImageError("The image cannot be read; choose another one.")

    jobs.start("read", work, **record.all)
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert [(shown.message, shown.severity) for shown in notifications] == [
        ("The image cannot be read; choose another one.", NotificationSeverity.ERROR)
    ]
    assert record.calls == [
        ("on_event", "began"),
        ("on_error", "The image cannot be read; choose another one."),
        ("on_end", None),
    ]


@pytest.mark.parametrize("error", [ValueError("axis 7"), MemoryError(), SystemExit(3)], ids=repr)
def test_unexpected_error_is_one_notification_and_logged(
    qtbot: QtBot,
    jobs: Jobs,
    record: Record,
    notifications: list[Notification],
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    def fails_here(stop: Stop) -> Work:
        raise error
        yield

    jobs.start("train", fails_here, **record.all)
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    (shown,) = notifications
    assert "'train'" in shown.message
    assert "unexpected" in shown.message
    assert "see the log" in shown.message
    assert type(error).__name__ in shown.message
    assert record.calls == [("on_error", shown.message), ("on_end", None)]
    (logged,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert "in fails_here" in caplog.text
    assert logged.name == jobs_module.__name__


def test_close_ends_work_without_callbacks(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    cleaned = threading.Event()

    def work(stop: Stop) -> Work:
        try:
            for value in range(10**9):  # never looks at stop
                time.sleep(0.002)
                yield value
        finally:
            cleaned.set()

    job = jobs.start("count", work, **record.all)
    qtbot.waitUntil(lambda: bool(record.calls), timeout=TIMEOUT)
    jobs.close()
    before = list(record.calls)
    qtbot.waitUntil(lambda: not job.running and not workers(), timeout=TIMEOUT)
    qtbot.wait(50)  # whatever is under way
    assert record.calls == before
    assert cleaned.is_set()
    assert not jobs.names


def test_error_after_close_is_not_shown(
    qtbot: QtBot, jobs: Jobs, record: Record, notifications: list[Notification]
) -> None:
    def work(stop: Stop) -> Work:
        stop.wait()
        raise ValueError
        yield

    job = jobs.start("fail", work, **record.all)
    jobs.close()
    qtbot.waitUntil(lambda: not job.running, timeout=TIMEOUT)
    qtbot.wait(50)
    assert not notifications
    assert not record.calls


def test_nothing_starts_after_close(jobs: Jobs) -> None:
    jobs.close()
    with pytest.raises(BoxPromptError, match="closed"):
        jobs.start("count", count)
    assert not workers()


def test_second_job_of_a_name_is_refused(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    jobs.start("train", count, **record.all)
    with pytest.raises(BoxPromptError, match="'train' is still running"):
        jobs.start("train", count)
    jobs.start("preview", count)
    assert jobs.names == ("train", "preview")
    jobs.stop("train")
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert jobs.names == ("preview",)


def test_name_is_free_when_the_result_comes(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    def again(result: object) -> None:
        jobs.start("count", lambda stop: count(stop, to=4), **record.all)

    jobs.start("count", lambda stop: count(stop, to=3), on_result=again)
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert record.of("on_result") == [4]


def test_replaced_job_is_silent_and_ends_first(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    old, order = Record(), list[str]()

    def slow(stop: Stop) -> Work:
        yield 0
        stop.wait()
        time.sleep(0.05)
        order.append("old ended")
        return 0

    def quick(stop: Stop) -> Work:
        order.append("new began")
        yield 1
        return 1

    jobs.start("preview", slow, **old.all)
    qtbot.waitUntil(lambda: bool(old.calls), timeout=TIMEOUT)
    jobs.start("preview", quick, **record.all, replace=True)
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert order == ["old ended", "new began"]
    assert old.calls == [("on_event", 0)]
    assert record.calls == [("on_event", 1), ("on_result", 1), ("on_end", None)]


def test_failing_callback_ends_the_job_and_fails_once(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    def fails(event: object) -> None:
        raise KeyError(event)

    with qtbot.captureExceptions() as raised:
        jobs.start("count", count, **{**record.all, "on_event": fails})
        qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert [kind for kind, *_ in raised] == [KeyError]
    assert [kind for kind, _ in record.calls] == ["on_result", "on_end"]
    (counted,) = record.of("on_result")
    assert isinstance(counted, int)
    assert counted >= 1, "what it had by then"


def test_work_that_fails_after_a_callback_did_says_so_too(
    qtbot: QtBot, jobs: Jobs, record: Record, notifications: list[Notification]
) -> None:
    def work(stop: Stop) -> Work:
        yield 1
        stop.wait(TIMEOUT / 1000)
        raise BoxPromptError("The drive is gone.")

    def fails(event: object) -> None:
        raise ImageError("The layer has gone; choose another one.")

    jobs.start("count", work, **{**record.all, "on_event": fails})
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert [shown.message for shown in notifications] == [
        "The layer has gone; choose another one.",
        "The drive is gone.",
    ]
    assert record.calls == [("on_error", "The drive is gone."), ("on_end", None)]


def test_own_error_in_a_callback_is_shown(
    qtbot: QtBot, jobs: Jobs, record: Record, notifications: list[Notification]
) -> None:
    def fails(result: object) -> None:
        raise ImageError("The layer has gone; choose another one.")

    jobs.start("count", lambda stop: count(stop, to=1), **{**record.all, "on_result": fails})
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert [shown.message for shown in notifications] == ["The layer has gone; choose another one."]


def test_worker_waits_for_a_busy_main_thread(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    done = list[object]()

    def work(stop: Stop) -> Work:
        for event in count(stop, to=10 * UNREAD, pause=0):
            done.append(event)
            yield event
        return None

    jobs.start("flood", work, **record.all)
    time.sleep(0.3)  # the main thread answers nobody
    assert len(done) == UNREAD + 1
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert len(record.of("on_event")) == 10 * UNREAD


def test_a_busy_main_thread_is_not_waited_for_where_nobody_listens(jobs: Jobs) -> None:
    told = threading.Event()

    def work(stop: Stop) -> Work:
        yield from count(stop, to=10 * UNREAD, pause=0)
        told.set()
        return None

    job = jobs.start("quiet", work)
    assert told.wait(TIMEOUT / 1000), "events that nobody wants went through the main thread"
    job.wait_for_first(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_only_the_worker_stands_back(qtbot: QtBot, jobs: Jobs, record: Record) -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def work(stop: Stop) -> Work:
        yield os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    jobs.start("rank", work, **record.all)
    qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
    assert record.of("on_event") == [min(before + jobs_module.NICENESS, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_destroyed_widget_is_survived(qtbot: QtBot, record: Record) -> None:
    widget = QWidget()
    jobs = Jobs(widget)
    jobs.start("count", count, **record.all)
    qtbot.waitUntil(lambda: bool(record.calls), timeout=TIMEOUT)
    widget.deleteLater()  # no closeEvent
    with qtbot.waitSignal(widget.destroyed, timeout=TIMEOUT):
        pass
    before = list(record.calls)
    qtbot.waitUntil(lambda: not workers(), timeout=TIMEOUT)
    qtbot.wait(50)
    assert record.calls == before
    with pytest.raises(BoxPromptError, match="closed"):
        jobs.start("count", count)


@pytest.mark.parametrize("kept", [False, True])
def test_dock_closed_during_work(
    qtbot: QtBot, record: Record, make_napari_viewer: Callable[..., Any], kept: bool
) -> None:
    widget = QWidget()
    jobs = Jobs(widget)
    dock = make_napari_viewer().window.add_dock_widget(widget, name="boxes")
    jobs.start("count", count, **record.all)
    qtbot.waitUntil(lambda: bool(record.calls), timeout=TIMEOUT)
    if not kept:
        del widget, jobs
    dock.destroyOnClose()  # what the dock's x does; it destroys the widget only where nothing refers to it
    before = list(record.calls)
    qtbot.waitUntil(lambda: not workers(), timeout=TIMEOUT)
    qtbot.wait(50)
    assert record.calls == before
    if kept:  # and docked again
        jobs.start("count", lambda stop: count(stop, to=1), **record.all)
        qtbot.waitUntil(lambda: record.ended, timeout=TIMEOUT)
        widget.close()


def test_viewer_closed_during_work(
    qtbot: QtBot, record: Record, make_napari_viewer: Callable[..., Any]
) -> None:
    viewer, widget = make_napari_viewer(), QWidget()
    jobs = Jobs(widget)
    viewer.window.add_dock_widget(widget, name="boxes")
    jobs.start("count", count, **record.all)
    qtbot.waitUntil(lambda: bool(record.calls), timeout=TIMEOUT)
    viewer.close()
    qtbot.waitUntil(lambda: not workers(), timeout=TIMEOUT)
    before = list(record.calls)
    qtbot.wait(50)
    assert record.calls == before


def test_ended_job_is_not_kept(qtbot: QtBot, jobs: Jobs) -> None:
    ended = list[bool]()
    job = weakref.ref(jobs.start("count", lambda stop: count(stop, to=3), on_end=lambda: ended.append(True)))
    qtbot.waitUntil(lambda: bool(ended) and not workers(), timeout=TIMEOUT)
    qtbot.waitUntil(lambda: job() is None, timeout=TIMEOUT)


def test_python_ends_while_work_runs() -> None:
    """Nobody closes anything: the worker notices that the main thread is over."""
    script = """
        import time
        from qtpy.QtCore import QCoreApplication, QTimer
        from napari_boxprompt.gui.jobs import Jobs

        def work(stop):
            while True:
                time.sleep(0.01)
                yield 0

        app = QCoreApplication([])
        jobs = Jobs()
        jobs.start("endless", work)
        QTimer.singleShot(100, app.quit)
        {end}
    """
    for end in ("app.exec_() if hasattr(app, 'exec_') else app.exec()", "time.sleep(0.1)"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script).format(end=end)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
