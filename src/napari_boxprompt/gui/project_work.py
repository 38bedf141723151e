"""Long work on projects, as generators that run in a worker: no Qt and no layers in here."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_boxprompt.errors import BoxPromptError, BundleError, ImageError, ProjectError
from napari_boxprompt.events import Progress
from napari_boxprompt.gui.kept import read_kept
from napari_boxprompt.gui.project_images import as_copied, fits
from napari_boxprompt.gui.project_pixels import file_for, load_image
from napari_boxprompt.project import Project, export_project, import_into

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.jobs import Stop
    from napari_boxprompt.gui.kept import KeptImage
    from napari_boxprompt.gui.project_images import Loaded, Wanted
    from napari_boxprompt.project import Round
    from napari_boxprompt.prompting import PromptModel

__all__ = [
    "KEEPING",
    "Opened",
    "add_images",
    "bring_in",
    "close_apart",
    "close_project",
    "confirm_image",
    "export",
    "keep_round",
    "make_project",
    "open_project",
    "read_images",
    "save",
]

FEW = 12
"""So many images of a project are opened with it: what was labelled on others teaches without that."""

CLOSING = "boxprompt closing a project"
"""Name of the thread that ends the work on a project when its window is gone."""

KEEPING = "keeping the model"
"""Name of the job that saves models into a project."""


@dataclass
class Opened:
    """A project with what is needed to show it.

    Parameters
    ----------
    project : Project
        It is open.
    images : list of Loaded
        Images that were read.
    masks : dict of str to KeptImage
        Masks of these images, and of those that were in the viewer already, by their names.
    names : list of str or None
        After `make_project` and `add_images`: what the wanted images are called in the project.
    troubles : list of str
        What could not be read or added, one sentence each.
    """

    project: Project
    images: list[Loaded] = field(default_factory=list)
    masks: dict[str, KeptImage] = field(default_factory=dict)
    names: list[str | None] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def make_project(
    stop: Stop,
    folder: Path,
    wanted: Sequence[Wanted],
    *,
    copies: bool,
    said: dict[str, Any],
    holder: list[Project],
) -> Generator[Progress, None, Opened]:
    """Make a project about image layers; a folder that it was not possible in is left as it was.

    Parameters
    ----------
    folder : Path
        Made if needed.
    wanted : sequence of Wanted
        The images.
    copies : bool
        Write those that are no files into the project.
    said : dict
        Classes and settings, for `Project.create`.
    holder : list of Project
        Takes the project, so that it can be closed if nobody takes the result.

    Raises
    ------
    BoxPromptError
        None of the images can be in a project, or the folder cannot be written.
    """
    with _tidied(folder) as keep:
        project: Project | None = None
        names: list[str | None] = []
        troubles: list[str] = []
        for number, item in enumerate(wanted):
            yield Progress("prepare", number, len(wanted), item.name)
            try:
                path, copied = file_for(item, folder, copies=copies)
            except ImageError as error:
                troubles.append(str(error))
                names.append(None)
                continue
            if project is None:
                project = _create(folder, item, path, said, copied=copied)
                holder.append(project)
                keep.callback(project.abandon)
            names.append(_add(project, item, path, copied=copied))
            troubles += _about_copy(item, copied=copied)
        if project is None:
            raise ProjectError(" ".join(troubles) or "Open an image first: a project is about images.")
        project.save()
        keep.pop_all()
    return Opened(project, names=names, troubles=troubles)


def _create(folder: Path, item: Wanted, path: Path, said: dict[str, Any], *, copied: bool) -> Project:
    """Make a project about a first image."""
    first, channel = {path.name: path}, None if copied else item.channel  # a copy has no other channels
    return Project.create(folder, first, channel=channel, pixel_size=item.pixel_size, background=True, **said)


@contextmanager
def _tidied(folder: Path) -> Iterator[ExitStack]:
    """Give a stack that takes out of a folder what was put there, unless it is emptied with `pop_all`."""
    before = {path.name for path in folder.iterdir()} if folder.is_dir() else None

    def tidy() -> None:
        if before is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        for path in folder.iterdir():
            if path.name not in before and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in before:
                with suppress(OSError):
                    path.unlink()

    with ExitStack() as stack:
        stack.callback(tidy)
        yield stack


def add_images(
    stop: Stop, project: Project, wanted: Sequence[Wanted], *, copies: bool
) -> Generator[Progress, None, Opened]:
    """Add image layers to a project; what cannot be added is told in the result."""
    opened = Opened(project)
    for number, item in enumerate(wanted):
        yield Progress("prepare", number, len(wanted), item.name)
        try:
            path, copied = file_for(item, project.folder, copies=copies)
            opened.names.append(_add(project, item, path, copied=copied))
            opened.troubles += _about_copy(item, copied=copied)
        except BoxPromptError as error:
            opened.troubles.append(str(error))
            opened.names.append(None)
    return opened


def _add(project: Project, item: Wanted, path: Path, *, copied: bool) -> str:
    """Add a file under a name that is free, if it is not there; note how it is shown, and return the name."""
    places = {os.path.normpath(project.folder / e.path): e.name for e in project.entries.values()}
    name = places.get(os.path.normpath(path))
    if name in project.changed:
        raise ProjectError(f"{name} has changed since it was worked on; say first that it is right.")
    if name is None:
        name = path.name if path.name not in project.entries else f"{path.parent.name}/{path.name}"
        number = 2
        while name in project.entries:
            name, number = f"{path.stem}-{number}{path.suffix}", number + 1
        channel = None if copied else item.channel
        project.add_images({name: path}, channel=channel, pixel_size=item.pixel_size)
    project.set_look(name, as_copied(item.look) if copied else item.look)
    return name


def _about_copy(item: Wanted, *, copied: bool) -> list[str]:
    """Say of an image that is a file why the project has a copy of it."""
    if not copied or item.path is None:
        return []
    return [f"{item.name} has other planes here than its file has: the project has a copy of them."]


def open_project(
    stop: Stop,
    folder: Path,
    *,
    open_already: frozenset[tuple[str, tuple[int, ...]]] = frozenset(),
    take_over: bool = False,
    search: Sequence[Path] = (),
    holder: list[Project],
) -> Generator[Progress, None, Opened]:
    """Open a project and read the images that are worked on.

    Parameters
    ----------
    folder : Path
        The project.
    open_already : frozenset of tuple
        Paths of files that layers name, with the lengths of the layers: what fits need not be read.
    take_over, search
        See `Project.open`.
    holder : list of Project
        Takes the project, so that it can be closed if nobody takes the result.
    """
    yield Progress("prepare", 0, 1, folder.name)
    _wait_for(CLOSING)
    project = Project.open(folder, take_over=take_over, search=search, background=True)
    holder.append(project)
    with ExitStack() as undo:
        undo.callback(project.abandon)
        opened = Opened(project)
        names = worked_on(project)
        there = [name for name in names if _is_there(project, name, open_already)]
        yield from read_into(opened, [name for name in names if name not in there])
        yield from read_masks(opened, names)
        undo.pop_all()
    return opened


def _is_there(project: Project, name: str, layers: Iterable[tuple[str, tuple[int, ...]]]) -> bool:
    entry = project.entries[name]
    place = os.path.normcase(os.path.abspath(project.folder / entry.path))
    return any(path == place and fits(entry, lengths) for path, lengths in layers)


def worked_on(project: Project) -> list[str]:
    """Return the images to open: all of few, else some on which something was done, or the first."""
    names = project.images.names
    if len(names) <= FEW:
        return list(names)
    done = {plane.image for plane in (*project.boxes.planes, *project.masked_planes())}
    return [name for name in names if name in done][:FEW] or list(names[:1])


def read_images(stop: Stop, project: Project, names: Sequence[str]) -> Generator[Progress, None, Opened]:
    """Read images of an open project."""
    opened = Opened(project)
    yield from read_into(opened, names)
    yield from read_masks(opened, names)
    return opened


def confirm_image(stop: Stop, project: Project, name: str) -> Generator[Progress, None, Opened]:
    """Say that a changed image is the right one for its boxes, and read it."""
    yield Progress("prepare", 0, 1, name)
    project.confirm_image(name)
    return (yield from read_images(stop, project, [name]))


def read_into(opened: Opened, names: Sequence[str]) -> Iterator[Progress]:
    """Read images; what cannot be read is told in the result."""
    for number, name in enumerate(names):
        yield Progress("prepare", number, len(names), name)
        entry = opened.project.entries[name]
        try:
            place = Path(os.path.abspath(opened.project.folder / entry.path))
            opened.images.append(load_image(entry, place))
        except ImageError as error:
            opened.troubles.append(str(error))


def read_masks(opened: Opened, names: Sequence[str]) -> Iterator[Progress]:
    """Read the masks of images; what cannot be read is told in the result."""
    project = opened.project
    planes: dict[str, list[PlaneId]] = {name: [] for name in names}
    for plane in project.images.planes:
        if plane.image in planes:
            planes[plane.image].append(plane)
    for name, some in planes.items():
        kept = yield from read_kept(project, name, some, opened.troubles)
        if kept is not None:
            opened.masks[name] = kept


def save(stop: Stop, project: Project) -> Generator[None, None, None]:
    """Write the files of a project."""
    yield
    project.save()


def close_project(stop: Stop, project: Project) -> Generator[None, None, None]:
    """Write the files of a project and let others write it."""
    yield
    _wait_for(f"boxprompt {KEEPING}")
    project.close()


def close_apart(projects: list[Project], _: object = None) -> None:
    """Take projects out of a list and close them in a thread of their own, which the end of Python waits for.

    For the moment when the window goes and nobody can be told any more: what the disk then refuses to take
    stays in the journal.
    """
    if not projects:
        return
    left = [projects.pop() for _ in range(len(projects))]

    def close() -> None:
        _wait_for(f"boxprompt {KEEPING}")
        for project in left:
            try:
                project.close()
            except BoxPromptError:
                project.abandon()

    threading.Thread(target=close, name=CLOSING).start()


def _wait_for(name: str) -> None:
    """Wait for threads of a name: what they work on may be the very project in question."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(timeout=30.0)


def export(
    stop: Stop, project: Project, kind: str, target: Path, *, images: bool = False, predicted: bool = False
) -> Generator[None, None, str]:
    """Write what a project holds for other programs; see `export_project`."""
    yield
    return export_project(project, kind, target, images=images, predicted=predicted)


def bring_in(stop: Stop, project: Project, source: Path) -> Generator[None, None, str]:
    """Take in what another program has written; see `import_into`."""
    yield
    return import_into(project, source)


def keep_round(project: Project, round_record: Round, model: PromptModel) -> Round:
    """Save the model of a round and record it; return the record as it was kept.

    Parameters
    ----------
    project : Project
        Open for writing.
    round_record : Round
        The round, finished but for the folder of its model.
    model : PromptModel
        What was trained or loaded. One that was loaded and is in the project already is not saved again.

    Raises
    ------
    BoxPromptError
        The disk refuses; then there is no record either.
    """
    from napari_boxprompt.bundle import save_bundle

    folder = None if round_record.loaded_from is None else _kept_already(project, model)
    folder = folder or save_bundle(model, project.model_folder(round_record.number))
    kept = round_record.model_copy(update={"model": folder.relative_to(project.folder).as_posix()})
    project.add_round(kept)
    return kept


def _kept_already(project: Project, model: PromptModel) -> Path | None:
    """Return where a project has a model, None if it has not."""
    from napari_boxprompt.bundle import load_bundle, same_model

    for folder in {project.folder / known.model for known in project.rounds if known.model}:
        with suppress(BundleError):  # one that is damaged is not the same
            if same_model(load_bundle(folder), model):
                return folder
    return None
