"""One step of the work: a heading with a summary that stays readable when the step is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

__all__ = ["Section", "make_primary", "say", "wrapping_label"]


class Section(QWidget):
    """A collapsible part of the dock widget.

    Parameters
    ----------
    title : str
        Heading.
    body : QWidget
        What is folded away.
    is_open : bool
        Whether it is open at first.
    stop : QPushButton, optional
        The button in the body that ends its work. While that is there, a small one in the heading does the
        same where the step is folded.
    """

    toggled = Signal(bool)

    def __init__(
        self, title: str, body: QWidget, *, is_open: bool = True, stop: QPushButton | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self._stop = stop
        self._end = QToolButton()
        self._end.setText("Stop")
        self._end.setObjectName("boxprompt-end")
        self._end.setVisible(False)
        self._button = QToolButton()
        self._button.setText(f" {title}")
        self._button.setCheckable(True)
        self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._button.setObjectName("boxprompt-heading")
        self._button.toggled.connect(self._fold)
        self._summary = QElidingLabel()
        self._summary.setObjectName("boxprompt-summary")
        self._summary.setEllipsesWidth(3)  # or a text that is cut at its end loses its beginning too
        self._summary.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._summary.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._summary.installEventFilter(self)  # the whole line opens and closes
        heading = QHBoxLayout()
        heading.setContentsMargins(0, 0, 4, 0)
        heading.setSpacing(0)  # beside a scroll bar each pixel counts, and the button has a padding
        heading.addWidget(self._button)
        heading.addWidget(self._summary, 1)
        heading.addWidget(self._end)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(heading)
        layout.addWidget(body)
        self._said, self._doubled = "", False
        if stop is not None:
            self._end.setToolTip(stop.text())
            self._end.clicked.connect(stop.click)
            self._end.clicked.connect(self._show_summary)
        self._button.setChecked(is_open)
        self._fold(is_open)

    @property
    def is_open(self) -> bool:
        """Whether the body is shown."""
        return bool(self._button.isChecked())

    def open(self, wanted: bool = True) -> None:
        """Open or close it."""
        self._button.setChecked(wanted)

    def set_summary(self, text: str, *, doubled: bool = False) -> None:
        """Say in one line how the step stands; what stands in the body too shows only when that is folded."""
        self._said, self._doubled = text, doubled
        self._show_summary()

    def _show_summary(self, _: object = None) -> None:
        shown = "" if self._doubled and self.is_open else self._said
        self._summary.setText(shown)
        self._summary.setToolTip(shown)
        if self._stop is not None:
            self._end.setVisible(not self.is_open and not self._stop.isHidden())
            self._end.setEnabled(self._stop.isEnabled())

    @property
    def summary(self) -> str:
        """The one line."""
        return self._said

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's way of writing)
        """Do on a click on the summary what one on the heading does."""
        if event.type() == QEvent.Type.MouseButtonRelease:
            self._button.toggle()
        return bool(super().eventFilter(watched, event))

    def _fold(self, is_open: bool) -> None:
        self._button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.body.setVisible(is_open)
        self._show_summary()
        self.toggled.emit(is_open)


def make_primary(button: QPushButton, primary: bool) -> None:
    """Highlight the one button that is to be pressed next."""
    if button.property("primary") != primary:
        button.setProperty("primary", primary)
        button.style().unpolish(button)
        button.style().polish(button)


def say(label: QLabel, text: str) -> None:
    """Show a text in a label; where there is none, it takes no room."""
    label.setText(text)
    label.setVisible(bool(text))


def wrapping_label(text: str = "", *, name: str = "") -> QLabel:
    """Label that wraps and never asks for more width than there is."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setObjectName(name)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label
