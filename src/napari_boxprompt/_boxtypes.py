"""One box, its plane, and what can be wrong with it; `napari_boxprompt.boxes` is the public face."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from napari_boxprompt.errors import BoxError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "TINY_SIDE",
    "Box",
    "LabelMode",
    "PlaneId",
    "PlaneInfo",
    "Problem",
    "ProblemKind",
    "box_iou",
    "clip_info",
    "placement_problems",
]

TINY_SIDE = 2.0
"""A box with a side shorter than this many pixels is reported as tiny."""

LabelMode = Literal["instances", "components", "hull"]
ProblemKind = Literal[
    "outside",
    "partly outside",
    "zero-area",
    "not finite",
    "duplicate",
    "tiny",
    "unknown plane",
    "unknown class",
]


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes ``(y0, x0, y1, x1)``, 0 where they do not meet."""
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    shared = height * width
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return float(shared / union) if union > 0 else 0.0


class PlaneId(NamedTuple):
    """One two-dimensional plane of one image.

    Attributes
    ----------
    image : str
        File name relative to the opened folder, with forward slashes, or the name of a layer.
    index : tuple of int
        Position along the non-spatial axes of a stack, ``()`` for a two-dimensional image.
    """

    image: str
    index: tuple[int, ...] = ()  # type: ignore[assignment]  # hides tuple.index

    def __str__(self) -> str:
        return f"{self.image}[{', '.join(map(str, self.index))}]" if self.index else self.image


@dataclass(frozen=True, slots=True)
class Box:
    """One axis-aligned box on one plane.

    Parameters
    ----------
    y0, x0, y1, x1 : float
        Half-open pixel coordinates; ``y1 > y0`` and ``x1 > x0``. They may lie outside the image.
    plane : PlaneId
        The plane the box lies on.
    label : str
        Name of the class.
    id : int
        Number of the object, 0 when it has none.

    Raises
    ------
    BoxError
        If a coordinate is not a finite number, or the box has no area.
    """

    y0: float
    x0: float
    y1: float
    x1: float
    plane: PlaneId
    label: str = "object"
    id: int = 0

    def __post_init__(self) -> None:
        """Turn coordinates into plain floats and check them."""
        try:
            values = [float(value) for value in (self.y0, self.x0, self.y1, self.x1)]
        except (TypeError, ValueError, OverflowError) as error:
            raise BoxError(
                f"A box on {self.plane} has a coordinate that is not a number ({error}); draw it again."
            ) from error
        for name, value in zip(("y0", "x0", "y1", "x1"), values, strict=True):
            object.__setattr__(self, name, value)
        if not all(math.isfinite(value) for value in values):
            raise BoxError(
                f"A box on {self.plane} has a coordinate that is not finite, {self.as_tuple()}; "
                "draw it again."
            )
        if not (self.y1 > self.y0 and self.x1 > self.x0):
            raise BoxError(
                f"A box on {self.plane} has no area: y {self.y0:g} to {self.y1:g}, "
                f"x {self.x0:g} to {self.x1:g}; y1 must be larger than y0 and x1 larger than x0."
            )

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.y1 - self.y0

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.x1 - self.x0

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.height * self.width

    def as_tuple(self) -> tuple[float, float, float, float]:
        """Return ``(y0, x0, y1, x1)``."""
        return (self.y0, self.x0, self.y1, self.x1)

    def clip(self, height: float, width: float) -> Box | None:
        """Return the part inside an image, or None if nothing of the box is inside.

        Parameters
        ----------
        height, width : float
            Size of the image in pixels.
        """
        y0, x0 = max(self.y0, 0.0), max(self.x0, 0.0)
        y1, x1 = min(self.y1, float(height)), min(self.x1, float(width))
        if (y0, x0, y1, x1) == self.as_tuple():
            return self
        return replace(self, y0=y0, x0=x0, y1=y1, x1=x1) if y1 > y0 and x1 > x0 else None

    def iou(self, other: Box) -> float:
        """Return intersection over union with another box, 0 if they lie on different planes."""
        if self.plane != other.plane:
            return 0.0
        return box_iou(self.as_tuple(), other.as_tuple())


@dataclass(frozen=True, slots=True)
class PlaneInfo:
    """What is known about a plane.

    Parameters
    ----------
    shape : tuple of int, optional
        ``(height, width)`` in pixels, None while unknown.
    complete : bool
        Whether every object of every class on the plane is boxed.
    complete_regions : tuple of tuple of float
        Regions ``(y0, x0, y1, x1)`` inside which every object of every class is boxed.
    """

    shape: tuple[int, int] | None = None
    complete: bool = False
    complete_regions: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a box or a plane that the user should look at.

    Parameters
    ----------
    kind : str
        What is wrong.
    box : Box or None
        The box, None if the problem is not about one box or the box cannot be built.
    plane : PlaneId or None
        The plane, None if it is not known.
    message : str
        One sentence for the user.
    """

    kind: ProblemKind
    box: Box | None
    plane: PlaneId | None
    message: str


def placement_problems(box: Box, shape: tuple[int, int] | None) -> list[Problem]:
    """List what is wrong with where a box lies; `shape` is None for a plane that does not exist."""
    problems: list[Problem] = []
    if shape is None:
        text = f"A box lies on {box.plane}, which is not among the images."
        return [Problem("unknown plane", box, box.plane, text)]
    part = box.clip(*shape)
    size = f"{shape[0]} x {shape[1]}"
    if part is None:
        text = f"A box on {box.plane} lies outside the image ({size}); remove or move it."
        return [Problem("outside", box, box.plane, text)]
    if part is not box:
        text = f"A box on {box.plane} reaches beyond the image ({size}); it is cut at the border."
        problems.append(Problem("partly outside", box, box.plane, text))
    if min(part.height, part.width) < TINY_SIDE:
        text = (
            f"A box on {box.plane} is only {part.height:g} x {part.width:g} pixels; was it drawn by accident?"
        )
        problems.append(Problem("tiny", box, box.plane, text))
    return problems


def clip_info(info: PlaneInfo, shape: tuple[int, int]) -> PlaneInfo:
    """Return what is known about a plane of this shape, regions cut at its border."""
    height, width = shape
    cut = (
        (max(y0, 0.0), max(x0, 0.0), min(y1, float(height)), min(x1, float(width)))
        for y0, x0, y1, x1 in info.complete_regions
    )
    regions = tuple(region for region in cut if region[2] > region[0] and region[3] > region[1])
    return PlaneInfo((height, width), info.complete, regions)
