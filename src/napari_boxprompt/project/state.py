"""Everything a project knows, in memory; gestures change it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.project.documents import ImageEntry, MaskFile, PlaneRecord
from napari_boxprompt.project.gestures import (
    ImagesChange,
    MaskPatch,
    PlaneChange,
    ProjectChange,
    RoundChange,
    as_boxes,
)

if TYPE_CHECKING:
    from napari_boxprompt.project.rounds import Round

__all__ = ["ProjectState"]


@dataclass
class ProjectState:
    """The state of a project; `apply` is the only way in which it changes.

    Parameters
    ----------
    classes, colors, exclusive, settings, roots, images, created
        See `napari_boxprompt.project.documents.ProjectFile`; images by name.
    boxes, infos
        Boxes and what else box files say, by plane.
    records : dict of PlaneId to PlaneRecord
        Status, score and mask file of the planes on which something has happened.
    patches : dict of PlaneId to tuple of MaskPatch
        What was painted since the mask file was written, oldest first.
    rounds : dict of int to Round
        Records by number.
    """

    classes: tuple[str, ...] = ()
    colors: dict[str, str] = field(default_factory=dict)
    exclusive: bool = True
    created: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    roots: tuple[str, ...] = ()
    images: dict[str, ImageEntry] = field(default_factory=dict)
    boxes: dict[PlaneId, tuple[Box, ...]] = field(default_factory=dict)
    infos: dict[PlaneId, PlaneInfo] = field(default_factory=dict)
    records: dict[PlaneId, PlaneRecord] = field(default_factory=dict)
    patches: dict[PlaneId, tuple[MaskPatch, ...]] = field(default_factory=dict)
    rounds: dict[int, Round] = field(default_factory=dict)

    def copy(self) -> ProjectState:
        """Return a state that later gestures leave as it is; what it holds is shared and never changes."""
        parts = ("colors", "settings", "images", "boxes", "infos", "records", "patches", "rounds")
        copies: dict[str, Any] = {name: dict(getattr(self, name)) for name in parts}
        return replace(self, **copies)

    def record(self, plane: PlaneId) -> PlaneRecord:
        """Return what is known about a plane."""
        return self.records.get(plane) or PlaneRecord(image=plane.image, plane=plane.index)

    def boxset(self) -> BoxSet:
        """Return the boxes of all planes, with the planes that are complete without any."""
        boxes = tuple(box for drawn in self.boxes.values() for box in drawn)
        return BoxSet(boxes, self.infos, self.classes, self.exclusive)

    def apply(self, gesture: PlaneChange | RoundChange | ProjectChange | ImagesChange) -> None:
        """Take a gesture; taking it twice is the same as once."""
        match gesture:
            case PlaneChange():
                self._change_boxes(gesture)
                self._change_record(gesture)
            case RoundChange():
                self.rounds[gesture.round.number] = gesture.round
            case ProjectChange():
                for name in ("classes", "colors", "exclusive", "settings", "roots"):
                    value = getattr(gesture, name)
                    if value is not None:
                        setattr(self, name, value)
            case ImagesChange():
                self._change_images(gesture)

    def _change_boxes(self, gesture: PlaneChange) -> None:
        plane = gesture.id
        if gesture.boxes is not None:
            self.boxes[plane] = as_boxes(gesture.boxes, plane)
        old = self.infos.get(plane, PlaneInfo())
        new = PlaneInfo(
            gesture.shape or old.shape,
            old.complete if gesture.complete is None else gesture.complete,
            old.complete_regions if gesture.complete_regions is None else gesture.complete_regions,
        )
        if self.boxes.get(plane) or new.complete or new.complete_regions:
            self.infos[plane] = new
        else:  # Nothing is said about the plane any more; box files need not list it.
            self.infos.pop(plane, None)
        if not self.boxes.get(plane, True):
            del self.boxes[plane]

    def _change_record(self, gesture: PlaneChange) -> None:
        plane = gesture.id
        named = {name: getattr(gesture, name) for name in ("status", "score", "reason", "signs")}
        changes = {name: value for name, value in named.items() if value is not None}
        record = self.record(plane)
        match gesture.mask:
            case "none":
                changes["mask"] = None
                self.patches.pop(plane, None)
            case MaskFile():
                changes["mask"] = gesture.mask
                self.patches.pop(plane, None)
            case MaskPatch():
                self.patches[plane] = (*self.patches.get(plane, ()), gesture.mask)
        if changes:
            self.records[plane] = record.model_copy(update=changes)

    def _change_images(self, gesture: ImagesChange) -> None:
        for entry in gesture.images:
            self.images[entry.name] = entry
        gone = set(gesture.removed)
        for name in gone:
            self.images.pop(name, None)
        for known in (self.boxes, self.infos, self.records, self.patches):
            for plane in [plane for plane in known if plane.image in gone]:
                del known[plane]
