"""What long work yields: plain, typed values with no GUI in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Caution", "Event", "Finished", "Metrics", "Phase", "Preview", "Progress"]

Phase = Literal["download", "prepare", "encode", "train", "predict", "evaluate"]
"""The part of the work an event belongs to."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` units of a phase are finished.

    Parameters
    ----------
    phase : str
        Part of the work.
    done, total : int
        Units finished and units in all; a unit is a tile, a step or a plane.
    message : str
        What is being worked on, in words a user reads.
    """

    phase: Phase
    done: int
    total: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Metrics:
    """State of a training after ``step`` of ``total`` steps.

    Parameters
    ----------
    step, total : int
        Steps done and planned.
    losses : mapping of str to float
        Mean *weighted* loss terms by name since the last event, and their sum as ``"total"``.
    validation : mapping of str to float
        ``box_agreement`` and ``pseudo_dice`` on held-out boxed planes, in 0..1; empty at steps
        without validation.
    """

    step: int
    total: int
    losses: Mapping[str, float]
    validation: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Preview:
    """Something to look at while training: ``step`` names the state of the model.

    The receiver predicts the plane it shows with the model of the running training; the event
    carries no pixels, so that nothing is computed that nobody looks at.
    """

    step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A phase has ended.

    Parameters
    ----------
    phase : str
        Part of the work.
    seconds : float
        Wall time of the phase.
    stopped : bool
        True when it was ended early and what was done so far has been kept.
    """

    phase: Phase
    seconds: float
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Caution:
    """Something the user should know, although the work goes on.

    Parameters
    ----------
    message : str
        Sentences that say what to do.
    """

    message: str


Event = Progress | Metrics | Preview | Finished | Caution
