"""Trainings that begin with the weights of a trained model instead of fresh ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from napari_boxprompt.errors import ConfigError

if TYPE_CHECKING:
    from napari_boxprompt.boxes import BoxSet
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Normalization
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.prompting import PromptModel

__all__ = ["check_start", "check_stopped", "origin"]


def check_start(
    start: PromptModel,
    boxes: BoxSet,
    config: TrainConfig,
    encoder: Encoder,
    name: str = "The model to start from",
    otherwise: str = "start from scratch",
) -> None:
    """Refuse a model whose weights mean something else in the new training.

    `name` and `otherwise` are what messages call it, and the way out.

    Raises
    ------
    ConfigError
        Other classes, another generator or another frozen model.
    """
    if start.classes != boxes.classes:
        raise ConfigError(
            f"{name} knows the classes {', '.join(start.classes)} (in this order), but the "
            f"boxes have {', '.join(boxes.classes)}; give them the same classes, or {otherwise}."
        )
    if start.config.generator != config.generator:
        raise ConfigError(
            f"{name} has the generator {start.config.generator!r}, not "
            f"{config.generator!r}; choose the same generator, or {otherwise}."
        )
    if start.frozen_sha256 != encoder.frozen.info.sha256:
        raise ConfigError(
            f"{name} was trained on the frozen model {start.config.model!r} (weights "
            f"{start.frozen_sha256[:12]}), not on {encoder.frozen.info.name!r} (weights "
            f"{encoder.frozen.info.sha256[:12]}); choose the same frozen model, or {otherwise}."
        )


def check_stopped(
    stopped: PromptModel,
    boxes: BoxSet,
    config: TrainConfig,
    encoder: Encoder,
    normalization: Normalization,
    tile: float | None,
) -> None:
    """Refuse to go on with a training that began otherwise.

    Raises
    ------
    ConfigError
        Other classes, another generator or frozen model, another tile or brightness scale.
    """
    name, otherwise = "The stopped training", "train without --resume"
    check_start(stopped, boxes, config, encoder, name, otherwise)
    if stopped.tile != tile:
        before, now = (
            "whole images" if side is None else f"tiles of {side:g} px" for side in (stopped.tile, tile)
        )
        same = "'whole'" if stopped.tile is None else f"{stopped.tile:g}"
        raise ConfigError(
            f"{name} looks at {before}, but this one would at {now}; set 'tile' to {same}, or {otherwise}."
        )
    if stopped.normalization != normalization:
        raise ConfigError(
            f"{name} has another brightness scale ({stopped.normalization}, not {normalization}); leave "
            f"the contrast to it, or {otherwise}."
        )


def origin(start: PromptModel) -> dict[str, Any]:
    """What a training record says about the model it started from.

    Returns
    -------
    dict
        ``weights_sha256``, the hash that its ``weights.safetensors`` has or would have, and the steps,
        boxes and planes that it was trained with.
    """
    content = save({name: value.contiguous() for name, value in start.weights.items()})
    known = {name: start.record[name] for name in ("steps", "boxes", "planes") if name in start.record}
    return {"weights_sha256": hashlib.sha256(content).hexdigest(), **known}
