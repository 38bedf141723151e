"""Steps in float16, of which the first ones overflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from tests.helpers.synthetic import FakeModel, Scene

from napari_boxprompt.config import TrainConfig
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.training import TrainingRun, fit
from napari_boxprompt.training.objective import Objective


@pytest.fixture
def start(
    scene: Scene, normalization: Normalization, quick: Callable[..., TrainConfig], monkeypatch: Any
) -> Callable[[Fabric], TrainingRun]:
    """Prepare a training whose first step has a loss beyond all numbers."""
    terms, calls = Objective.__call__, []

    def overflowing(*given: Any) -> dict[str, torch.Tensor]:
        calls.append(given)
        return {name: value * (torch.inf if len(calls) == 1 else 1) for name, value in terms(*given).items()}

    monkeypatch.setattr(Objective, "__call__", overflowing)

    def prepare(fabric: Fabric) -> TrainingRun:
        encoder = Encoder(FakeModel(), fabric)
        return fit(scene.images, scene.boxes, quick(steps=3, ema=0.0), encoder, normalization)

    return prepare


def test_a_scaled_step_that_overflows_is_passed_over(start: Callable[[Fabric], TrainingRun]) -> None:
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    run = start(Fabric(accelerator="cpu", plugins=[plugin]))
    untrained = run.snapshot().weights
    list(run)
    assert run.step == 3
    assert all(torch.isfinite(value).all() for value in run.model.weights.values())
    assert not all(torch.equal(value, untrained[name]) for name, value in run.model.weights.items())


def test_without_a_scale_it_is_an_error(start: Callable[[Fabric], TrainingRun]) -> None:
    with pytest.raises(RuntimeError, match="non-finite"):
        list(start(Fabric(accelerator="cpu", precision="32-true")))
