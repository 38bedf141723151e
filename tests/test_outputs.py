from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_boxprompt._readers import ArrayReader
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import ImageError, OutputError
from napari_boxprompt.images import Images
from napari_boxprompt.instances import Instance
from napari_boxprompt.outputs import ResultWriter, prepare_folder, prepare_results, write_json, write_labels
from napari_boxprompt.prediction import Prediction

SHAPE = (32, 40)


def images_of(**shapes: Sequence[int]) -> Images:
    named = {name.replace("__", "/").replace("_", "."): shape for name, shape in shapes.items()}
    return Images({name: ArrayReader(np.zeros(shape, np.uint8), name) for name, shape in named.items()})


def prediction(plane: PlaneId, number: int = 1, shape: tuple[int, ...] = SHAPE) -> Prediction:
    mask = np.zeros(shape, np.uint8)
    mask[..., 2:6, 3:8] = 1
    score = number / 10
    item = Instance(number, "cell", 20, (2, 3, 6, 8), score)
    return Prediction(plane, mask, mask * 200, mask.astype(np.uint32) * number, (item,))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "objects.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_single_planes(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE, sub__b_tif=SHAPE)
    with ResultWriter(tmp_path, images) as writer:
        for number, plane in enumerate(images.planes, start=1):
            writer.add(prediction(plane, number))
            assert names(tmp_path) >= {"a_mask.tif", "a_objects.tif"}  # written as soon as it is whole
    found = {"a_mask.tif", "a_objects.tif", "sub/b_mask.tif", "sub/b_objects.tif", "objects.csv"}
    assert names(tmp_path) == found
    assert {path.relative_to(tmp_path).as_posix() for path in writer.written} == found
    expected = prediction(images.planes[1], 2)
    mask, labels = (tifffile.imread(tmp_path / "sub" / f"b_{kind}.tif") for kind in ("mask", "objects"))
    assert (mask.dtype, labels.dtype) == (np.uint8, np.uint16)
    np.testing.assert_array_equal(mask, expected.mask)
    np.testing.assert_array_equal(labels, expected.labels)
    with tifffile.TiffFile(tmp_path / "a_mask.tif") as handle:
        assert handle.series[0].axes == "YX"


def test_table_of_objects(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE, b_tif=(2, *SHAPE))
    with ResultWriter(tmp_path, images) as writer:
        for number, plane in enumerate(images.planes, start=1):
            writer.add(prediction(plane, number))
    found = rows(tmp_path)
    assert [(row["image"], row["plane"], row["object"]) for row in found] == [
        ("a.png", "", "1"),
        ("b.tif", "0", "2"),
        ("b.tif", "1", "3"),
    ]
    assert found[0] == {
        "image": "a.png",
        "plane": "",
        "object": "1",
        "class": "cell",
        "area_px": "20",
        "score": "0.1000",
        "y0": "2",
        "x0": "3",
        "y1": "6",
        "x1": "8",
    }


@pytest.mark.parametrize(("depth", "axes"), [((3,), "ZYX"), ((2, 3), "TZYX"), ((2, 1, 3), "QTZYX")])
def test_stacks(tmp_path: Path, depth: tuple[int, ...], axes: str) -> None:
    images = images_of(s_tif=(*depth, *SHAPE))
    with ResultWriter(tmp_path, images) as writer:
        for number, plane in enumerate(reversed(images.planes), start=1):
            assert not names(tmp_path)
            writer.add(prediction(plane, number))
    labels = tifffile.imread(tmp_path / "s_objects.tif")
    assert labels.shape == (*depth, *SHAPE)
    for number, plane in enumerate(reversed(images.planes), start=1):
        np.testing.assert_array_equal(labels[plane.index], prediction(plane, number).labels)
    with tifffile.TiffFile(tmp_path / "s_objects.tif") as handle:
        assert handle.series[0].axes == axes


def test_some_planes_of_a_stack(tmp_path: Path) -> None:
    images = images_of(s_tif=(5, *SHAPE))
    chosen = images.restrict([images.planes[3], images.planes[1]])
    with ResultWriter(tmp_path, chosen) as writer:
        for plane in chosen.planes:
            writer.add(prediction(plane))
    mask = tifffile.imread(tmp_path / "s_mask.tif")
    assert mask.shape == (4, *SHAPE)
    assert mask.any(axis=(1, 2)).tolist() == [False, True, False, True]


def test_overlapping_classes_have_an_axis(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE, s_tif=(4, *SHAPE))
    with ResultWriter(tmp_path, images, ["cell", "nucleus"], overlap=True) as writer:
        for plane in images.planes:
            writer.add(prediction(plane, shape=(2, *SHAPE)))
    with tifffile.TiffFile(tmp_path / "s_objects.tif") as handle:
        assert handle.series[0].axes == "ZCYX"
        assert handle.shaped_metadata[0]["Channel"] == {"Name": ["cell", "nucleus"]}
    assert tifffile.imread(tmp_path / "a_mask.tif").shape == (2, *SHAPE)
    assert tifffile.imread(tmp_path / "s_mask.tif").shape == (4, 2, *SHAPE)
    assert tifffile.imread(tmp_path / "s_mask.tif").sum() == 4 * 2 * 20


@pytest.mark.parametrize("relative", [False, True])
def test_images_of_one_name_do_not_overwrite_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("out") if relative else tmp_path / "out"
    images = images_of(a_png=SHAPE, a_tif=SHAPE, b__a_png=SHAPE)
    with ResultWriter(folder, images) as writer:
        for number, plane in enumerate(images.planes, start=1):
            writer.add(prediction(plane, number))
    assert names(folder) == {
        *("a_mask.tif", "a_objects.tif", "a.tif_mask.tif", "a.tif_objects.tif"),
        *("b/a_mask.tif", "b/a_objects.tif", "objects.csv"),
    }
    for name, number in (("a", 1), ("a.tif", 2), ("b/a", 3)):
        assert tifffile.imread(folder / f"{name}_objects.tif").max() == number
    assert len(set(writer.written)) == len(writer.written) == 7


def test_many_objects_need_wide_numbers(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE, b_png=SHAPE)
    with ResultWriter(tmp_path, images) as writer:
        for plane, number in zip(images.planes, (2**16 - 1, 2**16), strict=True):
            writer.add(prediction(plane, number))
    assert tifffile.imread(tmp_path / "a_objects.tif").dtype == np.uint16
    wide = tifffile.imread(tmp_path / "b_objects.tif")
    assert wide.dtype == np.uint32
    assert wide.max() == 2**16


def test_what_there_is_of_an_unfinished_stack_is_kept_apart(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE, sub__s_tif=(3, *SHAPE), z_png=SHAPE)
    with ResultWriter(tmp_path, images) as writer:
        for plane in images.planes[:3]:
            writer.add(prediction(plane))
    whole = {"a_mask.tif", "a_objects.tif", "objects.csv"}
    part = {f"sub/s_2_of_3_planes_{name}" for name in ("mask.tif", "objects.tif", "objects.csv")}
    assert names(tmp_path) == whole | part
    assert {path.relative_to(tmp_path).as_posix() for path in writer.written} == whole | part
    assert [row["image"] for row in rows(tmp_path)] == ["a.png"]
    table = (tmp_path / "sub" / "s_2_of_3_planes_objects.csv").read_text("utf-8")
    assert [line.split(",")[:2] for line in table.splitlines()[1:]] == [
        ["sub/s.tif", "0"],
        ["sub/s.tif", "1"],
    ]
    mask = tifffile.imread(tmp_path / "sub" / "s_2_of_3_planes_mask.tif")
    assert mask.any(axis=(1, 2)).tolist() == [True, True, False]
    assert writer.outcome == (
        "Stopped: 1 of 3 images are finished; 2 of 3 planes of sub/s.tif are in s_2_of_3_planes_mask.tif. "
        f"6 files were written to {tmp_path}."
    )


def test_images_that_are_left_out(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE, s_tif=(3, *SHAPE), z_png=SHAPE)
    with ResultWriter(tmp_path, images, left_out={"b.png": "b.png is empty."}) as writer:
        assert writer.planes == 5
        for plane in images.planes[:2]:
            writer.add(prediction(plane))
        for plane in images.planes[2:4]:
            writer.leave_out(plane, ImageError("s.tif is damaged."))
        assert writer.planes == 3, "one of the stack was done"
        assert writer.outcome.startswith("Stopped: 1 of 4 images are finished. 2 files were written")
        writer.add(prediction(images.planes[-1]))
    assert writer.missing == (
        "2 of 4 images were left out. b.png is empty. s.tif is damaged. "
        "1 of 3 planes of s.tif are in s_1_of_3_planes_mask.tif."
    )
    assert writer.outcome == f"8 files were written to {tmp_path}. {writer.missing}"
    assert {row["image"] for row in rows(tmp_path)} == {"a.png", "z.png"}
    assert tifffile.imread(tmp_path / "s_1_of_3_planes_mask.tif").any(axis=(1, 2)).tolist() == [1, 0, 0]


def test_many_images_that_are_left_out(tmp_path: Path) -> None:
    images = images_of(**{f"i{n:02}_png": SHAPE for n in range(20)})
    with ResultWriter(tmp_path, images) as writer:
        for name in images.names[:15]:
            writer.leave_out(PlaneId(name), ImageError(f"{name} is bad."))
    assert writer.missing == (
        "15 of 20 images were left out. i00.png is bad. i01.png is bad. i02.png is bad. Left out too: "
        f"{', '.join(images.names[3:13])} and 2 more."
    )
    assert not names(tmp_path)


def test_stopped_before_anything(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, images_of(s_tif=(3, *SHAPE))) as writer:
        pass
    assert not names(tmp_path), "an empty table would say that there are no objects"
    assert writer.outcome == "Stopped before the first plane was done; nothing was written."


def test_all_is_done(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE)
    with ResultWriter(tmp_path, images) as writer:
        writer.add(prediction(images.planes[0]))
    assert writer.outcome == f"3 files were written to {tmp_path}."


@pytest.mark.parametrize("finished", [0, 1])
def test_error_keeps_what_was_finished(tmp_path: Path, finished: int) -> None:
    images = images_of(a_png=SHAPE, b_png=SHAPE)

    def work() -> None:
        with ResultWriter(tmp_path, images) as writer:
            for plane in images.planes[:finished]:
                writer.add(prediction(plane))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert names(tmp_path) == ({"a_mask.tif", "a_objects.tif", "objects.csv"} if finished else set())


def test_nothing_found_is_an_empty_table(tmp_path: Path) -> None:
    images = images_of(a_png=SHAPE)
    empty = np.zeros(SHAPE, np.uint8)
    with ResultWriter(tmp_path, images) as writer:
        writer.add(Prediction(images.planes[0], empty, empty, empty.astype(np.uint32), ()))
    assert rows(tmp_path) == []
    header = "image,plane,object,class,area_px,score,y0,x0,y1,x1\n"
    assert (tmp_path / "objects.csv").read_bytes().decode() == header


def test_labels_are_compressed_and_exact(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (2, 64, 64)).astype(np.uint32)
    write_labels(tmp_path / "deep" / "x.tif", labels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "deep" / "x.tif"), labels)
    assert (tmp_path / "deep" / "x.tif").stat().st_size < labels.nbytes / 4


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"a": [1, 2.5], "b": None})
    text = (tmp_path / "report.json").read_text("utf-8")
    assert json.loads(text) == {"a": [1, 2.5], "b": None}
    assert text.endswith("}\n")


# --- folder -------------------------------------------------------------------------------------------------


def test_folder_is_made(tmp_path: Path) -> None:
    folder = prepare_folder(str(tmp_path / "a" / "b"))
    assert folder.is_dir()
    assert not list(folder.iterdir())
    (folder / "mine.txt").write_text("kept", "utf-8")
    assert prepare_folder(folder) == folder
    assert names(folder) == {"mine.txt"}


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(OutputError, match="choose another folder"):
            prepare_folder(folder)


def some_images(folder: Path, *names: str) -> Path:
    """Write images."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, np.ones(SHAPE, np.uint8))
    return folder


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("data", "data"),
        ("data", "data/sub/.."),
        ("data", "link"),
        ("link", "data"),
        ("linked", "data"),
        ("data/*.tif", "data"),
        ("data/**/*.tif", "data"),
        ("data/sub/*.tif", "data/sub"),
        ("data/s*/*.tif", "data/sub"),
        ("one", "one"),
    ],
)
def test_results_do_not_lie_among_the_images(tmp_path: Path, source: str, out: str) -> None:
    data = some_images(tmp_path / "data", "a.tif", "a_mask.tif", "sub/b.tif", "sub/c.tif")
    some_images(tmp_path / "one", "a.tif")
    (tmp_path / "linked").mkdir()
    try:
        (tmp_path / "link").symlink_to(data, target_is_directory=True)
        for name in ("a.tif", "a_mask.tif"):
            (tmp_path / "linked" / name).symlink_to(data / name)
    except OSError:
        pytest.skip("links cannot be made here")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="choose another folder, for instance"):
        prepare_results(str(tmp_path / source), tmp_path / out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("source", "out"), [("data", "data/masks"), ("data/**/*.tif", "masks"), ("data", "x")]
)
def test_results_lie_apart_from_the_images(tmp_path: Path, source: str, out: str) -> None:
    some_images(tmp_path / "data", "a.tif", "b.tif", "sub/c.tif")
    images, folder, _ = prepare_results(str(tmp_path / source), tmp_path / out)
    assert images.names[0] == "a.tif"
    assert folder == tmp_path / out
    assert folder.is_dir()


def test_nothing_is_made_where_there_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="check the path"):
        prepare_results(tmp_path / "gone.tif", tmp_path / "out")
    assert not names(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_single_image_may_have_its_results_beside_it(tmp_path: Path) -> None:
    some_images(tmp_path, "a.tif", "b_mask.tif")
    for _ in range(2):  # also a second time
        images, folder, _ = prepare_results(tmp_path / "a.tif", tmp_path)
        with ResultWriter(folder, images, ["cell"]) as writer:
            writer.add(prediction(images.planes[0]))
    assert {"a_mask.tif", "a_objects.tif", "objects.csv"} <= names(tmp_path)


@pytest.mark.parametrize("mine", ["a_mask.tif", "a_objects.tif", "objects.csv"])
def test_results_beside_a_single_image_overwrite_nothing(tmp_path: Path, mine: str) -> None:
    some_images(tmp_path, "a.tif")
    if mine == "objects.csv":
        (tmp_path / mine).write_text("my,own,table\n", "utf-8")
    else:
        some_images(tmp_path, mine)
    with pytest.raises(OutputError, match=rf"{mine} would be overwritten.*choose another folder"):
        prepare_results(tmp_path / "a.tif", tmp_path)
    assert names(tmp_path) == {"a.tif", mine}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            prepare_folder(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(a_png=SHAPE, b_tif=(3, *SHAPE), c_png=SHAPE)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def predict() -> None:
        first, second, _, _, last = images.planes
        with writer:
            writer.add(prediction(first))
            writer.add(prediction(second))
            monkeypatch.setattr(tifffile, "imwrite", full)
            writer.add(prediction(last))

    writer = ResultWriter(tmp_path, images)
    with pytest.raises(OutputError, match=r"c_mask\.tif.*full"):
        predict()
    assert writer.written[-1].name == "objects.csv", "what fits is written"
    assert [row["image"] for row in rows(tmp_path)] == ["a.png"]
