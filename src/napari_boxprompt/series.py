"""Runs of a benchmark that belong together: kept in one file, compared in one table."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.outputs import write_json
from napari_boxprompt.report import interval, versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Series", "cells", "filled", "row"]

Report = dict[str, Any]

SAME = ("preset", "supervision", "shots", "test", "jitter", "missing", "wrong", "changed")
"""What runs share that differ in their seeds alone."""


class Series:
    """Reports of runs in one JSON file, which is written after every run.

    A single run is written as its own report, several as their list (``runs``) with the means over seeds
    (``cells``).

    Parameters
    ----------
    path : pathlib.Path
        The file.
    planned : int
        Runs that are planned.
    resume : bool
        Keep what is in the file already.

    Raises
    ------
    ConfigError
        The file to go on with is not a report.
    """

    def __init__(self, path: Path, planned: int, *, resume: bool = False) -> None:
        self._path, self._planned = path, planned
        self.reports = _read(path) if resume and path.exists() else []

    def find(self, described: Mapping[str, Any]) -> Report | None:
        """Report of a run with this `Plan.describe`, made by the same versions; None where there is none."""
        made = versions()
        return next(
            (r for r in self.reports if r["run"] == described and r["versions"] == made),
            None,
        )

    def add(self, report: Report) -> None:
        """Take the report of one more run, in the place of an older one of the same run, and write all."""
        self.reports = [other for other in self.reports if other["run"] != report["run"]] + [report]
        if self._planned == len(self.reports) == 1:
            write_json(self._path, report)
        else:
            write_json(self._path, {"cells": cells(self.reports), "runs": self.reports})


def _read(path: Path) -> list[Report]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        reports = content.get("runs", [content])
        if not all(isinstance(report["run"], dict) and report["versions"] for report in reports):
            raise KeyError("run")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not a report to go on with ({error}); leave out --resume or give another file."
        ) from error
    return list(reports)


def cells(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Means over the seeds of runs that are otherwise the same; keys as documented in docs/formats."""
    groups: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        same = [report["run"][name] for name in SAME]
        groups[json.dumps([same, report["transductive"]], sort_keys=True)].append(report)
    return [_cell(group) for group in groups.values()]


def _cell(reports: Sequence[Report]) -> dict[str, Any]:
    def mean(*path: str) -> float | None:
        values: list[Any] = list(reports)
        for name in path:
            values = [value and value[name] for value in values]
        known = [float(value) for value in values if value is not None]
        return float(np.mean(known)) if known else None

    planes = [report["planes"] for report in reports]
    bounds = interval(planes)
    dice, oracle = mean("dice", "mean"), mean("oracle_dice")
    return {
        **{name: reports[0]["run"][name] for name in SAME},
        "seeds": [report["seed"] for report in reports],
        "transductive": reports[0]["transductive"],
        "dice": dice,
        "dice_interval": bounds["dice"],
        "dice_p5": float(np.percentile([plane["dice"] for run in planes for plane in run], 5)),
        "oracle_dice": oracle,
        "ratio": dice / oracle if dice is not None and oracle else None,
        "ratio_interval": bounds["ratio"],
        "assd": mean("assd", "mean"),
        "ece_test": mean("reliability", "test", "ece"),
        "ece_held": mean("reliability", "held", "ece"),
        "n_boxes": mean("n_boxes"),
        "n_train": mean("n_train"),
        "n_test": sum(report["n_test"] for report in reports),
        "subjects": len({plane["subject"] for run in planes for plane in run}),
        "seconds": {name: mean("seconds", name) for name in ("encode", "train", "predict", "total")},
        "peak_rss_mb": max(report["peak_rss_mb"] for report in reports),
    }


def row(cell: Mapping[str, Any]) -> dict[str, str]:
    """A cell in words, by column; Dice in percent.

    Transductive figures stand in a column of their own: a training that has looked at the test planes
    answers another question.
    """
    dice = _percent(cell["dice"], cell["dice_interval"])
    disturbed = [f"{name} {cell[name]:g}" for name in ("jitter", "missing", "wrong") if cell[name]]
    changed = [f"{name}={value}" for name, value in cell["changed"].items()]
    seconds = cell["seconds"].values()
    return {
        "preset": cell["preset"],
        "learns from": cell["supervision"],
        "shots": str(cell["shots"]),
        "seeds": str(len(cell["seeds"])),
        "Dice (95 %)": "-" if cell["transductive"] else dice,
        "transductive": dice if cell["transductive"] else "-",
        "5 %": _percent(cell["dice_p5"]),
        "oracle": _percent(cell["oracle_dice"]),
        "ratio": "-" if cell["ratio"] is None else f"{cell['ratio']:.3f}",
        "ratio (95 %)": _ratio(cell["ratio"], cell["ratio_interval"]),
        "ASSD px": f"{cell['assd']:.2f}",
        "ECE": " / ".join(_error(cell[name]) for name in ("ece_test", "ece_held")),
        "boxes": f"{cell['n_boxes']:.0f} on {cell['n_train']:.0f}",
        "test": f"{cell['n_test']} of {cell['subjects']} subjects",
        "seconds": " / ".join(f"{value:.0f}" for value in seconds),
        "MB": f"{cell['peak_rss_mb']:.0f}",
        "changed": ", ".join([*changed, *disturbed]),
    }


def filled(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Columns without those for special runs (transductive, changed settings) where there is no such run."""
    special = {"transductive": "-", "changed": ""}
    return [name for name in columns if any(line[name] != special.get(name) for line in rows)]


def _percent(value: float, bounds: Sequence[float] | None = None) -> str:
    between = "" if bounds is None else f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})"
    return f"{100 * value:.1f}{between}"


def _ratio(value: float | None, bounds: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + ("" if bounds is None else f" ({bounds[0]:.3f} to {bounds[1]:.3f})")


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
