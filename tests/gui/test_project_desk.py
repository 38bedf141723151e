"""Projects in a real viewer: made from what is open, closed and opened again, shared, moved, changed."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk
from tests.gui.test_results import found

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import OutputError, ProjectError
from napari_boxprompt.outputs import write_labels
from napari_boxprompt.project import Project

pytestmark = pytest.mark.usefixtures("fake_encoders")

OpenDesk = Callable[..., Desk]


def plane(z: int, image: str = "stack") -> PlaneId:
    return PlaneId(image, (z,))


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A file of six planes."""
    path = tmp_path / "data" / "stack.tif"
    path.parent.mkdir()
    pixels = np.random.default_rng(3).integers(0, 255, (6, 40, 50), np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


def open_file(desk: Desk, path: Path) -> None:
    """Open an image as napari's own reader does it, which tests leave out."""
    from napari.layers._source import layer_source

    with layer_source(path=str(path)):
        desk.viewer.add_image(tifffile.imread(path), name=path.name.partition(".")[0])


def quiet(desk: Desk) -> None:
    """Wait until nothing is being done, and the project is saved."""
    projects = desk.widget.projects
    desk.settle()
    desk.wait(lambda: not projects.busy and projects.state in ("", "saved", "read-only"))
    desk.settle()


def draw(desk: Desk, *planes: int, image: str = "stack") -> None:
    boxes = desk.widget.session.new_boxes_layer()
    boxes.add_boxes(BoxSet(tuple(Box(4, 4, 14, 24, plane(z, image)) for z in planes)))


def make(desk: Desk, folder: Path) -> None:
    desk.widget.projects.new(folder)
    quiet(desk)


def open_again(desk: Desk, folder: Path) -> None:
    desk.widget.projects.open(folder)
    quiet(desk)


def test_everything_is_there_again(open_desk: OpenDesk, stack: Path, tmp_path: Path) -> None:
    desk = open_desk()
    open_file(desk, stack)
    folder = tmp_path / "project"
    assert desk.widget.project.bar.said.text().startswith("No project")
    make(desk, folder)
    assert "<b>project</b>" in desk.widget.project.bar.said.text()
    draw(desk, 1, 4)
    session = desk.widget.session
    assert session.boxes is not None
    session.boxes.toggle_complete(plane(4))
    (result,) = [session.results.restore(session.view, {"object": (1.0, 0.0, 0.0, 1.0)})]
    result.add(found(2, ["a"]))
    result.add(found(3, ["a"]))
    result.scores[plane(3)] = replace(result.scores[plane(3)], size=0.5, look=0.25)
    session.set_status(plane(2), "accepted")
    desk.viewer.layers["stack"].contrast_limits = (20, 120)
    form = desk.widget.train_panel.form
    form.setValue(form.value().model_copy(update={"steps": 77}))
    quiet(desk)
    desk.widget.actions.close_project()
    quiet(desk)
    assert not desk.viewer.layers, "closing takes the layers of the project away"
    assert desk.widget.project.bar.said.text().startswith("No project")

    form.setValue(form.value().model_copy(update={"steps": 10}))
    desk.widget.actions.open_recent_project()
    quiet(desk)
    assert {layer.name for layer in desk.viewer.layers} >= {"stack", "stack boxes", "stack complete"}
    assert desk.viewer.layers["stack"].contrast_limits == [20, 120]
    assert session.boxes is not None
    assert [box.plane.index for box in session.boxes.boxset.boxes] == [(1,), (4,)]
    assert session.boxes.is_complete(plane(4))
    assert session.result is not None
    assert session.result.status == {plane(2): "accepted"}
    assert session.result.scores[plane(3)].doubt == pytest.approx(result.scores[plane(3)].doubt)
    assert session.result.scores[plane(3)].signs == {"size": 0.5, "look": 0.25}, "so the order is explained"
    for z in (2, 3):
        assert result.plane(plane(z)).any()
        np.testing.assert_array_equal(session.result.plane(plane(z)) > 0, result.plane(plane(z)) > 0)
    assert desk.widget.train_panel.config.steps == 77
    assert not desk.said
    with Project.open(folder, read_only=True) as project:
        assert project.unsaved == 0 or project.owner is not None


def notices(desk: Desk) -> list[str]:
    return [notice.text for notice in desk.widget.projects.notices]


def press_notice(desk: Desk, button: str) -> None:
    """Press a button beside a notice."""
    from qtpy.QtWidgets import QPushButton

    (found,) = [b for b in desk.widget.project.bar.findChildren(QPushButton) if b.text() == button]
    found.click()
    quiet(desk)


@pytest.fixture
def folder(open_desk: OpenDesk, stack: Path, tmp_path: Path) -> Path:
    """A project with boxes on two planes, which nobody has open."""
    place = tmp_path / "data" / "project"
    with Project.create(place, {"stack.tif": stack}, classes=["cell"]) as project:
        for z in (1, 4):
            here = PlaneId("stack.tif", (z,))
            project.set_boxes(here, [Box(4, 4, 14, 24, here, "cell")])
    return place


def test_the_list_to_review_is_made_once(open_desk: OpenDesk, folder: Path) -> None:
    with Project.open(folder) as project:
        project.paint(PlaneId("stack.tif", (2,)), np.ones((40, 50), int), status="predicted")
    desk = open_desk()
    lengths: list[int] = []
    desk.widget.session.result_changed.connect(
        lambda: lengths.append(desk.widget.review_panel.queue.count())  # which has been told before
    )
    open_again(desk, folder)
    assert lengths.count(1) == 1, "it was made anew while the project was opened"


def test_a_second_window_reads_only(open_desk: OpenDesk, folder: Path) -> None:
    first, second = open_desk(), open_desk()
    open_again(first, folder)
    open_again(second, folder)
    assert second.widget.projects.state == "read-only"
    (said,) = notices(second)
    assert said.startswith("Read-only: ")
    quiet(first)
    draw(second, 2)
    quiet(second)
    draw(first, 3)
    quiet(first)
    with Project.open(folder, read_only=True) as project:
        assert {p.index for p in project.boxes.planes} == {(1,), (3,), (4,)}
    first.widget.actions.close_project()
    quiet(first)
    open_again(second, folder)
    assert second.widget.projects.state == "saved", "the lock was given back"
    assert not notices(second)
    boxes = second.widget.session.boxes
    assert boxes is not None
    assert {p.index for p in boxes.boxset.planes} == {(1,), (3,), (4,)}, "and not what was never kept"


def test_a_moved_image_is_found(open_desk: OpenDesk, folder: Path, stack: Path) -> None:
    place = stack.parent / "plates" / "renamed.tif"
    place.parent.mkdir()
    shutil.move(stack, place)
    desk = open_desk()
    open_again(desk, folder)
    assert not notices(desk)
    boxes = desk.widget.session.boxes
    assert boxes is not None
    assert len(boxes.boxset) == 2


def test_a_missing_image_is_looked_for_where_the_user_says(
    open_desk: OpenDesk, folder: Path, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog

    away = tmp_path / "away"
    away.mkdir()
    shutil.move(stack, away / "stack.tif")
    desk = open_desk()
    open_again(desk, folder)
    assert notices(desk) == ["stack.tif is not found any more."]
    assert "stack" not in desk.viewer.layers
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(away))
    press_notice(desk, "Look in …")
    assert not notices(desk)
    assert "stack" in desk.viewer.layers


def test_a_changed_image_is_reported_and_not_paired_with_old_boxes(
    open_desk: OpenDesk, folder: Path, stack: Path
) -> None:
    tifffile.imwrite(stack, np.zeros((6, 40, 50), np.uint8), photometric="minisblack")
    desk = open_desk()
    open_again(desk, folder)
    assert notices(desk) == ["stack.tif has changed since it was worked on, and is not shown."]
    assert "stack" not in desk.viewer.layers
    press_notice(desk, "It is right")
    assert not notices(desk)
    boxes = desk.widget.session.boxes
    assert boxes is not None
    assert len(boxes.boxset) == 2
    assert not desk.said


def test_a_changed_image_that_is_open_gets_no_old_boxes(
    open_desk: OpenDesk, folder: Path, stack: Path
) -> None:
    tifffile.imwrite(stack, np.zeros((6, 40, 50), np.uint8), photometric="minisblack")
    desk = open_desk()
    open_file(desk, stack)
    open_again(desk, folder)
    assert desk.widget.session.boxes is None
    draw(desk, 2)
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        assert {p.index for p in project.boxes.planes} == {(1,), (4,)}
    press_notice(desk, "It is right")
    with Project.open(folder, read_only=True) as project:
        assert {p.index for p in project.boxes.planes} == {(1,), (2,), (4,)}
    assert [layer.name for layer in desk.widget.session.image_layers] == ["stack"]


def test_an_array_is_written_into_the_project(open_desk: OpenDesk, tmp_path: Path) -> None:
    desk = open_desk()
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 40, 50), np.uint16)
    desk.viewer.add_image(pixels, name="stack", scale=(2, 0.5, 0.5), units=("um", "um", "um"))
    make(desk, tmp_path / "project")
    draw(desk, 2)
    quiet(desk)
    copy = tmp_path / "project" / "images" / "stack.ome.tif"
    np.testing.assert_array_equal(tifffile.imread(copy), pixels)
    desk.widget.actions.close_project()
    quiet(desk)
    assert not desk.viewer.layers
    open_again(desk, tmp_path / "project")
    layer = desk.viewer.layers["stack"]
    np.testing.assert_array_equal(layer.data, pixels)
    assert layer.scale.tolist() == [2, 0.5, 0.5]
    assert len(desk.widget.session.all_boxes()) == 1


def test_planes_along_another_axis_are_written_as_they_are_seen(open_desk: OpenDesk, tmp_path: Path) -> None:
    desk = open_desk()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 7, 50), np.uint8)
    desk.viewer.add_image(pixels, name="stack", scale=(2, 0.5, 0.25), units=("um", "um", "um"))
    desk.viewer.dims.order = (1, 0, 2)
    desk.widget.session.choose_image(desk.viewer.layers["stack"])
    make(desk, tmp_path / "project")
    draw(desk, 3)
    quiet(desk)
    desk.widget.projects.close()
    quiet(desk)
    assert desk.widget.session.boxes is None
    assert desk.widget.boxes_panel.summary in ("no boxes yet", "waits for an image")
    assert desk.widget.deleted.here is None, "they are safe in the project"
    desk.viewer.layers.clear()
    desk.viewer.dims.order = (0, 1, 2)
    open_again(desk, tmp_path / "project")
    layer = desk.viewer.layers["stack"]
    np.testing.assert_array_equal(layer.data, np.moveaxis(pixels, 1, 0))
    assert layer.scale.tolist() == [0.5, 2, 0.25]
    boxes = desk.widget.session.boxes
    assert boxes is not None
    assert [p.index for p in boxes.boxset.planes] == [(3,)]
    assert not desk.said


def test_a_project_that_cannot_be_made_leaves_nothing(open_desk: OpenDesk, tmp_path: Path) -> None:
    desk = open_desk()
    desk.viewer.add_image(np.zeros((4, 40, 50)), name="stack")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "boxes.json").write_text("mine")
    make(desk, tmp_path / "taken")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["boxes.json"]
    assert desk.widget.projects.project is None
    assert len(desk.said) == 1
    (tmp_path / "file").write_text("")
    make(desk, tmp_path / "file" / "project")
    assert desk.widget.projects.project is None


def test_images_that_are_drawn_on_later(open_desk: OpenDesk, folder: Path, stack: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    other = stack.with_name("other.tif")
    tifffile.imwrite(other, np.full((6, 40, 50), 7, np.uint8), photometric="minisblack")
    open_file(desk, other)
    desk.widget.session.choose_image(desk.viewer.layers["other"])
    draw(desk, 0, image="other")
    quiet(desk)
    assert set(desk.widget.projects.project.entries) == {"stack.tif", "other.tif"}  # type: ignore[union-attr]
    assert not notices(desk), "a file comes into the project by itself"
    desk.viewer.add_image(np.zeros((6, 40, 50)), name="computed")
    desk.widget.session.choose_image(desk.viewer.layers["computed"])
    draw(desk, 5, image="computed")
    quiet(desk)
    assert notices(desk) == ["computed is not in the project: boxes on it are not kept."]
    press_notice(desk, "Keep a copy")
    assert not notices(desk)
    with Project.open(folder, read_only=True) as project:
        assert {(p.image, p.index) for p in project.boxes.planes} == {
            ("stack.tif", (1,)),
            ("stack.tif", (4,)),
            ("other.tif", (0,)),
            ("computed.ome.tif", (5,)),
        }


def close_dock(desk: Desk) -> None:
    desk.dock.destroyOnClose()


def close_viewer(desk: Desk) -> None:
    desk.viewer.close()


@pytest.mark.parametrize("close", [close_dock, close_viewer])
def test_the_window_closes_and_all_is_saved(
    open_desk: OpenDesk, folder: Path, close: Callable[[Desk], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    open_again(desk, folder)
    wrote: list[str] = []
    save = Project.save

    def noted(project: Project, **options: bool) -> None:
        wrote.append(threading.current_thread().name)
        save(project, **options)

    monkeypatch.setattr(Project, "save", noted)
    draw(desk, 2)
    close(desk)
    again = open_desk()
    open_again(again, folder)
    assert again.widget.projects.state == "saved", "the lock was given back"
    assert len(again.widget.session.all_boxes()) == 3
    assert "MainThread" not in wrote


def test_a_dock_that_was_closed_and_opened_again(open_desk: OpenDesk, folder: Path) -> None:
    from napari_boxprompt.gui.commands import open_widget

    desk = open_desk()
    open_again(desk, folder)
    desk.dock.destroyOnClose()
    desk.widget = open_widget(desk.viewer.__wrapped__)
    draw(desk, 0)  # while no project is open
    open_again(desk, folder)
    assert [layer.name for layer in desk.viewer.layers].count("stack") == 1
    with Project.open(folder, read_only=True) as project:
        assert {p.index for p in project.boxes.planes} == {(0,), (1,), (4,)}
        assert len(project.boxes) == 3


def test_one_of_many_images_is_opened(open_desk: OpenDesk, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for n in range(20):
        tifffile.imwrite(images / f"i{n:02d}.tif", rng.integers(0, 255, (40, 50), np.uint8))
    folder = tmp_path / "project"
    with Project.create(folder, images) as project:
        here = PlaneId("i07.tif")
        project.set_boxes(here, [Box(4, 4, 14, 24, here, "object")])
    desk = open_desk()
    open_again(desk, folder)
    bar = desk.widget.project.bar
    assert [layer.name for layer in desk.widget.session.image_layers] == ["i07"]
    assert not bar.images.isHidden()
    assert bar.images.count() == 20
    assert bar.images.currentText() == "i07.tif"
    bar.images.setCurrentText("i12.tif")
    bar.images.activated.emit(12)
    quiet(desk)
    assert [layer.name for layer in desk.widget.session.image_layers] == ["i07", "i12"]
    view = desk.widget.session.view
    assert view is not None
    assert view.name == "i12"
    desk.widget.session.new_boxes_layer().add_boxes(BoxSet((Box(1, 1, 9, 9, PlaneId("i12")),)))
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        assert {p.image for p in project.boxes.planes} == {"i07.tif", "i12.tif"}


def test_of_the_images_of_a_project_one_is_seen(open_desk: OpenDesk, tmp_path: Path) -> None:
    images, folder = tmp_path / "images", tmp_path / "project"
    images.mkdir()
    for name in "abc":
        tifffile.imwrite(
            images / f"{name}.tif", np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
        )
    with Project.create(folder, images) as project:
        for place in project.images.planes:
            project.set_boxes(place, [Box(4, 4, 14, 24, place, "object")], complete=True)
    desk = open_desk()
    open_again(desk, folder)

    def seen() -> set[str]:
        names = {layer.name for layer in desk.viewer.layers if layer.visible}
        return {name for name in names if not name.endswith("preview")}  # which comes when it is ready

    assert seen() == {"a", "a boxes", "a complete"}
    desk.widget.projects.show_image("c.tif")
    assert seen() == {"c", "c boxes", "c complete"}


def test_a_folder_of_images_becomes_a_project_without_opening_them_all(
    open_desk: OpenDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QComboBox, QFileDialog

    images, folder = tmp_path / "images", tmp_path / "project"
    images.mkdir()
    for n in range(20):
        pixels = np.random.default_rng(n).integers(0, 255, (40 + n, 50), np.uint8)
        tifffile.imwrite(images / f"i{n:02d}.tif", pixels)
    (images / "cut.tif").write_bytes(b"II")
    (images / "notes.txt").write_text("no image")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(images))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(folder), ""))
    desk = open_desk()
    desk.widget.actions.new_project_of_folder()
    quiet(desk)
    assert [layer.name for layer in desk.widget.session.image_layers] == ["i00"]
    assert any("1 of 21 images are not in the project" in said and "cut.tif" in said for said in desk.said)
    bar = desk.widget.project.bar
    assert [bar.images.itemText(i) for i in range(bar.images.count())] == [f"i{n:02d}.tif" for n in range(20)]
    bar.images.activated.emit(12)
    quiet(desk)
    desk.widget.session.new_boxes_layer().add_boxes(BoxSet((Box(1, 1, 9, 9, PlaneId("i12")),)))
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        assert [p.image for p in project.boxes.planes] == ["i12.tif"]
        assert len(project.entries) == 20
    assert desk.widget.projects.project is not None
    desk.widget.projects.project.accept(PlaneId("i03.tif"), np.ones((43, 50), np.uint8))
    desk.widget.projects.touch()
    monkeypatch.setattr(QComboBox, "showPopup", lambda _: None)  # it would wait for the mouse
    bar.images.showPopup()
    told = {bar.images.itemText(n) for n in (3, 12, 19)}
    bar.images.hidePopup()
    assert told == {"i03.tif  ·  accepted", "i12.tif  ·  boxed", "i19.tif"}
    assert bar.images.itemText(3) == "i03.tif"
    desk.widget.actions.new_project_of_folder()
    quiet(desk)
    assert "already holds project.json" in desk.said[-1]
    assert len(list(images.iterdir())) == 22, "nothing is written among the images"


def test_a_disk_that_refuses_is_told_and_tried_again(
    open_desk: OpenDesk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    open_again(desk, folder)
    quiet(desk)

    def refuse(*_: object, **__: object) -> None:
        raise OutputError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Project, "save", refuse)
        draw(desk, 2)
        desk.wait(lambda: desk.widget.projects.state == "not saved")
        assert "not saved" in desk.widget.project.bar.said.text()
        assert notices(desk) == ["The disk is full."]
    press_notice(desk, "Try again")
    assert not notices(desk)
    assert desk.widget.projects.state == "saved"


def test_recent_projects_are_in_the_menu(open_desk: OpenDesk, folder: Path, tmp_path: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    desk.widget.actions.close_project()
    quiet(desk)
    bar = desk.widget.project.bar
    bar.menu.aboutToShow.emit()
    (action,) = [action for action in bar.menu.actions() if action.text() == "project"]
    action.trigger()
    quiet(desk)
    assert desk.widget.projects.project is not None
    bar.menu.aboutToShow.emit()
    assert "project" not in [action.text() for action in bar.menu.actions()], "it is open"


def test_out_to_a_colleague_and_back(
    open_desk: OpenDesk, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog, QInputDialog

    desk = open_desk()
    open_again(desk, folder)
    names = {"Zip the project": "p.zip", "Export": "boxes.json", "Unpack to (a folder is made)": "theirs"}
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda _, title, *__: (str(tmp_path / names[title]), "")
    )
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "p.zip"), ""))
    monkeypatch.setattr(QInputDialog, "getItem", lambda *_: ("COCO", True))
    desk.widget.actions.export_project()
    quiet(desk)
    assert len(BoxSet.load(tmp_path / "boxes.json")) == 2
    desk.widget.actions.zip_project()
    quiet(desk)
    desk.widget.project.actions.open_zip()
    quiet(desk)
    project = desk.widget.projects.project
    assert project is not None
    assert project.folder == tmp_path / "theirs"
    assert len(desk.widget.session.all_boxes()) == 2
    here = PlaneId("stack.tif", (2,))
    BoxSet((Box(4, 4, 14, 24, here, "cell"),), {here: PlaneInfo((40, 50))}).save(tmp_path / "more.json")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "more.json"), ""))
    desk.widget.project.actions.bring_in()
    quiet(desk)
    assert {p.index for p in desk.widget.session.all_boxes().planes} == {(1,), (2,), (4,)}
    assert not [text for text in desk.said if "unexpected" in text]


@pytest.mark.parametrize("drawn", [True, False])
def test_labels_of_classes_that_overlap_are_imported(
    open_desk: OpenDesk, stack: Path, folder: Path, tmp_path: Path, drawn: bool
) -> None:
    labels = np.zeros((6, 2, 40, 50), np.uint8)
    labels[2, 0, 5:20, 5:20], labels[2, 1, 10:30, 10:30] = 1, 2
    write_labels(tmp_path / "stack_objects.tif", labels, classes=["cell", "nucleus"], overlap=True)
    desk, classes = open_desk(), ("cell", "nucleus")
    if drawn:
        open_again(desk, folder)
    else:
        open_file(desk, stack)
        make(desk, tmp_path / "project")
    desk.widget.projects.bring_in(tmp_path / "stack_objects.tif")
    quiet(desk)
    for _ in range(2):
        project, result = desk.widget.projects.project, desk.widget.session.result
        assert project is not None
        assert result is not None
        assert (project.classes, project.exclusive) == (classes, False)
        assert [one.only for one in result.siblings] == list(classes)
        for one, part in zip(result.siblings, labels.swapaxes(0, 1), strict=True):
            np.testing.assert_array_equal(one.layer.data > 0, part > 0)
        boxes = desk.widget.session.boxes or desk.widget.session.new_boxes_layer()
        boxes.add_boxes(BoxSet((Box(4, 4, 14, 24, plane(3), "cell"),)))
        quiet(desk)
        desk.widget.actions.close_project()
        quiet(desk)
        open_again(desk, project.folder)
    assert desk.said == ["Masks of 1 planes imported."]


def test_a_folder_without_a_project_closes_nothing(open_desk: OpenDesk, folder: Path, tmp_path: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    with pytest.raises(ProjectError, match="no project"):
        desk.widget.projects.open(tmp_path)
    assert desk.widget.projects.state == "saved"


@pytest.mark.usefixtures("tiny_generator")
@pytest.mark.parametrize("first", ["project", "training"])
def test_a_training_is_a_round_and_its_model_comes_back(
    open_desk: OpenDesk, tmp_path: Path, trained: TrainedModel, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.gui.test_widget import add_boxes, add_stack
    from tests.helpers.synthetic import quick_config

    desk = open_desk()
    add_stack(desk)
    folder = tmp_path / "project"
    if first == "project":
        make(desk, folder)
    desk.widget.session.new_boxes_layer()
    add_boxes(desk, 0, 1, 2)
    desk.widget.train_panel.form.setValue(quick_config())
    desk.widget.train_panel.train.click()
    desk.wait(lambda: not desk.widget.trainer.running)
    if first == "training":
        make(desk, folder)
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        (record,) = project.rounds
    assert (record.number, record.boxes, record.planes, record.model) == (1, 3, 3, "models/001")
    assert record.scores
    assert record.settings["steps"] == quick_config().steps
    assert (folder / "models" / "001" / "model.json").is_file()
    assert (record.held_out, record.held_out_boxes) == (1, 1)
    assert record.note.startswith("Models are not compared: only one box"), "judged after it was kept"

    asked: list[Path] = []

    def load(folder: Path, **_: object) -> TrainedModel:
        asked.append(folder)
        return trained

    monkeypatch.setattr("napari_boxprompt.api.load_model", load)
    desk.widget.actions.close_project()
    quiet(desk)
    open_again(desk, folder)
    assert asked == [folder / "models" / "001"]
    assert desk.widget.session.trained is trained


@pytest.mark.usefixtures("tiny_generator", "fake_weights")
def test_a_round_that_was_taken_back_stays_so(open_desk: OpenDesk, tmp_path: Path) -> None:
    from tests.gui.test_widget import add_boxes, add_stack
    from tests.helpers.synthetic import quick_config

    desk = open_desk()
    add_stack(desk, 9)
    folder = tmp_path / "project"
    desk.widget.session.new_boxes_layer()
    add_boxes(desk, *range(9))

    def train(**settings: object) -> None:
        changed = {"validate_every": 10, "hold_out": 0.4, **settings}
        desk.widget.train_panel.form.setValue(quick_config(**changed))
        desk.widget.train_panel.train.click()
        desk.wait(lambda: not desk.widget.trainer.running and not desk.widget.rounds.running)
        quiet(desk)

    train(steps=30, learning_rate=0.04)
    make(desk, folder)
    with Project.open(folder, read_only=True) as project:
        assert [(r.number, r.model) for r in project.rounds] == [(1, "models/001")], "work before the project"
    train(steps=1, learning_rate=1e-5)
    rounds = desk.widget.rounds
    assert rounds.offered == 1
    first, weights = desk.widget.session.trained, rounds.models[1].model.weights
    rounds.take_back()
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        assert [(r.number, r.taken_back, r.against) for r in project.rounds] == [(1, False, 0), (2, True, 1)]
        assert project.rounds[1].previous

    desk.widget.actions.close_project()
    quiet(desk)
    desk.widget.actions.open_recent_project()
    quiet(desk)
    trained = desk.widget.session.trained
    assert trained is not None
    assert trained is not first
    for name, value in trained.model.weights.items():
        assert np.array_equal(value, weights[name]), "the model of round 1"
    assert (rounds.current, rounds.last, len(rounds.rounds)) == (1, 2, 2)
    assert not desk.said


@pytest.mark.usefixtures("tiny_generator", "fake_weights")
def test_the_model_of_a_round_has_the_new_name_of_a_class(open_desk: OpenDesk, tmp_path: Path) -> None:
    from tests.gui.test_widget import add_boxes, add_stack
    from tests.helpers.synthetic import quick_config

    desk = open_desk()
    add_stack(desk)
    folder = tmp_path / "project"
    make(desk, folder)
    boxes = desk.widget.session.new_boxes_layer()
    add_boxes(desk, 0, 1, 2)
    desk.widget.train_panel.form.setValue(quick_config())
    desk.widget.train_panel.train.click()
    desk.wait(lambda: not desk.widget.trainer.running)
    boxes.rename_class(0, "cell")  # while the model is being kept
    boxes.rename_class(0, "nucleus")
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        (record,) = project.rounds
    assert (record.model, record.held_out_boxes) == ("models/001", 1)

    def kept() -> list[str]:
        return json.loads((folder / "models" / "001" / "model.json").read_text())["classes"]

    assert kept() == ["nucleus"]
    desk.widget.actions.close_project()
    quiet(desk)
    open_again(desk, folder)
    (boxes,) = desk.widget.session.box_layers
    boxes.rename_class(0, "cell")
    quiet(desk)
    assert kept() == ["cell"]
    with Project.open(folder, read_only=True) as project:
        assert project.rounds == (record,)
    assert desk.widget.session.trained is not None
    assert desk.widget.session.trained.model.classes == ("cell",)
    assert not desk.said


@pytest.mark.usefixtures("tiny_generator", "fake_weights")
def test_a_loaded_model_that_was_taken_back_is_kept(open_desk: OpenDesk, tmp_path: Path) -> None:
    from tests.gui.test_widget import add_boxes, add_stack
    from tests.helpers.synthetic import quick_config

    desk = open_desk()
    add_stack(desk, 9)
    session, rounds = desk.widget.session, desk.widget.rounds
    session.new_boxes_layer()
    add_boxes(desk, *range(9))

    def train(**settings: object) -> None:
        desk.widget.train_panel.form.setValue(quick_config(validate_every=10, hold_out=0.4, **settings))
        desk.widget.train_panel.train.click()
        desk.wait(lambda: not desk.widget.trainer.running and not rounds.running)
        quiet(desk)

    train(steps=30, learning_rate=0.04)
    make(desk, tmp_path / "project")
    assert session.trained is not None
    model = session.trained.model
    weights = {name: value * 1.001 for name, value in model.weights.items()}
    rounds.take_up(replace(session.trained, model=replace(model, weights=weights)), tmp_path / "theirs")
    train(steps=1, learning_rate=1e-5)
    assert rounds.offered == 2
    rounds.take_back()
    quiet(desk)
    desk.widget.actions.close_project()
    quiet(desk)
    desk.widget.actions.open_recent_project()
    quiet(desk)
    assert [(r.number, r.model, r.taken_back) for r in rounds.rounds] == [
        (1, "models/001", False),
        (2, "models/002", False),
        (3, "models/003", True),
    ]
    assert (rounds.current, rounds.last) == (2, 3)
    assert session.trained is not None
    for name, value in session.trained.model.weights.items():
        assert np.array_equal(value, weights[name]), "the loaded model"
    assert not desk.said


def test_a_project_without_a_model_does_not_predict_with_another_one(
    open_desk: OpenDesk, folder: Path, trained: TrainedModel
) -> None:
    desk = open_desk()
    desk.widget.session.set_model(trained)
    desk.widget.sections["Predict"].open(False)
    open_again(desk, folder)
    assert desk.widget.session.trained is None
    assert not desk.widget.sections["Predict"].is_open
