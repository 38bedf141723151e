from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.supervision.targets import BoxLabel, PlaneTargets
from napari_boxprompt.training.dataset import Sample
from napari_boxprompt.training.validation import box_agreement, validate
from napari_boxprompt.views import GRID, View

BOX = (10.0, 10.0, 30.0, 50.0)


def mask_of(*boxes: Sequence[float], shape: tuple[int, int] = (100, 100)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for y0, x0, y1, x1 in boxes:
        mask[int(y0) : int(y1), int(x0) : int(x1)] = True
    return mask


def agreement(mask: np.ndarray, *boxes: Sequence[float]) -> list[float]:
    return box_agreement(mask, np.array(boxes, float))


@pytest.mark.parametrize(
    ("found", "iou"),
    [
        (BOX, 1.0),
        ((10, 10, 20, 50), 0.5),
        ((10, 10, 30, 40), 0.75),
        ((6, 10, 34, 50), 20 / 28),
        ((0, 0, 100, 100), 800 / (30 * 60)),  # cut to the box and a quarter of its sides around it
        ((60, 60, 80, 80), 0.0),
        ((10, 10, 10, 10), 0.0),
    ],
)
def test_agreement_with_one_box(found: Sequence[float], iou: float) -> None:
    assert agreement(mask_of(found), BOX) == [pytest.approx(iou)]


def test_object_in_pieces_counts_as_a_whole() -> None:
    assert agreement(mask_of((10, 10, 13, 14), (27, 45, 30, 50)), BOX) == [1.0]


def test_touching_neighbours_do_not_decide() -> None:
    neighbour = (10.0, 50.0, 30.0, 90.0)
    assert agreement(mask_of(BOX, neighbour), BOX, neighbour) == [1.0, 1.0]
    assert agreement(mask_of(BOX), BOX, neighbour) == [1.0, 0.0]


def test_overlapping_and_nested_boxes() -> None:
    inner = (15.0, 20.0, 25.0, 30.0)
    assert agreement(mask_of(BOX), BOX, inner) == [1.0, 1.0]
    assert agreement(mask_of(inner), BOX, inner) == [pytest.approx(100 / 800), 1.0]
    assert agreement(mask_of(), BOX, inner) == [0.0, 0.0]


def test_boxes_at_the_border() -> None:
    corner = (80.0, 85.0, 100.0, 100.0)
    assert agreement(mask_of(corner), corner) == [1.0]
    assert agreement(mask_of((0, 0, 7, 5)), (0.0, 0.0, 7.0, 5.0)) == [1.0]


def label_of(y0: int, x0: int, y1: int, x1: int) -> BoxLabel:
    return BoxLabel((y0, x0, y1, x1), (y0, x0, y1, x1), np.ones((y1 - y0, x1 - x0), np.float16))


def sample_of(*classes: Sequence[Sequence[float]], complete: bool = True) -> Sample:
    """View of a plane of the size of the grid whose pseudo-labels fill their boxes."""
    labels = tuple(
        tuple(
            BoxLabel(
                tuple(box), tuple(map(int, box)), np.ones((int(box[2] - box[0]), int(box[3] - box[1])), "f2")
            )
            for box in boxes
        )
        for boxes in classes
    )
    view = View.square(0, 0, GRID)
    plane = PlaneTargets(PlaneId("a"), (GRID, GRID), labels, complete)
    return Sample(view, torch.zeros(1), torch.zeros(1), plane.render(view), plane)


def probability_of(*classes: Sequence[Sequence[float]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([mask_of(*boxes, shape=(GRID, GRID)) for boxes in classes])).float()


def test_perfect_prediction() -> None:
    found = validate([probability_of([BOX])], [sample_of([BOX])])
    assert found == {"box_agreement": 1.0, "pseudo_dice": 1.0}


@pytest.mark.parametrize(("part", "dice"), [(0, 1.0), (200, 0.75), (5000, 0.0)])
def test_a_class_that_is_found_where_it_is_not_counts(part: int, dice: float) -> None:
    other = (60.0, 60.0, 80.0, 100.0)
    samples = [sample_of([BOX], [other]), sample_of([BOX], [])]
    found = [probability_of([BOX], [other]), probability_of([BOX], [])]
    found[1][1].view(-1)[:part] = 1.0
    assert validate(found, samples)["pseudo_dice"] == pytest.approx((3 + dice) / 4)
    unknown = [samples[0], sample_of([BOX], [], complete=False)]
    assert validate(found, unknown)["pseudo_dice"] == 1.0


def test_half_a_prediction() -> None:
    found = validate([probability_of([(10, 10, 20, 50)])], [sample_of([BOX])])
    assert found["box_agreement"] == pytest.approx(0.5)
    assert found["pseudo_dice"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("complete", "dice"), [(True, 2 * 800 / (800 + 1200)), (False, 1.0)])
def test_what_is_not_known_does_not_count(complete: bool, dice: float) -> None:
    wrong = (100.0, 100.0, 110.0, 140.0)
    found = validate([probability_of([BOX, wrong])], [sample_of([BOX], complete=complete)])
    assert found["box_agreement"] == 1.0
    assert found["pseudo_dice"] == pytest.approx(dice)


def test_mean_over_boxes_classes_and_views() -> None:
    second = (100.0, 100.0, 120.0, 120.0)
    samples = [sample_of([BOX], [second]), sample_of([BOX], [])]
    found = validate([probability_of([BOX], [second]), probability_of([], [])], samples)
    assert found["box_agreement"] == pytest.approx(2 / 3)
    assert found["pseudo_dice"] == pytest.approx(3 / 4), "the second view has none of the second class"


def test_nothing_to_compare_with() -> None:
    assert validate([], []) == {}
    assert validate([probability_of([BOX])], [sample_of([])]) == {}
