"""Boxes under the mouse in a real viewer, on planes that napari places between two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk

SCALE = (0.1, 1.0, 1.0)
PLANE = 3
"""At 0.1 a plane, napari stands at 2.9999999999999996."""


@pytest.mark.usefixtures("fake_encoders")
def test_a_box_is_selected_moved_and_deleted(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(show=True)
    desk.viewer.add_image(np.zeros((6, 100, 100)), name="stack", scale=SCALE)
    desk.viewer.fit_to_view()
    desk.viewer.dims.set_current_step(0, PLANE)
    desk.widget.boxes_panel.new.click()
    desk.hand.draw((20, 20), (50, 60))
    desk.hand.draw((60, 20), (80, 60))
    boxes = desk.widget.session.boxes
    assert boxes is not None
    first, second = boxes.boxset.boxes
    assert {first.plane.index, second.plane.index} == {(PLANE,)}

    boxes.shapes.mode = "select"
    desk.hand.click((35, 40))
    assert boxes.shapes.selected_data == {0}
    desk.hand.draw((35, 40), (45, 50))
    moved = boxes.boxset.boxes[0]
    assert abs(moved.y0 - first.y0 - 10) < 1
    assert abs(moved.x0 - first.x0 - 10) < 1
    desk.hand.press("Delete")
    assert boxes.boxset.boxes == (second,)
    desk.hand.undo()
    desk.hand.undo()
    assert abs(boxes.boxset.boxes[0].y0 - first.y0) < 0.01
    assert len(boxes.boxset) == 2


@pytest.mark.usefixtures("fake_encoders")
def test_a_drag_whose_moves_are_lost_ends_where_the_mouse_is_released(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(show=True)
    desk.viewer.add_image(np.zeros((100, 100)), name="image")
    plain = desk.viewer.add_shapes(name="of the user", ndim=2)
    desk.viewer.fit_to_view()
    desk.widget.boxes_panel.new.click()
    boxes = desk.widget.session.boxes
    assert boxes is not None
    desk.hand.flick((20, 20), (50, 60))
    desk.hand.flick((80, 90), (55, 30))
    ends = [box.as_tuple() for box in boxes.boxset.boxes]
    np.testing.assert_allclose(ends, [(20, 20, 50, 60), (55, 30, 80, 90)], atol=1)
    boxes.undo()
    assert len(boxes.boxset) == 1, "it is one gesture"
    boxes.shapes.mode = "select"
    desk.hand.click((35, 40))
    desk.hand.flick((35, 40), (45, 50))
    np.testing.assert_allclose(boxes.boxset.boxes[0].as_tuple(), (30, 30, 60, 70), atol=1)
    desk.hand.click((45, 50))
    np.testing.assert_allclose(boxes.boxset.boxes[0].as_tuple(), (30, 30, 60, 70), atol=1)

    plain.mode = "add_rectangle"
    desk.viewer.layers.selection.active = plain
    desk.hand.flick((20, 20), (50, 60))
    assert np.ptp(plain.data[0], axis=0).max() < 2, "other layers are as napari has them"
    callbacks = len(desk.viewer.mouse_drag_callbacks)
    desk.viewer.__wrapped__.window.remove_dock_widget(desk.dock)
    assert len(desk.viewer.mouse_drag_callbacks) == callbacks - 1


@pytest.mark.usefixtures("fake_encoders")
def test_a_box_is_selected_on_another_channel_than_it_was_drawn_on(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk(show=True)
    layer = desk.viewer.add_image(np.zeros((4, 3, 100, 100)), name="stack")
    desk.widget.session.choose_image(layer, 1, 0)
    desk.viewer.fit_to_view()
    desk.viewer.dims.set_current_step((0, 1), (2, 0))
    desk.widget.boxes_panel.new.click()
    desk.hand.draw((20, 20), (50, 60))
    boxes = desk.widget.session.boxes
    assert boxes is not None
    assert [box.plane.index for box in boxes.boxset.boxes] == [(2,)]
    desk.viewer.dims.set_current_step(1, 2)
    boxes.shapes.mode = "select"
    desk.hand.click((35, 40))
    assert boxes.shapes.selected_data == {0}
    boxes.toggle_complete(boxes.boxset.boxes[0].plane)
    assert boxes.boxset.planes[boxes.boxset.boxes[0].plane].complete
