"""SAM's mask decoder, computed in an order that suits few prompt tokens and thousands of image tokens.

The formulas are those of Kirillov et al., "Segment Anything", 2023, appendix A, and the weights are the
upstream module's; only the order of the products differs. A decoder attends between T tokens (five, and
those of the prompt) and N = 4096 image tokens of C = 256 channels, with H = 8 heads of d = 16 channels.
Upstream projects all image tokens to H d = 128 channels for every attention. Here each projection is
multiplied into the tokens first, ``q (W x) = (W^T q) x``, so that the image meets only H T = 40 vectors.
Transposed convolutions whose stride is their width are plain products of each pixel with the kernel, so
everything stays in the layout (pixel, channel), and pixels are put in their places only as logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["mask_logits", "two_way"]


def two_way(transformer: Any, image: Tensor, position: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Let tokens and image attend to each other.

    Parameters
    ----------
    transformer : torch.nn.Module
        SAM's ``TwoWayTransformer``.
    image : torch.Tensor
        ``(B, N, C)`` embedding with the dense prompt added.
    position : torch.Tensor
        ``(1, N, C)`` position encoding of the image.
    tokens : torch.Tensor
        ``(B, T, C)`` output and prompt tokens.

    Returns
    -------
    tokens, image : torch.Tensor
        ``(B, T, C)`` and ``(B, N, C)``.
    """
    queries = tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.self_attn(q=queries, k=queries, v=queries)
        else:
            placed = queries + tokens
            queries = queries + layer.self_attn(q=placed, k=placed, v=queries)
        queries = layer.norm1(queries)
        located = image + position
        attended = _tokens_to_image(layer.cross_attn_token_to_image, queries + tokens, located, image)
        queries = layer.norm2(queries + attended)
        queries = layer.norm3(queries + layer.mlp(queries))
        attended = _image_to_tokens(
            layer.cross_attn_image_to_token, image, located, queries + tokens, queries
        )
        image = layer.norm4(attended)
    final = transformer.final_attn_token_to_image
    attended = _tokens_to_image(final, queries + tokens, image + position, image)
    return transformer.norm_final_attn(queries + attended), image


def mask_logits(upscaling: Any, image: Tensor, kernels: Tensor) -> Tensor:
    """Masks of M kernels on the enlarged image, or on a rectangle cut out of it: no token needs another.

    Parameters
    ----------
    upscaling : torch.nn.Sequential
        SAM's ``output_upscaling``: transposed convolution, norm, GELU, transposed convolution, GELU.
    image : torch.Tensor
        ``(B, h, w, C)`` image tokens.
    kernels : torch.Tensor
        ``(B, M, c)``, c the channels of the last convolution.

    Returns
    -------
    torch.Tensor
        ``(B, M, 4 h, 4 w)``.
    """
    first, norm, activation, second, last = upscaling
    fine = activation(_normalised(norm, _enlarge(first, image)))  # (B, h, w, 4, c1)
    finest = last(_enlarge(second, fine))  # (B, h, w, 4, 4, c)
    values = finest.flatten(1, -2) @ kernels.transpose(1, 2)
    batch, masks = kernels.shape[:2]
    rows, columns = image.shape[1:3]
    # Each pixel became 2 x 2 and each of these 2 x 2 again: rows are (row, i, k), columns (column, j, l).
    grid = values.view(batch, rows, columns, 2, 2, 2, 2, masks).permute(0, 7, 1, 3, 5, 2, 4, 6)
    logits: Tensor = grid.reshape(batch, masks, 4 * rows, 4 * columns)
    return logits


def _enlarge(convolution: Any, pixels: Tensor) -> Tensor:
    """``(..., C)`` to ``(..., 4, c)``: a 2 x 2 transposed convolution of stride 2, pixel by pixel."""
    weight = convolution.weight  # (C, c, 2, 2)
    flat = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
    made = F.linear(pixels, flat.T, convolution.bias.repeat(4))
    enlarged: Tensor = made.unflatten(-1, (4, -1))
    return enlarged


def _normalised(norm: Any, pixels: Tensor) -> Tensor:
    """SAM's ``LayerNorm2d`` over the last axis."""
    same: Tensor = F.layer_norm(pixels, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return same


def _heads(attention: Any, few: Tensor) -> Tensor:
    """``(B, T, H d)`` as ``(B, H, T, d)``."""
    apart: Tensor = few.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    return apart


def _weight(attention: Any, projection: Any) -> Tensor:
    """Weight of a projection to the heads, ``(H, d, C)``."""
    weight: Tensor = projection.weight.unflatten(0, (attention.num_heads, -1))
    return weight


def _tokens_to_image(attention: Any, few: Tensor, located: Tensor, image: Tensor) -> Tensor:
    """Attention of few tokens ``(B, T, C)`` to the image ``(B, N, C)``."""
    queries = _heads(attention, attention.q_proj(few))
    folded = queries @ _weight(attention, attention.k_proj) / queries.shape[-1] ** 0.5  # (B, H, T, C)
    # The bias of the keys adds the same to all scores of a token, and cancels.
    shares = (folded.flatten(1, 2) @ located.transpose(1, 2)).softmax(dim=-1)  # (B, H T, N)
    gathered = (shares @ image).view_as(folded)
    values = gathered @ _weight(attention, attention.v_proj).transpose(1, 2)  # (B, H, T, d)
    joined = values.transpose(1, 2).flatten(2) + attention.v_proj.bias
    found: Tensor = attention.out_proj(joined)
    return found


def _image_to_tokens(attention: Any, image: Tensor, located: Tensor, few: Tensor, values: Tensor) -> Tensor:
    """The image ``(B, N, C)``, and added to it its attention to few tokens ``(B, T, C)``."""
    keys = _heads(attention, attention.k_proj(few))
    keys = keys / keys.shape[-1] ** 0.5
    folded = keys @ _weight(attention, attention.q_proj)  # (B, H, T, C)
    bias = keys @ attention.q_proj.bias.view(1, attention.num_heads, -1, 1)  # (B, H, T, 1)
    scores = torch.baddbmm(bias.flatten(1, 2), folded.flatten(1, 2), located.transpose(1, 2))
    shares = scores.unflatten(1, (attention.num_heads, -1)).softmax(dim=2).flatten(1, 2)  # (B, H T, N)
    outwards = attention.out_proj.weight.unflatten(1, (attention.num_heads, -1)).permute(1, 2, 0)  # (H, d, C)
    given = _heads(attention, attention.v_proj(values)) @ outwards  # (B, H, T, C)
    # The shares of a head sum to one, so a part of the bias in each head's vectors adds up to all of it.
    given = given.flatten(1, 2) + attention.out_proj.bias / attention.num_heads
    return torch.baddbmm(image, shares.transpose(1, 2), given)
