"""Boxes of a file go to the open images that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui import exchange
from napari_boxprompt.gui.from_file import boxes_from_file, plane_of_yolo
from napari_boxprompt.gui.state import Session
from napari_boxprompt.normalization import Normalization

CONTRAST = Normalization(low=(1.0,), high=(9.0,), gamma=1.0)


@pytest.fixture
def session() -> Session:
    """Three images, a stack first, which is chosen."""
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 40, 50), np.uint8), name="stack")
    for _ in range(2):
        viewer.add_image(np.zeros((40, 50), np.uint8), name="well")
    session = Session(viewer)
    session.choose_image(viewer.layers["stack"])
    return session


def boxes_on(*planes: PlaneId, complete: PlaneId | None = None) -> BoxSet:
    marked = {} if complete is None else {complete: PlaneInfo((40, 50), complete=True)}
    return BoxSet(tuple(Box(5, 6, 15, 26, plane) for plane in planes), marked)


STACK, WELL, SECOND = PlaneId("stack", (2,)), PlaneId("well", ()), PlaneId("well [1]", ())


def planes_of(session: Session) -> dict[str, list[PlaneId]]:
    return {one.view.name: [box.plane for box in one.boxset.boxes] for one in session.box_layers}


def test_boxes_of_all_open_images_come_back(session: Session, tmp_path: Path) -> None:
    drawn = boxes_on(STACK, WELL, SECOND, SECOND, complete=SECOND)
    moved = tuple(replace(box, x1=box.x1 + 2 * i) for i, box in enumerate(drawn.boxes))
    replace(drawn, boxes=moved).save(tmp_path / "boxes.json")
    viewer = session.viewer
    session.choose_image(viewer.layers["well"])
    own = session.new_boxes_layer()
    session.set_contrast(CONTRAST, manual=True)
    heard = list[object]()
    session.image_changed.connect(lambda: heard.append("image"))
    session.active_changed.connect(lambda: heard.append(viewer.layers.selection.active))
    added = boxes_from_file(session, tmp_path / "boxes.json")
    assert str(added) == "4 boxes were added on 3 images."
    assert planes_of(session) == {"stack": [STACK], "well": [WELL], "well [1]": [SECOND, SECOND]}
    assert session.view is not None
    assert (session.view.name, session.contrast) == ("well", CONTRAST)
    assert viewer.layers.selection.active == own.shapes
    assert not heard, "no other image was chosen for a moment"
    assert exchange.save_boxes(session, tmp_path / "again.json") == 4
    again = BoxSet.load(tmp_path / "again.json")
    assert sorted(again.boxes, key=repr) == sorted(moved, key=repr)
    assert again.planes[SECOND].complete


def test_each_layer_has_its_own_undo(session: Session, tmp_path: Path) -> None:
    boxes_on(STACK, SECOND, complete=SECOND).save(tmp_path / "boxes.json")
    boxes_from_file(session, tmp_path / "boxes.json")
    stack, second = session.box_layers
    second.undo()
    assert planes_of(session) == {"stack": [STACK], "well [1]": []}
    assert not second.is_complete(SECOND)
    assert not second.can_undo
    second.redo()
    stack.undo()
    assert planes_of(session) == {"stack": [], "well [1]": [SECOND]}
    assert second.is_complete(SECOND)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["gone.png"], "1 box was added. 1 box was left out: no open image is called gone.png."),
        (
            ["gone.png", "gone.png", "away.png"],
            "1 box was added. 3 boxes were left out: no open image is called gone.png or like 1 more.",
        ),
    ],
)
def test_what_has_no_image_here_is_counted(
    session: Session, tmp_path: Path, others: list[str], said: str
) -> None:
    boxes_on(STACK, *(PlaneId(name, ()) for name in others)).save(tmp_path / "boxes.json")
    assert str(boxes_from_file(session, tmp_path / "boxes.json")) == said
    assert planes_of(session) == {"stack": [STACK]}, "no other image has got a layer"


def test_a_file_about_another_open_image_goes_there(session: Session, tmp_path: Path) -> None:
    boxes_on(WELL).save(tmp_path / "boxes.json")
    active = session.viewer.layers.selection.active
    assert str(boxes_from_file(session, tmp_path / "boxes.json")) == "1 box was added on “well”."
    assert planes_of(session) == {"well": [WELL]}
    assert session.viewer.layers.selection.active == active


@pytest.mark.parametrize(
    ("chosen", "name", "lands"),
    [
        ("well", "elsewhere/scan.tif", "well"),
        ("stack", "day 2/well.png", "well"),
        ("well [1]", "day 2/well.png", "well [1]"),
    ],
)
def test_a_file_about_one_image_fits_whatever_it_is_called(
    session: Session, tmp_path: Path, chosen: str, name: str, lands: str
) -> None:
    session.choose_image(session.viewer.layers[chosen])
    boxes_on(PlaneId(name, ())).save(tmp_path / "boxes.json")
    boxes_from_file(session, tmp_path / "boxes.json")
    assert planes_of(session) == {lands: [PlaneId(lands, ())]}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: boxes_on(PlaneId("one.tif", ()), PlaneId("two.tif", ())), r"one\.tif"),
        (lambda: boxes_on(STACK, PlaneId("well", (4,))), "single image"),
        (lambda: boxes_on(STACK, WELL, PlaneId("well.png", ())), "both fit the image well"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    session: Session, tmp_path: Path, make: Callable[[], BoxSet], told: str
) -> None:
    make().save(tmp_path / "boxes.json")
    with pytest.raises(BoxError, match=told):
        boxes_from_file(session, tmp_path / "boxes.json")
    assert not session.box_layers


def test_a_yolo_file_is_about_the_plane_on_screen(session: Session, tmp_path: Path) -> None:
    file = tmp_path / "well.txt"
    file.write_text("0 0.5 0.5 0.4 0.25\n")
    session.viewer.dims.set_current_step(0, 2)
    assert plane_of_yolo(session, file) == STACK
    added = boxes_from_file(session, file)
    assert str(added) == (
        "1 box was added on plane 2: a YOLO file names no plane, and this one is on screen."
    )
    (box,) = session.all_boxes().boxes
    assert box.plane == STACK
    assert box.as_tuple() == pytest.approx((15, 15, 25, 35))
    session.viewer.dims.ndisplay = 3
    with pytest.raises(BoxError, match=r"well\.txt"):
        boxes_from_file(session, file)
    assert plane_of_yolo(session, tmp_path / "boxes.json") is None
