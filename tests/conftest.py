"""Shared by all tests: a frozen model that takes milliseconds, images with known masks, a trained model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# On a busy machine threads that wait for each other by spinning are many times slower than one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from lightning_fabric import Fabric
from tests.helpers.synthetic import FakeModel, Scene, make_scene, quick_config, tiny_generator_known

import napari_boxprompt.api
from napari_boxprompt.api import TrainedModel
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.devices import make_fabric
from napari_boxprompt.events import Event
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.training import TrainingRun, fit

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    """Float32 on the CPU, in one process."""
    return make_fabric("cpu", "32")


@pytest.fixture
def frozen() -> FakeModel:
    """Frozen model that takes milliseconds."""
    return FakeModel()


@pytest.fixture
def fake_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every model name mean the quick fake model."""
    monkeypatch.setattr(napari_boxprompt.api, "load_frozen", lambda *_, **__: FakeModel())


@pytest.fixture
def encoder(frozen: FakeModel, fabric: Fabric) -> Encoder:
    """Encoder on the fake model, with an empty cache."""
    return Encoder(frozen, fabric)


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Six planes with three bright ellipses each, every one of them boxed."""
    return make_scene()


@pytest.fixture(scope="session")
def unseen() -> Scene:
    """Three planes of the same kind that no training sees."""
    return make_scene(((150, 110), (128, 180), (96, 96)), seed=9)


@pytest.fixture(scope="session")
def normalization(scene: Scene) -> Normalization:
    """Intensity range of `scene`."""
    return Normalization.fit(scene.images)


@pytest.fixture
def tiny_generator() -> Iterator[None]:
    """Let settings name the quick generator "tiny"."""
    with tiny_generator_known():
        yield


@pytest.fixture
def quick(tiny_generator: None) -> MakeConfig:
    """Make settings of a training that takes a second; fields can be changed."""
    return quick_config


@dataclass(frozen=True)
class Training:
    """A training that has ended."""

    run: TrainingRun
    events: list[Event]
    encoder: Encoder
    config: TrainConfig


@pytest.fixture(scope="session")
def _training(scene: Scene, normalization: Normalization, fabric: Fabric) -> Training:
    encoder = Encoder(FakeModel(), fabric)
    config = quick_config(steps=30, learning_rate=0.04, validate_every=10)
    with tiny_generator_known():
        run = fit(scene.images, scene.boxes, config, encoder, normalization)
        return Training(run, list(run), encoder, config)


@pytest.fixture
def training(_training: Training, tiny_generator: None) -> Training:
    """A training on `scene`, done once for all tests."""
    return _training


@pytest.fixture
def trained(training: Training) -> TrainedModel:
    """The model that training gave."""
    return TrainedModel(training.run.model, training.encoder)
