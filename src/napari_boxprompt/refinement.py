"""A second look: the box of each predicted object prompts the frozen model again.

Where a generator has found an object but not its outline, the frozen model draws the outline better from a
box, as it does from a person's. Both masks are then averaged. Where an object has run into its surroundings,
its box is wrong too; so the boxes of what remains of it at higher levels of the logits are tried as well, and
the level counts at which generator and frozen model agree best and the frozen model trusts its own mask most.
The figures are in docs/adr/0021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from napari_boxprompt._boxtypes import box_iou
from napari_boxprompt.supervision.levels import tight_level
from napari_boxprompt.supervision.targets import answers
from napari_boxprompt.views import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_boxprompt.models.base import FrozenModel

__all__ = ["Refined", "refined"]

Box = tuple[int, int, int, int]

LEAST_AREA = 16
"""Smaller objects, in pixels of the grid, stay as they are."""

LEAST_PART = 0.02
"""Parts of an object that remain at a higher level are left out below this part of its area."""

AGREEMENT = 0.5
"""Least IoU of an object with the frozen model's mask of its box for that mask to count."""

CERTAIN = 8.0
"""Logits are cut here before they are averaged, so that neither mask can outvote the other."""

LEVELS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
"""Logits at which an object's box is taken."""

FEW = 3
"""Objects up to which a class that may have several is looked at again. On nuclei nothing is gained by it,
and their number makes it cost more than all the rest of a prediction."""

SAME = 0.95
"""A box whose IoU with one at a lower level reaches this is not looked at again."""

SIZE_POWER = 0.25
"""How much the area of an object counts beside its agreement, or a speck that both see alike would win."""

TRUST_POWER = 4.0
"""How much the trust in the frozen model's mask counts beside its agreement."""

STEADY = 1.0
"""A mask is steady if it is much the same at logits this far above and below its level."""


@dataclass(frozen=True)
class _Look:
    """One region of the generator's logits, and what the frozen model makes of its box.

    Parameters
    ----------
    root : int
        Index of the region at level 0 that it is a part of.
    level : float
        Level of the generator's logits.
    mask : numpy.ndarray
        bool ``(G, G)``: the region.
    box : tuple of int
        Its box, ``(y0, x0, y1, x1)``.
    second : numpy.ndarray
        float32 ``(G, G)``: logits of the frozen model for this box.
    quality : float
        IoU that the frozen model expects its mask to have.
    """

    root: int
    level: float
    mask: npt.NDArray[np.bool_]
    box: Box
    second: npt.NDArray[np.float32]
    quality: float

    @property
    def agreement(self) -> float:
        """IoU of both masks."""
        return _iou(self.mask, self.second > 0)

    @property
    def trust(self) -> float:
        """How good the frozen model's mask seems by itself: expected IoU times steadiness.

        These are the two by which Kirillov et al. (ICCV 2023, "Segment Anything") choose masks without the
        truth. Both are low for a box that no one object fills.
        """
        area = max(int((self.second > -STEADY).sum()), 1)
        return self.quality * int((self.second > STEADY).sum()) / area


class Refined(NamedTuple):
    """What a second look gives.

    Parameters
    ----------
    logits : torch.Tensor
        ``(G, G)``, within plus and minus `CERTAIN`.
    agreement : float
        IoU of generator and frozen model times the trust in the latter's mask (`_Look.trust`), each a mean
        over objects weighted by their areas; nan where none was looked at.
    """

    logits: torch.Tensor
    agreement: float


def refined(frozen: FrozenModel, embedding: torch.Tensor, logits: torch.Tensor, *, single: bool) -> Refined:
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
        There is one object of the class in an image: the one is kept on which both agree best, and which the
        frozen model trusts most.

    Returns
    -------
    Refined
    """
    values = logits.float().cpu().numpy()
    roots = _objects(values)
    if not single and len(roots) > FEW:
        return Refined(torch.from_numpy(values.clip(-CERTAIN, CERTAIN)), math.nan)
    looks = _looks(frozen, embedding, values, roots)
    if single:
        groups = [[look] for look in looks]
        chosen = [max(groups, key=_score)] if groups else []
    else:
        by_root = [[look for look in looks if look.root == i] for i in range(len(roots))]
        chosen = [max(_by_level(own), key=_score) for own in by_root]
    result = values.clip(-CERTAIN, CERTAIN)
    for group in chosen:
        # Where they see different things, what the generator was taught counts.
        if _agreement(group) < AGREEMENT:
            continue
        others = np.any([root for i, root in enumerate(roots) if i != group[0].root], axis=0)
        if single:
            result[others] = -CERTAIN
        _average(result, values, group, roots[group[0].root], others & (not single))
    seen = [look for group in chosen for look in group]
    return Refined(torch.from_numpy(result), _agreement(seen) * _trust(seen))


def _looks(
    frozen: FrozenModel,
    embedding: torch.Tensor,
    values: npt.NDArray[np.float32],
    roots: Sequence[npt.NDArray[np.bool_]],
) -> list[_Look]:
    """Look at the regions of every level; a box that was looked at before is not asked about again."""
    whole = View((1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    looks = list[_Look]()
    for level in LEVELS:
        regions = roots if level == 0 else _objects(values - level)
        masks = [
            (i, mask)
            for mask in regions
            for i in _root_of(mask, roots)
            if mask.sum() >= LEAST_PART * roots[i].sum()
        ]
        boxes = [_box(mask) for _, mask in masks]
        known = [_known(looks, i, box) for (i, _), box in zip(masks, boxes, strict=True)]
        asked = [box for box, before in zip(boxes, known, strict=True) if before is None]
        found = iter(zip(*answers(frozen, embedding, whole, np.array(asked)), strict=True) if asked else ())
        for (i, mask), box, before in zip(masks, boxes, known, strict=True):
            if before is None:
                logits, quality = next(found)
                answer = logits.numpy()
                second = (answer - tight_level(answer, box)).clip(-CERTAIN, CERTAIN)
                looks.append(_Look(i, level, mask, box, second, float(quality)))
            else:
                looks.append(replace(before, level=level, mask=mask, box=box))
    return looks


def _average(
    result: npt.NDArray[np.float32],
    values: npt.NDArray[np.float32],
    group: Sequence[_Look],
    root: npt.NDArray[np.bool_],
    others: npt.NDArray[np.bool_],
) -> None:
    """Write the average of both logits where either sees an object, except into other objects."""
    result[root] = -CERTAIN
    parts = np.any([look.mask for look in group], axis=0)
    for look in group:
        zone = (look.mask | (look.second > 0)) & ~others & (look.mask | ~parts)
        first = (values[zone] - look.level).clip(-CERTAIN, CERTAIN)
        result[zone] = (first + look.second[zone]) / 2


def _by_level(looks: Sequence[_Look]) -> list[list[_Look]]:
    return [group for level in LEVELS if (group := [look for look in looks if look.level == level])]


def _agreement(group: Sequence[_Look]) -> float:
    return _mean(group, [look.agreement for look in group])


def _trust(group: Sequence[_Look]) -> float:
    return _mean(group, [look.trust for look in group])


def _mean(group: Sequence[_Look], values: Sequence[float]) -> float:
    return float(np.average(values, weights=[look.mask.sum() for look in group])) if group else math.nan


def _score(group: Sequence[_Look]) -> tuple[bool, float]:
    """Whether it counts at all, and how much."""
    area = sum(int(look.mask.sum()) for look in group)
    agreement = _agreement(group)
    score = agreement * math.pow(area, SIZE_POWER) * math.pow(_trust(group), TRUST_POWER)
    return agreement >= AGREEMENT, score


def _known(looks: Sequence[_Look], root: int, box: Box) -> _Look | None:
    """Look at nearly the same box, where there was one."""
    return next((look for look in looks if look.root == root and box_iou(look.box, box) >= SAME), None)


def _root_of(mask: npt.NDArray[np.bool_], roots: Sequence[npt.NDArray[np.bool_]]) -> list[int]:
    """Index of the region that `mask` is a part of, if any."""
    pixel = tuple(np.argwhere(mask)[0])
    return [i for i, root in enumerate(roots) if root[pixel]]


def _objects(values: npt.NDArray[np.float32]) -> list[npt.NDArray[np.bool_]]:
    """Masks ``(G, G)`` of the connected regions above 0."""
    regions, count = ndimage.label(values > 0)
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    return [regions == i for i in range(1, count + 1) if areas[i] >= LEAST_AREA]


def _box(mask: npt.NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))
