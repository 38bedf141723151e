"""Asks in the dock, never in a dialog, whether to stop the work that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_boxprompt.gui.section import wrapping_label

if TYPE_CHECKING:
    from napari_boxprompt.gui.predicting import Predicting
    from napari_boxprompt.gui.trainer import Trainer

__all__ = ["StopRow"]

PATIENCE_MS = 6000
"""How long the question stands, and a second press of the key means yes."""


class StopRow(QWidget):
    """One line with the question and two buttons; hidden while nothing is asked.

    Parameters
    ----------
    trainer : Trainer
        Its training is stopped, and the best so far kept.
    predicting : Predicting
        Its prediction is stopped, and the planes done are kept.
    """

    def __init__(self, trainer: Trainer, predicting: Predicting) -> None:
        super().__init__()
        self._works: dict[str, Trainer | Predicting] = {"training": trainer, "prediction": predicting}
        self.question = wrapping_label(name="boxprompt-warning")
        self.yes, self.no = QPushButton("Stop"), QPushButton("Go on")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PATIENCE_MS)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 2)
        layout.addWidget(self.question, 1)
        layout.addWidget(self.yes)
        layout.addWidget(self.no)
        self.yes.clicked.connect(self._stop)
        self.no.clicked.connect(self.withdraw)
        self._timer.timeout.connect(self.withdraw)
        trainer.ended.connect(self._on_ended)
        predicting.ended.connect(self._on_ended)
        self.setVisible(False)

    @property
    def busy(self) -> bool:
        """Whether there is a training or a prediction to stop."""
        return any(work.running for work in self._works.values())

    def ask(self) -> None:
        """Ask, or stop if the question stands already; nothing happens where nothing runs."""
        if self._timer.isActive():
            self._stop()
        elif self.busy:
            names = " and the ".join(name for name, work in self._works.items() if work.running)
            text = f"Stop the {names}? What is done is kept."
            self.question.setText(text)
            self.setVisible(True)
            self._timer.start()
            if not self.isVisible():  # the dock is behind another one
                show_info(f"{text} Press the key again to stop.")

    def withdraw(self) -> None:
        """Ask no more."""
        self._timer.stop()
        self.setVisible(False)

    def _stop(self) -> None:
        self.withdraw()
        for work in self._works.values():
            work.stop()

    def _on_ended(self, _: object = None) -> None:
        if not self.busy:
            self.withdraw()
