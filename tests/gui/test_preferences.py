"""Preferences that are changed while the widget is open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from napari.settings import get_plugin_settings
from tests.gui.conftest import Desk

from napari_boxprompt import api
from napari_boxprompt.gui.settings import follow_settings
from napari_boxprompt.gui.work import Encoders
from napari_boxprompt.models import EmbeddingCache

OpenDesk = Callable[..., Desk]


@pytest.mark.usefixtures("fake_encoders")
def test_model_and_device_count_from_the_next_job_on(open_desk: OpenDesk) -> None:
    desk = open_desk()
    panel, preferences = desk.widget.train_panel, get_plugin_settings("napari-boxprompt")
    panel.form.setValue(panel.config.model_copy(update={"steps": 123}))
    preferences.computing.device = "cpu"
    assert panel.model == ("litemedsam", "cpu")
    preferences.computing.model = "sam_vit_b"
    assert panel.model == ("sam_vit_b", "cpu")
    assert panel.config.steps == 123, "what the user set stays"


@pytest.mark.usefixtures("fake_encoders")
def test_other_preferences_leave_the_model_that_the_user_chose(open_desk: OpenDesk) -> None:
    desk = open_desk()
    panel = desk.widget.train_panel
    panel.form.setValue(panel.config.model_copy(update={"model": "sam_vit_b"}))
    get_plugin_settings("napari-boxprompt").computing.device = "cpu"
    assert panel.model == ("sam_vit_b", "cpu")
    assert not desk.widget.encoders._outdated


@pytest.mark.usefixtures("fake_encoders")
def test_the_folder_of_the_cache_counts_from_the_next_job_on(open_desk: OpenDesk, tmp_path: Path) -> None:
    desk = open_desk()
    get_plugin_settings("napari-boxprompt").storage.folder = str(tmp_path)
    assert desk.widget.encoders._outdated


def test_the_next_job_has_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(api, "make_encoder", lambda *_, cache, **__: made.append(cache) or cache)
    encoders = Encoders(lambda: EmbeddingCache(None))
    encoders.get()
    encoders.get()
    assert len(made) == 1
    encoders.renew()
    encoders.get()
    encoders.get()
    assert len(made) == 2
    assert made[0] is not made[1]


@pytest.mark.usefixtures("plugin")
def test_nothing_is_told_any_more_once_the_widget_is_closed() -> None:
    told: list[str] = []
    end = follow_settings(lambda settings: told.append(settings.device))
    preferences = get_plugin_settings("napari-boxprompt")
    preferences.computing.device = "cpu"
    assert told == ["cpu"]
    end()
    preferences.computing.device = "auto"
    assert told == ["cpu"]
