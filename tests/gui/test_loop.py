"""The loop in a real viewer: predict, correct, accept, train again and predict again, with keys."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk
from tests.gui.test_widget import add_boxes, add_stack, boxes_of, summaries
from tests.helpers.synthetic import quick_config

from napari_boxprompt.gui.results import Result

pytestmark = pytest.mark.usefixtures("fake_encoders", "tiny_generator")


def train(desk: Desk) -> None:
    desk.widget.train_panel.train.click()
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.settle()


def predict(desk: Desk) -> Result:
    desk.widget.predict_panel.all.click()
    desk.wait(lambda: not desk.widget.predicting.running)
    desk.settle()
    result = desk.widget.session.result
    assert result is not None
    return result


def test_what_is_corrected_and_accepted_is_learnt_and_kept(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(show=True)
    widget, session = desk.widget, desk.widget.session
    add_stack(desk, 5)
    widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1)
    widget.train_panel.form.setValue(quick_config(steps=30, learning_rate=0.04, validate_every=10))
    train(desk)
    first = predict(desk)
    desk.viewer.layers.selection.active = first.layer
    desk.hand.press("N")
    plane = session.plane
    assert plane is not None
    rows = [widget.review_panel.queue.item(row).text().split("\n") for row in range(5)]
    assert "·" in rows[0][0] or not widget.review.order.reason(plane)
    assert sorted(row[1].split("·")[0].strip() for row in rows) == ["boxed"] * 2 + ["predicted"] * 3
    pictures = widget.review_panel._thumbnails
    desk.wait(lambda: pictures is not None and pictures.get(plane) is not None)
    desk.hand.press("E")
    first.layer.paint((plane.index[0], 80, 90), first.layer.selected_label)
    corrected = first.plane(plane).copy()
    desk.hand.press("A")
    rejected = session.plane
    desk.hand.press("R")
    assert first.status == {plane: "accepted", rejected: "rejected"}
    assert summaries(desk)[2].endswith(" boxed and 1 accepted plane")
    assert summaries(desk)[4].startswith("1 accepted, 1 rejected; next: ")
    drawn = boxes_of(desk).boxset

    train(desk)
    task = widget.trainer.last
    assert task is not None
    np.testing.assert_array_equal(task.masks[plane] > 0, corrected > 0)
    assert list(task.masks) == [plane]
    assert len(task.boxes.on(plane)) == len(np.unique(corrected)) - 1
    assert boxes_of(desk).boxset == drawn, "the user's layer is as it was"
    assert summaries(desk)[2].startswith("model ready"), "nothing was accepted since"

    second = predict(desk)
    assert second.layer != first.layer
    np.testing.assert_array_equal(second.plane(plane) > 0, corrected > 0)
    np.testing.assert_array_equal(first.plane(plane), corrected)
    assert second.status == {plane: "accepted"}
    assert 0.5 < second.agreement[plane] < 1, "all but what was painted is found again"
    last, status = widget.review_panel.queue.item(widget.review_panel.queue.count() - 1).text().split("\n")
    assert status.strip().startswith("accepted · doubt ")
    assert last.startswith("✓ ")
    assert last.endswith(f"new prediction agrees {second.agreement[plane]:.2f}")
    assert not desk.said


def test_a_worse_round_says_so_and_the_one_before_comes_back(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(show=True)
    widget, session = desk.widget, desk.widget.session
    add_stack(desk, 9)
    widget.boxes_panel.new.click()
    add_boxes(desk, *range(9))
    settings = {"validate_every": 10, "hold_out": 0.4}
    widget.train_panel.form.setValue(quick_config(steps=30, learning_rate=0.04, **settings))
    train(desk)
    view, first = widget.train_panel.rounds, session.trained
    assert view is not None
    assert view.said.text().startswith("Round 1 agrees ")
    assert "The model without training, given these boxes, agrees " in view.said.text()
    assert view.chart is None
    assert not view.back.isVisible()
    agreement = widget.rounds.rounds[0].scores["box_agreement"]
    assert summaries(desk)[2] == f"model ready, boxes agree {agreement:.2f}"

    widget.train_panel.form.setValue(quick_config(steps=1, learning_rate=1e-5, **settings))
    train(desk)
    assert len(widget.rounds.rounds) == 2
    assert "worse than round 1" in view.said.text()
    assert view.back.isVisibleTo(widget)
    assert view.back.text() == "Take round 1 back"
    assert view.chart is not None
    assert view.chart.isVisibleTo(widget)
    view.back.click()
    assert session.trained is first
    assert not view.back.isVisibleTo(widget)
    assert widget.rounds.current == 1
    assert predict(desk).count > 0, "with the model that found the squares"
    assert not desk.said
