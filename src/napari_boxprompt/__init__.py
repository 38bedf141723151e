"""Boxes on a few images, masks on all others: box-supervised prompt learning for SAM-family models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_boxprompt.api import TrainedModel, load_model, predict, start_training, train
    from napari_boxprompt.boxes import Box, BoxSet, PlaneId
    from napari_boxprompt.errors import BoxPromptError
    from napari_boxprompt.formats import load_boxes
    from napari_boxprompt.images import open_images
    from napari_boxprompt.project import Project

__version__ = "0.1.0"

__all__ = [
    "Box",
    "BoxPromptError",
    "BoxSet",
    "PlaneId",
    "Project",
    "TrainedModel",
    "load_boxes",
    "load_model",
    "open_images",
    "predict",
    "start_training",
    "train",
]

_HOMES = {
    "api": ("TrainedModel", "load_model", "predict", "start_training", "train"),
    "boxes": ("Box", "BoxSet", "PlaneId"),
    "errors": ("BoxPromptError",),
    "formats": ("load_boxes",),
    "images": ("open_images",),
    "project": ("Project",),
}


def __getattr__(name: str) -> Any:
    # Names are found on first use, so that importing the package pulls neither torch nor Qt.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
