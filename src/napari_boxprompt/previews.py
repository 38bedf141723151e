"""What can be shown before a training: the frozen model's mask for each drawn box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.events import Progress
from napari_boxprompt.models.encoding import PlanePixels
from napari_boxprompt.supervision.targets import assign, pseudo_labels
from napari_boxprompt.training.dataset import working_tile
from napari_boxprompt.views import ideal_tile, tile_views

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images, Normalization
    from napari_boxprompt.models.encoding import Encoder

__all__ = ["boxes_preview", "encode_plane", "preview_tile"]

STAY = 1.4
"""A tile is kept while the one that fits the boxes best differs by less than this factor."""


def preview_tile(
    boxes: BoxSet, images: Images, previous: float | None, config: TrainConfig | None = None
) -> float | None:
    """Side of the tile that box previews work with, None for whole images.

    It follows the rule of a training (`views.choose_tile`), but slowly: each new tile means that the
    plane has to be encoded again, so one more box must not change it.

    Parameters
    ----------
    boxes : BoxSet
        Drawn boxes; those on planes that are not among the images do not count.
    images : Images
        Gives the sizes of the planes.
    previous : float or None
        What this function gave before; None at first.
    config : TrainConfig, optional
        Settings; a tile that they prescribe is taken.
    """
    if config is not None and config.tile != "auto":
        return working_tile(boxes, images, config)
    here = boxes.restrict(plane for plane in boxes.planes if plane in images)
    if not here.boxes:
        return previous
    longest = float(np.median([max(images.shape(plane)) for plane in here.boxed_planes]))
    sides = [box.area**0.5 for box in here.boxes]
    wanted = min(ideal_tile(sides), longest)
    if 1 / STAY <= wanted / (longest if previous is None else previous) <= STAY:
        return previous
    return None if wanted >= 0.8 * longest else wanted


def encode_plane(
    encoder: Encoder, values: npt.NDArray[np.generic], normalization: Normalization, tile: float | None
) -> Iterator[Progress]:
    """Encode a plane ahead, so that previews and predictions on it need not wait.

    Parameters
    ----------
    encoder : Encoder
        Keeps what is computed in its cache.
    values : numpy.ndarray
        Pixels ``(H, W, C)`` of the plane.
    normalization, tile
        As they will be used.

    Yields
    ------
    Progress
        One for each tile; closing the iterator stops.
    """
    pixels = PlanePixels(values, normalization)
    views = [view for row in tile_views(pixels.shape, tile) for view in row]
    for done, view in enumerate(views, start=1):
        encoder.encode(encoder.inputs(pixels, [view]))
        yield Progress("encode", done, len(views))


def boxes_preview(
    encoder: Encoder,
    values: npt.NDArray[np.generic],
    normalization: Normalization,
    boxes: BoxSet,
    plane: PlaneId,
    tile: float | None,
) -> npt.NDArray[np.uint8]:
    """Class mask that the frozen model gives for the drawn boxes of a plane: what a training learns from.

    Only tiles in which boxes lie are encoded, and a box gives the same mask alone as with others.

    Parameters
    ----------
    encoder : Encoder
        Frozen model.
    values : numpy.ndarray
        Pixels ``(H, W, C)`` of the plane.
    normalization : Normalization
        Intensity range of the dataset.
    boxes : BoxSet
        Drawn boxes; those on other planes do not count, those across the border are cut there.
    plane : PlaneId
        The plane.
    tile : float or None
        Working tile, from `preview_tile`.

    Returns
    -------
    numpy.ndarray
        uint8 ``(H, W)``: 0 nothing, k + 1 class k. Small boxes lie on top of large ones, and of equal
        ones the later on top.
    """
    pixels = PlanePixels(values, normalization)
    canvas = np.zeros(pixels.shape, np.uint8)
    here = boxes.restrict([plane]).clipped({plane: pixels.shape})
    drawn = [box for box in here.boxes if box.label in here.classes]
    if not drawn:
        return canvas
    tiles = [view for row in tile_views(pixels.shape, tile) for view in row]
    views = [tiles[i] for i in np.unique(assign(np.array([box.as_tuple() for box in drawn], float), tiles))]
    embeddings = encoder.encode(encoder.inputs(pixels, views))
    labels = pseudo_labels(encoder.frozen, views, embeddings, here.with_boxes(drawn), plane)
    found = {
        box: (k + 1, label)
        for k, name in enumerate(here.classes)
        for box, label in zip(here.on(plane, name), labels[k], strict=True)
    }
    for box in sorted(drawn, key=lambda box: -box.area):
        number, label = found[box]
        y0, x0, y1, x1 = label.region
        canvas[y0:y1, x0:x1][label.probability > 0.5] = number
    return canvas
