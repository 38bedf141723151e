"""Trainings that start from a trained model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers.synthetic import FakeModel, Scene, make_scene

from napari_boxprompt.api import TrainedModel, load_model, start_training, train
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.bundle import load_bundle, save_bundle
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import BundleError, ConfigError
from napari_boxprompt.events import Metrics, Progress
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.prompting import PromptModel
from napari_boxprompt.training import TrainingRun, fit
from napari_boxprompt.training.holdout import noted_planes

MakeConfig = Callable[..., TrainConfig]
Start = Callable[..., TrainingRun]


@pytest.fixture
def start(scene: Scene, encoder: Encoder, normalization: Normalization, quick: MakeConfig) -> Start:
    """Prepare a training on `scene` that starts from a model."""

    def prepare(model: PromptModel | None, on: Scene = scene, **settings: Any) -> TrainingRun:
        scale = normalization if on is scene else Normalization.fit(on.images)
        return fit(on.images, on.boxes, quick(**settings), encoder, scale, start=model)

    return prepare


def test_first_weights_are_those_of_the_model(start: Start, trained: TrainedModel) -> None:
    run = start(trained.model)
    state = run.state()
    for name, value in trained.model.weights.items():
        for part in ("net", "average", "best"):
            assert torch.equal(state[f"{part}.{name}"], value)
    assert not any(name.startswith("adam.") for name in state), "the optimiser begins anew"
    assert run.step == 0
    assert run.model.record["validation"] == {}


def test_it_begins_where_the_other_ended(start: Start, trained: TrainedModel) -> None:
    def first_loss(model: PromptModel | None) -> float:
        events = list(start(model, steps=1))
        return next(event.losses["total"] for event in events if isinstance(event, Metrics))

    assert first_loss(trained.model) < 0.5 * first_loss(None)


def test_the_model_it_started_from_stays_as_it_is(start: Start, trained: TrainedModel) -> None:
    before = {name: value.clone() for name, value in trained.model.weights.items()}
    run = start(trained.model, steps=3)
    list(run)
    assert all(torch.equal(trained.model.weights[name], value) for name, value in before.items())
    assert not all(torch.equal(run.model.weights[name], value) for name, value in before.items())


def test_the_record_names_it(start: Start, trained: TrainedModel, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "first")
    run = start(load_bundle(folder), steps=1)
    list(run)
    second = load_bundle(save_bundle(run.model, tmp_path / "second"))
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    found = second.record["started_from"]
    assert found == {"weights_sha256": digest, "steps": 30, "boxes": 18, "planes": 6}
    assert run.snapshot().record["started_from"] == found
    assert "started_from" not in trained.model.record


def test_a_second_training_is_the_same_each_time(start: Start, trained: TrainedModel) -> None:
    first, again = (start(trained.model, steps=3, seed=4) for _ in range(2))
    list(first), list(again)
    assert all(torch.equal(first.state()[name], value) for name, value in again.state().items())


def test_stopped_it_goes_on_with_the_same_call(
    start: Start, trained: TrainedModel, scene: Scene, encoder: Encoder, quick: MakeConfig, tmp_path: Path
) -> None:
    whole = start(trained.model, steps=4, validate_every=2)
    list(whole)
    stopped = start(trained.model, steps=4, validate_every=2)
    for event in stopped:
        if event == Progress("train", 3, 4):
            break
    stopped.close()
    folder = save_bundle(stopped.model, tmp_path / "model", stopped.state())
    resumed = start_training(
        scene.images,
        scene.boxes,
        quick(steps=4, validate_every=2),
        encoder=encoder,
        normalization=trained.model.normalization,
        resume=folder,
        start=trained.model,
    )
    assert resumed.step == 3
    list(resumed)
    assert all(torch.equal(resumed.state()[name], value) for name, value in whole.state().items())
    assert "started_from" in resumed.model.record


# --- trainings that go on -----------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {"tile": 96.0, "steps": 2, "seed": 2}


@pytest.fixture
def pair() -> Scene:
    return make_scene(((96, 128),) * 5, objects=1, classes=(("a", 0.9), ("b", 0.5)))


@pytest.fixture
def stopped(pair: Scene, encoder: Encoder, quick: MakeConfig, tmp_path: Path) -> Path:
    """A training on four of the planes, stopped after a step."""
    boxes = pair.boxes.restrict(pair.images.planes[:4])
    run = start_training(pair.images, boxes, quick(**SETTINGS), encoder=encoder)
    assert any(event == Progress("train", 1, 2) for event in run)
    run.close()
    return save_bundle(run.model, tmp_path / "stopped", run.state())


def test_going_on_holds_out_the_same_planes_at_the_same_brightness(
    pair: Scene, stopped: Path, encoder: Encoder, quick: MakeConfig
) -> None:
    first, config = load_bundle(stopped), quick(**SETTINGS)
    run = start_training(pair.images, pair.boxes, config, encoder=encoder, resume=stopped)
    list(run)
    held = noted_planes(run.model, "held_out")
    assert held == noted_planes(first, "held_out") == {PlaneId("plane3.tif")}, "anew it would be plane 4"
    assert noted_planes(run.model, "learnt") == set(pair.images.planes) - held
    assert run.model.normalization == first.normalization


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": "light"}, r"generator 'tiny', not 'light'; .*without --resume\.$"),
        ({"tile": 64.0}, r"looks at tiles of 96 px, .* tiles of 64 px; set 'tile' to 96, or train without"),
        ({"tile": "whole"}, "this one would at whole images; set 'tile' to 96"),
    ],
)
def test_a_stopped_training_with_other_settings_is_refused(
    pair: Scene, stopped: Path, encoder: Encoder, quick: MakeConfig, settings: dict[str, Any], message: str
) -> None:
    config = quick(**{**SETTINGS, **settings})
    with pytest.raises(ConfigError, match=message):
        start_training(pair.images, pair.boxes, config, encoder=encoder, resume=stopped)


def test_a_stopped_training_on_something_else_is_refused(
    pair: Scene, stopped: Path, encoder: Encoder, quick: MakeConfig
) -> None:
    images, config = pair.images, quick(**SETTINGS)
    swapped = replace(pair.boxes, classes=("b", "a"))
    with pytest.raises(
        ConfigError, match=r"stopped training knows the classes a, b .* have b, a; .*--resume"
    ):
        start_training(images, swapped, config, encoder=encoder, resume=stopped)
    other = Encoder(FakeModel("other", sha256="0" * 64), encoder.fabric)
    with pytest.raises(ConfigError, match=r"not on 'other' .*without --resume"):
        start_training(images, pair.boxes, config, encoder=other, resume=stopped)
    scale = Normalization(low=(0.0,), high=(99.0,))
    with pytest.raises(ConfigError, match=r"another brightness scale .*without --resume"):
        start_training(images, pair.boxes, config, encoder=encoder, normalization=scale, resume=stopped)


# --- models that do not fit ---------------------------------------------------------------------------------


def test_other_classes_are_refused(start: Start, trained: TrainedModel) -> None:
    two = make_scene(((96, 96),) * 2, objects=1, classes=(("a", 0.9), ("object", 0.5)))
    with pytest.raises(ConfigError, match=r"knows the classes object .*boxes have a, object; .*scratch\.$"):
        start(trained.model, two)
    renamed = replace(trained.model, classes=("object", "a"))
    with pytest.raises(ConfigError, match=r"knows the classes object, a \(in this order\)"):
        start(renamed, two)


def test_another_generator_is_refused(start: Start, trained: TrainedModel) -> None:
    with pytest.raises(ConfigError, match=r"has the generator 'tiny', not 'light'; .*scratch\.$"):
        start(trained.model, generator="light")


def test_without_a_wish_the_generator_is_kept(start: Start, trained: TrainedModel) -> None:
    assert start(trained.model, generator="auto").model.config.generator == "tiny"
    assert start(None, generator="auto").model.config.generator in ("wide", "light")


def test_another_frozen_model_is_refused(
    trained: TrainedModel, scene: Scene, encoder: Encoder, quick: MakeConfig
) -> None:
    other = Encoder(FakeModel("other", sha256="0" * 64), encoder.fabric)
    with pytest.raises(
        ConfigError, match=r"'litemedsam' \(weights f{12}\), not on 'other' \(weights 0{12}\)"
    ):
        start_training(scene.images, scene.boxes, quick(), encoder=other, start=trained.model)


def test_damaged_weights_are_refused(start: Start, trained: TrainedModel) -> None:
    with pytest.raises(BundleError, match="do not fit"):
        start(replace(trained.model, weights={}))


# --- the real model -----------------------------------------------------------------------------------------


def test_real_training_goes_on_from_a_saved_model(scene: Scene, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 1, "batch": 2, "augment": {"views": 1}, "max_encodings": 4}
    boxes = scene.boxes.restrict(scene.images.planes[:2])
    first = train(scene.images, boxes, "fast", device="cpu", **settings)
    loaded = load_model(first.save(tmp_path / "model"), device="cpu")
    run = start_training(scene.images, boxes, loaded.model.config, encoder=first.encoder, start=loaded.model)
    assert all(torch.equal(run.model.weights[name], value) for name, value in first.model.weights.items())
    assert run.model.record["started_from"]["steps"] == 1
