"""An open project in a viewer: which layers are in it, and who records what is done to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning

from napari_boxprompt.errors import ImageError
from napari_boxprompt.gui.autosave import Autosave
from napari_boxprompt.gui.layers import PlaneView
from napari_boxprompt.gui.project_images import ImageTable, file_of, look_of, wanted
from napari_boxprompt.gui.project_layers import ProjectLayers
from napari_boxprompt.gui.project_pixels import has_planes
from napari_boxprompt.gui.saving import Saving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.project_images import Wanted
    from napari_boxprompt.gui.project_work import Opened
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Project

__all__ = ["OpenProject", "candidates", "wanted_of"]


class OpenProject:
    """A project and all that belongs to it here.

    Parameters
    ----------
    session, jobs
        See the classes.
    project : Project
        The project.
    settings, reason
        See `napari_boxprompt.gui.autosave.Autosave`.
    """

    def __init__(
        self,
        session: Session,
        jobs: Jobs,
        project: Project,
        settings: Callable[[], dict[str, Any] | None],
        reason: Callable[[PlaneId], str],
    ) -> None:
        self.project = project
        self.table = ImageTable(project)
        self.layers = ProjectLayers(session, project, self.table)
        self.autosave: Autosave | None = None
        self.saving: Saving | None = None
        self._session, self._jobs = session, jobs
        self._settings, self._reason = settings, reason
        self._known = 0

    @property
    def chosen(self) -> str | None:
        """The image of the project that is worked on."""
        view = self._session.view
        return None if view is None else self.table.name_of(view.layer)

    def bind(self, layers: Sequence[Image], opened: Opened) -> None:
        """Note what image layers are called in the project."""
        for layer, name in zip(layers, opened.names, strict=True):
            if name is not None:
                self.table.bind(layer, name)
                self.table.mark(layer)
        self.note()
        if self.saving is not None:
            self.saving.touch()
        tell(opened)

    def show(self, opened: Opened) -> None:
        """Put what was read into the viewer."""
        self.layers.show(opened.images, opened.masks)
        self.note()
        tell(opened)

    def close_image(self, name: str) -> None:
        """Take the layers of an image out of the viewer; all work on it is in the project."""
        layer = self.table.layer_of(name)
        if layer is None:
            return
        if self.autosave is not None:
            self.autosave.note_quiet()
        self.layers.remove(name)
        self._known = len(self.layers.restored)
        if self.autosave is not None:
            self.autosave.forget(layer)

    def note(self) -> None:
        """Record what is different from the project, now that more of its images are there."""
        fresh, self._known = self.layers.restored[self._known :], len(self.layers.restored)
        if self.autosave is not None:
            self.autosave.know(fresh)
            self.autosave.note_boxes()
            self.autosave.note_results()

    def take_up(self, say_changed: Callable[[], object]) -> None:
        """Record from now on what happens; nothing is recorded of a project that others write."""
        if self.project.read_only:
            return
        self.autosave = Autosave(
            self._session, self.project, self.table, self._settings, self.layers.restored, self._reason
        )
        self.autosave.troubled.connect(show_error)
        self.saving = Saving(self.project, self.autosave, self._jobs)

        def changed() -> None:
            say_changed()

        self.saving.changed.connect(changed)

    def put_down(self) -> None:
        """Record no more."""
        if self.saving is not None:
            self.saving.close()
        if self.autosave is not None:
            self.autosave.close()
        self.autosave = self.saving = None

    def outside(self) -> list[Image]:
        """Image layers with boxes, or with planes that were judged, that the project does not have."""
        # Asked for at every gesture: what is in the project is not even counted.
        drawn = [boxes for boxes in self._session.box_layers if self.table.entry_of(boxes.view) is None]
        judged = [result.view for result in self._session.results.alive if result.status]
        views = [boxes.view for boxes in drawn if boxes.boxset]
        views += [view for view in judged if self.table.entry_of(view) is None]
        known = {view.name: view for view in views}
        # An image may be gone, and what was found on it still be there.
        return [view.layer for view in known.values() if view.layer in self._session.viewer.layers]


def tell(opened: Opened) -> None:
    """Say what could not be read or added."""
    for text in opened.troubles:
        show_warning(text)


def candidates(session: Session, *, copied: bool = False) -> list[Image]:
    """Return the image layers that a new project would be about: files, and what is worked on.

    Parameters
    ----------
    session : Session
        The images.
    copied : bool
        Only those that the project would have a copy of.
    """
    worked = [boxes.view.layer for boxes in session.box_layers]
    worked += [result.view.layer for result in session.results.alive]
    worked += [] if session.view is None else [session.view.layer]
    found = [layer for layer in session.image_layers if layer in worked or file_of(layer) is not None]
    return [layer for layer in found if not copied or _needs_copy(session, layer)]


def wanted_of(session: Session, layer: Image) -> Wanted:
    """Describe an image layer that is to be in a project.

    Raises
    ------
    ImageError
        Its planes cannot be used.
    """
    view = session.view_of(layer) or PlaneView.from_viewer(layer, session.viewer)
    chosen = session.view is not None and session.view.layer == layer
    contrast = session.contrast if chosen else None
    return wanted(view, look_of(view, contrast, by_hand=chosen and session.contrast_is_manual))


def _needs_copy(session: Session, layer: Image) -> bool:
    """Whether a project would have a copy of an image: of an array, or of a stack of several files.

    Of what names a file and is more than one plane, the header of the file is read.
    """
    if file_of(layer) is None or layer.ndim == 2:
        return file_of(layer) is None
    try:
        item = wanted_of(session, layer)
    except ImageError:
        return False  # it cannot be in a project at all
    return item.path is None or not has_planes(item.path, item.extent, item.shape, item.channel)
