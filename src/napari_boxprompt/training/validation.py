"""How good a model is on held-out boxed planes, judged by boxes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt._boxtypes import box_iou
from napari_boxprompt.views import GRID

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import torch

    from napari_boxprompt.training.dataset import Sample

__all__ = ["box_agreement", "surroundings", "validate"]


def surroundings(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Boxes ``(n, 4)`` enlarged by a quarter of their sides: what `box_agreement` looks at."""
    sides = (boxes[:, 2:] - boxes[:, :2]) / 4
    return np.concatenate([boxes[:, :2] - sides, boxes[:, 2:] + sides], axis=1)


def box_agreement(mask: npt.NDArray[np.bool_], boxes: npt.NDArray[np.float64]) -> list[float]:
    """IoU of each drawn box with the box of what was predicted there.

    What was predicted "there" is the foreground within the box enlarged by a quarter of its sides,
    without what lies in other boxes: so that neither touching neighbours nor an object in pieces
    decide the figure.

    Parameters
    ----------
    mask : numpy.ndarray
        bool ``(H, W)``.
    boxes : numpy.ndarray
        ``(n, 4)`` (y0, x0, y1, x1) in pixels of the mask.

    Returns
    -------
    list of float
        One value in 0..1 for each box.
    """
    agreements = []
    for i, (box, around) in enumerate(zip(boxes, surroundings(boxes), strict=True)):
        low = np.clip(np.floor(around[:2]).astype(int), 0, mask.shape)
        high = np.clip(np.ceil(around[2:]).astype(int), 0, mask.shape)
        part = mask[low[0] : high[0], low[1] : high[1]].copy()
        near = (boxes[:, :2] < high + 1).all(axis=1) & (boxes[:, 2:] > low - 1).all(axis=1)
        near[i] = False  # it, and what lies far away, hides nothing
        for other in boxes[near]:
            a = np.maximum(np.round(other[:2]).astype(int) - low, 0)
            b = np.maximum(np.round(other[2:]).astype(int) - low, 0)
            mine = np.round(box).astype(int) - np.tile(low, 2)
            hidden = np.zeros_like(part)
            hidden[a[0] : b[0], a[1] : b[1]] = True
            hidden[max(mine[0], 0) : mine[2], max(mine[1], 0) : mine[3]] = False
            part &= ~hidden
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        if not len(rows):
            agreements.append(0.0)
            continue
        found = np.array(
            [rows[0] + low[0], columns[0] + low[1], rows[-1] + 1 + low[0], columns[-1] + 1 + low[1]]
        )
        agreements.append(box_iou(found.tolist(), box.tolist()))
    return agreements


def validate(probabilities: Sequence[torch.Tensor], samples: Sequence[Sample]) -> dict[str, float]:
    """Box agreement and pseudo-label Dice on held-out views.

    Parameters
    ----------
    probabilities : sequence of torch.Tensor
        ``(K, G, G)`` for each sample.
    samples : sequence of Sample
        Held-out views, axis-aligned.

    Returns
    -------
    dict
        ``box_agreement`` and ``pseudo_dice``, in 0..1; empty when there is nothing to compare with.

    Notes
    -----
    A class of which a view shows no object, though every object is boxed there, has no Dice. It counts by
    what is found of it on known background: 1 where that is nothing, 0 from as much on as the views with
    objects show on average. Else a class found all over such planes would go unseen.
    """
    agreements, dices = list[float](), list[float]()
    areas, strays = dict[int, list[int]](), list[tuple[int, int]]()
    for probability, sample in zip(probabilities, samples, strict=True):
        for k, target in enumerate(sample.targets):
            mask = probability[k] > 0.5
            boxes = target.grid_boxes().numpy().clip(0, GRID)
            agreements += box_agreement(mask.numpy(), boxes)
            seen, wanted = mask & target.valid, target.pseudo & target.valid
            if wanted.any():
                dices.append(float(2 * (seen & wanted).sum() / (seen.sum() + wanted.sum())))
                areas.setdefault(k, []).append(int(wanted.sum()))
            elif target.outside.any():
                strays.append((k, int((mask & target.outside).sum())))
    if not agreements or not dices:
        return {}
    dices += [max(0.0, 1.0 - stray / float(np.mean(areas[k]))) for k, stray in strays if k in areas]
    return {"box_agreement": float(np.mean(agreements)), "pseudo_dice": float(np.mean(dices))}
