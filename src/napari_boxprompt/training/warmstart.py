"""Trainings that begin with the weights of a trained model instead of fresh ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from napari_boxprompt.errors import ConfigError

if TYPE_CHECKING:
    from napari_boxprompt.boxes import BoxSet
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.prompting import PromptModel

__all__ = ["check_start", "origin"]


def check_start(start: PromptModel, boxes: BoxSet, config: TrainConfig, encoder: Encoder) -> None:
    """Refuse a model whose weights mean something else in the new training.

    Raises
    ------
    ConfigError
        Other classes, another generator or another frozen model.
    """
    if start.classes != boxes.classes:
        raise ConfigError(
            f"The model to start from knows the classes {', '.join(start.classes)} (in this order), but the "
            f"boxes have {', '.join(boxes.classes)}; give them the same classes, or start from scratch."
        )
    if start.config.generator != config.generator:
        raise ConfigError(
            f"The model to start from has the generator {start.config.generator!r}, not "
            f"{config.generator!r}; choose the same generator, or start from scratch."
        )
    if start.frozen_sha256 != encoder.frozen.info.sha256:
        raise ConfigError(
            f"The model to start from was trained on the frozen model {start.config.model!r} (weights "
            f"{start.frozen_sha256[:12]}), not on {encoder.frozen.info.name!r} (weights "
            f"{encoder.frozen.info.sha256[:12]}); choose the same frozen model, or start from scratch."
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
