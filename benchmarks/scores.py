"""Do the scores that put planes in order know which predictions are bad? Rank correlation with the error.

    python benchmarks/scores.py FOLDER OUT.json [--label 1] [--instances | --one-box]
        [--shots 10] [--test 25] [--seeds 0] [--preset fast]

FOLDER has the layout of docs/benchmarks.md. For each seed a model learns from the boxes of some images and
predicts images of other subjects, each also in a second view. For each score the table has its rank
correlation (Spearman) with the error, 1 - Dice, in brackets the 95 % interval over images drawn with
replacement, and then the mean error of the five images that the score puts first, to be compared with that
of all. OUT has the figures of every image; a seed that is in it with the same settings is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from napari_boxprompt.api import TrainedModel, predict, train
from napari_boxprompt.benchmarking import BenchmarkFolder
from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.evaluation import dice
from napari_boxprompt.ranking import plane_scores

SCORES = ("doubt", "size", "look", "views")
FIRST = 5
DRAWS = 2000


def measured(folder: BenchmarkFolder, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train with one seed; the error and the scores of each test image."""
    split = folder.split(options.shots, options.test, seed)
    boxes = BoxSet.merge([folder.boxes(file) for file in split.train])
    model: TrainedModel = train(folder.images(split.train), boxes, options.preset, seed=seed)
    rows = []
    for found in predict(model, folder.images(split.test), disagreement=True):
        scores = plane_scores(found, model.model.object_area)
        error = 1.0 - dice(found.mask.astype(bool), folder.foreground(found.plane.image))
        values = {name: float(getattr(scores, name)) for name in SCORES}
        rows.append({"seed": seed, "image": found.plane.image, "error": error, **values})
    return rows


def correlation(errors: np.ndarray, values: np.ndarray) -> str:
    """Rank correlation with its interval; empty where a score is not known or the same everywhere."""
    known = ~np.isnan(values)
    errors, values = errors[known], values[known]
    if len(set(values.tolist())) < 2:
        return ""
    rng, drawn = np.random.default_rng(0), list[float]()
    for _ in range(DRAWS):
        chosen = rng.integers(len(values), size=len(values))
        if len(set(values[chosen].tolist())) > 1:
            drawn.append(float(spearmanr(errors[chosen], values[chosen]).statistic))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{spearmanr(errors, values).statistic:.2f} ({low:.2f} to {high:.2f})"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A row for each seed, and for each score what it knows."""
    lines = ["| seed | images | mean error | " + " | ".join(SCORES) + " |", f"|{'---|' * (3 + len(SCORES))}"]
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        errors = np.array([row["error"] for row in mine])
        cells = []
        for name in SCORES:
            values = np.array([math.nan if row[name] is None else row[name] for row in mine])
            told = correlation(errors, values)
            first = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")[:FIRST]
            cells.append(f"{told}; {errors[first].mean():.3f}" if told else "not known")
        lines.append(f"| {seed} | {len(mine)} | {errors.mean():.3f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run the seeds that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--label", type=int)
    parser.add_argument("--instances", action="store_true")
    parser.add_argument("--one-box", action="store_true")
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--test", type=int, default=25)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--preset", default="fast")
    options = parser.parse_args()
    mode = "instances" if options.instances else "hull" if options.one_box else "components"
    folder = BenchmarkFolder(options.folder, mode, options.label)
    asked = {"folder": options.folder.name, "mode": mode, "label": options.label}
    asked |= {"shots": options.shots, "test": options.test, "preset": options.preset}
    before = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    rows = before["images"] if before.get("settings") == asked else []
    wanted = [int(seed) for seed in options.seeds.split(",")]
    for seed in wanted:
        if seed not in {row["seed"] for row in rows}:
            rows += measured(folder, seed, options)
            # JSON has no NaN.
            rows = [{k: None if v != v else v for k, v in row.items()} for row in rows]
            options.out.write_text(
                json.dumps({"settings": asked, "images": rows}, indent=1), encoding="utf-8"
            )
    for line in table([row for row in rows if row["seed"] in wanted]):
        print(line)


if __name__ == "__main__":
    main()
