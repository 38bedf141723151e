"""A second look at predicted objects, with a frozen model whose answer is known."""

from __future__ import annotations

import math
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import torch
from tests.helpers.synthetic import FakeModel

from napari_boxprompt import refinement
from napari_boxprompt.refinement import CERTAIN, refined
from napari_boxprompt.supervision.targets import Answers

if TYPE_CHECKING:
    import pytest

EMBEDDING = torch.zeros(256, 64, 64)


def squares(*boxes: tuple[int, int, int, int], value: float = 4.0) -> torch.Tensor:
    logits = torch.full((256, 256), -4.0)
    for y0, x0, y1, x1 in boxes:
        logits[y0:y1, x0:x1] = value
    return logits


def answer(
    monkeypatch: pytest.MonkeyPatch, *masks: torch.Tensor, quality: tuple[float, ...] = (1.0,)
) -> list[np.ndarray]:
    """Let the frozen model give these masks, one for each box, and expect them to be so good.

    The boxes it was asked about are returned.
    """
    asked: list[np.ndarray] = []
    left, expected = cycle(masks), cycle(quality)

    def answers(_model: object, _embedding: object, _view: object, boxes: np.ndarray) -> Answers:
        asked.append(boxes)
        given = [next(left) for _ in boxes]
        return Answers(torch.stack(given), torch.tensor([next(expected) for _ in boxes]))

    monkeypatch.setattr(refinement, "answers", answers)
    return asked


def test_objects_are_prompted_by_their_boxes_and_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, squares((10, 10, 54, 50), value=6.0), squares((100, 100, 140, 140)))
    logits = squares((10, 10, 50, 50), (100, 100, 140, 140))
    found = refined(FakeModel(), EMBEDDING, logits, single=False).logits
    np.testing.assert_array_equal(asked[0], [[10, 10, 50, 50], [100, 100, 140, 140]])
    assert found[30, 30] == 5.0
    assert found[52, 30] == 1.0  # the second look sees four more rows, and is surer
    assert found[120, 120] == 4.0
    assert found[200, 200] == -4.0


def test_a_mask_that_disagrees_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, squares((0, 0, 200, 200)))
    logits = squares((10, 10, 50, 50))
    assert torch.equal(refined(FakeModel(), EMBEDDING, logits, single=False).logits, logits)


def test_a_neighbour_keeps_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, squares((10, 10, 50, 70)), squares((10, 60, 50, 100)))
    logits = squares((10, 10, 50, 50), (10, 60, 50, 100))
    found = refined(FakeModel(), EMBEDDING, logits, single=False).logits
    assert found[30, 55] == 0.0
    assert found[30, 65] == 4.0


def test_of_a_single_object_the_one_that_both_see_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, squares((10, 10, 50, 50)), squares((100, 100, 240, 240)))
    logits = squares((10, 10, 50, 50), (100, 100, 145, 145))
    found = refined(FakeModel(), EMBEDDING, logits, single=True).logits
    assert found[30, 30] == 4.0
    assert found[120, 120] == -CERTAIN
    assert refined(FakeModel(), EMBEDDING, logits, single=False).logits[120, 120] == 4.0


def test_many_objects_are_not_looked_at_again_unless_one_of_them_is_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answer(monkeypatch, squares((10, 10, 50, 50)))
    logits = squares(*((10, x, 50, x + 40) for x in (10, 60, 110, 160)))
    found = refined(FakeModel(), EMBEDDING, logits, single=False)
    assert not asked
    assert torch.equal(found.logits, logits)
    assert math.isnan(found.agreement)
    refined(FakeModel(), EMBEDDING, logits, single=True)
    assert len(np.concatenate(asked)) == 4


def test_a_speck_does_not_win_over_a_single_object(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, squares((10, 10, 50, 55)), squares((100, 100, 106, 106)))
    logits = squares((10, 10, 50, 50), (100, 100, 106, 106))
    assert refined(FakeModel(), EMBEDDING, logits, single=True).logits[30, 30] == 4.0


def test_nothing_found_needs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch)
    found = refined(FakeModel(), EMBEDDING, squares((0, 0, 3, 3)) * 5, single=True)
    assert not asked
    assert found.logits.max() == CERTAIN
    assert math.isnan(found.agreement)


def leaking(*bridges: tuple[int, int, int, int]) -> torch.Tensor:
    """Two squares of logit 4 and what joins them, or lies beside them, of logit 1.5."""
    logits = squares((10, 10, 50, 50), (10, 80, 50, 120))
    for y0, x0, y1, x1 in bridges:
        logits[y0:y1, x0:x1] = 1.5
    return logits


def test_an_object_that_ran_out_is_cut_at_the_level_both_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = leaking((50, 10, 200, 50))
    logits[:, 80:120] = -4.0
    # Asked about the box of everything, the frozen model marks much more; about the square, the square.
    asked = answer(monkeypatch, squares((10, 0, 200, 250)), squares((10, 10, 50, 50)))
    found = refined(FakeModel(), EMBEDDING, logits, single=True).logits
    np.testing.assert_array_equal(np.concatenate(asked), [[10, 10, 200, 50], [10, 10, 50, 50]])
    assert found[30, 30] == 3.0  # of 4 - 2 and 4
    assert found[100, 30] == -CERTAIN


def ran_out() -> torch.Tensor:
    """A square of logit 7.5 that has run out over a large area of logit 5.5."""
    logits = squares((10, 10, 210, 210), value=5.5)
    logits[20:80, 20:80] = 7.5
    return logits


def test_a_mask_that_the_frozen_model_does_not_trust_is_left_for_a_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large, small = squares((10, 10, 210, 210)), squares((20, 20, 80, 80))
    answer(monkeypatch, large, small)
    kept = refined(FakeModel(), EMBEDDING, ran_out(), single=True).logits
    assert kept[150, 150] > 0, "both agree, and nothing speaks against it"
    answer(monkeypatch, large, small, quality=(0.6, 0.95))
    found = refined(FakeModel(), EMBEDDING, ran_out(), single=True).logits
    assert found[50, 50] > 0
    assert found[150, 150] == -CERTAIN


def test_trust_alone_does_not_choose_a_mask_that_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    large, elsewhere = squares((10, 10, 210, 210)), squares((20, 20, 200, 200))
    answer(monkeypatch, large, elsewhere, quality=(0.1, 1.0))
    found = refined(FakeModel(), EMBEDDING, ran_out(), single=True)
    assert found.logits[205, 205] > 0
    assert found.agreement < 0.11


def test_a_mask_that_is_another_at_the_next_level_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    unsteady = squares((10, 10, 210, 210), value=0.5)
    unsteady[20:80, 20:80] = 4.0
    answer(monkeypatch, unsteady, squares((20, 20, 80, 80)))
    found = refined(FakeModel(), EMBEDDING, ran_out(), single=True).logits
    assert found[50, 50] > 0
    assert found[150, 150] == -CERTAIN


def test_objects_that_ran_together_are_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = leaking((25, 50, 35, 80))
    one, other = squares((10, 10, 50, 50)), squares((10, 80, 50, 120))
    answer(monkeypatch, one, one, other)
    found = refined(FakeModel(), EMBEDDING, logits, single=False).logits
    assert found[30, 30] == found[30, 100] == 3.0
    assert found[30, 65] == -CERTAIN


def test_one_of_two_that_ran_together_is_the_single_object(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = leaking((25, 50, 35, 80))
    everything, one = squares((10, 0, 120, 250)), squares((10, 10, 50, 50))
    answer(monkeypatch, everything, one, squares((10, 80, 50, 83)))
    found = refined(FakeModel(), EMBEDDING, logits, single=True).logits
    assert found[30, 30] == 3.0
    assert found[30, 100] == found[30, 65] == -CERTAIN


def test_a_box_is_not_asked_about_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = squares((10, 10, 90, 90))
    logits[10, 10:90] = 1.5  # one row less at the next level: an IoU of 0.99
    asked = answer(monkeypatch, squares((10, 10, 90, 90)))
    found = refined(FakeModel(), EMBEDDING, logits, single=False)
    assert len(asked) == 1
    assert found.agreement > 0.98
