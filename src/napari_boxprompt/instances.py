"""From class masks to objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.measure import regionprops
from skimage.segmentation import watershed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

__all__ = ["Instance", "split_objects"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One predicted object.

    Parameters
    ----------
    id : int
        Its number in the label image.
    label : str
        Class.
    area : int
        Pixels.
    box : tuple of int
        ``(y0, x0, y1, x1)`` half-open pixels.
    score : float
        Mean probability of its pixels, in 0..1.
    """

    id: int
    label: str
    area: int
    box: tuple[int, int, int, int]
    score: float


def split_objects(
    mask: npt.NDArray[np.unsignedinteger],
    probability: npt.NDArray[np.uint8],
    classes: Sequence[str],
    object_area: Mapping[str, Sequence[float]],
) -> tuple[npt.NDArray[np.uint32], list[Instance]]:
    """Number the objects of a class mask.

    Connected regions that are larger than the class's objects usually are (95th percentile of the
    pseudo-labels' area) are cut at their waists by a watershed of the distance to background; specks
    below a quarter of the 5th percentile are left out.

    Parameters
    ----------
    mask : numpy.ndarray
        ``(H, W)``; value k + 1 is class k.
    probability : numpy.ndarray
        ``(H, W)`` uint8, 255 is certain.
    classes : sequence of str
        Class names.
    object_area : mapping
        5th, 50th and 95th percentile of the object area of a class, in pixels.

    Returns
    -------
    labels : numpy.ndarray
        uint32 ``(H, W)``, 0 is background.
    objects : list of Instance
        Objects in the order of their numbers.
    """
    labels = np.zeros(mask.shape, np.uint32)
    objects: list[Instance] = []
    for k, name in enumerate(classes):
        smallest, typical, largest = object_area.get(name, (0.0, np.inf, np.inf))
        regions, _ = ndimage.label(mask == k + 1)
        for part, region in enumerate(ndimage.find_objects(regions), start=1):
            inside = regions[region] == part
            area = int(inside.sum())
            if area < smallest / 4:
                continue
            # Where every pseudo-label was empty there is no usual size.
            pieces = _cut(inside, typical) if area > largest and typical > 0 else inside.astype(np.int32)
            for piece in regionprops(pieces):
                if piece.area < smallest / 4:
                    continue
                y0, x0, y1, x1 = (int(v + region[i % 2].start) for i, v in enumerate(piece.bbox))
                number = len(objects) + 1
                labels[y0:y1, x0:x1][piece.image] = number
                score = float(probability[y0:y1, x0:x1][piece.image].mean()) / 255
                objects.append(Instance(number, name, int(piece.area), (y0, x0, y1, x1), score))
    return labels, objects


def _cut(inside: npt.NDArray[np.bool_], typical: float) -> npt.NDArray[np.int32]:
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    radius = np.sqrt(typical / np.pi)
    smooth = ndimage.gaussian_filter(distance, radius / 6)
    peaks = peak_local_max(
        smooth,
        min_distance=max(1, int(radius * 0.6)),
        threshold_abs=radius * 0.3,
        labels=inside.astype(np.int32),
        exclude_border=False,
    )
    if len(peaks) < 2:
        return inside.astype(np.int32)
    markers = np.zeros(inside.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-smooth, markers, mask=inside), np.int32)
