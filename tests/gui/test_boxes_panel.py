"""Step 2: classes, planes, what is complete, and boxes that need a look."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QInputDialog
from tests.gui.conftest import TIMEOUT, Panel

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.boxes_panel import BoxesPanel
from napari_boxprompt.gui.key_table import KeyTable
from napari_boxprompt.gui.style import style_sheet


def box(z: int, y: float = 10, x: float = 10, label: str = "cell") -> Box:
    return Box(y, x, y + 12, x + 14, PlaneId("stack", (z,)), label)


@pytest.fixture
def panel(make_panel: Callable[..., Panel[BoxesPanel]]) -> Panel[BoxesPanel]:
    panel = make_panel(BoxesPanel)
    panel.viewer.add_image(np.zeros((6, 64, 80), np.uint8), name="stack", scale=(2, 1, 1))
    panel.viewer.dims.set_current_step(0, 1)
    return panel


def drawn(panel: Panel[BoxesPanel], *boxes: Box) -> BoxLayer:
    panel.widget.new.click()
    assert panel.session.boxes is not None
    panel.session.boxes.add_boxes(BoxSet(boxes))
    return panel.session.boxes


def rows(panel: Panel[BoxesPanel]) -> list[list[str]]:
    table = panel.widget.table
    items = [table.topLevelItem(row) for row in range(table.topLevelItemCount())]
    return [[item.text(column) for column in range(3)] for item in items]


def click_row(panel: Panel[BoxesPanel], row: int) -> None:
    item = panel.widget.table.topLevelItem(row)
    panel.widget.table.itemClicked.emit(item, 0)


def test_without_boxes_there_is_one_thing_to_do(panel: Panel[BoxesPanel]) -> None:
    widget = panel.widget
    assert widget.new.text() == "New boxes layer"
    assert widget.new.property("primary")
    for part in (widget.classes, widget.preview, widget.undo, widget.table, widget.complete, widget.hint):
        assert part.isHidden()
    boxes = drawn(panel)
    assert panel.viewer.layers.selection.active == boxes.shapes
    assert boxes.shapes.mode == "add_rectangle"
    assert widget.new.text() == "Draw boxes"
    boxes.shapes.mode = "select"
    panel.viewer.layers.selection.active = panel.viewer.layers["stack"]
    widget.new.click()
    assert panel.viewer.layers.selection.active == boxes.shapes
    assert boxes.shapes.mode == "add_rectangle"


def test_boxes_that_went_with_their_layer_are_brought_back(panel: Panel[BoxesPanel], qtbot: QtBot) -> None:
    widget, row = panel.widget, panel.widget.bring_back.parentWidget()
    boxes = drawn(panel, box(1), box(2), box(2, y=40))
    boxes.toggle_complete(PlaneId("stack", (2,)))
    assert row.isHidden()
    for layer in (boxes.shapes, boxes.complete):  # as when both are selected and deleted
        panel.viewer.layers.selection.add(layer)
    panel.viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not widget._tidying.isActive(), timeout=TIMEOUT)
    assert not row.isHidden()
    assert widget.gone.text() == "3 boxes were deleted with the layer."
    widget.bring_back.click()
    assert row.isHidden()
    assert widget.summary == "3 boxes on 2 planes, 1 complete"


def test_without_an_image_it_says_what_it_waits_for(make_panel: Callable[..., Panel[BoxesPanel]]) -> None:
    panel = make_panel(BoxesPanel)
    assert not panel.widget.waits.isHidden()
    assert panel.widget.summary == "waits for an image"
    panel.viewer.add_image(np.zeros((6, 64, 80), np.uint8), name="stack")
    assert panel.widget.waits.isHidden()
    assert panel.widget.summary == "no boxes yet"


@pytest.mark.usefixtures("plugin")
def test_it_names_the_keys_that_the_user_has_chosen(panel: Panel[BoxesPanel]) -> None:
    keys = KeyTable()
    widget = BoxesPanel(panel.session, keys)
    assert "(key C)" in widget.complete.toolTip()
    keys.change("boxes", "toggle_complete", "F")
    keys.change("boxes", "undo", "Ctrl+U")
    assert "(key F)" in widget.complete.toolTip()
    assert "(key F)" in widget.hint.text()
    assert "(Ctrl+U " in widget.undo.toolTip()


def test_the_table_counts_and_leads_to_each_plane(panel: Panel[BoxesPanel]) -> None:
    boxes = drawn(panel, box(4), box(1), box(1, y=40, label="other"))
    boxes.toggle_complete(PlaneId("stack", (4,)))
    assert rows(panel) == [["1", "", "1 cell, 1 other"], ["4", "✓", "1 cell"]]
    assert panel.widget.summary == "3 boxes on 2 planes, 1 complete"
    assert panel.widget.here.text() == "plane 1: 2 boxes"
    assert panel.widget.table.currentItem().text(0) == "1"
    click_row(panel, 1)
    assert panel.session.plane == PlaneId("stack", (4,))
    assert panel.widget.here.text() == "plane 4: 1 box"
    assert panel.widget.table.currentItem().text(0) == "4"
    assert panel.widget.complete.isChecked()
    panel.viewer.dims.set_current_step(0, 2)
    assert panel.widget.table.currentItem() is None
    assert not panel.widget.complete.isChecked()
    panel.viewer.dims.ndisplay = 3
    assert not panel.widget.complete.isEnabled()


def test_what_complete_means_is_said_when_it_matters(panel: Panel[BoxesPanel]) -> None:
    boxes = drawn(panel, box(1), box(1, y=40))
    assert panel.widget.hint.isHidden()
    boxes.add_boxes(BoxSet((box(1, x=50),)))
    assert not panel.widget.hint.isHidden()
    panel.widget.complete.click()
    assert boxes.is_complete(PlaneId("stack", (1,)))
    assert panel.widget.hint.isHidden()
    panel.widget.complete.click()
    assert not boxes.is_complete(PlaneId("stack", (1,)))
    assert panel.widget.hint.isHidden(), "it is said once"


def test_undo_and_redo_say_whether_there_is_anything(panel: Panel[BoxesPanel]) -> None:
    drawn(panel)
    undo, redo = panel.widget.undo, panel.widget.redo
    assert not undo.isEnabled()
    assert not redo.isEnabled()
    boxes = drawn(panel, box(1))
    undo.click()
    assert not boxes.boxset
    assert (undo.isEnabled(), redo.isEnabled()) == (False, True)
    redo.click()
    assert len(boxes.boxset) == 1
    assert (undo.isEnabled(), redo.isEnabled()) == (True, False)


def test_problems_are_named_shown_and_mended(panel: Panel[BoxesPanel]) -> None:
    boxes = drawn(panel, box(1), box(3))
    assert panel.widget.problems.parentWidget().isHidden()
    turned = np.array([[3, 20, 40], [3, 30, 50], [3, 40, 40], [3, 30, 30]], float)
    boxes.shapes.add(turned, shape_type="polygon")
    boxes.add_boxes(BoxSet((box(1),)))  # twice
    assert not panel.widget.problems.parentWidget().isHidden()
    text = panel.widget.problems.text()
    assert len(boxes.problems) == 2
    assert text.count("Show") == 2
    (row,) = [i for i, problem in enumerate(boxes.problems) if problem.kind != "duplicate"]
    panel.widget.problems.linkActivated.emit(str(row))
    assert panel.session.plane == PlaneId("stack", (3,))
    assert panel.viewer.layers.selection.active == boxes.shapes
    assert set(boxes.shapes.selected_data) == {2}
    panel.widget.fix.click()
    assert not boxes.problems
    assert panel.widget.problems.parentWidget().isHidden()
    assert len(boxes.boxset) == 3
    panel.widget.undo.click()
    assert len(boxes.problems) == 2
    panel.widget.problems.linkActivated.emit("7")  # of a problem that is gone


def test_the_table_shows_the_planes_of_a_usual_session_without_scrolling(
    make_panel: Callable[..., Panel[BoxesPanel]], qtbot: QtBot
) -> None:
    panel = make_panel(BoxesPanel)
    panel.viewer.add_image(np.zeros((12, 64, 80), np.uint8), name="stack")
    drawn(panel, *[box(z) for z in range(8)])
    panel.widget.resize(320, 500)
    panel.widget.show()
    # As in the dock: rows are as high as the style wants them, which is known only once they are shown.
    panel.widget.setStyleSheet(style_sheet("dark"))
    panel.widget.hide()
    panel.widget.show()
    qtbot.waitExposed(panel.widget)
    table = panel.widget.table
    qtbot.waitUntil(lambda: not table.verticalScrollBar().isVisible(), timeout=TIMEOUT)
    last = table.visualItemRect(table.topLevelItem(7))
    assert last.bottom() <= table.viewport().height()
    assert table.viewport().height() - last.bottom() < last.height(), "and no empty rows"


def test_classes_that_were_shown_before_are_out_of_sight(panel: Panel[BoxesPanel]) -> None:
    boxes, bar = drawn(panel, box(1)), panel.widget.classes
    old = [*bar.buttons, bar.add]
    boxes.add_class("other")
    panel.widget.refresh()
    assert all(button.isHidden() for button in old)


def test_many_problems_are_counted(panel: Panel[BoxesPanel]) -> None:
    drawn(panel, *[box(1)] * 6)
    problems = panel.widget.problems
    links = [[f"href='{i}'" in problems.text() for i in range(5)]]
    assert "5 problems in all." in problems.text()
    problems.linkActivated.emit("next")
    links.append([f"href='{i}'" in problems.text() for i in range(5)])
    assert links == [[True] * 3 + [False] * 2, [False] * 3 + [True] * 2], "each can be shown"
    problems.linkActivated.emit("next")
    assert "href='0'" in problems.text(), "and after the last comes the first"


def test_boxes_that_are_only_cut_are_told_last(panel: Panel[BoxesPanel]) -> None:
    accident = Box(20, 20, 20.5, 26, PlaneId("stack", (1,)), "cell")
    drawn(panel, *[box(1, y=-4.0 - i) for i in range(5)], accident)
    lines = panel.widget.problems.text().split("<br>")
    assert "drawn by accident" in lines[0]
    assert "href='5'" in lines[0], "it leads to the sixth problem"
    assert all("cut at the border" in line for line in lines[1:-1])
    assert lines[-1].startswith("6 problems in all.")


def test_classes_are_added_chosen_renamed_and_removed(
    panel: Panel[BoxesPanel], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes, bar = drawn(panel, box(1)), panel.widget.classes

    def asked(name: str, sure: bool = True) -> None:
        monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (name, sure))

    asked(" other ")
    bar.add.click()
    assert [button.text() for button in bar.buttons] == ["cell", "other"]
    assert [button.isChecked() for button in bar.buttons] == [False, True]
    asked("never", sure=False)
    bar.add.click()
    assert len(bar.buttons) == 2
    asked("cell")
    bar.add.click()
    assert said == ["There is a class 'cell' already; choose another name."]
    bar.buttons[0].click()
    assert boxes.classes.current.name == "cell"
    assert [button.isChecked() for button in bar.buttons] == [True, False]
    bar.renamed.emit(0, "nucleus")
    assert boxes.boxset.boxes[0].label == "nucleus"
    assert [button.text() for button in bar.buttons] == ["nucleus", "other"]
    bar.removed.emit(1)
    bar.removed.emit(0)
    assert said[1:] == ["This is the only class; rename it instead of removing it."]
    assert [button.text() for button in bar.buttons] == ["nucleus"]
    assert len(boxes.boxset) == 1


def test_draw_boxes_is_about_the_image_that_is_seen(panel: Panel[BoxesPanel]) -> None:
    first = drawn(panel, box(1))
    panel.viewer.add_image(np.zeros((6, 64, 80), np.uint8), name="other")
    panel.viewer.layers.selection.active = panel.viewer.layers["other"]
    panel.viewer.layers["stack"].visible = False
    assert panel.widget.new.text() == "Draw boxes"
    panel.widget.new.click()
    assert panel.session.boxes is not None
    assert panel.session.boxes.view.name == "other"
    assert panel.viewer.layers.selection.active == panel.session.boxes.shapes
    assert first.shapes.nshapes == 1
