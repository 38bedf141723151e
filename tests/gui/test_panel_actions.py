"""Commands for what the menus and small buttons of the panels do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QFileDialog, QInputDialog
from tests.gui.conftest import Desk

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.gui.layers import role_of

pytestmark = pytest.mark.usefixtures("fake_encoders", "tiny_generator")


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    """A stack on which nothing is drawn."""
    desk = open_desk()
    values = np.random.default_rng(0).integers(20, 200, (4, 64, 80)).astype(np.uint8)
    desk.viewer.add_image(values, name="stack", contrast_limits=(30, 150))
    return desk


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (text, True))


def test_classes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = desk.widget.actions
    for name in (
        "next_class",
        "add_class",
        "rename_class",
        "recolor_class",
        "remove_class",
        "toggle_preview",
    ):
        getattr(actions, name)()
        assert "no boxes layer" in desk.said.pop()
    boxes = desk.widget.session.new_boxes_layer()
    answer(monkeypatch, "b")
    actions.add_class()
    assert (boxes.classes.names, boxes.classes.current.name) == (("object", "b"), "b")
    answer(monkeypatch, "c")
    actions.rename_class()
    assert boxes.classes.names == ("object", "c")
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_, **__: QColor("#ff0000"))
    actions.recolor_class()
    assert boxes.classes.current.hex == "#ff0000"
    actions.next_class()
    assert boxes.classes.current.name == "object"
    actions.next_class()
    actions.remove_class()
    assert boxes.classes.names == ("object",)
    actions.remove_class()
    assert "only class" in desk.said[-1]
    desk.settle()


def test_deleted_boxes(desk: Desk) -> None:
    actions, session = desk.widget.actions, desk.widget.session
    actions.bring_boxes_back()
    assert "deleted" in desk.said.pop()
    session.new_boxes_layer().add_boxes(BoxSet((Box(5, 5, 30, 30, PlaneId("stack", (1,)), "cell"),)))
    desk.viewer.layers.remove("stack boxes")
    actions.bring_boxes_back()
    assert session.boxes is not None
    assert len(session.boxes.boxset) == 1
    desk.settle()
    assert not desk.said


def test_preview_and_regions(desk: Desk) -> None:
    actions, session = desk.widget.actions, desk.widget.session
    session.new_boxes_layer()
    actions.toggle_preview()
    assert not desk.widget.preview.enabled
    assert not desk.widget.boxes_panel.preview.isChecked()
    actions.toggle_preview()
    assert desk.widget.preview.enabled
    actions.draw_complete_region()
    active = desk.viewer.layers.selection.active
    assert active is not None
    assert (role_of(active), active.mode) == ("complete", "add_rectangle")
    desk.settle()


def test_contrast(desk: Desk) -> None:
    actions, session = desk.widget.actions, desk.widget.session
    actions.contrast_like_layer()
    assert session.contrast is not None
    assert (session.contrast.low, session.contrast.high) == ((30.0,), (150.0,))
    actions.contrast_auto()
    assert not session.contrast_is_manual
    desk.settle()
    desk.viewer.layers.clear()
    for name in ("contrast_auto", "contrast_like_layer"):
        getattr(actions, name)()
        assert "no image" in desk.said.pop()


def test_predictions(desk: Desk, trained: TrainedModel) -> None:
    actions, panel = desk.widget.actions, desk.widget.predict_panel
    actions.predict_some()
    assert "no model" in desk.said.pop()
    actions.predict_others()
    assert "No other image" in desk.said.pop()
    desk.widget.session.set_model(trained)
    actions.predict_some()
    assert desk.widget.sections["Predict"].is_open
    assert not panel.some.isHidden()
    assert panel.some.isVisibleTo(panel)
    actions.compare_views()
    assert desk.widget.predicting.compares_views
    actions.compare_views()
    assert not panel.compare.isChecked()
    desk.viewer.add_image(np.zeros((64, 80), np.uint8), name="other")
    assert desk.widget.session.view is not None
    assert desk.widget.session.view.name == "other"
    actions.predict_others()
    desk.settle()
    assert desk.widget.session.result is not None
    assert desk.widget.session.result.view.name == "stack"


def test_rounds_and_projects(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = desk.widget.actions
    actions.take_round_back()
    assert "no round to take back" in desk.said[-1]
    asked: list[str] = []

    def dialog(_: Any, title: str, *__: Any) -> tuple[str, str]:
        asked.append(title)
        return "", ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", dialog)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *given: dialog(*given)[0])
    actions.import_into_project()
    actions.open_project_zip()
    actions.new_project_of_folder()
    assert asked == ["Import boxes or masks", "Zip of a project", "Folder of images"]
    desk.settle()
