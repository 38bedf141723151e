"""Boxed planes as encoded views with their supervision on the grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_boxprompt.errors import BoxError
from napari_boxprompt.events import Progress
from napari_boxprompt.models.encoding import PlanePixels, small_image
from napari_boxprompt.supervision.targets import (
    ClassTargets,
    PlaneTargets,
    assign,
    mask_labels,
    on_grids,
    pseudo_labels,
)
from napari_boxprompt.training.holdout import NO_PAST, Past, choose_held
from napari_boxprompt.views import View, choose_tile, perturbed, tile_views

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images, Normalization
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.prompting import PromptModel

__all__ = [
    "Dataset",
    "Plan",
    "Sample",
    "build_dataset",
    "check_boxed",
    "make_plan",
    "most_objects",
    "object_areas",
    "symmetric",
    "working_generator",
    "working_tile",
]

SIDED = 2.5
"""Standard errors that boxes lie off the middle from where on an image has a left and a right."""

MAX_HELD_VIEWS = 12
"""Most views decoded at a validation: it must stay cheap beside the training itself."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded view of a boxed plane.

    Parameters
    ----------
    view : View
        What part of the plane it shows.
    embedding : torch.Tensor
        ``(256, 64, 64)`` float16.
    image : torch.Tensor
        ``(3, 256, 256)`` uint8, what the generator sees.
    targets : tuple of ClassTargets
        Supervision of each class.
    plane : PlaneTargets
        Supervision of the plane that it is a view of.
    """

    view: View
    embedding: torch.Tensor
    image: torch.Tensor
    targets: tuple[ClassTargets, ...]
    plane: PlaneTargets

    def of(self, plane: PlaneTargets) -> Sample:
        """Return the same view of the plane with other supervision."""
        return replace(self, targets=plane.render(self.view), plane=plane)


@dataclass
class Dataset:
    """Samples of a training.

    Parameters
    ----------
    groups : list of list of Sample
        Views that show the same part of a plane: as it is, then augmented.
    held : list of Sample
        Views of held-out boxed planes, as they are.
    planes : list of PlaneTargets
        Supervision of the planes trained on.
    held_planes : tuple of PlaneId
        Planes that are held out.
    """

    groups: list[list[Sample]] = field(default_factory=list)
    held: list[Sample] = field(default_factory=list)
    planes: list[PlaneTargets] = field(default_factory=list)
    held_planes: tuple[PlaneId, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a training will encode.

    Parameters
    ----------
    bases : dict
        Views of each plane as it is.
    held : set of PlaneId
        Planes that are held out.
    extra : int
        How many augmented views each view of the other planes gets.
    mirror : bool
        Half of these are mirrored.
    """

    bases: dict[PlaneId, list[View]]
    held: set[PlaneId]
    extra: int
    mirror: bool = False

    @property
    def encodings(self) -> int:
        """How many views are encoded in all."""
        return sum(
            len(views) * (1 if plane in self.held else 1 + self.extra) for plane, views in self.bases.items()
        )


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


def object_areas(data: Dataset, classes: Sequence[str]) -> dict[str, list[float]]:
    """5th, 50th and 95th percentile of the object area by class, in pixels, from the pseudo-labels."""
    found = {
        name: [label for plane in data.planes for label in plane.labels[k] if label.whole]
        for k, name in enumerate(classes)
    }
    return {
        name: np.percentile([label.fill * label.area for label in labels], [5, 50, 95]).tolist()
        for name, labels in found.items()
        if labels
    }


def most_objects(boxes: BoxSet) -> dict[str, int]:
    """Most boxes of each class on one complete plane; classes on less than three of these are left out."""
    complete = [plane for plane, info in boxes.planes.items() if info.complete]
    counts = {name: [len(boxes.on(plane, name)) for plane in complete] for name in boxes.classes}
    return {name: max(found) for name, found in counts.items() if sum(map(bool, found)) >= 3}


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


def build_dataset(
    images: Images,
    boxes: BoxSet,
    config: TrainConfig,
    encoder: Encoder,
    normalization: Normalization,
    tile: float | None,
    masks: Mapping[PlaneId, npt.NDArray[np.integer]] | None = None,
    past: Past = NO_PAST,
) -> Generator[Progress, None, Dataset]:
    """Encode boxed planes, no others, and derive their supervision.

    Parameters
    ----------
    images, boxes, config, encoder, normalization, masks
        See `fit`.
    tile, past
        From `working_tile`, and what the training before did.

    Yields
    ------
    Progress
        One for each encoded view.

    Returns
    -------
    Dataset

    Raises
    ------
    BoxError
        Fewer than two planes with boxes.
    """
    rng = np.random.default_rng(config.seed)
    plan = make_plan(images, boxes, config, tile, rng, past, masks or ())
    data, done, total = Dataset(held_planes=tuple(plan.held)), 0, plan.encodings
    for plane, views in plan.bases.items():
        pixels = PlanePixels(images.read(plane), normalization)
        encoded = []
        for view in views:
            encoded.append(_Encoded.make(view, pixels, encoder))
            done += 1
            yield Progress("encode", done, total, str(plane))
        known = (masks or {}).get(plane)
        targets = _plane_targets(plane, pixels.shape, encoded, boxes, config, encoder, known)
        samples = [item.sample(targets) for item in encoded]
        if plane in plan.held:
            data.held += samples
            continue
        data.planes.append(targets)
        for sample in samples:
            group = [sample]
            for _ in range(plan.extra):
                view = perturbed(sample.view, config.augment, rng, mirror=plan.mirror)
                group.append(_Encoded.make(view, pixels, encoder).sample(targets))
                done += 1
                yield Progress("encode", done, total, f"{plane}, augmented")
            data.groups.append(group)
    return data


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
    bases = {plane: _base_views(boxes, plane, images.shape(plane), tile, rng) for plane in planes}
    boxed = [plane for plane in planes if boxes.on(plane)]
    held = choose_held(boxed, config.hold_out, config.seed, past, accepted)
    for plane in held:
        bases[plane] = bases[plane][: max(1, MAX_HELD_VIEWS // len(held))]
    extra = _augmentations(bases, [plane for plane in planes if plane not in held], config, rng)
    wanted = config.augment.mirror
    return Plan(bases, held, extra, wanted == "yes" or (wanted == "auto" and symmetric(boxes, images)))


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A view with its pixels and embedding, before its supervision is known."""

    view: View
    image: torch.Tensor
    embedding: torch.Tensor

    @classmethod
    def make(cls, view: View, pixels: PlanePixels, encoder: Encoder) -> _Encoded:
        inputs = encoder.inputs(pixels, [view])
        image = (small_image(inputs[0][None])[0] * 255).round().to(torch.uint8)
        return cls(view, image, encoder.encode(inputs)[0])

    def sample(self, targets: PlaneTargets) -> Sample:
        return Sample(self.view, self.embedding, self.image, targets.render(self.view), targets)


def _plane_targets(
    plane: PlaneId,
    shape: tuple[int, int],
    encoded: Sequence[_Encoded],
    boxes: BoxSet,
    config: TrainConfig,
    encoder: Encoder,
    mask: npt.NDArray[np.integer] | None,
) -> PlaneTargets:
    if mask is not None:
        labels = mask_labels(mask, boxes, plane)
    else:
        views, embeddings = [item.view for item in encoded], torch.stack([item.embedding for item in encoded])
        labels = pseudo_labels(
            encoder.frozen, views, embeddings, boxes, plane, tight=config.levels == "tight"
        )
    info = boxes.planes[plane]
    return PlaneTargets(plane, shape, labels, info.complete, info.complete_regions, mask is not None)


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
        keep = budget / count
        for plane in trained:
            chosen = rng.permutation(len(bases[plane]))[: max(1, int(keep * len(bases[plane])))]
            bases[plane] = [bases[plane][i] for i in np.sort(chosen)]
        count = sum(len(bases[plane]) for plane in trained)
    return min(config.augment.views, max(0, config.max_encodings - count) // count)
