"""When the plane on screen is looked at: once for changes that come together, and not after the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QObject

from napari_boxprompt.gui.looking import QUIET_MS, Looks
from napari_boxprompt.gui.state import Session


class Asked:
    """Stands for the preview and counts what it is asked for."""

    def __init__(self) -> None:
        self.requests = self.forgotten = self.hidden = 0
        self.enabled = True

    def request(self) -> None:
        self.requests += 1

    def forget(self) -> None:
        self.forgotten += 1

    def hide(self) -> None:
        self.hidden += 1


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def session(qtbot: QtBot) -> Iterator[Session]:
    viewer = ViewerModel()
    viewer.add_image(np.arange(3 * 32 * 32, dtype=np.uint8).reshape(3, 32, 32), name="stack")
    opened = Session(viewer)
    yield opened
    opened.close()


@pytest.fixture
def looks(session: Session, asked: Asked) -> Iterator[Looks]:
    parent = QObject()
    made = Looks(session, cast("Any", asked), parent)
    yield made
    made.close()


def test_changes_that_come_together_are_one_look(
    looks: Looks, session: Session, asked: Asked, qtbot: QtBot
) -> None:
    for z in (0, 2, 1):
        session.viewer.dims.set_current_step(0, z)
    assert looks.isActive()
    assert not asked.requests
    qtbot.waitUntil(lambda: not looks.isActive())
    qtbot.wait(3 * QUIET_MS)
    assert asked.requests == 1


def test_boxes_are_looked_at_at_once(looks: Looks, session: Session, asked: Asked) -> None:
    looks.soon()
    session.boxes_changed.emit()
    assert asked.requests == 1
    assert not looks.isActive(), "what was waiting is done with it"


def test_the_preview_is_switched_off_and_on(looks: Looks, asked: Asked) -> None:
    looks.switch(False)
    assert (asked.enabled, asked.hidden, asked.requests) == (False, 1, 0)
    looks.switch(True)
    assert (asked.enabled, asked.requests) == (True, 1)


@pytest.mark.parametrize("manual", [False, True])
def test_other_pixels_are_measured_anew(looks: Looks, session: Session, asked: Asked, manual: bool) -> None:
    from napari_boxprompt.images import Normalization

    session.set_contrast(Normalization.fit(session.images), manual=manual)  # type: ignore[arg-type]
    layer = session.viewer.layers["stack"]
    layer.data = layer.data + 1
    assert asked.forgotten
    assert (session.contrast is not None) is manual
    assert looks.isActive()


def test_after_the_end_nothing_is_looked_at(looks: Looks, session: Session, asked: Asked) -> None:
    looks.soon()
    looks.close()
    assert not looks.isActive()
    session.viewer.layers["stack"].data = np.zeros((3, 32, 32), np.uint8)
    assert not asked.forgotten
