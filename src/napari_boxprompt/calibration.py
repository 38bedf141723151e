"""Whether probabilities mean what they say: of pixels given 0.8, eight in ten should be object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.models.encoding import PlanePixels
from napari_boxprompt.prediction import assemble
from napari_boxprompt.supervision.targets import BoxLabel, PlaneTargets, assign, pseudo_labels
from napari_boxprompt.training.dataset import make_plan
from napari_boxprompt.views import GRID, View, tile_views

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.images import Images
    from napari_boxprompt.prediction import Predictor

__all__ = ["BINS", "Reliability", "held_planes", "held_reliability"]

BINS = 10
"""Bins of equal width between probability 0 and 1."""

_LEVELS = 256  # probabilities are bytes, so counts of each value lose nothing and take no memory


class Reliability:
    """Counts of pixels by their predicted probability, and of the object pixels among them.

    With n_b pixels in bin b, p_b their mean probability and f_b the fraction of them that is object, the
    expected calibration error is sum_b n_b / n |f_b - p_b| (Naeini et al. 2015, AAAI, for a binary
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


def held_planes(predictor: Predictor, images: Images, boxes: BoxSet) -> tuple[PlaneId, ...]:
    """Boxed planes that the training of a model held out, in the order of the boxes.

    Parameters
    ----------
    predictor : Predictor
        The trained model.
    images, boxes
        What it was trained on.
    """
    config = predictor.model.config
    rng = np.random.default_rng(config.seed)  # as the training draws them
    held = make_plan(images, boxes, config, predictor.model.tile, rng).held
    return tuple(plane for plane in boxes.boxed_planes if plane in held)


def held_reliability(
    predictor: Predictor, images: Images, boxes: BoxSet, planes: Iterable[PlaneId]
) -> Reliability:
    """Reliability on boxed planes that were not trained on, as far as boxes can tell.

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
    planes : iterable of PlaneId
        Planes to look at, from `held_planes`.
    """
    found = Reliability()
    for plane in planes:
        pixels = PlanePixels(images.read(plane), predictor.model.normalization)
        rows = tile_views(pixels.shape, predictor.model.tile_for(pixels.shape))
        _, probability = assemble(
            pixels.shape,
            rows,
            lambda view, pixels=pixels: predictor.logits(pixels, view),  # type: ignore[misc]
            len(boxes.classes),
            exclusive=False,
        )
        info = boxes.planes[plane]
        labels = _labels(predictor, pixels, [view for row in rows for view in row], boxes, plane)
        targets = PlaneTargets(plane, pixels.shape, labels, info.complete, info.complete_regions)
        _compare(found, probability, targets)
    return found


def _labels(
    predictor: Predictor, pixels: PlanePixels, views: list[View], boxes: BoxSet, plane: PlaneId
) -> tuple[tuple[BoxLabel, ...], ...]:
    """Masks for the boxes of a plane, view by view so that one embedding is held at a time."""
    drawn = boxes.on(plane)
    encoder, tight = predictor.encoder, predictor.model.config.levels == "tight"
    best = assign(np.array([box.as_tuple() for box in drawn], float).reshape(-1, 4), views)
    labels: tuple[tuple[BoxLabel, ...], ...] = ((),) * len(boxes.classes)
    for index in np.unique(best).tolist():
        seen = boxes.with_boxes(box for box, i in zip(drawn, best.tolist(), strict=True) if i == index)
        embedding = encoder.encode(encoder.inputs(pixels, [views[index]]))
        made = pseudo_labels(encoder.frozen, [views[index]], embedding, seen, plane, tight=tight)
        labels = tuple((*old, *new) for old, new in zip(labels, made, strict=True))
    return labels


def _compare(found: Reliability, probability: npt.NDArray[np.uint8], targets: PlaneTargets) -> None:
    """Count a plane in squares of its own pixels, rendered as a training sees them."""
    height, width = targets.shape
    for y in range(0, height, GRID):
        for x in range(0, width, GRID):
            for seen, part in zip(
                targets.render(View.square(y, x, GRID)),
                probability[:, y : y + GRID, x : x + GRID],
                strict=True,
            ):
                rows, columns = part.shape
                truth, known = (m[:rows, :columns].numpy() for m in (seen.pseudo, seen.valid))
                found.add(part, truth, known)
