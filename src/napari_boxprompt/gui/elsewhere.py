"""What images of the open project teach that are not in the viewer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.events import Progress
from napari_boxprompt.gui.from_file import with_names
from napari_boxprompt.gui.project_images import layer_name, shown_names
from napari_boxprompt.images import Images
from napari_boxprompt.project import ClassMasks, project_lessons

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.projects import Projects
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Project

__all__ = ["Elsewhere", "Labelled", "Taught", "read_labelled"]

READING = "reading what was labelled"


@dataclass(frozen=True)
class Labelled:
    """What was labelled on images of a project.

    Parameters
    ----------
    names : frozenset of str
        The images that were looked at, as the project calls them, also those without any.
    boxes : BoxSet
        Boxes to learn from, of all classes of the project.
    drawn : BoxSet
        Those that a person has drawn.
    masked : tuple of PlaneId
        Planes with a mask to learn from.
    troubles : tuple of str
        What could not be read, a sentence each.
    """

    names: frozenset[str] = frozenset()
    boxes: BoxSet = field(default_factory=partial(BoxSet, (), {}, ()))
    drawn: BoxSet = field(default_factory=partial(BoxSet, (), {}, ()))
    masked: tuple[PlaneId, ...] = ()
    troubles: tuple[str, ...] = ()

    def without(self, images: Collection[str]) -> Labelled:
        """Leave images out."""
        return replace(
            self,
            names=self.names - {*images},
            boxes=_without(self.boxes, images),
            drawn=_without(self.drawn, images),
            masked=tuple(plane for plane in self.masked if plane.image not in images),
        )

    def join(self, more: Labelled) -> Labelled:
        """Return both."""
        return Labelled(
            self.names | more.names,
            BoxSet.merge([self.boxes, more.boxes] if self.boxes.planes else [more.boxes]),
            BoxSet.merge([self.drawn, more.drawn] if self.drawn.planes else [more.drawn]),
            (*self.masked, *more.masked),
        )


@dataclass(frozen=True)
class Taught:
    """Lessons of images that are not open, under the names that their layers would have.

    Parameters
    ----------
    images : Images
        All planes of these images; nothing is read yet.
    boxes, drawn : BoxSet
        As in `Labelled`.
    masked : mapping of PlaneId to PlaneId
        Planes with a mask to learn from, and what the project calls them.
    project : Project
        Has the masks.
    """

    images: Images
    boxes: BoxSet
    drawn: BoxSet
    masked: Mapping[PlaneId, PlaneId]
    project: Project

    def masks(self, classes: tuple[str, ...], others: Mapping[PlaneId, npt.NDArray[np.uint8]]) -> ClassMasks:
        """Class masks, read when they are asked for, beside `others`; class k is the k-th of `classes`."""
        return ClassMasks(self.project, self.masked, classes, others)


class Elsewhere:
    """Knows what a training can learn from images of the project that are not open.

    Work on hundreds of images need not be in the viewer to teach. It is read in the background, of each image
    when it is closed, or when the project is opened without it.

    Parameters
    ----------
    session, jobs, projects
        See the classes.
    """

    def __init__(self, session: Session, jobs: Jobs, projects: Projects) -> None:
        self._session, self._jobs, self._projects = session, jobs, projects
        self._known = Labelled()
        self._of: tuple[Project | None, tuple[str, ...]] = (None, ())
        self._made: tuple[object, Taught | None] = (None, None)
        self._soon = QTimer(jobs)  # layers of a project come one after another
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._read)
        projects.changed.connect(self._soon.start, check_nargs=False)
        session.renamed.connect(self._on_renamed)

    @property
    def settled(self) -> bool:
        """Whether all is known that there is."""
        return not self._unread()

    @property
    def taught(self) -> Taught | None:
        """What is known to be learnt from images that are not open; None where there is nothing."""
        project = self._projects.project
        if project is None or not self._is_of(project) or not self._known.boxes.boxed_planes:
            return None
        shown, taken = shown_names(self._projects.table), [layer.name for layer in self._session.image_layers]
        key = (self._known, shown, taken)
        if self._made[0] != key:
            self._made = key, _taught(project, self._known.without(shown), taken)
        return self._made[1]

    def _is_of(self, project: Project) -> bool:
        return self._of[0] is project and self._of[1] == project.classes

    def _unread(self) -> list[str]:
        project = self._projects.project
        if project is None:
            return []
        known = self._known.names if self._is_of(project) else frozenset()
        table = self._projects.table
        return [] if table is None else [name for name in table.closed if name not in known]

    def _read(self) -> None:
        """Read what is not known, and forget of images that are open what may change now."""
        project = self._projects.project
        if self._projects.busy:
            return  # it is told when that is done
        if project is None or not self._is_of(project):
            self._known = Labelled()
            self._of = (project, () if project is None else project.classes)
        shown = [name for name in shown_names(self._projects.table) if name in self._known.names]
        if shown:
            self._known = self._known.without(shown)
        names = self._unread()
        if project is not None and names:
            work = partial(read_labelled, project=project, names=names)
            self._jobs.start(READING, work, on_result=partial(self._keep, project), replace=True)

    def _on_renamed(self, _: object) -> None:
        """Read all anew: classes of images that are not open may have another name."""
        self._of = (None, ())
        self._soon.start()

    def _keep(self, project: Project, found: Labelled) -> None:
        if not self._is_of(project) or self._projects.project is not project:
            return
        for text in found.troubles:
            show_warning(f"{text} It is not learnt from.")
        self._known = self._known.join(found.without(self._known.names))
        self._session.result_changed.emit()


def read_labelled(
    stop: Stop, project: Project, names: Collection[str]
) -> Generator[Progress, None, Labelled]:
    """Read what was labelled on some images of a project, in a worker."""
    yield Progress("prepare", 0, 1, READING)
    found = project_lessons(project, {*names}, lenient=True)
    boxes = replace(found.boxes, classes=project.classes)
    return Labelled(frozenset(names), boxes, found.drawn, tuple(found.masks), found.troubles)


def _taught(project: Project, known: Labelled, taken: Collection[str]) -> Taught | None:
    """Give the images names that no open image has, if possible those that their layers would have."""
    if not known.boxes.boxed_planes:
        return None
    names: dict[str, str] = {}
    labelled = {plane.image for plane in known.boxes.planes}
    for image in (name for name in project.images.names if name in labelled):
        free = (name for name in _proposals(project, image) if name not in {*taken, *names.values()})
        names[image] = next(free)
    return Taught(
        Images({}).join(project.images, names),
        with_names(known.boxes, names),
        with_names(known.drawn, names),
        {PlaneId(names[plane.image], plane.index): plane for plane in known.masked},
        project,
    )


def _proposals(project: Project, image: str) -> Iterator[str]:
    yield layer_name(project.entries[image])
    name = image
    while True:
        yield name
        name += "'"


def _without(boxes: BoxSet, images: Collection[str]) -> BoxSet:
    return boxes.restrict(plane for plane in boxes.planes if plane.image not in images)
