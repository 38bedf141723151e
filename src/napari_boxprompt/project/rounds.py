"""One round of labelling and training, and whether it was worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from napari_boxprompt.project.documents import Document, now

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Round", "Verdict", "best_round", "verdict"]

Verdict = Literal["better", "same", "worse", "unknown"]


class Round(Document):
    """``rounds/NNN.json``: what a training learnt from, what came of it, and its baselines."""

    number: int = Field(ge=1)
    started: str = Field(default_factory=now)
    seconds: float = Field(default=0.0, ge=0)
    settings: dict[str, Any] = Field(default_factory=dict, description="All settings of the training.")
    boxes: int = Field(default=0, ge=0, description="Boxes spent so far.")
    planes: int = Field(default=0, ge=0, description="Planes with boxes or masks it learnt from.")
    masks: int = Field(default=0, ge=0, description="Corrected and accepted planes it learnt from.")
    held_out: int = Field(default=0, ge=0, description="Boxed planes on which all scores were taken.")
    scores: dict[str, float] = Field(default_factory=dict, description="Scores of the new model.")
    frozen: dict[str, float] = Field(
        default_factory=dict, description="The same scores of the frozen model, given the user's boxes."
    )
    previous: dict[str, float] = Field(
        default_factory=dict, description="The same scores of the model of the round before."
    )
    model: str = Field(default="", description="Folder of the model, relative to the project.")
    note: str = ""


def verdict(
    record: Round,
    against: Literal["previous", "frozen"] = "previous",
    measure: str = "box_agreement",
    tolerance: float = 0.005,
) -> Verdict:
    """Compare a round with one of its baselines, on the same held-out planes.

    Parameters
    ----------
    record : Round
        The round.
    against : {"previous", "frozen"}
        The model of the round before, or the frozen model given the user's boxes.
    measure : str
        Name of the score; larger must be better.
    tolerance : float
        Differences up to this count as the same.

    Returns
    -------
    {"better", "same", "worse", "unknown"}
        "unknown" where one of the two has no such score.
    """
    baseline = record.previous if against == "previous" else record.frozen
    if measure not in record.scores or measure not in baseline:
        return "unknown"
    gain = record.scores[measure] - baseline[measure]
    if abs(gain) <= tolerance:
        return "same"
    return "better" if gain > 0 else "worse"


def best_round(rounds: Iterable[Round], measure: str = "box_agreement") -> Round | None:
    """Return the round with the highest score, the later of equals; None if no round has the score.

    Scores of different rounds were taken on different held-out planes where these have changed; `verdict`
    compares on the same ones.
    """
    scored = [record for record in rounds if measure in record.scores]
    return max(scored, key=lambda record: (record.scores[measure], record.number), default=None)
