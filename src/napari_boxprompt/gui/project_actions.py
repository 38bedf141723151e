"""What the user can ask for about projects; each asks for files where it needs them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_boxprompt.errors import ProjectError
from napari_boxprompt.gui.project_folder import make_of_folder, unpack_into
from napari_boxprompt.gui.project_images import file_of
from napari_boxprompt.gui.recent import recent_projects
from napari_boxprompt.gui.telling import counted, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image
    from qtpy.QtWidgets import QWidget

    from napari_boxprompt.gui.project_bar import ProjectBar
    from napari_boxprompt.gui.projects import Projects

__all__ = ["ProjectActions"]

KINDS = {"COCO": "coco", "YOLO": "yolo", "OME-TIFF": "tiff", "OME-Zarr": "zarr", "CSV": "csv"}
FILES = {"coco": ("boxes.json", "COCO (*.json)"), "csv": ("objects.csv", "CSV (*.csv)")}
"""Name and filter of the kinds that are one file; the others are folders."""


class ProjectActions:
    """Actions about the project of one dock widget.

    Parameters
    ----------
    parent : QWidget
        Parent of file dialogs.
    projects : Projects
        The project.
    """

    def __init__(self, parent: QWidget, projects: Projects) -> None:
        self._parent, self._projects = parent, projects

    def connect(self, bar: ProjectBar) -> None:
        """Do what the bar above the steps asks for."""
        bar.new_wanted.connect(self.new)
        bar.folder_wanted.connect(self.new_of_folder)
        bar.open_wanted.connect(self.open)
        bar.unzip_wanted.connect(self.open_zip)
        bar.close_wanted.connect(self.close)
        bar.search_wanted.connect(self.search)
        bar.export_wanted.connect(self.export)
        bar.import_wanted.connect(self.bring_in)
        bar.zip_wanted.connect(self.zip)

    @told
    def new(self) -> None:
        """Ask for a name, and where there are images that are no files, whether to copy them."""
        layers = self._projects.candidates()
        if not layers:
            raise ProjectError("Open an image first: a project is about images.")
        path, _ = QFileDialog.getSaveFileName(
            self._parent, "New project (a folder is made)", str(_proposed(layers))
        )
        if not path:
            return
        copies = self._may_copy(self._projects.candidates(copied=True))
        if copies is not None:
            self._projects.new(Path(path), copies=copies)

    @told
    def new_of_folder(self) -> None:
        """Ask for a folder of images and for a place, and make a project about all of them."""
        source = QFileDialog.getExistingDirectory(self._parent, "Folder of images")
        if not source:
            return
        proposed = Path(source).with_name(f"{Path(source).name} project")
        folder, _ = QFileDialog.getSaveFileName(self._parent, "New project (a folder is made)", str(proposed))
        if folder:
            work = partial(make_of_folder, source=Path(source), folder=Path(folder))
            self._projects.make("making …", work, self._open_with_trouble)

    def _open_with_trouble(self, made: tuple[Path, str]) -> None:
        folder, trouble = made
        if trouble:
            show_warning(trouble)
        self._projects.open(folder)

    def _may_copy(self, layers: Sequence[Image]) -> bool | None:
        """Ask whether to write images into the project; None to give it up."""
        if not layers:
            return True
        size = sum(int(getattr(layer.data, "nbytes", 0)) for layer in layers)
        names = ", ".join(layer.name for layer in layers[:3]) + (" …" if len(layers) > 3 else "")
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self._parent,
            "New project",
            f"{names}: no file on the disk has these planes. "
            f"Write a copy into the project ({_size(size)})?\n\n"
            "Without it, boxes on it are not kept.",
            buttons.Yes | buttons.No | buttons.Cancel,
            buttons.Yes,
        )
        return None if answer == buttons.Cancel else answer == buttons.Yes

    @told
    def open(self) -> None:
        """Ask for a folder and open the project in it."""
        path = QFileDialog.getExistingDirectory(self._parent, "Folder of a project")
        if path:
            self._projects.open(Path(path))

    @told
    def open_zip(self) -> None:
        """Ask for a zip of a project and for a new folder, and open it there."""
        source, _ = QFileDialog.getOpenFileName(self._parent, "Zip of a project", "", "Zip (*.zip)")
        if not source:
            return
        proposed = str(Path(source).with_suffix(""))
        folder, _ = QFileDialog.getSaveFileName(self._parent, "Unpack to (a folder is made)", proposed)
        if folder:
            work = partial(unpack_into, source=Path(source), folder=Path(folder))
            self._projects.make("unpacking …", work)

    @told
    def open_recent(self) -> None:
        """Open the project that was open last."""
        project = self._projects.project
        here = None if project is None else project.folder
        folder = next((path for path in recent_projects() if path != here), None)
        if folder is None:
            raise ProjectError("No other project was open here yet; choose one with 'Open project'.")
        self._projects.open(folder)

    @told
    def close(self) -> None:
        """Save the project and take its layers away."""
        self._projects.close()

    @told
    def search(self) -> None:
        """Ask for a folder in which to look for images that are missing."""
        path = QFileDialog.getExistingDirectory(self._parent, "Folder in which to look for the images")
        if path:
            self._projects.search(Path(path))

    @told
    def export(self, kind: str = "") -> None:
        """Ask for what it is not told, the form and the place, and write."""
        if self._projects.project is None:
            raise ProjectError("There is no project open.")
        if not kind:
            chosen, agreed = QInputDialog.getItem(
                self._parent, "Export the project", "as", list(KINDS), 0, False
            )
            kind = KINDS[chosen] if agreed else ""
        if kind in FILES:
            path, _ = QFileDialog.getSaveFileName(self._parent, "Export", *FILES[kind])
        elif kind:
            path = QFileDialog.getExistingDirectory(self._parent, "Folder for the files")
        else:
            path = ""
        predicted = self._with_predicted() if path else None
        if predicted is not None:
            self._projects.export(kind, Path(path), predicted=predicted)

    def _with_predicted(self) -> bool | None:
        """Ask whether to write masks that nobody has looked at, where there are any; None to give it up."""
        project = self._projects.project
        if project is None:
            return None
        unseen = len(project.masked_planes(predicted=True)) - len(project.masked_planes())
        if not unseen:
            return False
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self._parent,
            "Export",
            f"Nobody has looked at what was predicted on {counted(unseen, 'plane')}. Export it too?",
            buttons.Yes | buttons.No | buttons.Cancel,
            buttons.Yes,
        )
        return None if answer == buttons.Cancel else answer == buttons.Yes

    @told
    def bring_in(self) -> None:
        """Ask for a file of boxes or masks and take it into the project."""
        path, _ = QFileDialog.getOpenFileName(
            self._parent,
            "Import boxes or masks",
            "",
            "Boxes, labels (*.json *.txt *.tif *.tiff *.png);;All files (*)",
        )
        if path:
            self._projects.bring_in(Path(path))

    @told
    def zip(self, images: bool = True) -> None:
        """Ask for a file and pack the project into it."""
        project = self._projects.project
        if project is None:
            raise ProjectError("There is no project open.")
        proposed = str(project.folder.with_name(f"{project.folder.name}.zip"))
        path, _ = QFileDialog.getSaveFileName(self._parent, "Zip the project", proposed, "Zip (*.zip)")
        if path:
            self._projects.export("zip", Path(path), images=images)


def _proposed(layers: Sequence[Image]) -> Path:
    """Name of a new project, beside the first image."""
    files = [path for layer in layers if (path := file_of(layer)) is not None]
    place = files[0].parent if files else Path.home()
    name = files[0].name.partition(".")[0] if files else layers[0].name
    return place / f"{name} project"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
