"""Rounds are judged on boxes that nobody has learnt from, and by a measure of which it is known who wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.synthetic import CountingImages, Scene, finish, make_scene

from napari_boxprompt import judging
from napari_boxprompt.api import TrainedModel, judge_model
from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.events import Progress
from napari_boxprompt.judging import Judgement, round_of
from napari_boxprompt.project import Round, describe, verdict
from napari_boxprompt.training.holdout import noted_planes

Judge = Callable[..., Judgement]


def unlearnt(trained: TrainedModel, count: int = 3) -> TrainedModel:
    """The model as one that has learnt from all but the first planes of `scene`."""
    learnt = [[f"plane{i}.tif", []] for i in range(count, 6)]
    return with_record(trained, learnt=learnt)


def with_record(trained: TrainedModel, **changes: Any) -> TrainedModel:
    model = replace(trained.model, record={**trained.model.record, **changes})
    return replace(trained, model=model)


def spoiled(trained: TrainedModel, amount: float) -> TrainedModel:
    """A model that finds less: everything it sees is darker."""
    weights = dict(trained.model.weights)
    name = next(name for name in weights if name.endswith("output.bias"))
    frozen: Any = trained.encoder.frozen
    weights[name] = weights[name] - amount * frozen.readout
    return replace(trained, model=replace(trained.model, weights=weights))


@pytest.fixture
def scene_judge(scene: Scene) -> Judge:
    def judge(model: TrainedModel, previous: TrainedModel | None = None, **options: Any) -> Judgement:
        found, _ = finish(judge_model(model, scene.images, scene.boxes, previous, **options))
        assert isinstance(found, Judgement)
        return found

    return judge


def test_the_better_model_wins_and_the_frozen_one_is_measured_too(
    scene_judge: Judge, trained: TrainedModel, scene: Scene
) -> None:
    good = unlearnt(trained)
    bad = spoiled(good, 0.3)
    found = scene_judge(good, bad)
    assert set(found.planes) == set(scene.images.planes[:3])
    assert found.boxes == 9
    assert found.scores["box_agreement"] > 0.85
    assert found.frozen["box_agreement"] > 0.85
    assert found.previous["box_agreement"] < found.scores["box_agreement"]
    assert found.reason == ""
    record = round_of(2, good.model, found, against=1)
    assert verdict(record) == "better"
    assert "better than round 1" in describe(record)
    other = scene_judge(bad, good)
    assert (other.scores, other.previous) == (found.previous, found.scores)
    assert verdict(round_of(3, bad.model, other, against=2)) == "worse"


def test_a_model_is_as_good_as_itself(scene_judge: Judge, trained: TrainedModel) -> None:
    found = scene_judge(unlearnt(trained), unlearnt(trained))
    assert found.scores == found.previous
    assert found.margins["previous"] == 0
    record = round_of(2, trained.model, found, against=1)
    assert verdict(record) == "same"
    said = ", as good as round 1. The model without training, given these boxes, agrees 0."
    assert said in describe(record)


def test_only_planes_that_neither_has_learnt_from_are_looked_at(trained: TrainedModel, scene: Scene) -> None:
    images = CountingImages(scene.images)
    new, old = unlearnt(trained, 3), unlearnt(trained, 2)
    found, events = finish(judge_model(new, images, scene.boxes, old))
    assert set(found.planes) == set(images.reads) == set(scene.images.planes[:2])
    assert [event.done for event in events] == list(range(1, 7))
    assert {(event.phase, event.total) for event in events if isinstance(event, Progress)} == {
        ("evaluate", 6)
    }


def test_what_a_training_held_out_is_what_it_is_judged_on(scene_judge: Judge, trained: TrainedModel) -> None:
    found = scene_judge(trained)
    assert set(found.planes) == noted_planes(trained.model, "held_out")
    assert found.previous == {}
    assert found.boxes == 3
    assert "The model without training, given these boxes, agrees" in describe(
        round_of(1, trained.model, found)
    )


def test_nothing_is_encoded_that_the_training_has_seen(
    scene_judge: Judge, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: Any = trained.encoder.frozen
    before = frozen.encoded
    scene_judge(trained, trained)
    assert frozen.encoded == before


def test_too_few_held_out_boxes_say_nothing(trained: TrainedModel, scene: Scene) -> None:
    new = unlearnt(trained, 1)
    boxes = replace(scene.boxes, boxes=scene.boxes.boxes[:2])
    found, _ = finish(judge_model(new, scene.images, boxes, new))
    assert found.boxes == 2
    assert (found.previous, found.frozen, found.margins) == ({}, {}, {})
    assert found.scores["box_agreement"] > 0.5
    record = round_of(2, new.model, found, against=1)
    assert verdict(record) == verdict(record, "frozen") == "unknown"
    assert describe(record).endswith(
        "with 2 boxes that it did not learn from. Models are not compared: only 2 boxes were held out to "
        "check on. Boxes on more planes help."
    )


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        ({"learnt": None}, {}, "does not say which planes it has learnt"),
        ({"learnt": [[f"plane{i}.tif", []] for i in range(6)]}, {}, "No boxed plane was held out"),
        ({}, {"learnt": None}, "model before does not say"),
        ({}, {"learnt": [[f"plane{i}.tif", []] for i in range(6)]}, "has learnt from the planes"),
    ],
)
def test_why_nothing_can_be_said(
    scene_judge: Judge, trained: TrainedModel, new: dict[str, Any], old: dict[str, Any], said: str
) -> None:
    model = unlearnt(trained)
    found = scene_judge(with_record(model, **new), with_record(model, **old))
    assert said in found.reason
    assert found.previous == {}
    assert bool(found.scores) == (not new), "the new one is judged by itself where it can be"
    assert verdict(round_of(2, model.model, found, against=1)) == "unknown"
    if not found.scores:
        assert describe(round_of(2, model.model, found)).startswith("Round 2 could not be judged. ")


def test_models_of_other_classes_are_not_compared(scene_judge: Judge, trained: TrainedModel) -> None:
    model = unlearnt(trained)
    other = replace(model, model=replace(model.model, classes=("something",)))
    found = scene_judge(model, other)
    assert found.previous == {}
    assert "other classes" in found.reason
    nothing = scene_judge(other, model)
    assert (nothing.scores, nothing.reason) == ({}, "No box has a class that the model knows.")


def test_accepted_masks_of_held_out_planes_give_a_dice(
    scene_judge: Judge, trained: TrainedModel, scene: Scene
) -> None:
    plane = scene.images.planes[1]
    masks = {plane: scene.mask(plane).astype(np.uint8)}
    model = unlearnt(trained)
    found = scene_judge(model, spoiled(model, 0.3), masks=masks)
    assert found.scores["mask_dice"] > 0.9
    assert found.previous["mask_dice"] < found.scores["mask_dice"]
    layered = {plane: mask[np.newaxis] for plane, mask in masks.items()}
    assert scene_judge(model, masks=layered).scores == found.scores
    learnt = scene.images.planes[5]
    assert "mask_dice" not in scene_judge(model, masks={learnt: scene.mask(learnt)}).scores


def test_many_tiles_are_not_all_looked_at(trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    large = make_scene(((400, 400),), objects=12, radius=0.04, seed=4)
    boxes = large.boxes
    tiled = with_record(trained, learnt=[])
    tiled = replace(tiled, model=replace(tiled.model, tile=64.0))
    frozen: Any = trained.encoder.frozen
    before = frozen.encoded
    monkeypatch.setattr(judging, "MOST_VIEWS", 20)
    found, _ = finish(judge_model(tiled, large.images, boxes))
    assert 3 <= found.boxes < 12
    assert frozen.encoded - before <= 20
    monkeypatch.setattr(judging, "MOST_VIEWS", 1000)
    whole, _ = finish(judge_model(tiled, large.images, boxes))
    assert whole.boxes == 12
    assert whole.scores["box_agreement"] > 0.7


def test_classes_are_measured_each_for_itself(trained: TrainedModel, scene: Scene) -> None:
    """A model that takes every object for one of the other class agrees with no box."""
    model = unlearnt(trained)
    single: dict[str, torch.Tensor] = dict(model.model.weights)
    doubled = {name.replace(".0.", ".1.", 1): value for name, value in single.items()}
    silent = spoiled(model, 50.0).model.weights
    weights = {**silent, **doubled}
    both = replace(model, model=replace(model.model, classes=("object", "other"), weights=weights))
    found, _ = finish(judge_model(both, scene.images, scene.boxes))
    assert found.scores["box_agreement"] == 0
    assert found.frozen["box_agreement"] > 0.8


def test_a_small_difference_may_be_chance() -> None:
    record = Round(
        number=4,
        scores={"box_agreement": 0.80},
        previous={"box_agreement": 0.82},
        margins={"previous": 0.03},
        held_out=2,
        held_out_boxes=7,
        against=2,
    )
    assert verdict(record) == "same"
    assert describe(record) == (
        "Round 4 agrees 0.80 with 7 boxes that it did not learn from, as good as round 2 "
        "(-0.02 may be chance)."
    )
    assert verdict(record.model_copy(update={"margins": {"previous": 0.01}})) == "worse"


def test_no_boxes_on_the_images_that_are_open(trained: TrainedModel, scene: Scene) -> None:
    found, _ = finish(
        judge_model(
            trained,
            scene.images,
            BoxSet((), {PlaneId("plane0.tif"): scene.boxes.planes[PlaneId("plane0.tif")]}),
        )
    )
    assert "held out" in found.reason
