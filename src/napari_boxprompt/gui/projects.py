"""The project that is open in a widget: made, opened, added to, closed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from psygnal import Signal

from napari_boxprompt.errors import BoxPromptError, ProjectError
from napari_boxprompt.gui import project_work
from napari_boxprompt.gui.autosave import Autosave
from napari_boxprompt.gui.classes import Classes
from napari_boxprompt.gui.layers import PlaneView
from napari_boxprompt.gui.project_images import ImageTable, file_of, look_of, wanted
from napari_boxprompt.gui.project_layers import ProjectLayers
from napari_boxprompt.gui.recent import note_recent
from napari_boxprompt.gui.saving import Saving
from napari_boxprompt.gui.telling import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari.layers import Image

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.project_images import Wanted
    from napari_boxprompt.gui.project_work import Opened
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Project

__all__ = ["Notice", "Projects"]

OPENING, CLOSING, ADDING = "opening the project", "closing the project", "adding to the project"


@dataclass(frozen=True)
class Notice:
    """Something about the project that the user should know, and may do something about.

    Parameters
    ----------
    text : str
        One sentence.
    button : str
        What can be done; empty for nothing.
    act : callable, optional
        Does it; None where a folder has to be asked for first, in which to look for images.
    """

    text: str
    button: str = ""
    act: Callable[[], object] | None = None


@dataclass
class _Desk:
    """A project and all that belongs to it here."""

    project: Project
    table: ImageTable
    layers: ProjectLayers
    autosave: Autosave | None = None
    saving: Saving | None = None


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
    changed : psygnal.Signal
        There is another project, or another thing to say of it.
    opened : psygnal.Signal
        A project was opened or made, and is on screen.
    """

    changed = Signal()
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
        self._desk: _Desk | None = None
        self._begun: list[Project] = []
        self._busy = ""
        self._refused: set[str] = set()
        session.image_changed.connect(self._on_image)
        session.layers_changed.connect(self._on_layers)
        session.boxes_changed.connect(self._on_boxes)
        session.viewer.layers.events.removed.connect(self._on_removed)

    # What there is to say

    @property
    def project(self) -> Project | None:
        """The open project."""
        return None if self._desk is None else self._desk.project

    @property
    def table(self) -> ImageTable | None:
        """Its images that are open."""
        return None if self._desk is None else self._desk.table

    @property
    def chosen(self) -> str | None:
        """Its image that is worked on."""
        view = self._session.view
        return None if self._desk is None or view is None else self._desk.table.name_of(view.layer)

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
        project = desk.project
        found = self._about_writing(desk)
        for name in project.changed:
            text = f"{name} has changed since its boxes were drawn. They are not shown."
            found.append(Notice(text, "It is right", partial(self.confirm, name)))
        if project.missing:
            first = project.missing[0]
            more = f" and {len(project.missing) - 1} more" if len(project.missing) > 1 else ""
            found.append(Notice(f"{first}{more} not found.", "Look in a folder …"))
        if desk.autosave is not None:
            found += [
                Notice(
                    f"{layer.name} is not in the project: its boxes are not kept.",
                    "Keep it" if file_of(layer) is not None else "Keep a copy",
                    partial(self.add, [layer], copies=True),
                )
                for layer in self._outside()
            ]
        return found

    def _about_writing(self, desk: _Desk) -> list[Notice]:
        project = desk.project
        if project.owner is not None:
            owner = project.owner
            text = f"Read-only: {owner.user} on {owner.host} works on it. What you do here is not kept."
            if owner.is_here:
                return [Notice(text)]
            return [Notice(text, "Take over", partial(self.open, project.folder, take_over=True))]
        if project.read_only:
            return [Notice(" ".join(project.problems[:1]) or "Read-only.")]
        if desk.saving is not None and desk.saving.refused:
            return [Notice(desk.saving.refused, "Try again", desk.saving.save)]
        return [Notice(text) for text in project.problems if text.startswith(("This drive", "Line"))]

    def _outside(self) -> list[Image]:
        """Image layers with boxes, or of results, that the project does not have."""
        if self._desk is None:
            return []
        views = [boxes.view for boxes in self._session.drawn]
        views += [result.view for result in self._session.results.alive if result.status]
        known = {view.name: view for view in views if self._desk.table.entry_of(view) is None}
        return [view.layer for view in known.values()]

    # New, open, close

    def candidates(self) -> list[Image]:
        """Image layers that a new project would be about: files, and what is worked on."""
        session = self._session
        worked = [boxes.view.layer for boxes in session.box_layers]
        worked += [result.view.layer for result in session.results.alive]
        worked += [] if session.view is None else [session.view.layer]
        return [layer for layer in session.image_layers if layer in worked or file_of(layer) is not None]

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
            raise ProjectError("A project is about images: open one first.")
        if self._desk is not None:
            self.close(then=partial(self.new, folder, copies=copies), keep_layers=True)
            return
        boxes = self._session.boxes
        classes = (Classes() if boxes is None else boxes.classes).names
        work = partial(
            project_work.make_project,
            folder=folder,
            wanted=[self._wanted(layer) for layer in layers],
            copies=copies,
            classes=classes,
            settings=self._settings() or {},
            holder=self._begun,
        )
        self._start(OPENING, "making …", work, partial(self._on_made, layers=layers))

    def open(self, folder: Path, *, take_over: bool = False, search: Sequence[Path] = ()) -> None:
        """Open a project and show what is in it.

        Raises
        ------
        BoxPromptError
            Something is being done already.
        """
        self._check_free()
        if self._desk is not None:
            self.close(then=partial(self.open, folder, take_over=take_over, search=search))
            return
        paths = [path for layer in self._session.image_layers if (path := file_of(layer)) is not None]
        work = partial(
            project_work.open_project,
            folder=folder,
            open_already=frozenset(os.path.normcase(os.path.abspath(path)) for path in paths),
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
        self._check_free()
        desk = self._desk
        if desk is None:
            raise ProjectError("There is no project open.")

        def closed(_: None) -> None:
            self._begun.remove(desk.project)
            self._desk = None
            if not keep_layers:
                desk.layers.remove()
            if then is not None:
                then()

        self._put_down(desk)
        work = partial(project_work.close_project, project=desk.project)
        self._start(CLOSING, "closing …", work, closed, partial(self._take_up, desk))

    def close_apart(self) -> None:
        """The widget goes away: save and close without it."""
        desk, self._desk = self._desk, None
        if desk is not None:
            self._put_down(desk)
        self._session.viewer.layers.events.removed.disconnect(self._on_removed)
        project_work.close_apart(self._begun)

    def _check_free(self) -> None:
        if self._busy:
            raise ProjectError("Something is being done with the project; wait a moment.")

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
        for layer, name in zip(layers, opened.names, strict=True):
            if name is not None:
                desk.table.bind(layer, name)
        self._take_up(desk)
        self._tell(opened)
        self.opened.emit()

    def _on_opened(self, opened: Opened) -> None:
        desk = self._lay_out(opened)
        desk.layers.show(opened.images, opened.masks)
        if not opened.project.read_only:
            self._take_up(desk)
        self._tell(opened)
        self.opened.emit()

    def _lay_out(self, opened: Opened) -> _Desk:
        table = ImageTable(opened.project)
        self._desk = _Desk(opened.project, table, ProjectLayers(self._session, opened.project, table))
        self._refused = set()
        note_recent(opened.project.folder)
        return self._desk

    def _tell(self, opened: Opened) -> None:
        for text in opened.troubles:
            show_warning(text)

    def _take_up(self, desk: _Desk) -> None:
        """Record from now on what happens."""
        desk.autosave = Autosave(
            self._session, desk.project, desk.table, self._settings, desk.layers.restored, self._reason
        )
        desk.autosave.troubled.connect(show_error)
        desk.saving = Saving(desk.project, desk.autosave, self._jobs)
        desk.saving.changed.connect(self._say_changed)

    def _put_down(self, desk: _Desk) -> None:
        """Record no more."""
        if desk.saving is not None:
            desk.saving.close()
        if desk.autosave is not None:
            desk.autosave.close()
        desk.autosave = desk.saving = None

    def _say_changed(self) -> None:
        self.changed.emit()

    # Images

    def _wanted(self, layer: Image) -> Wanted:
        view = self._session.view_of(layer) or PlaneView.from_viewer(layer, self._session.viewer)
        chosen = self._session.view is not None and self._session.view.layer == layer
        contrast = self._session.contrast if chosen else None
        return wanted(view, look_of(view, contrast, by_hand=chosen and self._session.contrast_is_manual))

    def add(self, layers: Sequence[Image], *, copies: bool) -> None:
        """Add image layers to the project.

        Raises
        ------
        BoxPromptError
            No project is open for writing, or something is being done already.
        """
        self._check_free()
        desk = self._writable()

        def added(opened: Opened) -> None:
            for layer, name in zip(layers, opened.names, strict=True):
                if name is not None:
                    desk.table.bind(layer, name)
            if desk.autosave is not None:
                desk.autosave.note_boxes()
                desk.autosave.note_results()
            self._tell(opened)

        self._refused |= {layer.name for layer in layers}
        items = [self._wanted(layer) for layer in layers]
        work = partial(project_work.add_images, project=desk.project, wanted=items, copies=copies)
        self._start(ADDING, "adding images …", work, added)

    def _writable(self) -> _Desk:
        if self._desk is None or self._desk.autosave is None:
            raise ProjectError("No project is open for writing.")
        return self._desk

    def show_image(self, name: str) -> None:
        """Open an image of the project that is not open, or choose it if it is.

        Raises
        ------
        BoxPromptError
            There is no project, or something is being done already.
        """
        self._check_free()
        desk = self._desk
        if desk is None:
            raise ProjectError("There is no project open.")
        view = desk.table.view_of(name)
        if view is not None:
            self._session.choose_image(view.layer, view.channel_axis, view.channel)
            return
        work = partial(project_work.read_images, project=desk.project, names=[name])
        self._start(OPENING, f"opening {name} …", work, self._on_read)

    def _on_read(self, opened: Opened) -> None:
        desk = self._desk
        if desk is None:
            return
        known = len(desk.layers.restored)
        desk.layers.show(opened.images, opened.masks)
        if desk.autosave is not None:
            desk.autosave.know(desk.layers.restored[known:])
            desk.autosave.note_boxes()
            desk.autosave.note_results()
        self._tell(opened)

    def confirm(self, name: str) -> None:
        """Say that a changed image is the right one for its boxes."""
        desk = self._writable()
        try:
            desk.project.confirm_image(name)
        except BoxPromptError as error:
            show_error(str(error))
            return
        self.show_image(name)

    def search(self, folder: Path) -> None:
        """Look for missing images in a folder, and open the project anew with what is found."""
        if self._desk is not None:
            self.open(self._desk.project.folder, search=[folder])

    # Out of it

    def export(self, kind: str, target: Path, *, images: bool = False) -> None:
        """Write what the project holds for other programs; see `napari_boxprompt.project.export_project`.

        Raises
        ------
        BoxPromptError
            There is no project, or something is being done already.
        """
        self._check_free()
        if self._desk is None:
            raise ProjectError("There is no project open.")
        work = partial(
            project_work.export, project=self._desk.project, kind=kind, target=target, images=images
        )
        self._start("exporting the project", "exporting …", work, show_info)

    def bring_in(self, source: Path) -> None:
        """Take boxes or masks of another program into the project, and open it anew.

        Raises
        ------
        BoxPromptError
            No project is open for writing, or something is being done already.
        """
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

    def _on_layers(self) -> None:
        self.changed.emit()

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
            for layer in self._outside()
            if layer.name not in self._refused
            and file_of(layer) is not None
            and desk.table.name_of(layer) is None
        ]
        if new and desk.autosave is not None and not self._busy:
            self.add(new, copies=False)
        self.changed.emit()

    def describe(self) -> str:
        """Say what is in the project, in a few words."""
        if self._desk is None:
            return ""
        project = self._desk.project
        return f"{counted(len(project.entries), 'image')}, {counted(len(project.boxes), 'box', 'boxes')}"
