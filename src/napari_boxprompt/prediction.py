"""Segmentation without prompts, plane by plane and tile by tile."""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_boxprompt.disagreement import compared, second_view, views_disagree
from napari_boxprompt.errors import BundleError, ImageError
from napari_boxprompt.instances import Instance, split_objects
from napari_boxprompt.models.encoding import PlanePixels, small_image
from napari_boxprompt.refinement import refined
from napari_boxprompt.supervision.losses import cut_at_zero
from napari_boxprompt.views import View, blend_rows, tile_views

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from typing import Any

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.images import Images
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.prompting import PromptModel

__all__ = ["Prediction", "Predictor", "predict_planes"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What was found on one plane.

    Parameters
    ----------
    plane : PlaneId
        Which plane.
    mask : numpy.ndarray
        uint8 ``(H, W)``: 0 background, k + 1 class k. Where classes may overlap: ``(K, H, W)`` of 0
        and 1.
    probability : numpy.ndarray
        uint8, ``(H, W)`` or ``(K, H, W)`` as `mask`: probability of the most probable class (or of
        each), 255 is certain.
    labels : numpy.ndarray
        uint32, shaped as `mask`: number of the object a pixel belongs to.
    objects : tuple of Instance
        Objects by their numbers.
    agreement : float
        How well objects agree with what the frozen model makes of their boxes, and how far that can be
        trusted, in 0..1; nan where nothing was found, or where there is no second look
        (`PromptModel.refines`).
    vector : numpy.ndarray or None
        float32 ``(256,)``: mean of the frozen model's embedding. Planes that look alike have near ones.
    disagreement : float
        How much of what the generator found differs in a second view of the plane, from 0 (both give the
        same) to 1 (nothing in common); nan where it was not measured. See `napari_boxprompt.disagreement`.
    """

    plane: PlaneId
    mask: npt.NDArray[np.uint8]
    probability: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint32]
    objects: tuple[Instance, ...]
    agreement: float = math.nan
    vector: npt.NDArray[np.float32] | None = None
    disagreement: float = math.nan


@dataclass
class _Seen:
    """What the views of a plane tell beside their logits; `compares` asks for a second view of each."""

    compares: bool = False
    agreements: list[float] = field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    comparisons: list[npt.NDArray[np.float64]] = field(default_factory=list)


class Predictor:
    """A trained model on its frozen model, ready for planes.

    Parameters
    ----------
    model : PromptModel
        Trained model.
    encoder : Encoder
        Frozen model that it was trained on.

    Raises
    ------
    BundleError
        The frozen model is another one.
    """

    def __init__(self, model: PromptModel, encoder: Encoder) -> None:
        if model.frozen_sha256 != encoder.frozen.info.sha256:
            raise BundleError(
                f"This model was trained on {model.config.model!r} (weights {model.frozen_sha256[:12]}), "
                f"but {encoder.frozen.info.name!r} (weights {encoder.frozen.info.sha256[:12]}) is loaded; "
                f"load {model.config.model!r} instead, or train again."
            )
        self.model, self.encoder = model, encoder
        self._net = model.network(encoder.frozen)

    def logits(self, pixels: PlanePixels, view: View) -> torch.Tensor:
        """Class logits ``(K, 256, 256)`` of one view of a plane."""
        return self._look(pixels, view, _Seen())

    def _look(self, pixels: PlanePixels, view: View, seen: _Seen) -> torch.Tensor:
        embedding, logits = self._generated(pixels, view)
        if seen.compares:
            # Before the second look: that decodes each object several times, and has a figure of its own.
            _, others = self._generated(pixels, second_view(view))
            first, second = (maps.float().cpu().sigmoid() for maps in (logits, others))
            seen.comparisons.append(compared(first, second, view, pixels.shape))
        if self.model.refines:
            with torch.no_grad(), self.encoder.fabric.autocast():
                single = [self.model.is_single(name, pixels.shape) for name in self.model.classes]
                looks = [
                    refined(self.encoder.frozen, embedding, maps, single=one)
                    for maps, one in zip(logits, single, strict=True)
                ]
            logits = torch.stack([look.logits for look in looks])
            seen.agreements += [look.agreement for look in looks]
        seen.vectors.append(embedding.mean(dim=(1, 2)).cpu().numpy())
        return logits.float().cpu()

    def _generated(self, pixels: PlanePixels, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding ``(256, 64, 64)`` of a view, and what the generator makes of it, ``(K, 256, 256)``."""
        inputs = torch.stack(self.encoder.inputs(pixels, [view]))
        embedding = self.encoder.encode(list(inputs)).float().to(self.encoder.device)
        image = small_image(inputs).to(self.encoder.device)
        with torch.no_grad(), self.encoder.fabric.autocast():
            logits: torch.Tensor = self._net(embedding, image)[0]
        return embedding[0], cut_at_zero(logits, self.model.config.loss.activation)

    def predict(
        self,
        plane: PlaneId,
        values: npt.NDArray[np.generic],
        on_tile: Callable[[int, int], None] | None = None,
        *,
        disagreement: bool = False,
    ) -> Prediction:
        """Segment one plane.

        Parameters
        ----------
        plane : PlaneId
            Name of the plane.
        values : numpy.ndarray
            Its pixels ``(H, W, C)``; a memory map is read tile by tile.
        on_tile : callable, optional
            Called with tiles done and tiles in all.
        disagreement : bool
            Look at each tile in a second view too, and measure `Prediction.disagreement`: it costs one more
            encoding a tile and changes no mask.

        Raises
        ------
        ImageError
            The plane is grey and the model was trained on colours, or the other way round.
        """
        _check_channels(plane, values.shape[2], len(self.model.normalization.low))
        model, pixels = self.model, PlanePixels(values, self.model.normalization)
        rows = tile_views(pixels.shape, model.tile_for(pixels.shape))
        total, done, seen = sum(map(len, rows)), 0, _Seen(compares=disagreement)

        def maps(view: View) -> torch.Tensor:
            nonlocal done
            done += 1
            found = self._look(pixels, view, seen)
            if on_tile is not None:
                on_tile(done, total)
            return found

        mask, probability = assemble(pixels.shape, rows, maps, len(model.classes), model.exclusive)
        labels, objects = self._objects(mask, probability)
        known = [value for value in seen.agreements if not math.isnan(value)]
        agreement = float(np.mean(known)) if known else math.nan
        vector = np.asarray(np.mean(seen.vectors, axis=0), np.float32)
        differing = views_disagree(seen.comparisons)
        return Prediction(plane, mask, probability, labels, tuple(objects), agreement, vector, differing)

    def caution(self, plane: PlaneId, values: npt.NDArray[np.generic]) -> str:
        """Say what may be wrong with the brightness of a plane; nothing where it is as in training.

        The scale of the training images holds for all: the same picture in other numbers is another picture.
        """
        known, scale = self.model.pixel_types, self.model.normalization
        if known and values.dtype.name not in known:
            types = " or ".join(known)
            return (
                f"{plane} has pixels of the type {values.dtype.name}, but the model learnt from {types} and "
                "reads numbers as they are: masks are wrong where they stand for another brightness. Convert "
                f"such images to {types}, or train on some of them."
            )
        if not known and scale.misses(values):
            return (
                f"Almost all pixels of {plane} lie outside the brightness that the model knows, "
                f"{min(scale.low):g} to {max(scale.high):g}, so its masks may be wrong. Convert such images "
                "to the type and the unit of the training images, or train on some of them."
            )
        return ""

    def _objects(
        self, mask: npt.NDArray[np.uint8], probability: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint32], list[Instance]]:
        """Number the objects; where classes may overlap, each in a label image of its own."""
        model = self.model
        if model.exclusive:
            return split_objects(mask, probability, model.classes, model.object_area)
        stacks, found, first = [], list[Instance](), 0
        for k, name in enumerate(model.classes):
            labels, objects = split_objects(mask[k], probability[k], [name], model.object_area)
            labels[labels > 0] += first
            found += [Instance(o.id + first, o.label, o.area, o.box, o.score) for o in objects]
            first += len(objects)
            stacks.append(labels)
        return np.stack(stacks), found


def _check_channels(plane: PlaneId, found: int, known: int) -> None:
    if found != known:
        kinds = {1: "grey", 3: "in colour"}
        advice = "choose one of its channels with --channel" if known == 1 else "train on such images"
        raise ImageError(
            f"{plane} is {kinds.get(found, 'of another kind')} (channels: {found}), but the model learnt "
            f"from images that are {kinds[known]} ({known}); convert it, or {advice}."
        )


def assemble(
    shape: tuple[int, int],
    rows: Sequence[Sequence[View]],
    maps: Callable[[View], torch.Tensor],
    classes: int,
    exclusive: bool,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Class mask and probability of a plane from the logits of its tiles.

    A pixel belongs to a class where its probability is above 0.5; where classes exclude each other,
    to the most probable one.

    Returns
    -------
    mask, probability : numpy.ndarray
        See `Prediction`.
    """
    mask = np.zeros((classes, *shape) if not exclusive else shape, np.uint8)
    probability = np.zeros_like(mask)
    # Logits are clipped before blending so that one overconfident tile cannot outvote its neighbours.
    for y0, band in blend_rows(shape, rows, lambda view: maps(view).clamp(-8.0, 8.0)):
        part = np.s_[y0 : y0 + band.shape[1]]
        certain = 1.0 / (1.0 + np.exp(-band))
        if exclusive:
            best = certain.argmax(axis=0)
            top = np.take_along_axis(certain, best[None], axis=0)[0]
            mask[part] = np.where(top > 0.5, best + 1, 0)
            probability[part] = np.round(top * 255)
        else:
            mask[:, part] = certain > 0.5
            probability[:, part] = np.round(certain * 255)
    return mask, probability


def predict_planes(
    predictor: Predictor,
    images: Images,
    planes: Iterable[PlaneId] | None = None,
    *,
    workers: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
    disagreement: bool = False,
    on_error: Callable[[PlaneId, ImageError], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
    """Segment planes one after the other; closing the iterator stops after the current tile.

    Parameters
    ----------
    predictor : Predictor
        Trained model.
    images : Images
        Where the planes come from.
    planes : iterable of PlaneId, optional
        Which planes; all by default.
    workers : int
        Threads that read planes ahead; the results do not depend on it.
    on_tile, disagreement
        See `Predictor.predict`.
    on_error : callable, optional
        Called with a plane that cannot be read or does not fit the model, and the error. It is then passed
        over; without this, the error ends everything.
    on_warning : callable, optional
        Called once, for the first plane that has a `Predictor.caution`; by default it goes to the log.

    Yields
    ------
    Prediction
        In the order of `planes`.
    """
    warned = False
    wanted = iter(images.planes if planes is None else planes)
    with closing(_read_ahead(images, wanted, workers)) as reading:
        for plane, values in reading:
            try:
                found = predictor.predict(plane, values.result(), on_tile, disagreement=disagreement)
            except ImageError as error:
                if on_error is None:
                    raise
                on_error(plane, error)
            else:
                if not warned and (caution := predictor.caution(plane, values.result())):
                    warned = True
                    (on_warning or _log.warning)(caution)
                yield found


def _read_ahead(
    images: Images, wanted: Iterator[PlaneId], workers: int
) -> Generator[tuple[PlaneId, Future[npt.NDArray[Any]]], None, None]:
    """Give planes with their pixels, or the error of reading them, while the next ones are read."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        reading = [(plane, pool.submit(images.read, plane)) for plane in islice(wanted, max(1, workers))]
        try:
            while reading:
                plane, values = reading.pop(0)
                wait([values])
                reading += [(ahead, pool.submit(images.read, ahead)) for ahead in islice(wanted, 1)]
                yield plane, values
        finally:
            for _, future in reading:
                future.cancel()
