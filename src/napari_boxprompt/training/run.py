"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.events import Event, Finished, Metrics, Preview, Progress
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.prompting import PromptModel, PromptNet
from napari_boxprompt.supervision import losses
from napari_boxprompt.training.batches import draw, schedule, tensors
from napari_boxprompt.training.dataset import (
    Dataset,
    build_dataset,
    most_objects,
    object_areas,
    working_generator,
    working_tile,
)
from napari_boxprompt.training.holdout import Past, plane_notes
from napari_boxprompt.training.objective import Objective, turn, under_flips
from napari_boxprompt.training.validation import validate
from napari_boxprompt.training.warmstart import check_start, origin

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images, Normalization
    from napari_boxprompt.models.encoding import Encoder

__all__ = ["TrainingRun", "fit"]

REPORT_EVERY = 10
"""Steps between two reports of the loss."""

TIE = 0.05
"""A later checkpoint replaces the best one unless it is worse by more: on two held-out planes the sum of
both figures moves that much from one check to the next."""


class TrainingRun(Iterator[Event]):
    """A training in progress: iterate for events, `close` to stop early, then read `model`.

    Parameters
    ----------
    images, boxes, config, encoder, normalization, resume, start, masks, previous
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
    ) -> None:
        self._tile = working_tile(boxes, images, config)
        config = config.model_copy(update={"generator": working_generator(config, self._tile, start)})
        if start is not None:
            check_start(start, boxes, config, encoder)
        self._start, self._past = start, Past.of(start if previous is None else previous)
        self._origin = {} if start is None else {"started_from": origin(start)}
        self._images, self._boxes, self._config, self._masks = images, boxes, config, masks
        self._encoder, self._normalization = encoder, normalization
        self._loop = _Loop(config, encoder, len(boxes.classes), resume, start)
        self._data = Dataset()
        self._areas: dict[str, list[float]] = {}
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
        return self._loop.step

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, averages and optimiser moments: pass it as `resume` to go on from here."""
        return self._loop.state()

    @property
    def model(self) -> PromptModel:
        """Model with the best weights so far; untrained before the first step."""
        return self._model(self._loop.best, self._loop.validation)

    def snapshot(self) -> PromptModel:
        """Model with the weights as they are now, averaged as those that are checked.

        It is a copy to look at while the training goes on, and may be taken between any two events by
        the thread that iterates. `model` is the best of those that were checked.
        """
        return self._model(self._loop.averaged(), {})

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
            object_area=dict(self._areas),
            most_objects=most_objects(self._boxes),
            record={
                "steps": self.step,
                "boxes": len(self._boxes.boxes),
                "planes": len(self._boxes.boxed_planes),
                "validation": dict(validation),
                "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
                **plane_notes(self._data.held_planes, (p.plane for p in self._data.planes), self._start),
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
            self._areas = object_areas(self._data, self._boxes.classes)
            self.seconds[phase] = time.perf_counter() - started
            yield Finished("encode", self.seconds[phase])
            started, phase = time.perf_counter(), "train"
            yield from self._loop.run(self._data)
            stopped = False
        finally:
            self.seconds[phase] = time.perf_counter() - started
            if stopped:
                self._loop.finish()
        yield Finished("train", self.seconds["train"])


class _Loop:
    """Networks, optimiser and the best weights: what a training step changes."""

    def __init__(
        self,
        config: TrainConfig,
        encoder: Encoder,
        classes: int,
        resume: Mapping[str, torch.Tensor] | None = None,
        start: PromptModel | None = None,
    ) -> None:
        self.config, self.encoder, self.fabric = config, encoder, encoder.fabric
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = PromptNet(encoder.frozen, config.generator, classes)
            if config.generator_weights:
                net.load_pretrained(Path(config.generator_weights))
            if start is not None:
                net = start.network(encoder.frozen)
        self.average = PromptNet(encoder.frozen, config.generator, classes).to(encoder.device).eval()
        self.average.load_state_dict(net.state_dict())
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.net, self.optimizer = self.fabric.setup(net, optimizer)
        self.step, self.score = 0, -math.inf
        self.best = self.averaged()
        self.validation: Mapping[str, float] = {}
        if resume is not None:
            self._restore(resume)

    def run(self, data: Dataset) -> Generator[Event, None, None]:
        objective = Objective(self.config.loss, data)
        recent: list[dict[str, float]] = []
        while self.step < self.config.steps:
            recent.append(self._train_step(data, objective))
            self.step += 1
            checked = self.step % self.config.validate_every == 0 or self.step == self.config.steps
            if checked:
                self._check(data)
            # Only after the check, because whoever is told of a step may close the training.
            yield Progress("train", self.step, self.config.steps)
            if checked or self.step % REPORT_EVERY == 0:
                means = {name: sum(terms[name] for terms in recent) / len(recent) for name in recent[0]}
                means["total"] = sum(means.values())
                yield Metrics(self.step, self.config.steps, means, self.validation if checked else {})
                recent = []
            if checked:
                yield Preview(self.step)

    def _train_step(self, data: Dataset, objective: Objective) -> dict[str, float]:
        config = self.config
        fraction = self.step / config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(fraction, config.schedule)
        # Everything random in a step follows from the seed, the step and the process: a resumed
        # training takes the same steps as one that was never stopped.
        rng = np.random.default_rng([config.seed, self.step, self.fabric.global_rank])
        paired = config.loss.consistency > 0 and any(len(group) > 1 for group in data.groups)
        batch = draw(data, config.batch, rng, paired=paired and config.loss.consistency_of == "views")
        epoch = self.step * config.batch / max(len(data.groups), 1)
        cuda = [self.encoder.device] if self.encoder.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(int(rng.integers(2**31)))
            self.net.train()
            embedding, image = tensors(batch, self.encoder.device)
            flips = config.loss.consistency > 0 and config.loss.consistency_of == "embedding"
            # What flips of the embedding are compared by has no lattice.
            lattice = WHOLE if flips else Lattice.drawn(config.token_step, rng)
            logits = self.net(embedding, image, lattice)
            terms = objective(logits, batch, objective.hardness(fraction, epoch), fraction, lattice)
            if flips:
                terms["consistency"] = self._flip_term(logits, embedding, image, rng)
            loss = torch.stack(list(terms.values())).sum()
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            self.fabric.clip_gradients(self.net, self.optimizer, max_norm=config.clip)
            self.optimizer.step()
        with torch.no_grad():
            weights = self.net.state_dict()
            for name, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(weights[name].to(value), 1.0 - config.ema)
                else:
                    value.copy_(weights[name])
        return {name: float(value.detach()) for name, value in terms.items()}

    def _flip_term(
        self, logits: torch.Tensor, embedding: torch.Tensor, image: torch.Tensor, rng: np.random.Generator
    ) -> torch.Tensor:
        kind = int(rng.integers(1, 8))  # of the eight, the first leaves everything as it is
        turns, mirrored = kind % 4, kind >= 4
        again = self.net(turn(embedding, turns, mirrored), turn(image, turns, mirrored))
        activation = self.config.loss.activation
        first = losses.probabilities(logits.float(), activation)
        second = losses.probabilities(again.float(), activation)
        return self.config.loss.consistency * under_flips(first, second, turns, mirrored)

    def _check(self, data: Dataset) -> None:
        """Validate the averaged weights and keep them if they are the best so far."""
        probabilities = []
        for sample in data.held:
            embedding, image = tensors([sample], self.encoder.device)
            with torch.no_grad(), self.fabric.autocast():
                logits = self.average(embedding, image)
            probabilities.append(logits[0].float().sigmoid().cpu())
        found = validate(probabilities, data.held)
        score = sum(found.values()) if found else -math.inf
        if score >= self.score - TIE:
            self.score = max(score, self.score)
            self.best, self.validation = self.averaged(), found

    def finish(self) -> None:
        """Keep the last weights where nothing has been checked to choose by."""
        if self.score == -math.inf:
            self.best = self.averaged()

    def averaged(self) -> dict[str, torch.Tensor]:
        """A copy of the averaged weights, float32 on the CPU."""
        return {
            name: (value.float() if value.is_floating_point() else value).detach().cpu().clone()
            for name, value in self.average.state_dict().items()
        }

    def state(self) -> dict[str, torch.Tensor]:
        """Everything a later run needs, as flat tensors."""
        net = self.net.module.state_dict()
        state = {f"net.{name}": value.detach().cpu() for name, value in net.items()}
        state |= {f"average.{name}": value for name, value in self.averaged().items()}
        state |= {f"best.{name}": value for name, value in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": value.detach().cpu().clone() for name, value in moments.items()}
        for name, figure in self.validation.items():
            state[f"validation.{name}"] = torch.tensor(figure, dtype=torch.float64)
        state["progress"] = torch.tensor([self.step, self.score], dtype=torch.float64)
        return state

    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        try:
            parts = {p: _part(state, p) for p in ("net", "average", "best", "adam")}
            self.net.module.load_state_dict(parts["net"])
            self.average.load_state_dict(parts["average"])
            self.step, self.score = int(state["progress"][0]), float(state["progress"][1])
        except (KeyError, RuntimeError) as error:
            raise ConfigError(
                "The saved training state belongs to other settings or classes; train without --resume."
            ) from error
        self.best = parts["best"]
        self.validation = {name: float(value) for name, value in _part(state, "validation").items()}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in parts["adam"].items():
            index, moment = name.split(".", 1)
            moments.setdefault(int(index), {})[moment] = value
        full = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": full["param_groups"]})


def _part(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(f"{prefix}.")}


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

    Returns
    -------
    TrainingRun
        An iterator of events; closing it stops the training and keeps the best weights.

    Raises
    ------
    BoxError
        Fewer than two planes with boxes (when iteration starts).
    ConfigError
        `resume` or `start` does not fit the settings.
    BundleError
        The weights of `start` do not fit what it says of itself.
    """
    return TrainingRun(images, boxes, config, encoder, normalization, resume, start, masks, previous)
