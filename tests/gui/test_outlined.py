"""Boxes round objects of a Labels layer."""

import itertools
import threading
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.jobs import Jobs, Stop
from napari_boxprompt.gui.outlined import boxes_from_all_labels, boxes_from_labels
from napari_boxprompt.gui.state import Session


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def test_boxes_from_labels(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a")
    labels = np.zeros((5, 40, 50), int)
    labels[2, 3:9, 4:20] = 5
    labels[2, 20:30, 4:20] = 6
    layer = viewer.add_labels(labels)
    viewer.dims.set_current_step(0, 2)
    assert boxes_from_labels(session) == 2
    layer.selected_label = 6
    assert session.boxes is not None
    session.boxes.delete([0, 1])
    assert boxes_from_labels(session, one=True) == 1
    assert session.boxes.boxset.boxes[0].as_tuple() == (20, 4, 30, 20)
    viewer.dims.set_current_step(0, 0)
    with pytest.raises(BoxError, match="no such object"):
        boxes_from_labels(session)


def test_box_from_the_object_under_the_cursor(viewer: ViewerModel) -> None:
    session = Session(viewer)
    viewer.add_image(np.zeros((40, 50)), name="a")
    labels = np.zeros((40, 50), int)
    labels[3:9, 4:20], labels[20:30, 4:20] = 5, 6
    table = {"index": [0, 5, 6], "class": ["", "nucleus", "mitosis"]}
    layer = viewer.add_labels(labels, features=table)
    viewer.layers.selection.active = layer
    layer.mode = "pick"
    viewer.cursor.position = (25, 10)
    assert boxes_from_labels(session, one=True) == 1
    (box,) = session.all_boxes().boxes
    assert box.as_tuple() == (20, 4, 30, 20)
    assert box.label == "mitosis", "the table of the result says so"
    assert viewer.layers.selection.active == layer
    assert layer.mode == "pick"
    boxes = session.boxes
    assert boxes is not None
    boxes.undo()
    assert not session.all_boxes().boxes
    boxes.redo()
    assert session.all_boxes().boxes[0].label == "mitosis"
    with pytest.raises(BoxError, match="box already"):
        boxes_from_labels(session, one=True)
    assert len(session.all_boxes()) == 1
    boxes.delete([0])
    assert boxes_from_labels(session) == 2
    assert [box.label for box in session.all_boxes().boxes] == ["nucleus", "mitosis"]
    assert session.all_boxes().exclusive


class NowJobs:
    """Does work at once, on this thread; with `planes`, it is stopped after as many."""

    def __init__(self, planes: int | None = None) -> None:
        self.planes = planes

    def start(self, name: str, work: Any, *, on_result: Any) -> None:
        stop = threading.Event()
        running = work(cast("Stop", stop))
        for done in itertools.count(1):
            if done == self.planes:
                stop.set()
            try:
                next(running)
            except StopIteration as ended:
                on_result(ended.value)
                return


def labelled(viewer: ViewerModel) -> Session:
    """A stack with one object that goes through planes 1 to 3, and another on plane 3."""
    session = Session(viewer)
    viewer.add_image(np.zeros((5, 40, 50)), name="a")
    labels = np.zeros((5, 40, 50), int)
    labels[1:4, 3:9, 4:20] = 5
    labels[3, 20:30, 4:20] = 6
    table = {"index": [0, 5, 6], "class": ["", "nucleus", "mitosis"]}
    viewer.add_labels(labels, features=table)
    viewer.dims.set_current_step(0, 1)
    return session


def everywhere(session: Session, jobs: NowJobs | None = None) -> int:
    counts: list[int] = []
    boxes_from_all_labels(session, cast("Jobs", jobs or NowJobs()), counts.append)
    (count,) = counts
    return count


def test_boxes_on_all_planes(viewer: ViewerModel) -> None:
    session = labelled(viewer)
    active = viewer.layers.selection.active
    assert boxes_from_labels(session) == 1
    assert everywhere(session) == 3, "that of plane 1 is there"
    found = {(box.plane.index[0], box.label, box.as_tuple()) for box in session.all_boxes().boxes}
    nucleus = {(z, "nucleus", (3, 4, 9, 20)) for z in (1, 2, 3)}
    assert found == nucleus | {(3, "mitosis", (20, 4, 30, 20))}
    assert viewer.layers.selection.active == active
    assert session.boxes is not None
    session.boxes.undo()
    assert len(session.all_boxes()) == 1, "one gesture"
    session.boxes.redo()
    assert everywhere(session) == 0
    assert not session.boxes.problems


def test_what_was_read_when_it_is_stopped_is_kept(viewer: ViewerModel) -> None:
    session = labelled(viewer)
    assert everywhere(session, NowJobs(planes=3)) == 2


def test_a_boxes_layer_that_is_deleted_meanwhile(viewer: ViewerModel) -> None:
    session = labelled(viewer)

    class Deleting(NowJobs):
        def start(self, name: str, work: Any, *, on_result: Any) -> None:
            assert session.boxes is not None
            viewer.layers.remove(session.boxes.shapes)
            super().start(name, work, on_result=on_result)

    with pytest.raises(BoxError, match="is gone"):
        everywhere(session, Deleting())
