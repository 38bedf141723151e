"""What a prompt generator is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import nn

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.lattice import WHOLE, Lattice

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["CHANNELS", "PromptGenerator"]

CHANNELS = 256
"""Channels of a SAM embedding."""


class PromptGenerator(nn.Module, ABC):
    """Base of the prompt generators.

    Parameters
    ----------
    no_mask : torch.Tensor
        ``(256,)``: the frozen model's dense embedding for "no prompt", the natural starting point.
    """

    def __init__(self, no_mask: torch.Tensor) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, embedding: torch.Tensor, image: torch.Tensor, lattice: Lattice = WHOLE
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Emit sparse ``(B, N, 256)`` and dense ``(B, 256, 64, 64)`` prompts, the dense one on a lattice."""

    def load_pretrained(self, path: Path) -> None:
        """Start from published weights.

        Raises
        ------
        ConfigError
            There are none for this generator, or the file holds others.
        """
        raise ConfigError(
            f"The generator has no published weights to start from, so {path} cannot be used; empty the "
            "setting 'generator_weights', or choose the generator 'hardnet85'."
        )
