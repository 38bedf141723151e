"""The sections of the dock: what is open at first, what is folded when, and what their lines say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QPushButton, QToolButton
from superqt import QElidingLabel

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.steps import Steps, next_step
from napari_boxprompt.gui.style import style_sheet

NAMES = ("Image", "Boxes", "Train", "Predict", "Review")


class Told(QLabel):
    """A panel that is told what to say of itself."""

    def __init__(self, summary: str) -> None:
        super().__init__("\n".join(summary * 12))
        self.summary = summary


@pytest.fixture
def session() -> Any:
    return SimpleNamespace(trained=None, result=None)


@pytest.fixture
def steps(session: Any, qtbot: QtBot) -> Steps:
    made = Steps(cast("Any", session), {name: Told(name.lower()) for name in NAMES})
    qtbot.addWidget(made)
    return made


@pytest.fixture
def viewer_style() -> str:
    """What napari's main window lays over the widget."""
    from napari.qt import get_stylesheet

    return str(get_stylesheet("dark"))


def opened(steps: Steps) -> set[str]:
    return {name for name, section in steps.sections.items() if section.is_open}


def test_at_first(steps: Steps) -> None:
    assert list(steps.sections) == [*NAMES, "Keys"]
    assert opened(steps) == {"Image", "Boxes", "Train"}
    steps.refresh()
    assert [steps.sections[name].summary for name in NAMES] == [name.lower() for name in NAMES]


def drawn(steps: Steps, name: str) -> tuple[str, int, int]:
    """What stands beside a heading, how wide that is, and how much room there is."""
    label = steps.sections[name].findChild(QElidingLabel)
    text = QLabel.text(label)
    return text, label.fontMetrics().horizontalAdvance(text), label.width()


@pytest.mark.parametrize("style", ["", "* { font-size: 15pt; }"])
def test_a_line_that_is_cut_says_so(steps: Steps, qtbot: QtBot, style: str) -> None:
    long = "80 boxes on 5 planes, 5 complete, 2 of them only in parts"
    for name, section in steps.sections.items():
        section.set_summary(long if name == "Boxes" else "short")
    steps.resize(350, 300)  # so low that there is a scroll bar
    with qtbot.waitExposed(steps):
        steps.show()
    steps.setStyleSheet(style)
    qtbot.wait(50)
    text, width, room = drawn(steps, "Boxes")
    assert text.endswith("…")
    assert long.startswith(text[:-1])
    assert width <= room
    assert steps.sections["Boxes"].findChild(QElidingLabel).toolTip() == long
    assert drawn(steps, "Image")[0] == "short"


def test_a_line_has_all_the_room_beside_its_heading(steps: Steps, qtbot: QtBot) -> None:
    section = steps.sections["Boxes"]
    with qtbot.waitExposed(steps):
        steps.show()
    label, button = section.findChild(QElidingLabel), section.findChild(QToolButton)
    assert label.geometry().left() == button.geometry().right() + 1


def test_a_line_is_never_cut_without_a_sign(steps: Steps, qtbot: QtBot, viewer_style: str) -> None:
    steps.setStyleSheet(viewer_style + style_sheet("dark"))
    with qtbot.waitExposed(steps):
        steps.show()
    label = steps.sections["Boxes"].findChild(QElidingLabel)
    for length in range(1, 90):
        steps.sections["Boxes"].set_summary("n" * length)
        assert QLabel.sizeHint(label).width() <= label.width(), length
    assert QLabel.text(label).endswith("…")


def test_each_state_has_one_next_step() -> None:
    def training_set() -> None:
        asked.append(True)
        if not boxed:
            raise BoxPromptError("No boxes.")

    asked, boxed = list[bool](), False
    now: Any = SimpleNamespace(
        view=None, trained=None, boxes=None, predicted=set(), training_set=training_set
    )
    assert next_step(now) == "Image"
    now.view = SimpleNamespace(count=2)
    assert next_step(now) == "Boxes"
    now.boxes = object()
    assert next_step(now) == "", "to draw"
    boxed, now.boxes = True, None
    assert next_step(now) == "Train", "the boxes are on another image"
    asked.clear()
    assert next_step(now, trains=False) == "Boxes"
    now.trained = object()
    assert next_step(now) == "Predict"
    now.predicted = {1, 2}
    assert next_step(now) == "Review"
    assert not asked


def test_what_is_done_is_folded(steps: Steps, session: Any) -> None:
    steps.sections["Train"].open(False)
    steps.show_training()
    assert opened(steps) == {"Train"}
    steps.show_prediction()
    assert opened(steps) == {"Train"}, "there is no model: the training failed"
    session.trained = object()
    steps.sections["Image"].open()
    steps.show_prediction()
    assert opened(steps) == {"Train", "Predict"}
    steps.show_review()
    assert "Review" not in opened(steps), "nothing was predicted"
    session.result = object()
    steps.show_review()
    assert opened(steps) == {"Predict", "Review"}


def test_the_whole_line_opens_and_closes(steps: Steps, qtbot: QtBot) -> None:
    section = steps.sections["Boxes"]
    label = section.findChild(QElidingLabel)
    qtbot.mouseClick(label, Qt.MouseButton.LeftButton)
    assert not section.is_open
    qtbot.mouseClick(label, Qt.MouseButton.LeftButton)
    assert section.is_open


def test_a_model_brings_prediction_into_sight_also_where_that_is_open(
    steps: Steps, session: Any, qtbot: QtBot
) -> None:
    steps.resize(380, 300)
    with qtbot.waitExposed(steps):
        steps.show()
    steps.sections["Predict"].open()
    qtbot.waitUntil(lambda: not steps._unfolded.isActive())
    steps.verticalScrollBar().setValue(0)
    session.trained = object()
    steps.show_prediction()
    qtbot.waitUntil(lambda: steps.verticalScrollBar().value() > 0)


def test_a_review_that_is_open_folds_nothing(steps: Steps, session: Any) -> None:
    session.result = object()
    steps.sections["Review"].open()
    steps.show_review()
    assert opened(steps) == {"Image", "Boxes", "Train", "Review"}


def test_what_is_opened_comes_into_sight(steps: Steps, qtbot: QtBot) -> None:
    steps.resize(380, 300)
    steps.show()
    qtbot.waitExposed(steps)
    steps.show_keys()
    qtbot.waitUntil(lambda: steps.verticalScrollBar().value() > 0)
    steps.sections["Keys"].open(False)
    steps.verticalScrollBar().setValue(0)
    steps.show_keys()
    steps.come_to_rest()
    qtbot.wait(100)
    assert steps.verticalScrollBar().value() == 0


def test_work_of_a_folded_step_can_be_stopped_there(qtbot: QtBot, session: Any) -> None:
    class Working(Told):
        def __init__(self, summary: str) -> None:
            super().__init__(summary)
            self.stop = QPushButton("Stop, keep the best", self)
            self.stop.setVisible(False)

    panel = Working("training")
    stopped: list[bool] = []
    panel.stop.clicked.connect(lambda: (stopped.append(True), panel.stop.setEnabled(False)))
    steps = Steps(session, {"Train": panel})
    qtbot.addWidget(steps)
    train = steps.sections["Train"]
    (end,) = [button for button in train.findChildren(QToolButton) if button.text() == "Stop"]
    train.open(False)
    assert end.isHidden(), "nothing runs"
    panel.stop.setVisible(True)
    steps.refresh()
    assert not end.isHidden()
    train.open()
    assert end.isHidden(), "the step's own button is seen"
    train.open(False)
    end.click()
    assert stopped == [True]
    assert not end.isEnabled()
    panel.stop.setVisible(False)
    steps.refresh()
    assert end.isHidden()


def test_a_folded_step_tells_how_far_its_work_is(qtbot: QtBot, session: Any) -> None:
    class Working(Told):
        summary_changed = Signal()

    panel, asked = Working("training"), Told("review")
    made = Steps(cast("Any", session), {"Train": panel, "Review": asked})
    qtbot.addWidget(made)
    panel.summary, asked.summary = "training · 38 s left", "other"
    panel.summary_changed.emit()
    assert made.sections["Train"].summary == "training · 38 s left"
    assert made.sections["Review"].summary == "", "only the line that has changed"
