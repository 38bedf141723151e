"""Does it help to box what the ranking asks for? Dice against boxed images, by strategy.

    python benchmarks/loop.py DATA OUT [--strategies combined,random] [--seeds 0,1,2] [--only hc18]
        [--rounds 5] [--per-round 4] [--test 50] [--picture FILE.svg]

DATA holds the folders `dsb2018_fluo`, `hc18` and `phase_usiigaci`; those that are missing are left out. Each
line is one `boxprompt loop` with its report in OUT; a report that is there is not made again. The table says
how many images and boxes each strategy needs to reach 95 % of what `random` has after all rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from accuracy import TASKS
from curves import draw_curves

LOOPED = ("dsb2018_fluo", "hc18", "phase_usiigaci")
SHARE = 0.95
"""Of the Dice of `random` after all rounds, that is to be reached."""


def run_loop(task: str, strategy: str, seed: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rounds of one simulated person."""
    target = options.out / f"{task}-{strategy}-{seed}.json"
    if not target.is_file() or len(_rounds(target)) < options.rounds:
        command = [sys.executable, "-m", "napari_boxprompt", "loop", str(options.data / task), *TASKS[task]]
        command += ["--strategy", strategy, "--seed", seed, "--test", str(options.test)]
        command += ["--rounds", str(options.rounds), "--per-round", str(options.per_round)]
        subprocess.run([*command, "--json", str(target)], check=True)
    return _rounds(target)[: options.rounds]


def _rounds(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rounds"]
    return found


def curve(strategy: str, runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Mean over the seeds after each round, as `draw_curves` takes it."""
    return [
        {
            "preset": strategy,
            "changed": {},
            "supervision": "boxes",
            "transductive": False,
            "shots": len(rounds[0]["images"]),
            "boxes": statistics.mean(r["n_boxes"] for r in rounds),
            "dice": statistics.mean(r["dice"]["mean"] for r in rounds),
            "dice_interval": None,
        }
        for rounds in zip(*runs, strict=True)
    ]


def needed(cells: list[dict[str, Any]], goal: float) -> str:
    """Images and boxes after which a mean Dice is reached for the first time."""
    for cell in cells:
        if cell["dice"] >= goal:
            return f"{cell['shots']} images, {cell['boxes']:.0f} boxes"
    return "not reached"


def main() -> None:
    """Run what is there and not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--strategies", default="combined,random")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default=",".join(LOOPED))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--per-round", type=int, default=4)
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for task in options.only.split(","):
        if not (options.data / task).is_dir():
            print(f"{task} is not in {options.data}: left out", file=sys.stderr)
            continue
        for strategy in options.strategies.split(","):
            runs = [run_loop(task, strategy, seed, options) for seed in options.seeds.split(",")]
            found.setdefault(task, []).extend(curve(strategy, runs))
    if not found:
        sys.exit(f"None of {options.only} is in {options.data}; give their folder.")
    for line in table(found):
        print(line)
    if options.picture:
        options.picture.write_text(draw_curves(found), encoding="utf-8")


def table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A row for each strategy: Dice after each round, and what it needs to be nearly as good as `random`."""
    shots = sorted({cell["shots"] for cells in found.values() for cell in cells})
    columns = ["data", "strategy", *(f"{n} images" for n in shots), "reaches 95 % of random with"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for task, cells in found.items():
        names = dict.fromkeys(cell["preset"] for cell in cells)
        by_strategy = {name: [cell for cell in cells if cell["preset"] == name] for name in names}
        random = by_strategy.get("random")
        for name, line in by_strategy.items():
            after = {c["shots"]: f"{100 * c['dice']:.1f}" for c in line}
            goal = "" if random is None else needed(line, SHARE * random[-1]["dice"])
            lines.append(f"| {' | '.join([task, name, *(after.get(n, '') for n in shots), goal])} |")
    return lines


if __name__ == "__main__":
    main()
