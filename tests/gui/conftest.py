"""Shared by tests of the widget: a real viewer with the dock open, what it says and leaves running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

import napari_boxprompt

if TYPE_CHECKING:  # a server has neither napari nor Qt
    from pytestqt.qtbot import QtBot
    from tests.helpers.hand import Hand

    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.widget import BoxPromptWidget
    from napari_boxprompt.gui.work import Encoders

MANIFEST = Path(napari_boxprompt.__file__).with_name("napari.yaml")

TIMEOUT = 300_000
"""Milliseconds; these tests also run on machines that do other things."""


@dataclass
class Desk:
    """A viewer with our dock in it.

    Attributes
    ----------
    viewer : napari.Viewer
        A proxy that complains about private access, as plugins are given.
    widget : BoxPromptWidget
        The widget in the dock.
    dock : QDockWidget
        The dock, with napari's buttons.
    said : list of str
        Notifications so far.
    """

    viewer: Any
    widget: BoxPromptWidget
    dock: Any
    hand: Hand
    said: list[str]
    qtbot: QtBot

    def wait(self, until: Callable[[], bool]) -> None:
        """Let the viewer work until something is so."""
        self.qtbot.waitUntil(until, timeout=TIMEOUT)

    def settle(self) -> None:
        """Let the viewer work until nothing is waiting and no job runs."""
        later = self.widget._later
        self.wait(lambda: not later.isActive() and not self.widget.jobs.names)


W = TypeVar("W")


@dataclass
class Panel(Generic[W]):
    """One panel of the dock over a viewer without a window: these tests take milliseconds."""

    widget: W
    session: Session
    viewer: Any


@pytest.fixture
def make_panel(qtbot: QtBot) -> Callable[..., Panel[Any]]:
    """Make a panel from its class and what it is given besides the session."""
    from napari.components import ViewerModel

    from napari_boxprompt.gui.state import Session

    def made(kind: Callable[..., Any], *others: Any) -> Panel[Any]:
        viewer = ViewerModel()
        session = Session(viewer)
        widget = kind(session, *(other(session) for other in others))
        qtbot.addWidget(widget)
        return Panel(widget, session, viewer)

    return made


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What napari would show at the edge of its window."""
    from napari.utils.notifications import Notification, notification_manager

    found: list[str] = []

    def note(notification: Notification) -> None:
        found.append(notification.message)

    notification_manager.notification_ready.connect(note)
    yield found
    notification_manager.notification_ready.disconnect(note)


def workers() -> list[threading.Thread]:
    """Threads of our jobs that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("boxprompt ")]


@pytest.fixture
def no_work_left(qtbot: QtBot) -> Iterator[None]:
    """Fail if a job outlives its viewer."""
    yield
    qtbot.waitUntil(lambda: not workers(), timeout=TIMEOUT)


@pytest.fixture
def plugin(
    npe2pm: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Our plugin and no other, with preferences, models and embeddings of its own."""
    from napari_boxprompt.models.home import HOME_VARIABLE

    request.getfixturevalue("plugin_settings")  # napari's
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        yield


@pytest.fixture
def open_desk(
    no_work_left: None,  # first, so that it looks when the viewer has been closed
    plugin: None,
    said: list[str],
    make_napari_viewer_proxy: Callable[..., Any],
    qtbot: QtBot,
) -> Callable[..., Desk]:
    """Make a viewer, with the dock opened as a menu does it."""
    from tests.helpers.hand import Hand

    from napari_boxprompt.gui.commands import open_widget

    def opened(*, show: bool = False) -> Desk:
        viewer = make_napari_viewer_proxy(show=show)
        # napari takes our widget, whose module begins with "napari", for one of its own and would hide it.
        widget = open_widget(viewer.__wrapped__)
        return Desk(viewer, widget, widget.parent(), Hand(viewer, qtbot), said, qtbot)

    return opened


@pytest.fixture(scope="session")
def real_encoders() -> Encoders:
    """The embedded model, loaded once; what it has encoded is kept for all tests."""
    from napari_boxprompt.gui.work import Encoders
    from napari_boxprompt.models import EmbeddingCache

    return Encoders(lambda: EmbeddingCache(None))


@pytest.fixture
def fake_encoders(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Encoders:
    """A model that takes milliseconds, for the widget that is opened next."""
    from napari_boxprompt.gui import widget
    from napari_boxprompt.gui.work import Encoders
    from napari_boxprompt.models import EmbeddingCache

    class FakeEncoders(Encoders):
        def get(self, *_: Any, **__: Any) -> Any:
            return encoder

    fake = FakeEncoders(lambda: EmbeddingCache(None))
    monkeypatch.setattr(widget, "Encoders", lambda _: fake)
    return fake
