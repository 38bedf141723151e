"""The live picture of a training: loss terms, and agreement with held-out boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

if TYPE_CHECKING:
    from napari_boxprompt.events import Metrics

__all__ = ["TrainingPlot", "small_plot"]

TERM_COLORS = {
    "total": "#9aa4b0",
    "pseudo_label": "#19c8ff",
    "size": "#ff8c1a",
    "outside": "#b48cff",
    "consistency": "#3ddc84",
    "tightness": "#ff5ca8",
    "affinity": "#c9d64a",
}
AGREEMENT_COLORS = {"box_agreement": "#ffd400", "pseudo_dice": "#19c8ff"}
WORDS = {
    "total": "all",
    "pseudo_label": "masks",
    "size": "size",
    "outside": "outside",
    "consistency": "views",
    "tightness": "sides",
    "affinity": "edges",
    "box_agreement": "boxes",
    "pseudo_dice": "masks",
}


class TrainingPlot(QWidget):
    """Two small plots side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = _plot("loss")
        self.agreement = _plot("agreement, held-out")
        self.agreement.setYRange(0, 1)
        self.agreement.getAxis("left").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        self._curves: dict[str, pg.PlotDataItem] = {}
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for column, (plot, colors) in enumerate(
            ((self.loss, TERM_COLORS), (self.agreement, AGREEMENT_COLORS))
        ):
            key = QLabel(
                " &nbsp;".join(f"<font color='{c}'>■</font>&nbsp;{WORDS[name]}" for name, c in colors.items())
            )
            key.setWordWrap(True)
            key.setObjectName("boxprompt-small")
            layout.addWidget(plot, 0, column)
            layout.addWidget(key, 1, column, Qt.AlignmentFlag.AlignTop)
            layout.setColumnStretch(column, 1)
        self.loss.setFixedHeight(110)
        self.agreement.setFixedHeight(110)

    def set_colors(self, background: str, text: str) -> None:
        """Follow the theme of the viewer."""
        for plot in (self.loss, self.agreement):
            plot.setBackground(background)
            for axis in ("left", "bottom"):
                plot.getAxis(axis).setPen(text)
                plot.getAxis(axis).setTextPen(text)
            plot.getPlotItem().titleLabel.setText(plot.getPlotItem().titleLabel.text, color=text)

    def clear(self, steps: int = 100) -> None:
        """Forget a training; the next has this many steps, so that a curve shows how far it is."""
        for plot in (self.loss, self.agreement):
            plot.clear()
            plot.setXRange(0, steps)
        self._curves, self._points = {}, {}

    def add(self, metrics: Metrics) -> None:
        """Draw one more point of each curve."""
        for name, value in metrics.losses.items():
            self._extend(self.loss, f"loss {name}", name, TERM_COLORS, metrics.step, value)
        for name, value in metrics.validation.items():
            self._extend(self.agreement, f"agreement {name}", name, AGREEMENT_COLORS, metrics.step, value)

    def points(self, kind: str, name: str) -> tuple[list[float], list[float]]:
        """Steps and values drawn so far; `kind` is ``"loss"`` or ``"agreement"``."""
        return self._points.get(f"{kind} {name}", ([], []))

    def _extend(
        self, plot: pg.PlotWidget, key: str, name: str, colors: dict[str, str], step: int, value: float
    ) -> None:
        if key not in self._curves:
            color = colors.get(name, "#c8c8c8")
            self._points[key] = ([], [])
            self._curves[key] = plot.plot(
                pen=pg.mkPen(color, width=2 if name in ("total", "box_agreement") else 1),
                symbol="o" if colors is AGREEMENT_COLORS else None,
                symbolSize=5,
                symbolBrush=color,
                symbolPen=None,
            )
        steps, values = self._points[key]
        steps.append(float(step))
        values.append(float(value))
        self._curves[key].setData(steps, values)


def _plot(title: str) -> pg.PlotWidget:
    plot = small_plot()
    plot.setTitle(title, size="8pt")
    return plot


def small_plot() -> pg.PlotWidget:
    """An empty plot that is looked at and does not move."""
    plot = pg.PlotWidget()
    plot.setMouseEnabled(x=False, y=False)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    plot.getAxis("left").setWidth(28)
    plot.getAxis("bottom").setHeight(18)
    return plot
