"""Work on projects in a worker: files that fit, copies of what does not, and nothing left behind."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

pytest.importorskip("napari", reason="napari is not installed")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)

from napari.components import ViewerModel

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.errors import OutputError, ProjectError
from napari_boxprompt.gui import project_pixels, project_work
from napari_boxprompt.gui.jobs import Stop
from napari_boxprompt.gui.layers import PlaneView
from napari_boxprompt.gui.project_images import Wanted, image_layer, look_of, wanted
from napari_boxprompt.gui.project_work import Opened
from napari_boxprompt.project import Project, Round

R = TypeVar("R")
SAID: dict[str, Any] = {"classes": ["cell"], "settings": {}}


def done(work: Generator[object, None, R]) -> R:
    """Run work to its end and return what it gives."""
    while True:
        try:
            next(work)
        except StopIteration as ended:
            value: R = ended.value
            return value


def item(pixels: npt.NDArray[Any], name: str = "image", **more: Any) -> Wanted:
    """An image layer that is no file, as a worker gets it."""
    viewer = ViewerModel()
    axes = {key: more.pop(key) for key in ("axes", "channel_axis", "channel") if key in more}
    layer = viewer.add_image(pixels, name=name, **more)
    view = replace(PlaneView.from_viewer(layer, viewer), **axes)
    return wanted(view, look_of(view, None, by_hand=False))


def make(folder: Path, *items: Wanted, copies: bool = True) -> Opened:
    work = project_work.make_project(Stop(), folder, items, copies=copies, said=SAID, holder=[])
    return done(work)


def noise(*shape: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def read_again(folder: Path) -> Opened:
    opened = done(project_work.open_project(Stop(), folder, holder=[]))
    opened.project.abandon()
    return opened


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "int64", "uint64", "bool"])
def test_a_copy_holds_every_type(tmp_path: Path, dtype: str) -> None:
    pixels = noise(3, 40, 50, dtype=dtype)
    make(tmp_path / "p", item(pixels)).project.close()
    (loaded,) = read_again(tmp_path / "p").images
    np.testing.assert_array_equal(loaded.data, pixels)


def test_a_copy_of_colours_and_of_many_axes(tmp_path: Path) -> None:
    rgb, deep = noise(2, 40, 50, 3, dtype="uint8"), noise(2, 2, 3, 40, 50)
    items = [item(rgb, "rgb", rgb=True), item(deep, "deep")]
    opened = make(tmp_path / "p", *items)
    assert opened.names == ["rgb.ome.tif", "deep.tif"]
    opened.project.close()
    colour, stack = read_again(tmp_path / "p").images
    np.testing.assert_array_equal(colour.data, rgb)
    assert image_layer(colour).rgb
    np.testing.assert_array_equal(stack.data, deep)


def test_a_channel_is_written_as_it_is_seen(tmp_path: Path) -> None:
    pixels = noise(3, 2, 40, 50)
    one = item(pixels, channel_axis=None, scale=(4, 1, 0.5, 0.25), units=("um", "pixel", "um", "um"))
    assert one.extent == (3, 2), "without a channel axis, channels are planes"
    viewer = ViewerModel()
    layer = viewer.add_image(pixels, scale=(4, 1, 0.5, 0.25), units=("um", "pixel", "um", "um"))
    view = PlaneView(layer, (2, 3), 1, 1)
    channel = wanted(view, look_of(view, None, by_hand=False))
    make(tmp_path / "p", channel).project.close()
    (loaded,) = read_again(tmp_path / "p").images
    np.testing.assert_array_equal(loaded.data, pixels[:, 1])
    assert image_layer(loaded).scale.tolist() == [4, 0.5, 0.25]
    assert loaded.entry.pixel_size == {
        "y": (0.5, "micrometer"),
        "x": (0.25, "micrometer"),
        "z": (4.0, "micrometer"),
    }


@pytest.mark.parametrize(
    ("place", "axes", "sizes"),
    [
        ({"scale": (4, -0.5, 0.25)}, (1, 2), {"z": 4.0, "y": 0.5, "x": 0.25}),
        ({"affine": np.diag([4, 0.5, 0.25, 1])}, (1, 2), {"z": 4.0, "y": 0.5, "x": 0.25}),
        ({"affine": np.diag([0.5, 4, 0.25, 1])}, (0, 2), {"z": 4.0, "y": 0.5, "x": 0.25}),
        ({"scale": (4, 0.5, 0.25), "units": ("s", "um", "um")}, (1, 2), {"y": 0.5, "x": 0.25}),
    ],
)
def test_a_project_is_told_the_size_of_a_pixel(
    place: dict[str, Any], axes: tuple[int, int], sizes: dict[str, float]
) -> None:
    given = item(noise(40, 41, 42), axes=axes, **{"units": ("um",) * 3, **place})
    assert given.pixel_size == {name: (size, "micrometer") for name, size in sizes.items()}


def test_a_file_with_other_planes_is_copied_and_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, noise(3, 40, 50), photometric="minisblack")
    cut = replace(item(noise(40, 50)), path=path)
    opened = make(tmp_path / "p", cut)
    (said,) = opened.troubles
    assert "other planes" in said
    assert opened.project.entries["image.ome.tif"].extent == ()
    opened.project.abandon()
    with pytest.raises(ProjectError, match="other planes"):
        make(tmp_path / "q", cut, copies=False)
    assert not (tmp_path / "q").exists()


def test_files_of_the_same_name(tmp_path: Path) -> None:
    items = []
    for n, place in enumerate(("a", "b", "c/b")):
        (tmp_path / place).mkdir(parents=True)
        path = tmp_path / place / "x.tif"
        tifffile.imwrite(path, noise(40, 50) + n, photometric="minisblack")
        items.append(replace(item(noise(40, 50)), path=path))
    opened = make(tmp_path / "p", *items, items[0])
    assert opened.names == ["x.tif", "b/x.tif", "x-2.tif", "x.tif"]
    opened.project.abandon()


def test_a_folder_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "notes.txt").write_text("mine")

    def refuse(*_: object, **__: object) -> None:
        raise OutputError("The disk is full.")

    monkeypatch.setattr(Project, "save", refuse)
    for name in ("p", "q"):
        with pytest.raises(OutputError, match="full"):
            make(tmp_path / name, item(noise(40, 50)))
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "q").exists()


def test_giving_up_leaves_nothing(tmp_path: Path) -> None:
    work = project_work.make_project(
        Stop(),
        tmp_path / "p",
        [item(noise(40, 50), "a"), item(noise(40, 50), "b")],
        copies=True,
        said=SAID,
        holder=[],
    )
    next(work)
    next(work)
    assert (tmp_path / "p" / "project.json").exists()
    work.close()
    assert not (tmp_path / "p").exists()


def test_a_large_file_is_read_plane_by_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(3, 4, 40, 50)
    make(tmp_path / "p", item(pixels)).project.close()
    monkeypatch.setattr(project_pixels, "LAZY_BYTES", 1)
    (loaded,) = read_again(tmp_path / "p").images
    assert not isinstance(loaded.data, np.ndarray)
    assert loaded.data.shape == pixels.shape
    np.testing.assert_array_equal(np.asarray(loaded.data[2, 1]), pixels[2, 1])


def test_a_reader_that_is_gone(tmp_path: Path) -> None:
    pixels = noise(3, 40, 50)
    opened = make(tmp_path / "p", item(pixels))
    (name,) = opened.project.entries
    look = opened.project.entries[name].look
    assert look is not None
    opened.project.set_look(name, look.model_copy(update={"reader": "no-such-plugin"}))
    opened.project.close()
    again = read_again(tmp_path / "p")
    assert not again.troubles
    np.testing.assert_array_equal(again.images[0].data, pixels)


def test_what_cannot_be_read_is_told_and_the_rest_is_opened(tmp_path: Path) -> None:
    opened = make(tmp_path / "p", item(noise(40, 50), "a"), item(noise(40, 50), "b"))
    here = PlaneId("a.ome.tif")
    opened.project.accept(here, noise(40, 50))
    opened.project.close()
    (mask,) = (path for path in (tmp_path / "p" / "masks").rglob("plane*.tif"))
    mask.write_bytes(b"II*\0nothing")
    again = read_again(tmp_path / "p")
    assert [loaded.entry.name for loaded in again.images] == ["a.ome.tif", "b.ome.tif"]
    assert len(again.troubles) == 1


def test_closing_apart_saves_and_gives_the_lock_back(tmp_path: Path) -> None:
    project = make(tmp_path / "p", item(noise(40, 50))).project
    here = PlaneId("image.ome.tif")
    project.set_boxes(here, [Box(1, 1, 9, 9, here, "cell")])
    left = [project]
    project_work.close_apart(left)
    assert not left
    opened = done(project_work.open_project(Stop(), tmp_path / "p", holder=[]))
    assert not opened.project.read_only, "opening waits for what is being closed"
    assert opened.project.unsaved == 0
    assert len(opened.project.boxes) == 1
    opened.project.close()


def test_the_model_of_a_round_is_kept_with_its_record(tmp_path: Path, trained: TrainedModel) -> None:
    project = make(tmp_path / "p", item(noise(40, 50))).project
    record = Round(number=project.next_round(), boxes=3, scores={"box_agreement": 0.5})
    kept = project_work.keep_round(project, record, trained.model)
    assert kept.model == "models/001"
    assert project.rounds == (kept,)
    assert (project.folder / kept.model / "model.json").is_file()
    project.close()


def test_a_model_that_cannot_be_written_makes_no_round(tmp_path: Path, trained: TrainedModel) -> None:
    project = make(tmp_path / "p", item(noise(40, 50))).project
    (project.folder / "models").write_text("in the way")
    with pytest.raises(OutputError):
        project_work.keep_round(project, Round(number=1), trained.model)
    assert project.rounds == ()
    project.abandon()
