"""Projects in a real viewer: made from what is open, closed and opened again, shared, moved, changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk
from tests.gui.test_results import found

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
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
    assert desk.widget.project.bar.said.text().startswith("Not in a project")
    make(desk, folder)
    assert "<b>project</b>" in desk.widget.project.bar.said.text()
    draw(desk, 1, 4)
    session = desk.widget.session
    assert session.boxes is not None
    session.boxes.toggle_complete(plane(4))
    (result,) = [session.results.restore(session.view, {"object": (1.0, 0.0, 0.0, 1.0)})]
    result.add(found(2, ["a"]))
    session.set_status(plane(2), "accepted")
    desk.viewer.layers["stack"].contrast_limits = (20, 120)
    form = desk.widget.train_panel.form
    form.setValue(form.value().model_copy(update={"steps": 77}))
    quiet(desk)
    desk.widget.actions.close_project()
    quiet(desk)
    assert not desk.viewer.layers, "closing takes the layers of the project away"
    assert desk.widget.project.bar.said.text().startswith("Not in a project")

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
    np.testing.assert_array_equal(session.result.plane(plane(2)) > 0, result.plane(plane(2)) > 0)
    assert desk.widget.train_panel.config.steps == 77
    assert not desk.said
    with Project.open(folder, read_only=True) as project:
        assert project.unsaved == 0 or project.owner is not None
