"""What a training step is given: samples drawn by lot, as tensors, and a learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np

    from napari_boxprompt.training.dataset import Dataset, Sample

__all__ = ["draw", "schedule", "tensors"]


def schedule(fraction: float, kind: str) -> float:
    """Learning rate as a fraction of its peak.

    Ours is a short warm-up, then a cosine down to 2 %; that of Gaillochet et al. 2025 a step.

    Parameters
    ----------
    fraction : float
        How much of the training is done, 0..1.
    kind : str
        ``"cosine"`` or ``"step"``.
    """
    if kind == "step":
        return 1.0 if fraction < 0.5 else 0.1
    return min(1.0, (fraction + 0.005) / 0.05) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * fraction)))


def draw(
    data: Dataset, count: int, rng: np.random.Generator, *, paired: bool, emptied: float = 0.0
) -> list[Sample]:
    """`count` samples, in pairs of views that show the same part of a plane where these are compared.

    Each part is with the probability `emptied` one whose objects are painted over, if there are such.
    """
    parts = (count + 1) // 2 if paired else count
    groups = rng.choice(len(data.groups), size=parts, replace=parts > len(data.groups))
    batch: list[Sample] = []
    for group in (data.groups[i] for i in groups):
        if data.emptied and rng.random() < emptied:
            group = data.emptied[rng.integers(len(data.emptied))]
        chosen = rng.choice(len(group), size=2 if paired else 1, replace=len(group) < 2)
        batch += [group[i] for i in chosen]
    return batch[:count]


def tensors(batch: list[Sample], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings ``(B, 256, 64, 64)`` and images ``(B, 3, 256, 256)`` in 0..1 of samples."""
    embedding = torch.stack([sample.embedding for sample in batch]).to(device).float()
    image = torch.stack([sample.image for sample in batch]).to(device).float() / 255
    return embedding, image
