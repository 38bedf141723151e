"""Train on boxed planes, predict untouched ones, compare with reference masks and two baselines."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.api import start_training
from napari_boxprompt.errors import ConfigError, ImageError
from napari_boxprompt.evaluation import assd, dice, no_prompt_mask, oracle_mask, summary
from napari_boxprompt.events import Event, Finished, Progress
from napari_boxprompt.prediction import Prediction, Predictor, predict_planes
from napari_boxprompt.report import peak_rss_mb, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box, BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.prompting import PromptModel

__all__ = ["Experiment", "Outcome", "run_experiment"]


@dataclass(frozen=True)
class Experiment:
    """What is trained on and what is tested on.

    Parameters
    ----------
    train_images : Images
        Planes that training may read; no test plane is among them.
    boxes : BoxSet
        Boxes on these planes: all that training learns of a mask.
    test_images : callable
        Gives the planes to predict; called after training, so that no test file is opened before.
    reference : callable
        Reference mask of a test plane, bool ``(H, W)``; called after its prediction.
    true_boxes : callable
        Boxes of a test plane, for the oracle; called after its prediction.
    least_coverage : float
        Planes whose reference covers a smaller fraction are predicted but not scored.
    masks : mapping, optional
        Reference masks of training planes, for the line above: what boxes could reach at best.
    """

    train_images: Images
    boxes: BoxSet
    test_images: Callable[[], Images]
    reference: Callable[[PlaneId], npt.NDArray[np.bool_]]
    true_boxes: Callable[[PlaneId], Sequence[Box]]
    least_coverage: float = 0.0
    masks: Mapping[PlaneId, npt.NDArray[np.integer]] | None = None


@dataclass
class Outcome:
    """What an experiment gave.

    Parameters
    ----------
    model : PromptModel
        The trained model.
    report : dict
        Keys as documented in docs/formats.
    predictions : list of Prediction
        In the order of the test planes; kept only when asked for.
    """

    model: PromptModel
    report: dict[str, Any]
    predictions: list[Prediction] = field(default_factory=list)


@dataclass
class _Scores:
    dice: list[float] = field(default_factory=list)
    assd: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)
    no_prompt: list[float] = field(default_factory=list)
    planes: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def run_experiment(
    experiment: Experiment, config: TrainConfig, encoder: Encoder, *, workers: int = 1, keep: bool = False
) -> Generator[Event, None, Outcome]:
    """Train, predict and compare.

    Parameters
    ----------
    experiment : Experiment
        Data.
    config : TrainConfig
        Settings.
    encoder : Encoder
        Frozen model.
    workers : int
        Threads that read ahead.
    keep : bool
        Keep the predictions in the outcome.

    Yields
    ------
    Event

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        No test plane is left to score.
    """
    started = time.perf_counter()
    run = start_training(
        experiment.train_images, experiment.boxes, config, encoder=encoder, masks=experiment.masks
    )
    yield from run
    model = run.model
    scores, kept = _Scores(), list[Prediction]()
    predictor = Predictor(model, encoder)
    images = experiment.test_images()
    predicting = predict_planes(predictor, images, workers=workers)
    clock = time.perf_counter()
    for done, prediction in enumerate(predicting, start=1):
        scores.seconds += time.perf_counter() - clock
        yield Progress("predict", done, len(images.planes), prediction.plane.image)
        _score(scores, experiment, prediction, images, model, encoder)
        if keep:
            kept.append(prediction)
        clock = time.perf_counter()
    yield Finished("predict", scores.seconds)
    if not scores.dice:
        raise ConfigError("No test plane has a reference to compare with; check the masks.")
    seconds = {**run.seconds, "predict": scores.seconds, "total": time.perf_counter() - started}
    return Outcome(model, _report(scores, experiment, config, encoder, model, seconds), kept)


def _score(
    scores: _Scores,
    experiment: Experiment,
    prediction: Prediction,
    images: Images,
    model: PromptModel,
    encoder: Encoder,
) -> None:
    plane = prediction.plane
    reference = experiment.reference(plane)
    if reference.mean() < experiment.least_coverage:
        return
    values, mask = images.read(plane), prediction.mask.astype(bool)
    if reference.shape != mask.shape:
        raise ImageError(
            f"The mask of {plane} has the shape {reference.shape}, but its image {mask.shape}; correct it."
        )
    tile = model.tile_for((values.shape[0], values.shape[1]))
    oracle = oracle_mask(encoder, values, model.normalization, tile, experiment.true_boxes(plane))
    nothing = no_prompt_mask(encoder, values, model.normalization, tile)
    scores.dice.append(dice(mask, reference))
    scores.assd.append(assd(mask, reference))
    scores.oracle.append(dice(oracle, reference))
    scores.no_prompt.append(dice(nothing, reference))
    scores.planes.append(
        {
            "image": plane.image,
            "plane": list(plane.index),
            "dice": scores.dice[-1],
            "assd": scores.assd[-1],
            "oracle": scores.oracle[-1],
            "no_prompt": scores.no_prompt[-1],
        }
    )


def _report(
    scores: _Scores,
    experiment: Experiment,
    config: TrainConfig,
    encoder: Encoder,
    model: PromptModel,
    seconds: dict[str, float],
) -> dict[str, Any]:
    mean, oracle = float(np.mean(scores.dice)), float(np.mean(scores.oracle))
    return {
        "dice": summary(scores.dice),
        "assd": summary(scores.assd),
        "oracle_dice": oracle,
        "no_prompt_dice": float(np.mean(scores.no_prompt)),
        "ratio": mean / oracle if oracle else None,  # JSON has no NaN
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "n_boxes": len(experiment.boxes),
        "n_train": len(experiment.boxes.boxed_planes),
        "n_test": len(scores.dice),
        "model": encoder.frozen.info.name,
        "preset": config.preset,
        "supervision": "boxes" if experiment.masks is None else "masks",
        "generator": config.generator,
        "seed": config.seed,
        "tile": model.tile,
        "device": encoder.device.type,
        "precision": encoder.precision,
        "validation": dict(model.record["validation"]),
        "versions": versions(),
        "planes": scores.planes,
    }
