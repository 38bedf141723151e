"""The command that a viewer gives for a session says all that decides the training."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.helpers.commands import COMMAND, Discs, boxprompt, make_discs, write_boxes

import napari_boxprompt.api
from napari_boxprompt.api import command_line
from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.cli.console import parse_contrast
from napari_boxprompt.commandline import contrast_words, prediction_line
from napari_boxprompt.config import PRESETS, TrainConfig, make_config
from napari_boxprompt.errors import ConfigError
from napari_boxprompt.images import open_images
from napari_boxprompt.normalization import Normalization

SCALE = Normalization(low=(-12.5,), high=(0.1 + 0.2,), gamma=0.731)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Discs:
    return make_discs(
        tmp_path_factory.mktemp("it's a [folder]") / "two words", ((64, 96),) * 2, names=["disc"]
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command line would train with; nothing is loaded or trained."""
    found: dict[str, Any] = {}

    def start_training(images: Any, boxes: Any, config: TrainConfig, **others: Any) -> None:
        found.update(others, images=images, boxes=boxes, config=config)
        raise ConfigError("Enough.")

    monkeypatch.setattr(napari_boxprompt.api, "start_training", start_training)
    monkeypatch.setattr(napari_boxprompt.api, "make_encoder", lambda *_, **__: None)
    return found


def run(command: str) -> None:
    words = shlex.split(command)
    assert words[0] == "boxprompt"
    ended = boxprompt(*words[1:])
    assert "Enough." in ended.err, ended.err


CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["sam_vit_b", "my models/sam [b].pth", "--odd", "7", "it's"]),
        "generator": st.sampled_from(["auto", "simple", "light", "wide"]),
        "steps": st.integers(1, 10_000),
        "batch": st.integers(1, 256),
        "token_step": st.integers(1, 2),
        "learning_rate": st.floats(1e-9, 1.0),
        "weight_decay": st.floats(0.0, 1.0),
        "ema": st.floats(0.0, 1.0, exclude_max=True),
        "hold_out": st.floats(0.0, 0.5),
        "tile": st.one_of(st.sampled_from(["auto", "whole"]), st.floats(32.0, 1e5)),
        "seed": st.integers(0, 2**40),
        "device": st.sampled_from(["cpu", "cuda", "auto"]),
        "precision": st.sampled_from(["auto", "32", "bf16", "16"]),
        "loss": st.fixed_dictionaries(
            {},
            optional={
                "size": st.floats(0.0, 1000.0),
                "activation": st.sampled_from(["sigmoid", "minmax"]),
                "consistency_of": st.just("embedding"),
            },
        ),
        "augment": st.fixed_dictionaries(
            {},
            optional={
                "views": st.integers(0, 64),
                "mirror": st.sampled_from(["auto", "yes", "no"]),
                "zoom": st.floats(1.0, 4.0),
            },
        ),
    },
)


# --- settings -----------------------------------------------------------------------------------------------


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(preset=st.sampled_from(sorted(PRESETS)), changes=CONFIGS)
def test_any_settings_come_back(
    discs: Discs, asked: dict[str, Any], preset: str, changes: dict[str, Any]
) -> None:
    config = make_config(preset, **changes)
    run(command_line(discs.images, discs.boxes, discs.folder / "out", config))
    assert asked["config"] == config
    assert asked["normalization"] is asked["start"] is asked["resume"] is None


def test_only_what_differs_is_said() -> None:
    def said(config: TrainConfig) -> str:
        return command_line("i.tif", "b.json", "m", config)

    plain = "boxprompt train i.tif --boxes b.json --out m --preset"
    assert said(TrainConfig()) == f"{plain} balanced"
    assert said(make_config("fast")) == f"{plain} fast"
    assert said(make_config("fast", steps=7, seed=3, loss={"size": 0.0}, tile="whole")) == (
        f"{plain} fast --seed 3 --set steps=7 --set tile=whole --set loss.size=0.0"
    )
    assert said(make_config("fast", augment={"views": 5})) == f"{plain} fast --set augment.views=5"


def test_a_preset_keeps_its_generator_on_the_command_line(discs: Discs, asked: dict[str, Any]) -> None:
    command = f"boxprompt train {shlex.quote(str(discs.images))} --boxes {shlex.quote(str(discs.boxes))}"
    run(f"{command} --out m --preset paper")
    assert asked["config"] == make_config("paper")
    run(f"{command} --out m --preset paper --generator light")
    assert asked["config"] == make_config("paper", generator="light")


def test_settings_without_a_preset_are_spelt_out(discs: Discs, asked: dict[str, Any]) -> None:
    config = make_config("best").model_copy(update={"preset": "mine"})
    run(command_line(discs.images, discs.boxes, discs.folder / "out", config))
    assert asked["config"].model_copy(update={"preset": "mine"}) == config


# --- images, boxes and contrast -----------------------------------------------------------------------------


def test_everything_else_comes_back(discs: Discs, asked: dict[str, Any], tmp_path: Path) -> None:
    start = tmp_path / "a model; rm -r"
    models: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_boxprompt.bundle.load_bundle", models.append)
        run(
            command_line(
                discs.images,
                discs.boxes,
                tmp_path / "out $HOME",
                make_config("fast"),
                normalization=SCALE,
                channel=0,
                start=start,
            )
        )
    assert models == [start]
    assert asked["normalization"] == SCALE
    assert len(asked["images"]) == 2
    assert len(asked["boxes"]) == 2
    assert not any(info.complete for info in asked["boxes"].planes.values())


def test_marks_of_completeness_are_in_the_box_file(
    discs: Discs, asked: dict[str, Any], tmp_path: Path
) -> None:
    images = open_images(discs.images)
    boxes = BoxSet.load(discs.boxes, images).complete(images.planes[:1])
    boxes.save(tmp_path / "boxes.json")
    run(command_line(discs.images, tmp_path / "boxes.json", tmp_path / "out", make_config()))
    assert asked["boxes"] == boxes


NUMBERS = st.floats(-1e9, 1e9)


@given(
    low=st.one_of(st.tuples(NUMBERS), st.tuples(NUMBERS, NUMBERS, NUMBERS)),
    more=st.floats(1e-3, 1e9),
    gamma=st.floats(0.1, 10.0),
)
def test_any_contrast_comes_back(low: tuple[float, ...], more: float, gamma: float) -> None:
    scale = Normalization(low=low, high=tuple(value + more + i for i, value in enumerate(low)), gamma=gamma)
    assert parse_contrast(contrast_words(scale)) == scale


def test_contrast_is_short_where_it_can_be() -> None:
    def words(low: tuple[float, ...], high: tuple[float, ...], gamma: float = 1.0) -> str:
        return contrast_words(Normalization(low=low, high=high, gamma=gamma))

    assert words((0.0,), (255.0,)) == "0.0 255.0"
    assert words((0.0,) * 3, (255.0,) * 3, 0.5) == "0.0 255.0 0.5"
    assert words((0.0,) * 3, (255.0, 9.5, 9.5)) == "0.0 255.0,9.5,9.5"


@pytest.mark.parametrize("high", [(255.0, 255.0, 255.0), (255.0, 200.0, 90.0)])
def test_contrast_of_colours(asked: dict[str, Any], tmp_path: Path, high: tuple[float, ...]) -> None:
    red = make_discs(tmp_path / "red", ((64, 96),) * 2, names=["red"], colour=True)
    scale = Normalization(low=(3.0, 3.0, 3.0), high=high)
    run(command_line(red.images, red.boxes, tmp_path / "out", make_config(), normalization=scale))
    assert asked["normalization"] == scale


def test_measured_contrast_comes_back(discs: Discs, asked: dict[str, Any], tmp_path: Path) -> None:
    images = open_images(discs.images)
    scale = Normalization.fit(images).lifted(images, BoxSet.load(discs.boxes, images))
    run(command_line(discs.images, discs.boxes, tmp_path / "out", make_config(), normalization=scale))
    # Only where the values came from is not said.
    assert asked["normalization"] == scale.model_copy(update={"percentiles": None})


# --- in a shell ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="quoted for a POSIX shell")
def test_a_shell_repeats_training_and_prediction_with_the_real_model(discs: Discs, tmp_path: Path) -> None:
    stack = tmp_path / "it's [1] $HOME" / "images"
    stack.parent.mkdir()
    stack.symlink_to(discs.images)
    boxes = write_boxes(
        stack.parent / "boxes & more.json",
        {name: [(d.name, d.bbox) for d in found] for name, found in discs.discs.items()},
    )
    config = make_config(
        "fast", steps=1, batch=1, tile="whole", max_encodings=2, augment={"views": 0}, device="cpu"
    )
    scale = Normalization(low=(10.0,), high=(230.5,), gamma=0.8)
    out = tmp_path / "a model"
    masks = tmp_path / "its masks"
    environment = {**os.environ, "NAPARI_BOXPROMPT_HOME": str(tmp_path / "home")}
    for line in (
        command_line(stack, boxes, out, config, normalization=scale),
        prediction_line(out, stack, masks, device="cpu"),
    ):
        own = line.replace("boxprompt", shlex.join(COMMAND), 1)
        done = subprocess.run(own, shell=True, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    assert (masks / "objects.csv").is_file()
    saved = json.loads((out / "model.json").read_text(encoding="utf-8"))
    # The model says which generator it has, not that it was left open.
    assert TrainConfig.model_validate(saved["config"]) == config.model_copy(update={"generator": "wide"})
    assert Normalization.model_validate(saved["normalization"]) == scale
