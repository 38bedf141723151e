"""How good masks are where reference masks exist, and what the frozen model does by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_boxprompt.models.encoding import PlanePixels
from napari_boxprompt.prediction import assemble
from napari_boxprompt.supervision.targets import answers
from napari_boxprompt.views import GRID, View, tile_views

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box
    from napari_boxprompt.images import Normalization
    from napari_boxprompt.models.encoding import Encoder

__all__ = ["assd", "dice", "no_prompt_mask", "oracle_mask", "summary"]


def dice(predicted: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]) -> float:
    """Dice coefficient ``2 |A ∩ B| / (|A| + |B|)`` of two masks; 1 where both are empty."""
    total = int(predicted.sum()) + int(reference.sum())
    return 1.0 if total == 0 else 2.0 * int((predicted & reference).sum()) / total


def assd(predicted: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]) -> float:
    """Average symmetric surface distance of two masks, in pixels.

    Returns
    -------
    float
        0 where both are empty; the diagonal of the plane where one of them is, which is the worst a
        distance can be.
    """
    edges = [mask & ~ndimage.binary_erosion(mask, border_value=0) for mask in (predicted, reference)]
    counts = [int(edge.sum()) for edge in edges]
    if not all(counts):
        return 0.0 if not any(counts) else float(np.hypot(*predicted.shape))
    to_reference, to_predicted = (ndimage.distance_transform_edt(~edge) for edge in reversed(edges))
    return float((to_reference[edges[0]].sum() + to_predicted[edges[1]].sum()) / sum(counts))


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation, 5th and 50th percentile of figures of planes."""
    array = np.asarray(values, float)
    return {
        "mean": float(array.mean()),
        "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        "p5": float(np.percentile(array, 5)),
        "p50": float(np.percentile(array, 50)),
    }


def oracle_mask(
    encoder: Encoder,
    values: npt.NDArray[np.generic],
    normalization: Normalization,
    tile: float | None,
    boxes: Sequence[Box],
) -> npt.NDArray[np.bool_]:
    """Union of the frozen model's masks when it is given the true boxes.

    Works at the same scale and on the same tiles as a prediction, so that the two differ in the
    prompts alone. In a tile a box is cut to what the tile shows of it.

    Parameters
    ----------
    encoder : Encoder
        Frozen model.
    values : numpy.ndarray
        Pixels ``(H, W, C)``.
    normalization, tile
        As in the trained model.
    boxes : sequence of Box
        True boxes.
    """
    pixels = PlanePixels(values, normalization)
    array = np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)

    def maps(view: View) -> torch.Tensor:
        cut = np.clip(view.boxes_to_grid(array), 0, GRID)
        seen = ((cut[:, 2:] - cut[:, :2]) >= 1).all(axis=1)
        if not seen.any():
            return torch.full((1, GRID, GRID), -8.0)
        embedding = encoder.encode(encoder.inputs(pixels, [view]))[0]
        return answers(encoder.frozen, embedding, view, array[seen]).logits.amax(dim=0, keepdim=True)

    mask, _ = assemble(pixels.shape, tile_views(pixels.shape, tile), maps, 1, exclusive=True)
    return mask.astype(bool)


def no_prompt_mask(
    encoder: Encoder, values: npt.NDArray[np.generic], normalization: Normalization, tile: float | None
) -> npt.NDArray[np.bool_]:
    """Mask of the frozen model without any prompt, at the same scale and on the same tiles."""
    pixels = PlanePixels(values, normalization)

    def maps(view: View) -> torch.Tensor:
        embedding = encoder.encode(encoder.inputs(pixels, [view])).float().to(encoder.device)
        with torch.no_grad():
            return encoder.frozen.decode(embedding, *encoder.frozen.no_prompt(1))[0][0].float().cpu()

    mask, _ = assemble(pixels.shape, tile_views(pixels.shape, tile), maps, 1, exclusive=True)
    return mask.astype(bool)
