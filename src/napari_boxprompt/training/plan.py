"""What a training will encode: decided from boxes and sizes alone, before any pixels are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.errors import BoxError
from napari_boxprompt.supervision.targets import assign, on_grids
from napari_boxprompt.training.emptied import planes_to_empty
from napari_boxprompt.training.holdout import NO_PAST, Past, choose_held, stable_place
from napari_boxprompt.views import View, choose_tile, tile_views

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence, Set

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images
    from napari_boxprompt.prompting import PromptModel

__all__ = [
    "Plan",
    "check_boxed",
    "make_plan",
    "most_objects",
    "symmetric",
    "working_generator",
    "working_tile",
]

SIDED = 2.5
"""Standard errors that boxes lie off the middle from where on an image has a left and a right."""

MAX_HELD_VIEWS = 12
"""Most views decoded at a validation: it must stay cheap beside the training itself."""


@dataclass(frozen=True)
class Plan:
    """What a training will encode.

    Parameters
    ----------
    bases : dict
        Views of each plane as it is; where there are too many planes, not all are here.
    held : set of PlaneId
        Planes that are held out.
    extra : int
        How many augmented views each view of the other planes gets.
    mirror : bool
        Half of these are mirrored.
    empty : sequence of PlaneId
        Planes of which an emptied view is learnt too, as it is and augmented once.
    left_out : int
        How many planes are neither learnt from nor held out, because there are too many.
    """

    bases: dict[PlaneId, list[View]]
    held: set[PlaneId]
    extra: int
    mirror: bool = False
    empty: Sequence[PlaneId] = ()
    left_out: int = 0

    @property
    def encodings(self) -> int:
        """How many views are encoded in all."""
        each = {plane: 1 if plane in self.held else 1 + self.extra for plane in self.bases}
        return sum(len(views) * each[plane] for plane, views in self.bases.items()) + 2 * len(self.empty)


def working_tile(boxes: BoxSet, images: Images, config: TrainConfig) -> float | None:
    """Side of the working tile in image pixels, None for whole images; see `views.choose_tile`."""
    if isinstance(config.tile, float):
        return config.tile
    if config.tile == "whole":
        return None
    shapes = [images.shape(plane) for plane in boxes.boxed_planes]
    return choose_tile([box.area**0.5 for box in boxes.boxes], shapes)


def working_generator(config: TrainConfig, tile: float | None, start: PromptModel | None = None) -> str:
    """Name of the prompt generator, chosen where the settings say 'auto'.

    A training that goes on from a model keeps that model's. Otherwise whole images get one that sees the
    whole of them and is told the position; on a tile there is no whole to see (decision 0019).

    Parameters
    ----------
    config : TrainConfig
        Settings.
    tile : float or None
        From `working_tile`.
    start : PromptModel, optional
        Model whose weights are the first.
    """
    if config.generator != "auto":
        return config.generator
    if start is not None:
        return start.config.generator
    return "wide" if tile is None else "light"


def most_objects(boxes: BoxSet) -> dict[str, int]:
    """Most boxes of each class on one plane; classes on less than three complete planes are left out.

    Only complete planes can tell that there are no more. That there are several, any plane can.
    """
    complete = [plane for plane, info in boxes.planes.items() if info.complete]
    known = [name for name in boxes.classes if sum(bool(boxes.on(plane, name)) for plane in complete) >= 3]
    return {name: max(len(boxes.on(plane, name)) for plane in boxes.boxed_planes) for name in known}


def symmetric(boxes: BoxSet, images: Images) -> bool:
    """Whether left and right seem to be alike: boxes lie on both sides of the middle.

    A t-test on the mean position of the boxes of each plane, relative to its width. Organs mostly lie on one
    side, cells and what a person has brought into the middle do not. Fewer than five planes do not tell.
    """
    offsets = [
        float(np.mean([(box.x0 + box.x1) / 2 for box in boxes.on(plane)])) / images.shape(plane)[1] - 0.5
        for plane in boxes.boxed_planes
        if boxes.on(plane)
    ]
    if len(offsets) < 5:
        return False
    spread = float(np.std(offsets, ddof=1)) / len(offsets) ** 0.5
    return bool(abs(np.mean(offsets)) < SIDED * max(spread, 1e-6))


def check_boxed(boxes: BoxSet) -> None:
    """Refuse to train on boxes of a single plane, or on none."""
    if len({box.plane for box in boxes.boxes}) < 2:
        raise BoxError("Training needs boxes on at least two planes or images; draw boxes on one more.")


def make_plan(
    images: Images,
    boxes: BoxSet,
    config: TrainConfig,
    tile: float | None,
    rng: np.random.Generator,
    past: Past = NO_PAST,
    accepted: Collection[PlaneId] = (),
) -> Plan:
    """Decide which views a training encodes, from boxes and sizes alone; no pixels are read.

    `past` and `accepted` decide what is held out, see `choose_held`.

    Raises
    ------
    BoxError
        Fewer than two planes with boxes.
    """
    planes = boxes.boxed_planes
    check_boxed(boxes)
    classes = {plane: {box.label for box in boxes.on(plane)} for plane in planes}
    boxed = {plane: names for plane, names in classes.items() if names}
    held = choose_held(boxed, config.hold_out, config.seed, past, accepted)
    most = max(config.max_encodings, len(boxes.classes))
    learnt = _drawn(set(planes) - held, classes, most, config.seed)
    checked = _drawn(held, classes, MAX_HELD_VIEWS, config.seed)
    taken = [plane for plane in planes if plane in learnt or plane in checked]
    bases = {plane: _base_views(boxes, plane, images.shape(plane), tile, rng) for plane in taken}
    for plane in checked:
        bases[plane] = bases[plane][: MAX_HELD_VIEWS // len(checked)]
    trained = [plane for plane in planes if plane in learnt]
    extra = _augmentations(bases, trained, config, rng)
    wanted = config.augment.mirror
    mirror = wanted == "yes" or (wanted == "auto" and symmetric(boxes, images))
    empty = planes_to_empty(images, boxes, bases, trained, config.augment.emptied, rng)
    return Plan(bases, held, extra, mirror, empty, len(planes) - len(held) - len(trained))


def _drawn(
    planes: Iterable[PlaneId], classes: Mapping[PlaneId, Set[str]], most: int, seed: int
) -> set[PlaneId]:
    """So many of the planes at most, first of all one with each class."""
    order = sorted(planes, key=lambda plane: stable_place(plane, seed))
    first = {name: plane for plane in reversed(order) for name in sorted(classes[plane])}
    return set(list(dict.fromkeys([*first.values(), *order]))[:most])


def _base_views(
    boxes: BoxSet, plane: PlaneId, shape: tuple[int, int], tile: float | None, rng: np.random.Generator
) -> list[View]:
    """Tiles of a plane that show a box, and some that are known to be empty."""
    views = [view for row in tile_views(shape, tile) for view in row]
    if len(views) == 1:
        return views
    drawn = np.array([box.as_tuple() for box in boxes.on(plane)], float).reshape(-1, 4)
    shown = [(seen > 0.5).any(axis=1) for _, seen in on_grids(drawn, views)]
    # A box that no tile shows half of, because it is larger, is learnt from where most of it is seen.
    chosen = np.union1d(np.flatnonzero(np.concatenate(shown)), assign(drawn, views))
    if boxes.planes[plane].complete:
        empty = rng.permutation(np.setdiff1d(np.arange(len(views)), chosen))
        chosen = np.sort(np.concatenate([chosen, empty[: max(1, len(chosen) // 4)]]))
    return [views[i] for i in chosen]


def _augmentations(
    bases: dict[PlaneId, list[View]],
    trained: Sequence[PlaneId],
    config: TrainConfig,
    rng: np.random.Generator,
) -> int:
    """How many augmented views each base view gets; drops base views beyond the budget.

    A part of a plane and a changed view of it teach more than two parts as they are.
    """
    count = sum(len(bases[plane]) for plane in trained)
    budget = config.max_encodings / (1 + min(config.augment.views, 1))
    if count > budget:
        # Of all views but one of each plane.
        share = max(0.0, budget - len(trained)) / max(1, count - len(trained))
        for plane in trained:
            views = len(bases[plane])
            chosen = rng.permutation(views)[: 1 + int(share * (views - 1))]
            bases[plane] = [bases[plane][i] for i in np.sort(chosen)]
        count = sum(len(bases[plane]) for plane in trained)
    return min(config.augment.views, max(0, config.max_encodings - count) // count)
