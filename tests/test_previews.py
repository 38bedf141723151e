from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.helpers.synthetic import FakeModel, Scene, make_scene, overlap, quick_config

from napari_boxprompt import previews
from napari_boxprompt.api import boxes_prediction, boxes_preview, encode_plane, make_encoder, preview_tile
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.events import Progress
from napari_boxprompt.images import Images, Normalization, open_images
from napari_boxprompt.models import EmbeddingCache
from napari_boxprompt.models.encoding import Encoder, PlanePixels
from napari_boxprompt.previews import BoxMasks
from napari_boxprompt.training.plan import working_tile

PLANE = PlaneId("plane3.tif")


class CountingModel(FakeModel):
    """Frozen model that counts the boxes it is asked about."""

    asked = 0

    def box_prompt(self, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += len(boxes)
        return super().box_prompt(boxes)


@pytest.fixture
def counting(fabric: Fabric) -> Encoder:
    return Encoder(CountingModel(), fabric)


def asked(encoder: Encoder) -> int:
    """How many boxes since the last call."""
    assert isinstance(encoder.frozen, CountingModel)
    count, encoder.frozen.asked = encoder.frozen.asked, 0
    return count


def masks(
    scene: Scene, encoder: Encoder, boxes: BoxSet, tile: float | None = None, memory: BoxMasks | None = None
) -> np.ndarray:
    scale = Normalization.fit(scene.images)
    plane = boxes.boxes[0].plane if boxes.boxes else PLANE
    return boxes_preview(encoder, PlanePixels(scene.images.read(plane), scale), boxes, plane, tile, memory)


# --- masks of boxes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [None, 96.0])
def test_boxes_become_masks(scene: Scene, encoder: Encoder, tile: float | None) -> None:
    boxes = scene.boxes.restrict([PLANE])
    found = masks(scene, encoder, boxes, tile)
    assert (found.dtype, found.shape) == (np.uint8, (160, 128))
    assert np.unique(found).tolist() == [0, 1]
    assert overlap(found, scene.mask(PLANE)) > 0.85
    inside = np.zeros(found.shape, bool)
    for box in boxes.boxes:
        inside[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = True
    assert not found[~inside].any()


def test_each_class_has_its_number(encoder: Encoder) -> None:
    scene = make_scene(((140, 160),), classes=(("bright", 0.9), ("dim", 0.6)), objects=2)
    (plane,) = scene.images.planes
    found = masks(scene, encoder, scene.boxes)
    assert overlap(found == 1, (scene.labels[plane] > 0) & (scene.labels[plane] <= 2)) > 0.85
    assert overlap(found == 2, scene.labels[plane] > 2) > 0.85
    turned = replace(scene.boxes, classes=("dim", "bright"))
    np.testing.assert_array_equal(masks(scene, encoder, turned), (3 - found) * (found > 0))


def test_small_boxes_lie_on_top_and_then_later_ones(encoder: Encoder) -> None:
    image = white()
    plane, scale = image.planes[0], Normalization(low=(0.0,), high=(255.0,))

    def found(*boxes: Box) -> np.ndarray:
        drawn = BoxSet(boxes, {}, ("a", "b"))
        return boxes_preview(encoder, PlanePixels(image.read(plane), scale), drawn, plane, None)

    small, large = Box(20, 20, 40, 40, plane, "a"), Box(8, 8, 56, 56, plane, "b")
    np.testing.assert_array_equal(found(small, large), found(large, small))
    assert (found(small, large)[24:36, 24:36] == 1).all()
    twin = replace(small, label="b")
    assert (found(small, twin)[24:36, 24:36] == 2).all()
    assert (found(twin, small)[24:36, 24:36] == 1).all()


def white() -> Images:
    return open_images(np.full((64, 64), 255, np.uint8), name="white")


def test_boxes_elsewhere_do_not_count(scene: Scene, encoder: Encoder) -> None:
    alone = masks(scene, encoder, scene.boxes.restrict([PLANE]))
    values, scale = scene.images.read(PLANE), Normalization.fit(scene.images)
    np.testing.assert_array_equal(
        boxes_preview(encoder, PlanePixels(values, scale), scene.boxes, PLANE, None), alone
    )
    assert not masks(scene, encoder, BoxSet()).any()


def test_boxes_across_the_border_are_cut(encoder: Encoder) -> None:
    image = white()
    plane, scale = image.planes[0], Normalization(low=(0.0,), high=(255.0,))
    boxes = BoxSet((Box(-20, -9.5, 30.5, 20, plane), Box(50, 70, 60, 90, plane)))
    found = boxes_preview(encoder, PlanePixels(image.read(plane), scale), boxes, plane, None)
    assert found[2:26, 2:16].all()
    assert not found[32:].any()
    assert not found[:, 22:].any()


def test_a_class_that_is_not_known_is_left_out(encoder: Encoder) -> None:
    image = white()
    plane, scale = image.planes[0], Normalization(low=(0.0,), high=(255.0,))
    boxes = BoxSet((Box(8, 8, 30, 30, plane, "gone"),), {}, ("object",))
    assert not boxes_preview(encoder, PlanePixels(image.read(plane), scale), boxes, plane, None).any()


# --- what is worked on --------------------------------------------------------------------------------------


def test_only_tiles_with_boxes_are_encoded(scene: Scene, encoder: Encoder) -> None:
    boxes = scene.boxes.with_boxes(scene.boxes.on(PLANE)[:1])
    masks(scene, encoder, boxes, 48.0)
    assert isinstance(encoder.frozen, FakeModel)
    assert encoder.frozen.encoded == 1


@pytest.mark.parametrize("tile", [None, 64.0])
def test_a_box_gives_the_same_mask_alone(scene: Scene, encoder: Encoder, tile: float | None) -> None:
    drawn = scene.boxes.on(PLANE)
    alone = [masks(scene, encoder, scene.boxes.with_boxes([box]), tile) for box in drawn]
    np.testing.assert_array_equal(masks(scene, encoder, scene.boxes.with_boxes(drawn), tile), sum(alone))


@pytest.mark.parametrize("tile", [None, 64.0])
def test_only_new_boxes_are_asked_about(scene: Scene, counting: Encoder, tile: float | None) -> None:
    memory: BoxMasks = {}
    drawn = scene.boxes.on(PLANE)
    masks(scene, counting, scene.boxes.with_boxes(drawn[:2]), tile, memory)
    assert asked(counting) == 2
    found = masks(scene, counting, scene.boxes.with_boxes(drawn), tile, memory)
    assert asked(counting) == 1
    np.testing.assert_array_equal(found, masks(scene, counting, scene.boxes.with_boxes(drawn), tile))
    assert asked(counting) == 3
    moved = replace(drawn[0], y0=drawn[0].y0 + 2)
    masks(scene, counting, scene.boxes.with_boxes((moved, *drawn[1:])), tile, memory)
    assert asked(counting) == 1
    named = BoxSet(tuple(replace(box, label="other") for box in drawn))
    assert masks(scene, counting, named, tile, memory).any()
    masks(scene, counting, scene.boxes.with_boxes(drawn[2:]), tile, memory)
    assert asked(counting) == 0, "a new name or fewer boxes are no work"


def test_memory_knows_planes_scales_and_tiles_apart(scene: Scene, counting: Encoder) -> None:
    memory: BoxMasks = {}
    other, scale = scene.images.planes[1], Normalization.fit(scene.images)
    for plane, normalization, tile in (
        (PLANE, scale, None),
        (other, scale, None),
        (PLANE, scale.model_copy(update={"gamma": 0.5}), None),
        (PLANE, scale, 64.0),
    ):
        boxes = BoxSet((Box(30, 30, 60, 60, plane),))
        for expected in (1, 0):
            boxes_preview(
                counting, PlanePixels(scene.images.read(plane), normalization), boxes, plane, tile, memory
            )
            assert asked(counting) == expected


def test_tiles_that_look_alike_are_told_apart(counting: Encoder) -> None:
    image = open_images(np.full((64, 128), 255, np.uint8), name="white")
    plane, scale = image.planes[0], Normalization(low=(0.0,), high=(255.0,))
    memory: BoxMasks = {}
    for x in (4, 100):
        boxes = BoxSet((Box(20, x, 40, x + 20, plane),))
        found = boxes_preview(counting, PlanePixels(image.read(plane), scale), boxes, plane, 64.0, memory)
        assert found[24:36, x + 4 : x + 16].all()
        assert found.sum() <= 400


def test_memory_has_an_end(scene: Scene, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    memory: BoxMasks = {}
    drawn = scene.boxes.on(PLANE)
    masks(scene, encoder, scene.boxes.with_boxes([drawn[0], drawn[2]]), None, memory)
    assert len(memory) == 2
    monkeypatch.setattr(previews, "MOST_BYTES", sum(mask.nbytes for mask in memory.values()))
    memory.clear()
    for box in (drawn[0], drawn[1], drawn[0], drawn[2]):
        masks(scene, encoder, scene.boxes.with_boxes([box]), None, memory)
    assert [key[-1] for key in memory] == [drawn[0].as_tuple(), drawn[2].as_tuple()]
    assert masks(scene, encoder, scene.boxes.with_boxes(drawn), None, memory).any()


@pytest.mark.parametrize(("tile", "count"), [(None, 1), (96.0, 4)])
def test_a_plane_is_encoded_ahead(
    scene: Scene, encoder: Encoder, normalization: Normalization, tile: float | None, count: int
) -> None:
    events = list(encode_plane(encoder, PlanePixels(scene.images.read(PLANE), normalization), tile))
    assert events == [Progress("encode", i + 1, count) for i in range(count)]
    assert isinstance(encoder.frozen, FakeModel)
    assert encoder.frozen.encoded == count
    masks(scene, encoder, scene.boxes.restrict([PLANE]), tile)
    assert encoder.frozen.encoded == count


def test_encoding_ahead_can_be_stopped(scene: Scene, encoder: Encoder, normalization: Normalization) -> None:
    steps = encode_plane(encoder, PlanePixels(scene.images.read(PLANE), normalization), 48.0)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert isinstance(encoder.frozen, FakeModel)
    assert encoder.frozen.encoded == 1


# --- working scale ------------------------------------------------------------------------------------------

SQUARE = open_images(np.zeros((3, 512, 512), np.uint8))


def boxed(*sides: float) -> BoxSet:
    return BoxSet(tuple(Box(0, 0, side, side, PlaneId("image", (i % 3,))) for i, side in enumerate(sides)))


def test_first_tile_is_that_of_a_training() -> None:
    for side in (4, 20, 25, 40, 50, 90, 400):
        boxes = boxed(side, side)
        assert preview_tile(boxes, SQUARE, None) == working_tile(boxes, SQUARE, quick_config()), side


def test_tile_stays_until_the_boxes_are_much_different() -> None:
    first = preview_tile(boxed(30, 30), SQUARE, None)
    assert first == 192.0
    assert preview_tile(boxed(30, 36, 40), SQUARE, first) == first
    assert preview_tile(boxed(22, 24), SQUARE, first) == first
    assert preview_tile(boxed(45, 50), SQUARE, first) == 304.0
    assert preview_tile(boxed(10, 12), SQUARE, first) == 128.0


def test_whole_images_stay_until_boxes_are_small() -> None:
    assert preview_tile(boxed(200, 200), SQUARE, 192.0) is None
    assert preview_tile(boxed(60, 60), SQUARE, None) is None
    assert preview_tile(boxed(52, 52), SQUARE, None) == 336.0
    assert preview_tile(boxed(66, 66), SQUARE, 384.0) == 384.0, "as close to a tile as to the whole"


def test_without_boxes_nothing_changes() -> None:
    elsewhere = BoxSet((Box(0, 0, 9, 9, PlaneId("gone")),))
    for boxes in (BoxSet(), elsewhere, BoxSet().complete(SQUARE.planes)):
        assert preview_tile(boxes, SQUARE, None) is None
        assert preview_tile(boxes, SQUARE, 160.0) == 160.0


def test_tile_of_the_settings_is_taken() -> None:
    assert preview_tile(boxed(30, 30), SQUARE, 160.0, quick_config(tile="whole")) is None
    assert preview_tile(boxed(30, 30), SQUARE, 160.0, quick_config(tile=96.0)) == 96.0
    assert preview_tile(boxed(30, 30), SQUARE, None, quick_config()) == 192.0


# --- the real model -----------------------------------------------------------------------------------------


def test_real_model_outlines_what_is_boxed(scene: Scene) -> None:
    encoder = make_encoder("litemedsam", device="cpu", cache=EmbeddingCache(None))
    boxes = scene.boxes.restrict([PLANE])
    found = masks(scene, encoder, boxes, preview_tile(boxes, scene.images, None))
    assert overlap(found, scene.mask(PLANE)) > 0.9


# --- boxes as objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [None, 64.0])
def test_each_box_becomes_an_object(scene: Scene, encoder: Encoder, tile: float | None) -> None:
    boxes, scale = scene.boxes.restrict([PLANE]), Normalization.fit(scene.images)
    pixels = PlanePixels(scene.images.read(PLANE), scale)
    found = boxes_prediction(encoder, pixels, scene.boxes, PLANE, tile)
    np.testing.assert_array_equal(found.mask, boxes_preview(encoder, pixels, boxes, PLANE, tile))
    np.testing.assert_array_equal(found.mask > 0, found.labels > 0)
    assert [item.id for item in found.objects] == [1, 2, 3]
    for item, box in zip(found.objects, boxes.boxes, strict=True):
        mine = found.labels == item.id
        assert item.area == mine.sum()
        assert item.box[0] >= int(box.y0)
        assert item.box[3] <= np.ceil(box.x1)
        assert 0.5 < item.score <= 1
        assert overlap(mine, mine & scene.mask(PLANE).astype(bool)) > 0.85
    assert (found.probability[found.labels > 0] >= 127).all()
    assert not boxes_prediction(encoder, pixels, BoxSet(), PLANE, tile).objects


def test_objects_lie_as_in_the_preview_and_those_not_seen_are_left_out(encoder: Encoder) -> None:
    image = white()
    plane, scale = image.planes[0], Normalization(low=(0.0,), high=(255.0,))
    pixels = PlanePixels(image.read(plane), scale)
    small, large = Box(20, 20, 40, 40, plane, "a"), Box(8, 8, 56, 56, plane, "b")
    drawn = BoxSet((small, large, Box(8, 8, 56, 56, plane, "a")), {}, ("a", "b"))
    found = boxes_prediction(encoder, pixels, drawn, plane, None)
    assert [(item.id, item.label) for item in found.objects] == [(1, "a"), (3, "a")]
    assert (found.labels[24:36, 24:36] == 1).all()
    np.testing.assert_array_equal(found.mask, boxes_preview(encoder, pixels, drawn, plane, None))


def test_classes_that_may_overlap_have_a_layer_each(encoder: Encoder) -> None:
    image = white()
    plane, scale = image.planes[0], Normalization(low=(0.0,), high=(255.0,))
    small, large = Box(20, 20, 40, 40, plane, "a"), Box(8, 8, 56, 56, plane, "b")
    drawn = BoxSet((small, large), {}, ("a", "b"), exclusive=False)
    found = boxes_prediction(encoder, PlanePixels(image.read(plane), scale), drawn, plane, None)
    assert found.labels.shape == found.mask.shape == found.probability.shape == (2, 64, 64)
    assert (found.labels[:, 30, 30] == (1, 2)).all()
    assert (found.mask[:, 30, 30] == 1).all()
    assert [item.label for item in found.objects] == ["a", "b"]
