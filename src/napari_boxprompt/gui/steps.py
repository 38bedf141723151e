"""The steps of the work, one below the other: which are open, and what each says of how it stands."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.key_table import KeyTable
from napari_boxprompt.gui.keys_panel import KeysPanel
from napari_boxprompt.gui.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_boxprompt.gui.state import Session

__all__ = ["Steps", "next_step"]

UNFOLDING_MS = 20
"""A section has its height only when it has been laid out."""


def next_step(session: Session, *, trains: bool | None = None) -> str:
    """Say which step has the highlighted button; panels ask here, so that there is one.

    Parameters
    ----------
    session : Session
        The work.
    trains : bool, optional
        Whether a training can start, where the caller knows: to find it out takes long with many boxes.

    Returns
    -------
    str
        Name of a step; empty where the next thing to do is to draw.
    """
    if session.view is None:
        return "Image"
    if session.trained is not None:
        return "Predict" if len(session.predicted) < session.view.count else "Review"
    if _can_train(session) if trains is None else trains:
        return "Train"
    return "Boxes" if session.boxes is None else ""


def _can_train(session: Session) -> bool:
    try:
        session.training_set()
    except BoxPromptError:
        return False
    return True


class _Summed(Protocol):
    """A panel that says in one line how its step stands."""

    @property
    def summary(self) -> str: ...


class Steps(QScrollArea):
    """Sections for the panels, in the order of the work, and the table of keys below them.

    Parameters
    ----------
    session : Session
        Its model and its result decide which sections are opened.
    panels : mapping of str to QWidget
        The panel of each step by its name: Image, Boxes, Train, Predict and Review. Each has a `summary`; one
        that also has a true `summary_is_doubled` shows that line only when it is folded. A signal
        `summary_changed` has it shown anew. Its button `stop`, if it has one, is at hand when it is folded.
    keys : KeyTable, optional
        The keys that the user can change; by default a table of its own.

    Attributes
    ----------
    sections : dict of str to Section
        The sections by name; "Keys" is the last.
    """

    def __init__(self, session: Session, panels: Mapping[str, QWidget], keys: KeyTable | None = None) -> None:
        super().__init__()
        self._session, self._panels = session, panels
        self.sections = {
            name: Section(
                f"{number}  {name}",
                panel,
                is_open=name not in ("Predict", "Review"),
                stop=getattr(panel, "stop", None),
            )
            for number, (name, panel) in enumerate(panels.items(), start=1)
        }
        self.sections["Keys"] = Section("Keys", KeysPanel(keys or KeyTable()), is_open=False)
        self._opened: Section | None = None
        self._unfolded = QTimer(self)
        self._unfolded.setSingleShot(True)
        self._unfolded.setInterval(UNFOLDING_MS)
        self._unfolded.timeout.connect(self._bring_into_view)
        self._lay_out()
        for section in self.sections.values():
            section.toggled.connect(self._note_opened)
        for name, panel in panels.items():
            if (changed := getattr(panel, "summary_changed", None)) is not None:
                changed.connect(partial(self.refresh, name))

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(6)
        for section in self.sections.values():
            column.addWidget(section)
        column.addStretch(1)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QScrollArea.Shape.NoFrame)

    def come_to_rest(self) -> None:
        """Scroll to nothing any more: the widget goes away."""
        self._unfolded.stop()

    def refresh(self, *names: str) -> None:
        """One line for each section, or for some."""
        for name in names or self._panels:
            panel = self._panels[name]
            doubled = bool(getattr(panel, "summary_is_doubled", False))
            self.sections[name].set_summary(cast("_Summed", panel).summary, doubled=doubled)

    def show_keys(self) -> None:
        """Bring the table of keys into sight."""
        self.sections["Keys"].open()

    def show_training(self, _: object = None) -> None:
        """Fold what is done, so that the plot is seen without scrolling."""
        self._fold("Image", "Boxes")
        self.sections["Train"].open()  # folded for a review, and with it the button that stops

    def show_prediction(self) -> None:
        """There is a model: the step that uses it is next."""
        if self._session.trained is not None:
            self._fold("Image")  # or Review would be below the lower edge
            self.sections["Predict"].open()
            self._opened = self.sections["Predict"]  # also where it was open, below the plots
            self._unfolded.start()

    def show_review(self, _: object = None, *, there: bool = False) -> None:
        """There is a result to look at, if the work has not failed, or where the caller knows."""
        review = self.sections["Review"]
        if (there or self._session.result is not None) and not review.is_open:
            self._fold("Image", "Boxes", "Train")  # or the list would be below the lower edge
            review.open()

    def _fold(self, *names: str) -> None:
        for name in names:
            self.sections[name].open(False)

    def _note_opened(self, is_open: bool) -> None:
        section = self.sender()
        if is_open and isinstance(section, Section):
            self._opened = section
            self._unfolded.start()

    def _bring_into_view(self) -> None:
        """Scroll to what was opened, as it may be below the lower edge."""
        if self._opened is not None:
            self.ensureWidgetVisible(self._opened, 0, 0)
