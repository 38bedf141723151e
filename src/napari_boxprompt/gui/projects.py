"""The project that is open in a widget: made, opened, added to, closed."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from psygnal import Signal
from qtpy.QtCore import QCoreApplication

from napari_boxprompt.errors import ProjectError
from napari_boxprompt.gui import project_work
from napari_boxprompt.gui.classes import Classes
from napari_boxprompt.gui.open_project import OpenProject, candidates, wanted_of
from napari_boxprompt.gui.project_images import file_of, files_open
from napari_boxprompt.gui.project_notices import about_images, about_others, about_writing
from napari_boxprompt.gui.recent import note_recent
from napari_boxprompt.project import is_project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from napari.layers import Image

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.project_images import ImageTable
    from napari_boxprompt.gui.project_notices import Notice
    from napari_boxprompt.gui.project_work import Opened
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Project

__all__ = ["Projects"]

OPENING, CLOSING, ADDING = "opening the project", "closing the project", "adding to the project"


class Projects:
    """At most one open project.

    Parameters
    ----------
    session, jobs
        See the classes.
    settings : callable
        Gives the settings of the next training, None while one is not allowed.
    reason : callable
        Gives the reason why a plane should be looked at, in words.

    Attributes
    ----------
    still : callable
        Gives a context in which layers come that are to be seen all at once.
    changed : psygnal.Signal
        There is another project, or another thing to say of it.
    made, opened : psygnal.Signal
        A project was made, or opened, and is on screen.
    """

    changed = Signal()
    made = Signal()
    opened = Signal()

    def __init__(
        self,
        session: Session,
        jobs: Jobs,
        settings: Callable[[], dict[str, Any] | None] = lambda: None,
        reason: Callable[[PlaneId], str] = lambda _: "",
    ) -> None:
        self._session, self._jobs = session, jobs
        self._settings, self._reason = settings, reason
        self.still: Callable[[], AbstractContextManager[None]] = nullcontext
        self._desk: OpenProject | None = None
        self._begun: list[Project] = []
        self._busy = ""
        self._refused: set[str] = set()
        # Not a method, and nothing of Qt in it: by then the widget is gone.
        self._end = partial(project_work.close_apart, self._begun)
        jobs.destroyed.connect(self._end)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._end)
        session.image_changed.connect(self._on_image)
        session.layers_changed.connect(self.changed.emit)
        session.boxes_changed.connect(self._on_boxes)
        session.viewer.layers.events.removed.connect(self._on_removed)

    # What there is to say

    @property
    def project(self) -> Project | None:
        """The open project."""
        return None if self._desk is None else self._desk.project

    @property
    def desk(self) -> OpenProject | None:
        """The open project, and who records what is done in the viewer."""
        return self._desk

    @property
    def table(self) -> ImageTable | None:
        """Its images that are open."""
        return None if self._desk is None else self._desk.table

    @property
    def busy(self) -> str:
        """What is being done; empty for nothing."""
        return self._busy

    @property
    def state(self) -> str:
        """How safe the work is, in a few words; empty without a project."""
        if self._busy:
            return self._busy
        if self._desk is None:
            return ""
        if self._desk.saving is None:
            return "read-only"
        return self._desk.saving.state

    @property
    def notices(self) -> list[Notice]:
        """What the user should know about the project."""
        desk = self._desk
        if desk is None:
            return []
        found = about_writing(desk.project, desk.saving, self.open)
        found += about_images(desk.project, self.confirm)
        if desk.autosave is not None:
            found += about_others(desk.outside(), partial(self.add, copies=True), self._refused)
        return found

    # New, open, close

    def candidates(self, *, copied: bool = False) -> list[Image]:
        """Image layers that a new project would be about: all, or those that it would have a copy of."""
        return candidates(self._session, copied=copied)

    def new(self, folder: Path, *, copies: bool = True) -> None:
        """Make a project about the open images and all work on them.

        Parameters
        ----------
        folder : Path
            Made if needed.
        copies : bool
            Write images that are no files into it; else they are left out.

        Raises
        ------
        BoxPromptError
            There is no image, or something is being done already.
        """
        self._check_free()
        layers = [layer for layer in self.candidates() if copies or file_of(layer) is not None]
        if not layers:
            raise ProjectError("Open an image first: a project is about images.")
        if self._desk is not None:
            self.close(then=partial(self.new, folder, copies=copies), keep_layers=True)
            return
        boxes = self._session.boxes
        classes = (Classes() if boxes is None else boxes.classes).names
        work = partial(
            project_work.make_project,
            folder=folder,
            wanted=[wanted_of(self._session, layer) for layer in layers],
            copies=copies,
            said={"classes": classes, "settings": self._settings() or {}},
            holder=self._begun,
        )
        self._start(OPENING, "making …", work, partial(self._on_made, layers=layers))

    def open(self, folder: Path, *, take_over: bool = False, search: Sequence[Path] = ()) -> None:
        """Open a project and show what is in it.

        Raises
        ------
        BoxPromptError
            There is no project, or something is being done already.
        """
        self._check_free()
        if not is_project(folder):
            raise ProjectError(f"There is no project in {folder}; choose the folder of one.")
        if self._desk is not None:
            self.close(then=partial(self.open, folder, take_over=take_over, search=search))
            return
        work = partial(
            project_work.open_project,
            folder=folder,
            open_already=files_open(self._session.image_layers),
            take_over=take_over,
            search=search,
            holder=self._begun,
        )
        self._start(OPENING, "opening …", work, self._on_opened)

    def close(self, *, then: Callable[[], object] | None = None, keep_layers: bool = False) -> None:
        """Save, let others write the project, and take its layers out of the viewer.

        Parameters
        ----------
        then : callable, optional
            Called when that is done.
        keep_layers : bool
            Leave the layers.

        Raises
        ------
        BoxPromptError
            There is no project, or something is being done already.
        """
        desk = self._free_desk()

        def closed(_: None) -> None:
            self._begun.remove(desk.project)
            self._desk = None
            if not keep_layers:
                desk.layers.remove()
            self._session.result_changed.emit()  # images of it that were not open are not reviewed any more
            if then is not None:
                then()

        desk.put_down()
        work = partial(project_work.close_project, project=desk.project)
        self._start(CLOSING, "closing …", work, closed, partial(desk.take_up, self.changed.emit))

    def close_apart(self) -> None:
        """The widget goes away: save and close without it."""
        desk, self._desk = self._desk, None
        if desk is not None:
            name = desk.project.folder.name
            desk.put_down()
            show_info(f"Project {name} is saved, and closed with the dock. Open it again under Open.")
        self._session.viewer.layers.events.removed.disconnect(self._on_removed)
        self._end()

    def _check_free(self) -> None:
        if self._busy:
            raise ProjectError("Something is being done with the project; wait a moment.")

    def _free_desk(self) -> OpenProject:
        self._check_free()
        if self._desk is None:
            raise ProjectError("There is no project open.")
        return self._desk

    def _start(
        self,
        job: str,
        said: str,
        work: Callable[..., Any],
        on_result: Callable[[Any], None],
        on_error: Callable[[], None] | None = None,
    ) -> None:
        def result(value: Any) -> None:
            self._busy = ""
            if value is not None or job == CLOSING:
                on_result(value)

        def failed(_: str) -> None:
            self._busy = ""
            if on_error is not None:
                on_error()

        self._busy = said
        self._jobs.start(job, work, on_result=result, on_error=failed, on_end=self.changed.emit)
        self.changed.emit()

    # On the main thread again

    def _on_made(self, opened: Opened, layers: Sequence[Image]) -> None:
        desk = self._lay_out(opened)
        desk.bind(layers, opened)
        desk.take_up(self.changed.emit)
        self.made.emit()

    def _on_opened(self, opened: Opened) -> None:
        desk = self._lay_out(opened)
        with self.still():
            desk.show(opened)
        desk.take_up(self.changed.emit)
        self.opened.emit(False)

    def _lay_out(self, opened: Opened) -> OpenProject:
        self._desk = OpenProject(self._session, self._jobs, opened.project, self._settings, self._reason)
        self._refused = set()
        note_recent(opened.project.folder)
        return self._desk

    # Images

    def add(self, layers: Sequence[Image], *, copies: bool) -> None:
        """Add image layers to the project, which must be open for writing."""
        self._check_free()
        desk = self._writable()
        self._refused |= {layer.name for layer in layers}
        items = [wanted_of(self._session, layer) for layer in layers]
        work = partial(project_work.add_images, project=desk.project, wanted=items, copies=copies)
        self._start(ADDING, "adding images …", work, partial(desk.bind, layers))

    def _writable(self) -> OpenProject:
        if self._desk is None or self._desk.autosave is None:
            raise ProjectError("No project is open for writing.")
        return self._desk

    def show_image(self, name: str, then: Callable[[], object] = lambda: None) -> None:
        """Open an image of the project that is not open, or choose it if it is; then call `then`."""
        desk = self._free_desk()
        view = desk.table.view_of(name)
        if view is not None:
            desk.layers.turn_to(view)
            then()
            return

        def show(opened: Opened) -> None:
            desk.show(opened)
            then()

        work = partial(project_work.read_images, project=desk.project, names=[name])
        self._start(OPENING, f"opening {name} …", work, show)

    def confirm(self, name: str) -> None:
        """Say that a changed image is the right one for its boxes."""
        self._check_free()
        desk = self._writable()
        work = partial(project_work.confirm_image, project=desk.project, name=name)
        self._start(OPENING, f"opening {name} …", work, desk.show)

    def search(self, folder: Path) -> None:
        """Look for missing images in a folder, and open the project anew with what is found."""
        if self._desk is not None:
            self.open(self._desk.project.folder, search=[folder])

    # Out of it

    def export(self, kind: str, target: Path, *, images: bool = False, predicted: bool = False) -> None:
        """Write what the project holds for other programs; see `napari_boxprompt.project.export_project`."""
        project = self._free_desk().project
        export = partial(project_work.export, images=images, predicted=predicted)
        work = partial(export, project=project, kind=kind, target=target)
        self._start("exporting the project", "exporting …", work, show_info)

    def make(
        self, said: str, work: Callable[..., Any], on_result: Callable[[Any], None] | None = None
    ) -> None:
        """Do work that makes a project; by default it returns the folder, which is then opened."""
        self._check_free()
        self._start(OPENING, said, work, on_result or self.open)

    def bring_in(self, source: Path) -> None:
        """Take boxes or masks of another program into the project, and open it anew."""
        self._check_free()
        project = self._writable().project

        def done(said: str) -> None:
            show_info(said)
            self.open(project.folder)

        work = partial(project_work.bring_in, project=project, source=source)
        self._start("importing", "importing …", work, done)

    def touch(self) -> None:
        """Something was recorded elsewhere."""
        if self._desk is not None and self._desk.saving is not None:
            self._desk.saving.touch()

    # Events

    def _on_image(self) -> None:
        if self._desk is not None:
            self._desk.layers.show_contrast()

    def _on_removed(self, event: Any) -> None:
        if self._desk is not None:
            self._desk.table.forget(event.value)
            self.changed.emit()

    def _on_boxes(self) -> None:
        """Images that are files come into the project as soon as somebody draws on them."""
        desk = self._desk
        if desk is None:
            return
        new = [
            layer
            for layer in desk.outside()
            if layer.name not in self._refused
            and file_of(layer) is not None
            and desk.table.name_of(layer) is None
        ]
        if new and desk.autosave is not None and not self._busy:
            self.add(new, copies=False)
        self.changed.emit()
