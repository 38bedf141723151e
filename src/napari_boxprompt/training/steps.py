"""Training steps: networks, optimiser and the best weights so far."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.events import Event, Metrics, Preview, Progress
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.prompting import PromptModel, PromptNet
from napari_boxprompt.supervision import losses
from napari_boxprompt.training.batches import draw, schedule, tensors
from napari_boxprompt.training.objective import Objective, turn, under_flips
from napari_boxprompt.training.renewal import renew_masks
from napari_boxprompt.training.validation import validate

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.training.dataset import Dataset, Sample

__all__ = ["Steps"]

REPORT_EVERY = 10
"""Steps between two reports of the loss."""

TIE = 0.05
"""A later checkpoint replaces the best one unless it is worse by more: on two held-out planes the sum of
both figures moves that much from one check to the next."""


class Steps:
    """Networks, optimiser and the best weights: what a training step changes.

    Parameters
    ----------
    config, encoder, resume, start
        See `fit`.
    classes : int
        How many prompt generators there are, one for each class.

    Attributes
    ----------
    step : int
        Steps done.
    best : dict
        Averaged weights of the best check so far.
    validation : mapping of str to float
        What that check has found.
    teacher : dict
        Averaged weights that have renewed the masks; empty before.
    """

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
        self.teacher: Mapping[str, torch.Tensor] = {}
        if resume is not None:
            self._restore(resume)

    def run(self, data: Dataset) -> Generator[Event, None, None]:
        """Take all steps that are left, from `step` on."""
        objective, renewed = Objective(self.config.loss, data), not self.config.renew
        recent: list[dict[str, float]] = []
        while self.step < self.config.steps:
            if not renewed and self.step >= self.config.renew * self.config.steps:
                yield from self._renew(data)
                objective, renewed = Objective(self.config.loss, data), True
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
        paired = paired and config.loss.consistency_of == "views"
        batch = draw(data, config.batch, rng, paired=paired, emptied=config.augment.emptied)
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
            # In float16 gradients overflow at first; the scaler passes over such a step and scales less.
            scaled = self.encoder.precision == "16-mixed"
            self.fabric.clip_gradients(
                self.net, self.optimizer, max_norm=config.clip, error_if_nonfinite=not scaled
            )
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

    def _renew(self, data: Dataset) -> Generator[Progress, None, None]:
        """Learn from now on from the masks of the averaged weights, as they are at this step."""
        if not self.teacher:
            self.teacher = self.averaged()
            self.score = -math.inf  # what was best before has not learnt from these masks
        net = copy.deepcopy(self.average)
        net.load_state_dict(self.teacher)
        for _ in renew_masks(data, lambda sample: self._logits(net, sample)):
            yield Progress("train", self.step, self.config.steps, "renewing masks")

    def _logits(self, net: PromptNet, sample: Sample) -> torch.Tensor:
        """Logits ``(K, G, G)`` of one sample, float32 on the CPU."""
        embedding, image = tensors([sample], self.encoder.device)
        with torch.no_grad(), self.fabric.autocast():
            found: torch.Tensor = net(embedding, image)
        return losses.cut_at_zero(found[0].float().cpu(), self.config.loss.activation)

    def _check(self, data: Dataset) -> None:
        """Validate the averaged weights and keep them if they are the best so far."""
        probabilities = [self._logits(self.average, sample).sigmoid() for sample in data.held]
        found = validate(probabilities, data.held)
        score = sum(found.values()) if found else -math.inf
        if score >= self.score - TIE:
            self.score = max(score, self.score)
            self.best, self.validation = self.averaged(), found

    def finish(self) -> None:
        """Keep the last weights where nothing has been checked to choose by."""
        if not self.validation:
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
        state |= {f"teacher.{name}": value for name, value in self.teacher.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": value.detach().cpu().clone() for name, value in moments.items()}
        for name, figure in self.validation.items():
            state[f"validation.{name}"] = torch.tensor(figure, dtype=torch.float64)
        state["progress"] = torch.tensor([self.step, self.score], dtype=torch.float64)
        return state

    def _restore(self, state: Mapping[str, torch.Tensor]) -> None:
        try:
            parts = {p: _part(state, p) for p in ("net", "average", "best", "adam", "teacher")}
            self.net.module.load_state_dict(parts["net"])
            self.average.load_state_dict(parts["average"])
            self.step, self.score = int(state["progress"][0]), float(state["progress"][1])
        except (KeyError, RuntimeError) as error:
            raise ConfigError(
                "The saved training state belongs to other settings or classes; train without --resume."
            ) from error
        self.best, self.teacher = parts["best"], parts["teacher"]
        self.validation = {name: float(value) for name, value in _part(state, "validation").items()}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in parts["adam"].items():
            index, moment = name.split(".", 1)
            moments.setdefault(int(index), {})[moment] = value
        full = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": full["param_groups"]})


def _part(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(f"{prefix}.")}
