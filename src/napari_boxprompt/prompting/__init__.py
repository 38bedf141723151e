"""Prompt generators: the only trainable weights."""

from napari_boxprompt.prompting.generators import (
    GENERATORS,
    LightGenerator,
    PromptGenerator,
    SimpleGenerator,
    make_generator,
)
from napari_boxprompt.prompting.model import PromptModel, PromptNet

__all__ = [
    "GENERATORS",
    "LightGenerator",
    "PromptGenerator",
    "PromptModel",
    "PromptNet",
    "SimpleGenerator",
    "make_generator",
]
