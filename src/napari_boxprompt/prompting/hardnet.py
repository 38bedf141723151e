"""The prompt generator of Gaillochet et al. 2025 (arXiv 2507.02743): HarDNet-85 and a skip decoder.

HarDNet: Chao et al., "HarDNet: a low memory traffic network", ICCV 2019. As a generator for SAM: Shaharabany
et al., "AutoSAM", 2023. Parameters have the published names, so that published ImageNet weights load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.models.checkpoints import load_tensors
from napari_boxprompt.prompting.base import CHANNELS, PromptGenerator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["HarDNet85", "HarDNetGenerator"]

LAYERS = (8, 16, 16, 16, 16, 4)
GROWTH = (24, 24, 28, 36, 48, 256)
WIDTHS = (192, 256, 320, 480, 720, 1280)
MULTIPLIER = 1.7
POOLED = (1, 3, 5)
"""Blocks, counted from one, that a pooling follows."""

TAPS = {4: 192, 9: 320, 14: 720}
"""Modules whose output the decoder takes, at strides 4, 8 and 16, and their channels."""

CLASSIFIER = "base.19."
"""Published weights hold the classifier of ImageNet, which a generator has no use for."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _ConvLayer(nn.Module):
    """Convolution, batch norm and ReLU6, with the published names."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply."""
        return F.relu6(self.norm(self.conv(x)))


def _links(layer: int) -> list[int]:
    """Layers that a layer of a block reads: ``layer - 2^i`` for every i with 2^i dividing it."""
    return [layer - 2**i for i in range(layer.bit_length()) if layer % 2**i == 0]


def _width(growth: int, links: int) -> int:
    """Channels of a layer: multiplied for each link but the first, and made even."""
    width = float(growth)
    for _ in range(links - 1):
        width *= MULTIPLIER
    return 2 * ((int(width) + 1) // 2)


class _Block(nn.Module):
    """Harmonic dense block; its output joins the odd layers and the last."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        widths = [inputs, *(_width(growth, len(_links(k))) for k in range(1, layers + 1))]
        self.layers = nn.ModuleList(
            _ConvLayer(sum(widths[j] for j in _links(k)), widths[k]) for k in range(1, layers + 1)
        )
        self._kept = [k for k in range(1, layers + 1) if k % 2 == 1 or k == layers]
        self.channels = sum(widths[k] for k in self._kept)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply."""
        found = [x]
        for k, layer in enumerate(self.layers, start=1):
            found.append(layer(torch.cat([found[j] for j in _links(k)], dim=1)))
        return torch.cat([found[k] for k in self._kept], dim=1)


class HarDNet85(nn.Module):
    """Features of HarDNet-85, 35 389 212 parameters without the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.ModuleList([_ConvLayer(3, 48, stride=2), _ConvLayer(48, 96), _pool()])
        channels = 96
        for number, (layers, growth, width) in enumerate(zip(LAYERS, GROWTH, WIDTHS, strict=True), start=1):
            block = _Block(channels, growth, layers)
            self.base.append(block)
            if number == len(LAYERS):
                self.base.append(nn.Dropout(0.1))
            self.base.append(_ConvLayer(block.channels, width, kernel=1))
            if number in POOLED:
                self.base.append(_pool())
            channels = width
        self.base[max(TAPS) + 1 :].requires_grad_(False)  # several GPUs wait for every gradient there is

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features at strides 4, 8 and 16 of an image ``(B, 3, H, W)``.

        What follows the last of them is not computed, as nothing reads it.
        """
        x, found = image, list[torch.Tensor]()
        for number, module in enumerate(self.base):
            x = module(x)
            if number in TAPS:
                found.append(x)
            if number == max(TAPS):
                break
        return found

    def load_published(self, path: Path) -> None:
        """Take weights published for ImageNet.

        Raises
        ------
        ModelError
            The file cannot be read.
        ConfigError
            It holds other weights.
        """
        state: Mapping[str, torch.Tensor] = load_tensors(path)
        kept = {name: value for name, value in state.items() if not name.startswith(CLASSIFIER)}
        try:
            self.load_state_dict(kept)
        except RuntimeError as error:
            raise ConfigError(
                f"{path} does not hold the weights of HarDNet-85 ({str(error).splitlines()[-1].strip()}); "
                "choose the file hardnet85-a28faa00.pth that its authors publish."
            ) from error


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(2)


class _Up(nn.Module):
    """Enlarge twice, join with a skip, two convolutions."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs + skip, outputs, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Apply."""
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        x = F.leaky_relu(self.norm1(self.conv1(torch.cat([x, skip], dim=1))))
        return F.leaky_relu(self.norm2(self.conv2(x)))


class HarDNetGenerator(PromptGenerator):
    """HarDNet-85 on the image and a decoder of 6 169 088 parameters: a dense prompt in -1..1.

    The embedding is not looked at, and what follows stride 16 gets no gradient: the published decoder
    does not read it either.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, no_mask: torch.Tensor) -> None:
        super().__init__(no_mask)
        self.encoder = HarDNet85()
        self.up1 = _Up(TAPS[14], TAPS[9], 320)
        self.up2 = _Up(320, TAPS[4], 192)
        self.output = nn.Sequential(
            nn.Conv2d(192, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        )
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)

    def forward(
        self, embedding: torch.Tensor, image: torch.Tensor, lattice: Lattice = WHOLE
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Emit an empty sparse and a dense prompt."""
        fine, middle, coarse = self.encoder((image - self.mean) / self.deviation)
        x = self.output(self.up2(self.up1(coarse, middle), fine)).tanh()
        dense = F.interpolate(x, size=embedding.shape[-2:], mode="bilinear", align_corners=False)
        return embedding.new_zeros(len(embedding), 0, CHANNELS), lattice.tokens(dense)

    def load_pretrained(self, path: Path) -> None:
        """Start the features from published ImageNet weights; see `HarDNet85.load_published`."""
        self.encoder.load_published(path)
