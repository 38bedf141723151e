"""When the files of a project are written: a second after the last gesture, in a worker."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_boxprompt.gui.project_work import save

if TYPE_CHECKING:
    from napari_boxprompt.gui.autosave import Autosave
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.project import Project

__all__ = ["SAVING", "Saving"]

SAVING = "saving the project"

QUIET_MS = 1000
"""Time after the last gesture."""

LOOK_MS = 2000
"""Every so often it is looked whether images are shown in another way; there is no signal for all of that."""

AGAIN_MS = 30_000
"""Time after which a refused save is tried again."""


class Saving:
    """Writes the files of one project.

    Parameters
    ----------
    project : Project
        Open for writing.
    autosave : Autosave
        Tells of gestures.
    jobs : Jobs
        Runs the writing.

    Attributes
    ----------
    changed : psygnal.Signal
        `state` is another.
    """

    changed = Signal()

    def __init__(self, project: Project, autosave: Autosave, jobs: Jobs) -> None:
        self._project, self._autosave, self._jobs = project, autosave, jobs
        self.refused = ""
        self._timer, self._looks = QTimer(jobs), QTimer(jobs)  # they go with the widget
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.timeout.connect(self.save)
        self._looks.setInterval(LOOK_MS)
        self._looks.timeout.connect(autosave.note_quiet)
        self._looks.start()
        autosave.recorded.connect(self.touch)
        self._timer.start()

    @property
    def state(self) -> str:
        """How safe the work is, in a word or two."""
        if self.refused:
            return "not saved"
        waiting = self._project.unsaved or self._project.unwritten or self._jobs.running(SAVING)
        return "saving …" if waiting else "saved"

    def close(self) -> None:
        """Write nothing more by itself."""
        self._timer.stop()
        self._looks.stop()
        self._autosave.recorded.disconnect(self.touch)

    def touch(self) -> None:
        """Something was recorded: write it when all is quiet."""
        self._timer.start(QUIET_MS)
        self.changed.emit()

    def save(self) -> None:
        """Write what is not written yet."""
        if self._jobs.running(SAVING):
            self._timer.start(QUIET_MS)
        elif self._project.unsaved or self._project.unwritten:
            self._jobs.start(
                SAVING,
                partial(save, project=self._project),
                on_result=self._on_saved,
                on_error=self._on_refused,
                on_end=self.changed.emit,
            )

    def _on_saved(self, _: None) -> None:
        self.refused = ""

    def _on_refused(self, message: str) -> None:
        self.refused = message
        self._timer.start(AGAIN_MS)
