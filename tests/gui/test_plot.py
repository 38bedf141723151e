"""The curves of a training: what is drawn, and that it can be read on a small screen."""

from __future__ import annotations

import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from pytestqt.qtbot import QtBot
from qtpy.QtGui import QPainter

from napari_boxprompt.events import Metrics
from napari_boxprompt.gui.plot import HEIGHT, TrainingPlot


@pytest.fixture
def plot(qtbot: QtBot) -> TrainingPlot:
    made = TrainingPlot()
    qtbot.addWidget(made)
    made.resize(330, 600)
    made.clear(200)
    with qtbot.waitExposed(made):
        made.show()
    return made


def test_curves_have_the_whole_width_and_enough_height(plot: TrainingPlot) -> None:
    plot.add(Metrics(40, 200, {"total": 1.0}, {"box_agreement": 0.7}))
    for part in (plot.loss, plot.agreement):
        assert part.width() == plot.width()
        assert part.height() == HEIGHT
    assert plot.agreement.geometry().top() > plot.loss.geometry().bottom()


def test_agreement_is_drawn_where_planes_are_held_out(plot: TrainingPlot) -> None:
    plot.add(Metrics(20, 200, {"total": 1.0}))
    assert plot.agreement.isHidden()
    plot.add(Metrics(40, 200, {"total": 0.9}, {"box_agreement": 0.7}))
    assert not plot.agreement.isHidden()
    assert plot.points("agreement", "box_agreement") == ([40.0], [0.7])
    plot.clear(100)
    assert plot.agreement.isHidden(), "it belongs to the training before"
    assert plot.points("loss", "total") == ([], [])


def test_the_axis_tells_how_far_the_training_is(plot: TrainingPlot) -> None:
    plot.add(Metrics(40, 200, {"total": 1.0}))
    assert plot.loss.getPlotItem().viewRange()[0] == [0, 200]
    picture = plot.grab()  # so that it is laid out
    painter = QPainter(picture)
    _, _, texts = plot.loss.getAxis("bottom").generateDrawSpecs(painter)
    painter.end()
    assert [text for _, _, text in texts] == ["0", "100", "200"], "none is left out at the edge"
