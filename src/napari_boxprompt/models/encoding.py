"""From pixels to embeddings, each computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_boxprompt.models.cache import EmbeddingCache, embedding_key
from napari_boxprompt.views import GRID, View, sample_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from lightning_fabric import Fabric

    from napari_boxprompt.images import Normalization
    from napari_boxprompt.models.base import FrozenModel

__all__ = ["Encoder", "PlanePixels", "small_image"]


SEEN = 4
"""Views of a plane that are remembered, for box after box drawn on it; one takes 0.8 MB."""


class PlanePixels:
    """Pixels of one plane, normalised piece by piece so that a large plane stays in its own type.

    Parameters
    ----------
    pixels : numpy.ndarray
        ``(H, W, C)`` of any type.
    normalization : Normalization
        Intensity range of the dataset.
    """

    def __init__(self, pixels: npt.NDArray[np.generic], normalization: Normalization) -> None:
        self.shape: tuple[int, int] = (pixels.shape[0], pixels.shape[1])
        self._pixels = pixels
        self._normalization = normalization
        self._seen: dict[tuple[View, int], torch.Tensor] = {}

    def _read(self, region: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
        y0, x0, y1, x1 = region
        return self._normalization.apply(self._pixels[y0:y1, x0:x1])

    def see(self, view: View, size: int) -> torch.Tensor:
        """Return what a view sees, ``(3, size, size)`` in 0..1; the last few are remembered."""
        key = (view, size)
        if key not in self._seen:
            self._seen[key] = sample_view(self._read, self.shape, view, size)
            while len(self._seen) > SEEN:
                del self._seen[next(iter(self._seen))]
        return self._seen[key]


class Encoder:
    """Encodes views with a frozen model and remembers the embeddings.

    Embeddings are held as float16 whether they come from the cache or not, so a result never depends
    on what was cached.

    Parameters
    ----------
    frozen : FrozenModel
        Model whose encoder is used.
    fabric : lightning_fabric.Fabric
        Gives the number format of the computation.
    cache : EmbeddingCache
        Where embeddings are kept.
    """

    def __init__(self, frozen: FrozenModel, fabric: Fabric, cache: EmbeddingCache | None = None) -> None:
        self.frozen = frozen
        self.fabric = fabric
        self.cache = cache if cache is not None else EmbeddingCache(None)
        self.precision = str(fabric._precision.precision)

    @property
    def device(self) -> torch.device:
        """Device of the frozen model."""
        return self.frozen.device

    def inputs(self, pixels: PlanePixels, views: Sequence[View]) -> list[torch.Tensor]:
        """Model inputs ``(3, S, S)`` of views of one plane."""
        return [pixels.see(view, self.frozen.info.input_size) for view in views]

    def key(self, image: torch.Tensor) -> str:
        """Name in the cache of a model input; it says all that decides the embedding."""
        return embedding_key(self.frozen.info.sha256, self.precision, image)

    def encode(self, inputs: Sequence[torch.Tensor], keys: Sequence[str] | None = None) -> torch.Tensor:
        """Embeddings of model inputs.

        Parameters
        ----------
        inputs : sequence of torch.Tensor
            Each ``(3, S, S)`` in 0..1.
        keys : sequence of str, optional
            Their names in the cache, where they are known already.

        Returns
        -------
        torch.Tensor
            ``(B, 256, 64, 64)`` float16 on the CPU.
        """
        if keys is None:
            keys = [self.key(image) for image in inputs]
        found = [self.cache.get(key) for key in keys]
        missing = [i for i, embedding in enumerate(found) if embedding is None]
        # One image at a time on the CPU: batches are no faster there, and the composition of a batch
        # would change the last bits of a result.
        step = 1 if self.device.type == "cpu" else 8
        for start in range(0, len(missing), step):
            chosen = missing[start : start + step]
            batch = torch.stack([inputs[i] for i in chosen]).to(self.device)
            with torch.no_grad(), self.fabric.autocast():
                embeddings = self.frozen.encode(batch).to(torch.float16).cpu()
            for i, embedding in zip(chosen, embeddings, strict=True):
                found[i] = embedding.clone()
                self.cache.put(keys[i], embedding.clone())
        return torch.stack([embedding for embedding in found if embedding is not None])


def small_image(inputs: torch.Tensor) -> torch.Tensor:
    """Model inputs ``(B, 3, S, S)`` at the size a prompt generator sees, ``(B, 3, 256, 256)``."""
    if inputs.shape[-1] == GRID:
        return inputs
    return F.interpolate(inputs, size=(GRID, GRID), mode="area")
