"""Neighbouring pixels that look alike belong together: a constraint that needs no pseudo-label.

Where the frozen model's masks are too large, as on cells in phase contrast, box and pseudo-label agree on a
wrong outline. The image itself tells more: what looks like the background that reaches in from outside the
box is background.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["affinity_loss"]

REACH = 2
"""Distance of the pixels that are compared, on the grid; direct neighbours are alike by interpolation."""

ALIKE = 0.5
"""Part of the pairs in and around boxes that count as alike, those of least difference. A fixed difference,
as in the paper, would suit one kind of image."""

SAMPLED = 7
"""Every so many-th pair decides what is alike: sorting all of them was half of the cost."""

_DIRECTIONS = ((0, REACH), (REACH, 0), (REACH, REACH), (REACH, -REACH))


def affinity_loss(
    logits: torch.Tensor, image: torch.Tensor, boxed: torch.Tensor, blocks: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean of ``-log(p q + (1 - p)(1 - q))`` over pairs of neighbours that look alike.

    The pairwise term of BoxInst (Tian et al., CVPR 2021), with a threshold that adapts to the image.

    Parameters
    ----------
    logits : torch.Tensor
        ``(G, G)`` of one class in one view.
    image : torch.Tensor
        ``(C, G, G)`` what the view shows.
    boxed : torch.Tensor
        bool ``(G, G)``: pixels in boxes; pairs with at least one of them count.
    blocks : torch.Tensor, optional
        ``(G, G)`` integers: neighbours of two values are apart, and do not count.

    Returns
    -------
    torch.Tensor
        At least 0; 0 where no pair counts.
    """
    total, count = logits.new_zeros(()), 0
    for step in _DIRECTIONS:
        (one, other), (here, there) = _pairs(logits, step), _pairs(image, step)
        first, second = _pairs(boxed, step)
        difference = (here - there).abs().mean(dim=0)
        near = first | second
        if blocks is not None:
            near = near & torch.eq(*_pairs(blocks, step))
        if not near.any():
            continue
        alike = near & (difference <= difference[near][::SAMPLED].quantile(ALIKE))
        same = torch.logaddexp(
            F.logsigmoid(one[alike]) + F.logsigmoid(other[alike]),
            F.logsigmoid(-one[alike]) + F.logsigmoid(-other[alike]),
        )
        total, count = total - same.sum(), count + len(same)
    return total / max(count, 1)


def _pairs(maps: torch.Tensor, step: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Each pixel, and the one that lies a step further down and to the right (or left, where negative)."""
    down, right = step
    height, width = maps.shape[-2:]
    left, further = max(0, -right), max(0, right)
    return (
        maps[..., : height - down, left : width - further],
        maps[..., down:, further : width - left],
    )
