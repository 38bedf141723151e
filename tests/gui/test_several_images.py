"""Results of several images in one viewer: one list to review, and each plane's work on its own image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Panel

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.gui import actions as actions_module
from napari_boxprompt.gui.jobs import Jobs
from napari_boxprompt.gui.predicting import Predicting
from napari_boxprompt.gui.preview import Preview
from napari_boxprompt.gui.results import Counts, Result
from napari_boxprompt.gui.review import Review
from napari_boxprompt.gui.review_panel import PLANE, ReviewPanel
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.thumbnails import Thumbnails
from napari_boxprompt.gui.work import Encoders
from napari_boxprompt.ranking import PlaneScores

DOUBTS = {
    PlaneId("stack", (0,)): 0.1,
    PlaneId("stack", (1,)): 0.3,
    PlaneId("flat", ()): 0.4,
    PlaneId("other", ()): 0.2,
}


def result_of(session: Session, name: str) -> Result:
    session.choose_image(session.viewer.layers[name])
    assert session.view is not None
    (result,) = session.new_results([session.view])[name]
    for plane, doubt in DOUBTS.items():
        if plane.image == name:
            result.scores[plane] = PlaneScores(plane, doubt, 0.0)
            result.counts[plane] = Counts(1, 0)
    return result


@pytest.fixture
def panel(make_panel: Callable[..., Panel[ReviewPanel]], trained: Any) -> Panel[ReviewPanel]:
    """Three images over each other, all predicted; the first is chosen."""
    panel = make_panel(ReviewPanel, Review)
    panel.viewer.add_image(np.zeros((2, 40, 50)), name="stack")
    panel.viewer.add_image(np.zeros((40, 50)), name="flat")
    panel.viewer.add_image(np.zeros((40, 50)), name="other")
    panel.session.set_model(trained)
    for name in ("stack", "flat", "other"):
        result_of(panel.session, name)
    panel.session.choose_image(panel.viewer.layers["stack"])
    panel.widget.order.setCurrentIndex(panel.widget.order.findData("doubt"))
    panel.widget.order.activated.emit(panel.widget.order.currentIndex())
    return panel


def planes(panel: Panel[ReviewPanel]) -> list[PlaneId]:
    queue = panel.widget.queue
    return [queue.item(row).data(PLANE) for row in range(queue.count())]


def test_all_images_are_in_one_list_the_least_sure_first(panel: Panel[ReviewPanel]) -> None:
    assert planes(panel) == sorted(DOUBTS, key=lambda plane: -DOUBTS[plane])
    texts = [panel.widget.queue.item(row).text().strip().split(":")[0] for row in range(4)]
    assert [text.lstrip("⚑\u2003 ") for text in texts] == [
        "flat",
        "stack, plane 1",
        "other",
        "stack, plane 0",
    ]


def test_what_is_said_of_a_plane_goes_to_the_result_of_its_image(panel: Panel[ReviewPanel]) -> None:
    session, review = panel.session, panel.widget._review
    latest = session.results.latest
    review.next()
    assert session.view is not None
    assert session.view.name == "flat"
    assert session.plane == PlaneId("flat", ())
    assert session.viewer.layers.selection.active == latest["flat"].layer
    review.accept()
    assert latest["flat"].status == {PlaneId("flat", ()): "accepted"}
    assert not latest["other"].status
    assert not latest["stack"].status
    assert session.plane == PlaneId("stack", (1,)), "the next one is of another image"
    assert panel.widget.summary == "1 accepted; next: stack, 1"
    review.edit()
    assert latest["stack"].layer.mode == "paint"
    assert latest["other"].layer.mode != "paint"


def test_a_row_of_another_image_is_brought_to_the_top(panel: Panel[ReviewPanel]) -> None:
    layers, review = panel.viewer.layers, panel.widget._review
    review.go(PlaneId("flat", ()))
    seen = {layer.name for layer in layers if layer.visible}
    assert seen == {"flat", "flat objects"}
    review.go(PlaneId("stack", (1,)))
    assert {layer.name for layer in layers if layer.visible} == {"stack", "stack objects"}
    assert panel.session.plane == PlaneId("stack", (1,))


def test_images_beside_each_other_all_stay_in_sight(panel: Panel[ReviewPanel]) -> None:
    for number, name in enumerate(("stack", "flat", "other")):
        for layer in (panel.viewer.layers[name], panel.viewer.layers[f"{name} objects"]):
            layer.translate = (*layer.translate[:-1], 100 * number)
    panel.widget._review.go(PlaneId("flat", ()))
    assert all(layer.visible for layer in panel.viewer.layers)


def seen(panel: Panel[Any]) -> set[str]:
    return {layer.name for layer in panel.viewer.layers if layer.visible}


def box(session: Session, name: str) -> None:
    """Draw a box on an image, and say that it is complete."""
    session.choose_image(session.viewer.layers[name])
    boxes = session.new_boxes_layer()
    boxes.shapes.add([[3, 4], [20, 30]], shape_type="rectangle")
    boxes.toggle_complete(PlaneId(name, ()))


def test_an_image_that_was_boxed_and_not_predicted_does_not_cover_the_reviewed_one(
    panel: Panel[ReviewPanel],
) -> None:
    viewer, session, review = panel.viewer, panel.session, panel.widget._review
    viewer.add_image(np.zeros((40, 50)), name="boxed")
    box(session, "boxed")
    Preview(session, Jobs(), Encoders(lambda: None), lambda: ("", "cpu")).show(
        PlaneId("boxed", ()), np.ones((40, 50), np.uint8)
    )
    mine = viewer.add_points([[5, 5]], name="mine")
    viewer.add_labels(np.zeros((40, 50), int), name="also mine")
    viewer.layers.selection.active = mine
    assert {"boxed preview", "boxed complete", "boxed boxes"} <= seen(panel)
    review.go(PlaneId("flat", ()))
    assert seen(panel) == {"flat", "flat objects", "mine", "also mine"}
    assert viewer.layers.selection.active == viewer.layers["flat objects"]
    review.accept()
    assert session.plane == PlaneId("stack", (1,))
    assert seen(panel) == {"stack", "stack objects", "mine", "also mine"}


def test_boxes_of_an_image_below_do_not_lie_over_the_reviewed_one(panel: Panel[ReviewPanel]) -> None:
    viewer = panel.viewer
    viewer.layers["stack objects"].visible = False
    viewer.add_image(np.zeros((40, 50)), name="boxed")
    box(panel.session, "boxed")
    viewer.layers.move(viewer.layers.index("boxed"), 0)
    viewer.layers["boxed"].visible = False
    panel.widget._review.go(PlaneId("other", ()))
    assert seen(panel) == {"other", "other objects"}


def test_what_was_hidden_by_hand_stays_so_while_one_image_is_reviewed(panel: Panel[ReviewPanel]) -> None:
    review, objects = panel.widget._review, panel.viewer.layers["stack objects"]
    review.go(PlaneId("stack", (1,)))
    objects.visible = False
    review.go(PlaneId("stack", (0,)))
    assert seen(panel) == {"stack"}
    review.go(PlaneId("flat", ()))
    review.go(PlaneId("stack", (0,)))
    assert seen(panel) == {"stack", "stack objects"}


def test_channels_are_seen_together_and_their_objects_are_not(panel: Panel[ReviewPanel]) -> None:
    layers, review = panel.viewer.layers, panel.widget._review
    layers["other"].blending = "additive"
    review.go(PlaneId("flat", ()))
    assert seen(panel) == {"flat", "flat objects", "other"}
    review.go(PlaneId("other", ()))
    assert seen(panel) == {"other", "other objects", "flat"}
    layers["other"].blending, layers["flat"].blending = "translucent", "additive"
    review.go(PlaneId("flat", ()))
    assert seen(panel) == {"flat", "flat objects"}, "nothing is seen through the upper one"


def test_objects_of_an_image_out_of_sight_do_not_come_over_the_chosen_one(
    panel: Panel[ReviewPanel], trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers, jobs = panel.viewer.layers, Jobs()
    monkeypatch.setattr(jobs, "start", lambda *_, **__: None)
    panel.widget._review.go(PlaneId("flat", ()))
    another = replace(trained.model)  # which has layers of its own
    panel.session.set_model(replace(trained, model=another))
    layers["other"].visible = True
    before = set(layers)
    Predicting(panel.session, jobs).others()
    assert {layer.name: layer.visible for layer in set(layers) - before} == {
        "stack objects [1]": False,
        "other objects [1]": True,
    }
    layers["flat"].visible = False
    Predicting(panel.session, jobs).planes()
    assert layers[-1].name == "flat objects [1]"
    assert layers[-1].visible, "it is the chosen image"
    panel.widget._review.go(PlaneId("stack", (1,)))
    assert seen(panel) == {"stack", "stack objects [1]"}


def test_in_a_grid_all_images_stay_in_sight(panel: Panel[ReviewPanel]) -> None:
    panel.viewer.canvas.grid.enabled = True
    before = seen(panel)
    panel.widget._review.go(PlaneId("flat", ()))
    assert seen(panel) == before


def test_objects_that_outlive_their_image_are_reviewed(panel: Panel[ReviewPanel]) -> None:
    layers, review = panel.viewer.layers, panel.widget._review
    layers.remove("flat")
    review.go(PlaneId("flat", ()))
    assert seen(panel) == {"flat objects"}
    review.go(PlaneId("other", ()))
    assert seen(panel) == {"other", "other objects"}


def test_a_layer_that_is_shown_keeps_its_tool(panel: Panel[ReviewPanel]) -> None:
    layers, review = panel.viewer.layers, panel.widget._review
    review.go(PlaneId("flat", ()))
    review.edit()
    review.go(PlaneId("other", ()))
    review.go(PlaneId("flat", ()))
    layers["flat objects"].mode = "pan_zoom"
    layers["other"].visible = True
    review.go(PlaneId("flat", ()))
    assert seen(panel) == {"flat", "flat objects"}
    assert layers["flat objects"].mode == "pan_zoom", "napari would bring back the brush"


def test_boxes_that_are_out_of_sight_come_back_to_be_drawn(panel: Panel[ReviewPanel]) -> None:
    session, layers = panel.session, panel.viewer.layers
    box(session, "other")
    panel.widget._review.go(PlaneId("flat", ()))
    assert "other boxes" not in seen(panel)
    session.choose_image(layers["other"])
    boxes = session.new_boxes_layer()
    assert boxes.shapes.visible
    assert boxes.shapes.mode == "add_rectangle"


def test_objects_and_boxes_in_hand_are_of_the_chosen_image(panel: Panel[ReviewPanel]) -> None:
    session, layers = panel.session, panel.viewer.layers
    layers.selection.active = layers["other objects"]
    assert session.view is not None
    assert session.view.name == "other"
    boxes = session.new_boxes_layer()
    session.choose_image(layers["stack"])
    assert layers.selection.active == layers["stack"], "the next box would be on the wrong image"
    layers.selection.active = boxes.shapes
    assert session.view.name == "other"
    layers.selection.active = layers["flat objects"]
    session.choose_image(layers["stack"])
    assert layers.selection.active == layers["stack"], "a key would judge a plane that is not seen"


def test_the_result_is_that_of_the_chosen_image(panel: Panel[ReviewPanel]) -> None:
    session = panel.session
    for name in ("flat", "stack", "other"):
        session.choose_image(panel.viewer.layers[name])
        assert session.result is session.results.latest[name]
    panel.viewer.add_image(np.zeros((40, 50)), name="fresh")
    session.choose_image(panel.viewer.layers["fresh"])
    assert session.result is session.results.newest


def test_labels_are_exported_under_the_name_of_their_image(
    panel: Panel[ReviewPanel], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    actions = actions_module.Actions.__new__(actions_module.Actions)
    actions._session = panel.session
    monkeypatch.setattr(actions, "_ask_name", lambda _title, name, _kinds: (asked.append(name), ("", ""))[1])
    for name in ("flat", "stack"):
        panel.session.choose_image(panel.viewer.layers[name])
        actions.export_labels()
    panel.viewer.add_image(np.zeros((40, 50)), name="fresh")
    panel.session.choose_image(panel.viewer.layers["fresh"])
    actions.export_labels()
    assert asked[:2] == ["flat labels.ome.tif", "stack labels.ome.tif"]
    assert asked[2] == "other labels.ome.tif", "the image that was chosen has no labels"


def test_pictures_are_made_of_all_images(panel: Panel[ReviewPanel], qtbot: Any) -> None:
    jobs = Jobs()
    pictures = Thumbnails(panel.session, jobs)
    pictures.want(planes(panel))
    qtbot.waitUntil(lambda: not jobs.names, timeout=20_000)
    assert all(pictures.get(plane) is not None for plane in DOUBTS)
