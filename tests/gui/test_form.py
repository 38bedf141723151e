"""The form of the settings: a widget for each, with its meaning, and what goes in comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from magicgui.widgets import ComboBox
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QAbstractButton, QLabel

from napari_boxprompt.config import PRESETS, TrainConfig, make_config
from napari_boxprompt.errors import ConfigError
from napari_boxprompt.gui.form import FIRST, SettingsForm
from napari_boxprompt.gui.train_panel import CHOICES

Place = tuple[str, ...]


def fields(model: type[BaseModel] = TrainConfig, place: Place = ()) -> Iterator[tuple[Place, FieldInfo]]:
    """Each setting that is no group of others, with its place."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from fields(info.annotation, (*place, name))
        elif (*place, name) != ("preset",):
            yield (*place, name), info


@pytest.fixture
def form(qtbot: QtBot) -> SettingsForm:
    form = SettingsForm(CHOICES)
    qtbot.addWidget(form)
    return form


def test_each_setting_has_a_widget_with_its_title_and_meaning(form: SettingsForm) -> None:
    assert set(form._widgets) == {place for place, _ in fields()}
    shown = {label.text(): label.toolTip() for label in form.findChildren(QLabel)}
    for place, info in fields():
        tooltip = f"{info.description}\nOn the command line: --set {'.'.join(place)}=…"
        assert form._widgets[place].tooltip == tooltip
        assert shown.pop(str(info.title)) == tooltip
    for group in ("loss", "augment"):
        info = TrainConfig.model_fields[group]
        assert shown.pop(f"<b>{info.title}</b>") == info.description
    assert not [text for text in shown if text.strip()]


def test_no_setting_is_shown_by_its_raw_name(form: SettingsForm) -> None:
    names = {place[-1] for place, _ in fields()} | {place[-1].replace("_", " ") for place, _ in fields()}
    shown = [widget.text() for kind in (QLabel, QAbstractButton) for widget in form.findChildren(kind)]
    assert not [text for text in shown if "_" in text or text in names]


def test_what_only_experts_change_is_folded_away(form: SettingsForm) -> None:
    folded = {
        place for place, widget in form._widgets.items() if form.experts.body.isAncestorOf(widget.native)
    }
    assert not form.experts.is_open
    assert set(FIRST) == set(form._widgets) - folded
    assert ("steps",) not in folded
    assert ("loss", "affinity") in folded


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_go_in_and_come_out(form: SettingsForm, preset: str) -> None:
    form.setValue(make_config(preset))
    assert form.value() == make_config(preset)


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["litemedsam", "sam_vit_b", "/some/where/weights.pth"]),
    "generator": st.sampled_from(["auto", "light", "wide", "simple"]),
    "steps": st.integers(1, 1_000_000),
    "batch": st.integers(1, 256),
    "token_step": st.integers(1, 2),
    "learning_rate": st.sampled_from([1.0, 0.004, 1e-4, 3e-5]),
    "weight_decay": st.sampled_from([0.0, 1.0, 0.01, 1e-5]),
    "clip": st.sampled_from([0.5, 1.0, 12.25]),
    "ema": st.sampled_from([0.0, 0.5, 0.995, 0.9999]),
    "hold_out": st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    "tile": st.sampled_from(["auto", "whole", 32.0, 256.5, 100_000.0]),
    "seed": st.integers(0, 1_000_000),
    "device": st.sampled_from(["auto", "cpu", "cuda", "mps", "cuda:1"]),
    "precision": st.sampled_from(["auto", "32", "bf16", "16"]),
    "loss": st.fixed_dictionaries(
        {},
        optional={
            "pseudo_label": st.sampled_from([0.0, 1000.0, 0.25]),
            "tightness": st.sampled_from([0.0, 1e-4, 0.02]),
            "activation": st.sampled_from(["sigmoid", "minmax"]),
            "size_range": st.sampled_from(["learnt", "fixed"]),
        },
    ),
    "augment": st.fixed_dictionaries(
        {},
        optional={
            "views": st.integers(0, 64),
            "rotation": st.sampled_from([0.0, 12.5, 180.0]),
            "zoom": st.sampled_from([1.0, 1.01, 4.0]),
            "mirror": st.sampled_from(["auto", "yes", "no"]),
        },
    ),
}


@given(preset=st.sampled_from(sorted(PRESETS)), changes=st.fixed_dictionaries({}, optional=CHANGES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_goes_in_comes_out(form: SettingsForm, preset: str, changes: dict[str, Any]) -> None:
    config = make_config(preset, **changes)
    form.setValue(config)
    assert form.value() == config


def test_limits_are_those_of_the_settings(form: SettingsForm) -> None:
    for place, info in fields():
        widget = form._widgets[place]
        for item in info.metadata:
            if hasattr(item, "ge"):
                assert widget.min == item.ge
            if hasattr(item, "le"):
                assert widget.max == item.le
    with pytest.raises(ValueError, match="range"):
        form._widgets["steps",].value = 0


def test_text_that_makes_no_sense_is_a_sentence(form: SettingsForm) -> None:
    form._widgets["tile",].value = "huge"
    with pytest.raises(ConfigError, match="tile"):
        form.value()


def test_a_change_by_hand_is_told_once_and_setting_values_once(form: SettingsForm, qtbot: QtBot) -> None:
    heard: list[None] = []
    form.valueChanged.connect(lambda: heard.append(None))
    form._widgets["steps",].value = 77
    assert len(heard) == 1
    assert form.value().steps == 77
    form.setValue(make_config("best"))
    assert len(heard) == 2


def test_more_models_are_offered_and_the_chosen_one_stays(form: SettingsForm) -> None:
    form.setValue(make_config(model="mine.pth"))
    form.set_choices("model", ["litemedsam", "sam_vit_b"])
    widget = form._widgets["model",]
    assert isinstance(widget, ComboBox)
    assert set(widget.choices) == {"litemedsam", "sam_vit_b", "mine.pth"}
    assert form.value().model == "mine.pth"
