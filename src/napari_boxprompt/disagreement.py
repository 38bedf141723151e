"""A second view of a plane, and how much of what was found changes with it.

A model that has understood what an object is finds the same one when the image is turned, smaller and darker
by a little. What changes then is what it was not sure of, however sure its probabilities look.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.views import GRID, View, inside_plane, turned, warp_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import torch

__all__ = ["compared", "second_view", "views_disagree"]

ANGLE = 10.0
"""Degrees. All three changes are well within what a training shows by default: no view is a strange one."""

ZOOM = 1.16
"""The smallest that sees the whole of a square that is turned by `ANGLE`: ``cos + sin``."""

GAMMA = 1.25
"""Darkens; 1 would change nothing."""

NEAR = 0.1
"""Least probability in either view of a pixel that counts; the rest is noise of the background."""

SPECK = 1e-3
"""Part of a view below which what only one of them sees is hardly worth a look."""


def second_view(view: View) -> View:
    """Return the view that another is compared with: always the same change, and never mirrored."""
    return turned(view, ANGLE, ZOOM, GAMMA * view.gamma)


def compared(
    first: torch.Tensor, second: torch.Tensor, view: View, shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Compare what a model finds in a view with what it finds in the second one.

    Parameters
    ----------
    first : torch.Tensor
        ``(K, GRID, GRID)`` probabilities in `view`.
    second : torch.Tensor
        ``(K, GRID, GRID)`` probabilities in ``second_view(view)``.
    view : View
        Where the grid of `first` lies.
    shape : tuple of int
        Height and width of the plane; what lies beyond does not count.

    Returns
    -------
    numpy.ndarray
        ``(2, K)``: disagreement of each class in 0..1, and how much of it was seen, in pixels of the grid.

    Notes
    -----
    One minus the soft Dice coefficient in the form with squares (Milletari et al. 2016), which is 0 for
    equal probabilities also where they are not 0 or 1: ``sum (p - q)**2 / (sum (p**2 + q**2) + s)``. The sums
    are over pixels that both views see and at which either probability reaches `NEAR`. The constant ``s`` is
    `SPECK` times the pixels that both see: something faint on an empty plane must not come before all else.
    """
    mapped, valid = warp_between(second.float(), second_view(view), view, GRID)
    valid &= inside_plane(shape, view)
    p, q = (maps.numpy().astype(np.float64)[:, valid.numpy()] for maps in (first.float(), mapped))
    counts = np.maximum(p, q) >= NEAR
    seen = np.where(counts, p**2 + q**2, 0.0).sum(axis=1)
    differs = np.where(counts, (p - q) ** 2, 0.0).sum(axis=1)
    return np.stack([differs / (seen + max(SPECK * p.shape[1], 1e-9)), seen / 2])


def views_disagree(tiles: Sequence[npt.NDArray[np.float64]]) -> float:
    """Disagreement of the two views of a plane, from its tiles.

    Parameters
    ----------
    tiles : sequence of numpy.ndarray
        Each from `compared`.

    Returns
    -------
    float
        In 0..1: the mean over the classes that were seen anywhere. Of a class, the mean over the tiles, each
        with the weight of what was seen there: empty tiles must not hide the one in which an object came and
        went. 0 where neither view sees anything, nan where there are no tiles.
    """
    if not len(tiles):
        return math.nan
    values, seen = np.stack(tiles, axis=1)
    weights = seen.sum(axis=0)
    known = weights > 0
    if not known.any():
        return 0.0
    return float(((values * seen).sum(axis=0)[known] / weights[known]).mean())
