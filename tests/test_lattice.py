from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_boxprompt.lattice import BLOCK, WHOLE, Lattice
from napari_boxprompt.supervision.boxmasks import box_mask
from napari_boxprompt.views import GRID, View, warp_between

TOKENS = GRID // BLOCK
EVERY_SECOND = [Lattice(2, row, column) for row in (0, 1) for column in (0, 1)]

lattices = st.sampled_from([WHOLE, *EVERY_SECOND])
sides = st.floats(-20.0, GRID + 20.0, allow_nan=False).map(lambda x: round(x, 2))


def test_whole_leaves_everything_as_it_is() -> None:
    maps = torch.rand(2, GRID, GRID)
    boxes = torch.tensor([[3.5, 10.0, 77.25, 300.0]])
    assert torch.equal(WHOLE.tokens(maps), maps)
    assert torch.equal(WHOLE.pixels(maps), maps)
    assert torch.equal(WHOLE.boxes(boxes), boxes)
    assert WHOLE.view(View.square(3, 4, 100)) == View.square(3, 4, 100)
    assert not WHOLE.blocks(GRID).any()


@pytest.mark.parametrize("lattice", EVERY_SECOND)
def test_pixels_are_those_of_the_tokens(lattice: Lattice) -> None:
    tokens = torch.rand(3, TOKENS, TOKENS)
    grid = tokens.repeat_interleave(BLOCK, -1).repeat_interleave(BLOCK, -2)
    kept = lattice.tokens(tokens)
    assert kept.shape == (3, TOKENS // 2, TOKENS // 2)
    expected = kept.repeat_interleave(BLOCK, -1).repeat_interleave(BLOCK, -2)
    assert torch.equal(lattice.pixels(grid), expected)


def test_pixels_keep_their_order_within_a_block() -> None:
    rows = torch.arange(GRID)[:, None].expand(GRID, GRID)
    kept = Lattice(2, 1, 0).pixels(rows)
    assert kept[:6, 0].tolist() == [4, 5, 6, 7, 12, 13]
    assert Lattice(2, 0, 1).pixels(rows.T)[0, :6].tolist() == [4, 5, 6, 7, 12, 13]


def test_all_lattices_together_have_every_pixel_once() -> None:
    numbers = torch.arange(GRID * GRID).view(GRID, GRID)
    together = torch.cat([lattice.pixels(numbers).flatten() for lattice in EVERY_SECOND])
    assert torch.equal(together.sort().values, numbers.flatten())


def test_drawn_lattices_are_all_of_them() -> None:
    rng = np.random.default_rng(0)
    assert {Lattice.drawn(2, rng) for _ in range(50)} == set(EVERY_SECOND)
    assert Lattice.drawn(1, rng) == WHOLE


@given(lattices, st.tuples(sides, sides), st.tuples(sides, sides))
def test_boxes_hold_the_pixels_that_are_left(
    lattice: Lattice, rows: tuple[float, float], columns: tuple[float, float]
) -> None:
    (y0, y1), (x0, x1) = sorted(rows), sorted(columns)
    box = torch.tensor([[y0, x0, y1, x1]], dtype=torch.float64)
    side = GRID // lattice.step
    found = box_mask(lattice.boxes(box), (side, side))
    assert torch.equal(found, lattice.pixels(box_mask(box, (GRID, GRID))))


@pytest.mark.parametrize("lattice", [WHOLE, *EVERY_SECOND])
def test_a_view_says_where_tokens_lie(lattice: Lattice) -> None:
    """A ramp in image pixels, seen by tokens of a turned view, is a ramp again as another one sees it."""
    source = View((0.9, 0.2, 12.0, -0.2, 0.9, 40.0))
    target = View((0.5, -0.1, 100.0, 0.1, 0.5, 70.0))

    def ramp(view: View) -> torch.Tensor:
        middle = (torch.arange(TOKENS, dtype=torch.float64) + 0.5) * BLOCK
        a, b, c, d, e, f = view.matrix
        x, y = middle[None, :], middle[:, None]
        return lattice.tokens((a * x + b * y + c) + 3 * (d * x + e * y + f)).float()

    side = TOKENS // lattice.step
    warped, valid = warp_between(ramp(source)[None], lattice.view(source), lattice.view(target), side)
    assert valid.all()
    torch.testing.assert_close(warped[0], ramp(target), atol=0.01, rtol=0)


@pytest.mark.parametrize("lattice", EVERY_SECOND)
def test_blocks_tell_neighbours_from_what_was_apart(lattice: Lattice) -> None:
    rows = lattice.pixels(torch.arange(GRID)[:, None].expand(GRID, GRID))[:, 0]
    blocks = lattice.blocks(GRID // 2)
    assert torch.equal(blocks[1:, 0] == blocks[:-1, 0], rows[1:] - rows[:-1] == 1)
    assert torch.equal(blocks, blocks[:, :1] + blocks[:1])
    assert len(blocks.unique()) == (TOKENS // 2) ** 2
