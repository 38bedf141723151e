"""Which plane to look at next, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from napari_boxprompt.instances import Instance
    from napari_boxprompt.prediction import Prediction

    Plane = TypeVar("Plane")

__all__ = ["doubt", "standing_out", "unsure_objects"]

NEAR = 0.1
"""Least probability of a pixel that might as well have become part of an object; the rest is noise."""

SPECK = 1e-3
"""Part of a plane below which doubt is hardly worth a look."""

SURE = 0.9
"""Mean probability of an object's pixels from which on it is a sure one; nine of ten good objects have it."""

FAR = 3.0
"""A plane stands out that lies this many spreads above the middle, as outliers are usually told."""

LEAST = 0.05
"""Smallest difference from the middle that stands out, however alike the planes are."""


def doubt(prediction: Prediction) -> float:
    """How unsure a model is of a plane, from the probabilities alone.

    Parameters
    ----------
    prediction : Prediction
        What was found on the plane.

    Returns
    -------
    float
        0 where every pixel is certain, and where nothing comes near to being an object; nearly 1 where all
        that might be one has a probability of one half. The sizes of objects and plane do not count, but a
        speck on an empty plane counts little.

    Notes
    -----
    The mean of ``1 - |2 p - 1|`` over the pixels from `NEAR` on, each weighted by ``p ** 2``. The weight
    leaves out the background, which is most of a plane and certain, but not an object that was seen and not
    believed. Without `NEAR`, an empty plane is as doubtful as its noise is probable, and comes first though
    there is nothing to look at. `SPECK` is added to the weights as if it were certain.
    """
    counts = np.bincount(prediction.probability.ravel(), minlength=256)
    p = np.arange(256) / 255
    weights = np.where(p >= NEAR, counts * p**2, 0.0)
    total = float(weights.sum()) + SPECK * prediction.probability.size
    return float((weights * (1 - np.abs(2 * p - 1))).sum()) / total


def unsure_objects(prediction: Prediction) -> list[Instance]:
    """Objects of a plane that the model only half believes in: their score is below `SURE`."""
    return [item for item in prediction.objects if item.score < SURE]


def standing_out(doubts: Mapping[Plane, float]) -> set[Plane]:
    """Planes that are clearly more doubtful than most of the others.

    Parameters
    ----------
    doubts : mapping of plane to float
        `doubt` of each plane.

    Returns
    -------
    set
        Those whose doubt is above the median by more than `FAR` times the spread, which is the median
        distance from the median, scaled as for a normal distribution (1.4826), and by more than `LEAST`.
        Few of many similar planes, and none where all are alike: what a good doubt is differs from image
        to image, so that only a comparison says which plane needs a look.
    """
    if not doubts:
        return set()
    values = np.array(list(doubts.values()))
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    least = middle + max(FAR * spread, LEAST)
    return {plane for plane, value in doubts.items() if value > least}
