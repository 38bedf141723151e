from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.synthetic import FakeModel, Scene, make_scene, overlap

from napari_boxprompt.bundle import load_state, save_bundle
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import BoxError, ConfigError
from napari_boxprompt.events import Finished, Metrics, Preview, Progress
from napari_boxprompt.images import Normalization
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.prediction import Predictor, predict_planes
from napari_boxprompt.prompting import PromptModel
from napari_boxprompt.training import TrainingRun, batches, fit
from napari_boxprompt.training.objective import Objective

MakeConfig = Callable[..., TrainConfig]
Start = Callable[..., TrainingRun]
Weights = Mapping[str, torch.Tensor]
TERMS = {"pseudo_label", "outside", "size", "tightness", "affinity", "consistency"}


@pytest.fixture
def start(scene: Scene, encoder: Encoder, normalization: Normalization, quick: MakeConfig) -> Start:
    """Prepare a training on `scene`, or on another one."""

    def prepare(on: Scene = scene, resume: Weights | None = None, **settings: Any) -> TrainingRun:
        scale = normalization if on is scene else Normalization.fit(on.images)
        return fit(on.images, on.boxes, quick(**settings), encoder, scale, resume)

    return prepare


def until(training: TrainingRun, step: int) -> TrainingRun:
    """Train up to a step and stop there."""
    for event in training:
        if isinstance(event, Progress) and event.phase == "train" and event.done == step:
            break
    training.close()
    return training


def finished(training: TrainingRun) -> TrainingRun:
    list(training)
    return training


def same(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def scores(model: PromptModel, encoder: Encoder, scene: Scene, objects: int = 3) -> list[list[float]]:
    """Dice of each plane and class."""
    found = []
    for prediction in predict_planes(Predictor(model, encoder), scene.images):
        labels = scene.labels[prediction.plane]
        classes = [(labels > k * objects) & (labels <= (k + 1) * objects) for k in range(len(model.classes))]
        found.append([overlap(prediction.mask == k + 1, truth) for k, truth in enumerate(classes)])
    return found


# --- learning -----------------------------------------------------------------------------------------------


def test_masks_are_learnt_from_boxes(training: Any, unseen: Scene) -> None:
    metrics = [event for event in training.events if isinstance(event, Metrics)]
    assert metrics[0].losses["total"] > 2.5 * metrics[-1].losses["total"] > 0
    assert metrics[-1].validation["pseudo_dice"] > 0.9
    assert metrics[-1].validation["box_agreement"] > 0.75
    assert np.min(scores(training.run.model, training.encoder, unseen)) > 0.9


def test_default_generator_learns(start: Start, encoder: Encoder, unseen: Scene) -> None:
    settings: dict[str, Any] = {"generator": "light", "steps": 30, "validate_every": 30}
    training = start(**settings, learning_rate=1e-2)
    assert np.max(scores(training.model, encoder, unseen)) == 0.0  # as the frozen model without a prompt
    finished(training)
    assert np.min(scores(training.model, encoder, unseen)) > 0.9


def test_masks_with_a_class_axis_teach_the_same(encoder: Encoder, quick: MakeConfig) -> None:
    scene = make_scene(classes=(("bright", 0.9), ("dim", 0.5)), objects=2)
    scale, layers = Normalization.fit(scene.images), {}
    for plane in scene.boxes.boxed_planes:
        ids = ([box.id for box in scene.boxes.on(plane, name)] for name in scene.boxes.classes)
        layers[plane] = np.stack([np.isin(scene.labels[plane], own) for own in ids]).astype(np.uint8)
        assert layers[plane].any(axis=(1, 2)).all()
    flat = {plane: mask[0] + 2 * mask[1] for plane, mask in layers.items()}
    sets = ((scene.boxes, flat), (replace(scene.boxes, exclusive=False), layers))
    one, two = (
        finished(fit(scene.images, boxes, quick(steps=3), encoder, scale, masks=masks)).model
        for boxes, masks in sets
    )
    assert (one.exclusive, two.exclusive) == (True, False)
    assert same(one.weights, two.weights)


def test_two_classes_have_two_generators(start: Start, encoder: Encoder) -> None:
    classes = (("bright", 0.9), ("dim", 0.5))
    scene = make_scene(classes=classes, objects=2)
    model = finished(start(scene, steps=40, learning_rate=0.03, validate_every=20)).model
    assert model.classes == ("bright", "dim")
    first, second = (
        {name[12:]: value for name, value in model.weights.items() if name.startswith(f"generators.{k}.")}
        for k in range(2)
    )
    assert first.keys() == second.keys()
    assert len(first) + len(second) == len(model.weights)
    assert not same(first, second)
    assert set(model.object_area) == {"bright", "dim"}
    unseen = make_scene(((150, 110), (128, 180)), seed=9, classes=classes, objects=2)
    by_class = np.mean(scores(model, encoder, unseen, objects=2), axis=0)
    assert by_class[0] > 0.9
    assert by_class[1] > 0.8


@pytest.mark.parametrize(
    ("loss", "generator"),
    [
        ({"activation": "minmax"}, "tiny"),
        ({"outside_variant": "released"}, "tiny"),
        ({"consistency_of": "embedding"}, "tiny"),
        ({"size_range": "fixed", "barrier": "epochs"}, "tiny"),
        (
            {
                "activation": "minmax",
                "outside_variant": "released",
                "consistency_of": "embedding",
                "size_range": "fixed",
                "barrier": "epochs",
            },
            "simple",
        ),
    ],
)
def test_variants_train(start: Start, loss: dict[str, Any], generator: str) -> None:
    training = start(loss=loss, generator=generator, steps=1 if generator == "simple" else 2)
    before = training.model.weights
    (metrics,) = [event for event in training if isinstance(event, Metrics)]
    assert set(metrics.losses) == {*TERMS, "total"}
    assert all(np.isfinite(value) for value in metrics.losses.values())
    assert metrics.losses["consistency"] > 0
    assert metrics.losses["total"] == pytest.approx(sum(metrics.losses[name] for name in TERMS))
    assert not same(before, training.model.weights)


# --- events -------------------------------------------------------------------------------------------------


def test_events_come_in_order(start: Start) -> None:
    events = list(start(steps=6, validate_every=3))
    encoding = [event for event in events if isinstance(event, Progress) and event.phase == "encode"]
    assert events[: len(encoding)] == encoding
    assert encoding[-1].done == encoding[-1].total == len(encoding)
    rest = events[len(encoding) :]
    assert isinstance(rest[0], Finished)
    assert rest[0].phase == "encode"
    assert [type(event) for event in rest[1:]] == [*[Progress] * 3, Metrics, Preview] * 2 + [Finished]
    steps = [event for event in rest if isinstance(event, Progress)]
    assert [(event.phase, event.done, event.total) for event in steps] == [
        ("train", i, 6) for i in range(1, 7)
    ]
    metrics = [event for event in rest if isinstance(event, Metrics)]
    assert [(event.step, event.total) for event in metrics] == [(3, 6), (6, 6)]
    assert all(set(event.validation) == {"box_agreement", "pseudo_dice"} for event in metrics)
    assert [event.step for event in rest if isinstance(event, Preview)] == [3, 6]
    last = rest[-1]
    assert isinstance(last, Finished)
    assert last.phase == "train"
    assert last.seconds > 0
    assert not last.stopped


def test_losses_are_means_since_the_last_report(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start(steps=25, validate_every=7)
    monkeypatch.setattr(training._steps, "_train_step", lambda *_: {"a": float(training.step), "b": 1.0})
    metrics = [event for event in training if isinstance(event, Metrics)]
    assert [event.step for event in metrics] == [7, 10, 14, 20, 21, 25]
    bounds = [0, *[event.step for event in metrics]]
    for event, (first, end) in zip(metrics, pairwise(bounds), strict=True):
        mean = float(np.mean(range(first, end)))
        assert event.losses == pytest.approx({"a": mean, "b": 1.0, "total": mean + 1})
        assert bool(event.validation) == (event.step in (7, 14, 21, 25))


def test_times_and_record(training: Any, scene: Scene) -> None:
    model = training.run.model
    ends = {event.phase: event.seconds for event in training.events if isinstance(event, Finished)}
    assert ends == training.run.seconds
    assert set(ends) == {"encode", "train"}
    assert model.record["steps"] == training.config.steps == training.run.step
    assert (model.record["boxes"], model.record["planes"]) == (18, 6)
    assert model.pixel_types == ("uint8",)
    assert model.record["validation"]["pseudo_dice"] > 0.9
    assert (model.tile, model.side) == (None, 128.0)
    assert model.frozen_sha256 == "f" * 64
    low, middle, high = model.object_area["object"]
    areas = [int((scene.labels[box.plane] == box.id).sum()) for box in scene.boxes.boxes]
    assert low == pytest.approx(np.percentile(areas, 5), rel=0.2)
    assert middle == pytest.approx(np.median(areas), rel=0.15)
    assert high == pytest.approx(np.percentile(areas, 95), rel=0.2)


def test_tiles_left_out_do_not_blur_the_usual_size(start: Start) -> None:
    small = make_scene(((300, 300),) * 3, objects=10, radius=0.03)
    typical = np.median([(small.labels[box.plane] == box.id).sum() for box in small.boxes.boxes])
    model = finished(start(small, tile=64.0, max_encodings=16, steps=1)).model
    assert model.object_area["object"][1] == pytest.approx(typical, rel=0.25)
    assert model.object_area["object"][0] > 0.4 * typical


def test_too_few_boxed_planes(scene: Scene, start: Start) -> None:
    planes = scene.images.planes[:1]
    training = start(Scene(scene.images, scene.labels, scene.boxes.restrict(planes)))
    with pytest.raises(BoxError, match="two planes"):
        next(training)


# --- stopping and going on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 4])
def test_closing_early_keeps_what_was_learnt(
    start: Start, encoder: Encoder, unseen: Scene, step: int
) -> None:
    training = start(steps=50, validate_every=3)
    untrained = training.model.weights
    until(training, step)
    assert training.step == step
    assert training.model.record["steps"] == step
    assert not same(training.model.weights, untrained)
    assert np.isfinite(scores(training.model, encoder, unseen)).all()
    assert training.seconds["train"] > 0
    assert list(training) == []


def test_closing_while_images_are_encoded(start: Start, encoder: Encoder, unseen: Scene) -> None:
    training = start()
    next(training)
    training.close()
    assert training.step == 0
    assert training.model.object_area == {}
    assert training.seconds["encode"] > 0
    assert np.max(scores(training.model, encoder, unseen)) == 0.0


def test_same_seed_gives_same_weights(start: Start) -> None:
    first = finished(start(seed=5)).model.weights
    torch.manual_seed(1234)
    np.random.default_rng().random()
    assert same(first, finished(start(seed=5)).model.weights)
    assert not same(first, finished(start(seed=6)).model.weights)


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_resumed_training_ends_where_an_uninterrupted_one_does(
    start: Start, tmp_path: Path, step: int
) -> None:
    whole = finished(start(generator="tiny", steps=6, validate_every=3))
    stopped = until(start(generator="tiny", steps=6, validate_every=3), step)
    save_bundle(stopped.model, tmp_path / "model", stopped.state())
    resumed = start(resume=load_state(tmp_path / "model"), steps=6, validate_every=3)
    assert resumed.step == step
    assert same(resumed.model.weights, stopped.model.weights)
    steps = [event.done for event in resumed if isinstance(event, Progress) and event.phase == "train"]
    assert steps == list(range(step + 1, 7))
    assert same(resumed.state(), whole.state())
    assert same(resumed.model.weights, whole.model.weights)
    assert resumed.model.record["validation"] == whole.model.record["validation"]


def test_dropout_does_not_hinder_going_on(start: Start) -> None:
    settings: dict[str, Any] = {"generator": "light", "steps": 30, "validate_every": 30, "batch": 1}
    whole = finished(start(**settings))
    resumed = finished(start(resume=until(start(**settings), 1).state(), **settings))
    assert same(resumed.model.weights, whole.model.weights)


def test_state_of_other_settings_is_refused(start: Start) -> None:
    state = until(start(), 1).state()
    with pytest.raises(ConfigError, match="without --resume"):
        start(resume=state, generator="light")
    with pytest.raises(ConfigError, match="without --resume"):
        start(make_scene(((96, 96),) * 2, objects=1, classes=(("a", 0.9), ("b", 0.5))), resume=state)
    for missing in ("progress", "net.generators.0.output.weight", "average.generators.0.output.bias"):
        with pytest.raises(ConfigError, match="without --resume"):
            start(resume={name: value for name, value in state.items() if name != missing})


# --- image tokens that steps learn from ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({"token_step": 2, "steps": 20}, {(2, row, column) for row in (0, 1) for column in (0, 1)}),
        ({"token_step": 1}, {WHOLE}),
        ({"token_step": 2, "loss": {"consistency_of": "embedding"}}, {WHOLE}),
    ],
)
def test_steps_learn_from_tokens_drawn_anew(
    start: Start, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], seen: set[Lattice]
) -> None:
    found: list[Lattice] = []
    terms = Objective.__call__

    def spy(*given: Any) -> dict[str, torch.Tensor]:
        found.append(given[-1])
        return terms(*given)

    monkeypatch.setattr(Objective, "__call__", spy)
    finished(start(**settings))
    assert set(found) == seen


# --- looking on ---------------------------------------------------------------------------------------------


def test_a_look_at_the_training_does_not_change_it(start: Start, encoder: Encoder, unseen: Scene) -> None:
    settings: dict[str, Any] = {"generator": "light", "steps": 30, "validate_every": 30}
    whole = finished(start(**settings))
    watched = start(**settings)
    plane = unseen.images.planes[0]
    for _ in watched:
        predictor = Predictor(watched.snapshot(), encoder)
        predictor.predict(plane, unseen.images.read(plane))
    assert same(watched.state(), whole.state())


def test_snapshots_are_copies_of_the_average(start: Start) -> None:
    training = start(steps=4, validate_every=4)
    seen: list[PromptModel] = []
    for event in training:
        if isinstance(event, Progress) and event.phase == "train":
            average = {n[8:]: v for n, v in training.state().items() if n.startswith("average.")}
            seen.append(training.snapshot())
            assert same(seen[-1].weights, average)
    assert [model.record["steps"] for model in seen] == [1, 2, 3, 4]
    assert not any(same(a.weights, b.weights) for a, b in pairwise(seen))
    assert same(seen[-1].weights, training.model.weights), "a checked step"
    assert all(model.object_area == training.model.object_area != {} for model in seen)
    assert seen[-1].record["validation"] == {}
    assert training.model.record["validation"]


def test_snapshot_before_the_first_step_is_untrained(start: Start) -> None:
    training = start()
    first = training.snapshot()
    next(training)
    assert same(first.weights, training.snapshot().weights)
    assert same(first.weights, training.model.weights)
    assert training.snapshot().object_area == {}


# --- which weights are kept ---------------------------------------------------------------------------------


def test_average_follows_the_weights(start: Start) -> None:
    training = start(ema=0.75, steps=4)
    name = "generators.0.output.weight"
    expected = training.state()[f"average.{name}"].clone()
    for event in training:
        if isinstance(event, Progress) and event.phase == "train":
            state = training.state()
            expected = 0.75 * expected + 0.25 * state[f"net.{name}"]
            torch.testing.assert_close(state[f"average.{name}"], expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().sum() > 0


def test_without_memory_the_average_is_the_weights(start: Start) -> None:
    state = finished(start(ema=0.0)).state()
    for name, value in state.items():
        if name.startswith("net."):
            torch.testing.assert_close(
                state[name.replace("net.", "average.", 1)], value, rtol=1e-6, atol=1e-7
            )


@pytest.mark.parametrize(
    ("figures", "kept"),
    [
        ([0.2, 0.9, 0.4], 1),
        ([0.9, 0.2, 0.4], 0),
        ([0.2, 0.4, 0.9], 2),
        ([0.8, 0.77, 0.1], 1),  # as good as the best, and trained for longer
        ([0.8, 0.77, 0.74], 1),  # but a slow decline is one
    ],
)
def test_best_checked_weights_are_kept(
    start: Start, monkeypatch: pytest.MonkeyPatch, figures: list[float], kept: int
) -> None:
    values = iter(figures)
    monkeypatch.setattr("napari_boxprompt.training.steps.validate", lambda *_: {"pseudo_dice": next(values)})
    training = start(steps=6, validate_every=2)
    seen = []
    for event in training:
        if isinstance(event, Preview):
            state = training.state()
            seen.append({n[8:]: v for n, v in state.items() if n.startswith("average.")})
    assert len(seen) == 3
    assert same(training.model.weights, seen[kept])
    assert training.model.record["validation"] == {"pseudo_dice": figures[kept]}


def test_last_weights_are_kept_where_nothing_is_held_out(scene: Scene, start: Start) -> None:
    two = Scene(scene.images, scene.labels, scene.boxes.restrict(scene.images.planes[:2]))
    training = start(two, steps=5, validate_every=2)
    metrics = [event for event in training if isinstance(event, Metrics)]
    assert all(event.validation == {} for event in metrics)
    average = {n[8:]: v for n, v in training.state().items() if n.startswith("average.")}
    assert same(training.model.weights, average)


# --- steps --------------------------------------------------------------------------------------------------


def test_embeddings_are_computed_once(start: Start, frozen: FakeModel) -> None:
    finished(start(steps=1))
    encoded = frozen.encoded
    assert encoded == 11
    finished(start(steps=2))
    assert frozen.encoded == encoded


def test_pairs_of_a_batch_show_one_part_of_a_plane(start: Start) -> None:
    training = start(augment={"views": 2}, steps=1)
    finished(training)
    groups = training._data.groups
    home = {id(sample): i for i, group in enumerate(groups) for sample in group}
    for count in (1, 2, 5, 8, 16):
        batch = batches.draw(training._data, count, np.random.default_rng(count), paired=True)
        assert len(batch) == count
        homes = [home[id(sample)] for sample in batch]
        assert homes[0 : count - 1 : 2] == homes[1::2]
        assert all(batch[i] is not batch[i + 1] for i in range(0, count - 1, 2))
        if count <= 2 * len(groups):
            assert len(set(homes)) == (count + 1) // 2


def test_steps_draw_different_views(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []
    draw = batches.draw

    def noted(*arguments: Any, **options: Any) -> Any:
        batch = draw(*arguments, **options)
        drawn.append(tuple(map(id, batch)))
        return batch

    monkeypatch.setattr("napari_boxprompt.training.steps.draw", noted)
    finished(start(steps=8))
    assert len(drawn) == 8
    assert len(set(drawn)) >= 4


def test_batches_without_pairs_show_different_planes(start: Start) -> None:
    training = start(steps=1)
    finished(training)
    groups = training._data.groups
    home = {id(sample): i for i, group in enumerate(groups) for sample in group}
    batch = batches.draw(training._data, len(groups), np.random.default_rng(0), paired=False)
    assert sorted(home[id(sample)] for sample in batch) == list(range(len(groups)))


def test_learning_rate_of_the_paper_drops_once() -> None:
    assert [batches.schedule(i / 4, "step") for i in range(5)] == [1.0, 1.0, 0.1, 0.1, 0.1]


def test_learning_rate_warms_up_and_fades() -> None:
    rates = [batches.schedule(i / 100, "cosine") for i in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] == pytest.approx(0.02)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[:5] == sorted(rates[:5])
