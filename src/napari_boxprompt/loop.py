"""Active labelling with a simulated person: boxes on the planes that a strategy asks for, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.api import start_training
from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import ConfigError
from napari_boxprompt.evaluation import dice, summary
from napari_boxprompt.prediction import Predictor, predict_planes
from napari_boxprompt.ranking import PlaneScores, Strategy, order_planes, plane_scores
from napari_boxprompt.report import versions

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_boxprompt.benchmarking import BenchmarkFolder
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.events import Event
    from napari_boxprompt.models.encoding import Encoder

__all__ = ["LoopPlan", "run_loop"]


@dataclass(frozen=True)
class LoopPlan:
    """What a simulated person does.

    Parameters
    ----------
    strategy : str
        How planes are chosen, one of `ranking.STRATEGIES`.
    rounds : int
        Trainings.
    per_round : int
        Images that are boxed before each of them.
    test : int
        Most images of other subjects to measure on.
    """

    strategy: Strategy = "combined"
    rounds: int = 5
    per_round: int = 4
    test: int = 50


def run_loop(
    folder: BenchmarkFolder, config: TrainConfig, encoder: Encoder, plan: LoopPlan
) -> Generator[Event, None, dict[str, Any]]:
    """Box, train, measure, choose what to box next, and again.

    The first images are drawn by lot from those with an object, the same for every strategy. Each round
    trains anew on all boxes so far, so that rounds differ by their boxes alone. Images to box are of other
    subjects than those that are measured on, and of their masks only the boxes of the chosen ones are used.

    Parameters
    ----------
    folder : BenchmarkFolder
        Images with reference masks.
    config : TrainConfig
        Settings of every training; its seed splits the subjects and draws the first images.
    encoder : Encoder
        Frozen model; with a cache, an image is encoded once for all rounds.
    plan : LoopPlan
        Strategy and sizes.

    Yields
    ------
    Event

    Returns
    -------
    dict
        Keys as documented in docs/formats.

    Raises
    ------
    ConfigError
        There are fewer images than the rounds ask for.
    """
    split = folder.split(10**6, plan.test, config.seed)
    wanted = plan.rounds * plan.per_round
    if len(split.train) < wanted:
        raise ConfigError(
            f"{plan.rounds} rounds of {plan.per_round} images need {wanted} images with objects, of half of "
            f"the subjects, but there are {len(split.train)}; ask for fewer."
        )
    rng = np.random.default_rng(config.seed)
    chosen = [split.train[i] for i in rng.permutation(len(split.train))[: plan.per_round]]
    rounds: list[dict[str, Any]] = []
    for number in range(1, plan.rounds + 1):
        report, asked = yield from _round(folder, config, encoder, plan, chosen, split.train, split.test)
        rounds.append({"round": number, **report})
        chosen = chosen + asked
    return {
        "folder": folder.folder.name,
        "strategy": plan.strategy,
        "preset": config.preset,
        "seed": config.seed,
        "n_pool": len(split.train),
        "n_test": len(split.test),
        "rounds": rounds,
        "versions": versions(),
    }


def _round(
    folder: BenchmarkFolder,
    config: TrainConfig,
    encoder: Encoder,
    plan: LoopPlan,
    chosen: Sequence[str],
    pool: Sequence[str],
    test: Sequence[str],
) -> Generator[Event, None, tuple[dict[str, Any], list[str]]]:
    """Train on the chosen images, measure on the test images, and choose the next ones."""
    boxes = BoxSet.merge([folder.boxes(file) for file in sorted(chosen)])
    run = start_training(folder.images(sorted(chosen)), boxes, config, encoder=encoder)
    yield from run
    predictor = Predictor(run.model, encoder)
    found = {
        prediction.plane.image: dice(prediction.mask.astype(bool), folder.foreground(prediction.plane.image))
        for prediction in predict_planes(predictor, folder.images(test))
    }
    left = [file for file in pool if file not in set(chosen)]
    asked = _ask(folder, predictor, plan, sorted(chosen), left, config.seed)
    report = {
        "images": list(chosen),
        "n_boxes": len(boxes),
        "dice": summary(list(found.values())),
        "planes": [{"image": name, "dice": value} for name, value in found.items()],
        "asked": [{"image": item, "because": because} for item, because in asked],
    }
    return report, [item for item, _ in asked]


def _ask(
    folder: BenchmarkFolder,
    predictor: Predictor,
    plan: LoopPlan,
    chosen: Sequence[str],
    left: Sequence[str],
    seed: int,
) -> list[tuple[str, str]]:
    """Images that the strategy wants boxed next, and why."""
    if not left:
        return []
    areas = predictor.model.object_area

    def looked_at(files: Sequence[str]) -> list[PlaneScores]:
        found = predict_planes(predictor, folder.images(files), disagreement=plan.strategy == "views")
        return [plane_scores(prediction, areas) for prediction in found]

    # By lot, nothing is predicted: that is what makes it cheap.
    if plan.strategy == "random":
        candidates = [PlaneScores(plane, 0.0, 0.0) for plane in folder.images(left).planes]
        known = []
    else:
        candidates = looked_at(left)
        known = [item.vector for item in looked_at(chosen) if item.vector is not None]
    order = order_planes(candidates, known, plan.strategy, seed=seed + len(chosen), count=plan.per_round)
    return [(item.plane.image, item.because) for item in order]
