"""Rounds in the widget: judged after each training, told in words, and taken back when they are worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from psygnal import Signal
from tests.gui.test_work import FakeEncoders  # noqa: F401 (skips with it)
from tests.helpers.synthetic import Scene, finish
from tests.test_judging import spoiled, unlearnt, with_record

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.jobs import Stop
from napari_boxprompt.gui.rounds import RoundBook, RoundTask, judge_round
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.work import Trained, TrainingTask
from napari_boxprompt.project import Round, describe


class FakeTrainer:
    """Says that a training began and ended."""

    started, ended = Signal(object), Signal(object)

    def __init__(self) -> None:
        self.running = False
        self.last: TrainingTask | None = None


class FakeJobs:
    """Does the work at once."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.stop = cast("Stop", SimpleNamespace(is_set=lambda: False))

    def start(self, name: str, work: Any, *, on_result: Any, on_end: Any) -> None:
        self.names.append(name)
        result, _ = finish(work(self.stop))
        on_result(result)
        on_end()


class Table:
    """A book of rounds, and a session whose trainings are made up."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scene, self.session = scene, Session(ViewerModel())
        self.trainer, self.jobs = FakeTrainer(), FakeJobs()
        monkeypatch.setattr(self.session, "all_boxes", lambda: scene.boxes)
        self.book = RoundBook(self.session, cast("Any", self.jobs), cast("Any", self.trainer))
        self.recorded: list[tuple[Round, TrainedModel]] = []
        self.book.recorded.connect(self._note)

    def _note(self, record: Round, trained: TrainedModel) -> None:
        self.recorded.append((record, trained))

    def train(self, model: TrainedModel, *, stopped: bool = False) -> Round:
        self.trainer.last = TrainingTask(self.scene.images, self.scene.boxes, model.model.config)
        self.trainer.started.emit(model.model.config)
        self.session.set_model(model)
        self.trainer.ended.emit(Trained(model, stopped=stopped, steps=30))
        assert self.book.newest is not None
        return self.book.newest


@pytest.fixture
def table(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(scene, monkeypatch)


def test_a_training_is_judged_and_recorded_with_its_model(table: Table, trained: TrainedModel) -> None:
    model = unlearnt(trained)
    record = table.train(model)
    assert table.recorded == [(record, model)]
    assert (record.number, record.against, record.held_out, record.held_out_boxes) == (1, 0, 3, 9)
    assert record.boxes == 18
    assert table.book.current == 1
    assert table.book.offered is None
    assert not table.book.running


def test_a_worse_round_gives_way_to_the_one_before(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    table.train(good)
    record = table.train(spoiled(good, 0.3))
    assert f"worse than round {record.against}" in describe(record)
    assert (record.number, record.against, table.book.offered) == (2, 1, 1)
    changes: list[int] = []
    table.book.changed.connect(lambda: changes.append(table.book.current))
    table.book.take_back()
    assert table.session.trained is good
    assert changes == [1]
    assert table.book.offered is None
    with pytest.raises(BoxPromptError, match="no round to take back"):
        table.book.take_back()
    third = table.train(replace(good))
    assert (third.number, third.against) == (3, 1), "compared with the model that was in use"


def test_a_better_round_offers_nothing(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    table.train(spoiled(good, 0.3))
    assert "better than round 1" in describe(table.train(good))
    assert table.book.offered is None


def test_a_stopped_training_that_is_worse_gives_way_too(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    table.train(good)
    record = table.train(spoiled(good, 0.3), stopped=True)
    assert "worse than round 1" in describe(record)
    table.book.take_back()
    assert table.session.trained is good


def test_a_round_that_could_not_be_judged_can_be_taken_back(
    table: Table, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = unlearnt(trained)
    table.train(good)
    monkeypatch.setattr("napari_boxprompt.gui.rounds.verdict", lambda _: "unknown")
    table.train(spoiled(good, 0.3))
    assert table.book.offered == 1
    table.book.take_back()
    assert table.session.trained is good


def test_a_loaded_model_can_be_taken_back(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    told: list[tuple[Round, TrainedModel]] = []
    table.book.loaded.connect(lambda *found: told.append(found))
    table.book.take_up(good, "/home/anna/nuclei")
    assert table.session.trained is good
    (loaded,) = table.book.rounds
    assert told == [(loaded, good)]
    assert (loaded.number, loaded.loaded_from) == (1, Path("/home/anna/nuclei").absolute().as_posix())
    assert (table.book.current, table.book.last, table.book.offered) == (1, 1, None)
    record = table.train(spoiled(good, 0.3))
    assert (record.number, record.against) == (2, 1)
    assert "worse than the loaded model" in describe(record, table.book.rounds)
    assert table.book.offered == 1
    table.book.take_back()
    assert table.session.trained is good
    assert table.book.rounds[1].taken_back
    assert (table.book.current, table.book.offered) == (1, None)
    third = table.train(spoiled(good, 0.3))
    assert (third.number, third.against, table.book.offered) == (3, 1, 1)


def test_loading_a_model_can_be_taken_back(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    table.train(good)
    table.book.take_up(spoiled(good, 0.3), "theirs")
    assert (table.book.current, table.book.offered) == (2, 1)
    table.book.take_back()
    assert table.session.trained is good
    assert [record.taken_back for record in table.book.rounds] == [False, True]


def test_the_model_in_use_keeps_its_number_when_it_is_loaded(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    record = table.train(good)
    again = replace(good, model=replace(good.model))
    table.book.take_up(again, "theirs")
    assert table.book.rounds == [record]
    assert table.book.current == 1
    assert table.session.trained is not None
    assert table.session.trained.model is good.model, "results know their model by its identity"


def test_nothing_is_taken_back_while_a_training_runs(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    table.train(good)
    table.train(spoiled(good, 0.3))
    table.trainer.running = True
    with pytest.raises(BoxPromptError, match="training is running"):
        table.book.take_back()


def test_only_two_models_are_kept(table: Table, trained: TrainedModel) -> None:
    for _ in range(4):
        table.train(replace(unlearnt(trained)))
    assert len(table.book.rounds) == 4
    assert set(table.book.models) == {3, 4}


def test_a_training_that_gave_nothing_is_no_round(table: Table) -> None:
    table.trainer.ended.emit(None)
    assert table.book.newest is None
    assert not table.jobs.names


def test_a_round_is_recorded_even_where_the_comparison_is_stopped(
    table: Table, trained: TrainedModel
) -> None:
    table.jobs.stop = cast("Stop", SimpleNamespace(is_set=lambda: True))
    record = table.train(unlearnt(trained))
    assert describe(record) == "Round 1 could not be judged. The comparison was stopped."


def test_a_comparison_that_fails_says_why(
    scene: Scene, trained: TrainedModel, make_stop: Callable[[], Stop]
) -> None:
    other = with_record(unlearnt(trained), learnt=[])
    foreign = replace(other, model=replace(other.model, frozen_sha256="0" * 64))
    task = RoundTask(1, 0, foreign, None, scene.images, scene.boxes, {})
    record, _ = finish(judge_round(make_stop(), task))
    assert record.note.startswith("This model was trained on")
    assert record.scores == {}


@pytest.fixture
def make_stop() -> Callable[[], Stop]:
    return lambda: cast("Stop", SimpleNamespace(is_set=lambda: False))


def test_earlier_rounds_go_on(table: Table, trained: TrainedModel) -> None:
    good = unlearnt(trained)
    table.book.restore([Round(number=4), Round(number=7)], {7: good})
    table.session.set_model(good)
    assert table.book.current == 7
    record = table.train(spoiled(good, 0.3))
    assert (record.number, record.against, table.book.offered) == (8, 7, 7)
