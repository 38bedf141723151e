"""Boxes as careless people draw them: imprecise, some forgotten, some in the wrong place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.errors import BoxError, ConfigError

if TYPE_CHECKING:
    from napari_boxprompt.boxes import Box, BoxSet

__all__ = ["UNDISTURBED", "Disturbance"]

PLACES = 200
"""Places that are tried for a wrong box; the one that meets least of the true boxes is taken."""


@dataclass(frozen=True)
class Disturbance:
    """What is done to drawn boxes to see how much it costs.

    Parameters
    ----------
    jitter : float
        Each side moves by up to this fraction of the box's height or width, in 0..0.45.
    missing : float
        This fraction of the boxes is left out, at least one, and their planes are no longer complete:
        somebody who did not box everything would not say so.
    wrong : float
        This fraction of the boxes, at least one, lies elsewhere on its plane, where no object is. The plane
        stays complete: somebody who boxes the wrong thing does not know it.

    Raises
    ------
    ConfigError
        A fraction out of its range.
    """

    jitter: float = 0.0
    missing: float = 0.0
    wrong: float = 0.0

    def __post_init__(self) -> None:
        """Check the fractions."""
        for name, most in (("jitter", 0.45), ("missing", 0.9), ("wrong", 0.9)):
            value = getattr(self, name)
            if not 0.0 <= value <= most:
                raise ConfigError(f"--{name} {value:g} is out of range; give a fraction from 0 to {most:g}.")
        if self.missing + self.wrong > 1.0:
            raise ConfigError("--missing and --wrong together are more than all boxes; lower one of them.")

    def __bool__(self) -> bool:
        """Return whether anything is changed."""
        return bool(self.jitter or self.missing or self.wrong)

    def __str__(self) -> str:
        names = ("jitter", "missing", "wrong")
        return ", ".join(f"{name} {getattr(self, name):g}" for name in names if getattr(self, name))

    def apply(self, boxes: BoxSet, seed: int) -> BoxSet:
        """Disturbed boxes; the same seed gives the same ones.

        Parameters
        ----------
        boxes : BoxSet
            Drawn boxes; the shapes of their planes must be known.
        seed : int
            Decides which boxes, and where to.

        Raises
        ------
        BoxError
            The shape of a plane is not known.
        """
        if not self:
            return boxes
        rng = np.random.default_rng([seed, 1])  # [seed, 1], or it would follow the choice of the images
        order = rng.permutation(len(boxes))
        lost = set(order[: _count(self.missing, len(boxes))].tolist())
        moved = set(order[len(lost) :][: _count(self.wrong, len(boxes))].tolist())
        kept: list[Box] = []
        for i, box in enumerate(boxes.boxes):
            if i in lost:
                continue
            drawn = _elsewhere(box, boxes, rng) if i in moved else box
            kept.append(_jittered(drawn, self.jitter, _shape(boxes, box), rng) if self.jitter else drawn)
        infos = dict(boxes.planes)
        for plane in {boxes.boxes[i].plane for i in lost}:
            infos[plane] = replace(infos[plane], complete=False, complete_regions=())
        return replace(boxes, boxes=tuple(kept), planes=infos)


UNDISTURBED = Disturbance()
"""Boxes as they were drawn."""


def _count(fraction: float, boxes: int) -> int:
    return max(1, round(fraction * boxes)) if fraction and boxes else 0


def _shape(boxes: BoxSet, box: Box) -> tuple[int, int]:
    shape = boxes.planes[box.plane].shape
    if shape is None:
        raise BoxError(f"The size of {box.plane} is not known; align the boxes with their images first.")
    return shape


def _jittered(box: Box, jitter: float, shape: tuple[int, int], rng: np.random.Generator) -> Box:
    dy0, dx0, dy1, dx1 = rng.uniform(-jitter, jitter, 4) * [box.height, box.width, box.height, box.width]
    drawn = replace(box, y0=box.y0 + dy0, x0=box.x0 + dx0, y1=box.y1 + dy1, x1=box.x1 + dx1)
    return drawn.clip(*shape) or box


def _elsewhere(box: Box, boxes: BoxSet, rng: np.random.Generator) -> Box:
    """A box of the same size where no object is, or as little of them as was found."""
    height, width = _shape(boxes, box)
    free = np.array([max(0.0, height - box.height), max(0.0, width - box.width)])
    places = rng.uniform(0, 1, (PLACES, 2)) * free
    true = np.array([other.as_tuple() for other in boxes.on(box.plane)])
    low = np.maximum(places[:, None], true[None, :, :2])
    high = np.minimum(places[:, None] + [box.height, box.width], true[None, :, 2:])
    met = (high - low).clip(min=0).prod(axis=2).sum(axis=1)
    y, x = places[int(met.argmin())].tolist()
    return replace(box, y0=y, x0=x, y1=y + box.height, x1=x + box.width)
