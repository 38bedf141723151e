from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as connected
from tests.helpers.synthetic import ellipse

from napari_boxprompt.instances import split_objects

SHAPE = (80, 120)
DISC = np.pi * 15**2
TYPICAL = {"object": (0.8 * DISC, DISC, 1.2 * DISC)}
ANY = {"object": (0.0, 1e9, 1e9)}


def split(mask: np.ndarray, areas: dict[str, tuple[float, float, float]] | None = None) -> tuple:
    return split_objects(
        mask.astype(np.uint8),
        np.full(mask.shape, 204, np.uint8),
        ["object"],
        TYPICAL if areas is None else areas,
    )


def test_two_touching_discs_are_split() -> None:
    left, right = ellipse(SHAPE, 40, 40, 15), ellipse(SHAPE, 40, 68, 15)
    assert connected(left | right).max() == 1
    labels, objects = split(left | right)
    assert [item.id for item in objects] == [1, 2]
    assert labels.max() == 2
    first, second = labels[40, 35], labels[40, 73]
    assert {first, second} == {1, 2}
    assert ((labels > 0) == (left | right)).all()
    assert (labels == first)[left & ~right].mean() > 0.98
    assert (labels == second)[right & ~left].mean() > 0.98
    assert objects[0].area == pytest.approx(objects[1].area, rel=0.05)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_chain_of_discs(count: int) -> None:
    mask = np.zeros((60, 140), bool)
    for i in range(count):
        mask |= ellipse(mask.shape, 30, 20 + 28 * i, 15)
    _, objects = split(mask)
    assert len(objects) == count
    assert sum(item.area for item in objects) == mask.sum()


def test_one_object_of_usual_size_stays_whole() -> None:
    bent = ellipse(SHAPE, 30, 40, 13) | ellipse(SHAPE, 50, 50, 5)
    assert bent.sum() < 1.2 * DISC
    _, objects = split(bent)
    assert len(objects) == 1


def test_one_large_round_object_stays_whole() -> None:
    _, objects = split(ellipse(SHAPE, 40, 60, 20))
    assert len(objects) == 1


def test_nothing_is_split_where_sizes_are_not_known() -> None:
    mask = ellipse(SHAPE, 40, 40, 15) | ellipse(SHAPE, 40, 68, 15)
    assert len(split(mask, {})[1]) == len(split(mask, ANY)[1]) == 1


def test_areas_of_nothing_do_not_shatter_objects() -> None:
    mask = ellipse(SHAPE, 40, 40, 15)
    labels, objects = split(mask, {"object": (0.0, 0.0, 0.0)})
    assert len(objects) == 1
    assert ((labels > 0) == mask).all()


def test_specks_are_removed() -> None:
    mask = ellipse(SHAPE, 40, 40, 15)
    mask[5:8, 5:8] = True
    mask[2:16, 100:114] = True  # more than a quarter of the smallest usual area
    labels, objects = split(mask)
    assert 0.2 * DISC < 14 * 14
    assert [item.area for item in objects] == [14 * 14, int(ellipse(SHAPE, 40, 40, 15).sum())]
    assert not labels[5:8, 5:8].any()
    assert labels.max() == 2


def test_areas_boxes_and_scores_of_objects() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 30:45], mask[50:61, 5:9] = 1, 1
    probability = np.zeros(SHAPE, np.uint8)
    probability[10:20, 30:45], probability[50:61, 5:9] = 255, 153
    labels, objects = split_objects(mask, probability, ["object"], ANY)
    assert [(item.area, item.box) for item in objects] == [(150, (10, 30, 20, 45)), (44, (50, 5, 61, 9))]
    assert [item.score for item in objects] == [1.0, pytest.approx(0.6)]
    assert (labels[10:20, 30:45] == 1).all()
    assert (labels[50:61, 5:9] == 2).all()


def test_classes_are_kept_apart() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:30, 10:30], mask[10:30, 30:50], mask[50:70, 10:30] = 2, 1, 1
    labels, objects = split_objects(mask, mask, ["a", "b"], {})
    assert [(item.id, item.label, item.area) for item in objects] == [
        (1, "a", 400),
        (2, "a", 400),
        (3, "b", 400),
    ]
    assert labels[20, 20] == 3
    assert labels[20, 40] == 1


def test_empty_mask() -> None:
    labels, objects = split(np.zeros(SHAPE, bool))
    assert objects == []
    assert labels.dtype == np.uint32
    assert not labels.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_numbers_are_contiguous_and_areas_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    for _ in range(rng.integers(1, 9)):
        y, x, radius = rng.uniform(0, 80), rng.uniform(0, 120), rng.uniform(2, 18)
        mask[ellipse(SHAPE, y, x, radius, radius * rng.uniform(0.7, 1.4))] = rng.integers(1, 3)
    areas = {"a": (100.0, 300.0, 500.0), "b": (50.0, 400.0, 700.0)}
    labels, objects = split_objects(mask, mask, ["a", "b"], areas)
    assert [item.id for item in objects] == list(range(1, len(objects) + 1))
    assert np.unique(labels[labels > 0]).tolist() == [item.id for item in objects]
    for item in objects:
        where = labels == item.id
        assert where.sum() == item.area >= areas[item.label][0] / 4
        assert (mask[where] == ("a", "b").index(item.label) + 1).all()
        y0, x0, y1, x1 = item.box
        assert where[y0:y1, x0:x1].sum() == item.area
        assert where[y0].any()
        assert where[y1 - 1].any()
        assert connected(where, connectivity=2).max() == 1
