"""Images of a project teach what was labelled on them without being open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk
from tests.gui.test_project_desk import open_again, quiet
from tests.gui.test_unopened import shown

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.gui import project_work
from napari_boxprompt.gui.work import TrainingTask
from napari_boxprompt.project import Project

pytestmark = pytest.mark.usefixtures("fake_encoders")

FEW = 4
IMAGES = tuple(f"i{n:02d}.tif" for n in range(FEW + 3))
AWAY = IMAGES[FEW:]
OpenDesk = Callable[..., Desk]


def labelled(value: int = 1) -> npt.NDArray[np.uint8]:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:30, 12:40] = value
    return mask


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with work on more images than are opened with it.

    The first two and the last have a box, all others an accepted mask, the last but one of another class.
    """
    monkeypatch.setattr(project_work, "FEW", FEW)
    source = tmp_path / "images"
    source.mkdir()
    for n, name in enumerate(IMAGES):
        pixels = np.random.default_rng(n).integers(0, 60, (64, 64), np.uint8)
        pixels[10:30, 12:40] = 200
        tifffile.imwrite(source / name, pixels)
    with Project.create(tmp_path / "project", source, classes=("cell", "scar")) as project:
        for name in (*IMAGES[:2], IMAGES[-1]):
            project.set_boxes(PlaneId(name), [Box(10, 12, 30, 40, PlaneId(name), "cell")])
        for name in IMAGES[2:-2]:
            project.accept(PlaneId(name), labelled(3), {3: "cell"})
        project.accept(PlaneId(IMAGES[-2]), labelled(7), {7: "scar"})
    return tmp_path / "project"


def train(desk: Desk) -> TrainingTask:
    desk.widget.train_panel.form.setValue(desk.widget.train_panel.config.model_copy(update={"steps": 2}))
    desk.widget.train_panel.start()
    quiet(desk)
    task = desk.widget.trainer.last
    assert task is not None, desk.said
    return task


def test_what_is_not_open_teaches(open_desk: OpenDesk, folder: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    assert shown(desk) == [Path(name).stem for name in IMAGES[:FEW]], "as many as can be had in sight"
    panel = desk.widget.train_panel
    assert "2 boxed and 2 accepted planes, and 3 planes of images that are not open" in panel.lessons.text()
    task = train(desk)
    assert task.images.names == tuple(Path(name).stem for name in IMAGES)
    assert task.boxes.classes == ("cell", "scar")
    assert set(task.boxes.boxed_planes) == set(task.images.planes)
    assert set(task.masks) == {PlaneId(Path(name).stem) for name in IMAGES[2:-1]}
    np.testing.assert_array_equal(task.masks[PlaneId(Path(IMAGES[3]).stem)], labelled(1))
    np.testing.assert_array_equal(task.masks[PlaneId(Path(AWAY[0]).stem)], labelled(1))
    np.testing.assert_array_equal(task.masks[PlaneId(Path(AWAY[-2]).stem)], labelled(2))
    project = desk.widget.projects.project
    assert project is not None
    project.accept(PlaneId(AWAY[0]), labelled(1)[::-1], {1: "scar"})
    np.testing.assert_array_equal(task.masks[PlaneId(Path(AWAY[0]).stem)], labelled(1), "what it learnt from")
    pixels = tifffile.imread(folder.parent / "images" / AWAY[0])
    np.testing.assert_array_equal(task.images.read(PlaneId(Path(AWAY[0]).stem))[..., 0], pixels)
    (record,) = desk.widget.rounds.rounds
    assert (record.boxes, record.masks) == (3, len(IMAGES) - 3), "as without a viewer"
    assert panel.summary.startswith("model ready"), "nothing was accepted since"
    with Project.open(folder, read_only=True) as project:
        assert [kept.masks for kept in project.rounds] == [len(IMAGES) - 3]


def test_an_image_teaches_once_whether_it_is_open_or_not(open_desk: OpenDesk, folder: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    lessons, boxes = desk.widget.session.lessons, len(desk.widget.session.training_set()[1])
    desk.widget.projects.show_image(AWAY[0], lambda: None)
    quiet(desk)
    assert Path(AWAY[0]).stem in shown(desk)
    taught = lessons.elsewhere
    assert taught is not None
    assert taught.images.names == tuple(Path(name).stem for name in AWAY[1:])
    assert len(desk.widget.session.training_set()[1]) == boxes

    image = desk.viewer.layers[Path(AWAY[0]).stem]
    for layer in [layer for layer in desk.viewer.layers if layer.name.startswith(image.name)]:
        desk.viewer.layers.remove(layer)
    quiet(desk)
    taught = lessons.elsewhere
    assert taught is not None
    assert set(taught.images.names) == {Path(name).stem for name in AWAY}
    assert len(desk.widget.session.training_set()[1]) == boxes
    desk.widget.actions.close_project()
    quiet(desk)
    assert lessons.elsewhere is None
    assert desk.widget.train_panel.lessons.isHidden()


def test_images_that_are_not_open_can_be_all_that_teaches(open_desk: OpenDesk, folder: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    for layer in list(desk.widget.session.image_layers):
        desk.viewer.layers.remove(layer)
    quiet(desk)
    for layer in list(desk.viewer.layers):
        desk.viewer.layers.remove(layer)
    quiet(desk)
    assert not desk.widget.session.drawn
    assert desk.widget.train_panel.lessons.text() == "Learns from 7 planes of images that are not open."
    task = train(desk)
    assert len(task.boxes.boxed_planes) == len(IMAGES)
    assert desk.widget.session.trained is not None


def test_names_of_open_images_are_not_taken(open_desk: OpenDesk, folder: Path) -> None:
    desk = open_desk()
    desk.viewer.add_image(np.zeros((64, 64), np.uint8), name=Path(AWAY[0]).stem)
    desk.viewer.add_image(np.zeros((64, 64), np.uint8), name=AWAY[0])
    open_again(desk, folder)
    taught = desk.widget.session.lessons.elsewhere
    assert taught is not None
    assert taught.images.names[0] == f"{AWAY[0]}'"
    assert taught.images.names[1:] == tuple(Path(name).stem for name in AWAY[1:])
    assert PlaneId(f"{AWAY[0]}'") in taught.boxes.planes


def test_a_mask_that_cannot_be_read_does_not_teach_and_is_named(open_desk: OpenDesk, folder: Path) -> None:
    with Project.open(folder, read_only=True) as project:
        mask = project.record(PlaneId(AWAY[1])).mask
        assert mask is not None
        place = folder / mask.file
    place.write_bytes(place.read_bytes()[:60])
    desk = open_desk()
    open_again(desk, folder)
    assert any(AWAY[1].removesuffix(".tif") in said and "not learnt from" in said for said in desk.said)
    task = train(desk)
    assert PlaneId(Path(AWAY[1]).stem) not in task.masks
    assert len(task.masks) == len(IMAGES) - 4


def test_a_training_waits_until_all_is_known(open_desk: OpenDesk, folder: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    project = desk.widget.projects.project
    assert project is not None
    desk.widget.projects.table.forget(desk.viewer.layers["i03"])  # as when the layer goes
    desk.widget.train_panel.start()
    assert "is being read; wait a moment" in desk.said[-1]
    assert desk.widget.trainer.last is None
    desk.widget.projects.table.bind(desk.viewer.layers["i03"], "i03.tif")
    assert len(train(desk).masks) == len(IMAGES) - 3


def test_a_class_that_is_renamed_is_renamed_everywhere(open_desk: OpenDesk, folder: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    boxes = desk.widget.session.boxes
    assert boxes is not None
    place = boxes.classes.names.index("cell")
    boxes.rename_class(place, "nucleus")
    quiet(desk)
    taught = desk.widget.session.lessons.elsewhere
    assert taught is not None
    assert {box.label for box in taught.boxes.boxes} == {"cell", "scar"}, "another box has the name still"

    other = next(one for one in desk.widget.session.drawn if one is not boxes)
    other.rename_class(other.classes.names.index("cell"), "nucleus")
    quiet(desk)
    taught = desk.widget.session.lessons.elsewhere
    assert taught is not None
    assert {box.label for box in taught.boxes.boxes} == {"nucleus", "scar"}
    with Project.open(folder, read_only=True) as project:
        assert {box.label for box in project.boxes.boxes} == {"nucleus"}
        assert set(project.mask_classes(PlaneId(AWAY[0])).values()) == {"nucleus"}
