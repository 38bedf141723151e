"""Long work of the viewer, as generators that run in a worker: no Qt and no layers in here.

What they are given is plain domain data; what they yield are events, and their return value is the result.
PyTorch is imported by the first of them, in its worker, so that the viewer opens at once.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_boxprompt.errors import WORK_ERRORS, BoxPromptError
from napari_boxprompt.events import Event, Progress
from napari_boxprompt.gui.backend import load_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.api import Timings, TrainedModel
    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.gui.jobs import Stop
    from napari_boxprompt.images import Images
    from napari_boxprompt.models import EmbeddingCache
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.normalization import Normalization
    from napari_boxprompt.prompting import PromptModel

__all__ = [
    "Encoders",
    "Glimpse",
    "Trained",
    "TrainingTask",
    "model_names",
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
