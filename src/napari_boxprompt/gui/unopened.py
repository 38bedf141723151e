"""Images of the open project that are not in the viewer: predicted as they are, opened for a look."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from psygnal import Signal

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxPromptError, ProjectError
from napari_boxprompt.gui.project_images import shown_names
from napari_boxprompt.gui.telling import counted
from napari_boxprompt.project import unsettled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_boxprompt.gui.open_project import OpenProject
    from napari_boxprompt.gui.predicting import Predicting
    from napari_boxprompt.gui.projects import Projects
    from napari_boxprompt.gui.segmenting import Found
    from napari_boxprompt.gui.state import Session

__all__ = ["Unopened"]

KEPT = 12
"""The last images that the review has opened: so many stay open though they are accepted."""


class Unopened:
    """Has images of a project segmented that are not open, and opens them one after another for the review.

    A folder of hundreds of images need not be in the viewer for that: masks go to the project.

    Parameters
    ----------
    session, projects, predicting
        See the classes.

    Attributes
    ----------
    ended : psygnal.Signal
        A prediction of such images has ended.
    """

    ended = Signal()

    def __init__(self, session: Session, projects: Projects, predicting: Predicting) -> None:
        self._session, self._projects, self._predicting = session, projects, predicting
        self._at_work = False
        self._lost: set[tuple[Path, str]] = set()  # images that could not be opened
        self._opened: list[tuple[Path, str]] = []  # by the review, oldest first
        predicting.ended.connect(self._on_ended)

    def planes(self) -> list[PlaneId]:
        """Planes of such images on which nobody has painted, and that nobody has accepted."""
        project = self._projects.project
        if project is None:
            return []
        shown = {*shown_names(self._projects.table)}
        return [plane for plane in unsettled(project) if plane.image not in shown]

    def waiting(self) -> list[PlaneId]:
        """Planes of such images that nobody has judged, the most unsure first; then rejected ones."""
        project = self._projects.project
        if project is None:
            return []
        shown = {*shown_names(self._projects.table)}
        shown |= {name for folder, name in self._lost if folder == project.folder}
        away = (plane for plane in project.images.planes if plane.image not in shown)
        found = [(project.record(plane), plane) for plane in away]
        found = [(record, plane) for record, plane in found if record.status in ("predicted", "rejected")]
        found.sort(key=lambda one: (one[0].status, -(one[0].score or 0.0)))
        return [plane for _, plane in found]

    def accepted(self) -> int:
        """Count the planes of such images that were accepted."""
        project, table = self._projects.project, self._projects.table
        if project is None or table is None:
            return 0
        closed = {*table.closed}
        away = (plane for plane in project.images.planes if plane.image in closed)
        return sum(project.status(plane) == "accepted" for plane in away)

    def predict(self) -> None:
        """Segment those that nobody has worked on; what is found goes to the project.

        Raises
        ------
        BoxPromptError
            No project that can be written, no such images, no model, or a prediction runs.
        """
        desk, planes = self._projects.desk, self.planes()
        if desk is None or desk.autosave is None:
            raise ProjectError("No project is open for writing, to keep what is found on its other images.")
        if not planes:
            raise BoxPromptError("There is no image of the project that is not open and waits for masks.")
        model = self._session.trained
        if model is not None:
            desk.autosave.expect(model.model.classes, exclusive=model.model.exclusive)

        def keep(found: Found) -> bool:
            # Not into another project that was opened meanwhile.
            return self._projects.desk is desk and desk.autosave is not None and desk.autosave.keep(found)

        self._predicting.apart(desk.project.images, planes, keep)
        self._at_work = True

    def open(self, plane: PlaneId, then: Callable[[PlaneId], object]) -> None:
        """Open the image of a plane; then call with the plane under the name that it has in the viewer.

        Of the images that were opened by this, those go that were accepted long ago, or there would be
        hundreds of layers. They teach all the same.

        Raises
        ------
        BoxPromptError
            Something is being done with the project.
        """
        self._projects.show_image(plane.image, partial(self._arrived, plane, then))

    def _arrived(self, plane: PlaneId, then: Callable[[PlaneId], object]) -> None:
        desk = self._projects.desk
        view = None if desk is None else desk.table.view_of(plane.image)
        if desk is not None and view is not None:
            then(PlaneId(view.name, plane.index))
            self._opened.append((desk.project.folder, plane.image))
            self._tidy(desk)
        elif desk is not None:  # it has been said why
            self._lost.add((desk.project.folder, plane.image))
            self._session.result_changed.emit()

    def _tidy(self, desk: OpenProject) -> None:
        """Close what was opened here and accepted, but for the last few."""
        project, chosen = desk.project, desk.chosen
        # What was closed, and is opened again, has been opened by somebody else.
        self._opened = [
            (folder, name)
            for folder, name in self._opened
            if folder == project.folder and desk.table.layer_of(name) is not None
        ]
        for folder, name in self._opened[:-KEPT]:
            planes = (plane for plane in project.images.planes if plane.image == name)
            if name != chosen and all(project.status(plane) == "accepted" for plane in planes):
                desk.close_image(name)
                self._opened.remove((folder, name))

    def _on_ended(self, done: int) -> None:
        if not self._at_work:
            return
        self._at_work = False
        if done:
            planes = counted(done, "plane")
            show_info(f"The masks of {planes} are in the project; Review goes on to them, most unsure first.")
        self.ended.emit()
