"""Shapes layers read as boxes: what is read, what is complained about, what mends it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers import Image, Shapes
from napari.utils._proxies import PublicOnlyProxy
from tests.helpers.worlds import frame

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.gui.planes import PlaneView
from napari_boxprompt.gui.reading import BoxReading, box_corners, corners_of, read_boxes

HEIGHT, WIDTH = 40, 50


def view_of(*lengths: int, axes: tuple[int, int] = (-2, -1), **kwargs: Any) -> PlaneView:
    layer = Image(np.zeros((*lengths, HEIGHT, WIDTH)), name="cells", rgb=False)
    first, second = (axis % layer.ndim for axis in axes)
    return PlaneView(layer, (first, second), **kwargs)


STACK = view_of(5)
PLANE = PlaneId("cells", (2,))


def rectangle(bounds: tuple[float, float, float, float], z: float = 2) -> np.ndarray:
    return frame((1, 2), (z, 0, 0), bounds)


def shapes_of(*vertices: Any, kind: str = "rectangle", **kwargs: Any) -> Shapes:
    return Shapes(list(vertices), shape_type=kind, **kwargs)


def kinds(reading: BoxReading) -> list[tuple[str, int]]:
    return [(problem.kind, problem.index) for problem in reading.problems]


def turned(bounds: tuple[float, float, float, float], degrees: float) -> np.ndarray:
    corners, angle = rectangle(bounds), np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = corners[:, 1:].mean(axis=0)
    corners[:, 1:] = (corners[:, 1:] - middle) @ turn.T + middle
    return corners


def test_boxes_rows_and_classes() -> None:
    shapes = shapes_of(
        *(rectangle((4, 5, 14, 25), z) for z in range(4)),
        features={"class": ["nucleus", None, " ", "cell"]},
    )
    reading = read_boxes(shapes, STACK, classes=("spot", "cell"))
    assert [box.label for box in reading.boxes] == ["nucleus", "spot", "spot", "cell"]
    assert [box.plane.index for box in reading.boxes] == [(0,), (1,), (2,), (3,)]
    assert {box.as_tuple() for box in reading.boxes} == {(4, 5, 14, 25)}
    assert reading.rows == (0, 1, 2, 3)
    assert reading.problems == ()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series(["a", np.nan], dtype=object), ["a", "object"]),
        (pd.Categorical(["a", None], categories=["a", "b"]), ["a", "object"]),
        (pd.array(["a", pd.NA], dtype="string"), ["a", "object"]),
        ([1, 2], ["1", "2"]),
    ],
)
def test_classes_in_any_column(column: Any, expected: list[str]) -> None:
    shapes = shapes_of(rectangle((4, 5, 14, 25)), rectangle((4, 5, 14, 26)))
    shapes.features = pd.DataFrame({"class": column})
    assert [box.label for box in read_boxes(shapes, STACK).boxes] == expected


def test_nothing_drawn() -> None:
    assert read_boxes(Shapes(ndim=3), STACK) == BoxReading()


def test_corners_in_any_order() -> None:
    corners = rectangle((4, 5, 14, 25))
    for order in ([2, 3, 0, 1], [3, 2, 1, 0], [1, 0, 3, 2]):
        reading = read_boxes(shapes_of(corners[order]), STACK)
        assert [box.as_tuple() for box in reading.boxes] == [(4, 5, 14, 25)]
        assert not reading.problems


@pytest.mark.parametrize("degrees", [1, 30, 45, 89])
def test_rotated(degrees: float) -> None:
    corners = turned((15, 10, 25, 35), degrees)
    shapes = shapes_of(corners)
    reading = read_boxes(shapes, STACK)
    assert kinds(reading) == [("rotated", 0)]
    (box,) = reading.boxes
    low, high = corners.min(axis=0) + 0.5, corners.max(axis=0) + 0.5
    np.testing.assert_allclose(box.as_tuple(), (*low[1:], *high[1:]), atol=1e-4)
    shapes.data = [reading.problems[0].repair]
    mended = read_boxes(shapes, STACK)
    assert not mended.problems
    np.testing.assert_allclose(mended.boxes[0].as_tuple(), box.as_tuple(), atol=1e-4)


def test_box_drawn_in_an_upright_layer_over_a_turned_image() -> None:
    layer = Image(np.zeros((5, HEIGHT, WIDTH)), name="cells", rotate=np.diag([1.0, 1, 1]))
    angle = np.radians(20)
    layer.rotate = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    view = PlaneView(layer, (1, 2))
    reading = read_boxes(shapes_of(rectangle((10, 10, 20, 20))), view)
    assert kinds(reading) == [("rotated", 0)]
    assert len(reading.boxes) == 1


@pytest.mark.parametrize("kind", ["ellipse", "polygon", "path", "line"])
def test_not_a_rectangle(kind: str) -> None:
    corners = rectangle((10, 10, 20, 40))
    vertices = {"ellipse": corners, "line": corners[[0, 2]]}.get(kind, corners[:3])
    shapes = shapes_of(vertices, kind=kind)
    reading = read_boxes(shapes, STACK)
    assert kinds(reading) == [("not a rectangle", 0)]
    assert [box.as_tuple() for box in reading.boxes] == [(10, 10, 20, 40)]
    np.testing.assert_allclose(reading.problems[0].repair, corners, atol=1e-4)


def test_polygon_in_the_form_of_an_upright_rectangle_is_one() -> None:
    reading = read_boxes(shapes_of(rectangle((10, 10, 20, 40)), kind="polygon"), STACK)
    assert (len(reading.boxes), reading.problems) == (1, ())


def test_line_without_area_is_no_box() -> None:
    reading = read_boxes(shapes_of(np.array([[2.0, 5, 5], [2, 5, 30]]), kind="line"), STACK)
    assert (reading.boxes, kinds(reading)) == ((), [("tiny", 0)])
    assert reading.problems[0].repair is None


def test_outside() -> None:
    beside, below, above = (
        rectangle((-20, 5, 0, 25)),
        rectangle((4, 5, 14, 25), 5),
        rectangle((4, 5, 14, 25), -1),
    )
    reading = read_boxes(shapes_of(beside, below, above), STACK)
    assert reading.boxes == ()
    assert kinds(reading) == [("outside", 0), ("outside", 1), ("outside", 2)]
    assert [problem.plane for problem in reading.problems] == [PLANE, None, None]


def test_partly_outside() -> None:
    shapes = shapes_of(rectangle((-3, 45, 10, 55)), rectangle((-3, 2, 45, 60)))
    reading = read_boxes(shapes, STACK)
    assert [box.as_tuple() for box in reading.boxes] == [(0, 45, 10, 50), (0, 2, 40, 50)]
    assert kinds(reading) == [("partly outside", 0), ("partly outside", 1)]
    shapes.data = [problem.repair for problem in reading.problems]
    assert read_boxes(shapes, STACK) == BoxReading(reading.boxes, (0, 1), ())


def test_rotated_and_partly_outside_is_mended_at_once() -> None:
    shapes = shapes_of(turned((-5, 10, 20, 40), 30))
    reading = read_boxes(shapes, STACK)
    assert kinds(reading) == [("rotated", 0), ("partly outside", 0)]
    assert np.array_equal(reading.problems[0].repair, reading.problems[1].repair)
    shapes.data = [reading.problems[0].repair]
    assert not read_boxes(shapes, STACK).problems


def test_box_on_the_border_is_inside_in_spite_of_float32() -> None:
    view = PlaneView(Image(np.zeros((5, 1000, 1000)), name="cells", scale=(1, 0.1, 0.1)), (1, 2))
    shapes = Shapes(ndim=3, translate=(0, 300, 300))
    shapes.add_rectangles(box_corners(Box(0, 0, 1000, 1000, PLANE), view, shapes))
    assert shapes.data[0].dtype == np.float32
    reading = read_boxes(shapes, view)
    assert reading.boxes[0].as_tuple() == pytest.approx((0, 0, 1000, 1000), abs=1e-3)
    assert not reading.problems


def test_tiny() -> None:
    reading = read_boxes(shapes_of(rectangle((4, 5, 5, 25)), rectangle((39, 5, 44, 25))), STACK)
    assert len(reading.boxes) == 2
    assert kinds(reading) == [("tiny", 0), ("partly outside", 1), ("tiny", 1)]
    assert reading.problems[0].repair is None


def test_duplicates() -> None:
    shapes = shapes_of(
        rectangle((4, 5, 14, 25)),
        rectangle((4.1, 5, 14, 25)),
        rectangle((4, 5, 14, 25), 3),
        rectangle((4, 5, 14, 25)),
        features={"class": ["a", "a", "a", "b"]},
    )
    reading = read_boxes(shapes, STACK)
    assert reading.rows == (0, 2, 3)
    assert kinds(reading) == [("duplicate", 1)]


def test_across_planes() -> None:
    lying, tilted = frame((0, 2), (0, 12, 0), (1, 5, 4, 25)), rectangle((4, 5, 14, 25))
    tilted[:2, 0] += 1
    reading = read_boxes(shapes_of(lying, tilted), STACK)
    assert reading.boxes == ()
    assert kinds(reading) == [("across planes", 0), ("across planes", 1)]
    assert all(problem.repair is None and problem.plane is None for problem in reading.problems)


def test_between_two_planes_is_on_the_nearer() -> None:
    leaning = rectangle((5, 5, 14, 25), 2.4)
    leaning[:2, 0] += 0.2  # nearest to plane 2 on one side, to plane 3 on the other
    shapes = shapes_of(rectangle((4, 5, 14, 25), 1.6), rectangle((4, 5, 14, 25), 1.4), leaning)
    reading = read_boxes(shapes, STACK)
    assert [box.plane.index for box in reading.boxes] == [(2,), (1,), (2,)]


def test_two_axes_over_a_stack() -> None:
    shapes = shapes_of(rectangle((4, 5, 14, 25))[:, 1:])
    assert shapes.ndim == 2
    assert read_boxes(shapes, STACK, at=PLANE).boxes == (Box(4, 5, 14, 25, PLANE),)
    for at in (None, PlaneId("cells")):
        assert kinds(read_boxes(shapes, STACK, at=at)) == [("across planes", 0)]
    assert read_boxes(shapes, view_of(1)).boxes[0].plane == PlaneId("cells", (0,))  # only one can be meant


def test_two_axes_over_planes_that_are_cut_otherwise() -> None:
    """napari shows such a layer transposed or not, depending on how the viewer got there: refused."""
    view = PlaneView(STACK.layer, (0, 2))
    shapes = shapes_of(rectangle((4, 5, 14, 25))[:, 1:])
    assert kinds(read_boxes(shapes, view, at=PlaneId("cells", (3,)))) == [("across planes", 0)]


def test_three_axes_over_four() -> None:
    view = view_of(2, 5)
    shapes = shapes_of(rectangle((4, 5, 14, 25), 3))
    reading = read_boxes(shapes, view, at=PlaneId("cells", (1, 0)))
    assert [box.plane.index for box in reading.boxes] == [(1, 3)]


def test_more_axes_than_the_image() -> None:
    """A flat image shows at every position of the other sliders, and so do boxes on it."""
    view = view_of()
    shapes = shapes_of(rectangle((-4, 5, 14, 25), 7))
    reading = read_boxes(shapes, view)
    assert [(box.as_tuple(), box.plane) for box in reading.boxes] == [((0, 5, 14, 25), PlaneId("cells"))]
    assert set(reading.problems[0].repair[:, 0]) == {7}  # stays where it is seen
    assert box_corners(reading.boxes[0], view, shapes).shape == (4, 3)


def test_channels_do_not_matter_to_boxes() -> None:
    view = view_of(5, 3, channel_axis=1)
    corners = frame((2, 3), (2, 1, 0, 0), (-4, 5, 14, 25))
    reading = read_boxes(shapes_of(corners), view)
    assert [(box.as_tuple(), box.plane) for box in reading.boxes] == [((0, 5, 14, 25), PLANE)]
    assert set(reading.problems[0].repair[:, 1]) == {1}
    new = box_corners(reading.boxes[0], PlaneView(view.layer, (2, 3), 1, channel=2), shapes_of(corners))
    assert set(new[:, 1]) == {2}


def test_new_corners_make_a_shape_in_many_axes() -> None:
    """napari takes two corners for a rectangle in two axes only."""
    view = view_of(2, 5)
    shapes = Shapes(ndim=4)
    shapes.add_rectangles(
        [box_corners(Box(4, 5, 14, 25, PlaneId("cells", (1, z))), view, shapes) for z in (2, 3)]
    )
    assert [box.plane.index for box in read_boxes(shapes, view).boxes] == [(1, 2), (1, 3)]


def test_corners_of_many_boxes() -> None:
    view, shapes = view_of(5, 3, channel_axis=1), Shapes(ndim=4, scale=(1, 1, 2, 3))
    boxes = [Box(4, 5, 14, 25, PLANE), Box(1, 2, 3, 4, PlaneId("cells", (0,)))]
    expected = [box_corners(box, view, shapes) for box in boxes]
    assert np.array_equal(corners_of(boxes, view, shapes), expected)
    assert corners_of([], view, shapes) == []


def test_mixed_shapes_keep_their_rows() -> None:
    shapes = Shapes(ndim=3)
    shapes.add_lines(np.array([[2.0, 5, 5], [2, 5, 30]]))
    shapes.add_rectangles(rectangle((4, 5, 14, 25)))
    shapes.add_ellipses(rectangle((14, 15, 24, 25)))
    shapes.add_rectangles(rectangle((40, 5, 54, 25)))
    reading = read_boxes(shapes, STACK)
    assert reading.rows == (1, 2)
    assert kinds(reading) == [("tiny", 0), ("not a rectangle", 2), ("outside", 3)]


def test_each_message_is_one_sentence() -> None:
    shapes = shapes_of(
        rectangle((-3, 2, 45, 60)),
        rectangle((4, 5, 14, 25)),
        rectangle((4, 5, 14, 25)),
        turned((10, 10, 20, 40), 30),
        rectangle((4, 5, 5, 25)),
        rectangle((60, 5, 70, 25)),
        frame((0, 2), (0, 12, 0), (1, 5, 4, 25)),
    )
    problems = read_boxes(shapes, STACK).problems
    assert {problem.kind for problem in problems} == {
        *("partly outside", "duplicate", "rotated", "tiny", "outside", "across planes")
    }
    for problem in problems:
        assert problem.message[0].isupper()
        assert problem.message[-1] in ".?"


def test_through_the_proxy_that_plugins_get() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((5, HEIGHT, WIDTH)), name="cells")
    viewer.add_layer(shapes_of(rectangle((-3, 5, 14, 25)), features={"class": ["a"]}))
    proxy = PublicOnlyProxy(viewer)
    reading = read_boxes(proxy.layers[1], PlaneView.from_viewer(proxy.layers[0], proxy))
    assert reading.boxes == (Box(0, 5, 14, 25, PLANE, "a"),)
    assert reading.problems[0].repair.shape == (4, 3)


def test_ten_thousand_boxes_are_read_without_a_pause() -> None:
    view = PlaneView(Image(np.zeros((5, 1000, 1000), np.uint8), name="cells"), (1, 2))
    places = [
        (5 + 9 * row, 5 + 9 * column, z) for z in range(1) for row in range(100) for column in range(100)
    ]
    vertices = [rectangle((y, x, y + 7, x + 7), z) for y, x, z in places]

    class Drawn:  # a real layer of this size takes napari a minute to build
        data, shape_type, ndim = vertices, ["rectangle"] * len(vertices), 3
        features = pd.DataFrame({"class": ["a"] * len(vertices)})

    source = Shapes(ndim=3)
    for name in ("units", "scale", "translate", "rotate", "shear", "affine"):
        setattr(Drawn, name, getattr(source, name))
    start = time.perf_counter()
    assert len(read_boxes(Drawn(), view).boxes) == 10_000  # type: ignore[arg-type]
    assert time.perf_counter() - start < 2
