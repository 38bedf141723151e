"""What a user does, as entries of the journal.

Every gesture says how something *is* from now on, not how it changes. So a journal can be replayed over files
that contain some of it already, and the end is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.errors import BoxError, ProjectError
from napari_boxprompt.project.documents import Document, ImageEntry, MaskFile, Region, Status
from napari_boxprompt.project.rounds import Round

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Entry",
    "Gesture",
    "ImagesChange",
    "MaskPatch",
    "PlaneChange",
    "ProjectChange",
    "RoundChange",
    "as_boxes",
    "as_drawn",
    "only_mask",
    "only_patches",
    "plane_change",
]

# A box: y0, x0, y1, x1, class, number of the object.
Drawn = tuple[float, float, float, float, str, int]

# As in box files, so that a box comes back from there as it went.
_DIGITS = 9
_FAR = 1e9


class MaskPatch(Document):
    """The part of a mask that was painted, as it is now."""

    shape: tuple[int, ...] = Field(description="Shape of the whole mask.")
    y: int = Field(ge=0, description="First row of the part.")
    x: int = Field(ge=0, description="First column of the part.")
    size: tuple[int, ...] = Field(description="Shape of the part.")
    dtype: Literal["uint8", "uint16", "uint32"]
    data: str = Field(description="Pixels row by row, little-endian, compressed by zlib, as base64.")
    classes: dict[int, str] = Field(default_factory=dict, description="Class of each object of the mask.")


class PlaneChange(Document):
    """How a plane is from now on; what is missing stays as it was."""

    kind: Literal["plane"] = "plane"
    image: str
    plane: tuple[int, ...] = ()
    shape: tuple[int, int] | None = None
    boxes: tuple[Drawn, ...] | None = None
    complete: bool | None = None
    complete_regions: tuple[Region, ...] | None = None
    status: Status | None = None
    score: float | None = None
    reason: str | None = None
    signs: dict[str, float] | None = None
    mask: MaskFile | MaskPatch | Literal["none"] | None = None

    @property
    def id(self) -> PlaneId:
        """The plane."""
        return PlaneId(self.image, self.plane)


class RoundChange(Document):
    """A round was recorded, or its record replaced."""

    kind: Literal["round"] = "round"
    round: Round


class ProjectChange(Document):
    """Classes or settings; what is missing stays as it was."""

    kind: Literal["project"] = "project"
    classes: tuple[str, ...] | None = None
    colors: dict[str, str] | None = None
    exclusive: bool | None = None
    settings: dict[str, Any] | None = None
    roots: tuple[str, ...] | None = None


class ImagesChange(Document):
    """Images were added, found elsewhere, confirmed or taken out."""

    kind: Literal["images"] = "images"
    images: tuple[ImageEntry, ...] = ()
    removed: tuple[str, ...] = ()


Gesture = Annotated[PlaneChange | RoundChange | ProjectChange | ImagesChange, Field(discriminator="kind")]


class Entry(Document):
    """One line of the journal: gestures that belong together, all of them or none."""

    sequence: int = Field(ge=1)
    time: str
    gestures: tuple[Gesture, ...]


def plane_change(plane: PlaneId, **said: Any) -> PlaneChange:
    """Make a gesture about a plane.

    Raises
    ------
    ProjectError
        A value that cannot be written, such as a score that is not a number.
    """
    try:
        return PlaneChange(image=plane.image, plane=plane.index, **said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ProjectError(f"{plane} cannot have this {where}: {first['msg']}.") from error


def only_mask(gesture: Gesture) -> PlaneChange | None:
    """Return the part of a gesture that says how a mask is; None if there is none."""
    if not isinstance(gesture, PlaneChange) or gesture.mask is None:
        return None
    # Not copied with changes: the patch must stay the very same object.
    return PlaneChange(image=gesture.image, plane=gesture.plane, mask=gesture.mask)


def only_patches(entry: Entry, wanted: set[int]) -> Entry:
    """Return of an entry only the painted parts whose identity is in `wanted`."""
    parts = (only_mask(gesture) for gesture in entry.gestures)
    kept = tuple(part for part in parts if part is not None and id(part.mask) in wanted)
    return entry.model_copy(update={"gestures": kept})


def as_drawn(boxes: Iterable[Box]) -> tuple[Drawn, ...]:
    """Return boxes as the journal holds them, rounded as in box files.

    Raises
    ------
    BoxError
        A box cannot be written to a box file and read again: nothing is left of it, or it is immense.
    """
    drawn = tuple(
        (
            round(box.y0, _DIGITS),
            round(box.x0, _DIGITS),
            round(box.y1, _DIGITS),
            round(box.x1, _DIGITS),
            box.label,
            box.id,
        )
        for box in boxes
    )
    for y0, x0, y1, x1, *_ in drawn:
        if not (y1 > y0 and x1 > x0) or max(map(abs, (y0, x0, y1, x1))) > _FAR:
            raise BoxError(f"A box at y {y0:g} to {y1:g}, x {x0:g} to {x1:g} cannot be kept; draw it again.")
    return drawn


def as_boxes(drawn: Iterable[Drawn], plane: PlaneId) -> tuple[Box, ...]:
    """Return boxes from the form of the journal."""
    return tuple(Box(y0, x0, y1, x1, plane, label, number) for y0, x0, y1, x1, label, number in drawn)
