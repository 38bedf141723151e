"""The weighted sum of box constraints that a training step minimises."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_boxprompt.lattice import BLOCK, WHOLE, Lattice
from napari_boxprompt.supervision import losses
from napari_boxprompt.supervision.affinity import affinity_loss
from napari_boxprompt.supervision.boxmasks import exclusive_masks
from napari_boxprompt.supervision.targets import size_range
from napari_boxprompt.views import warp_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_boxprompt.config import LossConfig
    from napari_boxprompt.supervision.targets import ClassTargets, PlaneTargets
    from napari_boxprompt.training.dataset import Dataset, Sample

__all__ = ["Objective", "boxed_fraction"]

CONSISTENCY_SIDE = 64
WARM = 0.3
"""Part of a training in which the weight of affinity grows to what it is: on an empty mask all pixels are
alike too, and a young network would stay there."""

ABSENT = 1 / 3
"""How much a plane without a box of a class speaks against it, beside what is outside the boxes of others,
where nothing on it is marked complete: the user may not have come to it yet."""

FIXED_RANGE = (0.7, 0.9)
"""Fraction of a box that an object fills according to Gaillochet et al. 2025."""


class Objective:
    """Loss terms of method Gaillochet et al. 2025 (arXiv 2507.02743), by name and weighted.

    Parameters
    ----------
    config : LossConfig
        Weights and variants.
    data : Dataset
        Gives the size range of each class.
    """

    def __init__(self, config: LossConfig, data: Dataset) -> None:
        self.config = config
        classes = range(len(data.planes[0].labels))
        self.ranges = [
            size_range([label for plane in data.planes for label in plane.labels[k]])
            if config.size_range == "learnt"
            else FIXED_RANGE
            for k in classes
        ]
        # What is boxed outweighs what is not if more than this fraction is: see docs/adr/0024.
        few = config.presumed / (1.0 + config.presumed)
        self.presumed = config.presumed if boxed_fraction(data.planes) > few else 0.0

    def hardness(self, fraction: float, epoch: float) -> float:
        """Barrier parameter t at a point of the training."""
        if self.config.barrier == "fraction":
            return losses.barrier_t(fraction)
        return losses.barrier_t_epochs(int(epoch))

    def __call__(
        self,
        logits: torch.Tensor,
        batch: Sequence[Sample],
        t: float,
        fraction: float = 1.0,
        lattice: Lattice = WHOLE,
    ) -> dict[str, torch.Tensor]:
        """Weighted terms of one batch.

        Parameters
        ----------
        logits : torch.Tensor
            ``(B, K, G, G)``, or its pixels on a lattice.
        batch : sequence of Sample
            The B views; views ``2 i`` and ``2 i + 1`` may show the same part of one plane.
        t : float
            Barrier parameter.
        fraction : float
            Part of the training that is done.
        lattice : Lattice
            Image tokens that were decoded: all terms see these alone.
        """
        config, terms = self.config, dict[str, torch.Tensor]()
        probability = losses.probabilities(logits.float(), config.activation)
        stacked = _stack(batch, lattice, probability.device)
        flat = probability.flatten(0, 1)
        raw = logits.float().flatten(0, 1) if config.activation == "sigmoid" else None
        terms["pseudo_label"] = config.pseudo_label * losses.pseudo_label_loss(
            flat,
            stacked["pseudo"].float(),
            self._known(stacked) + self._presumed(stacked),
            logits=raw,
            weight=self._weight(batch),
        )
        if config.outside:
            terms["outside"] = config.outside * losses.outside_loss(
                flat, stacked["outside"], variant=config.outside_variant, logits=raw
            )
        if config.size or config.tightness:
            size, tight = self._box_terms(probability, batch, t, lattice)
            terms["size"], terms["tightness"] = config.size * size, config.tightness * tight
        if config.affinity:
            weight = config.affinity * min(1.0, fraction / WARM)
            alike = logits.float() if raw is not None else probability.logit(eps=1e-6)
            terms["affinity"] = weight * _affinity(alike, batch, lattice)
        if config.consistency and config.consistency_of == "views":
            terms["consistency"] = config.consistency * between_views(probability, batch, lattice)
        return terms

    def _known(self, stacked: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weight of what is known, in boxes and beside them more than far from them."""
        far = stacked["outside"] & ~stacked["beside"]
        return torch.where(far, self.config.distant, stacked["valid"].float())

    def _presumed(self, stacked: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weight of pixels that are presumed to be background: fully where they lie just round a box."""
        unsaid = stacked["unsaid"]
        weights = self.presumed * unsaid
        return torch.where(unsaid & stacked["beside"], 1.0, weights) if self.presumed else weights

    def _weight(self, batch: Sequence[Sample]) -> torch.Tensor | None:
        """Weight of each view and class, ``(B * K,)``.

        Of a view where all is presumed, the weight of the pixels cancels out in the mean over them.
        """
        if not self.presumed:
            return None
        weights = [
            1.0 if of_class or plane.complete or plane.complete_regions else ABSENT * self.presumed
            for plane in (sample.plane for sample in batch)
            for of_class in plane.labels
        ]
        return None if all(weight == 1.0 for weight in weights) else torch.tensor(weights)

    def _box_terms(
        self, probability: torch.Tensor, batch: Sequence[Sample], t: float, lattice: Lattice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Size and tightness, each a mean over views and classes, like the terms of single pixels."""
        size = tight = probability.new_zeros(())
        # Areas on half the grid: the same fractions for a quarter of the work, which was a fifth of a step.
        half = F.avg_pool2d(probability, 2)
        for i, sample in enumerate(batch):
            for k, target in enumerate(sample.targets):
                if not len(target.boxes):
                    continue
                if self.config.size:
                    size = size + self._size(half[i, k], target, k, t, lattice)
                if self.config.tightness and target.axis_aligned:
                    boxes = lattice.boxes(target.grid_boxes()).to(probability)
                    tight = tight + losses.tightness_loss(probability[i, k], boxes, t)
        count = len(batch) * probability.shape[1]
        return size / count, tight / count

    def _size(
        self, probability: torch.Tensor, target: ClassTargets, k: int, t: float, lattice: Lattice
    ) -> torch.Tensor:
        masks = target.masks(probability.shape[-1] * lattice.step).to(probability)
        masks = lattice.pixels(masks, BLOCK // 2)  # probabilities are those of half the grid
        areas = masks.flatten(1).sum(dim=1)
        kept = areas >= 1
        masks, areas = masks[kept], areas[kept]
        return losses.size_loss(probability, masks, areas, exclusive_masks(masks), *self.ranges[k], t)


def _affinity(logits: torch.Tensor, batch: Sequence[Sample], lattice: Lattice) -> torch.Tensor:
    """Mean over views and classes of how far pixels that look alike are apart.

    An empty mask satisfies it: were it a sum over classes, many of them would let it outweigh the masks.
    """
    total = logits.new_zeros(())
    blocks = lattice.blocks(logits.shape[-1]).to(logits.device)
    for maps, sample in zip(logits, batch, strict=True):
        image = lattice.pixels(sample.image).to(logits.device).float() / 255
        for one, target in zip(maps, sample.targets, strict=True):
            boxed = lattice.pixels(target.valid & ~target.outside).to(logits.device)
            total = total + affinity_loss(one, image, boxed, blocks)
    return total / (len(batch) * logits.shape[1])


def _stack(batch: Sequence[Sample], lattice: Lattice, device: torch.device) -> dict[str, torch.Tensor]:
    """Targets ``(B * K, G, G)`` of a batch by name, or their pixels on a lattice."""
    flat = [target for sample in batch for target in sample.targets]
    return {
        name: lattice.pixels(torch.stack([getattr(target, name) for target in flat])).to(device)
        for name in ("pseudo", "valid", "outside", "unsaid", "beside")
    }


def boxed_fraction(planes: Iterable[PlaneTargets]) -> float:
    """Estimate which fraction of the objects is boxed where nothing is marked complete.

    Objects are taken to be as dense there as where all of them are boxed: on complete planes with boxes, and
    in complete regions. Infinite where that is not known.
    """
    known, unsaid = [0, 0.0], [0, 0.0]  # boxes and pixels
    for plane in planes:
        boxes = [label.box for labels in plane.labels for label in labels]
        areas = [(0.0, 0.0, *map(float, plane.shape))] if plane.complete else plane.complete_regions
        if not areas or not boxes:
            unsaid[0] += len(boxes)
            unsaid[1] += float(np.prod(plane.shape)) if boxes else 0.0
            continue
        centres = [((y0 + y1) / 2, (x0 + x1) / 2) for y0, x0, y1, x1 in boxes]
        for y0, x0, y1, x1 in areas:
            known[0] += sum(y0 <= y < y1 and x0 <= x < x1 for y, x in centres)
            known[1] += (y1 - y0) * (x1 - x0)
    if not known[0] or not unsaid[0]:
        return math.inf
    return (unsaid[0] / unsaid[1]) / (known[0] / known[1])


def between_views(
    probability: torch.Tensor, batch: Sequence[Sample], lattice: Lattice = WHOLE
) -> torch.Tensor:
    """Disagreement of neighbouring views of one part of a plane, after undoing what lies between them.

    The paper compares T(p(x)) with p(T(x)) for a transform T of the stored embedding; here T lies
    between two views that were encoded as images, so that the encoder is part of the comparison.
    """
    side = CONSISTENCY_SIDE // lattice.step
    small = F.interpolate(probability, size=(side, side), mode="area")
    total, pairs = probability.new_zeros(()), 0
    for i in range(0, len(batch) - 1, 2):
        if batch[i].view == batch[i + 1].view:
            continue
        source, target = (lattice.view(sample.view) for sample in batch[i : i + 2])
        warped, valid = warp_between(small[i], source, target, side)
        total = total + losses.consistency_loss(warped, small[i + 1], valid.expand_as(warped))
        pairs += 1
    return total / max(pairs, 1)


def under_flips(
    probability: torch.Tensor, again: torch.Tensor, quarter_turns: int, mirrored: bool
) -> torch.Tensor:
    """Released variant: ``‖T(p(x)) - p(T(x))‖₂`` of an image for a flip or quarter turn T of its embedding.

    Parameters
    ----------
    probability, again : torch.Tensor
        ``(B, K, G, G)`` probabilities of x and of T(x).
    quarter_turns, mirrored
        The transform T: turned, then mirrored left to right.
    """
    small, other = (F.interpolate(p, size=(CONSISTENCY_SIDE,) * 2, mode="area") for p in (probability, again))
    turned = turn(small, quarter_turns, mirrored)
    images = zip(turned, other, strict=True)
    norms = [losses.consistency_loss(x, y, torch.ones_like(y), norm="l2") for x, y in images]
    return torch.stack(norms).mean()


def turn(maps: torch.Tensor, quarter_turns: int, mirrored: bool) -> torch.Tensor:
    """Turn maps ``(..., H, W)`` by quarter turns, then mirror them."""
    turned = torch.rot90(maps, quarter_turns, dims=(-2, -1))
    return turned.flip(-1) if mirrored else turned
