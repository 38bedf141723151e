"""What can be shown before a training: the frozen model's mask for each drawn box."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from skimage.measure import regionprops

from napari_boxprompt.events import Progress
from napari_boxprompt.instances import Instance
from napari_boxprompt.prediction import Prediction
from napari_boxprompt.supervision.targets import assign, pseudo_labels
from napari_boxprompt.training.plan import working_tile
from napari_boxprompt.views import View, ideal_tile, tile_views

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images
    from napari_boxprompt.models.encoding import Encoder, PlanePixels
    from napari_boxprompt.supervision.targets import BoxLabel

__all__ = ["BoxMasks", "boxes_prediction", "boxes_preview", "encode_plane", "is_encoded", "preview_tile"]

BoxMasks: TypeAlias = "dict[tuple[str, View, tuple[float, float, float, float]], npt.NDArray[np.bool_]]"
"""Masks by what the frozen model saw, where that lies, and the box; see `boxes_preview`."""

MOST_BYTES = 256 << 20
"""Of masks that are remembered; beyond it the oldest are forgotten."""

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


def encode_plane(encoder: Encoder, pixels: PlanePixels, tile: float | None) -> Iterator[Progress]:
    """Encode a plane ahead, so that previews and predictions on it need not wait.

    Parameters
    ----------
    encoder : Encoder
        Keeps what is computed in its cache.
    pixels : PlanePixels
        The plane, with the brightness that will be used.
    tile : float or None
        Working tile, from `preview_tile`.

    Yields
    ------
    Progress
        One for each tile; closing the iterator stops.
    """
    views = [view for row in tile_views(pixels.shape, tile) for view in row]
    for done, view in enumerate(views, start=1):
        encoder.encode(encoder.inputs(pixels, [view]))
        yield Progress("encode", done, len(views))


def is_encoded(
    encoder: Encoder, pixels: PlanePixels, boxes: BoxSet, plane: PlaneId, tile: float | None
) -> bool:
    """Whether `boxes_preview` needs the decoder only; the parameters are its."""
    drawn = boxes.restrict([plane]).clipped({plane: pixels.shape}).boxes
    if not drawn:
        return True
    tiles = [view for row in tile_views(pixels.shape, tile) for view in row]
    best = assign(np.array([box.as_tuple() for box in drawn], float), tiles).tolist()
    inputs = encoder.inputs(pixels, [tiles[i] for i in sorted(set(best))])
    return all(encoder.cache.get(encoder.key(image)) is not None for image in inputs)


def boxes_preview(
    encoder: Encoder,
    pixels: PlanePixels,
    boxes: BoxSet,
    plane: PlaneId,
    tile: float | None,
    memory: BoxMasks | None = None,
) -> npt.NDArray[np.uint8]:
    """Class mask that the frozen model gives for the drawn boxes of a plane: what a training learns from.

    Only tiles in which boxes lie are encoded, and a box gives the same mask alone as with others.

    Parameters
    ----------
    encoder : Encoder
        Frozen model.
    pixels : PlanePixels
        The plane, with the intensity range of the dataset.
    boxes : BoxSet
        Drawn boxes; those on other planes do not count, those across the border are cut there.
    plane : PlaneId
        The plane.
    tile : float or None
        Working tile, from `preview_tile`.
    memory : dict, optional
        Empty at first, and given again each time: then only boxes that are new or have moved are worked
        on. One serves all planes, images and settings, and does not grow without end.

    Returns
    -------
    numpy.ndarray
        uint8 ``(H, W)``: 0 nothing, k + 1 class k. Small boxes lie on top of large ones, and of equal
        ones the later on top.
    """
    canvas = np.zeros(pixels.shape, np.uint8)
    here = boxes.restrict([plane]).clipped({plane: pixels.shape})
    drawn = [box for box in here.boxes if box.label in here.classes]
    masks = _masks(encoder, pixels, here.with_boxes(drawn), tile, {} if memory is None else memory)
    for box, mask in sorted(zip(drawn, masks, strict=True), key=lambda pair: -pair[0].area):
        y0, x0 = int(box.y0), int(box.x0)
        canvas[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask] = here.classes.index(box.label) + 1
    return canvas


def boxes_prediction(
    encoder: Encoder, pixels: PlanePixels, boxes: BoxSet, plane: PlaneId, tile: float | None
) -> Prediction:
    """Objects that the frozen model makes of the drawn boxes of a plane, as a prediction without a training.

    They are what `boxes_preview` shows, told apart: object n is that of the n-th box.

    Parameters
    ----------
    encoder, pixels, boxes, plane, tile
        See `boxes_preview`.

    Returns
    -------
    Prediction
        One object for each box, except for boxes of which nothing is seen: the frozen model finds nothing in
        them, or smaller ones cover all of it. Small objects lie on top of large ones; where classes may
        overlap, each has a layer of its own. A score is the mean probability of the pixels that are seen.
    """
    here = boxes.restrict([plane]).clipped({plane: pixels.shape})
    here = here.with_boxes(box for box in here.boxes if box.label in here.classes)
    layers = 1 if here.exclusive else len(here.classes)
    mask = np.zeros((layers, *pixels.shape), np.uint8)
    labels, probability = mask.astype(np.uint32), np.zeros(mask.shape, np.float32)
    numbered = enumerate(zip(here.boxes, _labels(encoder, pixels, here, tile), strict=True), start=1)
    for number, (box, label) in sorted(numbered, key=lambda item: -item[1][0].area):
        k, (y0, x0, y1, x1) = here.classes.index(box.label), label.region
        part = (0 if here.exclusive else k, slice(y0, y1), slice(x0, x1))
        free, inside = labels[part] == 0, label.probability > 0.5
        np.maximum(probability[part], label.probability, out=probability[part], where=free)
        probability[part][inside] = label.probability[inside]
        labels[part][inside] = number
        mask[part][inside] = k + 1 if here.exclusive else 1
    seen = [item for k in range(layers) for item in regionprops(labels[k], probability[k])]
    objects = tuple(
        Instance(
            int(item.label),
            here.boxes[item.label - 1].label,
            int(item.area),
            tuple(item.bbox),
            float(item.intensity_mean),
        )
        for item in sorted(seen, key=lambda item: item.label)
    )
    certain = np.rint(255 * probability).astype(np.uint8)
    if here.exclusive:
        mask, labels, certain = mask[0], labels[0], certain[0]
    return Prediction(plane, mask, certain, labels, objects)


def _labels(encoder: Encoder, pixels: PlanePixels, boxes: BoxSet, tile: float | None) -> list[BoxLabel]:
    """What the frozen model makes of each box of a plane, in the order of the boxes."""
    if not boxes.boxes:
        return []
    plane = boxes.boxes[0].plane
    tiles = [view for row in tile_views(pixels.shape, tile) for view in row]
    best = assign(np.array([box.as_tuple() for box in boxes.boxes], float), tiles).tolist()
    views = [tiles[i] for i in sorted(set(best))]
    embeddings = encoder.encode(encoder.inputs(pixels, views))
    made = pseudo_labels(encoder.frozen, views, embeddings, boxes, plane)
    found = {name: iter(labels) for name, labels in zip(boxes.classes, made, strict=True)}
    return [next(found[box.label]) for box in boxes.boxes]


def _masks(
    encoder: Encoder, pixels: PlanePixels, boxes: BoxSet, tile: float | None, memory: BoxMasks
) -> list[npt.NDArray[np.bool_]]:
    """Mask of each box; its first pixel is the one that the corner of the box lies in."""
    drawn = boxes.boxes
    if not drawn:
        return []
    plane = drawn[0].plane
    tiles = [view for row in tile_views(pixels.shape, tile) for view in row]
    best = assign(np.array([box.as_tuple() for box in drawn], float), tiles).tolist()
    inputs = {i: encoder.inputs(pixels, [tiles[i]])[0] for i in sorted(set(best))}
    seen = {i: encoder.key(image) for i, image in inputs.items()}
    keys = {box: (seen[i], tiles[i], box.as_tuple()) for i, box in zip(best, drawn, strict=True)}
    found = {key: memory[key] for key in keys.values() if key in memory}
    new = boxes.with_boxes(box for box in keys if keys[box] not in found)
    if new.boxes:
        needed = sorted({i for i, box in zip(best, drawn, strict=True) if keys[box] not in found})
        views = [tiles[i] for i in needed]
        embeddings = encoder.encode([inputs[i] for i in needed], [seen[i] for i in needed])
        labels = pseudo_labels(encoder.frozen, views, embeddings, new, plane)
        for name, made in zip(new.classes, labels, strict=True):
            for box, label in zip(new.on(plane, name), made, strict=True):
                found[keys[box]] = label.probability > 0.5
    _remember(memory, found)
    return [found[keys[box]] for box in drawn]


def _remember(memory: BoxMasks, found: BoxMasks) -> None:
    """Put masks at the end of the memory, and forget those at its beginning where they are too large."""
    for key, mask in found.items():
        memory.pop(key, None)
        memory[key] = mask
    size = sum(mask.nbytes for mask in memory.values())
    while size > MOST_BYTES:
        size -= memory.pop(next(iter(memory))).nbytes
