"""Boxes and results lie where a person sees them, whatever the layers' transforms, units and axes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("napari", reason="napari is not installed")

import dask.array
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Shapes
from napari.utils.transforms import Affine
from tests.helpers.worlds import bounds_of, disc, frame, from_world, to_world

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.gui.layers import (
    PlaneView,
    box_corners,
    empty_labels,
    labels_to_boxes,
    new_boxes_layer,
    new_labels_layer,
    plane_slice,
    read_boxes,
)

# A rotated layer is cut along its last axes until the order of display has been set.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

LENGTHS = ("nm", "um")
SIDES = (40, 47)
BRIGHT = 200
QUICK = settings(
    max_examples=16,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # smaller examples would take minutes to find
)


@dataclass(repr=False)
class Seen:
    """A disc on one plane of an image in a viewer."""

    viewer: ViewerModel
    view: PlaneView
    place: tuple[int, ...]
    bounds: tuple[int, int, int, int]

    @property
    def corners(self) -> np.ndarray:
        """The disc's true box in data coordinates of the image."""
        return frame(self.view.axes, self.place, self.bounds)

    @property
    def plane(self) -> PlaneId:
        """The plane of the disc."""
        return PlaneId(self.view.name, tuple(self.place[axis] for axis in self.view.plane_axes))

    @property
    def units(self) -> list[str]:
        """A unit per axis to compare worlds in."""
        return ["um" if "meter" in str(unit) else str(unit) for unit in self.view.layer.units]


def in_plane(ndim: int, axes: tuple[int, int], block: np.ndarray) -> np.ndarray:
    matrix = np.eye(ndim)
    matrix[np.ix_(axes, axes)] = block
    return matrix


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


numbers = st.floats(-40, 40).map(lambda value: round(value, 2))
factors = st.floats(0.1, 5).map(lambda value: round(value, 2))


@st.composite
def transforms(draw: st.DrawFn, ndim: int, axes: tuple[int, int]) -> dict[str, Any]:
    """Everything that can move a layer without tilting its planes out of the screen."""
    shear = in_plane(ndim, axes, np.array([[1, draw(st.floats(-0.5, 0.5))], [0, 1]]))
    unit = draw(st.sampled_from(LENGTHS))
    extra = np.eye(ndim + 1)
    block = rotation(draw(numbers)) @ np.diag([draw(factors), draw(factors)])
    extra[:ndim, :ndim] = in_plane(ndim, axes, block)
    extra[:ndim, ndim] = draw(st.lists(numbers, min_size=ndim, max_size=ndim))
    return {
        "scale": draw(st.lists(factors, min_size=ndim, max_size=ndim)),
        "translate": draw(st.lists(numbers, min_size=ndim, max_size=ndim)),
        "rotate": in_plane(ndim, axes, rotation(draw(numbers))),
        "shear": draw(st.sampled_from([shear, None])),
        "affine": draw(st.sampled_from([extra, None])),
        "units": [unit if axis in axes else draw(st.sampled_from(LENGTHS)) for axis in range(ndim)],
    }


def kept_as(kind: str, data: np.ndarray) -> Any:
    """The same pixels as another kind of array."""
    if kind == "dask":
        return dask.array.from_array(data, chunks=24)
    if kind == "zarr":
        return zarr.array(data, chunks=tuple(min(n, 24) for n in data.shape))
    return data


@st.composite
def layers_of(draw: st.DrawFn, data: np.ndarray, axes: tuple[int, int]) -> Image:
    """An image layer anywhere, of any kind of array, at one resolution or two."""
    arrays = [data]
    halved = draw(st.sampled_from([(), axes, range(data.ndim)]))  # levels may have fewer planes too
    if halved:
        step = tuple(slice(None, None, 2 if axis in halved else 1) for axis in range(data.ndim))
        arrays.append(data[step] // 2)  # darker, so that it is seen which level was read
    kind = draw(st.sampled_from(["numpy", "dask", "zarr"]))
    kept: list[Any] = [kept_as(kind, array) for array in arrays]
    place = draw(transforms(data.ndim, axes))
    return Image(kept if halved else kept[0], name="cells", multiscale=bool(halved), rgb=False, **place)


@st.composite
def scenes(draw: st.DrawFn) -> Seen:
    """A disc on a plane along any two axes of a stack with 2 to 4 axes, in any order of display."""
    ndim = draw(st.integers(2, 4))
    axes = draw(st.sampled_from(list(itertools.combinations(range(ndim), 2))))
    lengths = [draw(st.integers(2, 4)) for _ in range(ndim)]
    lengths[axes[0]], lengths[axes[1]] = SIDES
    place = tuple(draw(st.integers(0, n - 1)) for n in lengths)
    mask = disc(SIDES, (draw(st.integers(12, 25)), draw(st.integers(12, 30))), draw(st.integers(4, 11)))
    data = np.zeros(lengths, np.uint8)
    key = tuple(slice(None) if axis in axes else i for axis, i in enumerate(place))
    data[key] = mask * BRIGHT
    viewer = ViewerModel()
    image = viewer.add_layer(draw(layers_of(data, axes)))
    others = draw(st.permutations([axis for axis in range(ndim) if axis not in axes]))
    viewer.dims.order = (*others, *draw(st.permutations(axes)))
    return Seen(viewer, PlaneView.from_viewer(image, viewer), place, bounds_of(mask))


def add_kept(shapes: Shapes, corners: np.ndarray) -> None:
    """Add a box, or pass over one that no layer could hold: napari keeps vertices in 32 bits."""
    sides = (corners[[1, 3]] - corners[0]).T
    lost = np.linalg.lstsq(sides, (corners.astype(np.float32) - corners).T)[0]
    assume(np.abs(lost).max() < 0.001)  # of a side, for instance of 2 nm in a layer that is 20 um away
    shapes.add_rectangles(corners)


def assert_reads_disc(seen: Seen, shapes: Shapes, **given: Any) -> None:
    reading = read_boxes(shapes, seen.view, **given)
    assert not reading.problems
    (box,) = reading.boxes
    assert box.plane == seen.plane
    assert np.abs(np.subtract(box.as_tuple(), seen.bounds)).max() < 0.05


@QUICK
@given(scenes(), st.data())
def test_box_round_disc(seen: Seen, data: st.DataObject) -> None:
    """In a layer that we made, and in one with transforms and units of its own."""
    world = to_world(seen.view.layer, seen.corners, seen.units)
    ours = seen.viewer.add_layer(new_boxes_layer(seen.view, name="boxes"))
    theirs = Shapes(ndim=seen.view.ndim, **data.draw(transforms(seen.view.ndim, seen.view.axes)))
    (pixels,) = seen.view.images().read(seen.plane).transpose(2, 0, 1)
    assert isinstance(pixels, np.ndarray)
    assert bounds_of(pixels == BRIGHT) == seen.bounds
    for shapes in (ours, theirs):
        add_kept(shapes, from_world(shapes, world, seen.units))
        assert_reads_disc(seen, shapes)
    theirs.data = []
    theirs.add_rectangles(box_corners(Box(*seen.bounds, seen.plane), seen.view, theirs))
    assert_reads_disc(seen, theirs)


@QUICK
@given(scenes())
def test_result_lies_on_the_image(seen: Seen) -> None:
    view, plane = seen.view, seen.plane
    whole, single = empty_labels(view), empty_labels(view, plane=plane)
    bright = view.images().read(plane)[..., 0] == BRIGHT
    whole[plane_slice(view, plane)][bright] = 7
    single[plane_slice(view, plane, of_one_plane=True)][bright] = 7
    offset = [0 if axis in view.axes else i for axis, i in enumerate(seen.place)]
    for labelled, first in ((whole, ()), (single, offset)):
        labels = new_labels_layer(view, labelled, name="result", role="prediction", offset=first)
        found = np.argwhere(labelled == 7)[::23]
        expected = to_world(view.layer, found + np.array(first or 0), seen.units)
        np.testing.assert_allclose(to_world(labels, found, seen.units), expected, rtol=1e-6, atol=1e-6)
        (box,) = labels_to_boxes(labels, view, plane, name="cell").boxes
        assert (box.as_tuple(), box.plane, box.id) == (seen.bounds, plane, 7)


@QUICK
@given(scenes())
def test_sliders_find_every_plane(seen: Seen) -> None:
    view, viewer = seen.view, seen.viewer
    for index in itertools.product(*map(range, view.extent)):
        plane = view.plane(index)
        view.show(viewer, plane)
        assert view.plane_shown(viewer) == plane
        # What napari itself cuts out of the layer; there is no public way to ask.
        cut = np.array(view.layer._data_slice.point)[list(view.plane_axes)]
        np.testing.assert_allclose(cut, index, atol=1e-6)


@pytest.mark.parametrize("lengths", [(3, *SIDES), (2, 3, *SIDES)])
@QUICK
@given(data=st.data())
def test_two_axes_over_many(lengths: tuple[int, ...], data: st.DataObject) -> None:
    ndim = len(lengths)
    axes = (ndim - 2, ndim - 1)
    viewer = ViewerModel()
    image = viewer.add_layer(data.draw(layers_of(np.zeros(lengths, np.uint8), axes)))
    view = PlaneView.from_viewer(image, viewer)
    place = (*(n - 2 for n in lengths[:-2]), 0, 0)
    seen = Seen(viewer, view, place, (5, 7, 21, 30))
    shapes = Shapes(ndim=2, **data.draw(transforms(2, (0, 1))))
    world = to_world(image, seen.corners, seen.units)[:, -2:]
    add_kept(shapes, from_world(shapes, world, seen.units[-2:]))
    assert_reads_disc(seen, shapes, at=view.plane(place[:-2]))


@QUICK
@given(data=st.data())
def test_channel_axis_anywhere(data: st.DataObject) -> None:
    """Results and boxes lie on their plane on every channel."""
    channel_axis = data.draw(st.integers(0, 3))
    lengths = [3, *SIDES]
    lengths.insert(channel_axis, 5)
    axes = tuple(axis for axis in range(4) if axis != channel_axis)[1:]
    viewer = ViewerModel()
    numbered = np.arange(0, 10, 2, np.uint8).reshape(np.where(np.arange(4) == channel_axis, -1, 1))
    image = viewer.add_layer(data.draw(layers_of(np.broadcast_to(numbered, lengths), axes)))
    view = PlaneView(image, axes, channel_axis, channel=data.draw(st.integers(0, 4)))
    plane = view.plane((1,))
    assert np.all(view.images().read(plane) == 2 * view.channel)
    shapes = new_boxes_layer(view, name="boxes")
    shapes.add_rectangles(box_corners(Box(3, 4, 20, 30, plane), view, shapes))
    (box,) = read_boxes(shapes, view).boxes
    np.testing.assert_allclose(box.as_tuple(), (3, 4, 20, 30), atol=0.01)
    assert box.plane == plane
    labels = empty_labels(view)
    labels[plane_slice(view, plane)][3:20, 4:30] = 1
    layer = new_labels_layer(view, labels, name="result", role="prediction")
    (plane_axis,) = view.plane_axes
    units = ["um"] * 4
    for channel in range(5):
        point = np.zeros(4)
        point[[channel_axis, plane_axis, *axes]] = channel, 1, 3, 4
        found = from_world(layer, to_world(image, point, units), units)
        expected = np.where(np.arange(4) == channel_axis, 0, point)
        assert np.array_equal(np.rint(found), expected)


def test_rotation_by_napari_is_a_rotation_here() -> None:
    """The tests' own matrices mean what napari's own degrees mean."""
    assert np.allclose(Affine(rotate=30, ndim=2).linear_matrix, rotation(30))


def test_image_of_the_tests_is_bright_where_the_disc_is() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(disc(SIDES, (20, 20), 5) * 200)
    assert isinstance(image, Image)
    assert image.get_value((20, 20)) == 200
    assert image.get_value((20, 26)) == 0
