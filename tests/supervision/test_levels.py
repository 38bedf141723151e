"""Masks cut where they reach the sides of a box."""

from __future__ import annotations

import numpy as np
import pytest

from napari_boxprompt.supervision.levels import FULLEST, LOWEST, tight_level

BOX = (10.0, 20.0, 50.0, 60.0)


def cone(radius: float, box: tuple[float, float, float, float] = BOX, slope: float = 0.2) -> np.ndarray:
    """Logits that are 0 on a circle about the centre of a box and fall outwards."""
    y, x = np.mgrid[:64, :80] + 0.5
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return slope * (radius - np.hypot(y - middle[0], x - middle[1]))


@pytest.mark.parametrize("radius", [8.0, 12.0, 16.0, 19.0])
def test_a_mask_cut_too_small_grows_to_its_box(radius: float) -> None:
    logits = cone(radius)
    mask = logits > tight_level(logits, BOX)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == pytest.approx((10, 50, 20, 60), abs=1)


def test_a_mask_that_reaches_its_box_stays() -> None:
    assert tight_level(cone(20.0), BOX) == 0.0
    assert tight_level(cone(30.0), BOX) == 0.0


def test_a_box_drawn_too_far_on_one_side_counts_by_half() -> None:
    wide = (10.0, 20.0, 50.0, 66.0)
    logits = cone(19.5)
    level = tight_level(logits, wide)
    needed = logits[10:50, 65].max()
    assert needed < level < 0
    assert level == pytest.approx(needed / 2, abs=0.1)


def test_a_star_does_not_fill_its_box() -> None:
    y, x = np.mgrid[:64, :80] + 0.5
    # A thin cross with faint arms on a ground that is hardly fainter.
    logits = np.full((64, 80), -3.2)
    logits[(abs(y - 30) < 2) | (abs(x - 40) < 2)] = -3.0
    logits[28:32, 38:42] = 2.0
    level = tight_level(logits, BOX)
    assert (logits[10:50, 20:60] > level).mean() <= FULLEST


def test_nothing_found_is_not_forced() -> None:
    level = tight_level(np.full((64, 80), -20.0), BOX)
    assert level == pytest.approx(LOWEST, abs=0.01)
    assert not (np.full((64, 80), -20.0) > level).any()


@pytest.mark.parametrize("box", [(-5.0, -5.0, 20.0, 20.0), (70.0, 10.0, 90.0, 20.0), (5.0, 5.0, 5.2, 30.0)])
def test_boxes_at_and_beyond_the_border(box: tuple[float, float, float, float]) -> None:
    assert LOWEST - 0.01 <= tight_level(cone(10.0), box) <= 0
