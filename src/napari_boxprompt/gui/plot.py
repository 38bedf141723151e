"""The live picture of a training: loss terms, and agreement with held-out boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyqtgraph as pg
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_boxprompt.gui.section import wrapping_label

if TYPE_CHECKING:
    from napari_boxprompt.events import Metrics

__all__ = ["HEIGHT", "TrainingPlot", "color_plot", "small_plot"]

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


HEIGHT = 150
"""Of a plot in pixels: lower, and curves cannot be told apart; a small screen has room for two of them."""


class TrainingPlot(QWidget):
    """Two plots, one below the other; the second appears when there is something in it."""

    def __init__(self) -> None:
        super().__init__()
        self.loss, self.agreement = small_plot(), small_plot()
        self.agreement.setYRange(0, 1)
        self.agreement.getAxis("left").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        self._loss_key = _key("loss, by step:", TERM_COLORS)
        self._agreement_key = _key("agreement with boxes kept apart, by step:", AGREEMENT_COLORS)
        self._curves: dict[str, pg.PlotDataItem] = {}
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in (self._loss_key, self.loss, self._agreement_key, self.agreement):
            layout.addWidget(widget)

    def set_colors(self, background: str, text: str) -> None:
        """Follow the theme of the viewer."""
        for plot in (self.loss, self.agreement):
            color_plot(plot, background, text)

    def clear(self, steps: int = 100) -> None:
        """Forget a training; the next has this many steps, so that a curve shows how far it is."""
        for plot in (self.loss, self.agreement):
            plot.clear()
            plot.setXRange(0, steps, padding=0)
            plot.getAxis("bottom").setTicks([[(step, str(step)) for step in (0, steps // 2, steps)]])
        self._curves, self._points = {}, {}
        self._show_agreement(False)

    def add(self, metrics: Metrics) -> None:
        """Draw one more point of each curve."""
        for name, value in metrics.losses.items():
            self._extend(self.loss, f"loss {name}", name, TERM_COLORS, metrics.step, value)
        for name, value in metrics.validation.items():
            self._extend(self.agreement, f"agreement {name}", name, AGREEMENT_COLORS, metrics.step, value)
        if metrics.validation:
            self._show_agreement(True)

    def points(self, kind: str, name: str) -> tuple[list[float], list[float]]:
        """Steps and values drawn so far; `kind` is ``"loss"`` or ``"agreement"``."""
        return self._points.get(f"{kind} {name}", ([], []))

    def _show_agreement(self, shown: bool) -> None:
        for widget in (self._agreement_key, self.agreement):
            widget.setVisible(shown)

    def _extend(
        self, plot: pg.PlotWidget, key: str, name: str, colors: dict[str, str], step: int, value: float
    ) -> None:
        if key not in self._curves:
            color = colors.get(name, "#c8c8c8")
            self._points[key] = ([], [])
            self._curves[key] = plot.plot(
                pen=pg.mkPen(color, width=2.5 if name in ("total", "box_agreement") else 1.5),
                antialias=True,
                symbol="o" if colors is AGREEMENT_COLORS else None,
                symbolSize=7,
                symbolBrush=color,
                symbolPen=None,
            )
        steps, values = self._points[key]
        steps.append(float(step))
        values.append(float(value))
        self._curves[key].setData(steps, values)


def _key(title: str, colors: dict[str, str]) -> QLabel:
    marks = " &nbsp;".join(f"<font color='{c}'>■</font>&nbsp;{WORDS[name]}" for name, c in colors.items())
    return wrapping_label(f"{title} {marks}", name="boxprompt-small")


def small_plot() -> pg.PlotWidget:
    """An empty plot that is looked at and does not move."""
    plot = pg.PlotWidget()
    plot.setFixedHeight(HEIGHT)
    plot.setMouseEnabled(x=False, y=False)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    plot.getAxis("left").setWidth(30)
    plot.getAxis("bottom").setHeight(20)
    for axis in ("left", "bottom"):
        plot.getAxis(axis).setStyle(maxTickLevel=0, hideOverlappingLabels=False)
    plot.getPlotItem().layout.setContentsMargins(0, 6, 14, 0)  # or the last numbers are left out
    return plot


def color_plot(plot: pg.PlotWidget, background: str, text: str) -> None:
    """Give a plot the colours of a theme."""
    plot.setBackground(background)
    for axis in ("left", "bottom"):
        plot.getAxis(axis).setPen(text)
        plot.getAxis(axis).setTextPen(text)
