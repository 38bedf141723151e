"""A project as one file, for a colleague."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_boxprompt.errors import OutputError, ProjectError
from napari_boxprompt.files import atomic_path, explain
from napari_boxprompt.project.storage import OURS, PROJECT

if TYPE_CHECKING:
    from napari_boxprompt.project.project import Project

__all__ = ["pack", "unpack"]

_IMAGES = "images"


def pack(project: Project, path: str | Path, *, images: bool = False) -> None:
    """Write a project into a zip file.

    Parameters
    ----------
    project : Project
        What to pack; it is saved first, if it can be.
    path : str or Path
        The file.
    images : bool
        Put the images in too; without, whoever opens it needs the same images, which are found by content.

    Raises
    ------
    OutputError
        The file cannot be written.
    ProjectError
        An image to put in is missing or changed, or the project is read-only with changes not saved yet.
    """
    if not project.read_only:
        project.save(masks=True)
    elif project.unsaved:
        raise ProjectError("The project has changes that are not saved yet; save it where it is written.")
    lost = (*project.missing, *project.changed)
    if images and lost:
        raise ProjectError(f"{lost[0]} is missing or has changed; find it first, or pack without images.")
    with atomic_path(path) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(project.folder.rglob("*")):
            place = file.relative_to(project.folder)
            if place.parts[0] in OURS and file.is_file() and place.as_posix() != PROJECT:
                archive.write(file, place.as_posix())
        described = json.loads((project.folder / PROJECT).read_text("utf-8"))
        if images:
            _put_images(archive, project, described)
        archive.writestr(PROJECT, json.dumps(described, ensure_ascii=False, indent=1) + "\n")


def _put_images(archive: zipfile.ZipFile, project: Project, described: dict[str, Any]) -> None:
    # Numbered, since names of images may differ in ways that not every system tells apart.
    for number, entry in enumerate(described["images"], start=1):
        name = f"{_IMAGES}/{number:04d}-{PurePosixPath(entry['path']).name}"
        archive.write(project.folder / entry["path"], name, zipfile.ZIP_STORED)
        entry["path"] = name
    described["roots"] = [_IMAGES]


def unpack(path: str | Path, folder: str | Path) -> Path:
    """Take a project out of a zip file, into a new folder; return the folder.

    Raises
    ------
    ProjectError
        It is not a zip file of a project, or the folder has something in it.
    OutputError
        The folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ProjectError(f"{folder} is not empty; choose a new folder.")
    fresh = not folder.exists()
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if PROJECT not in names:
                raise ProjectError(f"{path} holds no project (no {PROJECT}); choose another file.")
            strange = [name for name in names if not _is_ours(name)]
            if strange:
                raise ProjectError(
                    f"{path} holds {strange[0]}, which belongs to no project; do not trust it."
                )
            archive.extractall(folder)
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise ProjectError(
            f"{path} is not a zip file of a project ({error}); choose another file."
        ) from error
    except OSError as error:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(f"Cannot write {folder}: {explain(error)}.") from error
    return folder


def _is_ours(name: str) -> bool:
    place = PurePosixPath(name)
    inside = not place.is_absolute() and ".." not in place.parts and "\\" not in name and ":" not in name
    return inside and bool(place.parts) and place.parts[0] in (*OURS, _IMAGES)
