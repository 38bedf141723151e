from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from napari_boxprompt.config import (
    PRESETS,
    AugmentConfig,
    LossConfig,
    TrainConfig,
    make_config,
    setting_fields,
)
from napari_boxprompt.errors import ConfigError


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_are_valid_and_named(preset: str) -> None:
    config = make_config(preset)
    assert config.preset == preset
    for name, value in PRESETS[preset].items():
        found = getattr(config, name)
        if isinstance(value, dict):
            assert {key: getattr(found, key) for key in value} == value
        else:
            assert found == value


def test_presets_take_longer_in_their_order() -> None:
    fast, balanced, best = (make_config(name) for name in ("fast", "balanced", "best"))
    assert fast.steps < balanced.steps < best.steps
    assert fast.max_encodings < balanced.max_encodings < best.max_encodings
    assert fast.augment.views < balanced.augment.views < best.augment.views
    assert make_config() == balanced


def test_weights_of_the_paper_are_the_defaults() -> None:
    loss = LossConfig()
    weights = (loss.pseudo_label, loss.size, loss.outside, loss.consistency, loss.tightness)
    assert weights == (1.0, 0.01, 0.01, 0.1, 0.0001)


def test_changes_keep_the_rest_of_the_preset() -> None:
    config = make_config("best", steps=7, augment={"mirror": True}, loss={"size": 0.0})
    assert (config.steps, config.ema) == (7, 0.99)
    assert config.augment == AugmentConfig(views=11, mirror=True)
    assert config.loss == LossConfig(size=0.0)
    assert make_config("fast", augment=AugmentConfig(views=9)).augment.views == 9
    assert PRESETS["best"]["augment"] == {"views": 11}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"batch": 1000}, "batch"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"ema": 1.0}, "ema"),
        ({"hold_out": 0.6}, "hold_out"),
        ({"seed": -1}, "seed"),
        ({"precision": "8"}, "precision"),
        ({"tile": "some"}, "tile"),
        ({"tile": -5}, "tile"),
        ({"tile": 0}, "tile"),
        ({"stepz": 5}, "stepz"),
        ({"loss": {"size": -1}}, "loss.size"),
        ({"loss": {"activation": "softmax"}}, "loss.activation"),
        ({"loss": {"sise": 1}}, "loss.sise"),
        ({"augment": {"rotation": 181}}, "augment.rotation"),
        ({"augment": {"zoom": 0.5}}, "augment.zoom"),
        ({"augment": 3}, "augment"),
    ],
)
def test_errors_name_the_setting(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"[Ss]etting '{name}'[:;] .+"):
        make_config(**changes)


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="'quick'; choose one of fast, balanced, best"):
        make_config("quick")


@pytest.mark.parametrize(
    ("given", "found"), [("auto", "auto"), ("whole", "whole"), (128, 128.0), ("96", 96.0)]
)
def test_tile_is_a_word_or_a_number(given: Any, found: str | float) -> None:
    tile = make_config(tile=given).tile
    assert tile == found
    assert type(tile) is type(found)


def test_settings_survive_json_and_do_not_change() -> None:
    config = make_config("best", tile=100, loss={"barrier": "epochs"})
    assert TrainConfig.model_validate(json.loads(json.dumps(config.model_dump()))) == config
    with pytest.raises(ValidationError):
        config.steps = 3
    with pytest.raises(ValidationError):
        config.loss.size = 3


@pytest.mark.parametrize("settings", [TrainConfig, LossConfig, AugmentConfig])
def test_every_setting_has_a_title_and_a_description(settings: type[BaseModel]) -> None:
    titles = [field.title or "" for field in settings.model_fields.values()]
    assert len(set(titles)) == len(titles)
    for title in titles:
        assert re.fullmatch(r"[A-Z][a-z -]+", title), title
    for name, field in settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("changes", "name", "meant"),
    [
        ({"stepz": 3}, "stepz", "steps"),
        ({"lerning_rate": 3}, "lerning_rate", "learning_rate"),
        ({"loss": {"sise": 1}}, "loss.sise", "loss.size"),
        ({"augment": {"vieuws": 1}}, "augment.vieuws", "augment.views"),
        ({"views": 1}, "views", "augment.views"),
        ({"train": {"stepz": 1}}, "train", None),
        ({"loss": {"steps": 1}}, "loss.steps", "steps"),
        ({"xyzzy": 1}, "xyzzy", None),
    ],
)
def test_a_setting_that_there_is_not(changes: dict[str, Any], name: str, meant: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config("fast", **changes)
    said = str(caught.value)
    assert said.startswith(f"There is no setting '{name}'")
    assert "--set list" in said
    assert (f"did you mean '{meant}'?" if meant else f"'{name}'.") in said


def test_setting_fields_can_all_be_set() -> None:
    fields = setting_fields()
    assert {"steps", "loss.size", "augment.views"} <= set(fields)
    for name in fields:
        *group, last = name.split(".")
        value: Any = make_config()
        for part in (*group, last):
            value = getattr(value, part)
        make_config(**({group[0]: {last: value}} if group else {last: value}))
