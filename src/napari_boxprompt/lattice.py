"""A part of the image tokens that stands for all of them in a training step.

In SAM's decoder image tokens meet only through the few prompt tokens, which attend to all of them, and each
becomes 4 x 4 pixels of the mask by itself (Kirillov et al., "Segment Anything", 2023, appendix A). So the
pixels of some tokens can be computed from these alone: what differs is that the prompt tokens gather from a
sample of the image. Every second row and column of tokens is a quarter of the work.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    import numpy as np

    from napari_boxprompt.views import View

__all__ = ["WHOLE", "Lattice"]

BLOCK = 4
"""Side of the square of pixels that an image token becomes."""


class Lattice(NamedTuple):
    """Every so-manieth row and column of image tokens.

    What is left of a map is put together without gaps: `step` times smaller, of blocks that were apart.

    Attributes
    ----------
    step : int
        One in so many rows and columns; 1 is all of them.
    row, column : int
        First of each, below `step`.
    """

    step: int
    row: int
    column: int

    @classmethod
    def drawn(cls, step: int, rng: np.random.Generator) -> Lattice:
        """Return a lattice that begins at random."""
        row, column = rng.integers(step, size=2).tolist()
        return cls(step, row, column)

    def tokens(self, maps: torch.Tensor) -> torch.Tensor:
        """Tokens of maps ``(..., N, N)``."""
        return maps[..., self.row :: self.step, self.column :: self.step]

    def pixels(self, maps: torch.Tensor, block: int = BLOCK) -> torch.Tensor:
        """Pixels of maps ``(..., H, W)`` on which a token is a square of side `block`."""
        down, right = (side // (block * self.step) for side in maps.shape[-2:])
        apart = maps.unflatten(-1, (right, self.step, block)).unflatten(-4, (down, self.step, block))
        kept = apart[..., self.row, :, :, self.column, :]  # (..., down, block, right, block)
        left: torch.Tensor = kept.flatten(-2).flatten(-3, -2)
        return left

    def blocks(self, side: int) -> torch.Tensor:
        """Number of the block of each pixel ``(side, side)`` that was kept; all 0 where all were."""
        if self.step == 1:
            return torch.zeros(side, side, dtype=torch.long)
        along = torch.arange(side) // BLOCK
        return along[:, None] * side + along

    def boxes(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes ``(n, 4)`` in grid pixels as they lie among the pixels that are left."""
        first = boxes.new_tensor([self.row, self.column, self.row, self.column]) * BLOCK
        period = BLOCK * self.step
        cell = torch.div(boxes - first, period, rounding_mode="floor")
        return BLOCK * cell + (boxes - first - period * cell).clamp(max=BLOCK)

    def view(self, view: View) -> View:
        """View of which maps with one value a token are, when these are stretched over its grid again."""
        a, b, c, d, e, f = view.matrix
        down, right = (BLOCK * (first + 0.5 - self.step / 2) for first in (self.row, self.column))
        return replace(view, matrix=(a, b, c + a * right + b * down, d, e, f + d * right + e * down))


WHOLE = Lattice(1, 0, 0)
"""All image tokens."""
