"""Step 5: the list of planes says which of them need a look, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Panel

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.gui.results import Counts
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.review_panel import ReviewPanel

PLANES = 12


def plane(z: int) -> PlaneId:
    return PlaneId("stack", (z,))


@pytest.fixture
def panel(make_panel: Callable[..., Panel[ReviewPanel]], trained: Any) -> Panel[ReviewPanel]:
    """A good result: nearly the same doubt on all planes but three."""
    panel = make_panel(ReviewPanel, Review)
    panel.viewer.add_image(np.zeros((PLANES, 40, 50)), name="stack")
    session = panel.session
    session.set_model(trained)
    assert session.view is not None
    (result,) = session.new_results([session.view], [plane(z) for z in range(PLANES)])["stack"]
    result.doubts = {plane(z): 0.060 + 0.001 * z for z in range(PLANES)}
    result.counts = {plane(z): Counts(19, 0) for z in range(PLANES)}
    result.doubts |= {plane(2): 0.4, plane(3): 0.3, plane(7): 0.2}
    result.counts |= {plane(2): Counts(0, 0), plane(3): Counts(5, 2), plane(7): Counts(1, 0)}
    session.result_changed.emit()
    return panel


def lines(panel: Panel[ReviewPanel]) -> list[str]:
    queue = panel.widget.queue
    return [queue.item(row).text().strip() for row in range(queue.count())]


def test_only_planes_that_stand_out_are_flagged_with_a_reason(panel: Panel[ReviewPanel]) -> None:
    assert lines(panel)[:5] == [
        "⚑ plane 2: only something faint",
        "⚑ plane 3: 2 of 5 objects unsure",
        "⚑ plane 7: 1 object, unsure edges",
        "plane 11: 19 objects",
        "plane 10: 19 objects",
    ]
    assert panel.widget.standing_out.text() == "⚑ 3 planes stand out. The least sure first:"
    result = panel.session.result
    assert result is not None
    result.counts[plane(7)] = Counts(1, 1)
    panel.session.result_changed.emit()
    assert lines(panel)[2] == "⚑ plane 7: 1 unsure object"


def test_what_was_judged_leaves_the_flags_as_they_were(panel: Panel[ReviewPanel]) -> None:
    panel.session.set_status(plane(2), "accepted")
    assert lines(panel)[0] == "⚑ plane 3: 2 of 5 objects unsure"
    assert lines(panel)[-1].startswith("✓ plane 2: ")


def test_nothing_stands_out_of_planes_that_are_alike(panel: Panel[ReviewPanel]) -> None:
    result = panel.session.result
    assert result is not None
    result.doubts = {plane(z): 0.06 for z in range(PLANES)}
    panel.session.result_changed.emit()
    assert panel.widget.standing_out.text().startswith("No plane stands out.")
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
