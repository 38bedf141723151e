"""A training from boxes to a model, as an iterator of events."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.events import Event, Finished
from napari_boxprompt.prompting import PromptModel
from napari_boxprompt.training.dataset import Dataset, build_dataset, object_areas
from napari_boxprompt.training.holdout import Past, plane_notes
from napari_boxprompt.training.plan import most_objects, working_generator, working_tile
from napari_boxprompt.training.steps import Steps
from napari_boxprompt.training.warmstart import check_start, check_stopped, origin

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images, Normalization
    from napari_boxprompt.models.encoding import Encoder

__all__ = ["TrainingRun", "fit"]


class TrainingRun(Iterator[Event]):
    """A training in progress: iterate for events, `close` to stop early, then read `model`.

    Parameters
    ----------
    images, boxes, config, encoder, normalization, resume, start, masks, previous, stopped
        See `fit`.

    Attributes
    ----------
    seconds : dict
        Wall time of the phases, ``"encode"`` and ``"train"``.
    """

    def __init__(
        self,
        images: Images,
        boxes: BoxSet,
        config: TrainConfig,
        encoder: Encoder,
        normalization: Normalization,
        resume: Mapping[str, torch.Tensor] | None = None,
        start: PromptModel | None = None,
        masks: Mapping[PlaneId, npt.NDArray[np.integer]] | None = None,
        previous: PromptModel | None = None,
        stopped: PromptModel | None = None,
    ) -> None:
        self._tile, self._before = working_tile(boxes, images, config), stopped or start
        generator = working_generator(config, self._tile, self._before)
        config = config.model_copy(update={"generator": generator})
        if start is not None:
            check_start(start, boxes, config, encoder)
        if stopped is not None:
            check_stopped(stopped, boxes, config, encoder, normalization, self._tile)
        self._past = Past.of(stopped or previous or start)
        self._origin = {} if start is None else {"started_from": origin(start)}
        self._images, self._boxes, self._config, self._masks = images, boxes, config, masks
        self._encoder, self._normalization = encoder, normalization
        self._steps = Steps(config, encoder, len(boxes.classes), resume, start)
        self._data = Dataset()
        self.seconds: dict[str, float] = {}
        self._events = self._run()

    def __iter__(self) -> TrainingRun:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Stop now; `model` keeps the best weights so far and `state` what is needed to go on."""
        self._events.close()

    @property
    def step(self) -> int:
        """Training steps done."""
        return self._steps.step

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, averages and optimiser moments: pass it as `resume` to go on from here."""
        return self._steps.state()

    @property
    def model(self) -> PromptModel:
        """Model with the best weights so far; untrained before the first step."""
        return self._model(self._steps.best, self._steps.validation)

    def snapshot(self) -> PromptModel:
        """Model with the weights as they are now, averaged as those that are checked.

        It is a copy to look at while the training goes on, and may be taken between any two events by
        the thread that iterates. `model` is the best of those that were checked.
        """
        return self._model(self._steps.averaged(), {})

    def _model(self, weights: Mapping[str, torch.Tensor], validation: Mapping[str, float]) -> PromptModel:
        return PromptModel(
            weights=weights,
            classes=self._boxes.classes,
            exclusive=self._boxes.exclusive,
            config=self._config,
            normalization=self._normalization,
            tile=self._tile,
            side=float(np.median([max(self._images.shape(p)) for p in self._boxes.boxed_planes])),
            frozen_sha256=self._encoder.frozen.info.sha256,
            object_area=object_areas(self._data, self._boxes.classes),
            most_objects=most_objects(self._boxes),
            record={
                "steps": self.step,
                "boxes": len(self._boxes.boxes),
                "planes": len(self._boxes.boxed_planes) - self._data.left_out,
                "left_out": self._data.left_out,
                "pixel_types": sorted(self._data.pixel_types),
                "validation": dict(validation),
                "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
                **plane_notes(self._data.held_planes, (p.plane for p in self._data.planes), self._before),
                **self._origin,
            },
        )

    def _run(self) -> Generator[Event, None, None]:
        started = time.perf_counter()
        phase, stopped = "encode", True
        try:
            self._data = yield from build_dataset(
                self._images,
                self._boxes,
                self._config,
                self._encoder,
                self._normalization,
                self._tile,
                self._masks,
                self._past,
            )
            self.seconds[phase] = time.perf_counter() - started
            yield Finished("encode", self.seconds[phase])
            started, phase = time.perf_counter(), "train"
            yield from self._steps.run(self._data)
            stopped = False
        finally:
            self.seconds[phase] = time.perf_counter() - started
            if stopped:
                self._steps.finish()
        yield Finished("train", self.seconds["train"])


def fit(
    images: Images,
    boxes: BoxSet,
    config: TrainConfig,
    encoder: Encoder,
    normalization: Normalization,
    resume: Mapping[str, torch.Tensor] | None = None,
    start: PromptModel | None = None,
    masks: Mapping[PlaneId, npt.NDArray[np.integer]] | None = None,
    previous: PromptModel | None = None,
    stopped: PromptModel | None = None,
) -> TrainingRun:
    """Train prompt generators from boxes.

    Parameters
    ----------
    images : Images
        Only planes with boxes, or marked complete, are read.
    boxes : BoxSet
        Drawn boxes on at least two planes, aligned with `images`.
    config : TrainConfig
        Settings.
    encoder : Encoder
        Frozen model with its cache.
    normalization : Normalization
        Intensity range of the dataset.
    resume : mapping of str to torch.Tensor, optional
        `TrainingRun.state` of a training that was stopped.
    start : PromptModel, optional
        A trained model whose weights are the first ones; everything else begins anew. With `resume`,
        the weights that were saved are taken instead.
    masks : mapping of PlaneId to numpy.ndarray, optional
        Class masks ``(H, W)`` of boxed planes on which they are known, 0 for background and k + 1 for class
        k, or ``(K, H, W)`` of 0 and 1 where classes may overlap: there they take the place of what the frozen
        model makes of the boxes.
    previous : PromptModel, optional
        Model of the round before, `start` by default: what it held out stays held out, so that the two can be
        compared.
    stopped : PromptModel, optional
        Model that was saved with `resume`: its training goes on, so what it held out stays held out.

    Returns
    -------
    TrainingRun
        An iterator of events; closing it stops the training and keeps the best weights.

    Raises
    ------
    BoxError
        Fewer than two planes with boxes (when iteration starts).
    ConfigError
        `resume`, `stopped` or `start` does not fit the boxes or settings.
    BundleError
        The weights of `start` do not fit what it says of itself.
    """
    return TrainingRun(images, boxes, config, encoder, normalization, resume, start, masks, previous, stopped)
