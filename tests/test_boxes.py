from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError

A, B, C = PlaneId("a.png"), PlaneId("b.png"), PlaneId("s.tif", (2, 0))
number = st.floats(-50, 150, allow_nan=False).map(lambda v: round(v, 3))


@st.composite
def boxes(draw, plane=A):
    y0, x0 = draw(number), draw(number)
    return Box(y0, x0, y0 + draw(st.floats(0.5, 80)), x0 + draw(st.floats(0.5, 80)), plane)


def test_geometry():
    box = Box(1, 2, 4, 8, A)
    assert (box.height, box.width, box.area, box.as_tuple()) == (3, 6, 18, (1, 2, 4, 8))
    assert box == Box(1.0, 2.0, 4.0, 8.0, A)
    assert len({box, Box(1.0, 2.0, 4.0, 8.0, A)}) == 1
    assert isinstance(Box(np.float32(1), 2, np.int64(4), 8, A).y0, float)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "x", None, 10**400])
def test_numbers_must_be_finite(bad):
    with pytest.raises(BoxError, match=r"a\.png"):
        Box(0, 0, bad, 5, A)


@pytest.mark.parametrize("corners", [(0, 0, 0, 5), (0, 0, 5, 0), (5, 0, 1, 5), (0, 5, 5, 1)])
def test_area_is_needed(corners):
    with pytest.raises(BoxError, match="no area"):
        Box(*corners, A)


@given(boxes())
def test_clip_stays_inside(box):
    part = box.clip(100, 90)
    if part is None:
        assert box.y1 <= 0 or box.x1 <= 0 or box.y0 >= 100 or box.x0 >= 90
    else:
        assert 0 <= part.y0 < part.y1 <= 100
        assert 0 <= part.x0 < part.x1 <= 90
        assert part.clip(100, 90) is part


@given(boxes(), boxes())
def test_iou_is_symmetric_and_bounded(one, other):
    assert one.iou(other) == pytest.approx(other.iou(one))
    assert 0 <= one.iou(other) <= 1 + 1e-9
    assert one.iou(one) == pytest.approx(1)


def test_iou_values():
    assert Box(0, 0, 2, 2, A).iou(Box(1, 1, 3, 3, A)) == pytest.approx(1 / 7)
    assert Box(0, 0, 2, 2, A).iou(Box(0, 0, 2, 2, B)) == 0


def test_set_fills_in_planes_and_classes():
    boxset = BoxSet((Box(0, 0, 2, 2, B, "y"), Box(0, 0, 2, 2, A, "x")), {A: PlaneInfo((9, 9))})
    assert tuple(boxset.planes) == (A, B)
    assert boxset.classes == ("y", "x")
    assert len(boxset) == 2
    assert boxset.on(A, "x") == (boxset.boxes[1],)
    assert boxset.on(A, "y") == ()
    with pytest.raises(TypeError):
        boxset.planes[A] = PlaneInfo()
    with pytest.raises(BoxError, match="twice"):
        BoxSet((), {}, ("x", "x"))


def test_set_can_be_copied_pickled_hashed():
    boxset = BoxSet((Box(0, 0, 2, 2, C, id=3),), {A: PlaneInfo((9, 9), True)})
    for twin in (pickle.loads(pickle.dumps(boxset)), copy.deepcopy(boxset)):
        assert twin == boxset
        assert hash(twin) == hash(boxset)


def test_complete_boxed_restrict():
    boxset = BoxSet((Box(0, 0, 2, 2, B),), {A: PlaneInfo(), C: PlaneInfo()})
    assert boxset.boxed_planes == (B,)
    assert boxset.unboxed_planes == (A, C)
    done = boxset.complete([C])
    assert done.boxed_planes == (C, B)
    assert not boxset.planes[C].complete
    assert boxset.complete().boxed_planes == (A, C, B)
    assert boxset.complete([PlaneId("new")]).planes[PlaneId("new")].complete
    assert boxset.restrict([B, A, PlaneId("none")]).planes.keys() == {A, B}
    assert boxset.restrict([A]).boxes == ()


def test_with_boxes_appends_classes():
    boxset = BoxSet((), {}, ("x",)).with_boxes([Box(0, 0, 1, 1, A, "y")])
    assert boxset.classes == ("x", "y")
    assert A in boxset.planes


def test_truth_value_means_something_to_learn_from():
    assert not BoxSet()
    assert not BoxSet((), {A: PlaneInfo()})
    assert BoxSet((), {A: PlaneInfo(complete=True)})


def test_check_names_every_problem():
    boxset = BoxSet(
        (
            Box(0, 0, 10, 10, A, "x"),
            Box(0, 0, 10, 10.1, A, "x"),
            Box(-5, 0, 10, 12, A, "x"),
            Box(60, 0, 70, 10, A, "x"),
            Box(0, 0, 1, 10, A, "x"),
            Box(0, 0, 10, 10, A, "y"),
            Box(0, 0, 10, 10, B, "x"),
        ),
        {C: PlaneInfo()},
        ("x",),
    )
    problems = boxset.check({A: (50, 50)})
    assert [p.kind for p in problems] == [
        "duplicate",
        "partly outside",
        "outside",
        "tiny",
        "unknown class",
        "unknown plane",
        "unknown plane",
    ]
    assert problems[-1].box is None
    assert all(p.message.endswith((".", "?")) for p in problems)
    assert BoxSet((Box(0, 0, 50, 50, A),)).check({A: (50, 50)}) == []


def test_clipped():
    info = PlaneInfo(complete_regions=((-5, -5, 20, 20), (60, 0, 70, 10)))
    boxset = BoxSet((Box(-5, 0, 10, 12, A), Box(60, 0, 70, 10, A), Box(0, 0, 900, 900, B)), {A: info})
    result = boxset.clipped({A: (50, 40)})
    assert [box.as_tuple() for box in result.boxes] == [(0, 0, 10, 12), (0, 0, 900, 900)]
    assert result.planes[A] == PlaneInfo((50, 40), False, ((0, 0, 20, 20),))


MASK = np.zeros((40, 50), np.int32)
MASK[2:5, 3:9] = 7
MASK[20:30, 10:12] = 7
MASK[30:33, 12:20] = 2_000_000_000


@pytest.mark.parametrize(
    ("mode", "label", "expected"),
    [
        ("instances", None, {7: (2, 3, 30, 12), 2_000_000_000: (30, 12, 33, 20)}),
        ("instances", 7, {7: (2, 3, 30, 12)}),
        ("components", 7, {1: (2, 3, 5, 9), 2: (20, 10, 30, 12)}),
        ("components", None, {1: (2, 3, 5, 9), 2: (20, 10, 33, 20)}),
        ("hull", None, {1: (2, 3, 33, 20)}),
        ("hull", 5, {}),
        ("instances", 5, {}),
        ("components", 5, {}),
    ],
)
def test_from_labels(mode, label, expected):
    boxset = BoxSet.from_labels(MASK, A, mode=mode, label=label, name="cell")
    assert {box.id: box.as_tuple() for box in boxset.boxes} == expected
    assert boxset.classes == ("cell",)
    assert boxset.planes[A] == PlaneInfo((40, 50), True)


@pytest.mark.parametrize("far", [65_534, 65_535, 10**9])
@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_from_labels_with_large_numbers(far, dtype):
    mask = np.zeros((40, 40), dtype)
    mask[2:9, 3:12], mask[20:30, 21:33] = 7, far
    found = BoxSet.from_labels(mask, A).boxes
    assert [(box.id, box.as_tuple()) for box in found] == [(7, (2, 3, 9, 12)), (far, (20, 21, 30, 33))]
    only = BoxSet.from_labels(mask, A, label=far).boxes
    assert [box.id for box in only] == [far]


def test_from_labels_bool_and_negative():
    assert len(BoxSet.from_labels(MASK > 0, A, mode="hull")) == 1
    assert BoxSet.from_labels(-MASK, A).boxes == ()
    assert not BoxSet.from_labels(MASK, A, complete=False).planes[A].complete


@pytest.mark.parametrize(
    ("mask", "mode"),
    [(MASK.astype(float), "instances"), (MASK[None], "instances"), (MASK, "ids"), (MASK[0], "hull")],
)
def test_from_labels_errors(mask, mode):
    with pytest.raises(BoxError):
        BoxSet.from_labels(mask, A, mode=mode)


def test_merge():
    region = (0.0, 0.0, 9.0, 9.0)
    one = BoxSet((Box(0, 0, 2, 2, A, "x"),), {A: PlaneInfo((9, 9), True), B: PlaneInfo((9, 9), True)})
    two = BoxSet((Box(0, 0, 3, 3, A, "y"),), {A: PlaneInfo(None, False, (region,))}, exclusive=False)
    both = BoxSet.merge([one, two])
    assert both.classes == ("x", "y")
    assert len(both) == 2
    assert not both.exclusive
    # Nobody looked for y on B or on all of A, so these are complete no longer; the region of A is.
    assert both.planes[A] == PlaneInfo((9, 9), False, (region,))
    assert not both.planes[B].complete
    assert BoxSet.merge([one, two.complete([A])]).planes[A].complete
    assert BoxSet.merge([]) == BoxSet()
    with pytest.raises(BoxError, match="different sizes"):
        BoxSet.merge([one, BoxSet((), {A: PlaneInfo((8, 8))})])


def test_save_and_load(tmp_path):
    boxset = BoxSet((Box(0, 0.5, 2, 2, C, "x", 4),), {A: PlaneInfo((9, 9), True)})
    boxset.save(tmp_path / "boxes.json")
    assert BoxSet.load(tmp_path / "boxes.json") == boxset


def test_imports_stay_light():
    code = (
        "import sys, napari_boxprompt.boxes, napari_boxprompt.images, napari_boxprompt.formats;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'qtpy', 'napari', 'skimage.measure')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
