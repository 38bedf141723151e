from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.helpers.synthetic import ellipse

from napari_boxprompt.config import AugmentConfig
from napari_boxprompt.views import (
    GRID,
    View,
    blend_rows,
    choose_tile,
    inside_plane,
    perturbed,
    sample_view,
    tile_views,
    to_region,
    turned,
    warp_between,
    window,
)

RNG = np.random.default_rng(0)
SEEDS = st.integers(0, 2**32 - 1)
TURN = View((0.8, -0.3, 20.0, 0.3, 0.8, -5.0))


def reader(values: np.ndarray) -> Callable[[tuple[int, int, int, int]], np.ndarray]:
    array = values.astype(np.float32)
    stacked = array if array.ndim == 3 else array[..., None]
    return lambda region: stacked[region[0] : region[2], region[1] : region[3]]


def seen(values: np.ndarray, view: View, size: int = GRID) -> torch.Tensor:
    """What a view sees of a plane of one channel."""
    return sample_view(reader(values), values.shape[:2], view, size)[0]


def ramp(shape: tuple[int, int], slope_y: float = 1.0, slope_x: float = 3.0) -> np.ndarray:
    """Value of a linear function at the centre of each pixel."""
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None] + 0.5
    return slope_y * rows + slope_x * columns


def positions(view: View, size: int = GRID) -> tuple[np.ndarray, np.ndarray]:
    """Image x and y of the centre of each pixel of a view."""
    a, b, c, d, e, f = view.matrix
    x = (np.arange(size)[None] + 0.5) * GRID / size
    y = (np.arange(size)[:, None] + 0.5) * GRID / size
    return a * x + b * y + c, d * x + e * y + f


# --- coordinates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [View.whole((300, 200)), View.square(37.5, -4, 100), View.square(0, 0, 256)])
def test_boxes_go_to_the_grid_and_back(view: View) -> None:
    boxes = np.sort(RNG.uniform(0, 200, (6, 2, 2)), axis=1).reshape(6, 4)
    grid = view.boxes_to_grid(boxes)
    for (y0, x0, y1, x1), box in zip(grid, boxes, strict=True):
        low, high = view.as_array() @ [x0, y0, 1], view.as_array() @ [x1, y1, 1]
        np.testing.assert_allclose([low[1], low[0], high[1], high[0]], box, atol=1e-12)


def test_boxes_stay_boxes_in_a_mirrored_view() -> None:
    view = turned(View.square(0, 0, 256), angle=0, zoom=1, gamma=1, flip=True)
    assert view.axis_aligned
    np.testing.assert_allclose(view.boxes_to_grid(np.array([[10.0, 20, 30, 60]])), [[10, 196, 30, 236]])
    np.testing.assert_allclose(view.boxes_to_grid(np.array([10.0, 20, 30, 60])), [10, 196, 30, 236])
    assert view.boxes_to_grid(np.zeros((0, 4))).shape == (0, 4)


def test_whole_view_ends_where_the_plane_ends() -> None:
    view = View.whole((300, 200))
    np.testing.assert_allclose(
        view.boxes_to_grid(np.array([[0.0, 0, 300, 200]])), [[0, 0, 256, 170.6667]], rtol=1e-6
    )
    assert view.scale == pytest.approx(300 / 256)
    assert view.axis_aligned
    assert not TURN.axis_aligned
    assert TURN.scale == pytest.approx(math.sqrt(0.8**2 + 0.3**2))


def test_region_holds_all_that_is_seen() -> None:
    assert View.square(10, 20, 50).region((200, 200), margin=0) == (10, 20, 60, 70)
    assert View.square(10, 20, 50).region((200, 200)) == (8, 18, 62, 72)
    assert View.square(-30, 150, 100).region((120, 200), margin=0) == (0, 150, 70, 200)
    assert View.square(500, 500, 10).region((100, 100)) == (100, 100, 101, 101)
    x, y = positions(TURN)
    y0, x0, y1, x1 = TURN.region((1000, 1000), margin=0)
    assert (y0, y1) == (0, math.ceil(y.max()))
    assert (x0, x1) == (0, math.ceil(x.max()))


# --- sampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("y0", "x0"), [(0, 0), (37, 21), (44, 0), (13, 44)])
def test_tile_at_model_scale_is_that_part_exactly(y0: int, x0: int) -> None:
    values = RNG.normal(size=(300, 300)).astype(np.float32)
    view = View.square(y0, x0, GRID)
    part = values[y0 : y0 + GRID, x0 : x0 + GRID]
    np.testing.assert_allclose(seen(values, view), part, atol=2e-4)
    back = to_region(torch.from_numpy(part.copy())[None], view, (y0, x0, y0 + GRID, x0 + GRID))[0]
    np.testing.assert_allclose(back, part, atol=2e-4)


@pytest.mark.parametrize("side", [64, 128, 200, 256, 512, 1000])
def test_ramp_survives_the_way_there_and_back(side: int) -> None:
    values, view = ramp((side, side)), View.whole((side, side))
    back = to_region(seen(values, view)[None], view, (0, 0, side, side))[0].numpy()
    rim = 3 * max(1, side // GRID)
    np.testing.assert_allclose(back[rim:-rim, rim:-rim], values[rim:-rim, rim:-rim], rtol=1e-4, atol=0.1)


@pytest.mark.parametrize("side", [64, 128, 256, 512, 1024])
def test_whole_view_is_a_plain_resize(side: int) -> None:
    values = ramp((side, side))
    tensor = torch.from_numpy(values).float()[None, None]
    wanted = F.interpolate(
        tensor, size=(GRID, GRID), mode="bilinear", antialias=side > GRID, align_corners=False
    )
    np.testing.assert_allclose(seen(values, View.whole((side, side))), wanted[0, 0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (1000, 450), (64, 40)])
def test_values_lie_where_the_matrix_says_and_padding_is_zero(shape: tuple[int, int]) -> None:
    values, view = ramp(shape) + 5.0, View.whole(shape)
    found = seen(values, view).numpy()
    x, y = positions(view)
    padding = np.broadcast_to((x > shape[1]) | (y > shape[0]), found.shape)
    assert (found[padding] == 0).all()
    assert (found[~padding] > 0).all()
    rim = 2 * max(view.scale, 1.0)
    inner = (x > rim) & (x < shape[1] - rim) & (y > rim) & (y < shape[0] - rim)
    expected = np.broadcast_to(y + 3 * x + 5, found.shape)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.4)  # a tenth of a pixel


def test_turned_view_of_a_ramp() -> None:
    values = ramp((400, 400))
    x, y = positions(TURN)
    inner = (x > 1) & (y > 1) & (x < 399) & (y < 399)
    assert inner.mean() > 0.85
    np.testing.assert_allclose(seen(values, TURN).numpy()[inner], (y + 3 * x)[inner], rtol=1e-4, atol=1e-3)


def test_reading_is_limited_to_the_view() -> None:
    asked = []

    def read(region: tuple[int, int, int, int]) -> np.ndarray:
        asked.append(region)
        return np.zeros((region[2] - region[0], region[3] - region[1], 3), np.float32)

    found = sample_view(read, (5000, 4000), View.square(1000, 2000, 128), 64)
    assert found.shape == (3, 64, 64)
    assert asked == [(998, 1998, 1130, 2130)]


def test_reduction_is_antialiased() -> None:
    stripes = np.tile([0.0, 1.0], (1024, 512))
    found = seen(stripes, View.whole(stripes.shape)).numpy()[4:-4, 4:-4]
    np.testing.assert_allclose(found, 0.5, atol=0.02)


def test_gamma_is_applied_to_what_is_seen() -> None:
    values = RNG.uniform(size=(GRID, GRID))
    view = View.square(0, 0, GRID)
    np.testing.assert_allclose(seen(values, View(view.matrix, gamma=2.0)), seen(values, view) ** 2, atol=1e-6)


def test_inside_plane_counts_pixel_centres() -> None:
    inside = inside_plane((128, 256), View.whole((128, 256)))
    assert inside.shape == (GRID, GRID)
    assert inside[:128].all()
    assert not inside[128:].any()
    assert inside_plane((100, 100), View.square(50, 50, 100), 10).sum() == 25


# --- augmented views ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_perturbed_view_shows_a_disc_where_the_matrix_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, radius = (200, 160), 12.0
    centre = rng.uniform(60, 100, size=2)
    augment = AugmentConfig(rotation=180, zoom=1.3, shift=0.15, gamma=1.0, mirror=True)
    view = perturbed(View.whole(shape), augment, rng, mirror=True)
    x, y = (np.linalg.inv(view.as_array()) @ [centre[1], centre[0], 1])[:2]
    reach = radius / view.scale + 2
    assume(reach < x < GRID - reach)
    assume(reach < y < GRID - reach)
    weight = seen(ellipse(shape, *centre, radius), view).numpy().astype(float)
    rows, columns = np.arange(GRID)[:, None] + 0.5, np.arange(GRID)[None] + 0.5
    assert (weight * rows).sum() / weight.sum() == pytest.approx(y, abs=0.3)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(x, abs=0.3)
    assert weight.sum() * view.scale**2 == pytest.approx(math.pi * radius**2, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_perturbations_stay_in_their_ranges(seed: int) -> None:
    augment = AugmentConfig(rotation=30, zoom=1.25, shift=0.1, gamma=1.5, mirror=False)
    base = View.square(10, 20, 512)
    view = perturbed(base, augment, np.random.default_rng(seed), mirror=False)
    assert base.scale / 1.25 <= view.scale * (1 + 1e-9)
    assert view.scale <= base.scale * 1.25 * (1 + 1e-9)
    assert 1 / 1.5 <= view.gamma <= 1.5
    a, b, _, d, e, _ = view.matrix
    assert a * e - b * d > 0
    assert abs(math.degrees(math.atan2(d, a))) <= 30 + 1e-9
    middle = view.as_array() @ [GRID / 2, GRID / 2, 1]
    assert np.abs(middle[:2] - [20 + 256, 10 + 256]).max() <= 0.1 * 512 + 1e-6


def test_no_perturbation_is_the_same_view() -> None:
    still = AugmentConfig(rotation=0, zoom=1, shift=0, gamma=1)
    view = perturbed(View.square(3, 4, 100), still, np.random.default_rng(0), mirror=False)
    np.testing.assert_allclose(view.matrix, View.square(3, 4, 100).matrix, atol=1e-12)
    assert view.gamma == 1.0


def test_mirror_turns_half_of_the_views_over() -> None:
    rng = np.random.default_rng(0)
    views = [perturbed(View.square(0, 0, 256), AugmentConfig(), rng, mirror=True) for _ in range(200)]
    mirrored = sum(v.matrix[0] * v.matrix[4] - v.matrix[1] * v.matrix[3] < 0 for v in views)
    assert 70 < mirrored < 130


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([64, 256]))
def test_warping_there_and_back_is_undone(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    source = View.square(10, 30, 300)
    target = perturbed(source, AugmentConfig(), rng, mirror=True)
    x, y = positions(View.square(0, 0, GRID), size)
    step = GRID // size
    map_ = torch.from_numpy(np.sin(x / 25) + np.cos(y / 31)).float()[None]
    there, seen_there = warp_between(map_, source, target, size)
    back, seen_back = warp_between(there, target, source, size)
    lost, _ = warp_between((~seen_there).float()[None], target, source, size)
    both = seen_back & (lost[0] == 0)
    both[[0, -1]], both[:, [0, -1]] = False, False
    assert both.float().mean() > 0.3
    assert (back - map_)[0][both].abs().mean() < 2e-3 * step
    assert (back - map_)[0][both].abs().max() < 0.06 * step


def test_warp_puts_values_where_the_target_sees_them() -> None:
    source, target = View.square(0, 0, 256), View.square(64, 32, 128)
    x, y = positions(source)
    warped, valid = warp_between(torch.from_numpy(y + 3 * x).float()[None], source, target, 128)
    image_x, image_y = positions(target, 128)
    assert valid.all()
    np.testing.assert_allclose(warped[0], image_y + 3 * image_x, rtol=1e-4)


def test_warp_keeps_a_constant_wherever_the_source_saw_it() -> None:
    warped, valid = warp_between(torch.ones(1, 64, 64), View.square(0, 0, 256), TURN, 64)
    assert 0.2 < valid.float().mean() < 1
    np.testing.assert_allclose(warped[0][valid], 1.0, atol=1e-6)


def test_gradients_pass_through_a_warp() -> None:
    maps = torch.rand(2, 64, 64, requires_grad=True)
    warp_between(maps, View.square(0, 0, 256), TURN, 64)[0].sum().backward()
    assert maps.grad is not None
    assert (maps.grad[0] > 0).float().mean() > 0.3


# --- tiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "shapes", "tile"),
    [
        ([], [(512, 512)], None),
        ([200.0] * 5, [(512, 512)], None),
        ([40.0], [(1024, 1024)], 256.0),
        ([30.0], [(700, 1024)], 192.0),
        ([41.0], [(1024, 1024)], 272.0),
        ([20.0], [(1024, 1024)], 128.0),
        ([5.0] * 9, [(2048, 2048)], 128.0),
        ([5.0, 40.0, 400.0], [(1024, 300)], 256.0),
        ([10.0], [(160, 160)], None),
        ([10.0], [(161, 100)], 128.0),
        ([10.0], [(100, 100), (400, 400), (500, 500)], 128.0),
    ],
)
def test_tile_follows_the_boxes(
    sides: list[float], shapes: list[tuple[int, int]], tile: float | None
) -> None:
    assert choose_tile(sides, shapes) == tile


@pytest.mark.parametrize("tile", [None, 300.0, 400.0])
def test_one_view_where_one_is_enough(tile: float | None) -> None:
    ((view,),) = tile_views((300, 200), tile)
    assert view == (View.whole((300, 200)) if tile is None else View.square(0, 0, tile))


SIDES = st.integers(32, 900)


@settings(max_examples=80, deadline=None)
@given(SIDES, SIDES, st.one_of(st.integers(16, 500), st.floats(16, 500)))
def test_tiles_cover_every_pixel(height: int, width: int, tile: float) -> None:
    rows = tile_views((height, width), tile)
    counts = np.zeros((height, width), int)
    for row in rows:
        for view in row:
            y0, x0, y1, x1 = view.region((height, width), margin=0)
            counts[y0:y1, x0:x1] += 1
            assert view.scale * GRID == pytest.approx(tile)
            for start, length in ((view.matrix[5], height), (view.matrix[2], width)):
                assert start >= 0
                assert start + tile <= max(length, tile) + 0.5
        assert len({view.matrix[5] for view in row}) == 1
    assert counts.min() >= 1
    for starts in ([row[0].matrix[5] for row in rows], [view.matrix[2] for view in rows[0]]):
        assert all(b - a <= 0.75 * tile + 1 for a, b in itertools.pairwise(starts))


# --- blending -----------------------------------------------------------------------------------------------


def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(x / 17.0) * np.cos(y / 23.0)


def wave_maps(view: View) -> torch.Tensor:
    x, y = positions(view)
    return torch.from_numpy(np.stack([wave(x, y), np.broadcast_to(x + 2 * y, (GRID, GRID))])).float()


@pytest.mark.parametrize(
    ("shape", "tile"),
    [((300, 210), 96.0), ((97, 340), 128.0), ((256, 256), 100.0), ((400, 150), 150.0), ((130, 131), None)],
)
def test_tiles_are_joined_without_seams(shape: tuple[int, int], tile: float | None) -> None:
    rows = tile_views(shape, tile)
    bands = list(blend_rows(shape, rows, wave_maps))
    heights = [band.shape[1] for _, band in bands]
    assert [y0 for y0, _ in bands] == np.cumsum([0, *heights[:-1]]).tolist()
    assert sum(heights) == shape[0]
    assert all(band.shape[0] == 2 and band.shape[2] == shape[1] for _, band in bands)
    if tile is not None:
        assert max(heights) <= tile
        assert len(bands) == len(rows) > 0
    whole = np.concatenate([band for _, band in bands], axis=1)
    rows_, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None] + 0.5
    np.testing.assert_allclose(whole[0][1:-1, 1:-1], wave(columns, rows_)[1:-1, 1:-1], atol=2e-3)
    np.testing.assert_allclose(whole[1][1:-1, 1:-1], (columns + 2 * rows_)[1:-1, 1:-1], atol=0.05)


@pytest.mark.parametrize("axis", [0, 1])
def test_disagreeing_tiles_fade_into_each_other(axis: int) -> None:
    shape = (160, 64) if axis == 0 else (64, 160)
    rows = tile_views(shape, 64.0)
    values = {view: float(i % 2) for i, view in enumerate(view for row in rows for view in row)}
    bands = blend_rows(shape, rows, lambda view: torch.full((1, GRID, GRID), values[view]))
    whole = np.concatenate([band[0] for _, band in bands])
    assert len(values) == 3
    assert (whole.min(), whole.max()) == (0.0, 1.0)
    assert np.abs(np.diff(whole, axis=axis)).max() < 0.25
    profile = whole.mean(axis=1 - axis)
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-5)


def test_maps_are_asked_for_once_and_row_by_row() -> None:
    rows = tile_views((300, 300), 128.0)
    asked: list[View] = []

    def maps(view: View) -> torch.Tensor:
        asked.append(view)
        return torch.zeros(1, GRID, GRID)

    bands = blend_rows((300, 300), rows, maps)
    next(bands)
    assert asked == rows[0]
    list(bands)
    assert asked == [view for row in rows for view in row]


def test_window_is_positive_and_symmetric() -> None:
    weight = window(40, 64)
    assert weight.shape == (40, 64)
    assert weight.min() > 0
    assert weight.max() == 1
    assert torch.equal(weight, weight.flip(0, 1))
