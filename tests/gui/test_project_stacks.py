"""Projects and a layer whose planes are not those of the file it names: a stack opened from several files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.io
import tifffile

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk
from tests.gui.test_project_desk import make, notices, open_again, press_notice, quiet

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.gui import project_actions
from napari_boxprompt.gui.project_images import file_of

pytestmark = pytest.mark.usefixtures("fake_encoders")

OpenDesk = Callable[..., Desk]


@pytest.fixture(params=["png", "tif"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """Three planes, a file for each."""
    paths = [tmp_path / f"cells {z}.{request.param}" for z in range(3)]
    for z, path in enumerate(paths):
        skimage.io.imsave(path, np.full((40, 50), 9 * z, np.uint8), check_contrast=False)
    return paths


def open_files(desk: Desk, *paths: Path) -> None:
    """Open one file, or several as a stack, which names the first as napari does it."""
    from napari.layers._source import layer_source

    planes = [skimage.io.imread(path) for path in paths]
    with layer_source(path=str(paths[0])):
        desk.viewer.add_image(np.stack(planes) if len(planes) > 1 else planes[0], name=paths[0].stem)


def draw(desk: Desk, image: str, *index: int) -> None:
    desk.widget.session.choose_image(desk.viewer.layers[image])
    boxes = desk.widget.session.new_boxes_layer()
    boxes.add_boxes(BoxSet((Box(4, 4, 14, 24, PlaneId(image, index)),)))
    quiet(desk)


def test_a_stack_is_not_taken_for_its_first_file(
    open_desk: OpenDesk, files: list[Path], tmp_path: Path
) -> None:
    desk = open_desk()
    open_files(desk, files[0])
    make(desk, tmp_path / "project")
    draw(desk, "cells 0")
    desk.widget.actions.close_project()
    quiet(desk)
    open_files(desk, *files)
    open_again(desk, tmp_path / "project")
    table = desk.widget.projects.table
    assert table is not None
    layer = table.layer_of(files[0].name)
    assert layer is not None
    assert layer.ndim == 2, "the project has its own image"
    boxes = desk.widget.session.boxes_of(layer)
    assert boxes is not None
    assert [box.plane.index for box in boxes.boxset.boxes] == [()]


def test_a_copy_of_a_stack_is_offered_kept_and_found_again(
    open_desk: OpenDesk, files: list[Path], tmp_path: Path
) -> None:
    desk = open_desk()
    open_files(desk, files[1])
    folder = tmp_path / "project"
    make(desk, folder)
    open_files(desk, *files)
    draw(desk, "cells 0", 2)
    assert notices(desk) == ["cells 0 is not in the project: boxes on it are not kept."]
    press_notice(desk, "Keep a copy")
    assert not notices(desk)
    copy = folder / "images" / "cells 0.ome.tif"
    assert tifffile.imread(copy).shape == (3, 40, 50)
    assert file_of(desk.viewer.layers["cells 0"]) == copy, "so it is found again in this viewer"
    desk.widget.actions.close_project()
    quiet(desk)
    open_again(desk, folder)
    boxes = desk.widget.session.boxes_of(desk.viewer.layers["cells 0"])
    assert boxes is not None
    assert [box.plane.index for box in boxes.boxset.boxes] == [(2,)]


def test_it_is_asked_before_a_stack_is_copied(
    open_desk: OpenDesk, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    def question(_: Any, __: str, text: str, *___: Any) -> Any:
        asked.append(text)
        return project_actions.QMessageBox.StandardButton.Cancel

    monkeypatch.setattr(project_actions.QMessageBox, "question", question)
    monkeypatch.setattr(
        project_actions.QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "project"), "")
    )
    desk = open_desk()
    open_files(desk, files[2])
    open_files(desk, *files)
    desk.widget.actions.new_project()
    quiet(desk)
    (text,) = asked
    assert text.startswith("cells 0: no file on the disk has these planes. Write a copy")
    assert not (tmp_path / "project").exists()
