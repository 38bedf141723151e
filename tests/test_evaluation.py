from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from tests.helpers.synthetic import Scene, overlap

from napari_boxprompt import evaluation
from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.evaluation import assd, dice, no_prompt_mask, oracle_mask, summary
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.views import View, tile_views

EMPTY = np.zeros((30, 40), bool)


def rectangle(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = EMPTY.copy()
    mask[y0:y1, x0:x1] = True
    return mask


A = rectangle(5, 5, 15, 15)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (A, A, 1.0),
        (A, rectangle(5, 10, 15, 20), 0.5),
        (A, rectangle(5, 5, 10, 10), 2 * 25 / 125),
        (A, rectangle(20, 20, 25, 25), 0.0),
        (A, EMPTY, 0.0),
        (EMPTY, A, 0.0),
        (EMPTY, EMPTY, 1.0),
    ],
)
def test_dice(first: np.ndarray, second: np.ndarray, expected: float) -> None:
    assert dice(first, second) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (A, A, 0.0),
        (EMPTY, EMPTY, 0.0),
        (A, EMPTY, 50.0),  # the diagonal of 30 x 40
        (EMPTY, A, 50.0),
        (rectangle(3, 4, 4, 5), rectangle(6, 8, 7, 9), 5.0),
        (rectangle(5, 5, 6, 15), rectangle(8, 5, 9, 15), 3.0),
        (rectangle(5, 5, 6, 8), rectangle(5, 5, 6, 6), (0 + 1 + 2 + 0) / 4),
    ],
)
def test_surface_distance(first: np.ndarray, second: np.ndarray, expected: float) -> None:
    assert assd(first, second) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_surface_distance_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [ndimage.gaussian_filter(rng.normal(size=(24, 24)), 2) > 0.1 for _ in range(2)]
    masks[0][3, 3], masks[1][20, 20] = True, True
    edges = []
    for mask in masks:
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        edges.append(np.argwhere(mask & ~inner))
    between = np.sqrt(((edges[0][:, None] - edges[1][None]) ** 2).sum(axis=2))
    expected = (between.min(axis=1).sum() + between.min(axis=0).sum()) / sum(between.shape)
    assert assd(*masks) == pytest.approx(expected)
    assert assd(*masks) == pytest.approx(assd(*masks[::-1]))


def test_summary() -> None:
    found = summary([0.5, 0.7, 0.9, 0.1])
    assert found == pytest.approx(
        {"mean": 0.55, "sd": np.std([0.5, 0.7, 0.9, 0.1], ddof=1), "p5": 0.1 + 0.15 * 0.4, "p50": 0.6}
    )
    assert summary([0.8]) == {"mean": 0.8, "sd": 0.0, "p5": 0.8, "p50": 0.8}


# --- baselines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [None, 64.0])
def test_oracle_is_good_and_no_prompt_is_not(
    scene: Scene, encoder: Encoder, normalization: Normalization, tile: float | None
) -> None:
    for plane in scene.images.planes[:3]:
        values = scene.images.read(plane)
        oracle = oracle_mask(encoder, values, normalization, tile, scene.boxes.on(plane))
        assert oracle.dtype == bool
        assert overlap(oracle, scene.mask(plane)) > 0.9
        assert not no_prompt_mask(encoder, values, normalization, tile).any()


def test_oracle_sees_the_tiles_that_a_prediction_sees(
    scene: Scene, encoder: Encoder, normalization: Normalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = scene.images.planes[4]
    values, boxes = scene.images.read(plane), scene.boxes.on(plane)
    asked: list[View] = []
    answers = evaluation.answers

    def noted(frozen: object, embedding: object, view: View, drawn: np.ndarray) -> object:
        asked.append(view)
        grid = view.boxes_to_grid(drawn)
        assert (np.minimum(grid[:, 2:], 256) - np.maximum(grid[:, :2], 0) >= 1).all()
        return answers(frozen, embedding, view, drawn)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "answers", noted)
    oracle_mask(encoder, values, normalization, 64.0, boxes)
    tiles = [view for row in tile_views(scene.images.shape(plane), 64.0) for view in row]
    assert asked == [view for view in tiles if view in asked]
    assert 3 <= len(asked) < len(tiles)


def test_oracle_without_boxes_is_empty(scene: Scene, encoder: Encoder, normalization: Normalization) -> None:
    values = scene.images.read(scene.images.planes[0])
    assert not oracle_mask(encoder, values, normalization, 64.0, []).any()
    assert encoder.frozen.encoded == 0  # type: ignore[attr-defined]


def test_oracle_is_the_union_of_its_boxes(encoder: Encoder) -> None:
    values, plane = np.ones((100, 100, 1), np.float32), PlaneId("a")
    drawn = [Box(10, 10, 40, 40, plane), Box(30, 30, 80, 60, plane)]
    unit = Normalization(low=(0.0,), high=(1.0,))
    mask = oracle_mask(encoder, values, unit, None, drawn)
    expected = np.zeros((100, 100), bool)
    expected[10:40, 10:40], expected[30:80, 30:60] = True, True
    assert overlap(mask, expected) > 0.93
    assert mask[25, 25]
    assert not mask[20, 50]
