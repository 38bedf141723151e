"""Predictions, kept in the project until others take their place: they may have taken hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.gui.plane_mask import PlaneMask
from napari_boxprompt.project import SETTLED, keep_proposal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image

    from napari_boxprompt.gui.project_images import ImageTable
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.segmenting import Found
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Project, Status

__all__ = ["Predicted"]


class Predicted:
    """Records masks that nobody has touched yet; they teach nothing, and are there again with the project.

    Those of a prediction that runs are recorded one by one. Those that were there before, as in a session
    that becomes a project, follow one at a time, so that the viewer stays quick.

    Parameters
    ----------
    session, project, table, do
        See `napari_boxprompt.gui.painted.Painted`.
    correct : callable
        Records planes of a result that the user has changed.
    """

    def __init__(
        self,
        session: Session,
        project: Project,
        table: ImageTable,
        do: Callable[..., bool],
        correct: Callable[[Result, Sequence[PlaneId]], None],
    ) -> None:
        self._session, self._project, self._table = session, project, table
        self._do, self._correct = do, correct
        self._kept: dict[PlaneId, list[Result]] = {}
        self._waiting: dict[PlaneId, tuple[Result, PlaneId]] = {}
        self._refused = False
        self._timer = QTimer()
        self._timer.timeout.connect(self._write_next)
        session.results.filled.connect(self._take)

    def know(self, result: Result) -> None:
        """Take it that the project has this result already."""
        entry = self._table.entry_of(result.view)
        if entry is not None:
            self._kept |= {PlaneId(entry.name, here.index): result.siblings for here in result.scores}

    def note(self) -> None:
        """Record what is not recorded yet; of several predictions of a plane, the newest."""
        self._refused = False
        newest: dict[PlaneId, tuple[Result, PlaneId]] = {}
        for result in self._session.results.alive:
            entry = self._table.entry_of(result.view)
            if entry is not None:
                newest |= {PlaneId(entry.name, here.index): (result, here) for here in result.scores}
        self._waiting = {
            plane: found for plane, found in newest.items() if self._kept.get(plane) is not found[0].siblings
        }
        if self._waiting:
            self._timer.start(0)

    def keep(self, found: Found) -> bool:
        """Record what was found on a plane of an image that is not open; return whether that went well.

        What somebody has painted or accepted there stays.
        """
        prediction, plane = found.prediction, found.prediction.plane
        if self._table.layer_of(plane.image) is not None:  # opened meanwhile
            return True
        classes, signs = {item.id: item.label for item in prediction.objects}, found.scores.signs
        return self._do(
            keep_proposal, self._project, plane, prediction.labels, classes, float(found.doubt), signs
        )

    def forget(self, image: Image) -> None:
        """Let go of the results of an image that was closed."""
        self._kept = {
            plane: results
            for plane, results in self._kept.items()
            if not any(one.view.layer == image for one in results)
        }

    def close(self) -> None:
        """Record all that waits."""
        while self._waiting and not self._refused:
            self._write_next()

    def let_go(self) -> None:
        """Stop listening."""
        self._timer.stop()
        self._session.results.filled.disconnect(self._take)

    def _take(self, result: Result, here: PlaneId) -> None:
        plane = self._table.stored(result.view, here)
        if plane is not None and not self._refused:
            self._write(result, here, plane)

    def _write_next(self) -> None:
        if not self._waiting or self._refused:
            self._timer.stop()
            return
        plane = next(iter(self._waiting))
        self._write(*self._waiting.pop(plane), plane)

    def _write(self, result: Result, here: PlaneId, plane: PlaneId) -> None:
        status = self._project.status(plane)
        if not result.together:
            return
        if status in SETTLED or result.is_work(here):
            self._kept[plane] = result.siblings  # a prediction never takes the place of work
            if status not in SETTLED:
                self._correct(result, [here])
            return
        mask = PlaneMask(result, here)
        labels, classes = mask.numbered(mask.labels(), self._session.lessons.class_of_painted)
        rejected = result.status.get(here) == "rejected"  # not of what was there before this prediction
        new: Status = "rejected" if rejected else "boxed" if status == "boxed" else "predicted"
        if self._do(self._project.paint, plane, labels, classes=classes, status=new):
            self._kept[plane] = result.siblings
        else:
            self._refused = True  # it was said once; the next end of a prediction tries again
