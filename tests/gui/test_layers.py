"""Layers that we make: they lie over the image, carry their role and show what is drawn or found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes
from napari.utils._proxies import PublicOnlyProxy, ReadOnlyWrapper
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.gui.geometry import data_to_world
from napari_boxprompt.gui.hits import keep_clickable
from napari_boxprompt.gui.layers import (
    ROLE_KEY,
    PlaneView,
    box_corners,
    empty_labels,
    layer_transform,
    layers_with_role,
    match_units,
    new_boxes_layer,
    new_labels_layer,
    on_layer,
    plane_slice,
    read_boxes,
    role_of,
    same_selection,
)

MOVED: dict[str, Any] = {
    "scale": (2, 0.5, 0.5),
    "translate": (5, -6, 7),
    "rotate": np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]),
    "shear": (0, 0, 0.3),
    "affine": np.array([[1, 0, 0, 3], [0, 2, 0.1, 0], [0, 0, 1, -4], [0, 0, 0, 1]]),
    "units": ("um", "nm", "nm"),
    "axis_labels": ("depth", "row", "column"),
}


def view_of(*lengths: int, axes: tuple[int, int] = (-2, -1), channel_axis: int | None = None, **kwargs: Any):
    layer = Image(np.zeros(lengths), name="cells", rgb=False, **kwargs)
    return PlaneView(layer, (axes[0] % layer.ndim, axes[1] % layer.ndim), channel_axis)


def drag(viewer: ViewerModel, layer: Layer, start: Any, end: Any) -> None:
    """Press, move and release, between points in the world, as the canvas tells of it."""

    def tell(call: Any, kind: str, point: np.ndarray, dragging: bool) -> None:
        event = SimpleNamespace(
            type=kind, position=tuple(point), is_dragging=dragging, modifiers=[], handled=False
        )
        event.pos, event.dims_displayed = point[-2:], list(viewer.dims.displayed)
        event.dims_point, event.view_direction, event.up_direction = viewer.dims.point, None, None
        call(layer, ReadOnlyWrapper(event, exceptions=("handled",)))

    first, last = np.array(start, float), np.array(end, float)
    tell(mouse_press_callbacks, "mouse_press", first, False)
    for part in (
        0.2,
        0.6,
        1,
        1,
        1,
    ):  # napari ignores moves of a few pixels, and there is no canvas to tell it so
        tell(mouse_move_callbacks, "mouse_move", first + part * (last - first), True)
    tell(mouse_release_callbacks, "mouse_release", last, False)


# Where they lie


def test_transform_is_that_of_the_image() -> None:
    view = view_of(4, 40, 50, **MOVED)
    boxes = new_boxes_layer(view, name="boxes")
    labels = new_labels_layer(view, empty_labels(view), name="found", role="prediction")
    for layer in (boxes, labels):
        assert np.array_equal(data_to_world(layer), data_to_world(view.layer))
        assert (layer.units, layer.axis_labels) == (view.layer.units, view.layer.axis_labels)
        for name in ("scale", "translate", "rotate", "shear"):
            np.testing.assert_allclose(getattr(layer, name), getattr(view.layer, name))


def test_transform_is_a_copy() -> None:
    view = view_of(4, 40, 50, **MOVED)
    before = data_to_world(view.layer)
    place = layer_transform(view)
    place["scale"][:] = 9
    place["affine"][:] = 9
    assert np.array_equal(data_to_world(view.layer), before)


def test_users_layers_are_left_alone() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 40, 50)), name="cells", rgb=False, scale=(2, 0.5, 0.5))
    viewer.dims.set_current_step(0, 2)
    before = (image.name, data_to_world(image).tolist(), image.metadata, viewer.dims.point, viewer.dims.range)
    view = PlaneView.from_viewer(image, viewer)
    viewer.add_layer(new_boxes_layer(view, name="boxes"))
    viewer.add_layer(new_labels_layer(view, empty_labels(view), name="found", role="prediction"))
    after = (image.name, data_to_world(image).tolist(), image.metadata, viewer.dims.point, viewer.dims.range)
    assert after == before


@pytest.mark.parametrize("rgb", [False, True])
def test_multiscale_and_rgb(rgb: bool) -> None:
    shape = (3, 64, 80, 3) if rgb else (3, 64, 80)
    data = [np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)[:, ::2, ::2]]
    view = PlaneView(Image(data, name="cells", rgb=rgb, multiscale=True, scale=(2, 1, 1)), (1, 2))
    plane = PlaneId("cells", (2,))
    labels = empty_labels(view)
    assert labels.shape == (3, 64, 80)
    layer = new_labels_layer(view, labels, name="found", role="prediction")
    boxes = new_boxes_layer(view, name="boxes")
    boxes.add_rectangles(box_corners(Box(3, 4, 60, 70, plane), view, boxes))
    assert read_boxes(boxes, view).boxes == (Box(3, 4, 60, 70, plane),)
    assert layer.data_to_world((2, 63, 79)) == view.layer.data_to_world((2, 63, 79))


# Arrays of labels


def test_empty_labels() -> None:
    view = view_of(2, 3, 40, 50)
    whole, one = empty_labels(view), empty_labels(view, np.uint8, PlaneId("cells", (1, 2)))
    assert (whole.shape, whole.dtype, whole.any()) == ((2, 3, 40, 50), np.uint32, np.False_)
    assert (one.shape, one.dtype) == ((1, 1, 40, 50), np.uint8)
    whole[plane_slice(view, PlaneId("cells", (1, 2)))][3, 4] = 1
    one[plane_slice(view, PlaneId("cells", (1, 2)), of_one_plane=True)][3, 4] = 1
    assert (np.argwhere(whole).tolist(), np.argwhere(one).tolist()) == ([[1, 2, 3, 4]], [[0, 0, 3, 4]])


def test_planes_along_another_axis() -> None:
    view = view_of(40, 5, 50, axes=(0, 2))
    labels = empty_labels(view)
    assert labels[plane_slice(view, PlaneId("cells", (3,)))].shape == (40, 50)
    labels[plane_slice(view, PlaneId("cells", (3,)))][7, 8] = 1
    assert np.argwhere(labels).tolist() == [[7, 3, 8]]
    assert empty_labels(view, plane=PlaneId("cells", (3,))).shape == (40, 1, 50)


@pytest.mark.parametrize(
    ("axes", "channel_axis"), [((-2, -1), None), ((0, 2), None), ((1, 3), 2), ((2, 3), 0)]
)
def test_all_planes_in_the_axes_of_a_layer(axes: tuple[int, int], channel_axis: int | None) -> None:
    view = view_of(40, 50, 60, 70, axes=axes, channel_axis=channel_axis)
    planes = np.arange(np.prod([*view.extent, *view.shape])).reshape(*view.extent, *view.shape)
    turned = on_layer(view, planes)
    assert turned.shape == empty_labels(view).shape
    assert np.shares_memory(turned, planes)
    for index in np.ndindex(*view.extent):
        np.testing.assert_array_equal(turned[plane_slice(view, PlaneId("cells", index))], planes[index])


def test_preview_of_one_plane_lies_on_it() -> None:
    view = view_of(4, 40, 50, **MOVED)
    data = empty_labels(view, plane=PlaneId("cells", (2,)))
    layer = new_labels_layer(view, data, name="preview", role="preview", offset=(2, 0, 0), opacity=0.5)
    np.testing.assert_allclose(layer.data_to_world((0, 11, 12)), view.layer.data_to_world((2, 11, 12)))
    assert layer.opacity == 0.5


@pytest.mark.parametrize("channel_axis", [0, 1, 3])
def test_result_shows_on_every_channel(channel_axis: int) -> None:
    lengths = [3, 40, 50]
    lengths.insert(channel_axis, 4)
    axes = tuple(axis for axis in range(4) if axis != channel_axis)[1:]
    viewer = ViewerModel()
    viewer.add_layer(Image(np.zeros(lengths), name="cells", rgb=False))
    view = PlaneView(viewer.layers[0], axes, channel_axis, 1)
    labels = empty_labels(view)
    labels[plane_slice(view, PlaneId("cells", (2,)))][10, 20] = 5
    layer = viewer.add_layer(new_labels_layer(view, labels, name="found", role="prediction"))
    assert layer.data.shape[channel_axis] == 1
    assert viewer.dims.nsteps == tuple(lengths)
    viewer.dims.order = (channel_axis, *view.plane_axes, *axes)
    point = np.zeros(4)
    point[[view.plane_axes[0], *axes]] = 2, 10, 20
    for channel in range(4):
        point[channel_axis] = channel
        viewer.dims.set_point((channel_axis, view.plane_axes[0]), (channel, 2))
        assert layer.get_value(point, world=True) == 5
    viewer.dims.set_point(view.plane_axes[0], 1)
    assert layer.get_value(point, world=True) == 0


def test_boxes_show_on_every_channel_where_channels_come_first() -> None:
    view = view_of(3, 5, 40, 50, channel_axis=0, scale=(1, 2, 0.5, 0.5), units=("pixel", "um", "um", "um"))
    shapes = new_boxes_layer(view, name="boxes")
    assert (shapes.ndim, shapes.units) == (3, view.layer.units[1:])
    shapes.add_rectangles(box_corners(Box(4, 5, 14, 25, PlaneId("cells", (2,))), view, shapes))
    assert read_boxes(shapes, view).boxes == (Box(4, 5, 14, 25, PlaneId("cells", (2,))),)


@pytest.mark.parametrize("channel_axis", [1, 3])
def test_boxes_show_on_every_channel_wherever_channels_are(channel_axis: int) -> None:
    lengths = [5, 40, 50]
    lengths.insert(channel_axis, 4)
    z, y, x = (axis for axis in range(4) if axis != channel_axis)
    viewer = ViewerModel()
    scale = np.array([2.0, 2.0, 2.0, 2.0])
    viewer.add_layer(Image(np.zeros(lengths), name="cells", rgb=False, scale=scale))
    viewer.dims.order = (z, channel_axis, y, x)
    view = PlaneView(viewer.layers[0], (y, x), channel_axis, 2)
    shapes = viewer.add_layer(new_boxes_layer(view, name="boxes"))
    keep_clickable(shapes, stretched=True)
    assert viewer.dims.nsteps == tuple(lengths), "no steps more"
    drawn = Box(4, 5, 14, 25, PlaneId("cells", (2,)))
    shapes.add_rectangles(box_corners(drawn, view, shapes))
    assert read_boxes(shapes, view).boxes == (drawn,)

    def seen(plane: int, channel: int) -> bool:
        point = np.zeros(4)
        point[[z, channel_axis, y, x]] = plane, channel, 8, 12
        viewer.dims.set_point((z, channel_axis), tuple(scale[0] * point[[z, channel_axis]]))
        shapes.mouse_drag_callbacks[0](shapes, None)
        return shapes.get_value(scale * point, world=True)[0] == 0

    assert [seen(2, channel) for channel in range(4)] == [True] * 4
    assert not seen(1, 2)


def test_new_layers_share_nothing_with_old_results() -> None:
    """`labels.data = new` would leave undo with values of the old array: a new run is a new layer."""
    view = view_of(4, 40, 50)
    first = new_labels_layer(view, empty_labels(view), name="found", role="prediction")
    second = new_labels_layer(view, empty_labels(view), name="found", role="prediction")
    second.data_setitem((np.array([1]), np.array([2]), np.array([3])), 7)
    assert not first.data.any()


# Roles


def test_roles_and_not_names() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 40, 50)), name="cells", rgb=False)
    view = PlaneView.from_viewer(viewer.layers[0], viewer)
    boxes = viewer.add_layer(new_boxes_layer(view, name="boxes", metadata={"mine": 1}, edge_width=3))
    complete = viewer.add_layer(new_boxes_layer(view, name="complete", role="complete"))
    viewer.add_shapes(name="boxes", metadata={"napari-boxprompt": "something else"}, ndim=3)
    viewer.add_points(metadata={"napari-boxprompt": {"role": 3}}, ndim=3)
    boxes.name = "what the user likes"
    assert layers_with_role(viewer, "boxes") == [boxes]
    assert layers_with_role(viewer, "complete") == [complete]
    assert layers_with_role(viewer, "preview") == []
    assert boxes.metadata["mine"] == 1
    entry = {"role": "boxes", "image": "cells", "axes": (1, 2), "channel_axis": None}
    assert boxes.metadata[ROLE_KEY] == entry
    assert [role_of(layer) for layer in viewer.layers] == [None, "boxes", "complete", None, None]


def test_through_the_proxy_that_plugins_get() -> None:
    proxy = PublicOnlyProxy(ViewerModel())
    proxy.add_image(np.zeros((4, 40, 50)), name="cells", rgb=False, **MOVED)
    view = PlaneView.from_viewer(proxy.layers[0], proxy)
    plane = PlaneId("cells", (2,))
    boxes = proxy.add_layer(new_boxes_layer(view, name="boxes"))
    boxes.add_rectangles(box_corners(Box(3, 4, 20, 30, plane), view, boxes))
    proxy.add_layer(new_labels_layer(view, empty_labels(view), name="found", role="prediction"))
    (found,) = layers_with_role(proxy, "prediction")
    assert isinstance(found, Labels)
    (drawn,) = layers_with_role(proxy, "boxes")
    assert isinstance(drawn, Shapes)
    assert drawn == boxes
    assert len(read_boxes(drawn, view).boxes) == 1


# Drawing


def test_box_drawn_with_the_mouse() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 40, 50)), name="cells", rgb=False, scale=(2, 0.3, 0.3))
    view = PlaneView.from_viewer(image, viewer)
    boxes = viewer.add_layer(new_boxes_layer(view, name="boxes"))
    boxes.mode = "add_rectangle"
    viewer.dims.set_current_step(0, 3)
    drag(viewer, boxes, image.data_to_world((3, 4.5, 5.5)), image.data_to_world((3, 19.5, 29.5)))
    (box,) = read_boxes(boxes, view).boxes
    assert box.plane == view.plane_shown(viewer) == PlaneId("cells", (3,))
    np.testing.assert_allclose(box.as_tuple(), (5, 6, 20, 30), atol=1e-3)


def test_box_drawn_beside_a_layer_in_smaller_units() -> None:
    """napari gives mouse positions in the units of the world to layers in other units."""
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 40, 50)), name="cells", rgb=False, units=("um",) * 3)
    view = PlaneView.from_viewer(image, viewer)
    boxes = viewer.add_layer(new_boxes_layer(view, name="boxes"))
    boxes.mode = "add_rectangle"
    viewer.dims.set_current_step(0, 3)
    boxes.add_rectangles(box_corners(Box(1, 2, 30, 30, PlaneId("cells", (3,))), view, boxes))
    viewer.add_image(np.zeros((4, 40, 50)), rgb=False, units=("nm",) * 3)
    match_units(image, viewer.dims.units)
    assert {str(unit) for unit in image.units} == {"micrometer"}  # the user's layers are his
    match_units(boxes, viewer.dims.units)
    assert boxes.units == viewer.dims.units
    view.show(viewer, PlaneId("cells", (3,)))
    drag(viewer, boxes, (3000, 4500, 5500), (3000, 19500, 29500))
    found = [box.as_tuple() for box in read_boxes(boxes, view).boxes]
    np.testing.assert_allclose(found, [(1, 2, 30, 30), (5, 6, 20, 30)], atol=1e-3)


def test_units_that_do_not_fit_are_left_alone() -> None:
    view = view_of(4, 40, 50, units=("um",) * 3)
    boxes = new_boxes_layer(view, name="boxes")
    before = data_to_world(boxes)
    for units in (None, view.layer.units, new_boxes_layer(view_of(4, 40, 50), name="other").units):
        match_units(boxes, units)
        assert boxes.units == view.layer.units
        assert np.array_equal(data_to_world(boxes), before)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_layers_are_added_without_changing_the_selection(count: int) -> None:
    viewer = ViewerModel()
    layers = [viewer.add_image(np.zeros((20, 20)), name=str(i)) for i in range(3)]
    chosen = set(layers[:count])
    viewer.layers.selection = chosen
    with same_selection(viewer):
        viewer.add_labels(np.zeros((20, 20), int))
        viewer.add_labels(np.zeros((20, 20), int))
    assert set(viewer.layers.selection) == chosen
    assert viewer.layers.selection.active == (layers[0] if count == 1 else None)


def test_a_layer_that_went_meanwhile_is_not_selected_again() -> None:
    viewer = ViewerModel()
    layers = [viewer.add_image(np.zeros((20, 20)), name=str(i)) for i in range(3)]
    viewer.layers.selection = set(layers)
    with same_selection(viewer):
        viewer.layers.remove(layers[0])
    assert set(viewer.layers.selection) == set(layers[1:])
