"""At which level of the frozen model's logits an object fills its box.

A promptable model cuts many objects too small: on fluorescent nuclei its masks cover 86 % of the reference,
on ultrasound 92 %. The drawn box knows better, for an object touches all four sides of its box (Kervadec et
al., MIDL 2020, use this as a loss). Instead of the level 0, masks are cut at the highest level that reaches
the sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["tight_level"]

MARGIN = 0.02
"""A side counts as reached within this part of the box, or within a pixel: people do not draw exactly."""

LOWEST = -5.0
"""Logits below it are no object, whatever the box says."""

FULLEST = 0.8
"""Masks do not grow beyond this part of their box, which is about what an ellipse fills."""


def tight_level(logits: npt.NDArray[np.floating], box: tuple[float, float, float, float]) -> float:
    """Level at which a prompted mask reaches the sides of its box.

    Each side has a highest level at which the mask reaches it. The mean of the two lowest of the four is
    taken, so that a single side drawn too far out counts by half. Levels above 0 are not used: a mask that
    reaches all sides stays as it is. Nor are levels at which the mask fills more than `FULLEST` of its box.

    Parameters
    ----------
    logits : numpy.ndarray
        ``(H, W)`` around the box; what lies outside the box does not count.
    box : tuple of float
        ``(y0, x0, y1, x1)`` in pixels of `logits`; what sticks out of them does not count.

    Returns
    -------
    float
        In `LOWEST` .. 0.
    """
    y0, x0, y1, x1 = box
    rows, columns = np.arange(logits.shape[0]), np.arange(logits.shape[1])
    inside = logits[np.ix_((rows + 1 > y0) & (rows < y1), (columns + 1 > x0) & (columns < x1))]
    if not inside.size:
        return 0.0
    sides = []
    for axis, length in ((1, y1 - y0), (0, x1 - x0)):
        highest = inside.max(axis=axis)
        near = min(len(highest), int(np.ceil(max(1.0, MARGIN * length))))
        sides += [highest[:near].max(), highest[-near:].max()]
    lowest = sorted(float(np.clip(side, LOWEST, 0.0)) for side in sides)
    level = (lowest[0] + lowest[1]) / 2
    room = int(FULLEST * (y1 - y0) * (x1 - x0))
    if room < inside.size:
        level = min(0.0, max(level, float(np.partition(inside, -room - 1, axis=None)[-room - 1])))
    # A mask holds what lies above its level, and must hold the pixels that set it.
    return level - 1e-3 if level < 0 else 0.0
