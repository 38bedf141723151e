"""Accuracy on folders of reference data: presets, numbers of boxed images and seeds, as reports and a table.

    python benchmarks/accuracy.py DATA OUT [--presets balanced fast] [--shots 5 10 20] [--seeds 0 1 2]
        [--supervision boxes masks] [--only hc18] [--test 50] [--set NAME=VALUE]

DATA holds the folders `dsb2018_fluo`, `hc18`, `phase_usiigaci` and `ct_spleen_msd`; those that are missing
are left out. Each run writes OUT/NAME.json and is not repeated when that file is there, so a series can be
stopped and gone on with. Run nothing else meanwhile: the seconds are part of the result.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

TASKS = {
    "dsb2018_fluo": ("--instances",),
    "hc18": ("--label", "1", "--one-box"),
    "ct_spleen_msd": ("--label", "1"),
    "phase_usiigaci": ("--instances",),
}
MOST_SHOTS = {"ct_spleen_msd": 8}
"""Where half of the subjects have no more images."""


def interval(values: list[float], rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over test images, each of which is a subject of its own."""
    drawn = rng.choice(values, size=(2000, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def table_row(name: tuple[str, ...], reports: list[dict[str, Any]]) -> str:
    """Line of the table: the seeds of one cell together."""
    dices = [plane["dice"] for report in reports for plane in report["planes"]]
    low, high = interval(dices, np.random.default_rng(0))
    oracle = float(np.mean([report["oracle_dice"] for report in reports]))
    mean = float(np.mean([report["dice"]["mean"] for report in reports]))
    seconds = [
        f"{np.mean([report['seconds'][phase] for report in reports]):.0f}"
        for phase in ("encode", "train", "predict", "total")
    ]
    figures = [
        f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        f"{100 * np.percentile(dices, 5):.1f}",
        f"{100 * oracle:.1f}",
        f"{mean / oracle:.3f}" if oracle else "-",
        f"{np.mean([report['assd']['mean'] for report in reports]):.2f}",
        f"{np.mean([report['n_boxes'] for report in reports]):.0f} on {reports[0]['n_train']}",
        f"{len(dices)} of {len(reports)} seeds",
        " / ".join(seconds),
        f"{max(report['peak_rss_mb'] for report in reports):.0f}",
    ]
    return f"| {' | '.join(name)} | {' | '.join(figures)} |"


def main() -> None:
    """Run what is there and not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--presets", nargs="+", default=["balanced"])
    parser.add_argument("--shots", nargs="+", type=int, default=[20])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--supervision", nargs="+", default=["boxes"])
    parser.add_argument("--only", nargs="+", default=list(TASKS))
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    cells: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for task, preset, supervision, shots, seed in itertools.product(
        options.only, options.presets, options.supervision, options.shots, options.seeds
    ):
        if not (options.data / task).is_dir():
            print(f"{task} is not in {options.data}: left out", file=sys.stderr)
            continue
        shown = str(min(shots, MOST_SHOTS.get(task, shots)))
        changed = "".join(f"-{change}" for change in options.set)
        target = options.out / f"{task}-{preset}-{supervision}-{shown}-{seed}{changed}.json"
        if not target.exists():
            command = [sys.executable, "-m", "napari_boxprompt", "benchmark", str(options.data / task)]
            command += [*TASKS[task], "--preset", preset, "--supervision", supervision, "--shots", shown]
            command += ["--seed", str(seed), "--test", str(options.test), "--json", str(target)]
            command += [word for change in options.set for word in ("--set", change)]
            subprocess.run(command, check=True)
        cells[task, preset, supervision, shown].append(json.loads(target.read_text(encoding="utf-8")))
    print(
        "| data | preset | learns from | shots | Dice (95 %) | 5 % | oracle | ratio | ASSD px | boxes | test "
        "| seconds | MB |"
    )
    print("|" + "---|" * 13)
    for name, reports in cells.items():
        print(table_row(name, reports))


if __name__ == "__main__":
    main()
