"""Train on boxed planes, predict untouched ones, compare with reference masks and two baselines."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.api import start_training
from napari_boxprompt.calibration import Reliability, held_reliability
from napari_boxprompt.errors import ConfigError, ImageError
from napari_boxprompt.evaluation import assd, dice, no_prompt_mask, oracle_mask, summary
from napari_boxprompt.events import Event, Finished, Progress
from napari_boxprompt.prediction import Prediction, Predictor, predict_planes
from napari_boxprompt.report import interval, peak_rss_mb, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box, BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.prompting import PromptModel
    from napari_boxprompt.training import TrainingRun

__all__ = ["Experiment", "Outcome", "Scored", "run_experiment"]


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
    subject : callable, optional
        Whom a test plane shows: planes of one subject are alike. The name of its image by default.
    unlabelled : Images, optional
        Planes without boxes that training may look at. If a test plane is among them, the figures are
        transductive, and say so.
    """

    train_images: Images
    boxes: BoxSet
    test_images: Callable[[], Images]
    reference: Callable[[PlaneId], npt.NDArray[np.bool_]]
    true_boxes: Callable[[PlaneId], Sequence[Box]]
    least_coverage: float = 0.0
    masks: Mapping[PlaneId, npt.NDArray[np.integer]] | None = None
    subject: Callable[[PlaneId], str] | None = None
    unlabelled: Images | None = None

    def transductive(self, tested: Images) -> bool:
        """Whether training may have looked at planes that it is tested on."""
        return self.unlabelled is not None and not set(self.unlabelled.planes).isdisjoint(tested.planes)


@dataclass(frozen=True)
class Scored:
    """A test plane with all that its figures come from.

    Parameters
    ----------
    plane : PlaneId
        Which plane.
    values : numpy.ndarray
        Its pixels ``(H, W, C)``.
    mask, oracle, reference : numpy.ndarray
        bool ``(H, W)``: without prompt, of the frozen model with true boxes, and as it should be.
    figures : mapping of str to float
        ``dice``, ``assd``, ``oracle`` and ``no_prompt``.
    """

    plane: PlaneId
    values: npt.NDArray[np.generic]
    mask: npt.NDArray[np.bool_]
    oracle: npt.NDArray[np.bool_]
    reference: npt.NDArray[np.bool_]
    figures: Mapping[str, float]


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
    worst : list of Scored
        Planes of lowest Dice, the lowest first; as many as asked for.
    """

    model: PromptModel
    report: dict[str, Any]
    predictions: list[Prediction] = field(default_factory=list)
    worst: list[Scored] = field(default_factory=list)


class _Scores:
    """Figures of the test planes, and the pictures of the worst, as they come."""

    def __init__(self, worst: int) -> None:
        self._most = worst
        self.planes: list[dict[str, Any]] = []
        self.worst: list[Scored] = []
        self.reliability = Reliability()
        self.seconds = 0.0

    def add(self, scored: Scored, subject: str) -> None:
        plane = scored.plane
        place = {"image": plane.image, "plane": list(plane.index), "subject": subject}
        self.planes.append({**place, **scored.figures})
        # No more pictures are held than were asked for: a series of large planes would not fit.
        self.worst = sorted([*self.worst, scored], key=lambda item: item.figures["dice"])[: self._most]

    def values(self, name: str) -> list[float]:
        return [plane[name] for plane in self.planes]


def run_experiment(
    experiment: Experiment,
    config: TrainConfig,
    encoder: Encoder,
    *,
    workers: int = 1,
    keep: bool = False,
    worst: int = 0,
) -> Generator[Event, None, Outcome]:
    """Train, predict and compare.

    Parameters
    ----------
    experiment, config, encoder
        Data, settings and frozen model.
    workers : int
        Threads that read ahead.
    keep, worst
        Whether to keep the predictions in the outcome, and how many of the worst planes.

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
    held = yield from _train(run, experiment, encoder)
    predictor = Predictor(run.model, encoder)
    scores, kept = _Scores(worst), list[Prediction]()
    images = experiment.test_images()
    for done, prediction in enumerate(_timed(predictor, images, workers, scores), start=1):
        yield Progress("predict", done, len(images.planes), prediction.plane.image)
        _score(scores, experiment, prediction, images, predictor)
        if keep:
            kept.append(prediction)
    yield Finished("predict", scores.seconds)
    if not scores.planes:
        raise ConfigError("No test plane has a reference to compare with; check the masks.")
    seconds = {**run.seconds, "predict": scores.seconds, "total": time.perf_counter() - started}
    report = {
        **_figures(scores, held),
        "transductive": experiment.transductive(images),
        **_circumstances(experiment, config, predictor, seconds),
        "planes": scores.planes,
    }
    return Outcome(run.model, report, kept, scores.worst)


def _train(
    run: TrainingRun, experiment: Experiment, encoder: Encoder
) -> Generator[Event, None, dict[str, Any] | None]:
    """Train; return the reliability on held-out planes.

    It is measured before the end of the training is told: after that, no file of the training is opened.
    """
    held = None
    try:
        for event in run:
            if isinstance(event, Finished) and event.phase == "train":
                predictor = Predictor(run.model, encoder)
                held = held_reliability(predictor, experiment.train_images, experiment.boxes)
            yield event
    finally:
        run.close()
    return held


def _timed(predictor: Predictor, images: Images, workers: int, scores: _Scores) -> Iterator[Prediction]:
    """Predictions; the time they take, without that of judging them, is added up."""
    predicting = predict_planes(predictor, images, workers=workers)
    clock = time.perf_counter()
    for prediction in predicting:
        scores.seconds += time.perf_counter() - clock
        yield prediction
        clock = time.perf_counter()


def _score(
    scores: _Scores, experiment: Experiment, prediction: Prediction, images: Images, predictor: Predictor
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
    scores.reliability.add(prediction.probability, reference)
    model, encoder = predictor.model, predictor.encoder
    tile = model.tile_for((values.shape[0], values.shape[1]))
    oracle = oracle_mask(encoder, values, model.normalization, tile, experiment.true_boxes(plane))
    nothing = no_prompt_mask(encoder, values, model.normalization, tile)
    figures = {
        "dice": dice(mask, reference),
        "assd": assd(mask, reference),
        "oracle": dice(oracle, reference),
        "no_prompt": dice(nothing, reference),
    }
    subject = plane.image if experiment.subject is None else experiment.subject(plane)
    scores.add(Scored(plane, values, mask, oracle, reference, figures), subject)


def _figures(scores: _Scores, held: dict[str, Any] | None) -> dict[str, Any]:
    mean, oracle = float(np.mean(scores.values("dice"))), float(np.mean(scores.values("oracle")))
    return {
        "dice": summary(scores.values("dice")),
        "dice_interval": interval([scores.planes])["dice"],
        "assd": summary(scores.values("assd")),
        "oracle_dice": oracle,
        "no_prompt_dice": float(np.mean(scores.values("no_prompt"))),
        "ratio": mean / oracle if oracle else None,  # JSON has no NaN
        "reliability": {"test": scores.reliability.report(), "held": held},
        "n_test": len(scores.planes),
    }


def _circumstances(
    experiment: Experiment, config: TrainConfig, predictor: Predictor, seconds: Mapping[str, float]
) -> dict[str, Any]:
    model, encoder = predictor.model, predictor.encoder
    return {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "n_boxes": len(experiment.boxes),
        "n_train": len(experiment.boxes.boxed_planes),
        "model": encoder.frozen.info.name,
        "preset": config.preset,
        "supervision": "boxes" if experiment.masks is None else "masks",
        "generator": model.config.generator,
        "seed": config.seed,
        "tile": model.tile,
        "device": encoder.device.type,
        "precision": encoder.precision,
        "validation": dict(model.record["validation"]),
        "versions": versions(),
    }
