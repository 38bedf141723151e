"""One round of labelling and training, and whether it was worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from napari_boxprompt.project.documents import Document, now

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Round", "Verdict", "best_round", "describe", "name_of", "newest_model", "verdict"]

Verdict = Literal["better", "same", "worse", "unknown"]


class Round(Document):
    """``rounds/NNN.json``: what a training learnt from, what came of it, and its baselines.

    A model that was loaded has such a record too, with its number and where it is from.
    """

    number: int = Field(ge=1)
    started: str = Field(default_factory=now)
    seconds: float = Field(default=0.0, ge=0)
    settings: dict[str, Any] = Field(default_factory=dict, description="All settings of the training.")
    boxes: int = Field(default=0, ge=0, description="Boxes spent so far.")
    planes: int = Field(default=0, ge=0, description="Planes with boxes or masks it learnt from or held out.")
    masks: int = Field(default=0, ge=0, description="Corrected and accepted planes it learnt from.")
    held_out: int = Field(default=0, ge=0, description="Boxed planes on which all scores were taken.")
    scores: dict[str, float] = Field(default_factory=dict, description="Scores of the new model.")
    frozen: dict[str, float] = Field(
        default_factory=dict, description="The same scores of the frozen model, given the user's boxes."
    )
    previous: dict[str, float] = Field(
        default_factory=dict, description="The same scores of the model of the round before."
    )
    held_out_boxes: int = Field(default=0, ge=0, description="Boxes on these planes that were compared.")
    against: int = Field(
        default=0,
        ge=0,
        description="Number of the round that `previous` is of, or whose model was in use when this one was "
        "loaded; 0 for none.",
    )
    margins: dict[str, float] = Field(
        default_factory=dict,
        description="Difference in box agreement to `previous` and to `frozen` that may be chance.",
    )
    model: str = Field(default="", description="Folder of the model, relative to the project.")
    loaded_from: str | None = Field(
        default=None, description="Folder that the model was loaded from; null where it was trained here."
    )
    taken_back: bool = Field(default=False, description="The user went back to the model before.")
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
        Differences up to this count as the same, and so do those within the margin of the round.

    Returns
    -------
    {"better", "same", "worse", "unknown"}
        "unknown" where one of the two has no such score.
    """
    baseline = record.previous if against == "previous" else record.frozen
    if measure not in record.scores or measure not in baseline:
        return "unknown"
    gain = record.scores[measure] - baseline[measure]
    if abs(gain) <= max(tolerance, record.margins.get(against, 0.0)):
        return "same"
    return "better" if gain > 0 else "worse"


def name_of(number: int, rounds: Iterable[Round]) -> str:
    """Return what the model of a round is called: after the round, unless it was loaded."""
    loaded = any(record.number == number and record.loaded_from is not None for record in rounds)
    return "the loaded model" if loaded else f"round {number}" if number else "the model before"


def describe(record: Round, rounds: Iterable[Round] = ()) -> str:
    """Tell in a sentence or two how good a round is, against its baselines.

    Parameters
    ----------
    record : Round
        The round.
    rounds : iterable of Round
        Those among which the one before is, as it may be of a loaded model.
    """
    if record.loaded_from is not None:
        return f"The model was loaded from {record.loaded_from}."
    score = record.scores.get("box_agreement")
    if score is None:
        return f"Round {record.number} could not be judged. {record.note}".strip()
    boxes = "1 box" if record.held_out_boxes == 1 else f"{record.held_out_boxes} boxes"
    said = f"Round {record.number} agrees {score:.2f} with {boxes} that it did not learn from"
    before = name_of(record.against, rounds)
    kind = verdict(record)
    if kind != "unknown":
        gain = score - record.previous["box_agreement"]
        if kind == "same":
            chance = f" ({gain:+.2f} may be chance)" if abs(gain) >= 0.005 else ""
            said += f", as good as {before}{chance}"
        else:
            said += f", {abs(gain):.2f} {kind} than {before}"
    if "box_agreement" in record.frozen:
        untrained = record.frozen["box_agreement"]
        said += f". The model without training, given these boxes, agrees {untrained:.2f}"
    return f"{said}. {record.note}".strip()


def newest_model(rounds: Iterable[Round], folder: Path) -> Round | None:
    """Return the newest round whose model is in use: it is in the project, and nobody went back from it.

    Parameters
    ----------
    rounds : iterable of Round
        Oldest first.
    folder : Path
        Of the project.
    """
    there = (r for r in rounds if r.model and not r.taken_back and (folder / r.model).is_dir())
    return max(there, key=lambda record: record.number, default=None)


def best_round(rounds: Iterable[Round], measure: str = "box_agreement") -> Round | None:
    """Return the round with the highest score, the later of equals; None if no round has the score.

    Scores of different rounds were taken on different held-out planes where these have changed; `verdict`
    compares on the same ones.
    """
    scored = [record for record in rounds if measure in record.scores]
    return max(scored, key=lambda record: (record.scores[measure], record.number), default=None)
