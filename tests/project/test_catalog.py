from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import tifffile
from tests.project.conftest import DEEP, FLAT, SECOND, SIDE

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.errors import ImageError, ProjectError
from napari_boxprompt.project import Project, catalog

BOX = Box(3, 3, 20, 20, FLAT, "cell", 1)


@pytest.fixture(autouse=True)
def boxed(folder):
    """A box on the flat image."""
    with Project.open(folder) as project:
        project.set_boxes(FLAT, [BOX])


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that were hashed."""
    names = []

    def note(path):
        names.append(path.name)
        return original(path)

    original = catalog.fingerprint
    monkeypatch.setattr(catalog, "fingerprint", note)
    return names


def change(path, shape=(SIDE, SIDE)):
    tifffile.imwrite(path, np.full(shape, 7, np.uint8), photometric="minisblack")


def test_nothing_is_hashed_or_opened_where_nothing_has_changed(folder, hashed, monkeypatch):
    monkeypatch.setattr(catalog, "open_reader", None)
    with Project.open(folder) as project:
        assert not project.problems
        assert len(project.images) == 7
        assert project.images.shape(DEEP) == (SIDE, SIDE)
    assert hashed == []


def test_pixels_are_those_of_the_files(folder, images):
    with Project.open(folder) as project:
        expected = tifffile.imread(images / "stack.tif")[2]
        assert np.array_equal(project.images.read(DEEP)[..., 0], expected)
        with pytest.raises(ImageError):
            project.images.read(PlaneId("stack.tif", (9,)))


def test_renamed_and_moved_images_are_found_again(folder, images, hashed):
    (images / "deeper").mkdir()
    (images / "flat.tif").rename(images / "deeper" / "new name.tif")
    (images / "stack.tif").rename(images / "second copy.tif")
    with Project.open(folder) as project:
        assert not project.problems
        assert project.images.shape(FLAT) == (SIDE, SIDE)
        assert project.usable_boxes().boxes == (BOX,)
        assert project.entries["flat.tif"].path == "../images/deeper/new name.tif"
    hashed.clear()
    with Project.open(folder) as project:
        assert not project.problems
    assert hashed == []


def test_project_and_images_move_together(folder, tmp_path, hashed):
    moved = (tmp_path / "data").rename(tmp_path / "other place")
    with Project.open(moved / "project") as project:
        assert not project.problems
    assert hashed == []


def test_images_elsewhere_are_found_where_they_are_looked_for(folder, images, tmp_path):
    place = shutil.move(images, tmp_path / "archive" / "2026")
    with Project.open(folder) as project:
        assert set(project.missing) == {"flat.tif", "second.tif", "stack.tif"}
        assert len(project.images) == 0
        assert project.boxes.boxes == (BOX,)
        assert "say in which folder" in project.problems[0]
        assert set(project.find_images([place])) == {"flat.tif", "second.tif", "stack.tif"}
        assert not project.problems
    with Project.open(folder, read_only=True) as project:
        assert not project.missing


def test_search_while_opening_works_read_only_too(folder, images, tmp_path):
    place = shutil.move(images, tmp_path / "archive")
    with Project.open(folder, read_only=True, search=[place]) as project:
        assert not project.missing
        assert len(project.images) == 7


def test_a_new_time_with_the_same_content_is_the_same_image(folder, images, hashed):
    os.utime(images / "flat.tif", (1, 1))
    with Project.open(folder) as project:
        assert not project.problems
    assert hashed == ["flat.tif"]
    with Project.open(folder):
        pass
    assert hashed == ["flat.tif"]


@pytest.mark.parametrize("same_size", [True, False])
def test_a_changed_image_is_reported_and_not_used(folder, images, same_size):
    path = images / "flat.tif"
    if same_size:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        change(path, (SIDE + 1, SIDE))
    with Project.open(folder) as project:
        assert project.changed == ("flat.tif",)
        assert "another content" in project.problems[0]
        assert FLAT not in project.images
        assert project.boxes.boxes == (BOX,)
        assert project.usable_boxes().boxes == ()
        if not same_size:
            with pytest.raises(ProjectError, match="65 x 64"):
                project.confirm_image("flat.tif")
            return
        project.confirm_image("flat.tif")
        assert project.usable_boxes().boxes == (BOX,)
    with Project.open(folder) as project:
        assert not project.problems


def test_names_that_were_swapped(folder, images):
    (images / "flat.tif").rename(images / "x.tif")
    (images / "second.tif").rename(images / "flat.tif")
    (images / "x.tif").rename(images / "second.tif")
    with Project.open(folder) as project:
        assert not project.problems
        assert project.entries["flat.tif"].path == "../images/second.tif"
        expected = tifffile.imread(images / "second.tif")
        assert np.array_equal(project.images.read(FLAT)[..., 0], expected)


def test_add_and_remove_images(folder, images, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    change(more / "new.tif")
    with Project.open(folder) as project:
        assert project.add_images(more) == ("new.tif",)
        assert project.add_images(more) == ()
        assert PlaneId("new.tif") in project.images
        change(more / "second.tif")
        with pytest.raises(ProjectError, match=r"second\.tif"):
            project.add_images(more)
        project.remove_images(["flat.tif"])
        assert not project.boxes.boxes
    with Project.open(folder) as project:
        assert set(project.images.names) == {"new.tif", "second.tif", "stack.tif"}
        assert SECOND in project.images


@pytest.mark.parametrize("wrong", [{"q": (1.0, "m")}, {"x": (float("nan"), "m")}, {"x": (-1.0, "m")}])
def test_a_wrong_size_of_a_pixel_is_refused(images, tmp_path, wrong):
    with pytest.raises(ProjectError, match="pixel_size"):
        Project.create(tmp_path / "new", images, pixel_size=wrong)
    assert not (tmp_path / "new").exists()


def test_a_bad_image_is_named_and_leaves_no_project(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0nonsense")
    with pytest.raises(ImageError, match=r"broken\.tif"):
        Project.create(tmp_path / "project", tmp_path / "broken.tif")
    assert not (tmp_path / "project").exists()
