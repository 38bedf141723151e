"""Planes whose objects are painted over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.helpers.synthetic import Scene, finish, make_scene

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.config import OURS, TrainConfig, make_config
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.training.batches import draw
from napari_boxprompt.training.dataset import build_dataset
from napari_boxprompt.training.emptied import emptied
from napari_boxprompt.training.plan import Plan, make_plan
from napari_boxprompt.training.renewal import renew_masks
from napari_boxprompt.views import GRID, View, inside_plane

MakeConfig = Callable[..., TrainConfig]

PLANE = PlaneId("image")
WHOLE = View.whole((120, 160))


def bright(dtype: str = "uint16", channels: int = 1, scale: float = 1.0) -> tuple[npt.NDArray[Any], BoxSet]:
    """Return a noisy background, brighter to the right, with two bright objects, and boxes round these."""
    rng = np.random.default_rng(0)
    pixels = 100 + np.linspace(0, 60, 160)[None] + rng.normal(0, 5, (120, 160))
    pixels[30:60, 20:50] += 500
    pixels[80:120, 100:130] += 500
    boxes = (Box(30, 20, 60, 50, PLANE, "object", 1), Box(80, 100, 120, 130, PLANE, "object", 2))
    return (scale * pixels[..., None].repeat(channels, 2)).astype(dtype), BoxSet(
        boxes, planes={PLANE: PlaneInfo(complete=True)}
    )


def empty(pixels: npt.NDArray[Any], boxes: BoxSet, view: View = WHOLE) -> npt.NDArray[Any]:
    return emptied(pixels, boxes, PLANE, view, np.random.default_rng(1))


# --- what is painted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "channels", "scale"), [("uint16", 1, 1), ("uint8", 3, 0.3), ("float32", 1, 1e-3)]
)
def test_objects_get_brightness_and_noise_of_the_background_around(
    dtype: str, channels: int, scale: float
) -> None:
    pixels, boxes = bright(dtype, channels, scale)
    found = empty(pixels, boxes)
    assert found.shape == pixels.shape
    assert found.dtype == pixels.dtype
    for rows, columns in ((slice(30, 60), slice(20, 50)), (slice(80, 120), slice(100, 130))):
        painted = found[rows, columns].astype(float) / scale
        middle = np.linspace(0, 60, 160)[columns].mean() + 100
        assert painted.mean() == pytest.approx(middle, abs=8)
        assert 3 < painted.std() < 10


def test_what_is_far_from_boxes_stays_as_it_is() -> None:
    pixels, boxes = bright()
    found = empty(pixels, boxes)
    changed = np.argwhere((found != pixels).any(axis=2))
    assert (found[:25] == pixels[:25]).all()
    assert (found[:, 140:] == pixels[:, 140:]).all()
    assert changed.min(axis=0).tolist() == [27, 17]  # a tenth of the box beyond it


def test_pixels_that_are_no_numbers_are_painted_over_too() -> None:
    pixels, boxes = bright("float32")
    pixels[0, :3, 0] = np.nan, np.inf, -np.inf
    found = empty(pixels, boxes)
    assert np.isfinite(found).all()
    assert 50 < found[0, :3].min() < found[0, :3].max() < 200


def test_of_a_plane_without_a_background_that_is_known_nothing_is_left() -> None:
    pixels, boxes = bright("float32")
    pixels[pixels < 400] = np.nan
    assert not empty(pixels, boxes).any()


def test_of_a_tile_only_its_part_of_the_plane_is_made() -> None:
    pixels, boxes = bright()
    found = empty(pixels, boxes, View.square(40, 0, 64))
    assert found.shape == (64, 64, 1)
    assert (found[-20:, -10:] == pixels[84:104, 54:64]).all()
    assert found.max() < 200


# --- which planes -------------------------------------------------------------------------------------------


@pytest.fixture
def dense() -> Scene:
    """Return ten complete planes."""
    return make_scene([(96, 128)] * 10)


def plan_of(scene: Scene, boxes: BoxSet, share: float = 0.2, tile: float | None = None) -> Plan:
    config = make_config("fast", augment={"emptied": share}, hold_out=0.2)
    return make_plan(scene.images, boxes, config, tile, np.random.default_rng(0))


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.01, 1), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_a_share_of_the_complete_planes_that_are_not_held_out(dense: Scene, share: float, count: int) -> None:
    plan = plan_of(dense, dense.boxes, share)
    assert len(plan.empty) == len(set(plan.empty)) == count
    assert not set(plan.empty) & plan.held


def test_of_planes_that_are_not_complete_nothing_is_known(dense: Scene) -> None:
    planes = {plane: replace(info, complete=False) for plane, info in dense.boxes.planes.items()}
    boxes = BoxSet(dense.boxes.boxes, planes=planes)
    assert not plan_of(dense, boxes).empty
    some = sorted(planes)[:5]
    boxes = BoxSet(dense.boxes.boxes, planes={**planes, **{p: PlaneInfo(complete=True) for p in some}})
    assert set(plan_of(dense, boxes, 1.0).empty) <= set(some)


def test_who_shows_an_empty_plane_needs_no_made_up_ones(dense: Scene) -> None:
    nothing = sorted(dense.boxes.planes)[3]
    boxes = BoxSet([box for box in dense.boxes.boxes if box.plane != nothing], planes=dense.boxes.planes)
    assert not plan_of(dense, boxes).empty


def test_nor_do_tiles_of_which_some_are_empty(dense: Scene) -> None:
    assert plan_of(dense, dense.boxes).empty
    assert not plan_of(dense, dense.boxes, tile=32.0).empty


def test_an_image_is_not_made_without_the_one_organ_that_it_shows(dense: Scene) -> None:
    first = {plane: dense.boxes.on(plane)[0] for plane in dense.images.planes}
    assert not plan_of(dense, BoxSet(first.values(), planes=dense.boxes.planes), 1.0).empty


def test_a_plane_full_of_objects_does_not_tell_what_background_is(dense: Scene) -> None:
    planes = dense.images.planes
    boxes = [
        Box(32 * k, 0, 32 * (k + 1), 128, plane, "object", 3 * i + k)
        for i, plane in enumerate(planes)
        for k in range(3)
    ]
    assert not plan_of(dense, BoxSet(boxes, planes=dense.boxes.planes), 1.0).empty


def test_presets_of_ours_have_emptied_views_and_the_published_ones_do_not() -> None:
    assert all(make_config(name).augment.emptied > 0 for name in OURS)
    assert make_config("paper").augment.emptied == make_config("paper-2024").augment.emptied == 0


# --- what is learnt -----------------------------------------------------------------------------------------


def test_an_emptied_view_says_that_all_of_it_is_background_and_stays_when_masks_are_renewed(
    dense: Scene, encoder: Encoder, normalization: Normalization, quick: MakeConfig
) -> None:
    config = quick(augment={"views": 1, "emptied": 0.4}, hold_out=0.2)
    building = build_dataset(dense.images, dense.boxes, config, encoder, normalization, None)
    data, events = finish(building)
    assert events[-1].done == events[-1].total == len(events)
    for _ in range(2):
        assert [len(group) for group in data.emptied] == [2, 2, 2]
        for sample in (sample for group in data.emptied for sample in group):
            (targets,) = sample.targets
            assert torch.equal(targets.outside, inside_plane((96, 128), sample.view))
            assert not targets.pseudo.any()
        finish(renew_masks(data, lambda sample: torch.full((1, GRID, GRID), 9.0)))


@pytest.mark.parametrize("paired", [True, False])
def test_a_share_of_what_is_drawn_is_empty(
    dense: Scene, encoder: Encoder, normalization: Normalization, quick: MakeConfig, paired: bool
) -> None:
    config = quick(augment={"views": 1, "emptied": 0.1})
    data, _ = finish(build_dataset(dense.images, dense.boxes, config, encoder, normalization, None))
    assert len(data.emptied) == 1

    def share(emptied: float) -> float:
        rng = np.random.default_rng(0)
        drawn = [s for _ in range(500) for s in draw(data, 4, rng, paired=paired, emptied=emptied)]
        return float(np.mean([not any(sample.plane.labels) for sample in drawn]))

    assert share(0.0) == 0
    assert share(0.1) == pytest.approx(0.1, abs=0.03)
    assert share(1.0) == 1
