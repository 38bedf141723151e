"""Images of a project that are not open: predicted into the project, opened one by one for the review."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk
from tests.gui.test_project_desk import open_again, quiet

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.gui import predicting as module
from napari_boxprompt.gui import unopened
from napari_boxprompt.project import Project, keep_proposal

pytestmark = pytest.mark.usefixtures("fake_encoders")

IMAGES = tuple(f"i{n:02d}.tif" for n in range(16))
OpenDesk = Callable[..., Desk]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of more images than are opened with it, the first with a box."""
    source = tmp_path / "images"
    source.mkdir()
    for n, name in enumerate(IMAGES):
        pixels = np.random.default_rng(n).integers(0, 60, (64, 64), np.uint8)
        pixels[10:30, 12 + n : 40 + n] = 200
        tifffile.imwrite(source / name, pixels)
    with Project.create(tmp_path / "project", source, classes=("cell",)) as project:
        project.set_boxes(PlaneId(IMAGES[0]), [Box(10, 12, 30, 40, PlaneId(IMAGES[0]), "cell")])
    return tmp_path / "project"


@pytest.fixture
def desk(open_desk: OpenDesk, folder: Path, trained: TrainedModel) -> Desk:
    """The project with one image in the viewer, and a model."""
    desk = open_desk()
    open_again(desk, folder)
    desk.widget.session.set_model(trained)
    assert shown(desk) == ["i00"]
    return desk


def shown(desk: Desk) -> list[str]:
    return [layer.name for layer in desk.widget.session.image_layers]


def statuses(folder: Path) -> dict[str, str]:
    with Project.open(folder, read_only=True) as project:
        return {plane.image: project.status(plane) for plane in project.images.planes}


def test_the_review_goes_on_to_images_that_are_not_open(desk: Desk, folder: Path) -> None:
    review, panel = desk.widget.review, desk.widget.review_panel
    desk.widget.actions.predict_unopened()
    quiet(desk)
    assert shown(desk) == ["i00"], "nothing was opened for it"
    assert statuses(folder) == {name: "predicted" if name != IMAGES[0] else "boxed" for name in IMAGES}
    assert any("masks of 15 planes are in the project" in said for said in desk.said)
    assert desk.widget.sections["Review"].is_open
    assert panel.away.text().startswith("15 planes to review in images that are not open")
    assert not panel.buttons["next"].isHidden()
    assert panel.buttons["accept"].isHidden(), "there is nothing to accept yet"
    assert panel.summary == "15 planes not opened yet"

    with Project.open(folder, read_only=True) as project:
        scores = {plane.image: project.record(plane).score for plane in project.images.planes[1:]}
        assert None not in scores.values()
        masks = {plane.image: project.mask(plane) for plane in project.images.planes}
    first, second = sorted(scores, key=lambda name: -scores[name])[:2]
    review.next()
    quiet(desk)
    assert shown(desk) == ["i00", Path(first).stem]
    assert desk.widget.session.plane == PlaneId(Path(first).stem)
    layer = desk.viewer.layers[f"{Path(first).stem} objects"]
    kept = masks[first]
    assert kept is not None
    assert kept.labels.any(), "else the comparison says nothing"
    np.testing.assert_array_equal(layer.data, kept.labels)

    review.accept()
    quiet(desk)
    assert shown(desk)[-1] == Path(second).stem, "accepting goes on to the next"
    assert statuses(folder)[first] == "accepted"
    assert panel.away.text().startswith("13 planes")
    review.previous()
    assert desk.widget.session.plane == PlaneId(Path(first).stem)


def test_accepted_images_are_closed_again_but_for_the_last_few(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unopened, "KEPT", 2)
    desk.widget.actions.predict_unopened()
    quiet(desk)
    names = [plane.image for plane in desk.widget.project.unopened.waiting()]
    review, panel = desk.widget.review, desk.widget.review_panel
    review.next()
    quiet(desk)
    review.edit()
    desk.viewer.layers[f"{Path(names[0]).stem} objects"].paint((50, 50), 9)
    review.accept()
    quiet(desk)
    review.reject()
    quiet(desk)
    assert shown(desk) == ["i00", *(Path(name).stem for name in names[1:3])], "one accepted, and it is gone"
    assert not [layer for layer in desk.viewer.layers if layer.name.startswith(Path(names[0]).stem)]
    assert panel.summary.startswith("1 accepted, 1 rejected"), "what is accepted counts all the same"
    review.accept()
    quiet(desk)
    assert shown(desk) == ["i00", *(Path(name).stem for name in names[1:4])], "a rejected one waits, open"
    taught = desk.widget.session.lessons.elsewhere
    assert taught is not None
    assert [*taught.masked] == [PlaneId(Path(names[0]).stem)]
    review.previous()
    assert desk.widget.session.plane == PlaneId(Path(names[2]).stem)

    desk.widget.projects.show_image(names[0])
    quiet(desk)
    layer = desk.viewer.layers[f"{Path(names[0]).stem} objects"]
    assert layer.data[50, 50] == 9
    result = desk.widget.session.results.of(PlaneId(Path(names[0]).stem))
    assert result is not None
    assert result.status == {PlaneId(Path(names[0]).stem): "accepted"}
    layer.paint((5, 5), 9)
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        kept = project.mask(PlaneId(names[0]))
        assert kept is not None
        np.testing.assert_array_equal(kept.labels, layer.data)
        said = {name: project.status(PlaneId(name)) for name in names[:4]}
    assert list(said.values()) == ["accepted", "rejected", "accepted", "predicted"]

    for _ in range(2):
        review.go(next(plane for plane in review.order.waiting() if plane.image != Path(names[1]).stem))
        review.accept()
        quiet(desk)
    assert Path(names[0]).stem in shown(desk), "this time the user has opened it"


def test_open_images_are_reviewed_before_others(desk: Desk) -> None:
    desk.widget.predicting.plane()
    quiet(desk)
    desk.widget.actions.predict_unopened()
    quiet(desk)
    desk.widget.session.viewer.layers.selection.clear()
    desk.widget.review.next()  # the only open plane is on screen: it is seen
    quiet(desk)
    assert len(shown(desk)) == 2


def test_work_on_images_that_are_not_open_stays(desk: Desk, folder: Path) -> None:
    project = desk.widget.projects.project
    assert project is not None
    mine = np.zeros((64, 64), np.uint8)
    mine[:5, :5] = 1
    project.accept(PlaneId("i03.tif"), mine, {1: "cell"})
    project.paint(PlaneId("i04.tif"), mine, classes={1: "cell"})
    project.set_status(PlaneId("i05.tif"), "rejected")
    assert len(desk.widget.project.unopened.planes()) == 13
    desk.widget.actions.predict_unopened()
    quiet(desk)
    said = statuses(folder)
    assert [said[f"i0{n}.tif"] for n in (3, 4, 5)] == ["accepted", "corrected", "predicted"]
    for name in ("i03.tif", "i04.tif"):
        kept = project.mask(PlaneId(name))
        assert kept is not None
        np.testing.assert_array_equal(kept.labels, mine)


def test_what_is_done_is_kept_when_it_is_stopped(
    desk: Desk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go_on = module.predict, threading.Event()

    def slow(stop: Any, **given: Any) -> Generator[object, None, int]:
        for number, event in enumerate(work := real(stop, **given)):
            if number == 4:
                go_on.wait(20)
            yield event
        return work.gi_frame is None

    monkeypatch.setattr(module, "predict", slow)
    desk.widget.actions.predict_unopened()
    desk.wait(lambda: "predicted" in statuses(folder).values())
    desk.widget.predicting.stop()
    go_on.set()
    quiet(desk)
    done = list(statuses(folder).values()).count("predicted")
    assert 0 < done < 15
    assert f"Stopped after {done} of 15 planes; these are kept." in desk.said


def test_a_class_that_only_the_model_knows_comes_into_the_project(
    open_desk: OpenDesk, folder: Path, trained: TrainedModel
) -> None:
    with Project.open(folder) as project:
        project.set_boxes(PlaneId(IMAGES[0]), [])
        project.set_classes(("nucleus",))
    desk = open_desk()
    open_again(desk, folder)
    desk.widget.session.set_model(trained)
    desk.widget.actions.predict_unopened()
    quiet(desk)
    desk.widget.review.next()
    quiet(desk)
    with Project.open(folder, read_only=True) as project:
        assert project.classes == ("nucleus", *trained.model.classes)
    (result,) = desk.widget.session.results.alive
    assert result.count > 0
    assert result.used == trained.model.classes


def test_what_was_predicted_without_a_viewer_waits_for_the_review(open_desk: OpenDesk, folder: Path) -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[10:30, 12:40] = 1
    with Project.open(folder) as project:
        for n, doubt in ((3, 0.1), (4, 0.9), (7, 0.5), (9, 0.95)):
            keep_proposal(project, PlaneId(IMAGES[n]), labels, {1: "cell"}, doubt, {"size": 0.0})
        project.set_status(PlaneId(IMAGES[9]), "rejected")
    desk = open_desk()
    open_again(desk, folder)
    assert shown(desk) == ["i00"]
    assert desk.widget.review_panel.summary == "4 planes not opened yet"
    panel = desk.widget.review_panel
    assert panel.away.text().startswith("4 planes")
    assert not panel.buttons["next"].isHidden()
    desk.widget.actions.close_project()
    quiet(desk)
    assert panel.away.isHidden()
    open_again(desk, folder)
    for name in ("i04", "i07", "i03", "i09"):
        desk.widget.review.next()
        quiet(desk)
        assert shown(desk)[-1] == name, "most unsure first, what was rejected last"
    assert panel.away.isHidden()


def test_masks_that_nobody_has_looked_at_are_exported_if_the_user_says_so(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog, QMessageBox

    project, asked = desk.widget.projects.project, list[str]()
    assert project is not None
    labels = np.ones((64, 64), np.uint8)
    project.accept(PlaneId("i01.tif"), labels, {1: "cell"})
    keep_proposal(project, PlaneId("i02.tif"), labels, {1: "cell"}, 0.5, {})
    desk.widget.projects.touch()
    buttons = QMessageBox.StandardButton
    answers = [buttons.Cancel, buttons.No, buttons.Yes]
    places = iter(answers)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / next(places).name))
    given = iter(answers)
    monkeypatch.setattr(QMessageBox, "question", lambda *said: (asked.append(said[2]), next(given))[1])
    for _ in answers:
        desk.widget.project.actions.export("tiff")
        quiet(desk)
    written = [path.parent.name for path in sorted(tmp_path.glob("*/*_objects.ome.tif"))]
    assert written == ["No", "Yes", "Yes"]
    project.set_status(PlaneId("i02.tif"), "rejected")
    desk.widget.projects.touch()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "rejected"))
    desk.widget.project.actions.export("tiff")
    quiet(desk)
    assert len(asked) == 3, "there is nothing to ask about"


def test_an_image_that_cannot_be_opened_is_passed_over(desk: Desk, folder: Path) -> None:
    desk.widget.actions.predict_unopened()
    quiet(desk)
    waiting = [plane.image for plane in desk.widget.project.unopened.waiting()]
    (folder.parent / "images" / waiting[0]).unlink()
    desk.widget.review.next()
    quiet(desk)
    assert shown(desk) == ["i00"]
    assert waiting[0] in desk.said[-1]
    assert desk.widget.review_panel.away.text().startswith("14 planes")
    desk.widget.review.next()
    quiet(desk)
    assert shown(desk) == ["i00", Path(waiting[1]).stem]


def test_it_is_offered_where_there_is_something_to_predict(
    desk: Desk, open_desk: OpenDesk, folder: Path
) -> None:
    panel = desk.widget.predict_panel
    menu = panel.more.menu()
    assert menu is not None
    menu.aboutToShow.emit()
    offered = [action.text() for action in menu.actions() if action.isVisible()]
    assert "Images of the project that are not open (15)" in offered
    desk.widget.actions.close_project()
    quiet(desk)
    menu.aboutToShow.emit()
    assert not [a for a in menu.actions() if a.isVisible() and "project" in a.text()]
    desk.widget.actions.predict_unopened()
    assert "No project is open for writing" in desk.said[-1]


def test_without_a_model_nothing_begins(open_desk: OpenDesk, folder: Path) -> None:
    desk = open_desk()
    open_again(desk, folder)
    desk.widget.actions.predict_unopened()
    assert "There is no model yet" in desk.said[-1]
    assert set(statuses(folder).values()) == {"new", "boxed"}
