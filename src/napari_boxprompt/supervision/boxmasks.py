"""Boxes as masks on a grid.

Boxes are ``(y0, x0, y1, x1)``, half-open, in pixels, and pixel ``(r, c)`` has its centre at
``(r + 0.5, c + 0.5)``.
"""

from __future__ import annotations

import torch

__all__ = ["box_mask", "exclusive_masks"]


def box_mask(
    boxes: torch.Tensor, size: tuple[int, int], transform: torch.Tensor | None = None
) -> torch.Tensor:
    """Pixels of a grid whose centres lie inside each box.

    Parameters
    ----------
    boxes : torch.Tensor
        ``(n, 4)`` half-open boxes ``(y0, x0, y1, x1)`` in base coordinates.
    size : tuple of int
        Height and width ``(H, W)`` of the grid.
    transform : torch.Tensor, optional
        ``(2, 3)`` affine map from a grid position ``(x, y, 1)`` to base ``(x, y)``, for grids that are
        scaled, turned or sheared views of the base; without it the two are the same.

    Returns
    -------
    torch.Tensor
        float32 ``(n, H, W)``, 1 inside and 0 outside; a box that meets no centre is all 0.
    """
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    affine = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    if transform is not None:
        dtype = torch.promote_types(dtype, transform.dtype)
        affine = transform.tolist()
    x = torch.arange(size[1], dtype=dtype, device=boxes.device)[None, :] + 0.5
    y = torch.arange(size[0], dtype=dtype, device=boxes.device)[:, None] + 0.5
    base_x, base_y = _affine_row(affine[0], x, y), _affine_row(affine[1], x, y)
    y0, x0, y1, x1 = boxes.to(dtype).reshape(-1, 4, 1, 1).unbind(dim=1)
    inside = ((base_y >= y0) & (base_y < y1)) & ((base_x >= x0) & (base_x < x1))
    return inside.expand(len(boxes), *size).float()


def _affine_row(row: list[float], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``a x + b y + c`` of ``(1, W)`` and ``(H, 1)``, as small as the zeros among a, b allow."""
    a, b, c = row
    if a and b:
        return a * x + b * y + c
    return b * y + c if b else a * x + c


def exclusive_masks(masks: torch.Tensor) -> torch.Tensor:
    """Pixels that belong to one box alone.

    Parameters
    ----------
    masks : torch.Tensor
        ``(n, H, W)``, positive inside each box.

    Returns
    -------
    torch.Tensor
        `masks`, 0 where two or more boxes share a pixel.
    """
    return masks * ((masks > 0).sum(dim=0) == 1)
