"""The headless face of the package: the command line and the dock widget call these functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.bundle import load_bundle, load_state, save_bundle
from napari_boxprompt.commandline import command_line
from napari_boxprompt.config import TrainConfig, make_config
from napari_boxprompt.devices import make_fabric
from napari_boxprompt.errors import BundleError
from napari_boxprompt.estimates import Timings, estimate_prediction, estimate_seconds, measure_timings
from napari_boxprompt.events import Progress
from napari_boxprompt.formats import align, align_masks
from napari_boxprompt.images import Images, Normalization, open_images
from napari_boxprompt.judging import Judgement, judge
from napari_boxprompt.models import EmbeddingCache, load_frozen
from napari_boxprompt.models.encoding import Encoder, PlanePixels
from napari_boxprompt.prediction import Prediction, Predictor, predict_planes
from napari_boxprompt.previews import (
    BoxMasks,
    boxes_prediction,
    boxes_preview,
    encode_plane,
    is_encoded,
    preview_tile,
)
from napari_boxprompt.training import TrainingRun, check_boxed, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet
    from napari_boxprompt.errors import ImageError
    from napari_boxprompt.events import Event
    from napari_boxprompt.prompting import PromptModel

__all__ = [
    "BoxMasks",
    "Judgement",
    "PlanePixels",
    "Prediction",
    "Timings",
    "TrainedModel",
    "boxes_prediction",
    "boxes_preview",
    "command_line",
    "encode_plane",
    "estimate_prediction",
    "estimate_seconds",
    "is_encoded",
    "judge_model",
    "load_model",
    "make_encoder",
    "measure_timings",
    "predict",
    "preview_tile",
    "start_training",
    "train",
]

ImageSource = Images | str | Path | np.ndarray[Any, Any]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model together with the frozen model it works on.

    Parameters
    ----------
    model : PromptModel
        Weights, classes and settings.
    encoder : Encoder
        The frozen model with its embedding cache.
    """

    model: PromptModel
    encoder: Encoder

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder; see `napari_boxprompt.bundle.save_bundle`."""
        return save_bundle(self.model, folder)


def make_encoder(
    model: str = "litemedsam",
    *,
    device: str = "auto",
    precision: str = "auto",
    cache: EmbeddingCache | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Encoder:
    """Load a frozen model and make it ready to encode.

    Parameters
    ----------
    model : str
        Name from ``boxprompt models list``, or a checkpoint file.
    device, precision : str
        See `napari_boxprompt.devices`.
    cache : EmbeddingCache, optional
        Where embeddings are kept; in memory by default.
    on_event : callable, optional
        Called with the progress of a download, in bytes.

    Raises
    ------
    ModelError
        The model is unknown, or its weights are missing or damaged.
    ConfigError
        The device is not available.
    """
    fabric = make_fabric(device, precision)

    def downloaded(done: int, total: int) -> None:
        if on_event is not None:
            on_event(Progress("download", done, total, model))

    return Encoder(load_frozen(model, device=str(fabric.device), progress=downloaded), fabric, cache)


def start_training(
    images: ImageSource,
    boxes: BoxSet,
    config: TrainConfig | None = None,
    *,
    encoder: Encoder | None = None,
    normalization: Normalization | None = None,
    resume: str | Path | None = None,
    start: PromptModel | None = None,
    masks: Mapping[PlaneId, npt.NDArray[np.integer]] | None = None,
    previous: PromptModel | None = None,
) -> TrainingRun:
    """Prepare a training: iterate over the result for events, close it to stop early.

    Parameters
    ----------
    images : Images, path or numpy.ndarray
        Images; a path may be a file, a folder or a pattern.
    boxes : BoxSet
        Boxes on at least two planes.
    config : TrainConfig, optional
        Settings, `make_config()` by default.
    encoder : Encoder, optional
        Frozen model, loaded from the settings by default.
    normalization : Normalization, optional
        Intensity scale; that of `resume`, or measured on a sample of all planes and in the boxes, by default.
    resume : str or Path, optional
        Folder of a model whose training was stopped. What it held out stays held out.
    start : PromptModel, optional
        Trained model to start from, with the same classes and generator.
    masks : mapping of PlaneId to numpy.ndarray, optional
        Class masks of boxed planes where they are known; see `napari_boxprompt.training.fit`.
    previous : PromptModel, optional
        Model of the round before, `start` by default; see `napari_boxprompt.training.fit`.

    Returns
    -------
    TrainingRun
        Its `model` is the best so far, at any time.

    Raises
    ------
    BoxError
        Boxes or masks that do not fit the images, or boxes on fewer than two planes.
    ConfigError
        `resume` or `start` belongs to other classes or settings.
    """
    config = make_config() if config is None else config
    images = images if isinstance(images, Images) else open_images(images)
    boxes = align(boxes, images)
    check_boxed(boxes)
    masks = None if masks is None else align_masks(masks, boxes, images)
    state, stopped = (None, None) if resume is None else (load_state(resume), load_bundle(resume))
    if normalization is None:
        normalization = stopped.normalization if stopped else Normalization.fit(images).lifted(images, boxes)
    if encoder is None:
        encoder = make_encoder(config.model, device=config.device, precision=config.precision)
    return fit(images, boxes, config, encoder, normalization, state, start, masks, previous, stopped)


def train(
    images: ImageSource,
    boxes: BoxSet,
    preset: str = "balanced",
    *,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> TrainedModel:
    """Train a model from boxes.

    Parameters
    ----------
    images, boxes
        See `start_training`.
    preset : str
        ``"fast"``, ``"balanced"`` or ``"best"``.
    on_event : callable, optional
        Called with every event of the training.
    **settings
        Fields of `napari_boxprompt.config.TrainConfig`.

    Returns
    -------
    TrainedModel
        Ready to predict and to save.
    """
    config = make_config(preset, **settings)
    encoder = make_encoder(config.model, device=config.device, precision=config.precision, on_event=on_event)
    run = start_training(images, boxes, config, encoder=encoder)
    for event in run:
        if on_event is not None:
            on_event(event)
    return TrainedModel(run.model, encoder)


def load_model(
    folder: str | Path,
    *,
    model: str | None = None,
    device: str = "auto",
    cache: EmbeddingCache | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> TrainedModel:
    """Load a trained model and the frozen model it needs.

    Parameters
    ----------
    folder : str or Path
        Where it was saved.
    model : str, optional
        Name or file of the frozen model, where it is not the one named in the model.
    device : str
        See `napari_boxprompt.devices.choose_device`.
    cache : EmbeddingCache, optional
        Where embeddings are kept.
    on_event : callable, optional
        Called with the progress of a download, in bytes.

    Raises
    ------
    BundleError
        Not a model, damaged, from a newer version, or made for another frozen model.
    """
    trained = load_bundle(folder)
    name = trained.config.model if model is None else model
    encoder = make_encoder(
        name, device=device, precision=trained.config.precision, cache=cache, on_event=on_event
    )
    if encoder.frozen.info.sha256 != trained.frozen_sha256:
        raise BundleError(
            f"{folder} was trained on {trained.config.model!r} (weights {trained.frozen_sha256[:12]}), but "
            f"{name!r} has weights {encoder.frozen.info.sha256[:12]}; give the right file with --model."
        )
    return TrainedModel(trained, encoder)


def predict(
    model: TrainedModel,
    images: ImageSource,
    planes: Iterable[PlaneId] | None = None,
    *,
    workers: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
    disagreement: bool = False,
    on_error: Callable[[PlaneId, ImageError], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
    """Segment planes without prompts.

    Parameters
    ----------
    model : TrainedModel
        From `train` or `load_model`.
    images : Images, path or numpy.ndarray
        What to segment.
    planes : iterable of PlaneId, optional
        Some of its planes only.
    workers : int
        Threads that read ahead; the masks do not depend on it.
    on_tile : callable, optional
        Called with tiles done and tiles in all, for each plane.
    disagreement : bool
        Measure how much of each plane changes in a second view of it (`Prediction.disagreement`); it costs
        one more encoding a tile and changes no mask.
    on_error : callable, optional
        Called with each plane that cannot be read or does not fit the model, without an index where that is
        so of a whole image, and the error; the others go on. Without this, the error is raised.
    on_warning : callable, optional
        Called once where the first image is found whose brightness is not like that of the training images;
        by default this goes to the log.

    Yields
    ------
    Prediction
        One for each plane, in order.
    """
    unread = None if on_error is None else (lambda name, error: on_error(PlaneId(name), error))
    opened = images if isinstance(images, Images) else open_images(images, on_error=unread)
    yield from predict_planes(
        Predictor(model.model, model.encoder),
        opened,
        planes,
        workers=workers,
        on_tile=on_tile,
        disagreement=disagreement,
        on_error=on_error,
        on_warning=on_warning,
    )


def judge_model(
    model: TrainedModel,
    images: ImageSource,
    boxes: BoxSet,
    previous: TrainedModel | None = None,
    masks: Mapping[PlaneId, npt.NDArray[np.integer]] | None = None,
) -> Generator[Progress, None, Judgement]:
    """Compare a new model with the one before and with the frozen model, on boxes that none has learnt from.

    Parameters
    ----------
    model, previous : TrainedModel
        The new model and the one of the round before.
    images : Images, path or numpy.ndarray
        The images.
    boxes, masks
        See `napari_boxprompt.judging.judge`.

    Yields
    ------
    Progress

    Returns
    -------
    Judgement
    """
    opened = images if isinstance(images, Images) else open_images(images)
    before = None if previous is None else Predictor(previous.model, previous.encoder)
    return (yield from judge(Predictor(model.model, model.encoder), opened, boxes, before, masks))
