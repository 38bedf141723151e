"""Prompt generators: the only trainable weights."""

from napari_boxprompt.prompting.base import PromptGenerator
from napari_boxprompt.prompting.generators import (
    GENERATORS,
    LightGenerator,
    SimpleGenerator,
    WideGenerator,
    make_generator,
)
from napari_boxprompt.prompting.hardnet import HarDNetGenerator
from napari_boxprompt.prompting.model import PromptModel, PromptNet

__all__ = [
    "GENERATORS",
    "HarDNetGenerator",
    "LightGenerator",
    "PromptGenerator",
    "PromptModel",
    "PromptNet",
    "SimpleGenerator",
    "WideGenerator",
    "make_generator",
]
