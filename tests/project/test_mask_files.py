"""Files of masks: ours are decoded quickly, and any others as tifffile reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_boxprompt.errors import ImageError
from napari_boxprompt.outputs import write_labels
from napari_boxprompt.project.mask_files import read_labels


def labels(*shape: int, dtype: str = "uint16") -> Any:
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("shape", [(40, 50), (1, 40, 50), (3, 40, 50), (700, 600), (2, 700, 600)])
def test_our_files_need_no_tifffile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: str
) -> None:
    path = tmp_path / "mask.ome.tif"
    write_labels(path, labels(*shape, dtype=dtype), {"x": (0.5, "micrometer"), "y": (0.5, "micrometer")})
    wanted = tifffile.imread(path)
    monkeypatch.setattr(tifffile, "imread", lambda _: pytest.fail("read by tifffile"))
    found = read_labels(path)
    np.testing.assert_array_equal(found, wanted)
    assert (found.dtype, found.flags.writeable) == (wanted.dtype, True)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "byteorder": ">"},
        {"compression": "zlib", "bigtiff": True},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "photometric": "rgb"},
    ],
)
def test_files_of_other_programs(tmp_path: Path, how: dict[str, Any]) -> None:
    path, mask = tmp_path / "mask.tif", labels(48, 64, 3) if "photometric" in how else labels(48, 64)
    tifffile.imwrite(path, mask, **{"photometric": "minisblack", **how})
    np.testing.assert_array_equal(read_labels(path), mask)


def test_signed_numbers_stay_so(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", -labels(48, 64, dtype="int16"), compression="zlib")
    assert read_labels(tmp_path / "mask.tif").min() < 0


def test_pages_of_different_sizes_are_read_as_tifffile_does(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    for mask in (labels(48, 64), labels(24, 32)):
        tifffile.imwrite(path, mask, photometric="minisblack", compression="zlib", metadata=None, append=True)
    np.testing.assert_array_equal(read_labels(path), labels(48, 64))


@pytest.mark.parametrize("part", [0, 7, 100, 0.5])
def test_a_file_that_was_cut_off_is_damaged(tmp_path: Path, part: float) -> None:
    path = tmp_path / "mask.ome.tif"
    write_labels(path, labels(40, 50))
    data = path.read_bytes()
    path.write_bytes(data[: int(part if part >= 1 else part * len(data))])
    with pytest.raises(ImageError, match=r"mask\.ome\.tif"):
        read_labels(path)


def test_a_list_of_pages_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    path, mask = tmp_path / "mask.ome.tif", labels(40, 50)
    write_labels(path, mask)
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[end : end + 4] = data[4:8]
    path.write_bytes(data)
    np.testing.assert_array_equal(read_labels(path), mask)
