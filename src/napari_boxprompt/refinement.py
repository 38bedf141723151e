"""A second look: the box of each predicted object prompts the frozen model again.

Where a generator has found an object but not its outline, the frozen model draws the outline better from a
box, as it does from a person's. Both masks are then averaged: the figures are in docs/benchmarks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_boxprompt.supervision.levels import tight_level
from napari_boxprompt.supervision.targets import prompted
from napari_boxprompt.views import View

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_boxprompt.models.base import FrozenModel

__all__ = ["refined"]

LEAST_AREA = 16
"""Smaller objects, in pixels of the grid, stay as they are."""

AGREEMENT = 0.5
"""Least IoU of an object with the frozen model's mask of its box for that mask to count."""

CERTAIN = 8.0
"""Logits are cut here before they are averaged, so that neither mask can outvote the other."""


def refined(
    frozen: FrozenModel, embedding: torch.Tensor, logits: torch.Tensor, *, single: bool
) -> torch.Tensor:
    """Average the logits of objects with those that the frozen model gives for their boxes.

    Parameters
    ----------
    frozen : FrozenModel
        Model that is prompted.
    embedding : torch.Tensor
        ``(256, 64, 64)`` of the view.
    logits : torch.Tensor
        ``(G, G)`` of one class.
    single : bool
        There is one object of the class in an image: of those whose masks agree, only the largest is kept.

    Returns
    -------
    torch.Tensor
        ``(G, G)`` logits, within plus and minus `CERTAIN`.
    """
    values = logits.float().cpu().numpy().clip(-CERTAIN, CERTAIN)
    objects = _objects(values)
    if not objects:
        return torch.from_numpy(values)
    boxes = np.array([_box(mask) for mask in objects])
    whole = View((1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    again = prompted(frozen, embedding, whole, boxes).numpy()
    seconds = [
        (second - tight_level(second, tuple(box.tolist()))).clip(-CERTAIN, CERTAIN)
        for second, box in zip(again, boxes, strict=True)
    ]
    agreements = [_iou(mask, second > 0) for mask, second in zip(objects, seconds, strict=True)]
    result = values.copy()
    # By size too, or a speck that both see alike would win.
    best = int(np.argmax([a * mask.sum() ** 0.5 for a, mask in zip(agreements, objects, strict=True)]))
    for i, (mask, second, agreement) in enumerate(zip(objects, seconds, agreements, strict=True)):
        if single and i != best and agreements[best] >= AGREEMENT:
            result[mask] = -CERTAIN
        elif agreement >= AGREEMENT:
            others = (values > 0) & ~mask
            zone = (mask | (second > 0)) & ~others
            result[zone] = (values[zone] + second[zone]) / 2
    return torch.from_numpy(result)


def _objects(values: npt.NDArray[np.float32]) -> list[npt.NDArray[np.bool_]]:
    """Masks ``(G, G)`` of the connected regions above 0."""
    regions, count = ndimage.label(values > 0)
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    return [regions == i for i in range(1, count + 1) if areas[i] >= LEAST_AREA]


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))
