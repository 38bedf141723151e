"""The sentence about a round, the chart, and the button that takes the one before back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from psygnal import Signal
from pytestqt.qtbot import QtBot

from napari_boxprompt.gui.rounds_view import RoundsView, _few
from napari_boxprompt.project import Round


def record(number: int, new: float, frozen: float = 0.86, previous: float | None = None) -> Round:
    return Round(
        number=number,
        scores={"box_agreement": new},
        frozen={"box_agreement": frozen},
        previous={} if previous is None else {"box_agreement": previous},
        against=number - 1 if previous is not None else 0,
        held_out=2,
        held_out_boxes=31,
    )


class Book:
    """Rounds that were made up."""

    changed = Signal()

    def __init__(self) -> None:
        self.rounds: list[Round] = []
        self.running, self.taken = False, 0
        self.offered: int | None = None

    @property
    def newest(self) -> Round | None:
        return self.rounds[-1] if self.rounds else None

    @property
    def current(self) -> int:
        newest = self.newest
        return self.taken if newest is None or newest.taken_back else newest.number

    def take_back(self) -> None:
        self.taken, self.offered = self.offered or 0, None
        self.rounds[-1] = self.rounds[-1].model_copy(update={"taken_back": True})
        self.changed.emit()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def view(book: Book, qtbot: QtBot) -> RoundsView:
    view = RoundsView(cast("Any", book))
    qtbot.addWidget(view)
    return view


def shown(view: RoundsView) -> SimpleNamespace:
    return SimpleNamespace(
        all=not view.isHidden(),
        back=not view.back.isHidden(),
        chart=view.chart is not None and not view.chart.isHidden(),
    )


def test_before_the_first_round_there_is_nothing_to_see(view: RoundsView, book: Book) -> None:
    assert not shown(view).all
    book.running = True
    book.changed.emit()
    assert shown(view).all
    assert view.said.text() == "Comparing with boxes that were kept apart …"


def test_one_round_is_a_sentence_and_two_are_a_chart(view: RoundsView, book: Book) -> None:
    book.rounds = [record(1, 0.78)]
    book.changed.emit()
    assert view.said.text() == (
        "Round 1 agrees 0.78 with 31 boxes that it did not learn from. "
        "The model without training, given these boxes, agrees 0.86."
    )
    assert not shown(view).chart
    book.rounds.append(record(2, 0.82, previous=0.78))
    book.changed.emit()
    assert ", 0.04 better than round 1. The model without" in view.said.text()
    assert shown(view).chart
    assert not shown(view).back
    frozen, new = view.chart.getPlotItem().listDataItems()  # type: ignore[union-attr]
    assert list(new.getData()[1]) == [0.78, 0.82]
    assert list(frozen.getData()[1]) == [0.86, 0.86]
    view.set_theme("#ffffff", "#000000")


def test_a_worse_round_offers_the_one_before(view: RoundsView, book: Book) -> None:
    book.rounds = [record(1, 0.82), record(2, 0.70, previous=0.82)]
    book.offered = 1
    book.changed.emit()
    assert "0.12 worse than round 1" in view.said.text()
    assert view.said.objectName() == "boxprompt-warning"
    assert view.back.text() == "Take round 1 back"
    assert shown(view).back
    view.back.click()
    assert not shown(view).back
    assert view.said.text().endswith("Round 1 is in use again.")


def test_a_worse_round_offers_the_loaded_model_before_it(view: RoundsView, book: Book) -> None:
    loaded = Round(number=1, loaded_from="/home/anna/nuclei")
    book.rounds = [loaded]
    book.changed.emit()
    assert view.said.text() == "The model was loaded from /home/anna/nuclei."
    assert view.said.objectName() == "boxprompt-quiet"
    assert not shown(view).chart
    book.rounds, book.offered = [loaded, record(2, 0.70, previous=0.82)], 1
    book.changed.emit()
    assert "0.12 worse than the loaded model" in view.said.text()
    assert view.back.text() == "Take the loaded model back"
    assert shown(view).back
    view.back.click()
    assert not shown(view).back
    assert view.said.text().endswith("The loaded model is in use again.")


def test_rounds_that_could_not_be_judged_are_not_in_the_chart(view: RoundsView, book: Book) -> None:
    book.rounds = [record(1, 0.8), Round(number=2, note="No boxed plane was held out."), record(3, 0.9)]
    book.changed.emit()
    assert shown(view).chart
    book.rounds = book.rounds[:2]
    book.changed.emit()
    assert not shown(view).chart
    assert view.said.text() == "Round 2 could not be judged. No boxed plane was held out."


def test_numbers_below_the_chart_do_not_run_into_each_other() -> None:
    assert _few([1, 2, 3]) == [1, 2, 3]
    assert _few(list(range(1, 31)))[-1] == 30
    assert len(_few(list(range(1, 31)))) <= 12
