"""Long work of the viewer, as generators that run in a worker: no Qt and no layers in here.

What they are given is plain domain data; what they yield are events, and their return value is the result.
PyTorch is imported by the first of them, in its worker, so that the viewer opens at once.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from napari_boxprompt.errors import WORK_ERRORS, BoxPromptError
from napari_boxprompt.events import Caution, Event, Finished, Progress
from napari_boxprompt.gui.backend import load_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.api import Timings, TrainedModel
    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.errors import ImageError
    from napari_boxprompt.gui.jobs import Stop
    from napari_boxprompt.images import Images
    from napari_boxprompt.models import EmbeddingCache
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.normalization import Normalization
    from napari_boxprompt.outputs import ResultWriter
    from napari_boxprompt.prediction import Prediction
    from napari_boxprompt.prompting import PromptModel
    from napari_boxprompt.ranking import PlaneScores

__all__ = [
    "Encoders",
    "Found",
    "Glimpse",
    "Trained",
    "TrainingTask",
    "model_names",
    "predict",
    "predict_files",
    "time_machine",
    "train",
]

logger = logging.getLogger(__name__)

GLIMPSE_SECONDS = 5.0
"""Least time between two looks at the plane on screen while training."""


class Encoders:
    """Frozen models that are loaded, each once, whichever worker asks first.

    Parameters
    ----------
    make_cache : callable
        Gives the cache that all of them share.
    """

    def __init__(self, make_cache: Callable[[], EmbeddingCache]) -> None:
        self._make_cache = make_cache
        self._cache: EmbeddingCache | None = None
        self._outdated = False
        self._loaded: dict[tuple[str, str, str], Encoder] = {}
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Have the next job make another cache; what runs goes on with the one it has."""
        # A flag: the lock may be held for as long as a download takes, and this is called by the viewer.
        self._outdated = True

    def get(
        self,
        model: str = "litemedsam",
        device: str = "auto",
        precision: str = "auto",
        on_event: Callable[[Event], None] | None = None,
    ) -> Encoder:
        """Load a frozen model, or return it if it is loaded; see `napari_boxprompt.api.make_encoder`."""
        load_backend()
        from napari_boxprompt.api import make_encoder

        with self._lock:
            if self._outdated:
                self._outdated, self._cache = False, None
                self._loaded.clear()
            if self._cache is None:
                self._cache = self._make_cache()
            key = (model, device, precision)
            if key not in self._loaded:
                self._loaded[key] = make_encoder(
                    model, device=device, precision=precision, cache=self._cache, on_event=on_event
                )
            return self._loaded[key]


@dataclass(frozen=True)
class Glimpse:
    """What the model in training makes of the plane on screen.

    Parameters
    ----------
    plane : PlaneId
        The plane.
    mask : numpy.ndarray
        uint8 ``(H, W)``, class k is k + 1.
    """

    plane: PlaneId
    mask: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Found:
    """What a trained model found on a plane.

    Parameters
    ----------
    prediction : Prediction
        Masks and objects.
    scores : PlaneScores
        How much a look at the plane, and boxes on it, are worth.
    """

    prediction: Prediction
    scores: PlaneScores

    @property
    def doubt(self) -> float:
        """How unsure the model is of the plane, see `napari_boxprompt.ranking.doubt`."""
        return self.scores.doubt


@dataclass(frozen=True)
class TrainingTask:
    """All that a training needs.

    Parameters
    ----------
    images, boxes, config
        See `napari_boxprompt.start_training`.
    normalization : Normalization
        The contrast that the user was shown.
    start : PromptModel, optional
        Weights to start from.
    masks : mapping of PlaneId to numpy.ndarray
        Class masks of the planes that the user has accepted.
    previous : PromptModel, optional
        Model of the session until now: what it held out stays held out.
    """

    images: Images
    boxes: BoxSet
    config: TrainConfig
    normalization: Normalization | None = None
    start: PromptModel | None = None
    masks: Mapping[PlaneId, npt.NDArray[np.uint8]] = field(default_factory=dict)
    previous: PromptModel | None = None


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Parameters
    ----------
    model : TrainedModel
        The best one it found.
    stopped : bool
        Ended early, by the user or an error.
    steps : int
        Steps done.
    seconds : mapping
        Wall time of each phase.
    """

    model: TrainedModel
    stopped: bool
    steps: int
    seconds: dict[str, float] = field(default_factory=dict)


def model_names(stop: Stop) -> Generator[Event, None, list[str]]:
    """Names of the frozen models there are."""
    load_backend()
    from napari_boxprompt.models import list_models

    yield from ()
    return [info.name for info in list_models()]


def time_machine(
    stop: Stop, encoders: Encoders, config: TrainConfig
) -> Generator[Progress, None, Timings | None]:
    """How long an encoding and a training step take here; None where the model cannot be loaded."""
    load_backend()
    from napari_boxprompt.api import measure_timings

    try:
        encoder = encoders.get(config.model, config.device, config.precision)
    except BoxPromptError:
        return None  # whoever needs it says why
    yield Progress("prepare", 0, 1, "timing this machine")
    return measure_timings(encoder, config)


def train(
    stop: Stop,
    task: TrainingTask,
    encoders: Encoders,
    shown: Callable[[], PlaneId | None],
) -> Generator[Event | Glimpse | Trained, None, Trained | None]:
    """Train; every few seconds look at the plane that `shown` names.

    Yields
    ------
    Event, Glimpse or Trained
        The best model so far comes before an error that ends the training.

    Returns
    -------
    Trained or None
        None when it was stopped before its first step.
    """
    load_backend()
    from napari_boxprompt.api import TrainedModel, start_training

    config, last = task.config, 0.0
    yield Progress("prepare", 0, 1, "loading the model")
    encoder = encoders.get(config.model, config.device, config.precision)
    yield Progress("prepare", 1, 1, encoder.device.type)
    run = start_training(
        task.images,
        task.boxes,
        config,
        encoder=encoder,
        normalization=task.normalization,
        start=task.start,
        masks=task.masks,
        previous=task.previous,
    )

    def reached(stopped: bool) -> Trained:
        return Trained(TrainedModel(run.model, encoder), stopped, run.step, dict(run.seconds))

    try:
        for event in run:
            yield event
            if stop.is_set():
                run.close()
                break
            plane = shown()
            started = time.perf_counter()
            due = isinstance(event, Progress) and event.phase == "train" and started - last > GLIMPSE_SECONDS
            if due and plane is not None and plane in task.images:
                yield from _glimpse(TrainedModel(run.snapshot(), encoder), task.images, plane)
                # A look that takes long must not become most of the work.
                last = time.perf_counter() + 4 * (time.perf_counter() - started)
    except WORK_ERRORS:
        if run.step:
            yield reached(stopped=True)
        raise
    return reached(stop.is_set()) if run.step else None


def _glimpse(model: TrainedModel, images: Images, plane: PlaneId) -> Generator[Glimpse, None, None]:
    """Look at a plane; where that fails the training goes on without."""
    try:
        mask = _mask(model, images, plane)
    except WORK_ERRORS:
        logger.warning("No look at %s while training.", plane, exc_info=True)
        return
    yield Glimpse(plane, mask)


def _mask(model: TrainedModel, images: Images, plane: PlaneId) -> npt.NDArray[np.uint8]:
    from napari_boxprompt.api import predict as predict_images

    found = next(iter(predict_images(model, images, [plane]))).mask
    return found if model.model.exclusive else _flat(found)


def _flat(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One number for each pixel where classes overlap: the last class that is there."""
    flat: npt.NDArray[np.uint8] = mask[0].copy()
    for k in range(1, len(mask)):
        flat[mask[k] > 0] = k + 1
    return flat


class _StoppedError(Exception):
    """A prediction was stopped between two tiles."""


def predict(
    stop: Stop,
    model: TrainedModel,
    images: Images,
    planes: Sequence[PlaneId],
    on_tile: Callable[[int, int], None] | None = None,
    disagreement: bool = False,
    on_error: Callable[[str, ImageError], None] | None = None,
) -> Generator[Found | Event, None, int]:
    """Segment planes; what is finished when it is stopped has been yielded.

    Parameters
    ----------
    on_tile : callable, optional
        Called in the worker with tiles done and in all of the plane at work.
    disagreement : bool
        Compare two views of each plane.
    on_error : callable, optional
        See `napari_boxprompt.predict`.

    Returns
    -------
    int
        Planes done.
    """
    load_backend()
    from napari_boxprompt.api import predict as predict_images
    from napari_boxprompt.ranking import plane_scores

    started, done, warned = time.perf_counter(), 0, list[str]()

    def tile(finished: int, total: int) -> None:
        if stop.is_set():
            raise _StoppedError
        if on_tile is not None:
            on_tile(finished, total)

    yield Progress("predict", 0, len(planes))
    try:
        for prediction in predict_images(
            model,
            images,
            planes,
            on_tile=tile,
            disagreement=disagreement,
            on_error=on_error,
            on_warning=warned.append,
        ):
            while warned:
                yield Caution(warned.pop())
            done += 1
            yield Found(prediction, plane_scores(prediction, model.model.object_area))
            yield Progress("predict", done, len(planes), str(prediction.plane))
            if stop.is_set():
                break
    except _StoppedError:
        pass
    yield Finished("predict", time.perf_counter() - started, stopped=stop.is_set() and done < len(planes))
    return done


def predict_files(
    stop: Stop, model: TrainedModel, source: str | Path, out: str | Path
) -> Generator[Event, None, ResultWriter]:
    """Segment image files and write masks, objects and a table beside each other.

    Returns
    -------
    ResultWriter
        It knows what was written, also of the image that was at work when this was stopped, and what was
        left out.
    """
    from napari_boxprompt.outputs import ResultWriter, prepare_results

    images, folder, left_out = prepare_results(source, out)
    classes, overlap = model.model.classes, not model.model.exclusive
    with ResultWriter(folder, images, classes, overlap=overlap, left_out=left_out) as writer:
        for event in predict(stop, model, images, images.planes, on_error=writer.leave_out):
            if isinstance(event, Found):
                writer.add(event.prediction)
            else:
                yield replace(event, total=writer.planes) if isinstance(event, Progress) else event
    return writer
