"""Do the scores that put planes in order know which predictions are bad? Rank correlation with the error.

    python benchmarks/scores.py FOLDER OUT.json [--label 1] [--instances | --one-box]
        [--shots 10] [--test 25] [--seeds 0] [--preset fast]

FOLDER has the layout of docs/benchmarks.md. For each seed a model learns from the boxes of some images and
predicts images of other subjects, each also in a second view. For each score the table has its rank
correlation (Spearman) with the error, 1 - Dice, in brackets the 95 % interval over images drawn with
replacement, and then the mean error of the five images that the score puts first, to be compared with that
of all. The last columns are the mean ranks of doubt, size and look, and of all four. OUT has the figures of
every image; a seed that is in it with the same settings is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

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
    """Rank correlation with its interval."""
    rng, drawn = np.random.default_rng(0), list[float]()
    for _ in range(DRAWS):
        chosen = rng.integers(len(values), size=len(values))
        if len(set(values[chosen].tolist())) > 1:
            drawn.append(float(spearmanr(errors[chosen], values[chosen]).statistic))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{spearmanr(errors, values).statistic:.2f} ({low:.2f} to {high:.2f})"


def first_error(errors: np.ndarray, values: np.ndarray) -> float:
    """Mean error of the images that come first; of equals that do not all fit in, the mean counts."""
    taken = list[float]()
    for value in sorted(set(values.tolist()), reverse=True):
        equal = errors[values == value]
        taken += [float(equal.mean())] * min(len(equal), FIRST - len(taken))
    return float(np.mean(taken))


def told(errors: np.ndarray, values: np.ndarray) -> str:
    """What a score knows of the errors, as a cell of the table."""
    known = ~np.isnan(values)
    if len(set(values[known].tolist())) < 2:
        return "the same for all" if known.any() else "not known"
    errors, values = errors[known], values[known]
    return f"{correlation(errors, values)}; {first_error(errors, values):.3f}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A row for each seed, a column for each score, and for the mean ranks of three and of all four."""
    columns = ["seed", "images", "mean error", *SCORES, "first three", "all four"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        errors = np.array([row["error"] for row in mine])
        values = np.array([[row[name] for name in SCORES] for row in mine], float)
        ranks = np.stack([_rank(column) for column in values.T], axis=1)
        together = (np.nanmean(ranks[:, :3], axis=1), np.nanmean(ranks, axis=1))
        cells = [told(errors, each) for each in (*values.T, *together)]
        lines.append(f"| {seed} | {len(mine)} | {errors.mean():.3f} | {' | '.join(cells)} |")
    return lines


def _rank(values: np.ndarray) -> np.ndarray:
    """Ranks in 0..1; what is not known is in the middle, unless nothing is."""
    known = ~np.isnan(values)
    ranks = np.full(len(values), 0.5 if known.any() else np.nan)
    if known.any():
        ranks[known] = (rankdata(values[known]) - 1) / max(known.sum() - 1, 1)
    return ranks


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
