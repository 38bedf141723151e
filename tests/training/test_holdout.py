"""What is held out stays held out, and planes that were learnt from are not used to judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.helpers.synthetic import Scene

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.prompting import PromptModel
from napari_boxprompt.training import fit
from napari_boxprompt.training.holdout import NO_PAST, Past, choose_held, noted_planes, stable_place

PLANES = [PlaneId(f"image{i % 3}.tif", (i,)) for i in range(40)]


def of_one_class(planes: list[PlaneId]) -> dict[PlaneId, set[str]]:
    return {plane: {"cell"} for plane in planes}


def learnt_by(boxed: list[PlaneId], held: set[PlaneId]) -> frozenset[PlaneId]:
    return frozenset(boxed) - held


@pytest.mark.parametrize("order", [PLANES, PLANES[::-1], PLANES[7:] + PLANES[:7]])
@pytest.mark.parametrize("seed", range(5))
def test_more_boxes_leave_held_out_what_was(order: list[PlaneId], seed: int) -> None:
    past, earlier = NO_PAST, set[PlaneId]()
    for count in (3, 5, 9, 16, 25, 40):
        boxed = order[:count]
        held = choose_held(of_one_class(boxed), 0.1, seed, past)
        assert len(held) == max(1, round(0.1 * count))
        assert earlier <= held, "none of them is learnt from later"
        fair = held - past.learnt
        assert fair, "there is always a plane that neither round has learnt from"
        past, earlier = Past(frozenset(held), learnt_by(boxed, held)), held


def test_the_choice_does_not_depend_on_the_order_in_which_boxes_were_drawn() -> None:
    boxed = of_one_class(PLANES)
    assert choose_held(boxed, 0.2, 3, NO_PAST) == choose_held(of_one_class(PLANES[::-1]), 0.2, 3, NO_PAST)
    assert choose_held(boxed, 0.2, 3, NO_PAST) != choose_held(boxed, 0.2, 4, NO_PAST)


def test_two_planes_are_both_learnt_from() -> None:
    assert choose_held(of_one_class(PLANES[:2]), 0.5, 0, NO_PAST) == set()
    assert choose_held(of_one_class(PLANES), 0.0, 0, Past(held=frozenset(PLANES[:3]))) == set()


@pytest.mark.parametrize("past", [NO_PAST, Past(held=frozenset(PLANES[:3]))])
@pytest.mark.parametrize("seed", range(5))
def test_a_class_is_never_held_out_whole(past: Past, seed: int) -> None:
    boxed = of_one_class(PLANES[:8])
    boxed[PLANES[0]] = {"cell", "crystal"}
    for plane in PLANES[1:3]:
        boxed[plane] = {"crystal", "fibre"}
    held = choose_held(boxed, 0.5, seed, past)
    assert len(held) == 4, "others take their places"
    assert set().union(*(boxed[plane] for plane in boxed if plane not in held)) == {
        "cell",
        "crystal",
        "fibre",
    }
    each = {plane: {plane.image, str(i)} for i, plane in enumerate(PLANES[:4])}
    assert choose_held(each, 0.5, seed, past) == set(), "each has a class of its own"


def test_what_was_held_out_never_becomes_most_of_the_planes() -> None:
    assert len(choose_held(of_one_class(PLANES[:6]), 0.1, 0, Past(held=frozenset(PLANES[:6])))) == 3


def test_planes_that_nobody_has_learnt_from_come_first() -> None:
    boxed = PLANES[:10]
    past = Past(learnt=frozenset(boxed[:9]))
    assert choose_held(of_one_class(boxed), 0.1, 0, past) == {boxed[9]}
    assert choose_held(of_one_class(boxed), 0.1, 0, NO_PAST, accepted=boxed[1:]) == {boxed[0]}
    assert len(choose_held(of_one_class(boxed), 0.1, 0, Past(learnt=frozenset(boxed)))) == 1


def test_places_are_those_of_every_run() -> None:
    assert stable_place(PlaneId("a.tif", (3,)), 0).startswith("aea6")


def test_a_model_says_what_it_learnt_and_what_it_held_out(
    scene: Scene, quick: Callable[..., Any], encoder: Encoder, normalization: Normalization
) -> None:
    def train(count: int, start: PromptModel | None = None, previous: PromptModel | None = None) -> Any:
        boxes = scene.boxes.restrict(scene.images.planes[:count])
        config = quick(steps=1, validate_every=1)
        run = fit(scene.images, boxes, config, encoder, normalization, None, start=start, previous=previous)
        assert list(run)
        return run.model

    first = train(4)
    held, learnt = noted_planes(first, "held_out"), noted_planes(first, "learnt")
    assert held is not None
    assert learnt is not None
    assert len(held) == 1
    assert held | learnt == set(scene.images.planes[:4])
    for again in (train(6, start=first), train(6, previous=first)):
        assert noted_planes(again, "held_out") == held
        assert noted_planes(again, "learnt") == set(scene.images.planes) - held
    fewer = train(3, start=first)
    assert learnt <= (noted_planes(fewer, "learnt") or set()), "also what the model it began with has seen"
    assert Past.of(None) == NO_PAST


def test_a_model_that_says_nothing_is_not_taken_for_one_that_learnt_nothing(trained: Any) -> None:
    from dataclasses import replace

    from napari_boxprompt.training.holdout import plane_notes

    old = replace(trained.model, record={"steps": 3})
    assert noted_planes(old, "learnt") is None
    assert Past.of(old) == NO_PAST
    assert plane_notes(PLANES[:1], PLANES[1:2], old) == {"held_out": [["image0.tif", [0]]], "learnt": None}
