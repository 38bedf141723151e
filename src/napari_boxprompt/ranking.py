"""Which plane to look at next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_boxprompt.prediction import Prediction

__all__ = ["doubt"]


def doubt(prediction: Prediction) -> float:
    """How unsure a model is of a plane, from the probabilities alone.

    Parameters
    ----------
    prediction : Prediction
        What was found on the plane.

    Returns
    -------
    float
        0 where every pixel is certain, also on a plane that is certainly empty; 1 where everything that
        might be an object has a probability of one half. Its size and that of the plane do not count.

    Notes
    -----
    The mean of ``1 - |2 p - 1|`` over all pixels, each weighted by ``p ** 2``. The weight leaves out the
    background, which is most of a plane and certain, but not an object that was seen and not believed.
    Rank correlation with ``1 - Dice`` on untouched planes with at least 1 % of objects, with the weight and
    without it: 0.90 and 0.43 on the nuclei stack (32 planes), 0.81 and 0.66 on DSB 2018 (16 images). With
    the planes that show next to nothing it is 0.73 and 0.83 on the stack (55 planes). One training each.
    """
    counts = np.bincount(prediction.probability.ravel(), minlength=256)
    p = np.arange(256) / 255
    weights = counts * p**2
    total = float(weights.sum())
    return float((weights * (1 - np.abs(2 * p - 1))).sum()) / total if total else 0.0
