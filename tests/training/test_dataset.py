from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.synthetic import CountingImages, FakeModel, Scene, finish, make_scene

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import BoxError
from napari_boxprompt.events import Progress
from napari_boxprompt.images import Images, Normalization, open_images
from napari_boxprompt.models.encoding import Encoder, PlanePixels
from napari_boxprompt.training.dataset import Dataset, build_dataset
from napari_boxprompt.training.plan import (
    MAX_HELD_VIEWS,
    most_objects,
    symmetric,
    working_generator,
    working_tile,
)
from napari_boxprompt.views import GRID, View

MakeConfig = Callable[..., TrainConfig]
AS_IS = {"views": 0, "emptied": 0}
Build = Callable[..., tuple[Dataset, list[Progress]]]


@pytest.fixture
def build(encoder: Encoder, normalization: Normalization) -> Build:
    """Run `build_dataset` to its end."""

    def run(
        images: Images, boxes: BoxSet, config: TrainConfig, tile: float | None = None
    ) -> tuple[Dataset, list[Progress]]:
        found: tuple[Dataset, list[Progress]] = finish(
            build_dataset(images, boxes, config, encoder, normalization, tile)
        )
        return found

    return run


def views_of(data: Dataset) -> list[View]:
    return [sample.view for group in data.groups for sample in group]


def trained_planes(data: Dataset) -> set[PlaneId]:
    return {targets.plane for targets in data.planes}


# --- what is read -------------------------------------------------------------------------------------------


def test_only_boxed_planes_are_read_each_once(scene: Scene, build: Build, quick: MakeConfig) -> None:
    images = CountingImages(scene.images)
    chosen = [scene.images.planes[i] for i in (1, 3, 4)]
    build(images, scene.boxes.restrict(chosen), quick())
    assert images.reads == chosen


def test_unboxed_planes_in_the_set_are_not_read(scene: Scene, build: Build, quick: MakeConfig) -> None:
    images, planes = CountingImages(scene.images), scene.images.planes
    kept = tuple(box for box in scene.boxes.boxes if box.plane in planes[:2])
    infos = {plane: PlaneInfo(scene.images.shape(plane)) for plane in planes}
    build(images, BoxSet(kept, infos), quick())
    assert images.reads == list(planes[:2])


@pytest.mark.parametrize("boxed", [0, 1])
def test_fewer_than_two_boxed_planes_are_refused(
    scene: Scene, build: Build, quick: MakeConfig, boxed: int
) -> None:
    planes = scene.images.planes
    some = tuple(box for box in scene.boxes.boxes if box.plane in planes[:boxed])
    boxes = BoxSet(some, {}, ("object",)).complete(planes)
    images = CountingImages(scene.images)
    with pytest.raises(BoxError, match="at least two planes"):
        build(images, boxes, quick())
    assert not images.reads


# --- hold-out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fraction", "count"), [(0.1, 1), (0.25, 2), (0.5, 3), (0.0, 0)])
def test_held_out_planes_are_not_trained_on(
    scene: Scene,
    build: Build,
    quick: MakeConfig,
    encoder: Encoder,
    normalization: Normalization,
    fraction: float,
    count: int,
) -> None:
    data, _ = build(scene.images, scene.boxes, quick(hold_out=fraction))
    held = [plane for plane in scene.images.planes if plane not in trained_planes(data)]
    assert len(held) == len(data.held) == count
    assert len(data.groups) == 6 - count
    for plane, sample in zip(held, data.held, strict=True):
        view = View.whole(scene.images.shape(plane))
        pixels = PlanePixels(scene.images.read(plane), normalization)
        assert torch.equal(sample.embedding, encoder.encode(encoder.inputs(pixels, [view]))[0])
        same = [torch.equal(sample.image, other.image) for group in data.groups for other in group]
        assert not any(same)


def test_two_boxed_planes_are_both_trained_on(scene: Scene, build: Build, quick: MakeConfig) -> None:
    chosen = scene.images.planes[:2]
    data, _ = build(scene.images, scene.boxes.restrict(chosen), quick(hold_out=0.5))
    assert trained_planes(data) == set(chosen)
    assert not data.held


def test_empty_complete_planes_are_trained_on_and_never_held(
    scene: Scene, build: Build, quick: MakeConfig
) -> None:
    planes = scene.images.planes
    some = tuple(box for box in scene.boxes.boxes if box.plane in planes[:3])
    boxes = BoxSet(some).complete(planes)
    for seed in range(4):
        data, _ = build(scene.images, boxes, quick(hold_out=0.5, seed=seed, augment=AS_IS))
        assert set(planes[3:]) < trained_planes(data)
        assert len(data.groups) == 4
    empty = data.groups[-1][0].targets[0]
    assert not empty.pseudo.any()
    assert empty.outside.any()


# --- views --------------------------------------------------------------------------------------------------


def test_every_group_is_a_view_and_its_perturbed_copies(
    scene: Scene, build: Build, quick: MakeConfig, frozen: FakeModel
) -> None:
    data, events = build(scene.images, scene.boxes, quick(augment={"views": 3, "gamma": 1.5, "emptied": 0}))
    for group, targets in zip(data.groups, data.planes, strict=True):
        assert [sample.view for sample in group[:1]] == [View.whole(targets.shape)]
        assert len(group) == 4
        assert len({sample.view for sample in group}) == 4
        assert all(abs(sample.view.matrix[1]) > 0 for sample in group[1:])
        for sample in group:
            assert sample.embedding.shape == (256, 64, 64)
            assert sample.embedding.dtype == torch.float16
            assert sample.image.shape == (3, GRID, GRID)
            assert sample.image.dtype == torch.uint8
            assert len(sample.targets) == 1
    assert [event.done for event in events] == list(range(1, 22))
    assert {(event.total, event.phase) for event in events} == {(21, "encode")}
    assert frozen.encoded == 21


def test_pixels_and_supervision_of_a_sample_fit_each_other(
    scene: Scene, build: Build, quick: MakeConfig
) -> None:
    augment = {"views": 3, "emptied": 0, "rotation": 90.0, "mirror": "yes", "gamma": 1.5}
    data, _ = build(scene.images, scene.boxes, quick(augment=augment))
    for sample in (sample for group in data.groups for sample in group):
        (target,) = sample.targets
        bright = sample.image[0].float() / 255
        assert bright[target.pseudo].mean() > 0.9 * 0.8**sample.view.gamma
        assert bright[target.outside].mean() < 0.25


@pytest.mark.parametrize(("cap", "views"), [(5, 0), (9, 0), (10, 1), (17, 2), (1000, 4)])
def test_augmented_views_fill_the_budget(
    scene: Scene, build: Build, quick: MakeConfig, cap: int, views: int
) -> None:
    data, _ = build(scene.images, scene.boxes, quick(max_encodings=cap, augment={"views": 4, "emptied": 0}))
    assert [len(group) for group in data.groups] == [1 + views] * 5
    assert len(views_of(data)) <= cap


@pytest.mark.parametrize("cap", [8, 15, 20])
def test_tiles_are_left_out_where_there_are_too_many(
    scene: Scene, build: Build, quick: MakeConfig, cap: int
) -> None:
    every, _ = build(scene.images, scene.boxes, quick(max_encodings=500, augment=AS_IS), 48.0)
    data, _ = build(scene.images, scene.boxes, quick(max_encodings=cap, augment=AS_IS), 48.0)
    assert len(views_of(every)) > 30
    assert len(views_of(data)) <= cap
    assert trained_planes(data) == trained_planes(every)
    assert set(views_of(data)) < set(views_of(every))


def seen_fraction(view: View, box: Box) -> float:
    y0, x0, y1, x1 = view.boxes_to_grid(np.array([box.as_tuple()]))[0]
    y, x = (max(0.0, min(b, GRID) - max(a, 0.0)) for a, b in ((y0, y1), (x0, x1)))
    return float(y * x / ((y1 - y0) * (x1 - x0)))


@pytest.mark.parametrize("complete", [True, False])
def test_tiles_show_a_box_or_are_known_to_be_empty(build: Build, quick: MakeConfig, complete: bool) -> None:
    scene = make_scene(((200, 200),), objects=3, radius=0.03)
    (plane,) = scene.images.planes
    twice = Images(dict.fromkeys(("a", "b"), scene.images._readers[plane.image]))
    drawn = scene.boxes.boxes
    boxes = BoxSet(tuple(replace(box, plane=twin) for twin in twice.planes for box in drawn))
    data, _ = build(twice, boxes.complete() if complete else boxes, quick(augment=AS_IS), 64.0)
    fractions = np.array([[seen_fraction(group[0].view, box) for box in drawn] for group in data.groups])
    np.testing.assert_allclose(fractions.max(axis=0), 1.0)
    boxed = int((fractions.max(axis=1) > 0.5).sum()) // 2
    assert boxed >= 3
    assert len(data.groups) == 2 * (boxed + (max(1, boxed // 4) if complete else 0))


def test_box_larger_than_the_tiles_is_still_learnt_from(
    scene: Scene, build: Build, quick: MakeConfig
) -> None:
    planes = scene.images.planes[:2]
    boxes = BoxSet((Box(2, 2, 90, 94, planes[0]), Box(30, 20, 44, 40, planes[1])))
    data, _ = build(scene.images, boxes, quick(), 32.0)
    assert trained_planes(data) == set(planes)
    assert data.groups[0][0].targets[0].valid.all()


def test_few_views_are_held(scene: Scene, build: Build, quick: MakeConfig) -> None:
    data, _ = build(scene.images, scene.boxes, quick(hold_out=0.5, augment=AS_IS), 32.0)
    assert 3 <= len(data.held) <= MAX_HELD_VIEWS
    assert all(sample.view.axis_aligned for sample in data.held)


def test_the_seed_decides_everything(scene: Scene, build: Build, quick: MakeConfig) -> None:
    settings: dict[str, Any] = {"augment": {"views": 2, "emptied": 0}, "hold_out": 0.3}
    first, _ = build(scene.images, scene.boxes, quick(seed=3, **settings))
    again, _ = build(scene.images, scene.boxes, quick(seed=3, **settings))
    other, _ = build(scene.images, scene.boxes, quick(seed=4, **settings))
    assert views_of(first) == views_of(again)
    assert [t.plane for t in first.planes] == [t.plane for t in again.planes]
    for one, two in zip(first.groups, again.groups, strict=True):
        assert all(torch.equal(a.embedding, b.embedding) for a, b in zip(one, two, strict=True))
    assert views_of(first) != views_of(other)


# --- working scale ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "tile"), [("whole", None), (96.0, 96.0), ("auto", None)])
def test_setting_of_the_tile(
    scene: Scene, quick: MakeConfig, setting: str | float, tile: float | None
) -> None:
    assert working_tile(scene.boxes, scene.images, quick(tile=setting)) == tile


def test_tile_follows_small_objects(quick: MakeConfig) -> None:
    scene = make_scene(((400, 300), (300, 400)), objects=4, radius=0.03)
    sides = [box.area**0.5 for box in scene.boxes.boxes]
    assert np.median(sides) < 20
    assert working_tile(scene.boxes, scene.images, quick()) == 128.0


@pytest.mark.parametrize(
    ("setting", "tile", "chosen"),
    [("auto", None, "wide"), ("auto", 128.0, "light"), ("simple", None, "simple"), ("wide", 128.0, "wide")],
)
def test_generator_follows_the_tile(quick: MakeConfig, setting: str, tile: float | None, chosen: str) -> None:
    assert working_generator(quick(generator=setting), tile) == chosen


def boxes_at(*centres: float, width: int = 200) -> BoxSet:
    planes = [PlaneId("stack", (i,)) for i in range(len(centres))]
    boxes = tuple(
        Box(10, c * width - 8, 40, c * width + 8, plane) for c, plane in zip(centres, planes, strict=True)
    )
    return BoxSet(boxes, {plane: PlaneInfo((100, width)) for plane in planes})


@pytest.mark.parametrize(
    ("centres", "expected"),
    [
        ((0.2, 0.22, 0.18, 0.25, 0.21, 0.2), False),
        ((0.8, 0.78, 0.82, 0.75, 0.79), False),
        ((0.2, 0.8, 0.4, 0.7, 0.5, 0.45), True),
        ((0.52, 0.47, 0.5, 0.51, 0.49), True),
        ((0.5, 0.5, 0.5, 0.5), False),
    ],
)
def test_mirrored_views_only_where_boxes_lie_on_both_sides(
    centres: tuple[float, ...], expected: bool
) -> None:
    images = open_images(np.zeros((len(centres), 100, 200), np.uint8), name="stack")
    assert symmetric(boxes_at(*centres), images) is expected


def test_single_objects_are_known_from_complete_planes_alone() -> None:
    boxes = boxes_at(0.2, 0.5, 0.8)
    assert most_objects(boxes) == {}
    complete = replace(
        boxes, planes={plane: replace(info, complete=True) for plane, info in boxes.planes.items()}
    )
    assert most_objects(complete) == {complete.classes[0]: 1}
    twice = complete.with_boxes([*complete.boxes, Box(50, 10, 70, 30, complete.boxed_planes[0])])
    assert most_objects(twice) == {complete.classes[0]: 2}
