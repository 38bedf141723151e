"""The line above the steps: which project the work is in, and whether it is safe."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QMenu, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_boxprompt.gui.project_images import shown_names
from napari_boxprompt.gui.recent import recent_projects
from napari_boxprompt.gui.section import wrapping_label
from napari_boxprompt.gui.telling import counted, told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_boxprompt.gui.project_notices import Notice
    from napari_boxprompt.gui.projects import Projects

__all__ = ["EXPORTS", "ProjectBar"]

NO_PROJECT = "No project: boxes are lost when napari closes."

EXPORTS = {
    "coco": "Boxes and masks as COCO …",
    "yolo": "Boxes as YOLO …",
    "tiff": "Masks as OME-TIFF …",
    "zarr": "Masks as OME-Zarr …",
    "csv": "Table of objects (CSV) …",
}
"""What a project can be written as, in the words of the menu."""

MOST_NOTICES = 3


class ProjectBar(QWidget):
    """Says how safe the work is, and has what can be done with projects.

    Parameters
    ----------
    projects : Projects
        The open project.
    """

    new_wanted = Signal()
    folder_wanted = Signal()
    open_wanted = Signal()
    unzip_wanted = Signal()
    close_wanted = Signal()
    search_wanted = Signal()
    export_wanted = Signal(str)
    import_wanted = Signal()
    zip_wanted = Signal(bool)

    def __init__(self, projects: Projects) -> None:
        super().__init__()
        self._projects = projects
        self.said = wrapping_label(name="boxprompt-quiet")
        self.new = QPushButton("New project")
        self.new.setToolTip(
            "Keep the open images, and all work on them, in a folder: each box is safe at once."
        )
        self.new.clicked.connect(self.new_wanted)
        self.more = QPushButton("Open")
        self.more.setObjectName("boxprompt-menu")
        self.menu = QMenu(self.more)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.more.setMenu(self.menu)
        self.images = _ImageList(self._states)
        self.images.setToolTip("Images of the project; one that is not open is opened.")
        self.images.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.images.activated.connect(self._choose)
        row = QHBoxLayout()
        row.addWidget(self.said, 1)
        row.addWidget(self.new)
        row.addWidget(self.more)
        self._notices = QVBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(9, 6, 9, 2)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.images)
        layout.addLayout(self._notices)
        self._shown: list[tuple[str, str]] | None = None
        projects.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say what is so now."""
        projects = self._projects
        project = projects.project
        self.new.setVisible(project is None and not projects.busy)
        self.more.setText("Open" if project is None else "Project")
        self.more.setEnabled(not projects.busy)
        if project is None:
            self.said.setText(projects.busy or NO_PROJECT)
            self.said.setToolTip("")
        else:
            self.said.setText(f"<b>{escape(project.folder.name)}</b> · {escape(projects.state)}")
            self.said.setToolTip(f"{project.folder}\n{counted(len(project.entries), 'image')}")
        self._show_images()
        self._show_notices(projects.notices)

    def _show_images(self) -> None:
        project, desk = self._projects.project, self._projects.desk
        away = () if project is None else (*project.missing, *project.changed)
        names = [] if project is None else [name for name in project.entries if name not in away]
        self.images.setVisible(len(names) > len(shown_names(self._projects.table)))
        if self.images.isHidden():
            return
        self.images.offer(names)
        chosen = None if desk is None else desk.chosen
        if chosen in names:
            self.images.setCurrentIndex(names.index(chosen))

    def _states(self) -> dict[str, str]:
        """How far the work on each image is: "accepted", or "2 boxed, 9 predicted" of a stack."""
        project = self._projects.project
        found: dict[str, Counter[str]] = {}
        if project is None:
            return {}
        for plane in project.images.planes:
            found.setdefault(plane.image, Counter())[project.status(plane)] += 1
        return {name: _state(counts) for name, counts in found.items()}

    def _show_notices(self, notices: list[Notice]) -> None:
        shown = [(notice.text, notice.button) for notice in notices]
        if shown == self._shown:
            return
        self._shown = shown
        while self._notices.count():
            item = self._notices.takeAt(0)
            old = None if item is None else item.widget()
            if old is not None:
                old.hide()
                old.deleteLater()
        for notice in notices[:MOST_NOTICES]:
            self._notices.addWidget(self._row(notice))
        if len(notices) > MOST_NOTICES:
            more = wrapping_label(f"and {len(notices) - MOST_NOTICES} more", name="boxprompt-quiet")
            self._notices.addWidget(more)

    def _row(self, notice: Notice) -> QWidget:
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(wrapping_label(notice.text, name="boxprompt-warning"), 1)
        if notice.button:
            button = QPushButton(notice.button)
            button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
            act = notice.act
            button.clicked.connect(self.search_wanted if act is None else lambda: told(act)())
            layout.addWidget(button)
        return row

    def _fill_menu(self) -> None:
        """The menu is made when it is opened: the recent projects may be others by then."""
        menu, project = self.menu, self._projects.project
        menu.clear()
        if project is not None:
            menu.addAction("New project …", self.new_wanted.emit)
        menu.addAction("New project of a folder of images …", self.folder_wanted.emit)
        menu.addAction("Open project …", self.open_wanted.emit)
        menu.addAction("Open a zip from a colleague …", self.unzip_wanted.emit)
        recent = [path for path in recent_projects() if project is None or path != project.folder]
        if recent:
            menu.addSeparator()
            for path in recent:
                action = menu.addAction(path.name, lambda path=path: self._open(path))
                action.setToolTip(str(path))
            menu.setToolTipsVisible(True)
        if project is None:
            return
        menu.addSeparator()
        menu.addAction("Import boxes or masks …", self.import_wanted.emit).setEnabled(not project.read_only)
        exports = menu.addMenu("Export")
        for kind, text in EXPORTS.items():
            exports.addAction(text, lambda kind=kind: self.export_wanted.emit(kind))
        menu.addAction("Zip for a colleague …", lambda: self.zip_wanted.emit(True))
        menu.addAction("Zip without the images …", lambda: self.zip_wanted.emit(False))
        menu.addSeparator()
        menu.addAction("Close project", self.close_wanted.emit)

    @told
    def _open(self, path: Path) -> None:
        self._projects.open(path)

    @told
    def _choose(self, index: int) -> None:
        self._projects.show_image(self.images.names[index])


class _ImageList(QComboBox):
    """Names of images; while they are looked at, with how far the work on them is.

    Parameters
    ----------
    states : callable
        Gives that, by name; asked for when the list is opened, as there may be thousands.
    """

    def __init__(self, states: Callable[[], Mapping[str, str]]) -> None:
        super().__init__()
        self._states = states

    @property
    def names(self) -> list[str]:
        """The names alone."""
        return [self.itemData(i) for i in range(self.count())]

    def offer(self, names: Sequence[str]) -> None:
        """Offer these images."""
        if self.names != list(names):
            self.clear()
            for name in names:
                self.addItem(name, name)

    def showPopup(self) -> None:  # noqa: N802 (Qt's name)
        """Open the list."""
        states = self._states()
        for i, name in enumerate(self.names):
            state = states.get(name, "")
            self.setItemText(i, f"{name}  ·  {state}" if state else name)
        super().showPopup()

    def hidePopup(self) -> None:  # noqa: N802 (Qt's name)
        """Close the list."""
        super().hidePopup()
        for i, name in enumerate(self.names):
            self.setItemText(i, name)


def _state(counts: Counter[str]) -> str:
    """Say of an image how many of its planes have each status; nothing of planes without work."""
    told = {status: n for status, n in counts.items() if status != "new"}
    if counts.total() == 1:
        return next(iter(told), "")
    return ", ".join(f"{n} {status}" for status, n in sorted(told.items()))
