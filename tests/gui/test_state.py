"""What the widget knows, on a viewer without a window."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxError, BoxPromptError
from napari_boxprompt.gui.state import Session
from napari_boxprompt.normalization import Normalization


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def corners(z: float, y: float, x: float, side: float = 10) -> np.ndarray:
    return np.array([[z, y, x], [z, y, x + side], [z, y + side, x + side], [z, y + side, x]]) - [0, 0.5, 0.5]


def heard(session: Session, name: str) -> list[Any]:
    calls: list[Any] = []
    getattr(session, name).connect(lambda: calls.append(name))
    return calls


def test_nothing_without_an_image(viewer: ViewerModel) -> None:
    session = Session(viewer)
    assert session.view is None
    assert session.plane is None
    assert session.images is None
    with pytest.raises(BoxError, match="image"):
        session.new_boxes_layer()
    with pytest.raises(BoxError, match="no boxes yet"):
        session.training_set()


def test_the_only_image_is_taken_when_it_comes(viewer: ViewerModel) -> None:
    session = Session(viewer)
    calls = heard(session, "image_changed")
    viewer.add_image(np.zeros((5, 40, 50)), name="a")
    assert session.view is not None
    assert session.view.name == "a"
    assert session.plane == PlaneId("a", (2,))  # where napari's sliders start
    assert calls


def test_a_second_image_is_taken_when_it_is_made_active_without_boxes(viewer: ViewerModel) -> None:
    session = Session(viewer)
    first = viewer.add_image(np.zeros((5, 40, 50)), name="a")
    viewer.add_image(np.zeros((40, 50)), name="b")
    viewer.layers.selection.active = first
    assert session.view is not None
    assert session.view.layer == first
    session.new_boxes_layer().shapes.add(corners(2, 5, 5), shape_type="rectangle")
    viewer.layers.selection.active = viewer.layers["b"]
    assert session.view.layer == first, "boxes are being drawn here"


def test_choosing_an_image_takes_the_pen_from_the_boxes_of_another(viewer: ViewerModel) -> None:
    session = Session(viewer)
    first = viewer.add_image(np.zeros((3, 40, 50)), name="first")
    second = viewer.add_image(np.zeros((40, 50)), name="second")
    session.choose_image(first)
    boxes = session.new_boxes_layer().shapes
    session.choose_image(second)
    assert viewer.layers.selection.active is second
    others = session.new_boxes_layer().shapes
    session.choose_image(first)
    assert viewer.layers.selection.active is boxes
    viewer.layers.selection.active = first
    session.choose_image(second)
    assert viewer.layers.selection.active is not others, "nothing is taken out of the hand without need"


def test_plane_follows_the_sliders(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a", scale=(2, 1, 1))
    calls = heard(session, "plane_changed")
    viewer.dims.set_current_step(0, 4)
    assert session.plane == PlaneId("a", (4,))
    assert len(calls) == 1
    viewer.dims.ndisplay = 3
    assert session.plane is None


def test_planes_follow_the_axes_shown_until_there_are_boxes(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((36, 40, 50)), name="a")
    viewer.dims.order = (1, 0, 2)
    assert session.view is not None
    assert session.view.axes == (0, 2)
    boxes = session.new_boxes_layer()
    viewer.dims.order = (0, 1, 2)
    assert session.view.axes == boxes.view.axes == (0, 2)
    assert session.plane is None, "the boxes' planes are not on screen"


def test_planes_that_are_too_small_to_be_used_are_not_turned_to(viewer: ViewerModel) -> None:
    session = Session(viewer)
    image = viewer.add_image(np.zeros((6, 40, 50)), name="thin")
    session.set_contrast(Normalization(low=(0,), high=(1,)), manual=False)
    told = heard(session, "image_changed")
    for order, shown in (((2, 0, 1), "6 x 40"), ((1, 0, 2), "6 x 50")):
        viewer.dims.order = order
        assert session.view is not None
        assert session.view.axes == (1, 2)
        assert session.plane is None
        assert session.refusal.why == (
            f"The planes of thin on screen cannot be used: they are {shown} pixels, and both sides must be "
            "at least 32. Roll the axes until y and x are shown."
        )
        with pytest.raises(BoxPromptError, match=f"{shown} pixels.*Roll the axes"):
            session.new_boxes_layer()
    assert session.contrast is not None
    assert not told
    viewer.dims.ndisplay = 3
    assert not session.refusal.why, "no plane is on screen there"
    viewer.dims.ndisplay = 2
    viewer.dims.order = (0, 1, 2)
    assert session.plane == PlaneId("thin", (2,))
    assert not session.refusal.why
    boxes = session.new_boxes_layer()
    viewer.dims.order = (1, 0, 2)
    assert not session.refusal.why, "boxes have planes of their own"
    viewer.layers.remove(boxes.shapes)
    assert "6 x 50" in session.refusal.why
    viewer.layers.remove(image)
    assert session.view is None
    assert not session.refusal.why


def test_an_image_is_taken_when_planes_are_shown_that_can_be_used(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((40, 6, 50)), name="thin")
    assert session.view is None
    with pytest.raises(BoxError, match=r"6 x 50 pixels.*Or roll the axes: it has larger planes\.$"):
        session.new_boxes_layer()
    viewer.dims.order = (1, 0, 2)
    assert session.view is not None
    assert session.view.axes == (0, 2)
    assert session.plane == PlaneId("thin", (2,))
    assert not session.refusal.why


def test_a_stack_that_is_thin_along_all_axes_is_refused_for_good(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((4, 24, 50)), name="thin")
    assert session.refusal.why.endswith("enlarge it or leave it out.")
    assert Session(viewer).refusal.why == session.refusal.why
    viewer.layers.clear()
    assert not session.refusal.why


def test_new_boxes_layer_is_in_hand_and_made_once(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a", scale=(3, 2, 2), translate=(1, 1, 1))
    boxes = session.new_boxes_layer()
    assert viewer.layers.selection.active == boxes.shapes
    assert boxes.shapes.mode == "add_rectangle"
    np.testing.assert_allclose(boxes.shapes.scale, (3, 2, 2))
    assert session.new_boxes_layer() is boxes
    assert len(viewer.layers) == 2


def test_training_needs_two_planes_and_takes_all_images(viewer: ViewerModel) -> None:
    session = Session(viewer)
    flat = viewer.add_image(np.zeros((40, 50)), name="flat")
    stack = viewer.add_image(np.ones((5, 40, 50)), name="stack")
    session.choose_image(stack)
    session.new_boxes_layer().shapes.add(corners(2, 5, 5), shape_type="rectangle")
    with pytest.raises(BoxError, match="one more"):
        session.training_set()
    session.choose_image(flat)
    session.new_boxes_layer().shapes.add(corners(0, 5, 5)[:, 1:], shape_type="rectangle")
    images, boxes = session.training_set()
    assert boxes.boxed_planes == (PlaneId("stack", (2,)), PlaneId("flat"))
    assert images.read(PlaneId("stack", (2,))).max() == 1
    assert set(images.names) == {"stack", "flat"}
    assert session.all_boxes() == boxes


def test_a_class_without_boxes_is_not_trained(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a")
    boxes = session.new_boxes_layer()
    boxes.add_class("used")
    boxes.add_class("unused")
    boxes.choose_class(1)
    boxes.shapes.add([corners(1, 5, 5), corners(2, 5, 5)], shape_type="rectangle")
    assert session.training_set()[1].classes == ("used",)
    assert session.all_boxes().classes == ("object", "used", "unused")


def test_boxes_layers_that_come_by_themselves_are_adopted(viewer: ViewerModel) -> None:
    first = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a")
    boxes = first.new_boxes_layer()
    boxes.shapes.add(corners(2, 5, 5), shape_type="rectangle")
    boxes.toggle_complete(PlaneId("a", (2,)))
    first.close()
    again = Session(viewer)  # a widget that is opened anew
    assert again.boxes is not None
    assert len(again.boxes.boxset.boxes) == 1
    assert again.boxes.is_complete(PlaneId("a", (2,)))


def test_the_same_sample_twice(viewer: ViewerModel) -> None:
    from napari.layers import Layer

    from napari_boxprompt.gui.samples import synthetic_cells

    session = Session(viewer)
    for _ in range(2):
        for layer in synthetic_cells():
            viewer.add_layer(Layer.create(*layer))
    boxes = session.all_boxes()
    assert {box.plane.image for box in boxes.boxes} == {"cells", "cells [1]"}
    assert sum(info.complete for info in boxes.planes.values()) == 6


def test_renaming_the_image_keeps_its_boxes(viewer: ViewerModel) -> None:
    session = Session(viewer)
    image = viewer.add_image(np.zeros((5, 40, 50)), name="a")
    session.new_boxes_layer().shapes.add(corners(2, 5, 5), shape_type="rectangle")
    image.name = "renamed"
    assert session.boxes is not None
    assert session.boxes.boxset.boxes[0].plane.image == "renamed"
    session.close()
    assert Session(viewer).boxes is not None


def test_deleting_layers(viewer: ViewerModel) -> None:
    session = Session(viewer)
    image = viewer.add_image(np.zeros((5, 40, 50)), name="a")
    viewer.add_image(np.zeros((40, 50)), name="b")
    session.choose_image(image)
    boxes = session.new_boxes_layer()
    boxes.toggle_complete(PlaneId("a", (1,)))
    assert boxes.complete is not None
    viewer.layers.remove(boxes.complete)
    assert session.boxes is boxes
    assert not boxes.is_complete(PlaneId("a", (1,)))
    viewer.layers.remove(boxes.shapes)
    assert session.boxes is None
    viewer.layers.remove(image)
    assert session.view is not None
    assert session.view.name == "b"
    viewer.layers.clear()
    assert session.view is None


def test_contrast_is_forgotten_with_the_image_and_kept_with_the_boxes(viewer: ViewerModel) -> None:
    session = Session(viewer)
    image = viewer.add_image(np.zeros((5, 40, 50)), name="a")
    other = viewer.add_image(np.zeros((5, 40, 50)), name="b")
    session.choose_image(image)
    session.set_contrast(Normalization(low=(0.0,), high=(9.0,)), manual=True)
    session.new_boxes_layer()
    assert session.contrast is not None
    session.choose_image(other)
    assert session.contrast is None
    assert not session.contrast_is_manual


def test_channel_axis(viewer: ViewerModel) -> None:
    session = Session(viewer)
    data = np.zeros((5, 3, 40, 50))
    data[:, 1] = 7
    image = viewer.add_image(data, name="a")
    session.choose_image(image, 1, 1)
    assert session.images is not None
    assert len(session.images) == 5
    assert session.images.read(PlaneId("a", (0,))).max() == 7


def test_boxes_on_one_channel_are_boxes_of_the_plane(viewer: ViewerModel) -> None:
    session = Session(viewer)
    image = viewer.add_image(np.zeros((3, 5, 40, 50)), name="a")
    session.choose_image(image, 0, 1)
    boxes = session.new_boxes_layer()
    boxes.shapes.add(corners(2, 5, 5), shape_type="rectangle")
    assert boxes.boxset.boxes[0].plane == PlaneId("a", (2,))
    assert boxes.view.channel == 1
    session.close()
    again = Session(viewer)
    assert again.boxes is not None
    assert again.boxes.boxset.boxes == boxes.boxset.boxes


def test_an_unusable_image_leaves_the_chosen_one(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((40, 50)), name="good")
    small = viewer.add_image(np.zeros((8, 8)), name="small")
    with pytest.raises(BoxPromptError, match="small"):
        session.choose_image(small)
    assert session.view is not None
    assert session.view.name == "good"


def test_our_layers_take_the_units_of_the_viewer(viewer: ViewerModel) -> None:
    # napari hands mouse positions in the viewer's units to a layer that takes them for its own.
    session = Session(viewer)
    image = viewer.add_image(np.zeros((5, 40, 50)), name="a", scale=(1, 0.5, 0.5), units=("um",) * 3)
    boxes = session.new_boxes_layer()
    boxes.shapes.add(corners(2, 5, 5), shape_type="rectangle")
    before = boxes.boxset
    viewer.add_image(np.zeros((40, 50)), name="b", units=("nm",) * 2)
    assert [str(unit) for unit in boxes.shapes.units] == ["nanometer"] * 3
    assert [str(unit) for unit in image.units] == ["micrometer"] * 3, "a user's layer is left alone"
    assert boxes.boxset == before


def test_closed_sessions_hear_nothing(viewer: ViewerModel) -> None:
    session = Session(viewer)
    session.close()
    viewer.add_image(np.zeros((40, 50)))
    assert session.view is None


def test_deleting_the_complete_layer_can_be_undone() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 40, 50)), name="stack")
    session = Session(viewer)
    boxes = session.new_boxes_layer()
    boxes.toggle_complete(PlaneId("stack", (1,)))
    chosen = set(viewer.layers)
    viewer.layers.selection = chosen
    assert boxes.complete is not None
    viewer.layers.remove(boxes.complete)
    assert not boxes.is_complete(PlaneId("stack", (1,)))
    viewer.layers.selection = left = set(viewer.layers)
    boxes.undo()
    assert boxes.is_complete(PlaneId("stack", (1,)))
    assert boxes.complete in viewer.layers
    assert boxes.complete.nshapes == 1
    assert set(viewer.layers.selection) == left
    boxes.redo()
    assert not boxes.is_complete(PlaneId("stack", (1,)))
    boxes.undo()
    boxes.undo()
    assert not boxes.can_undo
    boxes.toggle_complete(PlaneId("stack", (2,)))
    assert boxes.is_complete(PlaneId("stack", (2,))), "the new layer is listened to"
