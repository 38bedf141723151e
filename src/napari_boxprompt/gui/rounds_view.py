"""What came of the rounds: a sentence, a chart, and the way back when the last one was worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_boxprompt.gui.section import say, wrapping_label
from napari_boxprompt.gui.telling import told
from napari_boxprompt.project.rounds import describe, name_of, verdict

if TYPE_CHECKING:
    import pyqtgraph as pg

    from napari_boxprompt.gui.rounds import RoundBook
    from napari_boxprompt.project.rounds import Round

__all__ = ["RoundsView"]

NEW, FROZEN = "#ffd400", "#9aa4b0"
MEASURE = "box_agreement"


class RoundsView(QWidget):
    """Tells how good the last training is, and shows the rounds so far.

    Parameters
    ----------
    book : RoundBook
        The rounds.
    """

    def __init__(self, book: RoundBook) -> None:
        super().__init__()
        self._book = book
        self.said = wrapping_label()
        self.back = QPushButton()
        self.back.setToolTip("Make that model the one that predicts, and that trainings follow.")
        self.back.clicked.connect(lambda: told(book.take_back)())
        self.chart: pg.PlotWidget | None = None
        self._key = wrapping_label(
            f"agreement with boxes kept apart, by round: <font color='{NEW}'>●</font>&nbsp;the model "
            f"&nbsp;<font color='{FROZEN}'>╌</font>&nbsp;without training, given the boxes",
            name="boxprompt-small",
        )
        self._theme = ("#000000", "#ffffff")
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        for widget in (self.said, self.back, self._key):
            self._layout.addWidget(widget)
        book.changed.connect(self.refresh)
        self.refresh()

    def set_theme(self, background: str, text: str) -> None:
        """Colours of the chart."""
        self._theme = (background, text)
        if self.chart is not None:
            from napari_boxprompt.gui.plot import color_plot

            color_plot(self.chart, *self._theme)

    def refresh(self) -> None:
        """Show the rounds as they stand."""
        book = self._book
        newest = book.newest
        if book.running:
            say(self.said, "Comparing with boxes that were kept apart …")
        else:
            say(self.said, "" if newest is None else _sentence(newest, book.rounds, book.current))
        worse = bool(newest is not None and verdict(newest) == "worse" and not book.running)
        self.said.setObjectName("boxprompt-warning" if worse else "boxprompt-quiet")
        self.said.style().unpolish(self.said)
        self.said.style().polish(self.said)
        offered = book.offered
        self.back.setVisible(offered is not None and not book.running)
        self.back.setText(f"Take {name_of(offered or 0, book.rounds)} back")
        scored = [record for record in book.rounds if MEASURE in record.scores]
        self._key.setVisible(len(scored) > 1)
        if len(scored) > 1:
            self._draw(scored)
        if self.chart is not None:
            self.chart.setVisible(len(scored) > 1)
        self.setVisible(book.running or newest is not None)

    def _draw(self, scored: list[Round]) -> None:
        import pyqtgraph as pg

        if self.chart is None:
            from napari_boxprompt.gui.plot import color_plot, small_plot

            self.chart = small_plot()
            color_plot(self.chart, *self._theme)
            self._layout.addWidget(self.chart)
        self.chart.clear()
        numbers = [record.number for record in scored]
        values = [record.scores[MEASURE] for record in scored]
        frozen = [(r.number, r.frozen[MEASURE]) for r in scored if MEASURE in r.frozen]
        if frozen:
            pen = pg.mkPen(FROZEN, width=1.5, style=Qt.PenStyle.DashLine)
            self.chart.plot(*map(list, zip(*frozen, strict=True)), pen=pen)
        self.chart.plot(
            numbers,
            values,
            pen=pg.mkPen(NEW, width=2.5),
            antialias=True,
            symbol="o",
            symbolSize=8,
            symbolBrush=NEW,
            symbolPen=None,
        )
        self.chart.setXRange(numbers[0], numbers[-1], padding=0.08)
        low = min(values + [value for _, value in frozen])
        self.chart.setYRange(max(0.0, min(low - 0.05, 0.5)), 1.0, padding=0.06)
        self.chart.getAxis("bottom").setTicks([[(n, str(n)) for n in _few(numbers)]])


def _few(numbers: list[int], most: int = 12) -> list[int]:
    """Some of the numbers, so that they do not run into each other; the last one is always there."""
    step = -(-len(numbers) // most)
    return numbers[::-1][::step][::-1]


def _sentence(record: Round, rounds: list[Round], current: int) -> str:
    said = describe(record, rounds)
    if current and current != record.number:
        said += f" {name_of(current, rounds).capitalize()} is in use again."
    return said
