"""Projects that are made without their images being open, in a worker: no Qt and no layers in here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_boxprompt.errors import ImageError, ProjectError
from napari_boxprompt.events import Progress
from napari_boxprompt.images import find_files, open_images
from napari_boxprompt.project import Project, unpack

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_boxprompt.gui.jobs import Stop

__all__ = ["make_of_folder", "unpack_into"]

NAMED = 3
"""Of how many images that cannot be used it is said why."""


def make_of_folder(stop: Stop, source: Path, folder: Path) -> Generator[Progress, None, tuple[Path, str]]:
    """Make a project about the images of a folder, which stay where they are.

    Parameters
    ----------
    source : Path
        Folder of the images.
    folder : Path
        Where the project is to be.

    Returns
    -------
    folder : Path
        That of the project.
    trouble : str
        Which images cannot be used, and why; empty where all can.

    Raises
    ------
    BoxPromptError
        There is no image that can be used, or a project cannot be made there.
    """
    yield Progress("prepare", 0, 1, source.name)
    files, bad = find_files(source), dict[str, str]()

    def leave_out(name: str, error: ImageError) -> None:
        bad[name] = str(error)

    def go_on(*_: object) -> None:
        if stop.is_set():
            raise ProjectError("Stopped before the project was made.")

    usable = {name: files[name] for name in open_images(source, on_error=leave_out).names}
    with Project.create(folder, usable, progress=go_on):
        pass
    if not bad:
        return folder, ""
    reasons = " ".join(list(bad.values())[:NAMED])
    return folder, f"{len(bad)} of {len(files)} images are not in the project. {reasons}"


def unpack_into(stop: Stop, source: Path, folder: Path) -> Generator[None, None, Path]:
    """Unpack a zip of a project; return the folder."""
    yield
    return unpack(source, folder)
