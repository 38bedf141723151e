"""Long work of the viewer, run here without a viewer."""

import threading
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from tests.helpers.synthetic import Scene, break_training, finish, overlap

from napari_boxprompt.errors import ConfigError, ImageError
from napari_boxprompt.events import Finished, Metrics, Progress
from napari_boxprompt.gui import segmenting, work
from napari_boxprompt.gui.jobs import Stop
from napari_boxprompt.gui.segmenting import Found
from napari_boxprompt.gui.work import Encoders, Glimpse, Trained, TrainingTask
from napari_boxprompt.models import EmbeddingCache
from napari_boxprompt.normalization import Normalization


class FakeEncoders(Encoders):
    """Gives the fake model, whatever is asked for."""

    def __init__(self, encoder: Any) -> None:
        super().__init__(lambda: EmbeddingCache(None))
        self._encoder = encoder

    def get(self, *_: Any, **__: Any) -> Any:
        return self._encoder


@pytest.fixture
def stop() -> Stop:
    return cast("Stop", threading.Event())


@pytest.fixture
def task(scene: Scene, normalization: Normalization, quick: Any) -> TrainingTask:
    config = quick(steps=30, learning_rate=0.04, validate_every=10)
    return TrainingTask(scene.images, scene.boxes, config, normalization)


def test_training_gives_a_model_that_finds_objects(
    stop: Stop, task: TrainingTask, encoder: Any, unseen: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GLIMPSE_SECONDS", 0.0)
    plane = task.images.planes[0]
    trained, events = finish(work.train(stop, task, FakeEncoders(encoder), lambda: plane))
    assert not trained.stopped
    assert trained.steps == 30
    assert {event.phase for event in events if isinstance(event, Progress)} == {"prepare", "encode", "train"}
    assert [event.step for event in events if isinstance(event, Metrics)][-1] == 30
    glimpses = [event for event in events if isinstance(event, Glimpse)]
    assert {glimpse.plane for glimpse in glimpses} == {plane}
    assert glimpses[0].mask.shape == task.images.shape(plane)

    count, found = finish(segmenting.predict(stop, trained.model, unseen.images, unseen.images.planes))
    assert count == 3
    predictions = [event for event in found if isinstance(event, Found)]
    assert all(0 <= item.doubt <= 1 for item in predictions)
    dices = [overlap(p.prediction.mask, unseen.mask(p.prediction.plane)) for p in predictions]
    assert np.mean(dices) > 0.85
    assert isinstance(found[-1], Finished)
    assert not found[-1].stopped


def test_no_glimpse_of_a_plane_that_is_not_among_the_images(
    stop: Stop, task: TrainingTask, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GLIMPSE_SECONDS", 0.0)
    _, events = finish(work.train(stop, task, FakeEncoders(encoder), lambda: None))
    assert not any(isinstance(event, Glimpse) for event in events)


def test_stopping_keeps_the_best(stop: Stop, task: TrainingTask, encoder: Any) -> None:
    running = work.train(stop, task, FakeEncoders(encoder), lambda: None)
    for event in running:
        if isinstance(event, Progress) and event.phase == "train" and event.done == 12:
            stop.set()
            break
    trained, _ = finish(running)
    assert trained.stopped
    assert 12 <= trained.steps <= 13
    assert trained.model.model.record["validation"], "checked at step 10"


def test_stopping_before_the_first_step_gives_nothing(stop: Stop, task: TrainingTask, encoder: Any) -> None:
    stop.set()
    trained, _ = finish(work.train(stop, task, FakeEncoders(encoder), lambda: None))
    assert trained is None


def test_an_error_comes_after_the_best_so_far(
    stop: Stop, task: TrainingTask, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_training(monkeypatch, 12, RuntimeError("CUDA out of memory"))
    events: list[Any] = []
    with pytest.raises(RuntimeError, match="out of memory"):
        events.extend(work.train(stop, task, FakeEncoders(encoder), lambda: None))
    kept = next(event for event in events if isinstance(event, Trained))
    assert kept.stopped
    assert kept.steps == 12
    assert kept.model.model.record["validation"], "checked at step 10"


def test_an_error_before_the_first_step_leaves_nothing(
    stop: Stop, task: TrainingTask, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_training(monkeypatch, 0, RuntimeError("CUDA out of memory"))
    running = work.train(stop, task, FakeEncoders(encoder), lambda: None)
    events: list[Any] = []
    with pytest.raises(RuntimeError, match="out of memory"):
        events.extend(running)
    assert not any(isinstance(event, Trained) for event in events)


@pytest.mark.parametrize("error", [ImageError("The disk is gone."), RuntimeError("CUDA out of memory")])
def test_a_training_goes_on_where_a_glimpse_fails(
    stop: Stop,
    task: TrainingTask,
    encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(work, "GLIMPSE_SECONDS", 0.0)
    monkeypatch.setattr(work, "_mask", fails)
    plane = task.images.planes[0]
    trained, events = finish(work.train(stop, task, FakeEncoders(encoder), lambda: plane))
    assert trained.steps == 30
    assert not any(isinstance(event, Glimpse) for event in events)
    assert f"No look at {plane}" in caplog.text


def test_going_on_from_a_model(stop: Stop, task: TrainingTask, trained: Any) -> None:
    more = replace(task, start=trained.model)
    again, _ = finish(work.train(stop, more, FakeEncoders(trained.encoder), lambda: None))
    assert again.model.model.record["started_from"]
    other = replace(more, boxes=replace(task.boxes, classes=("object", "other")))
    with pytest.raises(ConfigError, match="class"):
        finish(work.train(stop, other, FakeEncoders(trained.encoder), lambda: None))


def test_encoders_load_each_model_once(monkeypatch: pytest.MonkeyPatch, encoder: Any) -> None:
    import napari_boxprompt.api

    made: list[tuple[str, str]] = []

    def make(model: str, *, device: str, precision: str, cache: Any, on_event: Any) -> Any:
        made.append((model, device))
        return encoder

    monkeypatch.setattr(napari_boxprompt.api, "make_encoder", make)
    encoders = Encoders(lambda: EmbeddingCache(None))
    threads = [threading.Thread(target=encoders.get, args=("litemedsam", "cpu")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    encoders.get("other")
    assert made == [("litemedsam", "cpu"), ("other", "auto")]


def test_where_classes_overlap_the_last_is_shown() -> None:
    mask = np.zeros((2, 4, 4), np.uint8)
    mask[0, :3], mask[1, 2:] = 1, 1
    assert work._flat(mask)[:, 0].tolist() == [1, 1, 2, 2]


def test_model_names_begin_with_the_embedded_one(stop: Stop) -> None:
    assert finish(work.model_names(stop))[0][0] == "litemedsam"
