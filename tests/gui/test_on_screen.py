"""Actions that need a plane or boxes on screen say so where there are none."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxError, BoxPromptError
from napari_boxprompt.gui import telling
from napari_boxprompt.gui.actions import Actions
from napari_boxprompt.gui.on_screen import boxes_on_screen, boxes_to_draw, plane_on_screen
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.state import Session


@pytest.fixture
def session() -> Session:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 40, 50)), name="stack")
    viewer.dims.set_current_step(0, 2)
    return Session(viewer)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(telling, "show_error", found.append)
    return found


def actions_of(session: Session) -> Actions:
    """Actions that have only what boxes need."""
    actions = Actions.__new__(Actions)
    actions._session = session
    return actions


def test_the_plane_on_screen_or_how_to_come_to_one(session: Session) -> None:
    session.new_boxes_layer()
    assert plane_on_screen(session) == PlaneId("stack", (2,))
    session.viewer.dims.ndisplay = 3
    with pytest.raises(BoxPromptError, match="turn to 2-D display"):
        plane_on_screen(session)
    session.viewer.dims.ndisplay = 2
    session.viewer.dims.order = (1, 0, 2)
    with pytest.raises(BoxPromptError, match="show its axes y and x"):
        plane_on_screen(session)
    with pytest.raises(BoxPromptError, match="no image"):
        plane_on_screen(Session(ViewerModel()))


def test_planes_on_screen_that_cannot_be_used_are_named(session: Session) -> None:
    session.viewer.dims.order = (1, 0, 2)
    with pytest.raises(BoxPromptError, match=r"they are 4 x 50 pixels.*until y and x are shown"):
        plane_on_screen(session)


def test_complete_in_three_dimensions_says_what_to_do(session: Session, told: list[str]) -> None:
    boxes = session.new_boxes_layer()
    session.viewer.dims.ndisplay = 3
    actions_of(session).toggle_complete()
    assert len(told) == 1
    assert "2-D" in told[0]
    assert not boxes.boxset.planes
    session.viewer.dims.ndisplay = 2
    actions_of(session).toggle_complete()
    assert len(told) == 1
    assert boxes.is_complete(PlaneId("stack", (2,)))


@pytest.mark.parametrize("name", ["toggle_complete", "draw_complete_region", "undo", "redo", "fix_boxes"])
def test_without_boxes_each_action_says_so(name: str, session: Session, told: list[str]) -> None:
    with pytest.raises(BoxError, match="no boxes layer"):
        boxes_on_screen(session)
    getattr(actions_of(session), name)()
    assert len(told) == 1
    assert "no boxes layer" in told[0]


def test_a_review_without_a_result_says_so_backwards_too(session: Session, told: list[str]) -> None:
    review = Review(session)
    review._visited.append(PlaneId("stack", (1,)))  # of a result that was deleted
    review.previous()
    assert told == ["There is no prediction to review yet."]


@pytest.mark.parametrize(("shown", "drawn_on"), [(True, "stack"), (False, "other")])
def test_boxes_are_not_drawn_on_an_image_that_is_hidden(session: Session, shown: bool, drawn_on: str) -> None:
    stack, other = session.viewer.layers["stack"], np.zeros((4, 40, 50))
    boxes = session.new_boxes_layer()
    boxes.add_boxes(BoxSet((Box(4, 4, 14, 24, PlaneId("stack", (2,))),)))
    stack.visible = shown
    session.viewer.layers.selection.active = session.viewer.add_image(other, name="other")
    assert session.view is not None
    assert session.view.name == "stack", "it has boxes"
    found = boxes_to_draw(session)
    assert found.view.name == session.view.name == drawn_on
    assert session.viewer.layers.selection.active == found.shapes
    assert found.shapes.mode == "add_rectangle"
    assert boxes_to_draw(session) == found, "once more, now that the boxes layer is active"
    assert boxes.shapes.nshapes == 1


def test_boxes_stay_with_a_hidden_image_where_no_other_is_active(session: Session) -> None:
    boxes = session.new_boxes_layer()
    boxes.add_boxes(BoxSet((Box(4, 4, 14, 24, PlaneId("stack", (2,))),)))
    session.viewer.add_image(np.zeros((4, 40, 50)), name="other")
    session.viewer.layers["stack"].visible = False
    for active in (boxes.shapes, session.viewer.layers["stack"], None):
        session.viewer.layers.selection.active = active
        assert boxes_to_draw(session) == boxes
