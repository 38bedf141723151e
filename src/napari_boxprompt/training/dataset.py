"""Boxed planes as encoded views with their supervision on the grid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_boxprompt.events import Progress
from napari_boxprompt.models.encoding import PlanePixels, small_image
from napari_boxprompt.supervision.known import mask_labels
from napari_boxprompt.supervision.targets import ClassTargets, PlaneTargets, pseudo_labels
from napari_boxprompt.training.emptied import emptied
from napari_boxprompt.training.holdout import NO_PAST, Past
from napari_boxprompt.training.plan import make_plan
from napari_boxprompt.views import View, perturbed

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images, Normalization
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.training.plan import Plan

__all__ = ["Dataset", "Sample", "build_dataset", "object_areas"]


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
    emptied : list of list of Sample
        The same of planes whose objects are painted over.
    held : list of Sample
        Views of held-out boxed planes, as they are.
    planes : list of PlaneTargets
        Supervision of the planes trained on.
    held_planes : tuple of PlaneId
        Planes that are held out.
    left_out : int
        How many planes are neither learnt from nor held out; see `Plan`.
    pixel_types : set of str
        Number types of the pixels that were read, as NumPy calls them.
    """

    groups: list[list[Sample]] = field(default_factory=list)
    emptied: list[list[Sample]] = field(default_factory=list)
    held: list[Sample] = field(default_factory=list)
    planes: list[PlaneTargets] = field(default_factory=list)
    held_planes: tuple[PlaneId, ...] = ()
    left_out: int = 0
    pixel_types: set[str] = field(default_factory=set)


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
    builder = _Builder(boxes, config, encoder, normalization, plan, rng)
    for plane in plan.bases:
        yield from builder.add(plane, images.read(plane), (masks or {}).get(plane))
    return builder.data


class _Builder:
    """Encodes one plane after the other as a plan says; for its words see `build_dataset`."""

    def __init__(
        self,
        boxes: BoxSet,
        config: TrainConfig,
        encoder: Encoder,
        normalization: Normalization,
        plan: Plan,
        rng: np.random.Generator,
    ) -> None:
        self._boxes, self._config, self._encoder = boxes, config, encoder
        self._normalization, self._plan, self._rng = normalization, plan, rng
        self._count = itertools.count(1)
        self.data = Dataset(held_planes=tuple(plan.held), left_out=plan.left_out)

    def _told(self, what: str) -> Progress:
        return Progress("encode", next(self._count), self._plan.encodings, what)

    def add(
        self, plane: PlaneId, raw: npt.NDArray[Any], mask: npt.NDArray[np.integer] | None
    ) -> Generator[Progress, None, None]:
        """Add a plane, and what becomes of it when it is emptied."""
        self.data.pixel_types.add(raw.dtype.name)
        pixels, views, encoded = PlanePixels(raw, self._normalization), self._plan.bases[plane], []
        for view in views:
            encoded.append(_Encoded.make(view, pixels, self._encoder))
            yield self._told(str(plane))
        targets = _plane_targets(plane, pixels.shape, encoded, self._boxes, self._config, self._encoder, mask)
        samples = [item.sample(targets) for item in encoded]
        if plane in self._plan.held:
            self.data.held += samples
            return
        self.data.planes.append(targets)
        for sample in samples:
            yield from self._add_group(self.data.groups, sample, pixels, self._plan.extra)
        if plane in self._plan.empty:
            pixels = PlanePixels(emptied(raw, self._boxes, plane, views[0], self._rng), self._normalization)
            nothing = PlaneTargets(plane, pixels.shape, ((),) * len(self._boxes.classes), complete=True)
            whole = _Encoded.make(View.whole(pixels.shape), pixels, self._encoder)
            yield self._told(f"{plane}, emptied")
            yield from self._add_group(self.data.emptied, whole.sample(nothing), pixels, 1)

    def _add_group(
        self, groups: list[list[Sample]], sample: Sample, pixels: PlanePixels, extra: int
    ) -> Generator[Progress, None, None]:
        """Add a view and as many changed ones."""
        group = [sample]
        for _ in range(extra):
            view = perturbed(sample.view, self._config.augment, self._rng, mirror=self._plan.mirror)
            group.append(_Encoded.make(view, pixels, self._encoder).sample(sample.plane))
            yield self._told(f"{sample.plane.plane}, augmented")
        groups.append(group)


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
