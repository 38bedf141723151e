"""The files of a project, read into a state and written from one."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import ProjectError, unknown_key
from napari_boxprompt.files import atomic_write_bytes
from napari_boxprompt.project.documents import (
    FORMAT_NAME,
    FORMAT_VERSION,
    MaskFile,
    PlanesFile,
    ProjectFile,
)
from napari_boxprompt.project.gestures import Entry, ImagesChange, only_mask
from napari_boxprompt.project.journal import JournalContent, read_journal
from napari_boxprompt.project.masks import MASKS, load_mask, store_mask
from napari_boxprompt.project.rounds import Round
from napari_boxprompt.project.state import ProjectState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_boxprompt.boxes import PlaneId

__all__ = [
    "BOXES",
    "JOURNAL",
    "MODELS",
    "OURS",
    "PLANES",
    "PROJECT",
    "ROUNDS",
    "Loaded",
    "is_project",
    "load",
    "save",
    "sweep",
]

PROJECT, BOXES, PLANES, JOURNAL, ROUNDS = (
    "project.json",
    "boxes.json",
    "planes.json",
    "journal.jsonl",
    "rounds",
)
MODELS = "models"
OURS = (PROJECT, BOXES, PLANES, JOURNAL, ROUNDS, MASKS, MODELS)
"""Names that a project has in its folder."""

_TRIES = 5

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Loaded:
    """A project as it was found on the disk.

    Parameters
    ----------
    saved : ProjectState
        What the files say.
    state : ProjectState
        The same after all entries of the journal.
    saved_sequence, sequence : int
        Number of the last entry in each.
    journal : JournalContent
        The journal.
    """

    saved: ProjectState
    state: ProjectState
    saved_sequence: int
    sequence: int
    journal: JournalContent


def is_project(folder: Path) -> bool:
    """Return whether a folder holds a project, as far as a look at the names in it tells."""
    return (folder / PROJECT).is_file()


def load(folder: Path) -> Loaded:
    """Read a project; what a crash has cut short is left out.

    Raises
    ------
    ProjectError
        There is no project, a file is damaged, or it was written by a newer version.
    """
    for _ in range(_TRIES):
        project = _read_project(folder)
        journal = read_journal(folder / JOURNAL)
        saved = _read_state(folder, project)
        # Somebody who saves at this moment writes this file last.
        if _read_project(folder).sequence == project.sequence:
            break
    state = _replayed(saved.copy(), journal.entries, project.sequence)
    last = max([project.sequence, *(entry.sequence for entry in journal.entries)])
    return Loaded(saved, state, project.sequence, last, journal)


def _replayed(state: ProjectState, entries: tuple[Entry, ...], sequence: int) -> ProjectState:
    """Apply entries; of those that the files contain only what concerns masks, which may be unwritten."""
    for entry in entries:
        for gesture in entry.gestures:
            if entry.sequence > sequence:
                state.apply(gesture)
            elif isinstance(gesture, ImagesChange):
                # The files know who was removed; what was painted on them before must not come back.
                state.patches = {p: v for p, v in state.patches.items() if p.image not in gesture.removed}
            elif (part := only_mask(gesture)) is not None and part.image in state.images:
                state.apply(part)
    return state


def _read_project(folder: Path) -> ProjectFile:
    path = folder / PROJECT
    if not path.is_file():
        raise ProjectError(
            f"There is no project in {folder} (no {PROJECT}); check the path, or make a new one."
        )
    return _read(path, ProjectFile)


def _read_state(folder: Path, project: ProjectFile) -> ProjectState:
    boxes = BoxSet.load(folder / BOXES) if (folder / BOXES).is_file() else BoxSet()
    planes = _read(folder / PLANES, PlanesFile).planes if (folder / PLANES).is_file() else ()
    rounds = [_read(path, Round) for path in sorted((folder / ROUNDS).glob("[0-9]*.json"))]
    state = ProjectState(
        # A box file that somebody else has worked on may have new classes.
        classes=tuple(dict.fromkeys((*project.classes, *(box.label for box in boxes.boxes)))),
        colors=dict(project.colors),
        exclusive=project.exclusive,
        created=project.created,
        settings=dict(project.settings),
        roots=project.roots,
        images={entry.name: entry for entry in project.images},
        infos=dict(boxes.planes),
        records={record.id: record for record in planes},
        rounds={record.number: record for record in rounds},
    )
    for plane in dict.fromkeys(box.plane for box in boxes.boxes):
        state.boxes[plane] = boxes.on(plane)
    return state


def _read(path: Path, model: type[_Model]) -> _Model:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProjectError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    try:
        found = json.loads(content)
        newer = isinstance(found, dict) and found.get("version", 1)
        if isinstance(newer, int) and newer > FORMAT_VERSION:
            raise ProjectError(
                f"{path} was written by a newer version (format {newer}, this one reads {FORMAT_VERSION}); "
                "run 'pip install -U napari-boxprompt'."
            )
        return model.model_validate(found, strict=False)
    except (ValueError, RecursionError) as error:
        unknown = unknown_key(error) if isinstance(error, ValidationError) else None
        if unknown is not None:
            made = found.get("written_by") or "another version of napari-boxprompt"
            raise ProjectError(
                f"{path} was written by {made} and has '{unknown}', which this version does not know; "
                "run 'pip install -U napari-boxprompt'."
            ) from error
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else error
        raise ProjectError(
            f"{path} is damaged ({reason}); mend it in a text editor or take it from a copy of the project."
        ) from error


def save(
    folder: Path,
    state: ProjectState,
    sequence: int,
    saved: ProjectState | None,
    painted: Iterable[PlaneId] = (),
) -> dict[PlaneId, MaskFile]:
    """Write the files that have changed, each in one step, ``project.json`` last.

    Parameters
    ----------
    folder : Path
        The project.
    state : ProjectState
        What to write; its records then name the new mask files.
    sequence : int
        Number of the last journal entry that it contains.
    saved : ProjectState, optional
        What the files say now; everything is written without it.
    painted : iterable of PlaneId
        Planes whose painted parts are put into new mask files.

    Returns
    -------
    dict of PlaneId to MaskFile
        The masks that were written.

    Raises
    ------
    OutputError
        The system refuses to write; the project is as whole as it was, with files of before and after.
    """
    written: dict[PlaneId, MaskFile] = {}
    for plane in painted:
        record = state.record(plane)
        mask = load_mask(folder, record, state.patches[plane])
        if mask is not None:
            written[plane] = store_mask(folder, mask, plane, sequence, state.images.get(plane.image))
            state.records[plane] = record.model_copy(update={"mask": written[plane]})
        del state.patches[plane]
    old = saved or ProjectState()
    if saved is None or (state.boxes, state.infos, state.classes, state.exclusive) != (
        (old.boxes, old.infos, old.classes, old.exclusive)
    ):
        state.boxset().save(folder / BOXES)
    if saved is None or state.records != old.records:
        planes = PlanesFile(planes=tuple(state.records.values()))
        atomic_write_bytes(folder / PLANES, _render(planes, "planes"))
    for number, done in state.rounds.items():
        if old.rounds.get(number) != done:
            text = done.model_dump_json(indent=1, exclude_none=True) + "\n"
            atomic_write_bytes(folder / ROUNDS / f"{number:03d}.json", text.encode())
    atomic_write_bytes(folder / PROJECT, _render(_project_file(state, sequence), "images"))
    return written


def _project_file(state: ProjectState, sequence: int) -> ProjectFile:
    try:
        program = f"napari-boxprompt {version('napari-boxprompt')}"
    except PackageNotFoundError:
        program = "napari-boxprompt"
    return ProjectFile(
        format=FORMAT_NAME,
        written_by=program,
        created=state.created,
        sequence=sequence,
        classes=state.classes,
        colors=state.colors,
        exclusive=state.exclusive,
        settings=state.settings,
        roots=state.roots,
        images=tuple(state.images.values()),
    )


def _render(document: ProjectFile | PlanesFile, rows: str) -> bytes:
    """Return JSON in which each entry of one list has a line of its own: quick, and easy to compare."""
    head = json.dumps(document.model_dump(mode="json", exclude={rows}), ensure_ascii=False, indent=1)
    lines = ",\n".join("  " + row.model_dump_json(exclude_none=True) for row in getattr(document, rows))
    return f'{head[:-2]},\n "{rows}": [\n{lines}\n ]\n}}\n'.encode()


def sweep(folder: Path, state: ProjectState) -> None:
    """Remove what killed programs have left: mask files that nothing refers to, halves of files and models.

    Only whoever holds the lock may do so. What cannot be removed is left for the next opening: a viewer on
    Windows may have it open.
    """
    kept = {record.mask.file for record in state.records.values() if record.mask is not None}
    masks = (folder / MASKS).rglob("plane*.ome.tif")
    left = [path for path in masks if path.relative_to(folder).as_posix() not in kept]
    left += [path for name in (MASKS, ROUNDS) for path in (folder / name).rglob(".*.part*")]
    for name in ("project", "boxes", "planes", "journal", "lock"):
        left += folder.glob(f".{name}.*.part.json*")
    for path in left:
        with suppress(OSError):
            path.unlink()
    for path in (folder / MODELS).glob(".*-*"):
        shutil.rmtree(path, ignore_errors=True)
