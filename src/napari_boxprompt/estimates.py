"""How long a training will take on this machine."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.boxes import Box, BoxSet
from napari_boxprompt.events import Finished, Progress
from napari_boxprompt.formats import align
from napari_boxprompt.images import Normalization, open_images
from napari_boxprompt.models import EmbeddingCache
from napari_boxprompt.models.encoding import Encoder, PlanePixels
from napari_boxprompt.training import fit
from napari_boxprompt.training.plan import make_plan, working_tile
from napari_boxprompt.views import GRID, View, tile_views

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images
    from napari_boxprompt.prompting import PromptModel

__all__ = ["Timings", "estimate_prediction", "estimate_seconds", "measure_timings"]

QUICK = 3.0
"""Seconds below which work is timed twice: the first time is cold, and may be several times slower."""

SCALE = Normalization(low=(0.0,), high=(255.0,))


@dataclass(frozen=True)
class Timings:
    """Seconds that the parts of a training take.

    Parameters
    ----------
    encode : float
        One view through the encoder.
    step : float
        One training step of one class.
    box : float
        What the frozen model makes of one drawn box.
    """

    encode: float
    step: float
    box: float = 0.0


def measure_timings(encoder: Encoder, config: TrainConfig) -> Timings:
    """Time the parts of a training on random pixels, in a few seconds.

    Nothing of it gets into the cache of `encoder`.

    Parameters
    ----------
    encoder : Encoder
        Frozen model.
    config : TrainConfig
        Settings; what counts is the generator, the batch and the loss.
    """
    twin = Encoder(encoder.frozen, encoder.fabric, EmbeddingCache(None))
    first, second = np.random.default_rng(0).integers(0, 256, (2, GRID, GRID), np.uint8)
    seen, encode = first, _time_encoding(twin, first)
    if encode < QUICK:
        seen, encode = second, _time_encoding(twin, second)
    box, step = _time_training(twin, seen, config)
    return Timings(encode, step, box)


def _time_encoding(encoder: Encoder, values: npt.NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    pixels = PlanePixels(values[..., None], SCALE)
    encoder.encode(encoder.inputs(pixels, [View.whole(pixels.shape)]))
    return time.perf_counter() - started


def _time_training(
    encoder: Encoder, values: npt.NDArray[np.uint8], config: TrainConfig
) -> tuple[float, float]:
    """Seconds for a box and for a step, from a training on two planes that are encoded already."""
    images = open_images(np.stack([values, values]), rgb=False)
    boxes = BoxSet(tuple(Box(at, at, at + 64, at + 64, plane) for plane in images.planes for at in (16, 144)))
    few = {
        "steps": 2,
        "validate_every": 2,
        "renew": 0.0,
        "hold_out": 0.0,
        "max_encodings": 2,
        "tile": "whole",
    }
    run = fit(images, boxes.complete(), config.model_copy(update=few), encoder, SCALE)
    seconds, clock = list[float](), time.perf_counter()
    for event in run:
        if isinstance(event, Finished) or (isinstance(event, Progress) and event.phase == "train"):
            seconds.append(time.perf_counter() - clock)
            clock = time.perf_counter()
            if len(seconds) == 3 or (len(seconds) == 2 and seconds[1] >= QUICK):
                break
    run.close()
    return seconds[0] / len(boxes), seconds[-1]


def estimate_seconds(images: Images, boxes: BoxSet, config: TrainConfig, timings: Timings) -> float:
    """Seconds that a training will take; what the cache knows already will make it shorter.

    No pixels are read: the work follows from boxes and image sizes by the plan that a training makes.

    Parameters
    ----------
    images, boxes, config
        As for `napari_boxprompt.api.start_training`.
    timings : Timings
        From `measure_timings` on this machine, with the same frozen model.

    Raises
    ------
    BoxError
        Boxes that do not fit the images, or lie on fewer than two planes.
    """
    boxes = align(boxes, images)
    tile = working_tile(boxes, images, config)
    plan = make_plan(images, boxes, config, tile, np.random.default_rng(config.seed))
    steps = config.steps * timings.step * len(boxes.classes)
    boxed = sum(len(boxes.on(plane)) for plane in plan.bases)
    return plan.encodings * timings.encode + boxed * timings.box + steps


def estimate_prediction(
    images: Images, planes: Sequence[PlaneId], model: PromptModel, timings: Timings
) -> float:
    """Seconds that segmenting planes will take; what the cache knows already will make it shorter.

    Parameters
    ----------
    images : Images
        Where the planes are; no pixels are read.
    planes : sequence of PlaneId
        The planes.
    model : PromptModel
        What segments them.
    timings : Timings
        From `measure_timings` on this machine, with the same frozen model.

    Notes
    -----
    A view is encoded once and decoded for each class; a second look decodes about as much again. Decoding
    takes as long as what the frozen model makes of one box.
    """
    shapes = Counter(images.shape(plane) for plane in planes)
    views = sum(
        number * sum(map(len, tile_views(shape, model.tile_for(shape)))) for shape, number in shapes.items()
    )
    decodings = len(model.classes) * (2 if model.refines else 1)
    return views * (timings.encode + decodings * timings.box)
