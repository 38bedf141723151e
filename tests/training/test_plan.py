"""What a training encodes stays within its budget, however many planes have boxes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.helpers.synthetic import Scene

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.config import TrainConfig, make_config
from napari_boxprompt.estimates import Timings, estimate_seconds
from napari_boxprompt.images import Images, Normalization, open_images
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.training import fit
from napari_boxprompt.training.plan import MAX_HELD_VIEWS, Plan, make_plan, most_objects

MANY = 400
PLANES = [PlaneId("stack", (i,)) for i in range(MANY)]


@pytest.fixture(scope="module")
def images() -> Images:
    return open_images(np.zeros((MANY, 128, 128), np.uint8), name="stack", rgb=False)


def boxes_on_all(few: int = 0) -> BoxSet:
    """Boxes on all planes, on some of them many; two of the planes have the only boxes of a class."""
    boxes = [Box(50, 50, 70, 70, plane, "cell") for plane in PLANES]
    boxes += [Box(20 * k, 100, 20 * k + 10, 110, plane, "cell") for plane in PLANES[:few] for k in range(6)]
    boxes += [Box(5, 5, 20, 20, plane, "crystal") for plane in PLANES[7:9]]
    return BoxSet(tuple(boxes), {}, ("cell", "crystal")).complete()


def planned(images: Images, boxes: BoxSet, tile: float | None = None, **settings: object) -> Plan:
    config = make_config("balanced", augment={"views": 4, "emptied": 0}, **settings)
    return make_plan(images, boxes, config, tile, np.random.default_rng(config.seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("planes", "tile"), [(MANY, None), (MANY, 32.0), (100, 32.0), (150, None)])
def test_views_stay_within_the_budget(images: Images, planes: int, tile: float | None, seed: int) -> None:
    boxes = boxes_on_all(few=3).restrict(PLANES[:planes])
    plan = planned(images, boxes, tile, max_encodings=120, seed=seed)
    held = [view for plane in plan.held & plan.bases.keys() for view in plan.bases[plane]]
    trained = plan.bases.keys() - plan.held
    assert len(plan.held) == planes // 10
    assert 0 < len(held) <= MAX_HELD_VIEWS
    assert plan.encodings - len(held) <= 120
    assert len(trained) == min(120, planes - len(plan.held))
    assert plan.left_out == planes - len(plan.held) - len(trained)
    assert trained & set(PLANES[7:9]), "a class with few boxes is learnt"


def test_more_boxes_do_not_change_at_large_which_planes_are_learnt(images: Images) -> None:
    boxes = boxes_on_all()
    before = planned(images, boxes.restrict(PLANES[:-20]), max_encodings=120)
    now = planned(images, boxes, max_encodings=120)
    assert len(now.bases.keys() & before.bases.keys()) > 0.85 * len(now.bases)


def test_planes_that_are_left_out_are_counted_and_cost_nothing(
    scene: Scene, encoder: Encoder, normalization: Normalization, quick: Callable[..., TrainConfig]
) -> None:
    config = quick(max_encodings=3, steps=1, hold_out=0.2)
    run = fit(scene.images, scene.boxes, config, encoder, normalization)
    list(run)
    record = run.model.record
    assert (record["planes"], record["left_out"], len(record["learnt"])) == (4, 2, 3)
    assert estimate_seconds(scene.images, scene.boxes, config, Timings(0, 0, 1)) == 4 * 3, "boxes of a plane"


def test_a_plane_that_is_not_complete_can_say_that_there_are_several(scene: Scene) -> None:
    first, *rest = scene.images.planes
    counts = {first: 3} | dict.fromkeys(rest, 1)
    boxes = BoxSet(tuple(Box(10, 20 * i, 20, 20 * i + 10, p) for p, n in counts.items() for i in range(n)))
    assert most_objects(boxes.complete(rest)) == {"object": 3}
    assert most_objects(boxes.complete(rest[:2])) == {}, "two complete planes say too little"
