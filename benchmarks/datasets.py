"""Run the benchmark on folders of reference data, and write the reports and a table.

    python benchmarks/datasets.py DATA OUT [--preset balanced] [--seed 0]

DATA holds the folders `dsb2018_fluo`, `hc18`, `phase_usiigaci` and `ct_spleen_msd`; those that are missing
are left out. Run nothing else meanwhile: the seconds are part of the result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

TASKS = {
    "dsb2018_fluo": ["--instances", "--shots", "20", "--test", "50"],
    "hc18": ["--label", "1", "--one-box", "--shots", "20", "--test", "50"],
    "ct_spleen_msd": ["--label", "1", "--shots", "8", "--test", "8"],
    "phase_usiigaci": ["--instances", "--shots", "20", "--test", "50"],
}


def table_row(name: str, report: dict) -> str:
    """Line of the table."""
    seconds = report["seconds"]
    figures = [
        f"{100 * report['dice']['mean']:.1f} ± {100 * report['dice']['sd']:.1f}",
        f"{100 * report['dice']['p5']:.1f}",
        f"{100 * report['oracle_dice']:.1f}",
        f"{100 * report['no_prompt_dice']:.1f}",
        "-" if report["ratio"] is None else f"{report['ratio']:.3f}",
        f"{report['assd']['mean']:.2f}",
        f"{report['n_boxes']} on {report['n_train']}",
        str(report["n_test"]),
        "whole" if report["tile"] is None else f"{report['tile']:.0f} px",
        " / ".join(f"{seconds[phase]:.0f}" for phase in ("encode", "train", "predict", "total")),
        f"{report['peak_rss_mb']:.0f}",
    ]
    return f"| {name} | " + " | ".join(figures) + " |"


def main() -> None:
    """Run what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", nargs="*", default=list(TASKS))
    options = parser.parse_args()
    rows = []
    for name in options.only:
        if not (options.data / name).is_dir():
            print(f"{name} is not in {options.data}: left out", file=sys.stderr)
            continue
        target = options.out / f"{name}-{options.preset}-{options.seed}.json"
        command = [
            sys.executable,
            "-m",
            "napari_boxprompt",
            "benchmark",
            str(options.data / name),
            *TASKS[name],
        ]
        command += ["--preset", options.preset, "--seed", options.seed, "--json", str(target)]
        subprocess.run(command, check=True)
        rows.append(table_row(name, json.loads(target.read_text())))
    print(
        "| data | Dice | 5 % | oracle | no prompt | ratio | ASSD px | boxes | test | tiles | seconds | MB |"
    )
    print("|" + "---|" * 12)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
