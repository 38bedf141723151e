"""Whether probabilities mean what they say: of pixels given 0.8, eight in ten should be object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_boxprompt.formats import align
from napari_boxprompt.models.encoding import PlanePixels
from napari_boxprompt.supervision.targets import PlaneTargets, pseudo_labels
from napari_boxprompt.training.holdout import Past
from napari_boxprompt.training.plan import make_plan

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet
    from napari_boxprompt.images import Images
    from napari_boxprompt.prediction import Predictor

__all__ = ["BINS", "Reliability", "held_reliability"]

BINS = 10
"""Bins of equal width between probability 0 and 1."""

_LEVELS = 256  # probabilities are bytes, so counts of each value lose nothing and take no memory


class Reliability:
    """Counts of pixels by their predicted probability, and of the object pixels among them.

    With n_b pixels in bin b, p_b their mean probability and f_b the fraction of them that is object, the
    expected calibration error is ``sum_b n_b / n |f_b - p_b|`` (Naeini et al. 2015, AAAI, for a binary
    probability; bins of equal width as in Guo et al. 2017, ICML).
    """

    def __init__(self) -> None:
        self._all = np.zeros(_LEVELS, np.int64)
        self._true = np.zeros(_LEVELS, np.int64)

    def add(
        self,
        probability: npt.NDArray[np.uint8],
        truth: npt.NDArray[np.bool_],
        known: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Count the pixels of a plane, or of a part of it.

        Parameters
        ----------
        probability : numpy.ndarray
            Probability of the class, 255 is certain.
        truth : numpy.ndarray
            Where the class is.
        known : numpy.ndarray, optional
            Pixels of which this is known; all by default.
        """
        if known is not None:
            probability, truth = probability[known], truth[known]
        self._all += np.bincount(probability.ravel(), minlength=_LEVELS)
        self._true += np.bincount(probability[truth].ravel(), minlength=_LEVELS)

    def report(self) -> dict[str, Any] | None:
        """Figures as documented in docs/formats; None where nothing was counted."""
        total = int(self._all.sum())
        if total == 0:
            return None
        # In whole numbers, or 0.3 and 0.6 would fall beside their bins; probability 1 belongs to the last.
        which = np.minimum(np.arange(_LEVELS) * BINS // (_LEVELS - 1), BINS - 1)
        count, true, mass = (
            np.bincount(which, weights, BINS)
            for weights in (self._all, self._true, self._all * np.arange(_LEVELS) / (_LEVELS - 1))
        )
        gaps = np.abs(true - mass)
        unsure = int(count[1:-1].sum())
        return {
            "ece": float(gaps.sum() / total),
            "ece_unsure": float(gaps[1:-1].sum() / unsure) if unsure else None,
            "unsure": unsure / total,
            "pixels": total,
            "bins": [
                {
                    "from": b / BINS,
                    "to": (b + 1) / BINS,
                    "pixels": int(count[b]),
                    "probability": float(mass[b] / count[b]) if count[b] else None,
                    "observed": float(true[b] / count[b]) if count[b] else None,
                }
                for b in range(BINS)
            ],
        }


def held_reliability(predictor: Predictor, images: Images, boxes: BoxSet) -> dict[str, Any] | None:
    """Reliability on boxed planes that a training held out, as far as boxes can tell.

    Outside the boxes of a complete plane there is background. Inside a box it is not known which pixels
    belong to the object: the mask that the frozen model gives for the box, cut by it, takes the place of
    the truth. So the figure says whether the model is as sure as it should be of what the *frozen model
    with a box* would do. It cannot see an error that both make.

    Parameters
    ----------
    predictor : Predictor
        The trained model.
    images, boxes
        What it was trained on.

    Returns
    -------
    dict or None
        `Reliability.report` over the pixels of the few views by which the training chose its weights, with
        the number of ``planes``; None where none was held out.
    """
    model, encoder = predictor.model, predictor.encoder
    boxes = align(boxes, images)
    rng = np.random.default_rng(model.config.seed)  # as the training draws them
    plan = make_plan(images, boxes, model.config, model.tile, rng, Past.of(model))
    found = Reliability()
    checked = sorted(plan.held & plan.bases.keys())
    for plane in checked:
        pixels = PlanePixels(images.read(plane), model.normalization)
        views, info = plan.bases[plane], boxes.planes[plane]
        embeddings = torch.cat([encoder.encode(encoder.inputs(pixels, [view])) for view in views])
        tight = model.config.levels == "tight"
        labels = pseudo_labels(encoder.frozen, views, embeddings, boxes, plane, tight=tight)
        targets = PlaneTargets(plane, pixels.shape, labels, info.complete, info.complete_regions)
        for view in views:
            sure = (predictor.logits(pixels, view).sigmoid() * 255).round().byte().numpy()
            for probability, seen in zip(sure, targets.render(view), strict=True):
                found.add(probability, seen.pseudo.numpy(), seen.valid.numpy())
    report = found.report()
    return None if report is None else {**report, "planes": len(checked)}
