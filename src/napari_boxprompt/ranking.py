"""Which plane to look at next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_boxprompt.prediction import Prediction

__all__ = ["doubt"]

NEAR = 0.1
"""Least probability of a pixel that might as well have become part of an object; the rest is noise."""

SPECK = 1e-3
"""Part of a plane below which doubt is hardly worth a look."""


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
