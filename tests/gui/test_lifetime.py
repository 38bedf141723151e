"""Whatever the user takes away while work goes on: nothing crashes, nothing runs on, no box is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk, workers
from tests.helpers.synthetic import quick_config, tiny_generator_known

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui import predicting as predicting_module
from napari_boxprompt.gui import preview as preview_module
from napari_boxprompt.gui import trainer as trainer_module

OpenDesk = Callable[..., Desk]


class Held:
    """Work that goes on until it is stopped or released, in the place of the widget's generators."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def __call__(self, stop: Any, *_: Any, **__: Any) -> Generator[None, None, None]:
        self.begun.set()
        while not stop.wait(0.01) and not self.released.is_set():
            yield


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Encoding, training and predicting go on until they are stopped."""
    work = Held()
    monkeypatch.setattr(preview_module, "_look", work)
    monkeypatch.setattr(trainer_module, "train", work)
    monkeypatch.setattr(predicting_module, "predict", work)
    return work


@pytest.fixture
def desk(open_desk: OpenDesk, fake_encoders: Any) -> Desk:
    """A stack of three planes with boxes on two of them."""
    desk = open_desk()
    bright = np.full((3, 64, 64), 10, np.uint8)
    bright[:, 10:30, 12:40] = 200
    desk.viewer.add_image(bright, name="stack")
    boxes = tuple(Box(10, 12, 30, 40, PlaneId("stack", (z,)), "cell") for z in (0, 1))
    desk.widget.session.new_boxes_layer().add_boxes(BoxSet(boxes))
    desk.viewer.dims.set_current_step(0, 0)
    return desk


@pytest.fixture(params=["encoding", "training", "predicting"])
def busy(request: pytest.FixtureRequest, held: Held, desk: Desk, trained: TrainedModel) -> Desk:
    """The desk while work of one kind goes on."""
    widget = desk.widget
    if request.param == "encoding":
        widget.preview.request()
    elif request.param == "training":
        widget.trainer.start(quick_config())
    else:
        widget.session.set_model(trained)
        widget.predicting.planes()
    desk.wait(held.begun.is_set)
    return desk


def finish(desk: Desk, held: Held) -> None:
    """End what goes on, and whatever begins because of that."""
    held.released.set()
    desk.widget.jobs.stop_all()
    desk.settle()
    assert not [text for text in desk.said if "unexpected" in text.lower()]


def close_by_x(desk: Desk) -> None:
    desk.dock.destroyOnClose()


def close_by_code(desk: Desk) -> None:
    desk.viewer.__wrapped__.window.remove_dock_widget(desk.widget)


@pytest.mark.parametrize("close", [close_by_x, close_by_code])
def test_closing_the_dock(busy: Desk, close: Callable[[Desk], None]) -> None:
    drawn = [vertices.tolist() for vertices in busy.viewer.layers["stack boxes"].data]
    close(busy)
    busy.wait(lambda: not workers())
    assert [vertices.tolist() for vertices in busy.viewer.layers["stack boxes"].data] == drawn
    busy.viewer.dims.set_current_step(0, 2)  # nobody listens any more
    busy.viewer.add_image(np.zeros((40, 40)))
    busy.viewer.theme = "light"
    assert not busy.said


def test_a_new_dock_finds_the_boxes_again(busy: Desk) -> None:
    from napari_boxprompt.gui.commands import open_widget

    close_by_x(busy)
    busy.wait(lambda: not workers())
    again = open_widget(busy.viewer.__wrapped__)
    assert again.session.boxes is not None
    assert len(again.session.boxes.boxset) == 2


def test_closing_the_viewer(busy: Desk) -> None:
    busy.viewer.close()
    busy.wait(lambda: not workers())


@pytest.mark.parametrize("name", ["stack", "stack boxes"])
def test_deleting_a_layer(busy: Desk, held: Held, name: str) -> None:
    busy.viewer.layers.remove(name)
    finish(busy, held)
    busy.viewer.dims.set_current_step(0, 0)
    busy.widget.refresh_summaries()


def test_deleting_everything(busy: Desk, held: Held) -> None:
    busy.viewer.layers.clear()
    finish(busy, held)
    assert busy.widget.sections["Image"].summary == "no image"


def test_renaming_layers(busy: Desk, held: Held) -> None:
    busy.viewer.layers["stack"].name = "renamed"
    busy.viewer.layers["stack boxes"].name = "mine"
    finish(busy, held)
    boxes = busy.widget.session.boxes
    assert boxes is not None
    assert {box.plane.image for box in boxes.boxset.boxes} == {"renamed"}


def test_changing_the_image(busy: Desk, held: Held) -> None:
    other = busy.viewer.add_image(np.zeros((50, 60)), name="other")
    busy.widget.session.choose_image(other)
    finish(busy, held)
    assert busy.widget.image_panel.layers.currentText() == "other"
    busy.widget.session.choose_image(busy.viewer.layers["stack"])
    assert busy.widget.session.boxes is not None
    assert len(busy.widget.session.boxes.boxset) == 2


def test_deleting_the_result_stops_the_prediction(desk: Desk, trained: TrainedModel) -> None:
    desk.settle()
    desk.widget.session.set_model(trained)
    desk.widget.predicting.planes()
    result = desk.widget.session.result
    assert result is not None
    desk.viewer.layers.remove(result.layer)
    desk.wait(lambda: not desk.widget.predicting.running)
    assert desk.widget.session.result is None
    assert not [text for text in desk.said if "unexpected" in text.lower()]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """A training that ends with the error in the list."""
    errors: list[BaseException] = []

    def train(stop: Any, **_: Any) -> Generator[None, None, None]:
        yield
        raise errors[0]

    monkeypatch.setattr(trainer_module, "train", train)
    return errors


def test_an_error_is_one_sentence_and_the_widget_goes_on(
    desk: Desk, failing: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.settle()
    failing.append(BoxError("Draw the boxes again."))
    desk.widget.train_panel.start()
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.settle()
    assert desk.said == ["Draw the boxes again."]
    assert desk.widget.train_panel.train.isVisibleTo(desk.widget)
    assert desk.widget.train_panel.train.isEnabled()
    assert desk.widget.session.boxes is not None
    assert len(desk.widget.session.boxes.boxset) == 2


def test_an_unexpected_error_is_said_once_and_written_down(
    desk: Desk, failing: list[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    desk.settle()
    failing.append(ZeroDivisionError("oops"))
    desk.widget.train_panel.start()
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.settle()
    (text,) = desk.said
    assert "oops" in text
    assert "log" in text
    assert any(record.exc_info for record in caplog.records)


def test_two_trainings_and_one_that_goes_on(desk: Desk) -> None:
    desk.settle()
    panel = desk.widget.train_panel
    with tiny_generator_known():
        panel.form.setValue(quick_config())
        for go_on in (False, False, True):
            panel.go_on.setChecked(go_on)
            desk.widget.trainer.start(panel.config, go_on=go_on)
            desk.wait(lambda: not desk.widget.trainer.running)
            desk.settle()
            trained = desk.widget.session.trained
            assert trained is not None
            assert trained.model.record["steps"] == 6
            assert bool(trained.model.record.get("started_from")) == go_on
    assert not desk.said


def test_a_training_teaches_how_long_the_next_takes(desk: Desk) -> None:
    desk.settle()
    with tiny_generator_known():
        config = quick_config()
        desk.widget.trainer.time(config)
        desk.settle()
        assert desk.widget.trainer.estimate(config) is not None
        desk.widget.trainer.start(config)
        desk.wait(lambda: not desk.widget.trainer.running)
        desk.settle()
        trained = desk.widget.session.trained
        assert trained is not None
        took = trained.model.record["seconds"]["train"]
        longer = quick_config(steps=606)
        more = desk.widget.trainer.estimate(longer), desk.widget.trainer.estimate(config)
    assert more[0] is not None
    assert more[1] is not None
    assert more[0] - more[1] == pytest.approx(100 * took, rel=0.2)
