"""Accuracy on folders of reference data: presets, boxed images and seeds, as reports, table and picture.

    python benchmarks/accuracy.py DATA OUT [--presets balanced,fast] [--shots 5,10,20] [--seeds 0,1,2]
        [--supervision boxes,masks] [--only hc18,ct_spleen_msd] [--test 50] [--set NAME=VALUE]
        [--picture FILE.svg]

DATA holds the folders `dsb2018_fluo`, `hc18`, `phase_usiigaci` and `ct_spleen_msd`; those that are missing
are left out. Each is one `boxprompt benchmark --resume` with its report in OUT, so a series can be stopped
and gone on with. Run nothing else meanwhile: the seconds are part of the result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from curves import draw_curves

from napari_boxprompt.series import cells, filled, row

TASKS = {
    "dsb2018_fluo": ("--instances",),
    "hc18": ("--label", "1", "--one-box"),
    "ct_spleen_msd": ("--label", "1"),
    "phase_usiigaci": ("--instances",),
}
MOST_SHOTS = {"ct_spleen_msd": 8}
"""Where half of the subjects have no more images."""


def run_task(task: str, supervision: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Do what is not done yet of one folder; the means over seeds of what was asked for."""
    most = MOST_SHOTS.get(task, 10**9)
    shots = list(dict.fromkeys(min(int(word), most) for word in options.shots.split(",")))
    changed = "".join(f"-{change}" for change in options.set)
    target = options.out / f"{task}-{supervision}{changed}.json"
    command = [sys.executable, "-m", "napari_boxprompt", "benchmark", str(options.data / task), *TASKS[task]]
    command += ["--presets", options.presets, "--seeds", options.seeds, "--shots", ",".join(map(str, shots))]
    command += ["--supervision", supervision, "--test", str(options.test)]
    command += [word for change in options.set for word in ("--set", change)]
    pictures = options.out / "worst" / f"{task}-{supervision}{changed}"
    subprocess.run([*command, "--resume", "--json", str(target), "--pictures", str(pictures)], check=True)
    found = json.loads(target.read_text(encoding="utf-8"))
    # The report also keeps what earlier calls have asked for.
    wanted = [
        report
        for report in found.get("runs", [found])
        if report["preset"] in options.presets.split(",")
        and str(report["seed"]) in options.seeds.split(",")
        and report["run"]["shots"] in shots
        and report["run"]["test"] == options.test
    ]
    return cells(wanted)


def main() -> None:
    """Run what is there and not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--presets", default="balanced")
    parser.add_argument("--shots", default="20")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--supervision", default="boxes")
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for task in options.only.split(","):
        if not (options.data / task).is_dir():
            print(f"{task} is not in {options.data}: left out", file=sys.stderr)
            continue
        for supervision in options.supervision.split(","):
            found.setdefault(task, []).extend(run_task(task, supervision, options))
    rows = [{"data": task, **row(cell)} for task, group in found.items() for cell in group]
    if not rows:
        sys.exit(f"None of {', '.join(TASKS)} is in {options.data}; give their folder.")
    columns = filled([name for name in rows[0] if name != "ratio"], rows)  # it is there with its interval
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for line in rows:
        print(f"| {' | '.join(line[name] for name in columns)} |")
    if options.picture:
        options.picture.write_text(draw_curves(found), encoding="utf-8")


if __name__ == "__main__":
    main()
