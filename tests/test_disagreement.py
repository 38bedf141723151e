"""How much of what is found in one view of a plane is found in the second."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_boxprompt.config import AugmentConfig
from napari_boxprompt.disagreement import ANGLE, GAMMA, ZOOM, compared, second_view, views_disagree
from napari_boxprompt.views import GRID, View, tile_views, turned

SHAPE = (200, 300)
WHOLE = View.whole(SHAPE)


def disc(view: View, y: float = 90.0, x: float = 120.0, radius: float = 40.0) -> torch.Tensor:
    """Probabilities of a disc with a soft edge, ``(1, GRID, GRID)``, at a place of the plane, in a view."""
    a, b, c, d, e, f = view.matrix
    i, j = np.arange(GRID)[None] + 0.5, np.arange(GRID)[:, None] + 0.5
    distance = np.hypot(a * i + b * j + c - x, d * i + e * j + f - y)
    return torch.from_numpy(1 / (1 + np.exp((distance - radius) / 2.0)))[None].float()


def measure(first: torch.Tensor, second: torch.Tensor, view: View = WHOLE) -> float:
    return views_disagree([compared(first, second, view, SHAPE)])


def test_the_second_view_is_a_change_that_a_training_shows() -> None:
    usual = AugmentConfig()
    assert usual.rotation >= ANGLE
    assert 1 / usual.zoom <= ZOOM <= usual.zoom
    assert 1 / usual.gamma <= GAMMA <= usual.gamma
    second = second_view(WHOLE)
    assert second == second_view(WHOLE)
    assert second.gamma == GAMMA
    a, b, _, d, e, _ = second.matrix
    assert a * e - b * d > 0, "left stays left"
    assert math.degrees(math.atan2(d, a)) == pytest.approx(ANGLE)


@given(st.floats(-50, 300), st.floats(-50, 300), st.floats(30, 600))
@settings(max_examples=30, deadline=None)
def test_the_second_view_sees_all_of_the_first(y0: float, x0: float, side: float) -> None:
    view = View.square(y0, x0, side)
    corners = view.as_array() @ np.array([[0, GRID, 0, GRID], [0, 0, GRID, GRID], [1, 1, 1, 1]], float)
    found = np.linalg.inv(second_view(view).as_array()) @ corners
    assert found[:2].min() >= -1e-6
    assert found[:2].max() <= GRID + 1e-6


@pytest.mark.parametrize("view", [WHOLE, View.square(20, 40, 150)])
def test_what_is_found_at_the_same_place_agrees(view: View) -> None:
    assert measure(disc(view), disc(second_view(view)), view) < 0.002
    # Not brought back to the grid of the first view, the same discs lie elsewhere and are of other sizes.
    assert measure(disc(view), disc(view), view) > 0.05


@pytest.mark.parametrize("change", [(10.0, 1.16), (-25.0, 0.8), (0.0, 1.3), (40.0, 1.0)])
def test_any_rotation_and_zoom_is_undone(
    monkeypatch: pytest.MonkeyPatch, change: tuple[float, float]
) -> None:
    monkeypatch.setattr(
        "napari_boxprompt.disagreement.second_view", lambda view: turned(view, *change, gamma=1.0)
    )
    assert measure(disc(WHOLE), disc(turned(WHOLE, *change, gamma=1.0))) < 0.002
    assert measure(disc(WHOLE), disc(turned(WHOLE, *change, gamma=1.0), x=160.0)) > 0.2


def test_it_grows_with_what_differs_up_to_one() -> None:
    second = second_view(WHOLE)
    found = [measure(disc(WHOLE), disc(second, x=120.0 + moved)) for moved in (0, 5, 10, 20, 40)]
    assert found == sorted(found)
    assert found[0] < 0.002
    assert 0.98 < measure(disc(WHOLE, radius=30), disc(second, x=220.0, radius=30)) <= 1.0


def test_unsure_but_equal_probabilities_agree() -> None:
    assert measure(0.5 * disc(WHOLE), 0.5 * disc(second_view(WHOLE))) < 0.002


def test_an_empty_plane_agrees_and_a_speck_on_it_counts_little() -> None:
    nothing = torch.zeros(1, GRID, GRID)
    noise = 0.09 * torch.rand(1, GRID, GRID, generator=torch.Generator().manual_seed(0))
    assert measure(nothing, nothing) == 0.0
    assert measure(noise, nothing) == 0.0
    speck = measure(0.3 * disc(WHOLE, radius=4), nothing)
    assert 0.0 < speck < 0.3
    assert measure(disc(WHOLE, radius=40), nothing) > 0.95


def test_only_what_both_see_of_the_plane_counts() -> None:
    beyond = disc(second_view(WHOLE), y=270.0, x=150.0)  # the plane ends at 200
    assert measure(torch.zeros(1, GRID, GRID), beyond) == 0.0


def test_classes_count_alike_and_those_that_nobody_sees_do_not() -> None:
    second = second_view(WHOLE)
    nothing = torch.zeros(1, GRID, GRID)

    def both(*maps: Callable[[View], torch.Tensor] | None) -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.cat([nothing if each is None else each(view) for each in maps]) for view in (WHOLE, second)
        )

    def small(view: View) -> torch.Tensor:
        return disc(view, radius=15) if view == WHOLE else nothing

    assert measure(*both(disc, None)) < 0.002
    assert measure(*both(disc, small, None)) == pytest.approx(0.5, abs=0.05)


def test_empty_tiles_do_not_hide_the_one_in_which_an_object_came_and_went() -> None:
    nothing = torch.zeros(1, GRID, GRID)
    tiles = [compared(nothing, nothing, view, SHAPE) for row in tile_views(SHAPE, 64.0) for view in row]
    assert len(tiles) > 8
    view = View.square(50, 80, 64)
    one = compared(disc(view, radius=15), nothing, view, SHAPE)
    same = compared(disc(view, radius=15), disc(second_view(view), radius=15), view, SHAPE)
    alone = views_disagree([one])
    assert alone > 0.9
    assert views_disagree([*tiles, one]) == pytest.approx(alone)
    # An object that both see counts as much as they see of it: twice as much as what one of them sees.
    assert views_disagree([one, same]) == pytest.approx(alone / 3, rel=0.1)


def test_what_was_not_measured_is_not_known() -> None:
    assert math.isnan(views_disagree([]))
