"""Whether a training was worth it: the new model, the one before and the frozen model, on held-out boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from scipy.special import stdtrit

from napari_boxprompt.evaluation import dice
from napari_boxprompt.events import Progress
from napari_boxprompt.formats import align
from napari_boxprompt.models.encoding import PlanePixels
from napari_boxprompt.prediction import assemble
from napari_boxprompt.project.rounds import Round
from napari_boxprompt.supervision.known import class_pixels
from napari_boxprompt.supervision.targets import answers
from napari_boxprompt.training.holdout import LEARNT, noted_planes, stable_place
from napari_boxprompt.training.validation import box_agreement, surroundings
from napari_boxprompt.views import GRID, View, tile_views

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box, BoxSet, PlaneId
    from napari_boxprompt.images import Images
    from napari_boxprompt.prediction import Predictor
    from napari_boxprompt.prompting import PromptModel

__all__ = ["Judgement", "judge", "round_of"]

MOST_PLANES = 12
"""Planes that are judged on at most: it must stay short beside a training."""

MOST_VIEWS = 24
"""Views that are looked at for all planes together; of a plane with many tiles some boxes are judged."""

LEAST_BOXES = 3
"""Held-out boxes below which two models are not compared."""

CONFIDENCE = 0.975
"""Of the margin, one side."""

_NOTHING = -8.0  # logit of what is not looked at

Contender = Literal["new", "previous", "frozen"]
Masks: TypeAlias = "Mapping[PlaneId, npt.NDArray[np.integer]]"


@dataclass(frozen=True)
class Judgement:
    """What was measured, for all contenders on the same boxes.

    Parameters
    ----------
    planes : tuple of PlaneId
        Held-out planes.
    boxes : int
        Boxes on them that were judged.
    scores, previous, frozen : dict of str to float
        Scores of the new model, of the one before, and of the frozen model given the boxes. ``box_agreement``
        is the mean over the boxes of `validation.box_agreement`, on the masks that a prediction gives.
        ``mask_dice`` is the mean Dice with accepted masks of held-out planes, where there are some; it
        favours the model whose prediction was accepted. Empty where nothing can be said.
    margins : dict of str to float
        For ``"previous"`` and ``"frozen"``: how far the new model may lie from it by the chance of which
        boxes there are. Half of the 95 % interval of the mean difference, box by box (Student's t).
    reason : str
        Why something is missing, for a person; empty where nothing is.
    """

    planes: tuple[PlaneId, ...] = ()
    boxes: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    previous: dict[str, float] = field(default_factory=dict)
    frozen: dict[str, float] = field(default_factory=dict)
    margins: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def judge(
    new: Predictor,
    images: Images,
    boxes: BoxSet,
    previous: Predictor | None = None,
    masks: Masks | None = None,
) -> Generator[Progress, None, Judgement]:
    """Compare a new model with the one before and with the frozen model given the boxes.

    All are measured on the same boxes: those drawn on planes that neither model has learnt from. Each is used
    as a prediction uses it, with its own tiles and brightness. Nothing is trained; planes that a training
    has held out are encoded already.

    Parameters
    ----------
    new : Predictor
        The new model.
    images : Images
        The images.
    boxes : BoxSet
        Boxes drawn by a person. Boxes of objects that a model has outlined favour that model.
    previous : Predictor, optional
        The model of the round before.
    masks : mapping of PlaneId to numpy.ndarray, optional
        Accepted masks, as for `napari_boxprompt.training.fit`, of the classes of the new model.

    Yields
    ------
    Progress
        One for each plane and contender.

    Returns
    -------
    Judgement
    """
    boxes = align(boxes, images)
    planes, rival, reason = _fair_planes(new.model, None if previous is None else previous.model, boxes)
    planes = [plane for plane in planes if plane in images]
    if not planes:
        return Judgement(reason=reason)
    if not rival:
        previous = None
    jury = _Jury(new, previous, images, boxes, masks or {}, max(1, MOST_VIEWS // len(planes)))
    for done, (plane, contender) in enumerate(
        ((plane, contender) for plane in planes for contender in jury.contenders), start=1
    ):
        jury.look(plane, contender)
        yield Progress("evaluate", done, len(planes) * len(jury.contenders), str(plane))
    return jury.judgement(planes, reason)


def _fair_planes(
    new: PromptModel, previous: PromptModel | None, boxes: BoxSet
) -> tuple[list[PlaneId], bool, str]:
    """Planes to judge on, whether the model before can be judged on them, and what a person should know."""
    drawn = {box.label for box in boxes.boxes} & set(new.classes)
    if boxes.boxes and not drawn:
        return [], False, "No box has a class that the model knows."
    learnt = noted_planes(new, LEARNT)
    if learnt is None:
        return [], False, "The model does not say which planes it has learnt from."
    unseen = [plane for plane in boxes.boxed_planes if boxes.on(plane) and plane not in learnt]
    unseen = sorted(unseen, key=lambda plane: stable_place(plane, 0))
    if not unseen:
        return [], False, "No boxed plane was held out to check on; that needs boxes on three planes."
    if previous is None:
        return unseen[:MOST_PLANES], False, ""
    if drawn.isdisjoint(previous.classes):
        return unseen[:MOST_PLANES], False, "The model before knew other classes."
    before = noted_planes(previous, LEARNT)
    if before is None:
        return unseen[:MOST_PLANES], False, "The model before does not say which planes it has learnt from."
    fair = [plane for plane in unseen if plane not in before]
    if not fair:
        return (
            unseen[:MOST_PLANES],
            False,
            "The model before has learnt from the planes that are held out now.",
        )
    return fair[:MOST_PLANES], True, ""


class _Jury:
    """Measures contenders on the same boxes, plane by plane."""

    def __init__(
        self,
        new: Predictor,
        previous: Predictor | None,
        images: Images,
        boxes: BoxSet,
        masks: Masks,
        views: int,
    ) -> None:
        self._new, self._previous = new, previous
        self._images, self._boxes, self._masks, self._views = images, boxes, masks, views
        known = set(new.model.classes) & set(boxes.classes)
        if previous is not None:
            known &= set(previous.model.classes)
        self._classes = [name for name in new.model.classes if name in known]
        rivals: tuple[Contender, ...] = ("frozen",) if previous is None else ("previous", "frozen")
        self.contenders: tuple[Contender, ...] = ("new", *rivals)
        self._agreements: dict[Contender, list[float]] = {name: [] for name in self.contenders}
        self._dices: dict[Contender, list[float]] = {name: [] for name in self.contenders}
        self._plane: tuple[PlaneId, npt.NDArray[np.generic]] | None = None

    def look(self, plane: PlaneId, contender: Contender) -> None:
        """Measure one contender on one plane."""
        if self._plane is None or self._plane[0] != plane:
            self._plane = (plane, self._images.read(plane))
        values = self._plane[1]
        shape = (values.shape[0], values.shape[1])
        drawn = {name: _array(self._boxes.on(plane, name)) for name in self._classes}
        tile = self._new.model.tile_for(shape)
        judged = _affordable(shape, tile, np.concatenate([_array(()), *drawn.values()]), self._views)
        whole = plane in self._masks and _count(shape, tile) <= self._views
        where = np.array([[0.0, 0.0, *shape]]) if whole else surroundings(judged)
        found = self._found(contender, values, where, drawn)
        wanted = {tuple(box) for box in judged.tolist()}
        for name, mask in zip(self._classes, found, strict=True):
            agreed = box_agreement(mask, drawn[name])
            kept = zip(drawn[name].tolist(), agreed, strict=True)
            self._agreements[contender] += [value for box, value in kept if tuple(box) in wanted]
        if whole:
            self._dices[contender].append(self._dice(self._masks[plane], found))

    def _found(
        self,
        contender: Contender,
        values: npt.NDArray[np.generic],
        where: npt.NDArray[np.float64],
        drawn: Mapping[str, npt.NDArray[np.float64]],
    ) -> list[npt.NDArray[np.bool_]]:
        """Mask of each class, right in the parts of the plane that count."""
        predictor = self._new
        if contender == "previous" and self._previous is not None:
            predictor = self._previous
        model = predictor.model
        pixels = PlanePixels(values, model.normalization)
        tile = model.tile_for(pixels.shape)
        if contender == "frozen":
            maps, names = _prompted_maps(predictor, pixels, list(drawn.values())), self._classes
        else:
            maps, names = (lambda view: predictor.logits(pixels, view)), list(model.classes)
        needed = _needed(tile_views(pixels.shape, tile), where)

        def seen(view: View) -> torch.Tensor:
            return maps(view) if view in needed else torch.full((len(names), GRID, GRID), _NOTHING)

        rows = tile_views(pixels.shape, tile)
        mask, _ = assemble(pixels.shape, rows, seen, len(names), model.exclusive)
        places = [names.index(name) for name in self._classes]
        return [mask == k + 1 if model.exclusive else mask[k] > 0 for k in places]

    def _dice(self, truth: npt.NDArray[np.integer], found: Sequence[npt.NDArray[np.bool_]]) -> float:
        """Mean over the classes."""
        places = [self._new.model.classes.index(name) for name in self._classes]
        values = [dice(mask, class_pixels(truth, k)) for mask, k in zip(found, places, strict=True)]
        return float(np.mean(values))

    def judgement(self, planes: Sequence[PlaneId], reason: str) -> Judgement:
        """What came of it."""
        count = len(self._agreements["new"])
        scores = {name: self._scores(name) for name in self.contenders}
        if count < LEAST_BOXES:
            few = (
                "no box was"
                if not count
                else "only one box was"
                if count == 1
                else f"only {count} boxes were"
            )
            reason = f"Models are not compared: {few} held out to check on. Boxes on more planes help."
            return Judgement(tuple(planes), count, scores["new"], reason=reason)
        margins: dict[str, float] = {name: self._margin(name) for name in self.contenders if name != "new"}
        return Judgement(
            tuple(planes),
            count,
            scores["new"],
            scores.get("previous", {}),
            scores["frozen"],
            margins,
            reason,
        )

    def _scores(self, contender: Contender) -> dict[str, float]:
        measured = {"box_agreement": self._agreements[contender], "mask_dice": self._dices[contender]}
        return {name: round(float(np.mean(values)), 4) for name, values in measured.items() if values}

    def _margin(self, contender: Contender) -> float:
        """Half of the confidence interval of the mean difference to the new model."""
        differences = np.subtract(self._agreements["new"], self._agreements[contender])
        error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
        margin = float(stdtrit(len(differences) - 1, CONFIDENCE)) * error
        return round(margin, 4)


def _array(boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
    return np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)


def _count(shape: tuple[int, int], tile: float | None) -> int:
    return sum(map(len, tile_views(shape, tile)))


def _needed(rows: Sequence[Sequence[View]], where: npt.NDArray[np.float64]) -> set[View]:
    """Views that see a part of some regions ``(n, 4)``."""
    return {view for row in rows for view in row if _meets(view, where).any()}


def _meets(view: View, where: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    grid = view.boxes_to_grid(where)
    return np.asarray((grid[:, :2] < GRID).all(axis=1) & (grid[:, 2:] > 0).all(axis=1))


def _affordable(
    shape: tuple[int, int], tile: float | None, boxes: npt.NDArray[np.float64], most: int
) -> npt.NDArray[np.float64]:
    """As many boxes as can be judged with so many views; they lie in one part of the plane or a few."""
    views = [view for row in tile_views(shape, tile) for view in row]
    if len(views) <= most:
        return boxes
    meets = np.array([_meets(view, surroundings(boxes)) for view in views])  # views x boxes
    chosen = np.zeros(len(views), bool)
    for needed in meets.T:
        if (chosen | needed).sum() <= most:
            chosen |= needed
    return boxes[~meets[~chosen].any(axis=0)]


def _prompted_maps(
    predictor: Predictor, pixels: PlanePixels, drawn: Sequence[npt.NDArray[np.float64]]
) -> Callable[[View], torch.Tensor]:
    """Logits ``(K, G, G)`` of what the frozen model makes of the boxes ``(n, 4)`` of each class."""
    encoder = predictor.encoder

    def maps(view: View) -> torch.Tensor:
        found = torch.full((len(drawn), GRID, GRID), _NOTHING)
        embedding = encoder.encode(encoder.inputs(pixels, [view]))[0]
        for k, boxes in enumerate(drawn):
            cut = np.clip(view.boxes_to_grid(boxes), 0, GRID)
            seen = ((cut[:, 2:] - cut[:, :2]) >= 1).all(axis=1)
            if seen.any():
                found[k] = answers(encoder.frozen, embedding, view, boxes[seen]).logits.amax(dim=0)
        return found

    return maps


def round_of(
    number: int,
    model: PromptModel,
    judgement: Judgement,
    *,
    against: int = 0,
    boxes: int = 0,
    masks: int = 0,
    folder: str = "",
) -> Round:
    """Record of a round.

    Parameters
    ----------
    number : int
        Number of the round.
    model : PromptModel
        What was trained.
    judgement : Judgement
        From `judge`.
    against : int
        Number of the round that the model before is of, 0 where it is of none.
    boxes, masks : int
        Boxes drawn so far, and corrected or accepted planes learnt from.
    folder : str
        Where the model is saved, relative to the project.
    """
    return Round(
        number=number,
        seconds=round(sum(model.record.get("seconds", {}).values()), 2),
        settings=model.config.model_dump(),
        boxes=boxes,
        planes=int(model.record.get("planes", 0)),
        masks=masks,
        held_out=len(judgement.planes),
        held_out_boxes=judgement.boxes,
        scores=judgement.scores,
        frozen=judgement.frozen,
        previous=judgement.previous,
        margins=judgement.margins,
        against=against,
        model=folder,
        note=judgement.reason,
    )
