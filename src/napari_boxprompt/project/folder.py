"""An open project folder: its images, what is wrong with them, and when its files are written."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_boxprompt.errors import ProjectError
from napari_boxprompt.project.catalog import CONTENT, describe_images, images_of, look_for, relative_to
from napari_boxprompt.project.documents import now
from napari_boxprompt.project.gestures import ImagesChange, ProjectChange
from napari_boxprompt.project.state import ProjectState
from napari_boxprompt.project.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari_boxprompt.errors import BoxPromptError
    from napari_boxprompt.images import Images
    from napari_boxprompt.project.catalog import Found
    from napari_boxprompt.project.documents import ImageEntry
    from napari_boxprompt.project.lock import LockOwner

__all__ = ["ProjectFolder"]

_LOG = "log.txt"


class ProjectFolder:
    """What `napari_boxprompt.project.Project` stands on.

    Parameters
    ----------
    store : Store
        The open folder.
    found : Found
        What became of its images.
    """

    def __init__(self, store: Store, found: Found) -> None:
        self._store, self._found = store, found
        self._images = images_of(self.entries, found.present)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        images: Any,
        *,
        classes: Iterable[str] = ("object",),
        exclusive: bool = True,
        channel: int | None = None,
        pixel_size: Mapping[str, tuple[float, str]] | None = None,
        settings: Mapping[str, Any] | None = None,
        background: bool = False,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Make a project about images, which stay where they are.

        Parameters
        ----------
        folder : str or Path
            A folder without a project.
        images : str, Path, sequence of those, or mapping of str to Path
            A file, a folder, a pattern or a list of files; or files by the names they shall have here.
        classes, exclusive : iterable of str, bool
            Names of the classes, and whether they exclude each other.
        channel : int, optional
            The channel to use, where images have several.
        pixel_size : mapping, optional
            Size of a pixel by axis, ``{"y": (0.5, "micrometer"), ...}``.
        settings : mapping, optional
            Settings of the training.
        background : bool
            Write the journal in a thread of its own.
        progress : callable, optional
            Called with images done, images in all and a name.

        Raises
        ------
        ProjectError
            There is a project already.
        ImageError
            An image cannot be used.
        OutputError
            The folder cannot be written.
        """
        place = Path(os.path.abspath(folder))
        entries, root = describe_images(
            images, place, channel=channel, pixel_size=pixel_size, progress=progress
        )
        state = ProjectState(
            classes=checked_classes(classes),
            exclusive=exclusive,
            created=now(),
            settings=dict(settings or {}),
            roots=(relative_to(place, root),),
            images={entry.name: entry for entry in entries},
        )
        project = cls(Store.create(place, state, background=background), look_for(entries, place, ()))
        project.log(f"Project made with {len(entries)} images.")
        return project

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        read_only: bool = False,
        take_over: bool = False,
        search: Iterable[str | Path] = (),
        background: bool = False,
        on_trouble: Callable[[BoxPromptError], None] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Open a project; `read_only` of the result tells whether it can be changed, `owner` why not.

        Parameters
        ----------
        folder : str or Path
            The project.
        read_only : bool
            Only look at it.
        take_over : bool
            Write it although another computer seems to; see `napari_boxprompt.project.lock.ProjectLock`.
        search : iterable of str or Path
            Folders in which to look for images that have moved, beside the ones where they were.
        background, on_trouble
            Write the journal in a thread of its own, and what to call there with errors.
        progress : callable, optional
            Called with files hashed, files to hash and a name, where images have changed or moved.

        Raises
        ------
        ProjectError
            There is none, or it is damaged or of a newer version.
        """
        place = Path(os.path.abspath(folder))
        store = Store.open(
            place, read_only=read_only, take_over=take_over, background=background, on_trouble=on_trouble
        )
        with ExitStack() as undo:
            undo.callback(store.abandon)
            roots = [place / root for root in store.state.roots] + [Path(root) for root in search]
            found = look_for(store.state.images.values(), place, roots, progress=progress)
            project = cls(store, found)
            if found.renewed:
                project._note(ImagesChange(images=tuple(found.renewed.values())))
                project._renew()
            undo.pop_all()
        for problem in project.problems:
            project.log(problem)
        return project

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where the project lies."""
        return self._store.folder

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed."""
        return self._store.read_only

    @property
    def owner(self) -> LockOwner | None:
        """Who writes the project, if it is not this process."""
        return self._store.owner

    @property
    def unwritten(self) -> int:
        """Gestures that are in memory only: the disk is slow, or refuses."""
        return self._store.unwritten

    @property
    def unsaved(self) -> int:
        """Gestures that are in the journal but not in the other files yet."""
        return self._store.unsaved

    @property
    def problems(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        texts = []
        if self.owner is not None:
            texts.append(f"The project is written by {self.owner}; here it can only be looked at.")
        elif self._store.trouble:
            texts.append(f"{self._store.trouble} Until then the project can only be looked at.")
        elif not self.read_only and not self._store.guarded:
            texts.append("This drive has no locks: make sure that nobody else works on the project.")
        texts += [
            f"Line {n} of the journal is damaged; its change is lost." for n in self._store.damaged_lines
        ]
        texts += [
            f"{name} has another content than the image that the boxes were drawn on ({path}); put the old "
            "file back, or confirm the new one."
            for name, path in self._found.changed.items()
        ]
        texts += [
            f"{name} is not found any more ({self.entries[name].path}); say in which folder to look for it."
            for name in self._found.missing
        ]
        return tuple(texts)

    @property
    def entries(self) -> Mapping[str, ImageEntry]:
        """All images of the project, by name."""
        return self._store.state.images

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the images whose content is another than before; they are not in `images`."""
        return tuple(self._found.changed)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the images that are not found."""
        return self._found.missing

    @property
    def images(self) -> Images:
        """The images that are there and as they were."""
        return self._images

    def add_images(
        self,
        source: Any,
        *,
        channel: int | None = None,
        pixel_size: Mapping[str, tuple[float, str]] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> tuple[str, ...]:
        """Add images; see `create` for the parameters. Return the names of those that are new.

        Raises
        ------
        ProjectError
            Another image of the project has the same name, or nothing can be changed.
        ImageError
            An image cannot be used.
        """
        new, root = describe_images(
            source, self.folder, channel=channel, pixel_size=pixel_size, progress=progress
        )
        for entry in new:
            old = self.entries.get(entry.name)
            if old is not None and old.sha256 != entry.sha256:
                raise ProjectError(
                    f"The project has another image called {entry.name}; rename the new one, or add the "
                    "folder above so that the images keep their folders."
                )
        added = tuple(entry for entry in new if entry.name not in self.entries)
        place = relative_to(self.folder, root)
        roots = tuple(dict.fromkeys((*self._store.state.roots, place)))
        self._store.record(ImagesChange(images=added), ProjectChange(roots=roots))
        self._found.present.update({entry.name: self.folder / entry.path for entry in added})
        self._renew()
        return tuple(entry.name for entry in added)

    def remove_images(self, names: Iterable[str]) -> None:
        """Take images out of the project, with their boxes and masks; the image files stay."""
        gone = tuple(names)
        self._store.record(ImagesChange(removed=gone))
        for name in gone:
            self._found.present.pop(name, None)
            self._found.changed.pop(name, None)
        self._found.missing = tuple(name for name in self._found.missing if name not in gone)
        self._renew()

    def confirm_image(self, name: str) -> None:
        """Say that the boxes belong to an image although its content is another than before.

        Raises
        ------
        ProjectError
            The image has not changed, or has another size than before, so that boxes cannot fit.
        """
        path = self._found.changed.get(name)
        if path is None:
            raise ProjectError(f"{name} has not changed; there is nothing to confirm.")
        old = self.entries[name]
        (new,), _ = describe_images(path, self.folder, channel=old.channel)
        if (new.shape, new.extent) != (old.shape, old.extent):
            raise ProjectError(
                f"{name} was {_size(old)} and is {_size(new)} now, so its boxes cannot be right; put the "
                "old file back, or take the image out of the project and add it again."
            )
        self._store.record(
            ImagesChange(images=(old.model_copy(update=new.model_dump(include=set(CONTENT))),))
        )
        self._found.present[name] = self._found.changed.pop(name)
        self._renew()

    def find_images(
        self, search: Iterable[str | Path], progress: Callable[[int, int, str], None] | None = None
    ) -> tuple[str, ...]:
        """Look for missing and changed images in these folders; return the names of those found."""
        before = set(self._found.present)
        self._found = look_for(
            self.entries.values(), self.folder, [Path(root) for root in search], progress=progress
        )
        if self._found.renewed:
            self._note(ImagesChange(images=tuple(self._found.renewed.values())))
        self._renew()
        return tuple(name for name in self._found.present if name not in before)

    def _note(self, change: ImagesChange) -> None:
        """Note where images are, so that content is not hashed again; only in memory if read-only."""
        if self.read_only:
            self._store.state.apply(change)
        else:
            self._store.record(change)

    def _renew(self) -> None:
        self._images = images_of(self.entries, self._found.present)

    def save(self, *, masks: bool = False) -> None:
        """Write the files that have changed and empty the journal; another thread may do it.

        Parameters
        ----------
        masks : bool
            Write all masks; else what was painted on those of more than four megapixels stays in the journal
            until it is much, or until the project is closed.

        Raises
        ------
        OutputError
            The disk is full or refuses; nothing is lost, the journal keeps what the files do not contain.
        """
        self._store.save(masks=masks)

    def flush(self) -> None:
        """Wait until all gestures are on the disk.

        Raises
        ------
        OutputError
            The disk is full or refuses; the gestures stay in memory, for the next try.
        """
        self._store.flush()

    def close(self) -> None:
        """Save, and let others write the project.

        Raises
        ------
        OutputError
            The disk is full or refuses; the project stays open. `abandon` closes it all the same.
        """
        self._store.close()

    def abandon(self) -> None:
        """Close without saving; gestures in the journal are found again, those in memory only are lost."""
        self._store.abandon()

    def log(self, message: str) -> None:
        """Add a line to ``log.txt``, for people to read."""
        if self.read_only:
            return
        # Not worth an error: nothing depends on it.
        with suppress(OSError), (self.folder / _LOG).open("a", encoding="utf-8") as file:
            file.write(f"{now()} {message}\n")


def _size(entry: ImageEntry) -> str:
    return " x ".join(map(str, (*entry.extent, *entry.shape)))


def checked_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes if they can be used as such."""
    classes = tuple(names)
    whole = all(name.strip() and name.isprintable() for name in classes)
    if not whole or not classes or len(set(classes)) != len(classes):
        raise ProjectError(
            "Give every class a name of its own, of characters that can be seen; one class at least."
        )
    return classes
