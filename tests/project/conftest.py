"""What the tests of projects share: a few images, and a project about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.project import Project

SIDE = 64
FLAT, SECOND = PlaneId("flat.tif"), PlaneId("second.tif")
DEEP = PlaneId("stack.tif", (2,))


def write_images(folder: Path) -> Path:
    """Write two flat images and a stack of five planes, all of them different."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name, shape in {
        "flat.tif": (SIDE, SIDE),
        "second.tif": (SIDE, SIDE),
        "stack.tif": (5, SIDE, SIDE),
    }.items():
        tifffile.imwrite(folder / name, rng.integers(0, 255, shape, np.uint8), photometric="minisblack")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folder of the images."""
    return write_images(tmp_path / "data" / "images")


@pytest.fixture
def folder(tmp_path: Path, images: Path) -> Path:
    """Folder of a project that nobody has opened."""
    place = tmp_path / "data" / "project"
    Project.create(place, images, classes=["cell", "nucleus"]).close()
    return place


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    """A project that is open for writing."""
    opened = Project.open(folder)
    yield opened
    opened.abandon()


@pytest.fixture
def reopen(folder: Path) -> Iterator[Callable[..., Project]]:
    """Open the project as it is on the disk, to look at it."""
    opened: list[Project] = []

    def look(**options: object) -> Project:
        opened.append(Project.open(folder, **{"read_only": True, **options}))  # type: ignore[arg-type]
        return opened[-1]

    yield look
    for one in opened:
        one.abandon()
