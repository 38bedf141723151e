"""The widget in a real viewer: what it shows at each step, its keys, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from qtpy.QtWidgets import QPushButton
from tests.gui.conftest import Desk

OpenDesk = Callable[..., Desk]

pytestmark = pytest.mark.usefixtures("fake_encoders")


def primary(desk: Desk) -> list[str]:
    """Highlighted buttons that a user sees."""
    buttons = desk.widget.findChildren(QPushButton)
    return [b.text() for b in buttons if b.property("primary") and b.isVisibleTo(desk.widget)]


def test_an_empty_viewer_offers_the_sample(open_desk: OpenDesk) -> None:
    desk = open_desk()
    panel = desk.widget.image_panel
    assert panel.empty.isVisibleTo(desk.widget)
    assert primary(desk) == ["Open the nuclei sample"]
    assert desk.widget.sections["Image"].summary == "no image"
    desk.settle()
    assert not desk.said
