"""What the files of a project say, as models that check themselves when they are read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.normalization import Normalization

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "SETTLED",
    "STATUSES",
    "ImageEntry",
    "Look",
    "MaskFile",
    "PlaneRecord",
    "PlanesFile",
    "ProjectFile",
    "Region",
    "Status",
    "now",
]

FORMAT_NAME: Literal["napari-boxprompt project"] = "napari-boxprompt project"
FORMAT_VERSION = 1
"""Version of the files of a project; a higher one than the program knows is refused."""

Status = Literal["new", "predicted", "boxed", "corrected", "accepted", "rejected"]
"""How far the work on a plane has come."""

STATUSES: tuple[Status, ...] = ("new", "predicted", "boxed", "corrected", "accepted", "rejected")

SETTLED: frozenset[Status] = frozenset({"corrected", "accepted"})
"""A mask with one of these is somebody's work; with another, it is a prediction that nobody has touched."""

Region = tuple[float, float, float, float]


def now() -> str:
    """Return the time in ISO form, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Document(BaseModel):
    """Base of all models here: fixed once made, and no key is passed over in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Look(Document):
    """How a viewer shows an image and cuts it into planes; nothing but the picture depends on it."""

    name: str = Field(default="", description="Name of the layer.")
    reader: str = Field(default="", description="Plugin that read the file; empty for the viewer's own way.")
    axes: tuple[int, int] | None = Field(default=None, description="Axes of rows and columns.")
    channel_axis: int | None = Field(default=None, description="Axis that holds channels.")
    limits: tuple[float, float] | None = Field(default=None, description="Values shown black and white.")
    gamma: float = Field(default=1.0, gt=0)
    colormap: str = ""
    scale: tuple[float, ...] = Field(default=(), description="Size of a pixel along each axis.")
    units: tuple[str, ...] = Field(default=(), description="Its unit along each axis.")
    axis_labels: tuple[str, ...] = ()
    contrast: Normalization | None = Field(
        default=None, description="Brightness scale of the model; null while it was not measured."
    )
    contrast_by_hand: bool = Field(default=False, description="Whether somebody has set that scale.")


class ImageEntry(Document):
    """One image: where it lies, and how to know it again."""

    name: str = Field(min_length=1, description="Name that planes and boxes call it by; it never changes.")
    path: str = Field(description="Path relative to the project, with forward slashes; absolute elsewhere.")
    sha256: str = Field(description="Hash of the file; of a folder, see `fingerprint`.")
    size: int = Field(ge=0, description="Bytes.")
    modified_ns: int = Field(description="Time of the last change when the hash was taken, in nanoseconds.")
    shape: tuple[int, int] = Field(description="Height and width of a plane in pixels.")
    extent: tuple[int, ...] = Field(default=(), description="Planes along each axis before height and width.")
    channel: int | None = Field(
        default=None, description="The channel that is used, where there are several."
    )
    pixel_size: dict[Literal["x", "y", "z"], tuple[PositiveFloat, str]] = Field(
        default_factory=dict, description="Size of a pixel along x, y and z, and its unit."
    )
    look: Look | None = Field(default=None, description="How it was shown last; null where nobody saw it.")


class MaskFile(Document):
    """A mask on disk: numbered objects, and the class of each."""

    file: str = Field(description="Path relative to the project, with forward slashes.")
    classes: dict[int, str] = Field(
        default_factory=dict, description="Class of each object by its number; others have the first class."
    )


class PlaneRecord(Document):
    """What is known about a plane beside its boxes."""

    image: str
    plane: tuple[int, ...] = ()
    status: Status = "new"
    score: float | None = Field(default=None, description="How urgently to look at it; larger is sooner.")
    reason: str = Field(default="", description="Why it has this score, in words.")
    signs: dict[str, float] = Field(
        default_factory=dict, description="What else a prediction tells: size, look and views, where known."
    )
    mask: MaskFile | None = None

    @property
    def id(self) -> PlaneId:
        """The plane."""
        return PlaneId(self.image, self.plane)


class ProjectFile(Document):
    """``project.json``: written last, so that its sequence number holds for the other files too."""

    format: Literal["napari-boxprompt project"] = FORMAT_NAME
    version: int = FORMAT_VERSION
    written_by: str = Field(default="", description="Program and version.")
    created: str = Field(default_factory=now)
    sequence: int = Field(default=0, ge=0, description="Last entry of the journal that the files contain.")
    classes: tuple[str, ...] = ()
    colors: dict[str, str] = Field(default_factory=dict, description="Colours of classes, as #rrggbb.")
    exclusive: bool = True
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the next training.")
    roots: tuple[str, ...] = Field(default=(), description="Folders in which images are looked for.")
    images: tuple[ImageEntry, ...] = ()


class PlanesFile(Document):
    """``planes.json``: every plane on which something has happened."""

    version: int = FORMAT_VERSION
    planes: tuple[PlaneRecord, ...] = ()
