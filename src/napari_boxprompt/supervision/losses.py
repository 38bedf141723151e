"""Loss terms of box supervision as pure functions of tensors.

Sources: (P25) Gaillochet et al., "Prompt learning with bounding box constraints for medical image
segmentation", arXiv 2507.02743, 2025; (K20) Kervadec et al., "Bounding boxes for weakly supervised
segmentation: global constraints get close to full supervision", MIDL 2020.

Maps have shape ``(..., H, W)``; boxes are ``(y0, x0, y1, x1)``, half-open, in pixels, and pixel
``(r, c)`` has its centre at ``(r + 0.5, c + 0.5)``. Each term is a scalar that is differentiable in
the probabilities, has the precision of its input (call it outside autocast), and is a zero that is
still part of the graph where nothing is known. Probabilities are kept ``EPSILON`` away from 0 and 1
before a logarithm, so a pixel that is closer has a finite loss and no gradient from it, except where the
logits are given too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from napari_boxprompt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EPSILON",
    "barrier_t",
    "barrier_t_epochs",
    "consistency_loss",
    "log_barrier",
    "outside_loss",
    "probabilities",
    "pseudo_label_loss",
    "size_loss",
    "tightness_loss",
]

EPSILON = 1e-6
"""Distance that probabilities keep from 0 and 1 before a logarithm."""


def log_barrier(z: torch.Tensor, t: float) -> torch.Tensor:
    """Log-barrier extension ψ_t of the constraint z <= 0 (K20).

    ``-(1/t) log(-z)`` where ``z <= -1/t²``, else ``t z - (1/t) log(1/t²) + 1/t``: value and slope are
    continuous, and a constraint that is far from met has slope t.

    Parameters
    ----------
    z : torch.Tensor
        Amounts by which constraints are broken (positive) or met (negative), any shape and unit.
    t : float
        Hardness, positive.

    Returns
    -------
    torch.Tensor
        ψ_t of each element.

    Raises
    ------
    ConfigError
        If `t` is not positive.
    """
    if not t > 0:
        raise ConfigError(f"The barrier parameter t is {t}; choose a positive number.")
    limit = 1.0 / t**2
    curved = z <= -limit
    # The inner `where` keeps the logarithm off values whose gradient would be NaN even when unused.
    logarithm = -torch.log(torch.where(curved, -z, limit)) / t
    return torch.where(curved, logarithm, t * z - math.log(limit) / t + 1.0 / t)


def barrier_t(fraction: float, start: float = 5.0, end: float = 50.0) -> float:
    """Barrier parameter ``start (end / start)^fraction`` that does not depend on the number of steps.

    Parameters
    ----------
    fraction : float
        Part of the training that is done; moved into 0..1.
    start, end : float
        t at the beginning and at the end, positive.
    """
    return start * math.pow(end / start, min(max(fraction, 0.0), 1.0))


def barrier_t_epochs(epoch: int, start: float = 5.0, factor: float = 1.1, every: int = 5) -> float:
    """Barrier parameter ``start factor^⌊epoch / every⌋`` of P25 (for HC18: factor 2, every 1).

    Parameters
    ----------
    epoch : int
        Epochs that are done.
    start, factor, every
        t of the first epochs, what it is multiplied by, and after how many epochs each time.
    """
    return start * math.pow(factor, epoch // every)


def probabilities(logits: torch.Tensor, activation: Literal["sigmoid", "minmax"] = "sigmoid") -> torch.Tensor:
    """Foreground probabilities of logits.

    Parameters
    ----------
    logits : torch.Tensor
        ``(..., H, W)``.
    activation : {"sigmoid", "minmax"}
        ``1 / (1 + exp(-x))``, or ``(x - min) / (max - min)`` over each map as in the code released
        with P25: there every map has a pixel at exactly 1, an empty one too. A constant map gives 0.

    Returns
    -------
    torch.Tensor
        0..1, shaped as `logits`.

    Raises
    ------
    ConfigError
        If `activation` is unknown.
    """
    if activation == "sigmoid":
        return logits.sigmoid()
    if activation == "minmax":
        low, high = logits.amin(dim=(-2, -1), keepdim=True), logits.amax(dim=(-2, -1), keepdim=True)
        span = high - low
        return (logits - low) / torch.where(span > 0, span, 1.0)
    raise ConfigError(f"There is no activation {activation!r}; choose 'sigmoid' or 'minmax'.")


def cut_at_zero(logits: torch.Tensor, activation: Literal["sigmoid", "minmax"] = "sigmoid") -> torch.Tensor:
    """Logits whose mask begins at 0, where `probabilities` gives one half.

    For ``minmax`` the middle between minimum and maximum of each map ``(..., H, W)`` is taken away.
    """
    if activation == "sigmoid":
        return logits
    return logits - (logits.amin(dim=(-2, -1), keepdim=True) + logits.amax(dim=(-2, -1), keepdim=True)) / 2


def pseudo_label_loss(
    probability: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    smooth: float = 1.0,
    logits: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Half binary cross-entropy and half soft Dice against a pseudo-label (P25).

    With the weights v, ``BCE = -Σ v (y log p + (1 - y) log(1 - p)) / Σ v`` and
    ``Dice = 1 - (2 Σ v p y + s) / (Σ v p + Σ v y + s)``. A target that is empty over its valid pixels
    counts by its whole BCE alone, as Dice fades there; a sample without a valid pixel counts 0.

    Parameters
    ----------
    probability, target : torch.Tensor
        ``(B, H, W)`` in 0..1; the target may be soft.
    valid : torch.Tensor
        ``(B, H, W)`` bool or weights >= 0: what is known.
    smooth : float
        s, in pixels.
    logits : torch.Tensor, optional
        What `probability` is the sigmoid of: the cross-entropy then has a slope however sure a pixel is.
        A frozen decoder begins with logits of -30 where there is an object, and would stay there.
    weight : torch.Tensor, optional
        ``(B,)``, by which each sample is multiplied.

    Returns
    -------
    torch.Tensor
        Scalar, mean over the B samples.
    """
    p = probability.clamp(EPSILON, 1.0 - EPSILON)
    y, v = target.to(p.dtype), valid.to(p.dtype)
    count, filled = v.sum(dim=(-2, -1)), (v * y).sum(dim=(-2, -1))
    if logits is None:
        entropy = -(y * p.log() + (1.0 - y) * torch.log1p(-p))
    else:
        entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    bce = (v * entropy).sum(dim=(-2, -1)) / torch.where(count > 0, count, 1.0)
    overlap, total = (v * p * y).sum(dim=(-2, -1)), (v * p).sum(dim=(-2, -1)) + filled
    dice = 1.0 - (2.0 * overlap + smooth) / torch.where(filled > 0, total + smooth, 1.0)
    loss = torch.where(filled > 0, 0.5 * bce + 0.5 * dice, bce)
    if weight is not None:
        loss = loss * weight.to(loss)
    return loss.sum() / max(len(loss), 1)


def size_loss(
    probability: torch.Tensor,
    masks: torch.Tensor,
    areas: torch.Tensor,
    exclusive: torch.Tensor,
    lower: float | torch.Tensor,
    upper: float | torch.Tensor,
    t: float,
) -> torch.Tensor:
    """Each object fills a plausible part of its box (P25, with the barrier of K20).

    ``(ψ_t(Σ_exclusive p - upper |B|) + ψ_t(lower |B| - Σ_box p)) / |B|``, mean over the boxes. The upper
    bound sums only pixels of this box alone, as a pixel shared with a touching or nested box may belong
    to the neighbour; the lower one sums the whole box. Without shared pixels it is the paper's formula.

    Parameters
    ----------
    probability : torch.Tensor
        ``(H, W)`` of one image and class.
    masks, exclusive : torch.Tensor
        ``(n, H, W)`` inside of each box, see `box_mask`, and its part by itself, see `exclusive_masks`.
    areas : torch.Tensor
        ``(n,)`` areas ``|B|`` that are visible, in pixels; boxes of area 0 are left out.
    lower, upper : float or torch.Tensor
        Range of the fraction of the box that is filled, one or ``(n,)``; 0.7 and 0.9 in P25.
    t : float
        Barrier parameter.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    seen = areas > 0
    count = seen.sum()
    if not bool(count):
        return probability.sum() * 0.0
    area = torch.where(seen, areas, 1.0).to(probability.dtype)
    # A product of matrices keeps no (n, H, W) map for the gradient.
    alone, whole = (m.to(probability.dtype).flatten(1) @ probability.flatten() for m in (exclusive, masks))
    barrier = log_barrier(alone - upper * area, t) + log_barrier(lower * area - whole, t)
    return torch.where(seen, barrier / area, 0.0).sum() / count


def outside_loss(
    probability: torch.Tensor,
    outside: torch.Tensor,
    variant: Literal["masked", "released"] = "masked",
    logits: torch.Tensor | None = None,
) -> torch.Tensor:
    """No foreground on known background (P25): mean over Ω_out of ``-log(1 - p)``.

    Parameters
    ----------
    probability : torch.Tensor
        ``(B, H, W)`` in 0..1.
    outside : torch.Tensor
        bool ``(B, H, W)``: Ω_out, the pixels known to be background.
    variant : {"masked", "released"}
        The formula; or what the code released with P25 does: the sum over all pixels, objects
        too, divided by the number of outside pixels.
    logits : torch.Tensor, optional
        As in `pseudo_label_loss`.

    Returns
    -------
    torch.Tensor
        Scalar, mean over the B samples; one without an outside pixel counts 0.

    Raises
    ------
    ConfigError
        If `variant` is unknown.
    """
    if variant not in ("masked", "released"):
        raise ConfigError(f"There is no outside loss {variant!r}; choose 'masked' or 'released'.")
    p = probability.clamp(0.0, 1.0 - EPSILON)
    emptiness = -torch.log1p(-p) if logits is None else F.softplus(logits)
    background = outside.to(p.dtype)
    count = background.sum(dim=(-2, -1))
    summed = background if variant == "masked" else (count > 0)[..., None, None]
    total = (emptiness * summed).sum(dim=(-2, -1))
    return (total / torch.where(count > 0, count, 1.0)).sum() / max(len(count), 1)


def tightness_loss(probability: torch.Tensor, boxes: torch.Tensor, t: float, width: int = 5) -> torch.Tensor:
    """Every band of rows or columns that crosses a box meets its object (K20).

    Mean over all bands of ``ψ_t(w - Σ_band p)``: an object that touches all four sides of its box and is
    connected has a pixel in every row and column. Bands follow one another from the first row (column)
    of the box; a last one narrower than `width` is left out, except that a box thinner than `width` is
    one band with w = its side. Rows of a box that the map cuts at its left or right, and columns of one
    cut above or below, are left out: the object may cross them out of sight.

    Parameters
    ----------
    probability : torch.Tensor
        ``(H, W)`` of one image and class.
    boxes : torch.Tensor
        ``(n, 4)`` boxes ``(y0, x0, y1, x1)`` in pixels of the map; a pixel is inside if its centre is.
    t : float
        Barrier parameter.
    width : int
        w, in pixels.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    bands = _bands(boxes, probability.shape, width)
    if not bands:
        return probability.sum() * 0.0
    table = probability.new_tensor(bands)
    first_row, first_column, end_row, end_column, needed = table[:, :, None].unbind(dim=1)
    row, column = (torch.arange(side, device=table.device) for side in probability.shape)
    in_rows = ((row >= first_row) & (row < end_row)).to(table.dtype)
    in_columns = ((column >= first_column) & (column < end_column)).to(table.dtype)
    # Products with indicators are exact where an integral image cancels, and leave no trace elsewhere.
    held = ((in_rows @ probability) * in_columns).sum(dim=1)
    return log_barrier(needed[:, 0] - held, t).mean()


def _bands(boxes: torch.Tensor, size: Sequence[int], width: int) -> list[tuple[int, int, int, int, int]]:
    """Bands ``(first row, first column, end row, end column, needed pixels)`` of boxes."""
    bands = []
    for box in boxes.tolist():
        y0, x0, y1, x1 = (math.ceil(side - 0.5) for side in box)
        rows, columns = (max(y0, 0), min(y1, size[0])), (max(x0, 0), min(x1, size[1]))
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            continue
        if columns == (x0, x1):
            bands += [(a, columns[0], b, columns[1], b - a) for a, b in _segments(*rows, width)]
        if rows == (y0, y1):
            bands += [(rows[0], a, rows[1], b, b - a) for a, b in _segments(*columns, width)]
    return bands


def _segments(start: int, stop: int, width: int) -> list[tuple[int, int]]:
    if stop - start < width:
        return [(start, stop)]
    return [(first, first + width) for first in range(start, stop - width + 1, width)]


def consistency_loss(
    warped: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, norm: Literal["rms", "l2"] = "rms"
) -> torch.Tensor:
    """Two views of one image get the same mask (P25): ``‖T(p(x)) - p(T(x))‖``.

    ``sqrt(Σ v d² / Σ v)`` with d the difference and v the weights, over all elements together: P25's
    ‖·‖₂ divided by the root of the number of pixels, so that neither size nor padding changes the scale.
    P25 compares maps of 64 by 64 pixels; resizing and stopping gradients are left to the caller.

    Parameters
    ----------
    warped, target : torch.Tensor
        Probabilities of one shape.
    valid : torch.Tensor
        bool or weights >= 0 of the same shape, 0 where padding is compared.
    norm : {"rms", "l2"}
        The formula, or the plain norm ``sqrt(Σ v d²)``.

    Returns
    -------
    torch.Tensor
        Scalar; 0 where nothing is valid.

    Raises
    ------
    ConfigError
        If `norm` is unknown.
    """
    if norm not in ("rms", "l2"):
        raise ConfigError(f"There is no norm {norm!r}; choose 'rms' or 'l2'.")
    weight = valid.to(warped.dtype)
    squared = (weight * (warped - target) ** 2).sum()
    if norm == "rms":
        count = weight.sum()
        squared = squared / torch.where(count > 0, count, 1.0)
    # The slope of the root at 0 is infinite, and infinity times 0 is NaN.
    differs = squared > 0
    return torch.where(differs, torch.where(differs, squared, 1.0).sqrt(), squared)
