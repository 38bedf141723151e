from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.helpers.synthetic import CountingImages, FakeModel, Scene, make_scene

from napari_boxprompt import estimates
from napari_boxprompt.api import Timings, estimate_prediction, estimate_seconds, make_encoder, measure_timings
from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.config import TrainConfig, make_config
from napari_boxprompt.errors import BoxError
from napari_boxprompt.images import Normalization
from napari_boxprompt.models import EmbeddingCache
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.training import fit

MakeConfig = Callable[..., TrainConfig]


class TimedModel(FakeModel):
    """Frozen model with a clock of its own: each image and each decoded row take a fixed time."""

    def __init__(self, seconds: float = 0.0, first: float = 0.0) -> None:
        super().__init__()
        self.seconds, self.first = seconds, first
        self.clock, self.rows, self.row = 0.0, 0, 0.01

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.clock += self.seconds * len(images) + (0 if self.encoded else self.first)
        return super().encode(images)

    def decode(self, embedding: torch.Tensor, *prompts: Any, **options: Any) -> Any:
        self.clock += self.row * len(embedding)
        self.rows += len(embedding)
        return super().decode(embedding, *prompts, **options)


@pytest.fixture
def timed(fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Encoder, TimedModel]]:
    """Make an encoder on a model whose clock is the only one."""

    def make(**settings: float) -> tuple[Encoder, TimedModel]:
        model = TimedModel(**settings)
        monkeypatch.setattr(estimates, "time", SimpleNamespace(perf_counter=lambda: model.clock))
        return Encoder(model, fabric), model

    return make


# --- timing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_each_part_is_timed(timed: Any, quick: MakeConfig, batch: int) -> None:
    encoder, model = timed(seconds=0.3)
    found = measure_timings(encoder, quick(batch=batch))
    assert (found.encode, found.box, found.step) == pytest.approx((0.3, 0.01, 0.01 * batch))
    assert model.encoded == 2


def test_the_first_time_does_not_count(timed: Any, quick: MakeConfig) -> None:
    encoder, _ = timed(seconds=0.1, first=0.35)
    assert measure_timings(encoder, quick()).encode == pytest.approx(0.1)


def test_slow_work_is_done_once(timed: Any, quick: MakeConfig) -> None:
    encoder, model = timed(seconds=20.0)
    model.row = 0.1
    assert measure_timings(encoder, quick(batch=256)).encode == pytest.approx(20.0)
    assert model.encoded == 1
    assert model.rows == 4 + 256, "boxes, and one step of 256"


def test_settings_that_cost_time_count(timed: Any, quick: MakeConfig) -> None:
    encoder, _ = timed()
    twice = measure_timings(encoder, quick(batch=4, loss={"consistency_of": "embedding"}))
    assert twice.step == pytest.approx(0.08)


@pytest.mark.parametrize("change", [{}, {"hold_out": 0.5}, {"tile": 64.0}, {"max_encodings": 1, "steps": 1}])
def test_settings_that_are_no_part_of_it_do_not(
    timed: Any, quick: MakeConfig, change: dict[str, Any]
) -> None:
    encoder, _ = timed(seconds=0.3)
    assert measure_timings(encoder, quick(batch=4, **change)) == Timings(
        pytest.approx(0.3), pytest.approx(0.04), pytest.approx(0.01)
    )


def test_nothing_is_left_behind(encoder: Encoder, quick: MakeConfig) -> None:
    measure_timings(encoder, quick())
    assert encoder.cache._memory == {}


# --- estimates ----------------------------------------------------------------------------------------------

SMALL = make_scene(((200, 200), (220, 180), (200, 260)), objects=4, radius=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"augment": {"views": 3}},
        {"augment": {"views": 3}, "max_encodings": 14},
        {"hold_out": 0.4, "seed": 5},
        {"tile": 64.0},
        {"tile": 48.0, "max_encodings": 9, "seed": 2},
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_an_estimate_counts_what_a_training_does(
    scene: Scene, timed: Any, quick: MakeConfig, settings: dict[str, Any], small: bool
) -> None:
    on = SMALL if small else scene
    config = quick(steps=2, validate_every=2, **settings)
    encoder, model = timed()
    images = CountingImages(on.images)
    timings = Timings(encode=1000.0, step=1e6, box=1.0)
    predicted = estimate_seconds(images, on.boxes, config, timings)
    assert images.reads == []
    asked = 0

    def box_prompt(boxes: torch.Tensor) -> Any:
        nonlocal asked
        asked += len(boxes)
        return FakeModel.box_prompt(model, boxes)

    model.box_prompt = box_prompt
    list(fit(on.images, on.boxes, config, encoder, Normalization.fit(on.images)))
    assert predicted == 2e6 + 1000 * model.encoded + asked


def test_every_class_takes_its_time(quick: MakeConfig) -> None:
    two = make_scene(((96, 96),) * 2, objects=1, classes=(("a", 0.9), ("b", 0.5)))
    config = quick(steps=50)
    assert estimate_seconds(two.images, two.boxes, config, Timings(0, 0.1)) == pytest.approx(10.0)


@pytest.mark.parametrize("refines", [False, True])
def test_a_prediction_takes_its_tiles(refines: bool) -> None:
    model = SimpleNamespace(
        tile_for=lambda shape: 64.0 if shape == (128, 64) else None, classes=("a", "b"), refines=refines
    )
    images = make_scene(((64, 64), (128, 64), (128, 64)), objects=1).images
    found = estimate_prediction(images, images.planes, cast("Any", model), Timings(1.0, 99.0, 0.25))
    views = 1 + 3 + 3  # tiles share a quarter with their neighbours
    assert found == views * (1.0 + (4 if refines else 2) * 0.25)


def test_presets_differ(scene: Scene) -> None:
    seconds = [
        estimate_seconds(scene.images, scene.boxes, make_config(preset), Timings(0.2, 0.3, 0.02))
        for preset in ("fast", "balanced", "best")
    ]
    assert seconds[0] < seconds[1] < seconds[2] / 2


def test_too_few_boxes(scene: Scene, quick: MakeConfig) -> None:
    for boxes in (scene.boxes.restrict(scene.images.planes[:1]), BoxSet()):
        with pytest.raises(BoxError, match="two planes"):
            estimate_seconds(scene.images, boxes, quick(), Timings(1, 1))


# --- the real model -----------------------------------------------------------------------------------------


def test_real_model_is_timed() -> None:
    encoder = make_encoder("litemedsam", device="cpu", cache=EmbeddingCache(None))
    found = measure_timings(encoder, make_config("fast", batch=1))
    assert 0.001 < found.box < found.encode
    assert found.step > 0.001
    assert np.isfinite([found.encode, found.step]).all()
