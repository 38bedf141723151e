"""Which boxed planes are held out: on these, rounds can be compared, as none has learnt from them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_boxprompt.boxes import PlaneId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Set

    from napari_boxprompt.prompting import PromptModel

__all__ = ["NO_PAST", "Past", "choose_held", "noted_planes", "plane_notes", "stable_place"]

HELD, LEARNT = "held_out", "learnt"
"""Keys in the record of a model."""


@dataclass(frozen=True)
class Past:
    """What an earlier training did with planes.

    Parameters
    ----------
    held : frozenset of PlaneId
        Planes that it held out.
    learnt : frozenset of PlaneId
        Planes that it, or a model that it began with, has learnt from.
    """

    held: frozenset[PlaneId] = frozenset()
    learnt: frozenset[PlaneId] = frozenset()

    @classmethod
    def of(cls, model: PromptModel | None) -> Past:
        """What the record of a model says; nothing where there is no model, or it is an old one."""
        if model is None:
            return cls()
        none = frozenset[PlaneId]()
        return cls(noted_planes(model, HELD) or none, noted_planes(model, LEARNT) or none)


NO_PAST = Past()
"""That of a first training."""


def stable_place(plane: PlaneId, seed: int) -> str:
    """Sort key of a plane that looks random and does not depend on which other planes there are."""
    return hashlib.sha256(f"{seed} {plane.index} {plane.image}".encode()).hexdigest()


def choose_held(
    boxed: Mapping[PlaneId, Set[str]],
    fraction: float,
    seed: int,
    past: Past,
    accepted: Collection[PlaneId] = (),
) -> set[PlaneId]:
    """Planes to hold out, none of fewer than three, and none with all boxes of a class that are left.

    What was held out before stays so, up to half of the planes. Then come planes that no earlier training
    has learnt from and that somebody has boxed by hand, because on these a round can be compared with the
    one before. Among equals their names decide, so that more boxes do not change the choice at large.

    Parameters
    ----------
    boxed : mapping of PlaneId to set of str
        Planes with boxes, and the classes of these.
    fraction : float
        How much of them is wanted; at least one is taken if one may be, unless it is 0.
    seed : int
        Seed of the choice.
    past : Past
        What the training before did.
    accepted : collection of PlaneId
        Planes whose boxes come from an accepted prediction.
    """
    if len(boxed) < 3 or fraction == 0:
        return set()
    wanted = max(1, round(fraction * len(boxed)))
    most = max(wanted, len(boxed) // 2)

    def place(plane: PlaneId) -> tuple[bool, bool, str]:
        seen = plane in past.learnt or plane in accepted
        return plane not in past.held, seen, stable_place(plane, seed)

    held, left = set[PlaneId](), Counter(name for names in boxed.values() for name in names)
    for plane in sorted(boxed, key=place):
        room = most if plane in past.held else wanted
        if len(held) < room and all(left[name] > 1 for name in boxed[plane]):
            held.add(plane)
            left.subtract(boxed[plane])
    return held


def plane_notes(
    held: Iterable[PlaneId], learnt: Iterable[PlaneId], start: PromptModel | None
) -> dict[str, Any]:
    """What the record of a model says of planes; those that the model it began with has learnt from count.

    Where it began with a model that does not say what it has learnt from, nor does this one.
    """
    before = frozenset[PlaneId]() if start is None else noted_planes(start, LEARNT)
    all_learnt = None if before is None else [[p.image, list(p.index)] for p in sorted({*learnt, *before})]
    return {HELD: [[plane.image, list(plane.index)] for plane in sorted(held)], LEARNT: all_learnt}


def noted_planes(model: PromptModel, key: str) -> frozenset[PlaneId] | None:
    """Planes ``"held_out"`` or ``"learnt"`` from, None where the model does not say."""
    noted = model.record.get(key)
    return None if noted is None else frozenset(PlaneId(image, tuple(index)) for image, index in noted)
