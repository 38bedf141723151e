"""Boxes whose masks are known: drawn or accepted by the user, or those of a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.supervision.targets import BoxLabel

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId

__all__ = ["class_pixels", "mask_labels"]


def class_pixels(mask: npt.NDArray[np.integer], k: int) -> npt.NDArray[np.bool_]:
    """Pixels of class k in a class mask ``(H, W)``, or ``(K, H, W)`` where classes may overlap."""
    return np.asarray(mask == k + 1 if mask.ndim == 2 else mask[k] > 0)


def mask_labels(
    mask: npt.NDArray[np.integer], boxes: BoxSet, plane: PlaneId
) -> tuple[tuple[BoxLabel, ...], ...]:
    """Boxes of a plane whose masks are known, in the place of `pseudo_labels`.

    Parameters
    ----------
    mask : numpy.ndarray
        ``(H, W)``; value k + 1 is class k of `boxes`, 0 is background. Where classes may overlap,
        ``(K, H, W)`` of 0 and 1.
    boxes : BoxSet
        Boxes of the objects in the mask.
    plane : PlaneId
        The plane.
    """
    return tuple(
        tuple(_known_label(box.as_tuple(), class_pixels(mask, k)) for box in boxes.on(plane, name))
        for k, name in enumerate(boxes.classes)
    )


def _known_label(box: tuple[float, float, float, float], mask: npt.NDArray[np.bool_]) -> BoxLabel:
    region = (int(np.floor(box[0])), int(np.floor(box[1])), int(np.ceil(box[2])), int(np.ceil(box[3])))
    return BoxLabel(box, region, mask[region[0] : region[2], region[1] : region[3]].astype(np.float16))
