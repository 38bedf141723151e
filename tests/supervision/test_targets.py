from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.synthetic import Scene, ellipse, make_scene, overlap

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.config import AugmentConfig
from napari_boxprompt.models.encoding import Encoder, PlanePixels
from napari_boxprompt.normalization import Normalization
from napari_boxprompt.supervision.boxmasks import exclusive_masks
from napari_boxprompt.supervision.known import mask_labels
from napari_boxprompt.supervision.targets import (
    BOXES_AT_ONCE,
    BoxLabel,
    PlaneTargets,
    answers,
    assign,
    pseudo_labels,
    size_range,
)
from napari_boxprompt.views import GRID, View, inside_plane, perturbed, tile_views

PLANE = PlaneId("a.png")
SHAPE = (128, 96)
UNIT = Normalization(low=(0.0,), high=(1.0,))
WHOLE = View.whole(SHAPE)


def label_of(box: tuple[float, float, float, float], probability: float = 1.0) -> BoxLabel:
    """Pseudo-label that fills its box."""
    y0, x0, y1, x1 = box
    region = (int(np.floor(y0)), int(np.floor(x0)), int(np.ceil(y1)), int(np.ceil(x1)))
    values = np.full((region[2] - region[0], region[3] - region[1]), probability, np.float16)
    return BoxLabel(box, region, values)


def targets_of(
    *classes: Sequence[tuple[float, float, float, float]],
    complete: bool = False,
    regions: tuple[tuple[float, float, float, float], ...] = (),
    shape: tuple[int, int] = SHAPE,
) -> PlaneTargets:
    labels = tuple(tuple(label_of(box) for box in boxes) for boxes in classes)
    return PlaneTargets(PLANE, shape, labels, complete, regions)


def grid_of(box: tuple[float, float, float, float], view: View = WHOLE) -> torch.Tensor:
    """Bool grid of the pixels of an axis-aligned view whose centres lie in a box, written out."""
    y0, x0, y1, x1 = view.boxes_to_grid(np.array([box]))[0]
    rows, columns = torch.arange(GRID)[:, None] + 0.5, torch.arange(GRID)[None] + 0.5
    return (rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1)


def labels_on(
    values: np.ndarray, boxes: BoxSet, encoder: Encoder, views: Sequence[View]
) -> tuple[tuple[BoxLabel, ...], ...]:
    pixels = PlanePixels(values[..., None].astype(np.float32), UNIT)
    embeddings = encoder.encode(encoder.inputs(pixels, views))
    return pseudo_labels(encoder.frozen, views, embeddings, boxes, PLANE)


def pasted(labels: Sequence[BoxLabel], shape: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(shape, bool)
    for label in labels:
        y0, x0, y1, x1 = label.region
        canvas[y0:y1, x0:x1] |= label.probability > 0.5
    return canvas


# --- pseudo-labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [None, 64.0])
def test_pseudo_labels_are_the_boxed_objects(
    encoder: Encoder, scene: Scene, normalization: Normalization, tile: float | None
) -> None:
    for plane in scene.images.planes:
        pixels = PlanePixels(scene.images.read(plane), normalization)
        views = [view for row in tile_views(pixels.shape, tile) for view in row]
        embeddings = encoder.encode(encoder.inputs(pixels, views))
        (labels,) = pseudo_labels(encoder.frozen, views, embeddings, scene.boxes, plane)
        drawn = scene.boxes.on(plane)
        assert [label.box for label in labels] == [box.as_tuple() for box in drawn]
        assert overlap(pasted(labels, pixels.shape), scene.mask(plane)) > 0.92
        for label, box in zip(labels, drawn, strict=True):
            true = (scene.labels[plane] == box.id).sum() / box.area
            assert label.fill == pytest.approx(true, abs=0.15)


def test_a_pseudo_label_ends_at_its_box(encoder: Encoder) -> None:
    box = Box(20.4, 30.6, 60.5, 70.2, PLANE)
    ((label,),) = labels_on(np.ones(SHAPE), BoxSet((box,)), encoder, [WHOLE])
    assert label.region == (20, 30, 61, 71)
    assert label.probability.shape == (41, 41)
    assert label.probability.dtype == np.float16
    assert (label.probability[0] > 0).any()
    assert (label.probability[-1] == 0).all()  # the centre of row 60 is not in the box
    assert (label.probability[:, [0, -1]] == 0).all()  # nor are those of columns 30 and 70
    assert (label.probability[3:-3, 3:-3] > 0.5).all()
    assert label.fill == pytest.approx(1.0, abs=0.12)


def test_boxes_of_each_class_in_their_order(encoder: Encoder) -> None:
    drawn = [
        Box(5, 5, 30, 30, PLANE, "b"),
        Box(40, 5, 60, 30, PLANE, "a"),
        Box(70, 40, 90, 90, PLANE, "b"),
        Box(5, 50, 30, 80, PlaneId("other.png"), "a"),
    ]
    found = labels_on(np.ones(SHAPE), BoxSet(tuple(drawn), classes=("a", "b", "c")), encoder, [WHOLE])
    assert [[label.box for label in labels] for labels in found] == [
        [drawn[1].as_tuple()],
        [drawn[0].as_tuple(), drawn[2].as_tuple()],
        [],
    ]


def test_more_boxes_than_are_decoded_at_once(encoder: Encoder) -> None:
    boxes = np.array([[4.0 * i, 10, 4 * i + 4, 50] for i in range(2 * BOXES_AT_ONCE + 3)])
    embedding = torch.zeros(256, 64, 64) + 0.05
    logits = answers(encoder.frozen, embedding, View.square(0, 0, 256), boxes).logits
    assert logits.shape == (len(boxes), GRID, GRID)
    middles = logits[torch.arange(len(boxes)), :, 30].argmax(dim=1)
    np.testing.assert_allclose(middles, boxes[:, 0] + 2, atol=2.1)


@pytest.mark.parametrize("side", [37.0, 96.0, 300.0])
def test_decoding_around_boxes_changes_no_label(
    encoder: Encoder, side: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a pixel is larger than one of the grid, and where it is smaller."""
    drawn = BoxSet(
        (Box(3.4, 5.7, 20.2, 30.1, PLANE), Box(25.0, 1.0, 37.0, 36.5, PLANE), Box(30, 30, 33, 34, PLANE))
    )
    image = 0.9 * (ellipse(SHAPE, 12, 18, 9) | ellipse(SHAPE, 31, 18, 10))
    (found,) = labels_on(image, drawn, encoder, [View.square(0, 0, side)])
    whole = encoder.frozen.decode
    monkeypatch.setattr(encoder.frozen, "decode", lambda *prompts, within: whole(*prompts))
    (expected,) = labels_on(image, drawn, encoder, [View.square(0, 0, side)])
    assert any(label.probability.any() for label in found)
    for label, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(label.probability, other.probability)


def test_touching_and_nested_boxes_stay_separate(encoder: Encoder) -> None:
    shape = (96, 96)
    left, right = ellipse(shape, 40, 26, 14), ellipse(shape, 40, 54, 14)
    drawn = [(26.0, 12.0, 54.0, 40.0), (26.0, 40.0, 54.0, 68.0), (34.0, 20.0, 46.0, 32.0)]
    boxes = BoxSet(tuple(Box(*box, PLANE) for box in drawn)).complete()
    view = View.whole(shape)
    (labels,) = labels_on(0.9 * (left | right), boxes, encoder, [view])
    for label, disc in zip(labels, (left, right), strict=False):
        assert overlap(pasted([label], shape), disc) > 0.9
    (found,) = PlaneTargets(PLANE, shape, (labels,), complete=True).render(view)
    assert found.boxes.tolist() == [list(box) for box in drawn]
    masks = found.masks()
    shared = exclusive_masks(masks)
    assert (shared[1] == masks[1]).all()  # boxes that touch share no pixel
    assert shared[2].sum() == 0  # a nested box lies wholly in another
    assert (found.outside == ~masks.bool().any(dim=0) & inside_plane(shape, view)).all()


# --- what is known ------------------------------------------------------------------------------------------

BOX, OTHER = (20.0, 10.0, 60.0, 50.0), (80.0, 30.0, 110.0, 90.0)


def test_nothing_outside_the_boxes_of_an_incomplete_plane_counts() -> None:
    (found,) = targets_of([BOX, OTHER]).render(WHOLE)
    boxed = grid_of(BOX) | grid_of(OTHER)
    assert not found.outside.any()
    assert torch.equal(found.unsaid, inside_plane(SHAPE, WHOLE) & ~boxed)
    assert torch.equal(found.valid, boxed)
    assert not (found.pseudo & ~boxed).any()
    assert (found.pseudo & boxed).sum() > 0.97 * boxed.sum()
    near = grid_of((10.0, 0.0, 70.0, 60.0)) | grid_of((72.5, 15.0, 117.5, 105.0))
    assert torch.equal(found.beside, near & ~boxed & inside_plane(SHAPE, WHOLE)), (
        "a quarter more on each side"
    )


def test_complete_plane_is_background_outside_its_boxes() -> None:
    (found,) = targets_of([BOX, OTHER], complete=True).render(WHOLE)
    boxed, inside = grid_of(BOX) | grid_of(OTHER), inside_plane(SHAPE, WHOLE)
    around = grid_of((10.0, 0.0, 70.0, 60.0)) | grid_of((72.5, 15.0, 117.5, 105.0))
    assert torch.equal(found.outside, inside & ~boxed)
    assert not found.unsaid.any()
    assert torch.equal(found.beside, around & ~boxed & inside)
    assert torch.equal(found.valid, inside)
    assert not (found.pseudo & ~boxed).any()


def test_complete_region_counts_only_where_it_is() -> None:
    region = (10.0, 5.0, 70.0, 80.0)
    (found,) = targets_of([BOX, OTHER], regions=(region,)).render(WHOLE)
    boxed = grid_of(BOX) | grid_of(OTHER)
    assert torch.equal(found.outside, grid_of(region) & ~boxed)
    assert not found.unsaid.any(), "who draws a region says that the rest may be anything"
    assert torch.equal(found.valid, grid_of(region) | boxed)


def test_two_complete_regions_join() -> None:
    regions = ((0.0, 0.0, 30.0, 96.0), (20.0, 0.0, 50.0, 40.0))
    known = targets_of([], regions=regions).known(WHOLE)
    assert torch.equal(known, grid_of(regions[0]) | grid_of(regions[1]))


def test_empty_complete_plane_is_all_background() -> None:
    (found,) = targets_of([], complete=True).render(WHOLE)
    inside = inside_plane(SHAPE, WHOLE)
    assert not found.pseudo.any()
    assert torch.equal(found.valid, inside)
    assert torch.equal(found.outside, inside)
    assert found.boxes.shape == (0, 4)
    assert found.masks().shape == (0, GRID, GRID)


def test_boxes_of_one_class_are_background_for_another_where_complete() -> None:
    first, second = targets_of([BOX], [OTHER], complete=True).render(WHOLE)
    assert first.outside[grid_of(OTHER)].all()
    assert second.outside[grid_of(BOX)].all()
    assert not first.outside[grid_of(BOX)].any()
    assert not first.pseudo[grid_of(OTHER)].any()
    alone, _ = targets_of([BOX], [OTHER]).render(WHOLE)
    assert not alone.valid[grid_of(OTHER)].any()


def test_padding_never_counts() -> None:
    for view in (WHOLE, View.square(-40, -40, 150), View.square(60, 50, 128)):
        (found,) = targets_of([BOX, OTHER], complete=True).render(view)
        beyond = ~inside_plane(SHAPE, view)
        assert beyond.any()
        assert not (found.valid & beyond).any()
        assert not (found.outside & beyond).any()


def test_pseudo_labels_do_not_spill_over_the_edge_of_a_box() -> None:
    box, view = (20.4, 10.4, 59.6, 50.4), View.square(0, 0, 64)  # edges between the centres of pixels
    (found,) = targets_of([box], complete=True).render(view)
    assert not (found.pseudo & ~grid_of(box, view)).any()
    assert found.pseudo.sum() > 0.95 * grid_of(box, view).sum()


# --- parts of a plane ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "kept"),
    [
        (View.square(0, 0, 64), [BOX]),  # the other one is out of sight
        (View.square(0, 0, 58), [BOX]),  # 95 % of the box
        (View.square(0, 0, 50), []),
        (View.square(40, 0, 100), [OTHER]),
        (View.square(-30, -30, 256), [BOX, OTHER]),
    ],
)
def test_cut_boxes_take_no_part_in_size_and_tightness(
    view: View, kept: list[tuple[float, float, float, float]]
) -> None:
    (found,) = targets_of([BOX, OTHER], complete=True).render(view)
    assert [tuple(box) for box in found.boxes.tolist()] == kept
    cut = grid_of(BOX, view)
    assert cut.any()
    assert found.valid[cut].all()
    assert not found.outside[cut].any()
    assert found.pseudo[cut].float().mean() > 0.95


def test_grid_boxes_are_boxes_on_the_grid() -> None:
    view = View.square(0, 0, 128)
    (found,) = targets_of([BOX]).render(view)
    np.testing.assert_allclose(found.grid_boxes(), [[40, 20, 120, 100]])
    assert found.axis_aligned
    assert found.masks().sum() == 80 * 80


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_turned_views_turn_the_boxes(seed: int) -> None:
    augment = AugmentConfig(rotation=180, zoom=1.2, shift=0.05, mirror=True)
    view = perturbed(View.square(-40, -40, 180), augment, np.random.default_rng(seed), mirror=False)
    (found,) = targets_of([BOX, (-9.0, -9.0, -5.0, -5.0)], complete=True).render(view)
    assert not found.axis_aligned
    columns, rows = np.meshgrid(np.arange(GRID) + 0.5, np.arange(GRID) + 0.5)
    x, y, _ = np.tensordot(view.as_array(), np.stack([columns, rows, np.ones_like(rows)]), axes=1)
    inside = (y >= BOX[0]) & (y < BOX[2]) & (x >= BOX[1]) & (x < BOX[3])
    assert (found.valid.numpy() >= inside).all()
    assert not found.outside.numpy()[inside].any()
    if found.boxes.tolist() == [list(BOX)]:
        np.testing.assert_array_equal(found.masks()[0].bool().numpy(), inside)
        assert found.masks().sum() * view.scale**2 == pytest.approx(1600, rel=0.1)
    else:
        assert inside.sum() * view.scale**2 < 0.92 * 1600
    assert (found.pseudo.numpy() <= inside).all()
    assert found.pseudo.sum() >= 0.93 * inside.sum()


def test_gamma_of_a_view_does_not_change_its_labels() -> None:
    soft = replace(targets_of([BOX]), labels=((label_of(BOX, 0.6),),))
    (plain,), (bright,) = soft.render(WHOLE), soft.render(replace(WHOLE, gamma=2.0))
    assert plain.pseudo.any()
    assert torch.equal(plain.pseudo, bright.pseudo)


def test_box_goes_to_the_view_that_sees_most_of_it_and_it_most_central() -> None:
    views = [View.square(0, 0, 64), View.square(0, 32, 64), View.square(32, 0, 64)]
    boxes = np.array(
        [[5.0, 5, 20, 20], [10, 60, 30, 90], [50, 10, 90, 30], [10, 45, 30, 60], [0, 38, 60, 62]]
    )
    assert assign(boxes, views).tolist() == [0, 1, 2, 1, 1]


# --- size range ---------------------------------------------------------------------------------------------


def filled(*fills: float) -> list[BoxLabel]:
    labels = []
    for fill in fills:
        values = np.zeros((10, 10), np.float16)
        values.flat[: round(fill * 100)] = 1
        labels.append(BoxLabel((0.0, 0.0, 10.0, 10.0), (0, 0, 10, 10), values))
    return labels


def test_fill_is_the_fraction_above_one_half() -> None:
    assert [label.fill for label in filled(0, 0.37, 1)] == [0, 0.37, 1]
    assert label_of(BOX, 0.5).fill == 0


@pytest.mark.parametrize(
    ("fills", "expected"),
    [
        ([], (0.2, 1.0)),
        ([0.7] * 4, (0.2, 1.0)),
        ([0.7] * 4 + [0.0] * 9, (0.2, 1.0)),  # empty pseudo-labels say nothing
        ([0.7] * 5, (0.63, 0.77)),
        ([0.02] * 8, (0.05, 0.05)),  # never upside down
        ([0.98] * 8, (0.882, 1.0)),
        (list(np.arange(50, 71) / 100), (0.9 * 0.51, 1.1 * 0.69)),
    ],
)
def test_size_range(fills: list[float], expected: tuple[float, float]) -> None:
    assert size_range(filled(*fills)) == pytest.approx(expected, abs=1e-6)


def test_boxes_that_no_view_shows_say_nothing_about_sizes(encoder: Encoder) -> None:
    boxes = BoxSet(tuple(Box(*box, PLANE) for box in (BOX, (20, 40, 60, 80), (62, 66, 90, 90))))
    (labels,) = labels_on(np.ones(SHAPE), boxes, encoder, [View.square(0, 0, 64)])
    assert [label.whole for label in labels] == [True, False, False]
    wrong = [replace(label, whole=False) for label in filled(*[0.1] * 20)]
    assert size_range(filled(*[0.7] * 5) + wrong) == pytest.approx((0.63, 0.77), abs=1e-3)


@pytest.mark.parametrize("side", [0.4, 1.5, 2.0, 3.0, 6.0])
def test_a_small_box_that_is_seen_is_seen_whole_and_is_no_background(side: float) -> None:
    view = View.square(0, 0, GRID)
    for start in np.arange(20, 22, 0.13).tolist():
        box = (start, start + 30.4, start + side, start + 30.4 + side)
        (target,) = targets_of([box], complete=True, shape=(GRID, GRID)).render(view)
        assert len(target.boxes) == 1
        assert not target.outside[int(start + side / 2), int(start + 30.4 + side / 2)]
        turned = perturbed(view, AugmentConfig(mirror="no"), np.random.default_rng(0), mirror=False)
        (target,) = targets_of([box], complete=True, shape=(GRID, GRID)).render(turned)
        matrix = np.array(turned.matrix).reshape(2, 3)
        centre = np.array([start + 30.4 + side / 2, start + side / 2])
        x, y = np.floor(np.linalg.solve(matrix[:, :2], centre - matrix[:, 2])).astype(int)
        assert not target.outside[y, x]


def test_learnt_range_holds_the_true_fill(encoder: Encoder) -> None:
    scene = make_scene(((160, 160),) * 2, seed=5, objects=4)
    labels = []
    for plane in scene.images.planes:
        pixels = PlanePixels(scene.images.read(plane), Normalization.fit(scene.images))
        views = [View.whole(pixels.shape)]
        embeddings = encoder.encode(encoder.inputs(pixels, views))
        labels += pseudo_labels(encoder.frozen, views, embeddings, scene.boxes, plane)[0]
    low, high = size_range(labels)
    assert low < np.pi / 4 < high  # an ellipse fills that much of its box
    assert high - low < 0.35


def test_known_masks_take_the_place_of_pseudo_labels() -> None:
    plane = PlaneId("a.tif")
    mask = np.zeros((40, 50), np.uint8)
    mask[5:20, 10:30], mask[25:35, 5:15] = 1, 2
    mask[8:10, 12:20] = 0  # a hole that no box knows of
    boxes = BoxSet(
        (Box(5, 10, 20, 30, plane, "a"), Box(24.5, 5, 35, 15.25, plane, "b")),
        {plane: PlaneInfo((40, 50), complete=True)},
        ("a", "b"),
    )
    labels = mask_labels(mask, boxes, plane)
    layers = np.stack([mask == k + 1 for k in range(len(boxes.classes))]).astype(np.uint8)
    for (one,), (other,) in zip(labels, mask_labels(layers, boxes, plane), strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)
    targets = PlaneTargets(plane, (40, 50), labels, complete=True).render(View.square(0, 0, 256))
    for k, target in enumerate(targets):
        np.testing.assert_array_equal(target.pseudo[:40, :50].numpy(), mask == k + 1)
        assert target.valid[:40, :50].all()
    assert labels[0][0].fill == pytest.approx(1 - 16 / 300)
