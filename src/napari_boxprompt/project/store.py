"""A project folder that is open: gestures go to the journal at once, files are written later."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Self

from napari_boxprompt.errors import BoxPromptError, OutputError, ProjectError
from napari_boxprompt.project import storage
from napari_boxprompt.project.documents import now
from napari_boxprompt.project.gestures import Entry, MaskPatch, PlaneChange, only_patches
from napari_boxprompt.project.journal import Journal, encode_entry
from napari_boxprompt.project.lock import LockOwner, ProjectLock
from napari_boxprompt.project.masks import load_mask, store_mask, worth_a_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.project.documents import MaskFile, PlaneRecord
    from napari_boxprompt.project.gestures import Gesture
    from napari_boxprompt.project.state import ProjectState

__all__ = ["Store"]

_LARGE_PATCH = 1 << 18
"""A painted part that takes more characters than this goes to a mask file before it is in the journal."""


class Store:
    """State, journal and files of a project; safe to use from several threads.

    Make one with `create` or `open`.

    Parameters
    ----------
    folder : Path
        The project.
    loaded : Loaded
        What was read from it.
    lock : ProjectLock, optional
        Its lock; read-only without.
    owner : LockOwner, optional
        Who writes it, if somebody else does.
    background : bool
        Write the journal in a thread of its own, so that a slow drive does not stop the caller. `flush`
        waits for it.
    on_trouble : callable, optional
        Called, in that thread, with each error of writing in the background.
    """

    def __init__(
        self,
        folder: Path,
        loaded: storage.Loaded,
        lock: ProjectLock | None,
        owner: LockOwner | None = None,
        *,
        background: bool = False,
        on_trouble: Callable[[BoxPromptError], None] | None = None,
    ) -> None:
        self.folder, self.owner, self.trouble = folder, owner, ""
        self.state = loaded.state
        self._saved: ProjectState | None = loaded.saved
        self._saved_sequence, self._sequence = loaded.saved_sequence, loaded.sequence
        self._entries = list(loaded.journal.entries)
        self._journal = Journal(folder / storage.JOURNAL, loaded.journal)
        self.damaged_lines = loaded.journal.damaged
        self._lock, self._on_trouble = lock, on_trouble
        self._pending: deque[Entry] = deque()
        # Three locks, always taken in this order: files, journal, memory. Gestures wait for memory only.
        self._files, self._writing, self._memory = threading.RLock(), threading.RLock(), threading.RLock()
        self._wake, self._closed = threading.Event(), False
        self._thread: threading.Thread | None = None
        if background and lock is not None:
            self._thread = threading.Thread(target=self._write_on, name="project-journal", daemon=True)
            self._thread.start()

    @classmethod
    def create(cls, folder: Path, state: ProjectState, *, background: bool = False) -> Self:
        """Make a project in a folder that has none.

        Raises
        ------
        ProjectError
            There is one already, or files of the names that a project needs.
        OutputError
            The folder cannot be written.
        """
        taken = [name for name in storage.OURS if (folder / name).exists()]
        if taken:
            raise ProjectError(
                f"{folder} already holds {taken[0]}; open that project or choose another folder."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be made ({error.strerror}); choose another folder."
            ) from error
        lock = ProjectLock(folder)
        if not lock.acquire():
            raise ProjectError(f"{folder} is being used by {lock.owner}; choose another folder.")
        with ExitStack() as undo:
            undo.callback(lock.release)
            storage.save(folder, state.copy(), 0, None)
            store = cls(folder, storage.load(folder), lock, background=background)
            undo.pop_all()
        return store

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        read_only: bool = False,
        take_over: bool = False,
        background: bool = False,
        on_trouble: Callable[[BoxPromptError], None] | None = None,
    ) -> Self:
        """Open a project; read-only where somebody else writes it, or where it cannot be written.

        Raises
        ------
        ProjectError
            There is none, or it is damaged or of a newer version.
        """
        if read_only:
            return cls(folder, storage.load(folder), None)
        if not (folder / storage.PROJECT).is_file():
            storage.load(folder)  # says that there is none, before a lock is left in a folder of another kind
        lock = ProjectLock(folder)
        try:
            locked = lock.acquire(take_over=take_over)
        except OutputError as error:
            store = cls(folder, storage.load(folder), None)
            store.trouble = str(error)
            return store
        if not locked:
            return cls(folder, storage.load(folder), None, lock.owner)
        with ExitStack() as undo:
            undo.callback(lock.release)
            loaded = storage.load(folder)
            store = cls(folder, loaded, lock, background=background, on_trouble=on_trouble)
            undo.pop_all()
        storage.sweep(folder, store.state)
        return store

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed."""
        return self._lock is None

    @property
    def guarded(self) -> bool:
        """Whether the file system itself keeps a second program out, not only our note in the folder."""
        return self._lock is not None and self._lock.guarded

    @property
    def unwritten(self) -> int:
        """Gestures that are in memory only."""
        return len(self._pending)

    @property
    def unsaved(self) -> int:
        """Journal entries that the files do not contain yet."""
        return self._sequence - self._saved_sequence

    def view(self) -> ProjectState:
        """Return the state as of this moment, which later gestures leave as it is."""
        with self._memory:
            return self.state.copy()

    def mask_of(self, plane: PlaneId) -> tuple[PlaneRecord, tuple[MaskPatch, ...]]:
        """Return the record of a plane and what was painted since, as of one moment."""
        with self._memory:
            return self.state.record(plane), self.state.patches.get(plane, ())

    def record(self, *gestures: Gesture) -> None:
        """Take gestures that belong together and put them into the journal, all of them or none.

        Raises
        ------
        ProjectError
            The project is read-only or closed, or a gesture holds what is no JSON.
        OutputError
            They could not be written. They count in memory and are written with the next gesture or `save`.
        """
        if self._closed or self._lock is None:
            raise ProjectError(self._refusal())
        with self._memory:
            entry = Entry(sequence=self._sequence + 1, time=now(), gestures=gestures)
            # Before anything changes: what cannot be written must not come into the way of what can.
            _check(entry)
            for gesture in gestures:
                self.state.apply(gesture)
            self._sequence = entry.sequence
            self._pending.append(entry)
        if self._thread is not None:
            self._wake.set()
        else:
            self.flush()

    def _refusal(self) -> str:
        if self._closed:
            return f"The project {self.folder} is closed; open it again."
        if self.owner is not None:
            return f"The project is written by {self.owner}; close it there and open it again here."
        return f"The project {self.folder} was opened to be read only; open it for writing."

    def flush(self) -> None:
        """Write to the journal what is in memory only.

        Raises
        ------
        OutputError
            The system refuses; what was written before is safe, the rest stays in memory for the next try.
        """
        with self._writing:
            if self._pending:
                self._check_lock()
            while self._pending:
                try:
                    # Kept in this form, should the journal refuse what the mask files have taken.
                    entry = self._pending[0] = self._with_files(self._pending[0])
                    self._journal.append(encode_entry(entry))
                except OutputError as error:
                    raise OutputError(
                        f"{error} All work before is safe on the disk; {len(self._pending)} later changes "
                        "are in memory and are written as soon as this works again: keep the project open."
                    ) from error
                self._entries.append(entry)
                self._pending.popleft()

    def _check_lock(self) -> None:
        if self._lock is not None and self._lock.is_lost:
            raise ProjectError(
                f"{self._lock.owner or 'Another program'} has taken over the project {self.folder}; nothing "
                "is written from here any more. Close it and open it again."
            )

    def _with_files(self, entry: Entry) -> Entry:
        """Put large painted parts of an entry into mask files, which it then names."""
        gestures = tuple(self._with_file(gesture, entry.sequence) for gesture in entry.gestures)
        return entry if gestures == entry.gestures else entry.model_copy(update={"gestures": gestures})

    def _with_file(self, gesture: Gesture, sequence: int) -> Gesture:
        if not isinstance(gesture, PlaneChange) or not isinstance(gesture.mask, MaskPatch):
            return gesture
        if len(gesture.mask.data) <= _LARGE_PATCH:
            return gesture
        with self._memory:
            record, patches = self.state.record(gesture.id), self.state.patches.get(gesture.id, ())
        upto = next((n for n, patch in enumerate(patches, 1) if patch is gesture.mask), 0)
        mask = load_mask(self.folder, record, patches[:upto]) if upto else None
        if mask is None:  # A later gesture of the same plane has taken its place in memory already.
            return gesture
        image = self.state.images.get(gesture.image)
        file = store_mask(self.folder, mask, gesture.id, sequence, image)
        with self._memory:
            self._put_mask(gesture.id, record.mask, patches[:upto], file)
        return gesture.model_copy(update={"mask": file})

    def _put_mask(
        self, plane: PlaneId, before: MaskFile | None, patches: tuple[MaskPatch, ...], file: MaskFile
    ) -> None:
        """Let a file stand for a mask and what was painted on it, unless that has changed meanwhile."""
        now_there = self.state.patches.get(plane, ())
        if self.state.record(plane).mask != before or now_there[: len(patches)] != patches:
            return
        self.state.records[plane] = self.state.record(plane).model_copy(update={"mask": file})
        if len(now_there) > len(patches):
            self.state.patches[plane] = now_there[len(patches) :]
        else:
            self.state.patches.pop(plane, None)

    def _write_on(self) -> None:
        """Write the journal until the project is closed; the work of the thread in the background."""
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            try:
                self.flush()
            except BoxPromptError as error:
                if self._on_trouble is not None:
                    self._on_trouble(error)

    def save(self, *, masks: bool = False) -> None:
        """Write the files that have changed and shorten the journal; meant to be called now and then.

        May be called in another thread than the gestures.

        Parameters
        ----------
        masks : bool
            Write large masks too on which little was painted; else that stays in the journal, so that not
            every stroke is followed by seconds of writing.

        Raises
        ------
        OutputError
            The system refuses. The journal keeps what the files do not contain.
        """
        if self._lock is None or self._closed:
            raise ProjectError(self._refusal())
        with self._files:
            with self._memory:
                state, sequence = self.state.copy(), self._sequence
                painted = [plane for plane, parts in state.patches.items() if masks or worth_a_file(parts)]
                if sequence == self._saved_sequence and not painted:
                    return
                self._check_lock()
                before = {plane: (state.record(plane).mask, parts) for plane, parts in state.patches.items()}
            # Not `self._saved` any more if this fails half way: then everything is written the next time.
            saved, self._saved = self._saved, None
            written = storage.save(self.folder, state, sequence, saved, painted)
            with self._memory:
                for plane, file in written.items():
                    self._put_mask(plane, *before[plane], file)
            self._shorten(sequence)
            self._saved, self._saved_sequence = state, sequence
            self._drop_masks(saved, state)

    def _shorten(self, sequence: int) -> None:
        """Keep only the parts of the journal that the files do not contain."""
        with self._writing:
            # What could not be written to the journal is safe now all the same.
            done = [entry for entry in self._pending if entry.sequence <= sequence]
            with self._memory:
                waiting = {id(patch) for parts in self.state.patches.values() for patch in parts}
            kept = [
                entry if entry.sequence > sequence else only_patches(entry, waiting)
                for entry in (*self._entries, *done)
            ]
            kept = [entry for entry in kept if entry.gestures]
            self._journal.replace(encode_entry(entry) for entry in kept)
            self._entries = kept
            for _ in done:
                self._pending.popleft()

    def _drop_masks(self, old: ProjectState | None, new: ProjectState) -> None:
        """Remove the mask files that a save has replaced; what is missed here goes at the next opening."""
        if old is None:
            return
        with self._memory:
            states = (new, self.state)
            kept = {r.mask.file for state in states for r in state.records.values() if r.mask is not None}
        for record in old.records.values():
            if record.mask is not None and record.mask.file not in kept:
                with suppress(OSError):
                    (self.folder / record.mask.file).unlink()

    def close(self) -> None:
        """Save and give the lock back.

        Raises
        ------
        OutputError
            Something cannot be written. The project stays open, so that it can be tried again; `abandon`
            closes it all the same.
        """
        if self._closed:
            return
        if self._lock is not None:
            self.save(masks=True)
        self.abandon()

    def abandon(self) -> None:
        """Close without writing; what is in the journal is found again, what is in memory only is lost."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10.0)
        with self._writing:
            self._journal.close()
        if self._lock is not None:
            self._lock.release()


def _check(entry: Entry) -> None:
    try:
        encode_entry(entry)
    except ValueError as error:
        raise ProjectError(f"Settings and records must be plain values of JSON: {error}.") from error
