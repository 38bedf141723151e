"""Whatever the user takes away while work goes on: nothing crashes, nothing runs on, no box is lost."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from napari.layers import Shapes
from tests.gui.conftest import Desk, workers
from tests.helpers.synthetic import break_training, quick_config, tiny_generator_known

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxError, ImageError, ModelError
from napari_boxprompt.events import Metrics, Progress
from napari_boxprompt.gui import predicting as predicting_module
from napari_boxprompt.gui import preview as preview_module
from napari_boxprompt.gui import trainer as trainer_module
from napari_boxprompt.gui.layers import Role, layers_with_role
from napari_boxprompt.gui.segmenting import Found
from napari_boxprompt.gui.work import Glimpse, Trained
from napari_boxprompt.instances import Instance
from napari_boxprompt.normalization import Normalization
from napari_boxprompt.prediction import Prediction
from napari_boxprompt.ranking import PlaneScores

OpenDesk = Callable[..., Desk]


class Held:
    """Work that goes on until it is stopped or released, in the place of the widget's generators."""

    def __init__(self) -> None:
        self.begun, self.released = set[str](), threading.Event()

    def work(self, name: str, stop: Any, *_: Any, **__: Any) -> Generator[None, None, None]:
        self.begun.add(name)
        while not stop.wait(0.01) and not self.released.is_set():
            yield


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Encoding, training and predicting go on until they are stopped."""
    held = Held()
    monkeypatch.setattr(preview_module, "_look", partial(held.work, "encoding"))
    monkeypatch.setattr(trainer_module, "train", partial(held.work, "training"))
    monkeypatch.setattr(predicting_module, "predict", partial(held.work, "predicting"))
    return held


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


@pytest.fixture
def busy(held: Held, desk: Desk, trained: TrainedModel) -> Desk:
    """The desk while a plane is encoded, a model is trained and another one predicts."""
    widget = desk.widget
    widget.session.set_model(trained)
    widget.preview.request()
    widget.predicting.planes()
    widget.trainer.start(quick_config())
    desk.wait(lambda: len(held.begun) == 3)
    return desk


def finish(desk: Desk, held: Held) -> None:
    """End what goes on, and whatever begins because of that."""
    held.released.set()
    desk.widget.jobs.stop_all()
    desk.settle()
    assert not [text for text in desk.said if "unexpected" in text.lower()]


def train_as(desk: Desk, ended: Trained) -> None:
    """Train in no time, with this in the end, and let it be judged."""
    trainer = desk.widget.trainer

    def at_once(stop: Any, **_: Any) -> Generator[object, None, Trained]:
        yield Progress("train", 1, 2)
        return ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "train", at_once)
        trainer.start(desk.widget.train_panel.config)
        desk.settle()


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


@pytest.mark.parametrize("early", [True, False], ids=["open again before it ends", "after it has ended"])
def test_closing_the_dock_keeps_what_a_training_has_learnt(
    desk: Desk, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    from napari_boxprompt.gui.commands import open_widget

    begun, go_on = threading.Event(), threading.Event()

    def learning(stop: Any, **_: Any) -> Generator[object, None, Trained]:
        yield Progress("train", 1, 2)
        begun.set()
        stop.wait(60)
        go_on.wait(60)
        return Trained(trained, stopped=True, steps=31)

    monkeypatch.setattr(trainer_module, "train", learning)
    desk.widget.trainer.start(quick_config())
    desk.wait(begun.is_set)
    close_by_x(desk)
    if early:
        again = open_widget(desk.viewer.__wrapped__)
        assert again.session.trained is None
        go_on.set()
        desk.wait(lambda: again.session.trained is trained)
    else:
        go_on.set()
        desk.wait(lambda: not workers() and bool(desk.said))
        again = open_widget(desk.viewer.__wrapped__)
        assert again.session.trained is trained
    assert again.predict_panel.all.isEnabled()
    (said,) = desk.said
    assert "31 steps" in said
    desk.wait(lambda: not again.jobs.names)


def test_a_new_dock_finds_the_boxes_again(busy: Desk) -> None:
    from napari_boxprompt.gui.commands import open_widget

    close_by_x(busy)
    busy.wait(lambda: not workers())
    again = open_widget(busy.viewer.__wrapped__)
    assert again.session.boxes is not None
    assert len(again.session.boxes.boxset) == 2


def test_a_new_dock_finds_model_and_verdicts_again(desk: Desk, trained: TrainedModel) -> None:
    from napari_boxprompt.gui.commands import open_widget

    desk.settle()
    session = desk.widget.session
    session.set_model(trained)
    desk.widget.predicting.planes()
    desk.wait(lambda: not desk.widget.predicting.running)
    assert session.view is not None
    assert session.result is not None
    place = session.view.images().planes[1]
    session.set_status(place, "accepted")
    accepted, count = session.result.plane(place).copy(), session.view.count
    close_by_x(desk)
    desk.wait(lambda: not workers())
    desk.widget = open_widget(desk.viewer.__wrapped__)
    again = desk.widget.session
    assert again is not session
    assert again.trained is trained
    assert again.result is not None
    assert again.result.status == {place: "accepted"}
    assert len(again.predicted) == count
    assert "1 accepted" in desk.widget.review_panel.summary
    layers = len(desk.viewer.layers)
    desk.widget.predicting.planes()
    desk.wait(lambda: not desk.widget.predicting.running)
    assert len(desk.viewer.layers) == layers, "the same model fills the same layer"
    np.testing.assert_array_equal(again.result.plane(place), accepted)
    assert not desk.said


def test_a_new_dock_finds_rounds_settings_and_undo_again(desk: Desk, trained: TrainedModel) -> None:
    from napari_boxprompt.gui.commands import open_widget

    desk.settle()
    widget = desk.widget
    panel, boxes = widget.train_panel, widget.session.boxes
    assert boxes is not None
    panel.preset.setCurrentIndex(panel.preset.findData("fast"))
    panel.preset.activated.emit(panel.preset.currentIndex())
    panel.form.setValue(panel.config.model_copy(update={"steps": 77}))
    for steps in (5, 6):
        train_as(desk, Trained(replace(trained), stopped=False, steps=steps))
    models, rounds = dict(widget.rounds.models), list(widget.rounds.rounds)
    assert [record.number for record in rounds] == [1, 2]
    boxes.toggle_complete(PlaneId("stack", (2,)))
    close_by_x(desk)
    desk.wait(lambda: not workers())
    desk.viewer.layers["stack boxes"].add([[0, 40, 40], [0, 40, 50], [0, 50, 50], [0, 50, 40]])  # meanwhile

    desk.widget = again = open_widget(desk.viewer.__wrapped__)
    desk.settle()
    assert (again.train_panel.config.preset, again.train_panel.config.steps) == ("fast", 77)
    assert again.train_panel.preset.currentData() == "fast"
    assert again.rounds.rounds == rounds
    assert again.session.trained is models[2]
    assert again.rounds.current == 2
    view = again.train_panel.rounds
    assert view is not None
    assert not view.isHidden()
    assert view.said.text()
    assert again.train_panel.summary.startswith("model ready")
    train_as(desk, Trained(replace(trained), stopped=False, steps=7))
    assert (again.rounds.last, again.rounds.rounds[-1].against) == (3, 2)
    found = again.session.boxes
    assert found is not None
    assert len(found.boxset) == 3
    found.undo()
    assert len(found.boxset) == 2
    assert found.is_complete(PlaneId("stack", (2,)))
    found.undo()
    assert not found.is_complete(PlaneId("stack", (2,)))


def test_rounds_of_a_project_stay_with_it(desk: Desk, trained: TrainedModel, tmp_path: Path) -> None:
    from napari_boxprompt.gui.commands import open_widget

    desk.settle()
    train_as(desk, Trained(trained, stopped=False, steps=5))
    desk.widget.projects.new(tmp_path / "project")
    desk.wait(lambda: desk.widget.projects.state == "saved")
    desk.settle()
    assert len(desk.widget.rounds.rounds) == 1
    close_by_x(desk)
    desk.wait(lambda: not workers())
    desk.widget = open_widget(desk.viewer.__wrapped__)
    (record,) = desk.widget.rounds.rounds
    assert record.loaded_from == (tmp_path / "project" / "models" / "001").as_posix()
    assert desk.widget.rounds.current == 1
    desk.settle()


def test_what_a_dock_leaves_keeps_no_viewer_alive(trained: TrainedModel) -> None:
    from napari.components import ViewerModel

    from napari_boxprompt.gui.state import Session

    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 40, 40)), name="stack")
    session = Session(viewer)
    session.set_model(trained)
    assert session.view is not None
    session.new_results([session.view])
    session.close()
    gone = weakref.ref(viewer)
    del viewer, session
    gc.collect()
    assert gone() is None


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


def test_what_was_learnt_before_an_error_is_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.settle()
    break_training(monkeypatch, 4, ImageError("The disk is gone."))
    with tiny_generator_known():
        desk.widget.trainer.start(quick_config())
        desk.wait(lambda: not desk.widget.trainer.running)
        desk.settle()
    trained = desk.widget.session.trained
    assert trained is not None
    assert trained.model.record["steps"] == 4
    assert "The disk is gone." in desk.said
    assert "stopped early, the best of this training is kept" in desk.widget.train_panel.said.text().lower()


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


class Late:
    """Encoding, training and predicting that have something to say when the world is another one."""

    def __init__(self, trained: TrainedModel) -> None:
        self.begun: set[str] = set()
        self.released = threading.Event()
        self._trained = trained

    def _wait(self, name: str, stop: Any) -> None:
        self.begun.add(name)
        while not stop.wait(0.01) and not self.released.is_set():
            pass

    def look(self, stop: Any, asked: Any, **_: Any) -> Generator[object, None, None]:
        yield Progress("encode", 0, 1)
        self._wait("encoding", stop)
        yield Normalization(low=(0.0,), high=(255.0,)), 64.0
        yield preview_module._Seen(asked.plane, np.ones(asked.images.shape(asked.plane), np.uint8))

    def train(self, stop: Any, **_: Any) -> Generator[object, None, Trained]:
        yield Progress("train", 0, 2)
        self._wait("training", stop)
        yield Metrics(1, 2, {"total": 1.0}, {"box_agreement": 0.5})
        for z in range(3):
            yield Glimpse(PlaneId("stack", (z,)), np.ones((64, 64), np.uint8))
        return Trained(self._trained, stopped=False, steps=2)

    def predict(self, stop: Any, planes: Sequence[PlaneId], **_: Any) -> Generator[object, None, int]:
        yield Progress("predict", 0, len(planes))
        self._wait("predicting", stop)
        for done, plane in enumerate(planes, start=1):
            labels = np.zeros((64, 64), np.uint32)
            labels[10:30, 12:40] = 1
            probability = np.where(labels > 0, 200, 20).astype(np.uint8)
            objects = (Instance(1, "object", 560, (10, 12, 30, 40), 0.9),)
            found = Prediction(plane, labels.astype(np.uint8), probability, labels, objects)
            yield Found(found, PlaneScores(plane, 0.5, 0.0))
            yield Progress("predict", done, len(planes))
        return len(planes)


@pytest.fixture
def late(desk: Desk, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> Late:
    """The desk with a preview, a complete plane and a model."""
    widget = desk.widget
    assert widget.session.boxes is not None
    widget.session.boxes.toggle_complete(PlaneId("stack", (1,)))
    widget.session.set_model(trained)
    desk.settle()
    late = Late(trained)
    monkeypatch.setattr(preview_module, "_look", late.look)
    monkeypatch.setattr(trainer_module, "train", late.train)
    monkeypatch.setattr(predicting_module, "predict", late.predict)
    return late


def change_meanwhile(desk: Desk, late: Late, change: Callable[[], object]) -> None:
    """Encode, train and predict at once; let them speak when something has changed; go through all planes."""
    late.begun.clear()
    late.released.clear()
    desk.widget.preview.request()
    desk.widget.predicting.planes()
    desk.widget.trainer.start(quick_config())
    desk.wait(lambda: len(late.begun) == 3)
    change()
    late.released.set()
    desk.settle()
    desk.viewer.dims.ndisplay = 2
    desk.viewer.dims.order = tuple(range(desk.viewer.dims.ndim))
    for step in (2, 1, 0):
        desk.viewer.dims.set_current_step(0, step)
    desk.settle()


def only(desk: Desk, role: Role) -> Any:
    """The last layer with a role."""
    return layers_with_role(desk.viewer, role)[-1]


STOPPED = "Stopped after 0 of 3 planes; these are kept."


def test_late_words_after_small_changes(desk: Desk, late: Late) -> None:
    viewer, session = desk.viewer, desk.widget.session
    assert session.boxes is not None
    boxes = session.boxes
    drawn = boxes.boxset.boxes

    def rename(role: Role) -> Callable[[], None]:
        return lambda: setattr(only(desk, role), "name", f"my {role}")

    changes: list[Callable[[], object]] = [
        lambda: viewer.dims.set_current_step(0, 2),
        lambda: setattr(viewer.dims, "order", (1, 0, 2)),
        lambda: setattr(viewer.dims, "ndisplay", 3),
        rename("boxes"),
        rename("preview"),
        rename("prediction"),
        lambda: viewer.layers.remove(only(desk, "preview")),
        lambda: boxes.add_class("more"),
        lambda: setattr(viewer.layers["stack"], "name", "renamed"),
    ]
    for number, change in enumerate(changes):
        change_meanwhile(desk, late, change)
        assert not desk.said, number
        assert len(boxes.boxset) == len(drawn), number
        assert np.unique(only(desk, "prediction").data).tolist() == [0, 1, 2, 3], number
        assert only(desk, "preview").visible, number
    assert boxes.is_complete(PlaneId("renamed", (1,)))
    assert {box.plane.image for box in boxes.boxset.boxes} == {"renamed"}

    change_meanwhile(desk, late, lambda: viewer.layers.remove(only(desk, "complete")))
    assert not boxes.is_complete(PlaneId("renamed", (1,)))
    boxes.undo()
    assert len(boxes.boxset) == len(drawn)
    before = len(viewer.layers)
    change_meanwhile(desk, late, lambda: viewer.layers.remove(only(desk, "prediction")))
    assert desk.said in ([], [STOPPED])
    assert len(viewer.layers) == before - 1, "no result comes back that was thrown away"


def another_image(desk: Desk) -> None:
    desk.viewer.add_image(np.zeros((50, 60)), name="other")
    desk.widget.session.choose_image(desk.viewer.layers["other"])


@pytest.mark.parametrize(
    "change",
    [
        lambda desk: desk.viewer.layers.remove("stack"),
        lambda desk: desk.viewer.layers.remove("stack boxes"),
        lambda desk: desk.viewer.layers.clear(),
        another_image,
    ],
    ids=["image deleted", "boxes deleted", "all deleted", "another image"],
)
def test_late_words_after_large_changes(desk: Desk, late: Late, change: Callable[[Desk], object]) -> None:
    change_meanwhile(desk, late, lambda: change(desk))
    assert desk.said in ([], [STOPPED])
    for shapes in layers_with_role(desk.viewer, "boxes"):
        assert isinstance(shapes, Shapes)
        assert shapes.nshapes == 2
    assert desk.widget.session.trained is not None, "what was learnt is kept"


def test_boxes_come_back_with_their_image(desk: Desk) -> None:
    """Deleting an image by mistake costs no box: it is opened again, and they belong to it."""
    session = desk.widget.session
    assert session.boxes is not None
    session.boxes.toggle_complete(PlaneId("stack", (1,)))
    before, pixels = session.boxes.boxset, desk.viewer.layers["stack"].data
    desk.viewer.layers.remove("stack")
    desk.settle()
    assert session.boxes is None
    assert desk.widget.sections["Boxes"].summary == "waits for an image"
    desk.viewer.add_image(pixels, name="stack")
    desk.settle()
    again = session.boxes
    assert again is not None
    assert again.boxset == before
    again.undo()
    assert again.boxset == before, "what was done before the image went cannot be undone"
    assert not desk.said


def test_a_model_that_cannot_be_loaded_is_said_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preview needs it, and so does the estimate of times: one of them speaks."""

    def get(*_: Any, **__: Any) -> None:
        raise ModelError("The weights are gone; choose another model.")

    desk.settle()
    monkeypatch.setattr(desk.widget.encoders, "get", get)
    monkeypatch.setattr(desk.widget.trainer, "_timings", {})
    sentence = ["The weights are gone; choose another model."]
    desk.widget.preview.request()
    desk.settle()
    assert desk.said == sentence
    desk.viewer.dims.set_current_step(0, 2)
    desk.settle()
    assert desk.said == sentence, "not again at each plane"
    desk.widget.train_panel.start()
    desk.wait(lambda: not desk.widget.trainer.running)
    desk.settle()
    assert desk.said == sentence * 2, "the user has asked"
