"""Image layers as stacks of planes: every kind of array, channels, sliders and words."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

import dask.array
import zarr
from napari.components import ViewerModel
from napari.layers import Image
from napari.utils._proxies import PublicOnlyProxy

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import ImageError
from napari_boxprompt.gui.planes import PlaneView, combined_images

STACK = np.random.default_rng(0).integers(0, 255, (2, 3, 40, 50), dtype=np.uint8)


def view_of(data: Any, axes: tuple[int, int] = (-2, -1), **kwargs: Any) -> PlaneView:
    chosen = {key: kwargs.pop(key) for key in ("channel_axis", "channel") if key in kwargs}
    layer = Image(data, name="cells", **{"rgb": False, **kwargs})
    first, second = (axis % layer.ndim for axis in axes)
    return PlaneView(layer, (first, second), **chosen)


def show(layer: Image) -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_layer(layer)
    return viewer


# Pixels


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "memory map"])
def test_arrays_of_all_kinds(kind: str, tmp_path: Path) -> None:
    if kind == "dask":
        data: Any = dask.array.from_array(STACK, chunks=(1, 1, 20, 20))
    elif kind == "zarr":
        data = zarr.create_array(tmp_path / "a.zarr", shape=STACK.shape, chunks=(1, 1, 20, 20), dtype="u1")
        data[:] = STACK
    elif kind == "memory map":
        np.save(tmp_path / "a.npy", STACK)
        data = np.load(tmp_path / "a.npy", mmap_mode="r")
    else:
        data = STACK
    view = view_of(data)
    images = view.images()
    assert (view.ndim, view.extent, view.shape, view.count, view.plane_axes) == (
        4,
        (2, 3),
        (40, 50),
        6,
        (0, 1),
    )
    assert [plane.index for plane in images.planes] == list(np.ndindex(2, 3))
    assert np.array_equal(images.read(PlaneId("cells", (1, 2)))[:, :, 0], STACK[1, 2])


def test_lazy_arrays_are_read_a_plane_at_a_time() -> None:
    read: list[tuple[int, ...]] = []

    def block(block_info: Any = None) -> np.ndarray:
        read.append(block_info[None]["chunk-location"])
        return np.ones((1, 64, 64))

    data = dask.array.map_blocks(block, chunks=((1,) * 5, (64,), (64,)), dtype=float, meta=np.empty(0))
    images = view_of(data, contrast_limits=(0, 1)).images()
    read.clear()
    assert images.read(images.planes[3]).shape == (64, 64, 1)
    assert read == [(3, 0, 0)]


@pytest.mark.parametrize(("axes", "index"), [((0, 3), (2, 7)), ((1, 2), (0, 9)), ((2, 3), (1, 1))])
def test_planes_along_any_axes(axes: tuple[int, int], index: tuple[int, int]) -> None:
    data = np.random.default_rng(1).random((33, 34, 35, 36))
    images = view_of(data, axes).images()
    key: list[Any] = list(index)
    for axis in axes:
        key.insert(axis, slice(None))
    assert np.array_equal(images.read(PlaneId("cells", index))[:, :, 0], data[tuple(key)])


def test_multiscale_uses_the_finest_level() -> None:
    view = view_of([STACK, STACK[..., ::2, ::2]], multiscale=True)
    assert (view.shape, view.extent) == ((40, 50), (2, 3))
    assert np.array_equal(view.images().read(PlaneId("cells", (0, 1)))[:, :, 0], STACK[0, 1])


@pytest.mark.parametrize("colors", [3, 4])
@pytest.mark.parametrize("levels", [1, 2])
def test_rgb(colors: int, levels: int) -> None:
    data = np.random.default_rng(2).integers(0, 255, (3, 40, 50, colors), dtype=np.uint8)
    view = view_of(data if levels == 1 else [data, data[:, ::2, ::2]], rgb=True, multiscale=levels > 1)
    assert (view.ndim, view.axes, view.extent, view.shape) == (3, (1, 2), (3,), (40, 50))
    assert np.array_equal(view.images().read(PlaneId("cells", (2,))), data[2, :, :, :3])


@pytest.mark.parametrize("channel_axis", [0, 1, 2, 3])
def test_channel_axis_anywhere(channel_axis: int) -> None:
    data = np.random.default_rng(3).random((3, 40, 50))
    channels = np.stack([data, data + 1, data + 2], axis=channel_axis)
    axes = tuple(axis for axis in range(4) if axis != channel_axis)[1:]
    one = view_of(channels, axes, channel_axis=channel_axis, channel=2)
    assert (one.extent, one.count, len(one.plane_axes)) == ((3,), 3, 1)
    assert np.array_equal(one.images().read(PlaneId("cells", (1,)))[:, :, 0], data[1] + 2)
    three = view_of(channels, axes, channel_axis=channel_axis)
    pixels = three.images().read(PlaneId("cells", (1,)))
    assert np.array_equal(pixels, np.stack([data[1], data[1] + 1, data[1] + 2], axis=-1))


@pytest.mark.parametrize(
    ("shape", "kwargs", "message"),
    [
        ((5, 40, 50), {"channel_axis": 0}, "5 channels; choose"),
        ((5, 40, 50), {"channel_axis": 0, "channel": 5}, "no channel 5"),
        ((40, 50), {"channel": 1}, "no channel 1"),
        ((3, 20, 50), {}, "20 x 50"),
    ],
)
def test_images_that_cannot_be_used(shape: tuple[int, ...], kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        view_of(np.zeros(shape), **kwargs).images()


def test_worker_threads_do_not_touch_the_layer() -> None:
    """What a thread reads stays what it was, even if the layer has other data or another name by then."""
    view = view_of(STACK)
    images = view.images()
    view.layer.data, view.layer.name = np.zeros((40, 50)), "other"
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(images.read(PlaneId("cells", (1, 2)))))
    thread.start()
    thread.join()
    assert np.array_equal(found[0][:, :, 0], STACK[1, 2])


def test_layers_combined() -> None:
    flat = PlaneView(Image(np.ones((64, 64)), name="flat"), (0, 1))
    images = combined_images([view_of(STACK), flat])
    assert images.names == ("cells", "flat")
    assert len(images) == 7
    assert images.read(PlaneId("flat")).shape == (64, 64, 1)


# Sliders


def test_axes_are_those_displayed_in_ascending_order() -> None:
    viewer = show(Image(STACK, name="cells", rgb=False))
    layer = viewer.layers[0]
    assert PlaneView.from_viewer(layer, viewer).axes == (2, 3)
    viewer.dims.order = (2, 0, 3, 1)
    assert PlaneView.from_viewer(layer, viewer).axes == (1, 3)
    viewer.dims.ndisplay = 3
    assert PlaneView.from_viewer(layer, viewer).axes == (1, 3)


def test_channels_are_never_rows_or_columns() -> None:
    viewer = show(Image(np.zeros((40, 50, 5)), rgb=False))
    assert PlaneView.from_viewer(viewer.layers[0], viewer, channel_axis=2).axes == (0, 1)


def test_channels_alone_are_no_image() -> None:
    viewer = show(Image(np.zeros((40, 50)), rgb=False))
    with pytest.raises(ImageError, match="no plane"):
        PlaneView.from_viewer(viewer.layers[0], viewer, channel_axis=1)


def test_plane_shown_follows_the_sliders() -> None:
    viewer = show(Image(STACK, name="cells", scale=(2, 0.3, 1, 1), translate=(10, -5, 0, 0), rgb=False))
    view = PlaneView.from_viewer(viewer.layers[0], viewer)
    viewer.dims.set_current_step((0, 1), (1, 2))
    assert view.plane_shown(viewer) == PlaneId("cells", (1, 2))
    viewer.dims.set_point(1, viewer.dims.point[1] - 0.14)
    assert view.plane_shown(viewer) == PlaneId("cells", (1, 2))  # the nearer one
    viewer.layers[0].name = "new name"
    assert view.plane_shown(viewer) == PlaneId("new name", (1, 2))


def test_no_plane_is_shown() -> None:
    viewer = show(Image(STACK, rgb=False))
    view = PlaneView.from_viewer(viewer.layers[0], viewer)
    viewer.dims.order = (2, 3, 0, 1)
    assert view.plane_shown(viewer) is None  # other axes
    viewer.dims.order = (0, 1, 3, 2)
    assert view.plane_shown(viewer) is not None  # the same ones, turned
    viewer.dims.ndisplay = 3
    assert view.plane_shown(viewer) is None
    viewer.dims.ndisplay = 2
    viewer.add_image(np.zeros((1, 1, 1, 1)), translate=(50, 0, 0, 0), rgb=False)
    viewer.dims.set_point(0, 50)
    assert view.plane_shown(viewer) is None  # beside the image
    assert view.plane_shown(ViewerModel()) is None


def test_image_with_fewer_axes_than_the_viewer() -> None:
    viewer = show(Image(STACK, rgb=False))
    flat = viewer.add_image(np.zeros((40, 50)), name="flat")
    stack = viewer.add_image(np.zeros((3, 40, 50)), name="stack", rgb=False)
    viewer.dims.set_current_step((0, 1), (1, 2))
    assert PlaneView.from_viewer(flat, viewer).plane_shown(viewer) == PlaneId("flat")
    view = PlaneView.from_viewer(stack, viewer)
    assert view.plane_shown(viewer) == PlaneId("stack", (2,))
    view.show(viewer, PlaneId("stack", (1,)))
    assert viewer.dims.current_step[:2] == (1, 1)  # the other slider stays


def test_show_turns_the_axes_only_where_it_must() -> None:
    viewer = show(Image(STACK, name="cells", rgb=False))
    view = PlaneView.from_viewer(viewer.layers[0], viewer)
    viewer.dims.order = (1, 0, 3, 2)
    view.show(viewer, PlaneId("cells", (1, 2)))
    assert viewer.dims.order == (1, 0, 3, 2)
    viewer.dims.order = (3, 2, 1, 0)
    view.show(viewer, PlaneId("cells", (0, 1)))
    assert viewer.dims.order == (1, 0, 2, 3)
    assert view.plane_shown(viewer) == PlaneId("cells", (0, 1))


def test_show_leaves_camera_channel_and_other_sliders_alone() -> None:
    viewer = show(Image(np.zeros((4, 5, 40, 50)), name="cells", rgb=False))
    view = PlaneView.from_viewer(viewer.layers[0], viewer, channel_axis=1, channel=0)
    viewer.dims.set_current_step(1, 3)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 7.0, (0, 3, 4)
    view.show(viewer, PlaneId("cells", (2,)))
    assert view.plane_shown(viewer) == PlaneId("cells", (2,))
    assert viewer.dims.current_step[:2] == (2, 3)
    assert (viewer.scene.camera.zoom, viewer.scene.camera.center) == (7.0, (0, 3, 4))


def test_show_ignores_a_plane_that_is_gone() -> None:
    viewer = show(Image(STACK, name="cells", rgb=False))
    view = PlaneView.from_viewer(viewer.layers[0], viewer)
    before = viewer.dims.point
    for index in ((), (1,), (5, 5)):
        view.show(viewer, PlaneId("cells", index))
    view.show(ViewerModel(), PlaneId("cells", (1, 1)))
    assert viewer.dims.point == before


def test_show_in_smaller_units_of_the_world() -> None:
    viewer = show(Image(STACK, name="cells", scale=(1, 0.3, 1, 1), units=("s", "um", "um", "um"), rgb=False))
    view = PlaneView.from_viewer(viewer.layers[0], viewer)
    viewer.add_image(STACK, units=("ms", "nm", "nm", "nm"), rgb=False)
    view.show(viewer, PlaneId("cells", (1, 2)))
    assert view.plane_shown(viewer) == PlaneId("cells", (1, 2))
    np.testing.assert_allclose(viewer.dims.point[:2], (1000, 600))


# Words


@pytest.mark.parametrize(
    ("data", "kwargs", "words"),
    [
        (np.zeros((60, 256, 256)), {}, "60 planes of 256 x 256, z"),
        (np.zeros((256, 200)), {}, "1 plane of 256 x 200"),
        (np.zeros((1, 64, 70)), {}, "1 plane of 64 x 70, z"),
        (np.zeros((5, 60, 64, 64)), {}, "5 x 60 planes of 64 x 64, t z"),
        (np.zeros((2, 5, 3, 64, 64)), {}, "2 x 5 x 3 planes of 64 x 64, axis 0 t z"),
        (np.zeros((5, 40, 50)), {"axes": (0, 2)}, "40 planes of 5 x 50, y"),
        (np.zeros((5, 40, 50)), {"channel_axis": 0}, "1 plane of 40 x 50"),
        (np.zeros((6, 5, 40, 50)), {"channel_axis": 1}, "6 planes of 40 x 50, z"),
        (np.zeros((6, 40, 50)), {"axis_labels": ("depth", "y", "x")}, "6 planes of 40 x 50, depth"),
        (np.zeros((60, 64, 64, 3), np.uint8), {"rgb": True}, "60 planes of 64 x 64, z"),
    ],
)
def test_description(data: np.ndarray, kwargs: dict[str, Any], words: str) -> None:
    assert view_of(data, **kwargs).describe() == words


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"scale": (2, 0.25, -0.25), "units": ("um",) * 3}, "16 x 20 µm"),
        ({"scale": (2, 100, 0.1), "units": ("s", "nm", "um")}, "6.4 x 8 µm"),
        ({"scale": (2, 1000, 1000), "units": ("nm",) * 3}, "64 x 80 µm"),
        ({"units": ("um", "s", "um")}, "64 s x 80 µm"),
        ({"scale": (2, 0.25, 0.25)}, ""),
        ({"affine": np.diag([2, 0.5, 0.5, 1]), "units": ("um",) * 3}, "32 x 40 µm"),
        ({"affine": np.diag([2, 0.5, 0.5, 1]), "scale": (1, 0.5, 0.5), "units": ("um",) * 3}, "16 x 20 µm"),
        ({"affine": np.eye(4) + np.diag([0, 1, 0], 1), "units": ("um", "s", "um")}, ""),
    ],
)
def test_size_in_units(kwargs: dict[str, Any], words: str) -> None:
    assert view_of(np.zeros((3, 64, 80)), **kwargs).size_in_units() == words


@pytest.mark.parametrize(
    ("shape", "kwargs", "sizes"),
    [
        ((3, 40, 50), {"scale": (2, 0.5, 0.25)}, {"z": 2.0, "y": 0.5, "x": 0.25}),
        ((3, 40, 50), {"scale": (2, -0.5, 0.25)}, {"z": 2.0, "y": 0.5, "x": 0.25}),
        ((40, 50), {"affine": np.diag([0.5, 0.25, 1])}, {"y": 0.5, "x": 0.25}),
        ((5, 3, 40, 50), {"scale": (7, 2, 0.5, 0.25)}, {"z": 2.0, "y": 0.5, "x": 0.25}),
        ((6, 5, 40, 50), {"scale": (2, 1, 0.5, 0.25), "channel_axis": 1}, {"z": 2.0, "y": 0.5, "x": 0.25}),
        (
            (40, 50, 5),
            {"scale": (0.5, 0.25, 1), "channel_axis": 2, "axes": (0, 1)},
            {"y": 0.5, "x": 0.25},
        ),
        ((40, 6, 50), {"scale": (0.5, 2, 0.25), "axes": (0, 2)}, {"z": 0.5, "y": 2.0, "x": 0.25}),
    ],
)
def test_size_of_a_pixel(shape: tuple[int, ...], kwargs: dict[str, Any], sizes: dict[str, float]) -> None:
    view = view_of(np.zeros(shape), units=("um",) * len(shape), **kwargs)
    assert view.pixel_size() == {name: (size, "micrometer") for name, size in sizes.items()}


def test_plane_by_index() -> None:
    view = view_of(STACK)
    assert view.plane((np.int64(1), 2)) == PlaneId("cells", (1, 2))
    assert [view.plane(index) for index in ((2, 0), (0, -1), (0,), ())] == [None] * 4


# As a plugin meets them


def test_through_the_proxy_that_plugins_get() -> None:
    """It warns of every private attribute, and a proxy is never `is` its layer."""
    proxy = PublicOnlyProxy(show(Image([STACK, STACK[..., ::2, ::2]], name="cells", multiscale=True)))
    layer = proxy.layers[0]
    view = PlaneView.from_viewer(layer, proxy)
    assert view == PlaneView.from_viewer(layer.__wrapped__, proxy)
    view.show(proxy, PlaneId("cells", (1, 2)))
    assert view.plane_shown(proxy) == PlaneId("cells", (1, 2))
    proxy.dims.order = (2, 3, 0, 1)
    view.show(proxy, PlaneId("cells", (0, 1)))
    assert view.plane_shown(proxy) == PlaneId("cells", (0, 1))
    assert view.describe() == "2 x 3 planes of 40 x 50, t z"
    assert np.array_equal(view.images().read(PlaneId("cells", (1, 2)))[:, :, 0], STACK[1, 2])
