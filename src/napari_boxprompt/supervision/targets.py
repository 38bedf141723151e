"""Drawn boxes as a training sees them: constraints and pseudo-labels on the grid of any view.

Boxes stay coordinates. A pixel is known to be background only where the user said so: on a complete plane or
in a complete region, outside every box of the class. On planes of which nothing was said, it is
`ClassTargets.unsaid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_boxprompt.supervision.boxmasks import box_mask
from napari_boxprompt.supervision.levels import tight_level
from napari_boxprompt.views import GRID, View, inside_plane, sample_view, to_region

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.models.base import FrozenModel

__all__ = [
    "BoxLabel",
    "ClassTargets",
    "PlaneTargets",
    "assign",
    "box_label",
    "pseudo_labels",
    "size_range",
]

Region = tuple[int, int, int, int]

WHOLE = 0.9
"""Part of a box from which on a view shows it."""

MARGIN = 0.25
"""How far it is from a box, in parts of its sides, to what may as well be another object as background."""

PAIRS_AT_ONCE = 100_000
"""Boxes times views that are compared together, about 10 MB."""

BOXES_AT_ONCE = 8
"""Boxes decoded together; a row of the decoder takes about 60 MB."""


@dataclass(frozen=True, slots=True)
class BoxLabel:
    """One drawn box and what the frozen model makes of it.

    Parameters
    ----------
    box : tuple of float
        ``(y0, x0, y1, x1)`` in image pixels.
    region : tuple of int
        Pixels around the box that `probability` covers.
    probability : numpy.ndarray
        float16 probabilities of the prompted mask, 0 outside the box.
    whole : bool
        The prompted view shows the box; what lies beyond it is a guess, as is then `fill`.
    """

    box: tuple[float, float, float, float]
    region: Region
    probability: npt.NDArray[np.float16]
    whole: bool = True

    @property
    def area(self) -> float:
        """Area of the box, in pixels."""
        y0, x0, y1, x1 = self.box
        return (y1 - y0) * (x1 - x0)

    @property
    def fill(self) -> float:
        """Fraction of the box that the pseudo-label fills."""
        return float((self.probability > 0.5).sum()) / self.area


@dataclass(frozen=True, slots=True)
class ClassTargets:
    """Supervision of one class on the grid of one view.

    Parameters
    ----------
    pseudo : torch.Tensor
        bool ``(G, G)``: union of the pseudo-labels.
    valid : torch.Tensor
        bool ``(G, G)``: pixels whose pseudo-label counts: in a box, or known background.
    outside : torch.Tensor
        bool ``(G, G)``: known background.
    unsaid : torch.Tensor
        bool ``(G, G)``: pixels outside all boxes of which nothing was said. On a plane with complete
        regions there are none: who draws these says that the rest may be anything.
    beside : torch.Tensor
        bool ``(G, G)``: pixels outside all boxes that lie just round one: what says where its edge is.
    boxes : torch.Tensor
        ``(n, 4)`` boxes in image pixels that the view sees whole.
    to_image : torch.Tensor
        ``(2, 3)`` map from grid (x, y) to image pixels (x, y).
    axis_aligned : bool
        Boxes are boxes on the grid too.
    """

    pseudo: torch.Tensor
    valid: torch.Tensor
    outside: torch.Tensor
    unsaid: torch.Tensor
    beside: torch.Tensor
    boxes: torch.Tensor
    to_image: torch.Tensor
    axis_aligned: bool

    def masks(self, side: int = GRID) -> torch.Tensor:
        """Inside of each box, ``(n, side, side)``, on the grid or a coarser one."""
        coarse = torch.tensor([GRID / side, GRID / side, 1.0], dtype=self.to_image.dtype)
        return box_mask(self.boxes, (side, side), self.to_image * coarse)

    def grid_boxes(self) -> torch.Tensor:
        """Boxes ``(n, 4)`` in grid pixels, for axis-aligned views."""
        view = View(tuple(self.to_image.flatten().tolist()))
        return torch.from_numpy(view.boxes_to_grid(self.boxes.double().numpy()))


@dataclass(frozen=True)
class PlaneTargets:
    """All that is known about one boxed plane.

    Parameters
    ----------
    plane : PlaneId
        Which plane.
    shape : tuple of int
        Height and width.
    labels : tuple of tuple of BoxLabel
        Boxes of each class.
    complete : bool
        Every object on the plane is boxed.
    complete_regions : tuple
        Regions ``(y0, x0, y1, x1)`` in which every object is boxed.
    drawn : bool
        The masks are the user's, drawn or accepted, and no guesses.
    """

    plane: PlaneId
    shape: tuple[int, int]
    labels: tuple[tuple[BoxLabel, ...], ...]
    complete: bool
    complete_regions: tuple[tuple[float, float, float, float], ...] = ()
    drawn: bool = False

    def known(self, view: View) -> torch.Tensor:
        """Bool ``(G, G)``: pixels of the plane where every object is boxed."""
        inside = inside_plane(self.shape, view)
        if self.complete:
            return inside
        if not self.complete_regions:
            return torch.zeros_like(inside)
        regions = torch.tensor(self.complete_regions, dtype=torch.float64)
        return inside & box_mask(regions, (GRID, GRID), _matrix(view)).bool().any(dim=0)

    def render(self, view: View) -> tuple[ClassTargets, ...]:
        """Supervision of every class as a view sees it."""
        inside, known = inside_plane(self.shape, view), self.known(view)
        return tuple(self._render_class(labels, view, inside, known) for labels in self.labels)

    def _render_class(
        self, labels: Sequence[BoxLabel], view: View, inside: torch.Tensor, known: torch.Tensor
    ) -> ClassTargets:
        region = view.region(self.shape)
        canvas = np.zeros((region[2] - region[0], region[3] - region[1], 1), np.float32)
        seen = [label for label in labels if _paste(canvas, region, label)]

        def read(asked: Region) -> npt.NDArray[np.float32]:
            y0, x0, y1, x1 = asked
            return canvas[y0 - region[0] : y1 - region[0], x0 - region[1] : x1 - region[1]]

        probability = sample_view(read, self.shape, View(view.matrix), GRID)[0]
        boxes = torch.tensor([label.box for label in seen], dtype=torch.float64).reshape(-1, 4)
        matrix = _matrix(view)
        masks = box_mask(boxes, (GRID, GRID), matrix)
        in_boxes = masks.bool().any(dim=0) if len(masks) else torch.zeros_like(inside)
        told = in_boxes | _between_centres(boxes, masks, matrix)
        outside, unsaid = known & ~told, inside & ~known & ~told
        if self.complete_regions:
            unsaid = torch.zeros_like(unsaid)
        return ClassTargets(
            pseudo=(probability > 0.5) & in_boxes,
            valid=(in_boxes | outside) & inside,
            outside=outside,
            unsaid=unsaid,
            beside=(outside | unsaid) & _around(boxes, matrix),
            boxes=boxes[_visible(boxes, masks, view) > WHOLE],
            to_image=matrix,
            axis_aligned=view.axis_aligned,
        )


def _around(boxes: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Pixels in boxes that are larger by `MARGIN` on each side."""
    margin = MARGIN * (boxes[:, 2:] - boxes[:, :2])
    grown = torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], dim=1)
    return box_mask(grown, (GRID, GRID), matrix).bool().any(dim=0)


def _visible(boxes: torch.Tensor, masks: torch.Tensor, view: View) -> torch.Tensor:
    """Part of each box that a view shows; of small boxes, to count pixels does not tell."""
    if view.axis_aligned:
        _, seen = next(on_grids(boxes.numpy(), [view]))
        return torch.from_numpy(seen[0])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return masks.flatten(1).sum(dim=1) * view.scale**2 / area


def _between_centres(boxes: torch.Tensor, masks: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Pixels nearest to boxes so small that they meet no centre: no background, and no object either."""
    near = torch.zeros(masks.shape[1:], dtype=torch.bool)
    missed = boxes[~masks.flatten(1).any(dim=1)]
    centres = (missed[:, :2] + missed[:, 2:]).flip(1) / 2  # (x, y)
    places = torch.linalg.solve(matrix[:, :2], (centres - matrix[:, 2]).T).floor().long()
    x, y = places[:, ((places >= 0) & (places < GRID)).all(dim=0)]
    near[y, x] = True
    return near


def _matrix(view: View) -> torch.Tensor:
    return torch.tensor(view.matrix, dtype=torch.float64).reshape(2, 3)


def _paste(canvas: npt.NDArray[np.float32], region: Region, label: BoxLabel) -> bool:
    """Put a pseudo-label on a canvas that covers `region`; False where they do not meet."""
    y0, x0 = max(region[0], label.region[0]), max(region[1], label.region[1])
    y1, x1 = min(region[2], label.region[2]), min(region[3], label.region[3])
    if y0 >= y1 or x0 >= x1:
        return False
    target = canvas[y0 - region[0] : y1 - region[0], x0 - region[1] : x1 - region[1], 0]
    ly, lx = label.region[:2]
    np.maximum(target, label.probability[y0 - ly : y1 - ly, x0 - lx : x1 - lx], out=target)
    return True


def on_grids(
    boxes: npt.NDArray[np.float64], views: Sequence[View]
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Boxes ``(n, 4)`` on the grids of axis-aligned views, some views at a time so that memory stays small.

    Yields
    ------
    grid : numpy.ndarray
        ``(v, n, 4)`` boxes in grid pixels.
    seen : numpy.ndarray
        ``(v, n)`` fraction of each box that each view shows.
    """
    step = max(1, PAIRS_AT_ONCE // max(1, len(boxes)))
    for start in range(0, len(views), step):
        matrix = np.array([view.matrix for view in views[start : start + step]])
        grid = (boxes - matrix[:, None, [5, 2, 5, 2]]) / matrix[:, None, [4, 0, 4, 0]]
        yield grid, _areas(np.clip(grid, 0, GRID)) / _areas(grid)


def _areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))


def assign(boxes: npt.NDArray[np.float64], views: Sequence[View]) -> npt.NDArray[np.intp]:
    """For each box, the view that sees most of it, and it nearest to its centre."""
    scores = []
    for grid, seen in on_grids(boxes, views):
        centre = (grid[..., :2] + grid[..., 2:]) / 2 - GRID / 2
        scores.append(np.round(seen, 3) - np.hypot(centre[..., 0], centre[..., 1]) / (1000 * GRID))
    return np.asarray(np.concatenate(scores).argmax(axis=0))


class Answers(NamedTuple):
    """What the frozen model makes of boxes.

    Attributes
    ----------
    logits : torch.Tensor of float32, shape (n, G, G)
    quality : torch.Tensor of float32, shape (n,)
        IoU that the model expects each mask to have.
    """

    logits: torch.Tensor
    quality: torch.Tensor


def answers(
    frozen: FrozenModel,
    embedding: torch.Tensor,
    view: View,
    boxes: npt.NDArray[np.float64],
    *,
    around: bool = False,
) -> Answers:
    """Masks that the frozen model gives for boxes ``(n, 4)`` in image pixels.

    `embedding` is ``(256, 64, 64)``; boxes are cut to the view. With `around`, only the pixels that a box
    touches, and what they are interpolated from, are sure to be computed.
    """
    grid = torch.from_numpy(np.clip(view.boxes_to_grid(boxes), 0, GRID)).float().to(frozen.device)
    pixels = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    touched = torch.from_numpy(view.boxes_to_grid(pixels)) + torch.tensor([-1.0, -1.0, 1.0, 1.0])
    embedding = embedding[None].float().to(frozen.device)
    parts = []
    with torch.no_grad():
        for chunk, within in zip(grid.split(BOXES_AT_ONCE), touched.split(BOXES_AT_ONCE), strict=True):
            repeated = embedding.expand(len(chunk), -1, -1, -1)
            asked = within if around else None
            logits, quality = frozen.decode(repeated, *frozen.box_prompt(chunk), within=asked)
            parts.append((logits[:, 0], quality[:, 0]))
    return Answers(*(torch.cat(part).float().cpu() for part in zip(*parts, strict=True)))


def pseudo_labels(
    frozen: FrozenModel,
    views: Sequence[View],
    embeddings: torch.Tensor,
    boxes: BoxSet,
    plane: PlaneId,
    *,
    tight: bool = True,
) -> tuple[tuple[BoxLabel, ...], ...]:
    """Masks that the frozen model gives for the drawn boxes of a plane (Gaillochet et al. 2025, sec. 3).

    Parameters
    ----------
    frozen : FrozenModel
        Model that is prompted.
    views, embeddings : sequence of View, torch.Tensor
        Axis-aligned views that cover the plane and their embeddings ``(n, 256, 64, 64)``; each box is
        prompted in the view that sees it best.
    boxes : BoxSet
        Drawn boxes.
    plane : PlaneId
        The plane the views look at.
    tight : bool
        Cut masks where they reach the sides of their boxes (`levels.tight_level`), or at probability 0.5.

    Returns
    -------
    tuple of tuple of BoxLabel
        For each class of `boxes`, its boxes on the plane in their order.
    """
    drawn = [box for label in boxes.classes for box in boxes.on(plane, label)]
    array = np.array([box.as_tuple() for box in drawn], float).reshape(-1, 4)
    made: dict[int, BoxLabel] = {}
    if len(drawn):
        best = assign(array, views)
        for index in np.unique(best):
            chosen = np.flatnonzero(best == index)
            found = answers(frozen, embeddings[index], views[index], array[chosen], around=True)
            for i, logit in zip(chosen.tolist(), found.logits, strict=True):
                made[i] = box_label(drawn[i].as_tuple(), logit, views[index], tight=tight)
    classes = np.array([boxes.classes.index(box.label) for box in drawn], int)
    return tuple(
        tuple(made[i] for i in np.flatnonzero(classes == k).tolist()) for k in range(len(boxes.classes))
    )


def box_label(
    box: tuple[float, float, float, float], logits: torch.Tensor, view: View, *, tight: bool
) -> BoxLabel:
    """Mask of a box from logits ``(G, G)`` on the grid of a view, cut by the box and at its level."""
    y0, x0, y1, x1 = box
    region = (int(np.floor(y0)), int(np.floor(x0)), int(np.ceil(y1)), int(np.ceil(x1)))
    pixels = to_region(logits[None], view, region)[0]
    corner = (region[0], region[1], region[0], region[1])
    level = tight_level(pixels.numpy(), tuple(np.subtract(box, corner))) if tight else 0.0
    probability = (pixels - level).sigmoid()
    rows = torch.arange(region[0], region[2]) + 0.5
    columns = torch.arange(region[1], region[3]) + 0.5
    inside = ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))[None]
    _, seen = next(on_grids(np.array([box]), [view]))
    return BoxLabel(box, region, (probability * inside).half().numpy(), bool(seen[0, 0] > WHOLE))


def size_range(labels: Sequence[BoxLabel]) -> tuple[float, float]:
    """Fractions of a box that objects of a class fill, learnt from its pseudo-labels.

    The 5th and 95th percentile, widened by a tenth, because pseudo-labels err at both ends; with
    fewer than five boxes the whole plausible range is kept. Boxes that no tile shows are left out.
    """
    fills = np.array([label.fill for label in labels if label.whole])
    fills = fills[fills > 0]
    if len(fills) < 5:
        return 0.2, 1.0
    low, high = 0.9 * float(np.percentile(fills, 5)), 1.1 * float(np.percentile(fills, 95))
    return max(0.05, low), min(1.0, max(0.05, high))
