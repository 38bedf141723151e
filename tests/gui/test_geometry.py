"""Matrices between layers: units, missing axes, tilted layers."""

from __future__ import annotations

import itertools

import numpy as np
import pint
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import Dims, ViewerModel
from napari.layers import Image, Shapes

from napari_boxprompt.gui.geometry import (
    data_to_world,
    displayed_axes,
    image_from_layer,
    layer_from_image,
    physical_matrix,
    pixel_steps,
    slider_matrix,
    transform,
    unit_factors,
)
from napari_boxprompt.gui.planes import PlaneView

TILTED = {
    "scale": (2, 0.5, 0.1),
    "translate": (5, -6, 7),
    "rotate": (10, 20, 30),
    "shear": (0.1, -0.2, 0.3),
    "affine": np.array([[1, 0.2, 0, 3], [0, 2, 0.1, 0], [0.3, 0, 1, -4], [0, 0, 0, 1]]),
}
tilted = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def units_of(*names: str) -> list[pint.Unit]:
    return list(Image(np.zeros((2,) * len(names)), units=names).units)


def image(shape: tuple[int, ...] = (4, 40, 50), **kwargs: object) -> Image:
    return Image(np.zeros(shape), rgb=False, **kwargs)


def view_of(layer: Image) -> PlaneView:
    return PlaneView(layer, (layer.ndim - 2, layer.ndim - 1))


@tilted
@pytest.mark.parametrize("shear", [(0.1, -0.2, 0.3), np.array([[1, 0, 0], [0.4, 1, 0], [0.2, -0.3, 1]])])
def test_world_is_napari_s_world(shear: object) -> None:
    layer = image(**{**TILTED, "shear": shear})
    for point in ((0, 0, 0), (1, 2, 3), (-4, 5.5, 60)):
        np.testing.assert_allclose(transform(data_to_world(layer), point), layer.data_to_world(point))


TURNED = np.array([[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]])


@tilted
@pytest.mark.parametrize(
    ("kwargs", "steps"),
    [
        ({"scale": (2, 0.5, 0.25), "units": ("um",) * 3}, ["2 um", "0.5 um", "0.25 um"]),
        ({"scale": (2, -0.5, 0.25), "units": ("um",) * 3}, ["2 um", "0.5 um", "0.25 um"]),
        ({"scale": (2, 0.5, 0.25), "units": ("s", "nm", "um")}, ["2 s", "0.5 nm", "0.25 um"]),
        ({"scale": (2, 0.5, 0.25)}, [None, None, None]),
        ({"scale": (1, 0.5, 0.25), "units": ("pixel", "um", "um")}, [None, "0.5 um", "0.25 um"]),
        (
            {"affine": np.diag([2, 0.5, -0.5, 1]), "scale": (2, 1, 1), "units": ("mm",) * 3},
            ["4 mm", "0.5 mm", "0.5 mm"],
        ),
        ({"scale": (2, 0.5, 0.5), "rotate": TURNED, "units": ("um",) * 3}, ["2 um", "0.5 um", "0.5 um"]),
        ({"scale": (2, 0.5, 0.5), "rotate": TURNED, "units": ("s", "um", "um")}, ["2 s", "0.5 um", "0.5 um"]),
        ({"scale": (2, 0.5, 0.25), "rotate": TURNED, "units": ("um", "um", "mm")}, ["2 um", None, None]),
        ({"scale": (2, 0.5, 0.5), "rotate": TURNED, "units": ("um", "um", "pixel")}, ["2 um", None, None]),
        # Shear leans the columns, whose steps become longer than the scale says.
        ({"scale": (1, 1, 0.5), "shear": (0, 0, 0.75), "units": ("um",) * 3}, ["1 um", "1 um", "0.625 um"]),
        # An affine that swaps axes of the world swaps their units.
        ({"affine": np.eye(4)[[1, 0, 2, 3]], "units": ("s", "um", "um")}, ["1 um", "1 s", "1 um"]),
    ],
)
def test_length_of_a_step_from_pixel_to_pixel(kwargs: dict[str, object], steps: list[str | None]) -> None:
    found = [None if step is None else f"{step[0]!r} {step[1]:~}" for step in pixel_steps(image(**kwargs))]
    wanted = [step and f"{float(step.split()[0])!r} {pint.Unit(step.split()[1]):~}" for step in steps]
    assert found == wanted


@tilted
def test_a_step_is_as_long_as_napari_shows_it() -> None:
    layer = image(**TILTED, units=("um",) * 3)
    shown = [np.subtract(layer.data_to_world(end), layer.data_to_world((0, 0, 0))) for end in np.eye(3)]
    lengths = [step[0] for step in pixel_steps(layer) if step is not None]
    np.testing.assert_allclose(lengths, np.linalg.norm(shown, axis=1))


@tilted
def test_physical_matrix_leaves_the_affine_out() -> None:
    layer = image(**{**TILTED, "affine": None})
    assert np.array_equal(physical_matrix(image(**TILTED)), data_to_world(layer))


def test_points_in_any_arrangement() -> None:
    matrix = np.array([[2.0, 0, 1], [0, 3, -1], [0, 0, 1]])
    points = np.arange(12).reshape(2, 3, 2)
    moved = transform(matrix, points)
    assert moved.shape == (2, 3, 2)
    assert moved[1, 2].tolist() == [21, 32]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (("um", "um"), ("nm", "um"), [1000, 1]),
        (("nm", "mm"), ("um", "um"), [0.001, 1000]),
        (("s", "um"), ("ms", "nm"), [1000, 1000]),
        (("pixel", "um"), ("pixel", "nm"), [1, 1000]),
        (("pixel", "um"), ("um", "nm"), [1, 1]),
    ],
)
def test_unit_factors(source: list[str], target: list[str], expected: list[float]) -> None:
    np.testing.assert_allclose(unit_factors(units_of(*source), units_of(*target)), expected)


def test_no_units_of_the_world() -> None:
    assert unit_factors(units_of("um", "nm"), None).tolist() == [1, 1]


def test_micrometres_over_nanometres() -> None:
    """`Layer.world_to_data` ignores units although the picture honours them."""
    view = view_of(image(scale=(100, 50, 50), units=("nm",) * 3))
    boxes = Shapes(ndim=3, units=("um",) * 3)
    assert np.allclose(transform(image_from_layer(boxes, view), (0.2, 0.5, 1)), (2, 10, 20))
    assert not np.allclose(view.layer.world_to_data(boxes.data_to_world((0.2, 0.5, 1))), (2, 10, 20))


def test_units_that_cannot_be_converted_count_as_bare_numbers() -> None:
    """So does napari, which shows such layers by their numbers."""
    view = view_of(image(scale=(100, 50, 50), units=("nm",) * 3))
    boxes = Shapes(ndim=3, units=("pixel", "um", "um"))
    assert np.allclose(transform(image_from_layer(boxes, view), (200, 500, 1000)), (2, 10, 20))


@tilted
@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
def test_there_and_back(ndim: int) -> None:
    """On the axes both have; layers are aligned at their last axes."""
    view = view_of(image((2, 4, 40, 50), scale=(3, 2, 0.5, 0.1), units=("s", "um", "um", "um")))
    layer = Shapes(ndim=ndim, scale=range(1, ndim + 1), units=("s", "s", "nm", "nm", "nm")[-ndim:])
    there, back = layer_from_image(layer, view), image_from_layer(layer, view)
    assert there.shape == (ndim + 1, 5)
    assert back.shape == (5, ndim + 1)
    shared = min(ndim, 4)
    expected = np.diag([*[0] * (4 - shared), *[1] * shared, 1])
    np.testing.assert_allclose(back @ there, expected, atol=1e-9)


@tilted
def test_tilted_layers_meet_in_the_world() -> None:
    view, layer = view_of(image(**TILTED)), Shapes(ndim=3, rotate=(30, -20, 10), scale=(3, 2, 1))
    point = np.array((1.0, 12.0, 33.0))
    found = transform(layer_from_image(layer, view), point)
    np.testing.assert_allclose(layer.data_to_world(found), view.layer.data_to_world(point))


@pytest.mark.parametrize("ndim", [2, 3, 4])
@pytest.mark.parametrize("ndisplay", [2, 3])
def test_axes_displayed(ndim: int, ndisplay: int) -> None:
    """What napari says, which has no public way to ask."""
    viewer = ViewerModel()
    viewer.add_image(np.zeros((2, 2, 2, 2)), rgb=False)
    layer = viewer.add_image(np.zeros((2,) * ndim), rgb=False)
    viewer.dims.ndisplay = ndisplay
    for order in itertools.permutations(range(4)):
        viewer.dims.order = order
        assert list(displayed_axes(ndim, viewer.dims)) == layer._slice_input.displayed


def test_axes_displayed_of_a_layer_outside_the_viewer() -> None:
    assert displayed_axes(4, Dims(ndim=2, order=(1, 0))) == (3, 2)


def test_sliders_of_a_world_in_smaller_units() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 40, 50)), scale=(0.5, 1, 1), translate=(2, 0, 0), units=("um",) * 3)
    viewer.add_image(np.zeros((4, 40, 50)), units=("nm",) * 3)
    found = transform(slider_matrix(layer, viewer.dims, [0]), [3500])
    np.testing.assert_allclose(found, [3])
