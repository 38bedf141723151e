"""Objects have the colour of their class, and neighbours differ."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.layers import Labels

from napari_boxprompt.gui.colors import class_colormap

RED, GREEN = (0.9, 0.1, 0.1, 1.0), (0.1, 0.8, 0.2, 1.0)


def hue(color: np.ndarray) -> int:
    return int(np.argmax(color[:3]))


def test_class_colours() -> None:
    colors = class_colormap({1: "a", 2: "b", 7: "a", 90: "b"}, {"a": RED, "b": GREEN})
    shown = colors.map(np.array([0, 1, 2, 7, 90]))
    assert shown[0, 3] == 0
    assert [hue(color) for color in shown[1:]] == [0, 1, 0, 1]
    assert np.all(shown[1:, 3] == 1)


def test_neighbours_differ_but_little() -> None:
    shown = class_colormap(dict.fromkeys(range(1, 30), "a"), {"a": RED}).map(np.arange(1, 30))
    steps = np.abs(np.diff(shown[:, :3], axis=0)).max(axis=1)
    assert steps.min() > 0.1
    assert np.abs(shown[:, :3] - RED[:3]).max() <= 0.4


def test_objects_painted_later() -> None:
    one = class_colormap({1: "a"}, {"a": RED})
    assert hue(one.map(np.array([55]))[0]) == 0
    two = class_colormap({1: "a"}, {"a": RED, "b": GREEN}).map(np.array([55]))[0]
    assert np.ptp(two[:3]) < 1e-6  # which class is not known
    assert two[3] == 1


def test_unknown_class_and_no_objects() -> None:
    assert class_colormap({4: "gone"}, {"a": RED}).map(np.array([4]))[0, 3] == 1
    assert class_colormap({}, {}).map(np.array([0, 3]))[:, 3].tolist() == [0, 1]


def test_colour_without_opacity() -> None:
    shown = class_colormap({7: "a"}, {"a": RED[:3]}).map(np.array([7]))[0]
    np.testing.assert_allclose(shown, RED, atol=1e-6)


def test_many_objects_on_a_layer() -> None:
    start = time.perf_counter()
    layer = Labels(np.arange(400, dtype=np.uint32).reshape(20, 20))
    layer.colormap = class_colormap(dict.fromkeys(range(1, 10_000), "a"), {"a": RED})
    assert time.perf_counter() - start < 2
    assert hue(layer.get_color(321)) == 0


def test_colours_of_very_many_objects_are_made_at_once() -> None:
    objects = dict.fromkeys(range(1, 100_000), "a")
    start = time.thread_time()
    class_colormap(objects, {"a": RED})
    assert time.thread_time() - start < 0.5


@pytest.fixture
def without_numba() -> Iterator[None]:
    """What napari does where numba is not installed."""
    from napari.utils.colormap_backend import ColormapBackend
    from napari.utils.colormaps import _accelerated_cmap as module

    before = module.COLORMAP_BACKEND
    module.set_colormap_backend(ColormapBackend.pure_python)
    yield
    module.set_colormap_backend(before)


@pytest.mark.usefixtures("without_numba")
@pytest.mark.parametrize("top", [65_535, 65_536, 65_537, 200_000])
def test_high_numbers_without_numba(top: int) -> None:
    layer = Labels(np.array([[0, 1, top]], dtype=np.uint32))
    layer.colormap = class_colormap({1: "a", top: "a"}, {"a": RED, "b": GREEN})
    assert hue(layer.get_color(top)) == hue(layer.get_color(1)) == 0
    np.testing.assert_allclose(
        layer.get_color(1), class_colormap({1: "a"}, {"a": RED, "b": GREEN}).map(1), atol=1e-6
    )
    assert layer.colormap.map(np.array([0, top], np.uint32))[:, 3].tolist() == [0, 1]
    layer.colormap = class_colormap({1: "a", top: "b"}, {"a": RED, "b": GREEN})
    shown = layer.colormap.map(np.array([0, 1, top], np.uint32))
    assert shown[:, 3].tolist() == [0, 1, 1]
    if top <= 65_536:
        assert hue(shown[2]) == 1, "as long as napari can, it is the colour of the class"
