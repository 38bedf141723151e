"""Planes with their objects painted over: what an image looks like on which there is nothing.

People draw boxes where there are objects. A model that has seen no other images calls noise, and the planes
above and below the objects, an object too. A complete plane says which of its pixels are background, and from
these an image can be made that has nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_boxprompt.supervision.targets import on_grids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.images import Images
    from napari_boxprompt.views import Region, View

__all__ = ["emptied", "planes_to_empty"]

SEVERAL = 3
"""Boxes that a plane must have. An organ is why its image was taken: without it, there is no such image."""

LEAST_BACKGROUND = 0.1
"""Part of a view; less does not tell what background looks like."""

RIM = 0.1
"""Part of the sides of a box, round it: objects shine beyond their boxes."""

SMOOTH = 1 / 16
"""Part of the longer side of a view. What is larger counts as brightness that changes slowly, the rest as
noise."""


def planes_to_empty(
    images: Images,
    boxes: BoxSet,
    bases: Mapping[PlaneId, Sequence[View]],
    trained: Sequence[PlaneId],
    share: float,
    rng: np.random.Generator,
) -> list[PlaneId]:
    """Complete planes of which an emptied view is learnt too; none where a view without objects is known.

    Only those with several objects.

    Parameters
    ----------
    images, boxes
        What is learnt from.
    bases : mapping of PlaneId to sequence of View
        Views of each plane.
    trained : sequence of PlaneId
        Planes that are not held out.
    share : float
        Planes that are emptied, as a part of the views that are learnt from; at least one, unless it is 0.
    rng : numpy.random.Generator
        Chooses.
    """
    complete = [plane for plane in trained if boxes.planes[plane].complete]
    if share == 0 or any(_shows_nothing(boxes, plane, bases[plane]) for plane in complete):
        return []
    count = max(1, round(share * sum(len(bases[plane]) for plane in trained)))
    chosen: list[PlaneId] = []
    dense = [plane for plane in complete if len(boxes.on(plane)) >= SEVERAL]
    for plane in (dense[i] for i in rng.permutation(len(dense))):
        region = bases[plane][0].region(images.shape(plane), margin=0)
        if len(chosen) < count and _background(boxes, plane, region).mean() >= LEAST_BACKGROUND:
            chosen.append(plane)
    return chosen


def _shows_nothing(boxes: BoxSet, plane: PlaneId, views: Sequence[View]) -> bool:
    """Return whether one of the views has no part of a box."""
    drawn = np.array([box.as_tuple() for box in boxes.on(plane)], float).reshape(-1, 4)
    return any(not (seen > 0).any(axis=1).all() for _, seen in on_grids(drawn, views))


def _background(boxes: BoxSet, plane: PlaneId, region: Region) -> npt.NDArray[np.bool_]:
    """Return which pixels of a part of a complete plane lie outside all boxes, and not close to one."""
    top, left, bottom, right = region
    found = np.ones((bottom - top, right - left), bool)
    for y0, x0, y1, x1 in (box.as_tuple() for box in boxes.on(plane)):
        dy, dx = RIM * (y1 - y0), RIM * (x1 - x0)
        rows = slice(max(0, int(y0 - dy) - top), max(0, int(np.ceil(y1 + dy)) - top))
        found[rows, max(0, int(x0 - dx) - left) : max(0, int(np.ceil(x1 + dx)) - left)] = False
    return found


def emptied(
    pixels: npt.NDArray[Any], boxes: BoxSet, plane: PlaneId, view: View, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Paint over the boxed objects: with the brightness of the background around them, and its noise.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, C)
        A complete plane.
    boxes : BoxSet
        With all objects of the plane.
    plane : PlaneId
        Which plane.
    view : View
        What is wanted of it.
    rng : numpy.random.Generator
        Chooses the noise.

    Returns
    -------
    ndarray, shape (h, w, C)
        What the view sees of the plane, in the same type and at the same scale.
    """
    y0, x0, y1, x1 = region = view.region(pixels.shape[:2], margin=0)
    part = pixels[y0:y1, x0:x1]
    known = _background(boxes, plane, region) & np.isfinite(part).all(axis=2)
    if not known.any():  # as where all but the objects was cut out of the image
        return np.zeros_like(part)
    smooth = _smooth(part, known)
    noise = (part - smooth)[known]
    result = np.where(known[..., None], part, smooth)
    result[~known] += noise[rng.integers(len(noise), size=int((~known).sum()))]
    result = result.clip(part[known].min(), part[known].max())
    return (result if part.dtype.kind == "f" else np.round(result)).astype(part.dtype)


def _smooth(pixels: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Slow changes of the brightness of known pixels, their mean far from all of these.

    A normalised convolution (Knutsson and Westin, CVPR 1993) of what deviates from the mean.
    """
    sigma = SMOOTH * max(known.shape)
    mean = pixels[known].mean(axis=0, dtype=np.float64)
    weight = gaussian_filter(known.astype(np.float32), sigma)[..., None] + 1e-3
    deviation = np.where(known[..., None], pixels - mean, 0.0).astype(np.float32)
    return np.asarray(mean + gaussian_filter(deviation, (sigma, sigma, 0)) / weight, np.float32)
