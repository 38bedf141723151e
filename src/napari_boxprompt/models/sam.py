"""Any model in the layout of Segment Anything, with a decoder that takes a batch of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from napari_boxprompt.errors import ModelError
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.models.base import ELSEWHERE
from napari_boxprompt.models.decoding import mask_logits, two_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from napari_boxprompt.models.base import ModelInfo

__all__ = ["SamModel"]

_PIXEL_MEAN = (123.675, 116.28, 103.53)
_PIXEL_STD = (58.395, 57.12, 57.375)


class _SamParts(Protocol):
    """The three parts that SAM, MedSAM, LiteMedSAM and micro-sam models share."""

    image_encoder: nn.Module
    prompt_encoder: nn.Module
    mask_decoder: nn.Module

    def to(self, device: torch.device | str) -> Any: ...


class SamModel:
    """A frozen model with SAM's three parts; see `FrozenModel` for the operations.

    Parameters
    ----------
    network : torch.nn.Module
        Has ``image_encoder``, ``prompt_encoder`` and ``mask_decoder`` in the layout of the package
        ``segment_anything``. It is put in evaluation mode and its parameters stop taking gradients.
    info : ModelInfo
        Description of the weights.
    """

    def __init__(self, network: nn.Module, info: ModelInfo) -> None:
        network.eval().requires_grad_(requires_grad=False)
        self._network = cast("_SamParts", network)
        self._info = info
        self._set_constants()

    def __deepcopy__(self, memo: dict[int, Any]) -> SamModel:
        """Return the model itself: copies of a trained network share the frozen weights."""
        return self

    @property
    def info(self) -> ModelInfo:
        """Description of the weights."""
        return self._info

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._position.device

    def to(self, device: torch.device | str) -> SamModel:
        """Move the weights to a device, in place, and return the model."""
        self._network.to(device)
        self._set_constants()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Embed images ``(B, 3, S, S)`` in 0..1 as ``(B, 256, 64, 64)``, without gradient.

        Raises
        ------
        ModelError
            The images have another shape.

        Notes
        -----
        SAM pads after taking off the mean, so its padding is grey; ours is black, as MedSAM's is.
        """
        size = self._info.input_size
        if images.ndim != 4 or len(images) == 0 or tuple(images.shape[1:]) != (3, size, size):
            raise ModelError(
                f"{self._info.name} takes images of shape (batch, 3, {size}, {size}), not "
                f"{tuple(images.shape)}; scale and pad them first."
            )
        with torch.no_grad():
            if self._info.scaling == "sam":
                images = (images - self._mean) / self._std
            # One by one on the CPU, where a batch was measured to take longer than its images do.
            parts = torch.split(images, 1) if images.device.type == "cpu" else (images,)
            return torch.cat([self._network.image_encoder(part) for part in parts])

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
        """Masks ``(B, M, 256, 256)`` and their expected IoU ``(B, M)``; see `FrozenModel.decode`.

        Notes
        -----
        Kirillov et al., "Segment Anything", 2023, section 3 and appendix A. The upstream decoder
        repeats each embedding for every prompt; here row i of the prompts belongs to image i. All
        mask tokens take part in the attention, but only the masks asked for are computed, and the
        products are ordered for speed (`decoding`).
        """
        decoder = cast("Any", self._network.mask_decoder)
        first, last = (1, decoder.num_mask_tokens) if candidates else (0, 1)
        learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([learned.expand(len(embedding), -1, -1), sparse], dim=1)
        source = (embedding + dense).to(tokens.dtype)
        places = lattice.tokens(self._position)
        image, position = (maps.flatten(2).transpose(1, 2) for maps in (source, places))
        hidden, image = two_way(decoder.transformer, image, position, tokens)
        kernels = torch.stack(
            [decoder.output_hypernetworks_mlps[i](hidden[:, 1 + i]) for i in range(first, last)], dim=1
        )
        image = image.unflatten(1, source.shape[-2:])
        if within is None:
            logits = mask_logits(decoder.output_upscaling, image, kernels)
        else:
            logits = _logits_within(decoder.output_upscaling, image, kernels, within)
        quality = decoder.iou_prediction_head(hidden[:, 0])[:, first:last]
        return logits.float(), quality.float()

    def box_prompt(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Prompt embeddings of one box per image; see `FrozenModel.box_prompt`.

        Notes
        -----
        SAM's boxes are x0, y0, x1, y1 in *inclusive* pixel indices of the model input, hence the
        upper edge minus one. A box thinner than a pixel becomes the pixel at its middle.
        """
        scale = self._info.input_size / self._info.grid_size
        edges = boxes.detach().to(self.device, torch.float32) * scale
        lower, upper = edges[:, :2], edges[:, 2:]
        middle = (lower + upper) / 2 - 0.5
        corners = torch.cat([torch.minimum(lower, middle), torch.maximum(upper - 1, middle)], dim=1)
        return self._prompt(corners[:, [1, 0, 3, 2]])

    def no_prompt(self, batch: int) -> tuple[Tensor, Tensor]:
        """Prompt embeddings of no prompt: ``(batch, 0, 256)`` and ``(batch, 256, 64, 64)``."""
        sparse, dense = self._prompt(None)
        return sparse.expand(batch, -1, -1), dense.expand(batch, -1, -1, -1)

    def _prompt(self, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        # The sines of the position encoding need float32 whatever the precision around them.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            encode = cast("Callable[..., tuple[Tensor, Tensor]]", self._network.prompt_encoder)
            return encode(points=None, boxes=boxes, masks=None)

    def _set_constants(self) -> None:
        prompt_encoder = cast("Any", self._network.prompt_encoder)
        device = prompt_encoder.no_mask_embed.weight.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            self._position: Tensor = prompt_encoder.get_dense_pe()
        # SAM states them for values in 0..255, we take values in 0..1.
        self._mean = torch.tensor(_PIXEL_MEAN, device=device).view(3, 1, 1) / 255
        self._std = torch.tensor(_PIXEL_STD, device=device).view(3, 1, 1) / 255


def _logits_within(upscaling: Any, image: Tensor, kernels: Tensor, boxes: Tensor) -> Tensor:
    """Masks of the tokens that lie under each row's box; `ELSEWHERE` on all others."""
    rows, columns = image.shape[1:3]
    logits = image.new_full((len(image), kernels.shape[1], 4 * rows, 4 * columns), ELSEWHERE)
    for i, (y0, x0, y1, x1) in enumerate(boxes.tolist()):
        top, left = max(0, int(y0 // 4)), max(0, int(x0 // 4))
        bottom, right = min(rows, math.ceil(y1 / 4)), min(columns, math.ceil(x1 / 4))
        if top < bottom and left < right:
            part = mask_logits(upscaling, image[i : i + 1, top:bottom, left:right], kernels[i : i + 1])
            logits[i, :, 4 * top : 4 * bottom, 4 * left : 4 * right] = part[0]
    return logits
