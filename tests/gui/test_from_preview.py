"""The preview as a result, where there is too little for a training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("pytestqt", reason="needs pytest-qt")

import tifffile
from napari.components import ViewerModel
from tests.gui.conftest import Desk
from tests.gui.test_work import FakeEncoders
from tests.helpers.synthetic import Scene, finish, overlap

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.from_preview import FromPreview
from napari_boxprompt.gui.jobs import Jobs, Stop
from napari_boxprompt.gui.preview import Preview
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.work import Encoders


class NowJobs:
    """Does work at once, on this thread."""

    busy = False

    def running(self, _: str) -> bool:
        return self.busy

    def start(self, name: str, work: Any, *, on_result: Any, on_end: Any) -> None:
        result, _ = finish(work(cast("Stop", threading.Event())))
        on_result(result)
        on_end()


@pytest.fixture
def session(scene: Scene) -> Session:
    """A stack of three planes, of which the first two have the boxes of one of the scene's."""
    viewer = ViewerModel()
    plane = scene.images.planes[0]
    values = scene.images.read(plane)[..., 0]
    viewer.add_image(np.stack([values] * 3), name="s")
    viewer.dims.set_current_step(0, 0)
    session = Session(viewer)
    boxes = [
        replace(box, plane=PlaneId("s", (z,)), label="ab"[k % 2])
        for z in range(2)
        for k, box in enumerate(scene.boxes.on(plane))
    ]
    session.new_boxes_layer().add_boxes(BoxSet(tuple(boxes)))
    return session


def made(session: Session, encoder: Any, jobs: NowJobs | None = None) -> FromPreview:
    now, encoders = cast("Jobs", jobs or NowJobs()), FakeEncoders(encoder)
    return FromPreview(session, now, encoders, Preview(session, now, encoders, lambda: ("litemedsam", "cpu")))


def test_boxes_become_objects_of_their_classes(session: Session, encoder: Any, scene: Scene) -> None:
    taken = made(session, encoder)
    filled: list[tuple[Any, PlaneId]] = []
    session.results.filled.connect(lambda result, plane: filled.append((result, plane)))
    assert taken.possible
    active = session.viewer.layers.selection.active
    taken.plane()
    result, here = session.result, PlaneId("s", (0,))
    assert result is not None
    assert filled == [(result, here)], "a project keeps it"
    assert overlap(result.plane(here) > 0, scene.mask(scene.images.planes[0])) > 0.8
    assert [result.class_of(n) for n in np.unique(result.plane(here)) if n] == ["a", "b", "a"]
    assert result.layer.features["class"].tolist() == ["", "a", "b", "a"]
    assert set(result.scores) == {here}
    assert session.viewer.layers.selection.active == active
    session.set_status(here, "accepted")
    assert set(session.results.accepted()) == {here}


def test_planes_done_one_after_the_other_share_a_layer(session: Session, encoder: Any) -> None:
    taken = made(session, encoder)
    taken.plane()
    first = session.result
    assert first is not None
    assert session.boxes is not None
    session.boxes.add_class("c")
    session.viewer.dims.set_current_step(0, 1)
    made(session, encoder).plane()
    assert session.result is first
    assert first.classes == ("a", "b", "c")
    assert sorted(plane.index for plane in first.scores) == [(0,), (1,)]
    assert len(np.unique(first.layer.data)) == 7
    session.boxes.rename_class(0, "d")
    taken.plane()
    assert session.result is first
    assert first.used == ("d", "b")


def test_what_the_user_has_done_stays(session: Session, encoder: Any) -> None:
    taken = made(session, encoder)
    taken.plane()
    result, here = session.result, PlaneId("s", (0,))
    assert result is not None
    session.set_status(here, "accepted")
    with pytest.raises(BoxPromptError, match="stays as it is"):
        taken.plane()
    session.set_status(here, "rejected")
    taken.plane()
    result.plane(here)[:4, :4] = 99
    with pytest.raises(BoxPromptError, match="stays as it is"):
        taken.plane()
    assert (result.plane(here)[:4, :4] == 99).all()


def test_a_trained_model_has_a_layer_of_its_own(session: Session, encoder: Any, trained: Any) -> None:
    session.set_model(trained)
    session.new_results([cast("Any", session.view)])
    of_model = session.result
    made(session, encoder).plane()
    assert session.result is not of_model
    assert of_model is not None
    assert not of_model.layer.visible


def test_classes_that_may_overlap_get_a_layer_each(session: Session, encoder: Any) -> None:
    boxes = session.boxes
    assert boxes is not None
    boxes.exclusive = False
    taken = made(session, encoder)
    taken.plane()
    assert [result.only for result in session.results.alive] == ["a", "b"]
    session.viewer.dims.set_current_step(0, 1)
    taken.plane()
    assert len(session.results.alive) == 2
    assert [len(np.unique(result.layer.data)) for result in session.results.alive] == [5, 3]


def test_where_it_cannot_be(session: Session, encoder: Any) -> None:
    jobs = NowJobs()
    taken = made(session, encoder, jobs)
    session.viewer.dims.set_current_step(0, 2)
    assert not taken.possible
    with pytest.raises(BoxPromptError, match="no boxes on this plane"):
        taken.plane()
    session.viewer.dims.set_current_step(0, 0)
    jobs.busy = True
    with pytest.raises(BoxPromptError, match="prediction is running"):
        taken.plane()
    assert session.result is None


def test_boxes_without_an_object_are_counted(session: Session, encoder: Any, said: list[str]) -> None:
    taken = made(session, encoder)
    taken.plane()
    assert "3 objects, one for each box" in said[-1]
    assert session.boxes is not None
    first = session.boxes.boxset.boxes[0]
    session.boxes.add_boxes(BoxSet((Box(*first.as_tuple(), first.plane, "b"),)))
    taken.plane()
    assert "3 objects for 4 boxes" in said[-1]


@pytest.mark.usefixtures("tiny_generator", "fake_encoders")
def test_a_single_image_comes_to_a_result(
    open_desk: Callable[..., Desk], fake_encoders: Encoders, scene: Scene, tmp_path: Path
) -> None:
    from napari_boxprompt.gui.exchange import export_labels

    desk = open_desk()
    panel, plane = desk.widget.train_panel, scene.images.planes[0]
    desk.viewer.add_image(scene.images.read(plane)[..., 0], name="one")
    assert panel.use_preview.isHidden(), "there are no boxes"
    boxes = tuple(replace(box, plane=PlaneId("one")) for box in scene.boxes.on(plane))
    desk.widget.session.new_boxes_layer().add_boxes(BoxSet(boxes))
    assert not panel.waits.isHidden()
    assert not panel.use_preview.isHidden()
    desk.settle()
    assert panel.use_preview.text() == "Use the preview as the result"
    desk.widget.boxes_panel.preview.click()
    assert panel.use_preview.text() == "Outline the boxed objects", "there is no preview to be seen"
    desk.widget.boxes_panel.preview.click()
    assert panel.use_preview.text() == "Use the preview as the result"
    desk.settle()
    panel.use_preview.click()
    assert not panel.use_preview.isEnabled()
    desk.settle()
    assert panel.use_preview.isEnabled()
    assert desk.widget.sections["Review"].is_open
    desk.widget.actions.accept_plane()
    export_labels(desk.widget.jobs, desk.widget.session.result, tmp_path / "labels.tif", lambda _: None)
    desk.settle()
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    desk.viewer.add_image(np.zeros((40, 40)), name="other")
    desk.widget.session.choose_image(desk.viewer.layers["other"])
    assert panel.use_preview.isHidden(), "no boxes on this one"
