"""Boxes, the planes they lie on, and what is known about those planes.

Coordinates are ``(y0, x0, y1, x1)`` in continuous pixels, half-open: pixel ``(r, c)`` covers
``[r, r + 1) x [c, c + 1)``, so a box round the single pixel ``(r, c)`` is ``(r, c, r + 1, c + 1)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt._boxtypes import (
    TINY_SIDE,
    Box,
    LabelMode,
    PlaneId,
    PlaneInfo,
    Problem,
    ProblemKind,
    clip_info,
    placement_problems,
)
from napari_boxprompt.errors import BoxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from napari_boxprompt.images import Images

__all__ = ["TINY_SIDE", "Box", "BoxSet", "LabelMode", "PlaneId", "PlaneInfo", "Problem", "ProblemKind"]


@dataclass(frozen=True)
class BoxSet:
    """Boxes on planes; it never changes, its methods return new sets.

    Parameters
    ----------
    boxes : tuple of Box
        The boxes, in the order they were drawn.
    planes : mapping of PlaneId to PlaneInfo
        The planes; a plane that has a box is added if it is missing here.
    classes : tuple of str
        Names of the classes; when empty, the labels of the boxes in first-seen order.
    exclusive : bool
        Whether the classes exclude each other (True) or may overlap (False).
    """

    boxes: tuple[Box, ...] = ()
    planes: Mapping[PlaneId, PlaneInfo] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    exclusive: bool = True

    def __post_init__(self) -> None:
        """Freeze the containers and fill in planes and classes."""
        boxes = tuple(self.boxes)
        planes = dict(self.planes)
        for box in boxes:
            planes.setdefault(box.plane, PlaneInfo())
        classes = tuple(self.classes) or tuple(dict.fromkeys(box.label for box in boxes))
        if len(set(classes)) != len(classes):
            raise BoxError(
                f"A class name appears twice in {', '.join(classes)}; give every class its own name."
            )
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "planes", MappingProxyType(planes))
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.boxes)

    def __bool__(self) -> bool:
        """Return True if there is a box or a complete plane, that is, something to learn from."""
        return bool(self.boxes) or any(info.complete for info in self.planes.values())

    def __hash__(self) -> int:
        """Return a hash that equal sets share."""
        return hash((self.boxes, tuple(self.planes), self.classes, self.exclusive))

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to copy and pickle the set: a mapping proxy cannot be pickled."""
        return (type(self), (self.boxes, dict(self.planes), self.classes, self.exclusive))

    @cached_property
    def _by_plane(self) -> dict[PlaneId, list[Box]]:
        found: dict[PlaneId, list[Box]] = {}
        for box in self.boxes:
            found.setdefault(box.plane, []).append(box)
        return found

    @property
    def boxed_planes(self) -> tuple[PlaneId, ...]:
        """Planes with at least one box and complete planes, in first-seen order."""
        return tuple(plane for plane, info in self.planes.items() if plane in self._by_plane or info.complete)

    @property
    def unboxed_planes(self) -> tuple[PlaneId, ...]:
        """Planes that have no box and are not complete, in first-seen order."""
        boxed = set(self.boxed_planes)
        return tuple(plane for plane in self.planes if plane not in boxed)

    def on(self, plane: PlaneId, label: str | None = None) -> tuple[Box, ...]:
        """Return the boxes on one plane, of one class if `label` is given."""
        boxes = self._by_plane.get(plane, ())
        return tuple(box for box in boxes if label is None or box.label == label)

    def with_boxes(self, boxes: Iterable[Box]) -> BoxSet:
        """Return a set with these boxes instead; planes and classes stay, new classes are appended."""
        new = tuple(boxes)
        classes = tuple(dict.fromkeys((*self.classes, *(box.label for box in new))))
        return replace(self, boxes=new, classes=classes)

    def complete(self, planes: Iterable[PlaneId] | None = None) -> BoxSet:
        """Return a set in which planes are marked complete.

        Parameters
        ----------
        planes : iterable of PlaneId, optional
            The planes, all known ones by default; a plane not known yet is added, as one without objects.
        """
        infos = dict(self.planes)
        for plane in tuple(self.planes) if planes is None else planes:
            infos[plane] = replace(infos.get(plane, PlaneInfo()), complete=True)
        return replace(self, planes=infos)

    def restrict(self, planes: Iterable[PlaneId]) -> BoxSet:
        """Return a set with only these planes and the boxes on them; the order stays."""
        kept = set(planes)
        return replace(
            self,
            boxes=tuple(box for box in self.boxes if box.plane in kept),
            planes={plane: info for plane, info in self.planes.items() if plane in kept},
        )

    def check(self, shapes: Mapping[PlaneId, tuple[int, int]]) -> list[Problem]:
        """List what the user should look at.

        Parameters
        ----------
        shapes : mapping of PlaneId to tuple of int
            ``(height, width)`` of every plane that exists.

        Returns
        -------
        list of Problem
            In the order of the boxes; a box can have several problems.
        """
        problems: list[Problem] = []
        seen: set[tuple[Any, ...]] = set()
        for box in self.boxes:
            problems.extend(placement_problems(box, shapes.get(box.plane)))
            if box.label not in self.classes:
                known = ", ".join(self.classes)
                text = f"A box on {box.plane} has the class '{box.label}', which is not one of {known}."
                problems.append(Problem("unknown class", box, box.plane, text))
            key = (box.plane, box.label, *(round(value) for value in box.as_tuple()))
            if key in seen:
                text = f"Two boxes of class '{box.label}' on {box.plane} are the same; remove one."
                problems.append(Problem("duplicate", box, box.plane, text))
            seen.add(key)
        for plane in self.planes:
            if plane not in shapes and plane not in self._by_plane:
                problems.append(
                    Problem("unknown plane", None, plane, f"There is no plane {plane} in the images.")
                )
        return problems

    def clipped(self, shapes: Mapping[PlaneId, tuple[int, int]]) -> BoxSet:
        """Return a set with boxes cut at the image border; boxes fully outside are dropped.

        Boxes on planes that `shapes` does not name stay as they are. Shapes are noted in `planes`, and
        complete regions are cut as well.
        """
        kept: list[Box] = []
        for box in self.boxes:
            part = box.clip(*shapes[box.plane]) if box.plane in shapes else box
            if part is not None:
                kept.append(part)
        infos = {
            plane: clip_info(info, shapes[plane]) if plane in shapes else info
            for plane, info in self.planes.items()
        }
        return replace(self, boxes=tuple(kept), planes=infos)

    @classmethod
    def from_labels(
        cls,
        mask: npt.NDArray[Any],
        plane: PlaneId,
        mode: LabelMode = "instances",
        label: int | None = None,
        name: str = "object",
        complete: bool = True,
    ) -> BoxSet:
        """Make boxes from a label image; see `napari_boxprompt.labels.boxes_from_labels`."""
        from napari_boxprompt.labels import boxes_from_labels  # labels imports this module

        boxes = boxes_from_labels(mask, plane, mode=mode, label=label, name=name)
        height, width = np.shape(mask)
        return cls(boxes, {plane: PlaneInfo((height, width), complete)}, (name,))

    @classmethod
    def merge(cls, sets: Iterable[BoxSet]) -> BoxSet:
        """Join sets.

        A plane, or a region of it, is complete in the result only if, for every class of the result, one of
        the sets that know the class marks it complete. Classes exclude each other only if they do in all
        sets.

        Raises
        ------
        BoxError
            If two sets disagree about the size of a plane.
        """
        parts = tuple(sets)
        classes = tuple(dict.fromkeys(name for part in parts for name in part.classes))
        planes = tuple(dict.fromkeys(plane for part in parts for plane in part.planes))
        return cls(
            boxes=tuple(box for part in parts for box in part.boxes),
            planes={plane: _merge_info(parts, plane, frozenset(classes)) for plane in planes},
            classes=classes,
            exclusive=all(part.exclusive for part in parts),
        )

    def save(self, path: str | Path) -> None:
        """Write the set as COCO JSON; see `napari_boxprompt.formats.coco.save_coco`."""
        from napari_boxprompt.formats.coco import save_coco  # formats imports this module

        save_coco(self, path)

    @classmethod
    def load(cls, path: str | Path, images: Images | None = None, *, complete: bool = False) -> BoxSet:
        """Read a set from COCO or YOLO files; see `napari_boxprompt.formats.load_boxes`."""
        from napari_boxprompt.formats import load_boxes  # formats imports this module

        return load_boxes(path, images, complete=complete)


def _merge_info(parts: tuple[BoxSet, ...], plane: PlaneId, classes: frozenset[str]) -> PlaneInfo:
    knowing = [(part.planes[plane], part.classes) for part in parts if plane in part.planes]
    shapes = list(dict.fromkeys(info.shape for info, _ in knowing if info.shape is not None))
    if len(shapes) > 1:
        sizes = " and ".join(f"{height} x {width}" for height, width in shapes)
        raise BoxError(
            f"The sets to join give {plane} different sizes ({sizes}); they belong to different images."
        )

    def covered(region: tuple[float, float, float, float] | None) -> bool:
        names = [
            known for info, known in knowing if info.complete or (region and region in info.complete_regions)
        ]
        return bool(names) and classes <= {name for known in names for name in known}

    regions = tuple(dict.fromkeys(region for info, _ in knowing for region in info.complete_regions))
    return PlaneInfo(
        shape=shapes[0] if shapes else None,
        complete=covered(None),
        complete_regions=tuple(region for region in regions if covered(region)),
    )
