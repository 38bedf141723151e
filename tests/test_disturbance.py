from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.disturbance import Disturbance
from napari_boxprompt.errors import BoxError, ConfigError

SHAPE = (200, 300)


def drawn(planes: int = 5, each: int = 8) -> BoxSet:
    """Complete planes with boxes of 20 x 30 pixels that do not touch."""
    names = [PlaneId(f"p{i}") for i in range(planes)]
    boxes = tuple(
        Box(10.0 + 90 * (i // 4), 10.0 + 70 * (i % 4), 30.0 + 90 * (i // 4), 40.0 + 70 * (i % 4), plane)
        for plane in names
        for i in range(each)
    )
    region = (0.0, 0.0, 50.0, 50.0)
    return BoxSet(
        boxes, {plane: PlaneInfo(SHAPE, complete=True, complete_regions=(region,)) for plane in names}
    )


def sides(boxes: BoxSet) -> np.ndarray:
    return np.array([box.as_tuple() for box in boxes.boxes])


def test_nothing_is_done_when_nothing_is_asked() -> None:
    boxes = drawn()
    assert Disturbance().apply(boxes, 0) is boxes
    assert not Disturbance()
    assert Disturbance(wrong=0.1)


def test_sides_move_by_their_own_fraction_of_the_box() -> None:
    before, after = drawn(), Disturbance(jitter=0.1).apply(drawn(), 0)
    moved = (sides(after) - sides(before)) / [20, 30, 20, 30]
    assert np.abs(moved).max() <= 0.1
    assert np.abs(moved).max(axis=0) == pytest.approx([0.1] * 4, abs=0.02)
    assert np.abs(np.corrcoef(moved.T) - np.eye(4)).max() < 0.6, "sides move by themselves"
    assert after.planes == before.planes
    assert [box.plane for box in after.boxes] == [box.plane for box in before.boxes]


def test_a_box_that_fills_its_plane_stays_on_it() -> None:
    whole = BoxSet((Box(0, 0, *SHAPE, PlaneId("a")),), {PlaneId("a"): PlaneInfo(SHAPE, complete=True)})
    for seed in range(10):
        (box,) = Disturbance(jitter=0.45, wrong=0.5).apply(whole, seed).boxes
        assert box.clip(*SHAPE) == box


def test_missing_boxes_withdraw_what_was_said_of_their_planes() -> None:
    before = drawn()
    after = Disturbance(missing=0.1).apply(before, 3)
    gone = set(before.boxes) - set(after.boxes)
    assert len(gone) == 4
    assert set(after.boxes) < set(before.boxes)
    touched = {box.plane for box in gone}
    assert 1 <= len(touched) < 5
    for plane, info in after.planes.items():
        expected = PlaneInfo(SHAPE) if plane in touched else before.planes[plane]
        assert info == expected


def test_wrong_boxes_lie_where_no_object_is() -> None:
    before = drawn()
    after = Disturbance(wrong=0.05).apply(before, 0)
    assert len(after) == len(before)
    changed = [(a, b) for a, b in zip(before.boxes, after.boxes, strict=True) if a != b]
    assert len(changed) == 2
    for old, new in changed:
        assert (new.plane, new.label, new.height, new.width) == (old.plane, old.label, 20, 30)
        assert new.clip(*SHAPE) == new
        assert all(new.iou(box) == 0 for box in before.on(new.plane))
    assert after.planes == before.planes, "who boxes the wrong thing does not know it"


def test_where_there_is_no_room_the_least_is_covered() -> None:
    plane = PlaneId("a")
    full = BoxSet((Box(0, 0, 100, 300, plane), Box(100, 0, 198, 300, plane)), {plane: PlaneInfo(SHAPE)})
    for seed in range(5):
        after = Disturbance(wrong=0.1).apply(full, seed)
        assert len(set(after.boxes) - set(full.boxes)) == 1


def test_few_boxes_lose_one_all_the_same() -> None:
    few = drawn(2, 2)
    assert len(Disturbance(missing=0.05).apply(few, 0)) == 3
    assert len(set(Disturbance(wrong=0.05).apply(few, 0).boxes) - set(few.boxes)) == 1


def test_no_box_is_both_missing_and_wrong() -> None:
    before = drawn()
    after = Disturbance(missing=0.5, wrong=0.5).apply(before, 0)
    assert len(after) == 20
    assert not set(after.boxes) & set(before.boxes)


def test_the_seed_decides() -> None:
    all_of_it = Disturbance(0.1, 0.1, 0.05)
    assert all_of_it.apply(drawn(), 1) == all_of_it.apply(drawn(), 1)
    assert all_of_it.apply(drawn(), 1) != all_of_it.apply(drawn(), 2)


def test_words() -> None:
    assert str(Disturbance(0.1, 0.0, 0.05)) == "jitter 0.1, wrong 0.05"
    assert str(Disturbance()) == ""


@pytest.mark.parametrize(
    ("fractions", "name"),
    [
        ({"jitter": 0.5}, "--jitter 0.5"),
        ({"missing": -0.1}, "--missing"),
        ({"wrong": float("nan")}, "--wrong"),
    ],
)
def test_fractions_out_of_range(fractions: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Disturbance(**fractions)


def test_more_than_all_boxes() -> None:
    with pytest.raises(ConfigError, match="lower one"):
        Disturbance(missing=0.6, wrong=0.6)


def test_planes_of_unknown_size() -> None:
    boxes = drawn()
    unknown = replace(boxes, planes={plane: PlaneInfo() for plane in boxes.planes})
    with pytest.raises(BoxError, match="align"):
        Disturbance(jitter=0.1).apply(unknown, 0)
