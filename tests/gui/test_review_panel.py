"""Step 5: the list of planes says which of them need a look, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from psygnal import Signal
from qtpy.QtCore import Qt
from tests.gui.conftest import Panel

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.gui.key_table import KeyTable
from napari_boxprompt.gui.results import Counts, Result
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.review_panel import ReviewPanel
from napari_boxprompt.ranking import PlaneScores

PLANES = 12


def plane(z: int) -> PlaneId:
    return PlaneId("stack", (z,))


def give_doubts(result: Result, doubts: dict[PlaneId, float]) -> None:
    result.scores |= {plane: PlaneScores(plane, doubt, 0.0) for plane, doubt in doubts.items()}


@pytest.fixture
def panel(make_panel: Callable[..., Panel[ReviewPanel]], trained: Any) -> Panel[ReviewPanel]:
    """A good result: nearly the same doubt on all planes but three."""
    panel = make_panel(ReviewPanel, Review)
    panel.viewer.add_image(np.zeros((PLANES, 40, 50)), name="stack")
    session = panel.session
    session.set_model(trained)
    assert session.view is not None
    (result,) = session.new_results([session.view])["stack"]
    give_doubts(result, {plane(z): 0.060 + 0.001 * z for z in range(PLANES)})
    result.counts = {plane(z): Counts(19, 0) for z in range(PLANES)}
    give_doubts(result, {plane(2): 0.4, plane(3): 0.3, plane(7): 0.2})
    result.counts |= {plane(2): Counts(0, 0), plane(3): Counts(5, 2), plane(7): Counts(1, 0)}
    session.result_changed.emit()
    return panel


def lines(panel: Panel[ReviewPanel]) -> list[str]:
    queue = panel.widget.queue
    return [queue.item(row).text().strip() for row in range(queue.count())]


def test_without_a_prediction_it_says_what_it_waits_for(
    make_panel: Callable[..., Panel[ReviewPanel]],
) -> None:
    panel = make_panel(ReviewPanel, Review)
    assert not panel.widget.waits.isHidden()
    assert panel.widget.summary == "waits for a prediction"


def test_planes_on_screen_that_cannot_be_used_are_named(panel: Panel[ReviewPanel]) -> None:
    for order, size in (((1, 0, 2), "12 x 50"), ((2, 0, 1), "12 x 40")):
        panel.viewer.dims.order = order
        assert f"they are {size} pixels" in panel.widget.here.text()
    panel.viewer.dims.order = (0, 1, 2)
    assert panel.widget.here.text().startswith("On screen: plane ")


@pytest.mark.usefixtures("plugin")
def test_buttons_name_the_keys_that_the_user_has_chosen(panel: Panel[ReviewPanel]) -> None:
    keys = KeyTable()
    widget = ReviewPanel(panel.session, Review(panel.session), keys=keys)
    keys.change("review", "accept_plane", "Y")
    assert widget.buttons["accept"].text() == "Accept (Y)"
    assert widget.buttons["accept"].toolTip().endswith("(Y)")


def test_only_planes_that_stand_out_are_flagged_with_a_reason(panel: Panel[ReviewPanel]) -> None:
    assert lines(panel)[:5] == [
        "⚑ plane 2: only something faint",
        "⚑ plane 3: 2 of 5 objects unsure",
        "⚑ plane 7: 1 object, unsure edges",
        "plane 11: 19 objects · unsure outlines",
        "plane 10: 19 objects · unsure outlines",
    ]
    assert panel.widget.standing_out.text() == "⚑ 3 planes stand out."
    result = panel.session.result
    assert result is not None
    result.counts[plane(7)] = Counts(1, 1)
    panel.session.result_changed.emit()
    assert lines(panel)[2] == "⚑ plane 7: 1 unsure object"


def test_the_list_of_many_planes_asks_once_which_layers_are_there(
    panel: Panel[ReviewPanel], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, there = [], Result.together.fget
    assert there is not None
    monkeypatch.setattr(Result, "together", property(lambda one: (asked.append(1), there(one))[1]))
    panel.widget.refresh()
    assert len(lines(panel)) == PLANES
    assert len(asked) < PLANES


def test_it_names_the_plane_that_the_buttons_are_about(panel: Panel[ReviewPanel]) -> None:
    panel.viewer.dims.set_current_step(0, 4)
    assert panel.widget.here.text() == "On screen: plane 4"
    result = panel.session.result
    assert result is not None
    del result.scores[plane(4)]
    panel.session.result_changed.emit()
    assert panel.widget.here.text() == "On screen: plane 4, not predicted"


def test_sure_planes_of_unusual_objects_are_flagged(panel: Panel[ReviewPanel]) -> None:
    result = panel.session.result
    assert result is not None
    result.scores = {here: replace(scores, look=0.1) for here, scores in result.scores.items()}
    result.scores[plane(5)] = replace(result.scores[plane(5)], size=1.5)
    result.scores[plane(6)] = replace(result.scores[plane(6)], look=0.5)
    panel.session.result_changed.emit()
    assert any(line.startswith("⚑ plane 5: 19 objects, unusual sizes") for line in lines(panel))
    assert any(line.startswith("⚑ plane 6: 19 objects, second look disagrees") for line in lines(panel))
    assert panel.widget.standing_out.text() == "⚑ 5 planes stand out."


def test_what_was_judged_leaves_the_flags_as_they_were(panel: Panel[ReviewPanel]) -> None:
    panel.session.set_status(plane(2), "accepted")
    assert lines(panel)[0] == "⚑ plane 3: 2 of 5 objects unsure"
    assert lines(panel)[-1].startswith("✓ plane 2: ")


def test_nothing_stands_out_of_planes_that_are_alike(panel: Panel[ReviewPanel]) -> None:
    result = panel.session.result
    assert result is not None
    give_doubts(result, {plane(z): 0.06 for z in range(PLANES)})
    panel.session.result_changed.emit()
    assert panel.widget.standing_out.text() == "No plane stands out from the others."
    assert not any(line.startswith("⚑") for line in lines(panel))


def test_the_list_begins_with_what_needs_a_look_and_cuts_no_row(panel: Panel[ReviewPanel]) -> None:
    panel.viewer.dims.set_current_step(0, 0)  # far down in the list
    panel.widget.resize(260, 400)
    panel.widget.show()
    panel.session.result_changed.emit()
    queue = panel.widget.queue
    assert queue.itemAt(2, 2).text().startswith("⚑ plane 2")
    assert not queue.horizontalScrollBar().isVisible()
    assert queue.viewport().height() % queue.sizeHintForRow(0) == 0


def test_without_a_result_it_waits(make_panel: Callable[..., Panel[ReviewPanel]]) -> None:
    widget = make_panel(ReviewPanel, Review).widget
    assert widget.standing_out.isHidden()
    assert not widget.waits.isHidden()


def test_another_order_is_another_list_with_other_reasons(panel: Panel[ReviewPanel]) -> None:
    result, combo = panel.session.result, panel.widget.order
    assert result is not None
    assert combo.currentText() == "most useful first"
    result.scores |= {plane(5): PlaneScores(plane(5), 0.05, 0.3)}
    combo.setCurrentIndex(combo.findText("unusual sizes first"))
    combo.activated.emit(combo.currentIndex())
    assert lines(panel)[0] == "plane 5: 19 objects · unusual sizes"
    assert "·" not in lines(panel)[1], "where sizes are usual, there is no reason"
    combo.setCurrentIndex(combo.findText("in order"))
    combo.activated.emit(combo.currentIndex())
    assert lines(panel)[0] == "plane 0: 19 objects"


def test_an_order_that_was_not_measured_says_so_and_cannot_be_chosen(panel: Panel[ReviewPanel]) -> None:
    result, combo = panel.session.result, panel.widget.order
    assert result is not None
    row = combo.findText("two views disagree first")

    def offered() -> list[bool]:
        return [bool(combo.model().item(i).isEnabled()) for i in range(combo.count())]

    assert offered() == [i != row for i in range(combo.count())]
    assert "Compare two views" in combo.itemData(row, Qt.ItemDataRole.ToolTipRole)
    panel.widget._review.order.choose("views")
    assert combo.currentText() == "most useful first", "what the list is in"
    result.scores[plane(6)] = replace(result.scores[plane(6)], views=0.8, doubt=0.07)
    result.scores[plane(4)] = replace(result.scores[plane(4)], views=0.1)
    panel.session.result_changed.emit()
    assert all(offered())
    assert not combo.itemData(row, Qt.ItemDataRole.ToolTipRole)
    assert combo.currentIndex() == row
    assert lines(panel)[0] == "plane 6: 19 objects · two views disagree"


def test_rejected_planes_are_counted_and_marked(panel: Panel[ReviewPanel]) -> None:
    panel.session.set_status(plane(2), "accepted")
    panel.session.set_status(plane(3), "rejected")
    assert panel.widget.summary == "1 accepted, 1 rejected; next: 7"
    assert lines(panel)[-2] == "✗ plane 3: 2 of 5 objects unsure"
    assert lines(panel)[-1].startswith("✓ plane 2: ")


def test_accepting_is_highlighted_once_all_planes_are_predicted(panel: Panel[ReviewPanel]) -> None:
    accept = panel.widget.buttons["accept"]
    assert accept.property("primary")
    trained = panel.session.trained
    assert trained is not None
    panel.session.set_model(replace(trained, model=replace(trained.model)))
    assert not accept.property("primary"), "predicting with the new model is next"
    panel.session.set_model(trained)
    assert accept.property("primary")
    for z in range(PLANES):
        panel.session.set_status(plane(z), "accepted")
    assert not accept.property("primary"), "nothing waits any more"


def test_classes_that_overlap_are_counted_together(panel: Panel[ReviewPanel]) -> None:
    trained, session = panel.session.trained, panel.session
    assert trained is not None
    assert session.view is not None
    session.set_model(replace(trained, model=replace(trained.model, classes=("a", "b"), exclusive=False)))
    a, b = session.new_results([session.view])["stack"]
    for one, unsure in ((a, 2), (b, 1)):
        give_doubts(one, {plane(z): 0.060 + 0.001 * z for z in range(PLANES)} | {plane(2): 0.4})
        one.counts = {plane(z): Counts(5, 0) for z in range(PLANES)} | {plane(2): Counts(4, unsure)}
        one.agreement = {plane(3): 0.5 * unsure}
    session.set_status(plane(3), "accepted")
    assert lines(panel)[0] == "⚑ plane 2: 3 of 8 objects unsure"
    assert lines(panel)[1].startswith("plane 11: 10 objects")
    assert lines(panel)[-1] == "✓ plane 3: new prediction agrees 0.75", "the mean of the classes"
    panel.viewer.layers.remove(b.layer)
    assert lines(panel)[0] == "⚑ plane 2: 2 of 4 objects unsure"
    assert lines(panel)[-1].startswith("✓ plane 3")


@pytest.mark.usefixtures("plugin")
def test_the_buttons_show_their_keys(panel: Panel[ReviewPanel]) -> None:
    texts = {name: button.text() for name, button in panel.widget.buttons.items()}
    assert texts == {
        "previous": "◂ P",
        "next": "N ▸",
        "accept": "Accept (A)",
        "reject": "Reject (R)",
        "edit": "Edit (E)",
    }


class Pictures:
    """Makes a picture of whatever is wanted, when told to."""

    made = Signal(object)

    def __init__(self, _: Any) -> None:
        self.wanted: list[PlaneId] = []
        self.there: dict[PlaneId, np.ndarray] = {}

    def get(self, plane: PlaneId) -> np.ndarray | None:
        return self.there.get(plane)

    def want(self, planes: list[PlaneId]) -> None:
        self.wanted = planes

    def make(self) -> None:
        for each in self.wanted:
            self.there[each] = np.full((30, 40, 3), 200, np.uint8)
            self.made.emit(each)


def test_only_rows_in_sight_want_pictures_even_of_thousands_of_planes(
    make_panel: Callable[..., Panel[ReviewPanel]], trained: Any, qtbot: Any
) -> None:
    pictures = Pictures(None)
    panel = make_panel(ReviewPanel, Review, lambda _: pictures)
    panel.viewer.add_image(np.zeros((3000, 40, 50), np.uint8), name="stack")
    panel.session.set_model(trained)
    assert panel.session.view is not None
    planes = [plane(z) for z in range(3000)]
    (result,) = panel.session.new_results([panel.session.view])["stack"]
    give_doubts(result, dict.fromkeys(planes, 0.06))
    result.counts = dict.fromkeys(planes, Counts(1, 0))
    panel.session.result_changed.emit()
    assert not pictures.wanted, "nobody sees the list yet"
    panel.widget.resize(320, 600)
    panel.widget.show()
    queue = panel.widget.queue
    qtbot.waitUntil(lambda: 1 <= len(pictures.wanted) <= 7)
    first = list(pictures.wanted)
    pictures.make()
    assert not queue.item(0).icon().isNull()
    assert queue.item(0).icon().cacheKey() != queue.item(2999).icon().cacheKey()
    queue.verticalScrollBar().setValue(queue.verticalScrollBar().maximum())
    assert not set(first) & set(pictures.wanted)
    assert 1 <= len(pictures.wanted) <= 7
