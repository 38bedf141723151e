"""Which plane to look at or to box next, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.instances import Instance
    from napari_boxprompt.prediction import Prediction

    Plane = TypeVar("Plane")

__all__ = [
    "REASONS",
    "STRATEGIES",
    "PlaneScores",
    "Strategy",
    "Suggestion",
    "doubt",
    "order_planes",
    "plane_scores",
    "standing_out",
    "unsure_objects",
]

Strategy = Literal["combined", "doubt", "size", "look", "views", "novelty", "random"]

STRATEGIES: tuple[Strategy, ...] = ("combined", "doubt", "size", "look", "views", "novelty", "random")
"""``combined`` is the mean rank of those of the next four that are known, plus novelty; ``random`` is what to
beat."""

REASONS: Mapping[Strategy, str] = MappingProxyType(
    {
        "doubt": "unsure outlines",
        "size": "unusual sizes",
        "look": "second look disagrees",
        "views": "two views disagree",
        "novelty": "unlike boxed ones",
        "random": "drawn by lot",
    }
)
"""Why a plane is where it is, in words for a person."""

NEAR = 0.1
"""Least probability of a pixel that might as well have become part of an object; the rest is noise."""

_SIGNS = ("size", "look", "views")

SPECK = 1e-3
"""Part of a plane below which doubt is hardly worth a look."""

SURE = 0.9
"""Mean probability of an object's pixels from which on it is a sure one; nine of ten good objects have it."""

FAR = 3.0
"""A plane stands out that lies this many spreads above the middle, as outliers are usually told."""

LEAST: Mapping[Strategy, float] = MappingProxyType({"doubt": 0.05, "look": 0.05})
"""Smallest difference from the middle that stands out, however alike the planes are."""

TWICE = math.log(2.0)
"""Objects that are so much outside the range of the boxes stand out, whatever the other planes hold."""


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


@dataclass(frozen=True)
class PlaneScores:
    """What a prediction says about how much boxes on its plane would teach; more is worth more.

    Parameters
    ----------
    plane : PlaneId
        The plane.
    doubt : float
        `doubt`, in 0..1.
    size : float
        How far the areas of objects lie outside the range learnt from the boxes, as the logarithm of the
        factor; the mean over objects, weighted by their areas, so that a giant counts among many specks. 0
        where all are of usual size.
    look : float
        One minus `Prediction.agreement`, that of objects with what the frozen model makes of their boxes;
        nan where unknown.
    vector : numpy.ndarray or None
        float32 ``(256,)``, how the plane looks to the frozen model.
    views : float
        `Prediction.disagreement`; nan where it was not measured.
    """

    plane: PlaneId
    doubt: float
    size: float
    look: float = math.nan
    vector: npt.NDArray[np.float32] | None = None
    views: float = math.nan

    @property
    def signs(self) -> dict[str, float]:
        """Return `size`, and those of `look` and `views` that are known: what is kept beside `doubt`."""
        found = {name: float(getattr(self, name)) for name in _SIGNS}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    @classmethod
    def of_signs(cls, plane: PlaneId, doubt: float, signs: Mapping[str, float]) -> PlaneScores:
        """Make the scores of a plane from what was kept of them; how it looks is not among that."""
        size, look, views = (
            signs.get(name, unknown) for name, unknown in zip(_SIGNS, (0.0, math.nan, math.nan), strict=True)
        )
        return cls(plane, doubt, size, look, views=views)


@dataclass(frozen=True)
class Suggestion:
    """A plane in its place.

    Parameters
    ----------
    plane : PlaneId
        The plane.
    score : float
        In 0..1, and comparable within one order only.
    because : str
        Key of `REASONS`: what speaks most for it.
    """

    plane: PlaneId
    score: float
    because: Strategy


def plane_scores(prediction: Prediction, object_area: Mapping[str, Sequence[float]]) -> PlaneScores:
    """Scores of a predicted plane.

    Parameters
    ----------
    prediction : Prediction
        What was found.
    object_area : mapping
        5th, 50th and 95th percentile of the area by class, in pixels (`PromptModel.object_area`).
    """
    return PlaneScores(
        prediction.plane,
        doubt(prediction),
        _unusual_size(prediction, object_area),
        1.0 - prediction.agreement,
        prediction.vector,
        prediction.disagreement,
    )


def standing_out(scores: Mapping[Plane, PlaneScores]) -> dict[Plane, Strategy]:
    """Planes that clearly need a look.

    Parameters
    ----------
    scores : mapping of plane to PlaneScores
        Scores of each plane.

    Returns
    -------
    dict
        The planes, each with what stands out: ``"doubt"``, ``"look"`` or ``"size"``, the first that does.

    Notes
    -----
    Doubt and second look are compared with the other planes, since what is good differs from image to image.
    They stand out above the median by more than `FAR` times the spread, which is the median distance from
    the median, scaled as for a normal distribution (1.4826), and by more than `LEAST`: few of many similar
    planes, and none where all are alike. Sizes are compared with the boxes, be it that they are above
    `TWICE` on most of the planes.
    """
    limits: dict[Strategy, float] = {"size": TWICE}
    for name, least in LEAST.items():
        values = np.array([getattr(score, name) for score in scores.values()], float)
        known = values[~np.isnan(values)]
        if len(known):
            middle = float(np.median(known))
            spread = 1.4826 * float(np.median(np.abs(known - middle)))
            limits[name] = middle + max(FAR * spread, least)
    return {
        plane: name
        for name in ("size", "look", "doubt")  # of several, the last stays
        for plane, score in scores.items()
        if name in limits and getattr(score, name) > limits[name]
    }


def order_planes(
    candidates: Sequence[PlaneScores],
    boxed: Sequence[npt.NDArray[np.float32]] = (),
    strategy: Strategy = "combined",
    *,
    seed: int = 0,
    count: int | None = None,
) -> list[Suggestion]:
    """Planes in the order in which they should be boxed.

    Planes are taken one by one. Each that is taken counts as boxed for the next, so that the order does not
    begin with ten neighbours of one slice (the greedy k-centre of Sener and Savarese, ICLR 2018).

    Parameters
    ----------
    candidates : sequence of PlaneScores
        Planes without boxes.
    boxed : sequence of numpy.ndarray
        Vectors of the planes that have boxes.
    strategy : str
        One of `STRATEGIES`.
    seed : int
        Seed of ``"random"``, which also decides between equals.
    count : int, optional
        How many are wanted; all by default.

    Returns
    -------
    list of Suggestion
        Best first.
    """
    rng = np.random.default_rng(seed)
    # By lot among equals: the order in which files are named must not decide.
    left = [candidates[i] for i in rng.permutation(len(candidates))]
    parts = _parts(left, rng, strategy)
    seen = np.array([i for i, plane in enumerate(left) if plane.vector is not None], int)
    vectors = np.array([left[i].vector for i in seen])  # once: there may be thousands
    nearest = np.full(len(left), np.inf)
    nearest[seen] = _distances(vectors, boxed)
    taken, order, farthest = np.zeros(len(left), bool), list[Suggestion](), 0.0
    for _ in range(len(left) if count is None else min(count, len(left))):
        if strategy in ("combined", "novelty"):
            measured = nearest[np.isfinite(nearest) & ~taken]
            farthest = max(farthest, float(measured.max(initial=0.0)))
            parts["novelty"] = _novelty(nearest, farthest)
        total = np.mean([_filled(part) for part in parts.values()], axis=0)
        if strategy == "combined":  # what the plane shows, and what is new about it, in equal parts
            shown = [_filled(parts[name]) for name in parts if name != "novelty"]
            total = (np.mean(shown, axis=0) + parts["novelty"]) / 2
        chosen = int(np.argmax(np.where(taken, -1.0, total)))
        taken[chosen] = True
        because = max(parts, key=lambda name: float(np.nan_to_num(parts[name][chosen], nan=-1.0)))
        order.append(Suggestion(left[chosen].plane, float(total[chosen]), because))
        vector = left[chosen].vector
        if vector is not None:
            nearest[seen] = np.minimum(nearest[seen], _distances(vectors, [vector]))
    return order


def _parts(
    planes: Sequence[PlaneScores], rng: np.random.Generator, strategy: Strategy
) -> dict[Strategy, npt.NDArray[np.float64]]:
    """What counts for a strategy, each as a rank in 0..1, without novelty.

    Of what is taken together, a score that no plane has is left out: it would take its share from the others.
    """
    values: dict[Strategy, npt.NDArray[np.float64]] = {
        "doubt": np.array([plane.doubt for plane in planes]),
        "size": np.array([plane.size for plane in planes]),
        "look": np.array([plane.look for plane in planes]),
        "views": np.array([plane.views for plane in planes]),
        "random": rng.random(len(planes)),
    }
    if strategy == "combined":
        names: tuple[Strategy, ...] = ("doubt", "size", "look", "views")
        return {name: _rank(values[name]) for name in names if not np.isnan(values[name]).all()}
    return {} if strategy == "novelty" else {strategy: _rank(values[strategy])}


def _rank(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks in 0..1, equal ones in the middle of their places; nan where the value is not known."""
    known = ~np.isnan(values)
    ranks = np.full(len(values), np.nan)
    if known.sum() == 1:
        ranks[known] = 0.5
    elif known.any():
        _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
        ranks[known] = (np.cumsum(counts) - (counts + 1) / 2)[place] / (known.sum() - 1)
    return ranks


def _filled(ranks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Put what is not known in the middle of all: it is neither good nor bad."""
    return np.where(np.isnan(ranks), 0.5, ranks)


def _distances(
    vectors: npt.NDArray[np.float32], others: Sequence[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float64]:
    """Distance of each vector to the nearest of some others; infinite where there is none."""
    found = np.full(len(vectors), np.inf)
    for other in others if len(vectors) else ():
        found = np.minimum(found, np.linalg.norm(vectors - other, axis=1))
    return found


def _novelty(nearest: npt.NDArray[np.float64], farthest: float) -> npt.NDArray[np.float64]:
    """Distance to what is boxed, relative to the farthest plane there was; the same for all where none is.

    Not to the farthest that is left: that one would always be wholly new, however near it is.
    """
    known = np.isfinite(nearest)
    relative = nearest[known] / farthest if farthest > 0 else 0.0
    found = np.full(len(nearest), 0.5)
    found[known] = relative
    return found


def _unusual_size(prediction: Prediction, object_area: Mapping[str, Sequence[float]]) -> float:
    factors, areas = [], []
    for item in prediction.objects:
        low, _, high = object_area.get(item.label, (0.0, 0.0, math.inf))
        if low > 0:
            factors.append(max(0.0, math.log(low / item.area), math.log(item.area / high)))
            areas.append(item.area)
    return float(np.average(factors, weights=areas)) if factors else 0.0
