"""The quick way to read masks: the same pixels as with tifffile, and nothing that it does not know."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import ImageError
from napari_boxprompt.outputs import write_labels
from napari_boxprompt.project import Project
from napari_boxprompt.project.plain_tiff import read_plain

PLAIN: dict[str, Any] = {"compression": "zlib", "photometric": "minisblack"}


def some(shape: tuple[int, ...] = (40, 50), dtype: Any = np.uint16) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("shape", [(40, 50), (33, 1), (900, 701)])  # the last one has several strips
@pytest.mark.parametrize("name", ["mask.tif", "mask.ome.tif"])
def test_what_is_written_is_read(tmp_path: Path, dtype: Any, shape: tuple[int, int], name: str) -> None:
    labels = some(shape, dtype)
    write_labels(tmp_path / name, labels, pixel_size={"x": (0.5, "micrometer"), "y": (0.5, "micrometer")})
    found = read_plain((tmp_path / name).read_bytes())
    assert found is not None
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == dtype
    assert found.flags.writeable, "strokes are painted into it"


@pytest.mark.parametrize(
    ("labels", "how"),
    [
        (some(), {"compression": None}),
        (some(), {"predictor": True}),
        (some(), {"byteorder": ">"}),
        (some(), {"bigtiff": True}),
        (some(), {"tile": (16, 16)}),
        (some(), {"photometric": "miniswhite"}),
        (some((40, 50, 3), np.uint8), {"photometric": "rgb"}),
        (some((3, 40, 50)), {}),
        (some(dtype=np.int16), {}),
        (some(dtype=np.float32), {}),
        (some(dtype=np.uint64), {}),
        (some(), {"extratags": [(274, 3, 1, 3, True)]}),  # turned upside down
    ],
)
def test_anything_else_is_left_to_others(tmp_path: Path, labels: npt.NDArray[Any], how: Any) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", labels, **{**PLAIN, **how})
    assert read_plain((tmp_path / "mask.tif").read_bytes()) is None


def test_what_is_damaged_is_not_read(tmp_path: Path) -> None:
    labels = some((8, 9))
    write_labels(tmp_path / "mask.ome.tif", labels)
    data = (tmp_path / "mask.ome.tif").read_bytes()
    broken = [data[:length] for length in range(len(data))]
    for place in range(len(data)):
        broken += [data[:place] + bytes([value]) + data[place + 1 :] for value in (0, 255)]
    found = [read_plain(one) for one in broken]
    whole = [one for one in found if one is not None]
    # A description, which lies at the end, may be damaged; pixels have a checksum.
    assert all(np.array_equal(one.ravel(), labels.ravel()) for one in whole)
    assert len(whole) < len(broken) - 2 * 200
    assert not any(one is not None for one in found[:200])


def test_a_tag_without_an_end_is_not_followed(tmp_path: Path) -> None:
    write_labels(tmp_path / "mask.tif", some())
    data = bytearray((tmp_path / "mask.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    struct.pack_into("<I", data, first + 2 + 4, 2**32 - 1)
    assert read_plain(bytes(data)) is None


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of two planes with masks on the disk, to be read only."""
    tifffile.imwrite(tmp_path / "stack.tif", np.ones((2, 40, 50), np.uint8), photometric="minisblack")
    with Project.create(tmp_path / "project", tmp_path / "stack.tif") as project:
        for z in range(2):
            project.paint(PlaneId("stack.tif", (z,)), np.full((40, 50), z + 1), status="predicted")
    return Project.open(tmp_path / "project", read_only=True)


def mask_file(project: Project, z: int) -> Path:
    mask = project.record(PlaneId("stack.tif", (z,))).mask
    assert mask is not None
    return project.folder / mask.file


def read(project: Project, z: int) -> npt.NDArray[Any]:
    mask = project.mask(PlaneId("stack.tif", (z,)))
    assert mask is not None
    return mask.labels


def test_masks_of_a_project_are_read_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("with thousands of masks this takes seconds")

    monkeypatch.setattr(tifffile, "TiffFile", refuse)
    assert np.all(read(project, 1) == 2)


def test_a_mask_that_another_program_has_written_is_read_too(project: Project) -> None:
    tifffile.imwrite(mask_file(project, 0), np.full((40, 50), 7, np.uint16), byteorder=">")
    assert np.all(read(project, 0) == 7)


def test_a_file_of_the_same_size_and_time_is_noticed(project: Project) -> None:
    path = mask_file(project, 0)
    assert np.all(read(project, 0) == 1)
    before = path.stat()
    write_labels(path, np.full((40, 50), 3, np.uint8))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert np.all(read(project, 0) == 3)


def test_a_mask_that_is_cut_short_is_told(project: Project) -> None:
    path = mask_file(project, 0)
    path.write_bytes(path.read_bytes()[:230])  # in its first pixels
    with pytest.raises(ImageError, match="damaged"):
        read(project, 0)
