"""A labelling project: boxes, masks, states of planes and rounds, safe on the disk after each gesture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.errors import BoxError, ProjectError
from napari_boxprompt.project.documents import SETTLED, STATUSES
from napari_boxprompt.project.folder import ProjectFolder, checked_classes
from napari_boxprompt.project.gestures import (
    ImagesChange,
    PlaneChange,
    ProjectChange,
    RoundChange,
    as_drawn,
    plane_change,
)
from napari_boxprompt.project.masks import Mask, classes_of, load_mask, make_patch, renamed
from napari_boxprompt.project.storage import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from napari_boxprompt.boxes import Box, BoxSet, PlaneId
    from napari_boxprompt.project.documents import Look, PlaneRecord, Region, Status
    from napari_boxprompt.project.gestures import Gesture
    from napari_boxprompt.project.rounds import Round

__all__ = ["Project"]

_UNSEEN: frozenset[Status] = frozenset({"predicted", "boxed"})
_OPEN: frozenset[Status] = frozenset({"new", "predicted", "rejected"})


class Project(ProjectFolder):
    """A labelling project; make one with `create` or `open`, use it in a ``with`` block or `close` it.

    Every method that changes something writes it to the journal before it returns (with ``background=True``:
    soon after). The other files follow when `save` is called. If the disk refuses, `OutputError` is raised,
    but the change counts in memory and is written with the next one.

    Parameters
    ----------
    store : Store
        The open folder.
    found : Found
        What became of its images.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._store.state.classes

    @property
    def exclusive(self) -> bool:
        """Whether classes exclude each other."""
        return self._store.state.exclusive

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the next training."""
        return self._store.state.settings

    @property
    def boxes(self) -> BoxSet:
        """All boxes, also those on images that are missing or have changed."""
        return self._store.view().boxset()

    def usable_boxes(self) -> BoxSet:
        """Return the boxes on the planes of `images`: what a training may learn from."""
        boxes = self.boxes
        return boxes.restrict(plane for plane in boxes.planes if plane in self.images)

    def record(self, plane: PlaneId) -> PlaneRecord:
        """Return status, score and mask file of a plane."""
        return self._store.state.record(plane)

    def status(self, plane: PlaneId) -> Status:
        """Return how far the work on a plane has come."""
        return self.record(plane).status

    def counts(self) -> dict[Status, int]:
        """Return how many planes of `images` have each status, in the order of the work."""
        counts: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        for plane in self.images.planes:
            counts[self.status(plane)] += 1
        return counts

    def set_classes(self, classes: Iterable[str], *, exclusive: bool | None = None) -> None:
        """Replace the list of classes; boxes keep theirs, which must stay in the list.

        Raises
        ------
        ProjectError
            A name is empty or used twice, or boxes have a class that is not in the list.
        """
        names = checked_classes(classes)
        lost = {box.label for box in self.boxes.boxes} - set(names)
        if lost:
            raise ProjectError(f"Boxes have the class {min(lost)}; keep it, or change these boxes first.")
        self._store.record(ProjectChange(classes=names, exclusive=exclusive))

    @property
    def colors(self) -> Mapping[str, str]:
        """Colours of classes, as ``#rrggbb``; of those that somebody has seen in a viewer."""
        return self._store.state.colors

    def set_colors(self, colors: Mapping[str, str]) -> None:
        """Replace the colours of the classes."""
        self._store.record(ProjectChange(colors=dict(colors)))

    def set_look(
        self,
        name: str,
        look: Look,
        *,
        pixel_size: Mapping[Any, tuple[float, str]] | None = None,
        channel: int | None = None,
    ) -> None:
        """Note how a viewer shows an image, with the size of a pixel and the channel if it knows them."""
        entry = self.entries.get(name)
        if entry is None:
            raise ProjectError(f"The project has no image {name}; add it first.")
        more = {"pixel_size": None if pixel_size is None else dict(pixel_size), "channel": channel}
        known = {key: value for key, value in more.items() if value is not None}
        self._note(ImagesChange(images=(entry.model_copy(update={"look": look, **known}),)))
        if channel not in (None, entry.channel):
            self._renew()

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Replace the settings of the next training."""
        self._store.record(ProjectChange(settings=dict(settings)))

    def set_boxes(
        self,
        plane: PlaneId,
        boxes: Iterable[Box],
        *,
        complete: bool | None = None,
        complete_regions: Iterable[Region] | None = None,
    ) -> None:
        """Say which boxes a plane has from now on; classes that are new are added.

        Parameters
        ----------
        plane : PlaneId
            A plane of the project.
        boxes : iterable of Box
            All boxes on it; none takes them away.
        complete : bool, optional
            Whether every object is boxed; as before by default.
        complete_regions : iterable of tuple of float, optional
            Regions ``(y0, x0, y1, x1)`` in which every object is boxed; as before by default.

        Raises
        ------
        BoxError
            The plane is not in the project, or a box lies on another.
        OutputError
            See the class.
        """
        self._record_boxes({plane: tuple(boxes)}, {plane: (complete, complete_regions)})

    def add_boxes(self, boxes: BoxSet) -> None:
        """Add the boxes of a set, and what it says about complete planes, as one gesture.

        Raises
        ------
        BoxError
            A plane is not in the project; see `napari_boxprompt.formats.align`.
        OutputError
            See the class.
        """
        drawn = {plane: (*self._store.state.boxes.get(plane, ()), *boxes.on(plane)) for plane in boxes.planes}
        said = {
            plane: (info.complete or None, info.complete_regions or None)
            for plane, info in boxes.planes.items()
        }
        self._record_boxes(drawn, said)

    def _record_boxes(
        self,
        drawn: Mapping[PlaneId, tuple[Box, ...]],
        said: Mapping[PlaneId, tuple[bool | None, Iterable[Region] | None]],
    ) -> None:
        changes: list[Gesture] = []
        labels = dict.fromkeys(self.classes)
        for plane, boxes in drawn.items():
            complete, regions = said[plane]
            if any(box.plane != plane for box in boxes):
                raise BoxError(f"A box for {plane} lies on another plane; draw it again.")
            labels |= dict.fromkeys(box.label for box in boxes)
            change = plane_change(
                plane,
                shape=self._shape(plane),
                boxes=as_drawn(boxes),
                complete=complete,
                complete_regions=None if regions is None else tuple(map(_rounded, regions)),
            )
            changes.append(change.model_copy(update={"status": self._boxed_status(change)}))
        if tuple(labels) != self.classes:
            changes.insert(0, ProjectChange(classes=checked_classes(labels)))
        if changes:
            self._store.record(*changes)

    def _boxed_status(self, change: PlaneChange) -> Status | None:
        """Return the status of a plane whose boxes change; None leaves it."""
        record, info = self.record(change.id), self._store.state.infos.get(change.id)
        if record.status in SETTLED:
            return None
        complete = change.complete if change.complete is not None else bool(info and info.complete)
        regions = change.complete_regions
        if regions is None and info is not None:
            regions = info.complete_regions
        if change.boxes or complete or regions:
            return "boxed"
        if record.status != "boxed":
            return None
        return "new" if record.score is None else "predicted"

    def set_status(self, plane: PlaneId, status: Status) -> None:
        """Set the status of a plane."""
        self._shape(plane)
        self._store.record(plane_change(plane, status=status))

    def note_predictions(
        self,
        scores: Mapping[PlaneId, float],
        reasons: Mapping[PlaneId, str] | None = None,
        signs: Mapping[PlaneId, Mapping[str, float]] | None = None,
    ) -> None:
        """Note, as one gesture, that planes were predicted, how urgently they should be looked at, and why.

        Boxed, corrected and accepted planes keep their status: a prediction never takes the place of work.
        """
        changes: list[Gesture] = []
        for plane, score in scores.items():
            self._shape(plane)
            status: Status | None = "predicted" if self.status(plane) in _OPEN else None
            said = {"reason": (reasons or {}).get(plane, ""), "signs": dict((signs or {}).get(plane, {}))}
            changes.append(plane_change(plane, status=status, score=score, **said))
        if changes:
            self._store.record(*changes)

    def paint(
        self,
        plane: PlaneId,
        labels: npt.NDArray[Any],
        y: int = 0,
        x: int = 0,
        *,
        classes: Mapping[int, str] | None = None,
        status: Status = "corrected",
    ) -> None:
        """Say how a part of the mask of a plane is from now on; without `y` and `x`, usually all of it.

        Parameters
        ----------
        plane : PlaneId
            A plane of the project.
        labels : ndarray, shape (h, w), or (classes, h, w) where classes may overlap
            Numbers of the objects in the part, 0 for background.
        y, x : int
            Where the part starts.
        classes : mapping of int to str, optional
            Class of each object of the whole mask; as before by default.
        status : str
            Status of the plane from now on. Only corrected and accepted masks teach and are exported:
            with "predicted", or "boxed" or "rejected" as before, it is a prediction that nobody has touched.

        Raises
        ------
        ProjectError
            The part does not lie in the plane, or holds no whole numbers.
        OutputError
            See the class.
        """
        height, width = self._shape(plane)
        shape = (*np.shape(labels)[:-2], height, width)
        patch = make_patch(labels, y, x, shape, self.mask_classes(plane) if classes is None else classes)
        self._store.record(plane_change(plane, mask=patch, status=status))

    def accept(
        self, plane: PlaneId, labels: npt.NDArray[Any], classes: Mapping[int, str] | None = None
    ) -> None:
        """Take a mask of a whole plane as right; see `paint`."""
        self.paint(plane, labels, classes=classes, status="accepted")

    def remove_mask(self, plane: PlaneId) -> None:
        """Take the mask of a plane away; it goes back to where it was before."""
        boxed = plane in self._store.state.infos
        status: Status = "boxed" if boxed else "new" if self.record(plane).score is None else "predicted"
        self._store.record(plane_change(plane, mask="none", status=status))

    def mask_classes(self, plane: PlaneId) -> Mapping[int, str]:
        """Return the class of each object of the mask of a plane."""
        return classes_of(*self._store.mask_of(plane))

    def rename_objects(self, image: str, old: str, new: str) -> None:
        """Give the objects of a class another in all masks of an image, as one gesture."""
        planes = [plane for plane in self.images.planes if plane.image == image]
        found = {p: renamed(*self._store.mask_of(p), old, new, exclusive=self.exclusive) for p in planes}
        changes = [plane_change(p, mask=mask) for p, mask in found.items() if mask is not None]
        if changes:
            self._store.record(*changes)

    def mask(self, plane: PlaneId) -> Mask | None:
        """Return the mask of a plane, None if it has none; see `status` for whether anybody has looked at it.

        Raises
        ------
        ProjectError
            Its file is missing.
        ImageError
            Its file is damaged.
        """
        record, patches = self._store.mask_of(plane)
        return load_mask(self.folder, record, patches)

    def masked_planes(self, *, predicted: bool = False) -> tuple[PlaneId, ...]:
        """Return the corrected and accepted planes of `images` that have a mask, to learn from.

        With `predicted`, also those whose mask nobody has looked at, but no rejected ones.
        """
        state, wanted = self._store.view(), SETTLED | _UNSEEN if predicted else SETTLED
        found = (plane for plane, record in state.records.items() if record.status in wanted)
        masked = (p for p in found if state.records[p].mask is not None or p in state.patches)
        return tuple(plane for plane in masked if plane in self.images)

    def class_masks(self) -> dict[PlaneId, npt.NDArray[np.uint8]]:
        """Return class masks of `masked_planes`, as `napari_boxprompt.training.fit` takes them."""
        masks = ((plane, self.mask(plane)) for plane in self.masked_planes())
        return {plane: mask.class_mask(self.classes) for plane, mask in masks if mask is not None}

    def queue(self) -> list[PlaneId]:
        """Return the planes that want a look: the highest score first, those without one last."""
        records = self._store.state.records

        def order(plane: PlaneId) -> float:
            record = records.get(plane)
            return 1.0 if record is None or record.score is None else -record.score

        waiting = (p for p in self.images.planes if p not in records or records[p].status in _OPEN)
        return sorted(waiting, key=order)

    def next_plane(self, after: PlaneId | None = None) -> PlaneId | None:
        """Return the plane in the queue that follows one, or the first; None if the queue is empty."""
        queue = self.queue()
        if after in queue:
            place = queue.index(after) + 1
            return queue[place % len(queue)] if len(queue) > 1 else None
        return queue[0] if queue else None

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Records of the rounds, in their order."""
        rounds = self._store.view().rounds
        return tuple(rounds[number] for number in sorted(rounds))

    def next_round(self) -> int:
        """Return the number that the next round has."""
        return max(self._store.state.rounds, default=0) + 1

    def model_folder(self, number: int) -> Path:
        """Return where the model of a round is saved, with `napari_boxprompt.bundle.save_bundle`."""
        return self.folder / MODELS / f"{number:03d}"

    def add_round(self, record: Round) -> None:
        """Record a round, after its model was saved; a record of the same number is replaced."""
        self._store.record(RoundChange(round=record))
        said = f"{record.boxes} boxes, {record.masks} masks, scores {record.scores}"
        if record.loaded_from is not None:
            said = f"loaded from {record.loaded_from}"
        self.log(f"Round {record.number}: {said}.")

    def _shape(self, plane: PlaneId) -> tuple[int, int]:
        """Return the size of a plane of the project."""
        entry = self.entries.get(plane.image)
        if entry is None:
            raise BoxError(f"The project has no image {plane.image}; add it first.")
        inside = len(plane.index) == len(entry.extent) and all(
            0 <= i < n for i, n in zip(plane.index, entry.extent, strict=True)
        )
        if not inside:
            raise BoxError(
                f"{plane.image} has no plane {list(plane.index)}; its stack is {list(entry.extent)}."
            )
        return entry.shape


def _rounded(region: Region) -> Region:
    y0, x0, y1, x1 = (round(float(value), 9) for value in region)
    return (y0, x0, y1, x1)
