"""Networks that emit the prompt a person's box would have produced.

Each takes the frozen encoder's embedding ``(B, 256, 64, 64)`` and the image ``(B, 3, 256, 256)`` in
0..1 and returns a sparse prompt ``(B, N, 256)`` and a dense prompt ``(B, 256, 64, 64)``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import nn

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.prompting.base import CHANNELS, PromptGenerator
from napari_boxprompt.prompting.hardnet import HarDNetGenerator

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "GENERATORS",
    "LightGenerator",
    "PromptGenerator",
    "SimpleGenerator",
    "WideGenerator",
    "make_generator",
]


def _block(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False
    )
    return nn.Sequential(convolution, nn.GroupNorm(8, outputs), nn.GELU())


def _onto(block: nn.Sequential, maps: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """What a block makes of maps of all tokens, on a lattice."""
    convolution = cast("nn.Conv2d", block[0])
    rows, columns = cast("tuple[int, int]", convolution.padding)
    padded = F.pad(maps, (columns, columns, rows, rows))[..., lattice.row :, lattice.column :]
    made = F.conv2d(padded, convolution.weight, stride=lattice.step, dilation=convolution.dilation)
    return cast("torch.Tensor", block[1:](made))


def _among(block: nn.Sequential, maps: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """What a block makes of maps on a lattice, where its dilation stays on the lattice."""
    convolution = cast("nn.Conv2d", block[0])
    nearer = [reach // lattice.step for reach in convolution.dilation]
    made = F.conv2d(maps, convolution.weight, padding=nearer, dilation=nearer)
    return cast("torch.Tensor", block[1:](made))


class LightGenerator(PromptGenerator):
    """Default generator: embedding plus a shallow stem of the image, about 0.2 M parameters.

    The dense prompt is the "no mask" embedding plus a correction whose last layer starts at zero, so
    an untrained generator behaves exactly as the frozen model without a prompt.
    """

    def __init__(self, no_mask: torch.Tensor, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__(no_mask)
        self.stem = nn.Sequential(_block(3, 16, stride=2), _block(16, 32, stride=2))
        self.project = _block(CHANNELS, width, 1)
        self.drop = nn.Dropout2d(dropout)
        self.join = _block(width + 32, width)
        self.context = nn.ModuleList(_block(width, width, dilation=d) for d in (2, 4))
        self.output = nn.Conv2d(width, CHANNELS, 1)
        nn.init.zeros_(self.output.weight)
        with torch.no_grad():
            self.output.bias.copy_(no_mask)  # type: ignore[union-attr]

    def features(self, embedding: torch.Tensor, image: torch.Tensor) -> list[torch.Tensor]:
        """Maps ``(B, C, 64, 64)`` that the prompt is made from."""
        return [self.drop(self.project(embedding)), self.stem(image)]

    def forward(
        self, embedding: torch.Tensor, image: torch.Tensor, lattice: Lattice = WHOLE
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Emit an empty sparse and a dense prompt."""
        x = _onto(self.join, torch.cat(self.features(embedding, image), dim=1), lattice)
        for layer in self.context:
            x = x + _among(cast("nn.Sequential", layer), x, lattice)
        return embedding.new_zeros(len(embedding), 0, CHANNELS), self.output(x)


class WideGenerator(LightGenerator):
    """`LightGenerator` with a view of the whole: about 1.6 M parameters, most of them at quarter resolution.

    What an organ is often follows from where it lies, beyond the reach of a few convolutions: a branch on
    16 x 16 pixels sees the image in full, and is told the position.
    """

    def __init__(
        self, no_mask: torch.Tensor, width: int = 64, broad: int = 192, dropout: float = 0.1
    ) -> None:
        super().__init__(no_mask, width, dropout)
        self.enter = _block(CHANNELS + 2, broad, 1)
        self.broad = nn.ModuleList(_block(broad, broad) for _ in range(4))
        self.leave = nn.Conv2d(broad, width, 1)
        self.join = _block(2 * width + 32, width)

    def features(self, embedding: torch.Tensor, image: torch.Tensor) -> list[torch.Tensor]:
        """Add what the whole image shows."""
        small = F.avg_pool2d(embedding, 4)
        side = torch.linspace(-1.0, 1.0, small.shape[-1], device=small.device, dtype=small.dtype)
        place = torch.stack(torch.meshgrid(side, side, indexing="ij")).expand(len(small), -1, -1, -1)
        whole = self.drop(self.enter(torch.cat([small, place], dim=1)))
        for layer in self.broad:
            whole = whole + layer(whole)
        size = embedding.shape[-2:]
        whole = F.interpolate(self.leave(whole), size=size, mode="bilinear", align_corners=False)
        return [*super().features(embedding, image), whole]


class SimpleGenerator(PromptGenerator):
    """Generator of Gaillochet et al. 2024 (arXiv 2409.20293), on the embedding alone.

    Dense: 1 x 1 to 512, ReLU, 3 x 3 to 256, ReLU. Sparse: 1 x 1 to 256, max-pool 8, fully connected
    to ``points + 1`` tokens.
    """

    def __init__(self, no_mask: torch.Tensor, points: int = 2) -> None:
        super().__init__(no_mask)
        self.dense = nn.Sequential(
            nn.Conv2d(CHANNELS, 512, 1), nn.ReLU(), nn.Conv2d(512, CHANNELS, 3, padding=1), nn.ReLU()
        )
        self.squeeze = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.tokens = nn.Linear(64, points + 1)

    def forward(
        self, embedding: torch.Tensor, image: torch.Tensor, lattice: Lattice = WHOLE
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Emit ``points + 1`` sparse tokens and a dense prompt; the image is not used."""
        pooled = F.max_pool2d(self.squeeze(embedding), 8).flatten(2)
        return self.tokens(pooled).transpose(1, 2), lattice.tokens(self.dense(embedding))


GENERATORS: Mapping[str, type[PromptGenerator]] = MappingProxyType(
    {
        "light": LightGenerator,
        "wide": WideGenerator,
        "hardnet85": HarDNetGenerator,
        "simple": SimpleGenerator,
    }
)
"""Generators by the name used in settings and saved models."""


def make_generator(name: str, no_mask: torch.Tensor) -> PromptGenerator:
    """Build an untrained generator.

    Parameters
    ----------
    name : str
        A key of `GENERATORS`.
    no_mask : torch.Tensor
        ``(256,)`` dense embedding of the frozen model for "no prompt".

    Raises
    ------
    ConfigError
        Unknown name.
    """
    if name not in GENERATORS:
        raise ConfigError(f"There is no prompt generator {name!r}; choose one of {', '.join(GENERATORS)}.")
    return GENERATORS[name](no_mask)
