"""The classes as a row of buttons: one is chosen, the next box belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QColorDialog, QInputDialog, QMenu, QToolButton, QWidget
from superqt import QFlowLayout

if TYPE_CHECKING:
    from qtpy.QtCore import QPoint

    from napari_boxprompt.gui.classes import Classes

__all__ = ["ClassBar"]


class ClassBar(QWidget):
    """Shows classes and asks for changes; whoever owns it carries them out."""

    chosen = Signal(int)
    added = Signal(str)
    renamed = Signal(int, str)
    recolored = Signal(int, QColor)
    removed = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._layout = QFlowLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.buttons: list[QToolButton] = []
        self.add = self._add_button()

    def show_classes(self, classes: Classes | None) -> None:
        """Show these classes, none where there is no boxes layer."""
        for button in (*self.buttons, self.add):
            self._layout.removeWidget(button)
            button.hide()  # until it is deleted it would lie in the corner of the new ones
            button.deleteLater()
        self.buttons = []
        for index, item in enumerate(() if classes is None else classes.items):
            button = QToolButton()
            button.setText(item.name)
            button.setIcon(_square(item.hex))
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            button.setCheckable(True)
            button.setChecked(classes is not None and index == classes.chosen)
            key = f" (key {index + 1})" if index < 9 else ""
            button.setToolTip(f"Next box: {item.name}{key}. Right click to rename, recolour or remove.")
            button.clicked.connect(lambda _=False, i=index: self.chosen.emit(i))
            button.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
            button.customContextMenuRequested.connect(
                lambda where, i=index, b=button: self._menu(i, b, where)
            )
            self._layout.addWidget(button)
            self.buttons.append(button)
        self.add = self._add_button()
        self.setEnabled(classes is not None)

    def _add_button(self) -> QToolButton:
        button = QToolButton()
        button.setText("+ class")
        button.setToolTip("Add a class")
        button.clicked.connect(self.ask_new)
        self._layout.addWidget(button)
        return button

    def ask_new(self) -> None:
        """Ask for the name of a new class."""
        name, sure = QInputDialog.getText(self, "New class", "Name of the new class:")
        if sure and name.strip():
            self.added.emit(name.strip())

    def _menu(self, index: int, button: QToolButton, where: QPoint) -> None:
        menu = QMenu(self)
        menu.addAction("Rename …", lambda: self.ask_name(index, button.text()))
        menu.addAction("Colour …", lambda: self.ask_color(index))
        menu.addAction("Remove, with its boxes", lambda: self.removed.emit(index))
        menu.exec(button.mapToGlobal(where))

    def ask_name(self, index: int, old: str) -> None:
        """Ask for another name of a class."""
        name, sure = QInputDialog.getText(self, "Rename class", "New name:", text=old)
        if sure and name.strip():
            self.renamed.emit(index, name.strip())

    def ask_color(self, index: int) -> None:
        """Ask for another colour of a class."""
        color = QColorDialog.getColor(parent=self, title="Colour of the class")
        if color.isValid():
            self.recolored.emit(index, color)


def _square(color: str) -> QIcon:
    pixels = QPixmap(12, 12)
    pixels.fill(QColor(color))
    return QIcon(pixels)
