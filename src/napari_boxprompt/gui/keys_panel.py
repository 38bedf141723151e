"""The table of keys, in which the user can change them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QFormLayout, QKeySequenceEdit, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.section import say, wrapping_label

if TYPE_CHECKING:
    from napari_boxprompt.gui.key_table import KeyTable

__all__ = ["KeysPanel"]

TITLES = {
    "boxes": "On the boxes layer",
    "review": "On a layer of objects",
    "stop": "On both, while something runs",
}

QT_NAMES = {"Escape": "Esc", "PageUp": "PgUp", "PageDown": "PgDown", "Delete": "Del", "Insert": "Ins"}
"""Qt's names of keys that napari writes otherwise."""


class KeysPanel(QWidget):
    """A field for each key.

    Parameters
    ----------
    table : KeyTable
        The keys.
    """

    def __init__(self, table: KeyTable) -> None:
        super().__init__()
        self._table = table
        self.fields: dict[tuple[str, str], QKeySequenceEdit] = {}
        self.said = wrapping_label(name="boxprompt-warning")
        self.standard = QPushButton("Reset")
        self.standard.setToolTip("Put the standard keys back.")
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 0, 4, 4)
        for place, title in TITLES.items():
            column.addWidget(QLabel(f"<b>{title}</b>"))
            rows = QFormLayout()
            if place == "boxes":
                rows.addRow(QLabel("1 to 9"), wrapping_label("class of the next box, and of selected boxes"))
            for key in table.of(place):
                field = self.fields[place, key.action] = QKeySequenceEdit()
                field.setFixedWidth(100)
                field.setToolTip("Click, then press the new key.")
                field.editingFinished.connect(partial(self._change, place, key.action))
                rows.addRow(field, wrapping_label(key.text))
            column.addLayout(rows)
        column.addWidget(self.said)
        column.addWidget(self.standard)
        self.standard.clicked.connect(self._reset)
        table.changed.connect(self.refresh)
        say(self.said, "")
        self.refresh()

    def refresh(self) -> None:
        """Show the keys as they are."""
        for place in TITLES:
            for key in self._table.of(place):
                self.fields[place, key.action].setKeySequence(QKeySequence(_for_qt(key.key)))
        self.standard.setEnabled(not self._table.is_standard)

    def _change(self, place: str, action: str) -> None:
        wanted = _for_napari(self.fields[place, action].keySequence())
        if wanted == self._table.key(place, action):
            return
        try:
            self._table.change(place, action, wanted)
        except BoxPromptError as error:
            self.refresh()
            say(self.said, str(error))
        else:
            say(self.said, "")

    def _reset(self, _: bool = False) -> None:
        self._table.reset()
        say(self.said, "")


def _for_qt(key: str) -> str:
    before, plus, last = key.rpartition("+")
    return f"{before}{plus}{QT_NAMES.get(last, last)}"


def _for_napari(sequence: QKeySequence) -> str:
    """Return the first key of a sequence; napari knows no longer ones."""
    text = sequence.toString(QKeySequence.SequenceFormat.PortableText).split(", ")[0]
    before, plus, last = text.rpartition("+")
    names = {"Return": "Enter", **{name: key for key, name in QT_NAMES.items()}}
    return f"{before}{plus}{names.get(last, last)}"
