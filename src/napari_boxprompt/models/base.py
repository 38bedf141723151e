"""What a frozen model is to the rest of the code: a description and four operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from napari_boxprompt.lattice import WHOLE, Lattice

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ELSEWHERE", "Architecture", "FrozenModel", "ModelInfo", "Scaling"]

Architecture = Literal["litemedsam", "vit_b", "vit_l", "vit_h"]
"""Layouts of weights that can be loaded."""

ELSEWHERE = -32.0
"""Logit of what was not asked for: a probability of 1e-14, and no infinity that would spoil a mean."""

Scaling = Literal["unit", "sam"]
"""What the encoder wants: values in 0..1 as they are, or with SAM's mean and deviation taken off."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Description of one set of frozen weights.

    Parameters
    ----------
    name : str
        Name in the registry, or the stem of an imported file.
    description : str
        One line for a menu.
    architecture : {"litemedsam", "vit_b", "vit_l", "vit_h"}
        Layout of the weights.
    input_size : int
        Side S of the square model input, in pixels.
    grid_size : int
        Side G of the square logit grid.
    embedding_shape : tuple of int
        Channels, rows and columns of one image embedding.
    scaling : {"unit", "sam"}
        What `FrozenModel.encode` does to the values before the encoder.
    licence : str
        SPDX name, or ``"unknown"``.
    sha256 : str
        Hash of the weights file; empty when it is not known, and then nothing is downloaded.
    url : str or None
        Where the file is downloaded from; None for files that are not downloaded.
    filename : str
        Name of the file in the folder of models.
    size : int
        Bytes of the file, 0 when not known.
    """

    name: str
    description: str
    architecture: Architecture
    input_size: int
    grid_size: int = 256
    embedding_shape: tuple[int, int, int] = (256, 64, 64)
    scaling: Scaling = "sam"
    licence: str = "unknown"
    sha256: str = ""
    url: str | None = None
    filename: str = ""
    size: int = 0


class FrozenModel(Protocol):
    """A promptable model whose weights never change.

    Row i of every argument and result belongs to image i of the batch.
    """

    @property
    def info(self) -> ModelInfo:
        """Description of the weights."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where arguments must be."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        images : torch.Tensor
            ``(B, 3, S, S)`` floats in 0..1, padding at the bottom and right filled with zeros.

        Returns
        -------
        torch.Tensor
            ``(B, 256, 64, 64)``, without gradient; float32, or the autocast type.
        """
        ...

    def decode(
        self,
        embedding: Tensor,
        sparse: Tensor,
        dense: Tensor,
        *,
        candidates: bool = False,
        within: Tensor | None = None,
        lattice: Lattice = WHOLE,
    ) -> tuple[Tensor, Tensor]:
        """Masks of a batch of prompts, differentiable with respect to ``sparse`` and ``dense``.

        Parameters
        ----------
        embedding : torch.Tensor
            ``(B, 256, 64, 64)`` image embeddings.
        sparse : torch.Tensor
            ``(B, N, 256)`` prompt tokens; N may be 0.
        dense : torch.Tensor
            ``(B, 256, 64, 64)`` prompt added to the embedding.
        candidates : bool
            Give the three masks of an ambiguous prompt instead of the single one.
        within : torch.Tensor, optional
            ``(B, 4)`` rows of y0, x0, y1, x1 on the logit grid: only there are masks asked for. Elsewhere
            logits may be `ELSEWHERE`, which saves time. Not differentiable then.
        lattice : Lattice
            Image tokens that there are: ``embedding`` and ``dense`` have these alone, and logits are theirs.

        Returns
        -------
        logits : torch.Tensor
            ``(B, M, 256, 256)`` float32, M = 1, or 3 with ``candidates``.
        quality : torch.Tensor
            ``(B, M)`` IoU each mask is expected to have, float32.
        """
        ...

    def box_prompt(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Prompt embeddings of one box per image.

        Parameters
        ----------
        boxes : torch.Tensor
            ``(B, 4)`` rows of y0, x0, y1, x1: half-open coordinates on the logit grid.

        Returns
        -------
        sparse : torch.Tensor
            ``(B, 2, 256)`` corner tokens.
        dense : torch.Tensor
            ``(B, 256, 64, 64)``, the learned "no mask" vector.
        """
        ...

    def no_prompt(self, batch: int) -> tuple[Tensor, Tensor]:
        """Prompt embeddings of no prompt at all: ``(batch, 0, 256)`` and ``(batch, 256, 64, 64)``."""
        ...

    def to(self, device: torch.device | str) -> FrozenModel:
        """Move the weights to a device, in place, and return the model."""
        ...
