"""Label layers of any grid become boxes on planes of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

import dask.array
from napari.layers import Image, Labels

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.gui import sampling
from napari_boxprompt.gui.planes import PlaneView
from napari_boxprompt.gui.sampling import labels_on_plane, labels_to_boxes

PLANE = PlaneId("cells", (1,))


def view_of(shape: tuple[int, ...] = (3, 40, 50), axes: tuple[int, int] = (1, 2), **kwargs: Any) -> PlaneView:
    return PlaneView(Image(np.zeros(shape), name="cells", rgb=False, **kwargs), axes)


def objects() -> np.ndarray:
    labels = np.zeros((3, 40, 50), np.uint16)
    labels[1, 4:10, 6:20] = 3
    labels[1, 20:30, 6:20] = 8
    labels[1, 35:38, 40:50] = 3
    labels[2, 1:5, 1:5] = 9
    return labels


def bounds(layer: Labels, view: PlaneView, plane: PlaneId = PLANE, **kwargs: Any) -> dict[int, Any]:
    boxes = labels_to_boxes(layer, view, plane, name="cell", **kwargs).boxes
    return {box.id: box.as_tuple() for box in boxes}


def test_labels_on_the_grid_of_the_image() -> None:
    found = labels_to_boxes(Labels(objects()), view_of(), PLANE, name="cell")
    assert {box.id: box.as_tuple() for box in found.boxes} == {3: (4, 6, 38, 50), 8: (20, 6, 30, 20)}
    assert {(box.label, box.plane) for box in found.boxes} == {("cell", PLANE)}
    assert found.planes[PLANE].shape == (40, 50)
    assert not found.planes[PLANE].complete


def test_one_object() -> None:
    layer, view = Labels(objects()), view_of()
    assert bounds(layer, view, selected=8) == {8: (20, 6, 30, 20)}
    assert bounds(layer, view, selected=9) == {}
    assert bounds(layer, view, selected=3, mode="components") == {1: (4, 6, 10, 20), 2: (35, 40, 38, 50)}


def test_coarser_labels_in_other_units() -> None:
    layer = Labels(objects()[:, ::2, ::2], scale=(1, 0.2, 0.2), translate=(0, 0.05, 0.05), units=("um",) * 3)
    view = view_of(scale=(1000, 100, 100), units=("nm",) * 3)
    assert bounds(layer, view) == {3: (4, 6, 38, 50), 8: (20, 6, 30, 20)}


def test_labels_that_reach_only_over_a_part() -> None:
    layer = Labels(np.full((10, 10), 5), translate=(35, -4))
    assert bounds(layer, view_of()) == {5: (35, 0, 40, 6)}
    assert not labels_on_plane(Labels(np.ones((10, 10), int), translate=(99, 99)), view_of(), PLANE).any()


def test_turned_labels() -> None:
    quarter = np.array([[0.0, -1], [1, 0]])
    layer = Labels(np.pad(np.full((10, 4), 6), 1), rotate=quarter, translate=(20, 20))
    # Row r, column c of the labels lies at row 20 - c, column 20 + r of the image.
    assert bounds(layer, view_of()) == {6: (16, 21, 20, 31)}


def test_labels_with_other_axes_than_the_image() -> None:
    flat = Labels(objects()[1])
    assert bounds(flat, view_of()) == bounds(flat, view_of(), PlaneId("cells", (2,)))
    assert bounds(Labels(objects()[1:]), view_of((40, 50), (0, 1)), PlaneId("cells"))[8] == (20, 6, 30, 20)


def test_planes_along_another_axis() -> None:
    view = view_of((40, 41, 42), (0, 2))
    labels = np.zeros((40, 41, 42), int)
    labels[3:9, 7, 10:20] = 1
    assert bounds(Labels(labels), view, PlaneId("cells", (7,))) == {1: (3, 10, 9, 20)}
    assert bounds(Labels(labels), view, PlaneId("cells", (8,))) == {}


def test_multiscale_and_lazy_labels() -> None:
    lazy = dask.array.from_array(objects(), chunks=(1, 20, 20))
    expected = bounds(Labels(objects()), view_of())
    assert bounds(Labels(lazy), view_of()) == expected
    assert bounds(Labels([lazy, lazy[:, ::2, ::2]], multiscale=True), view_of()) == expected


def test_large_planes_are_looked_up_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = Labels(objects(), rotate=[0, 0, 10])
    whole = labels_on_plane(turned, view_of(), PLANE)
    assert set(np.unique(whole)) == {0, 3, 8}
    monkeypatch.setattr(sampling, "_BLOCK_PIXELS", 130)
    assert np.array_equal(labels_on_plane(turned, view_of(), PLANE), whole)


@pytest.mark.parametrize("axes", [(1, 2), (0, 2), (2, 1)])
def test_grids_along_the_axes_are_looked_up_alike(
    axes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Labels(
        np.random.default_rng(0).integers(0, 9, (9, 23, 30)), scale=(0.4, 1.7, 1.3), translate=(0, 3, -4)
    )
    view = view_of(axes=axes)
    places = [PlaneId("cells", (z,)) for z in range(view.extent[0])]
    quick = [labels_on_plane(layer, view, plane) for plane in places]
    monkeypatch.setattr(np, "count_nonzero", lambda _: 0)  # nothing lies along an axis, then
    slow = [labels_on_plane(layer, view, plane) for plane in places]
    assert any(part.any() for part in slow)
    assert all(np.array_equal(one, other) for one, other in zip(quick, slow, strict=True))
