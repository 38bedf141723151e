"""Masks and statuses of planes, recorded in the project: what was accepted, rejected, painted, predicted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.plane_mask import PlaneMask
from napari_boxprompt.gui.planes import planes_touched
from napari_boxprompt.project import SETTLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    from napari.layers import Image

    from napari_boxprompt.gui.project_images import ImageTable
    from napari_boxprompt.gui.renaming import Renaming
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Mask, Project, Status
    from napari_boxprompt.ranking import PlaneScores

    _Watched = tuple[Result, tuple[tuple[Any, Callable[[Any], None]], ...]]

__all__ = ["Painted"]


class Painted:
    """Records results of a session.

    Parameters
    ----------
    session, project, table, reason
        See `napari_boxprompt.gui.autosave.Autosave`.
    do : callable
        Called with a method of the project and its arguments; tells whether it was recorded.
    """

    def __init__(
        self,
        session: Session,
        project: Project,
        table: ImageTable,
        reason: Callable[[PlaneId], str],
        do: Callable[..., bool],
    ) -> None:
        self._session, self._project, self._table = session, project, table
        self._reason, self._do = reason, do
        self._watched: list[_Watched] = []
        self._said: dict[PlaneId, tuple[Result, str]] = {}
        self._scored: dict[PlaneId, float] = {}
        # Planes that are painted on: what the project has of them, to find what a stroke has changed.
        self._masks: dict[tuple[int, PlaneId], PlaneMask] = {}
        self._note_classes()
        session.renamed.connect(self._on_renamed)
        session.results.kept_classes = self._layered

    def close(self) -> None:
        """Stop listening."""
        self._session.renamed.disconnect(self._on_renamed)
        self._session.results.kept_classes = lambda _: set()
        self._ignore(self._watched)

    def forget(self, image: Image) -> None:
        """Let go of the results of an image that was closed; what is on it is recorded."""
        self._ignore([watched for watched in self._watched if watched[0].view.layer == image])
        self._said = {plane: said for plane, said in self._said.items() if said[0].view.layer != image}
        self._masks = {key: mask for key, mask in self._masks.items() if mask.result.view.layer != image}

    def _ignore(self, watched: list[_Watched]) -> None:
        for _, connections in watched:
            for emitter, slot in connections:
                emitter.disconnect(slot)
        self._watched = [one for one in self._watched if one not in watched]

    def know(self, result: Result, planes: dict[PlaneId, str]) -> None:
        """Take it that the project has these planes of a result already, with these statuses."""
        for plane, status in planes.items():
            self._said[plane] = (result, status)
        entry = self._table.entry_of(result.view)
        if entry is not None:
            found = result.scores.items()
            self._scored |= {PlaneId(entry.name, here.index): float(scores.doubt) for here, scores in found}

    def _on_renamed(self, renaming: Renaming) -> None:
        names = {name: None for image in renaming.images if (name := self._table.name_of(image)) is not None}
        if renaming.everywhere:
            names |= dict.fromkeys(self._table.closed)
        for name in names:
            self._do(self._project.rename_objects, name, renaming.old, renaming.new)
        for mask in self._masks.values():
            mask.rename(renaming)
        self._note_classes()

    def _layered(self, image: Image) -> set[str]:
        """Classes of objects in masks of an image that have a layer for each class."""
        if self._project.exclusive:
            return set()
        name = self._table.name_of(image)
        planes = (plane for plane in self._project.images.planes if plane.image == name)
        return {found for plane in planes for found in self._project.mask_classes(plane).values()}

    def _note_classes(self) -> None:
        # Classes of objects in masks.
        names = (self._project.mask_classes(plane).values() for plane in self._project.images.planes)
        self.classes = dict.fromkeys(name for some in names for name in some)

    def note(self) -> None:
        """Record what was said of planes since, and which planes were predicted."""
        self._watch()
        self._note_scores()  # first, because a new prediction takes the place of what was rejected
        names: dict[int, str | None] = {}
        rejected = {plane for plane, (_, status) in self._said.items() if status == "rejected"}
        for here, (result, status) in self._session.results.said().items():
            if id(result) not in names:
                entry = self._table.entry_of(result.view)
                names[id(result)] = None if entry is None else entry.name
            name = names[id(result)]
            if name is None:
                continue
            plane = PlaneId(name, here.index)
            rejected.discard(plane)
            before = self._said.get(plane)
            if before == (result, status):
                continue
            inherited = before is not None and before[1] == status == "accepted" and before[0] is not result
            if status == "accepted" and result.together and not inherited:
                if not self._write(result, here, plane, "accepted"):
                    continue
            elif status == "rejected" and not self._do(self._project.set_status, plane, "rejected"):
                continue
            self._said[plane] = (result, status)
        for plane in rejected:  # and predicted again since: it may be rejected again
            del self._said[plane]

    def _note_scores(self) -> None:
        told: dict[PlaneId, tuple[PlaneId, PlaneScores]] = {}
        for result in self._session.results.alive:  # of several, the newest says how a plane is
            entry = self._table.entry_of(result.view)
            if entry is not None:
                told |= {PlaneId(entry.name, here.index): (here, of) for here, of in result.scores.items()}
        new = {
            plane: float(of.doubt)
            for plane, (_, of) in told.items()
            if np.isfinite(of.doubt)
            and self._scored.get(plane, self._project.record(plane).score) != of.doubt
        }
        reasons = {plane: self._reason(told[plane][0]) for plane in new}
        signs = {plane: told[plane][1].signs for plane in new}
        if new and self._do(self._project.note_predictions, new, reasons, signs):
            self._scored |= new

    # Painting

    def _watch(self) -> None:
        known = [result for result, _ in self._watched]
        for result in self._session.results.alive:
            if not any(result is one for one in known):
                self._listen(result)

    def _listen(self, result: Result) -> None:
        before: list[PlaneId] = []

        def on_paint(event: Any) -> None:
            # At the end of a stroke of the mouse; but before the pixels are there where a script paints.
            before[:] = planes_touched(result.view, event.value)
            self.note_strokes(result, before)

        def on_update(_: Any) -> None:
            if before:
                self.note_strokes(result, before)
                before.clear()

        def on_drawn(_: Any) -> None:
            # Undo says nothing but that all was drawn anew; it is seen on the plane on screen.
            here = result.view.plane_shown(self._session.viewer)
            undone = [here] if here is not None and (id(result.siblings), here) in self._masks else []
            self.note_strokes(result, dict.fromkeys((*before, *undone)))
            before.clear()

        events = result.layer.events
        connections = (
            (events.paint, on_paint),
            (events.labels_update, on_update),
            (events.set_data, on_drawn),
        )
        for emitter, slot in connections:
            emitter.connect(slot)
        self._watched.append((result, connections))

    def note_all(self) -> None:
        """Look at all planes that were painted on: an undo is not told where its plane is out of sight."""
        for result, _ in self._watched:
            painted = [plane for number, plane in self._masks if number == id(result.siblings)]
            self.note_strokes(result, painted)

    def note_strokes(self, result: Result, planes: Iterable[PlaneId]) -> None:
        """Record what is different on planes of a result since the last time."""
        for here in list(planes):
            plane = self._table.stored(result.view, here)
            if plane is None or not result.fits or not result.alive:
                continue
            said = self._session.results.said().get(here)
            status: Status = "corrected" if said is None else said[1]
            mask = self._masks.get((id(result.siblings), here))
            if mask is None or mask.known is None:
                self._write(result, here, plane, status)
                continue
            now = mask.labels()
            changed = (now != mask.known).reshape(-1, *now.shape[-2:]).any(axis=0)
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            if not rows.size:
                continue
            part = (..., slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            if self._record(mask, plane, now[part], status, int(rows[0]), int(columns[0])):
                mask.known[part] = now[part]

    def _write(self, result: Result, here: PlaneId, plane: PlaneId, status: Status) -> bool:
        """Record a whole plane; remember it if it was painted on."""
        mask = self._masks.get((id(result.siblings), here))
        if mask is None:
            kept = None if result.only is None else self._kept(plane)
            mask = PlaneMask(result, here, self._project.classes, kept)
        labels = mask.labels()
        if not self._record(mask, plane, labels, status):
            return False
        mask.known = labels.copy()
        self._masks[(id(result.siblings), here)] = mask
        return True

    def _record(
        self,
        mask: PlaneMask,
        plane: PlaneId,
        labels: npt.NDArray[Any],
        status: Status,
        y: int = 0,
        x: int = 0,
    ) -> bool:
        part, names = mask.numbered(labels, self._session.lessons.class_of_painted)
        self.classes |= dict.fromkeys(names.values())
        return self._do(self._project.paint, plane, part, y, x, classes=names, status=status)

    def _kept(self, plane: PlaneId) -> Mask | None:
        """Somebody's work on a plane, None where there is none."""
        if self._project.status(plane) not in SETTLED:
            return None
        with suppress(BoxPromptError):  # it was said when the project was opened
            return self._project.mask(plane)
        return None
