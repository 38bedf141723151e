"""Files in and out of the widget."""

import json
import shlex
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import skimage.io
import tifffile

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers._source import layer_source
from typer.testing import CliRunner

from napari_boxprompt.boxes import Box, BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxError, BoxPromptError
from napari_boxprompt.gui import exchange
from napari_boxprompt.gui.from_file import boxes_from_file
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.work import TrainingTask
from napari_boxprompt.normalization import Normalization


@pytest.fixture
def session() -> Session:
    viewer = ViewerModel()
    viewer.add_image(np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50), name="my [stack]")
    return Session(viewer)


def boxes_of(name: str) -> BoxSet:
    boxes = (Box(5, 6, 15, 26, PlaneId(name, (0,)), "a"), Box(1, 1, 9, 9, PlaneId(name, (2,)), "b"))
    return BoxSet(boxes, {PlaneId(name, (0,)): PlaneInfo((40, 50), complete=True)}, ("a", "b"))


STOP: Any = threading.Event()


def to_its_end(work: Generator[object, None, str]) -> str:
    """Do what a worker would, at once."""
    while True:
        try:
            next(work)
        except StopIteration as ended:
            return str(ended.value)


class Later:
    """In the place of jobs: holds what was started until it is wanted."""

    def __init__(self) -> None:
        self.work: Any = None
        self.then: Any = None

    def start(self, _: str, work: Any, *, on_result: Any, on_end: Any = None) -> None:
        self.work, self.then = work, on_result

    def end(self) -> None:
        self.then(to_its_end(self.work(STOP)))


def exported(result: Any, path: Path) -> str:
    jobs, said = Later(), list[str]()
    exchange.export_labels(cast("Any", jobs), result, path, said.append)
    jobs.end()
    (sentence,) = said
    return sentence


def command_of(wanted: TrainingTask, session: Session, folder: Path) -> str:
    return to_its_end(exchange.repeat_command(STOP, wanted, exchange.source_files(session), folder))


def test_boxes_go_out_and_come_back(session: Session, tmp_path: Path) -> None:
    session.new_boxes_layer().add_boxes(boxes_of("my [stack]"))
    assert exchange.save_boxes(session, tmp_path / "boxes.json") == 2
    before = session.all_boxes()
    assert session.boxes is not None
    session.boxes.delete([0, 1])
    assert boxes_from_file(session, tmp_path / "boxes.json").count == 2
    assert session.all_boxes().boxes == before.boxes
    assert session.all_boxes().planes[PlaneId("my [stack]", (0,))].complete


def test_nothing_to_export(session: Session, tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="no boxes"):
        exchange.save_boxes(session, tmp_path / "boxes.json")
    with pytest.raises(BoxPromptError, match="predict first"):
        exported(None, tmp_path / "labels.tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["labels.tif", "labels.ome.tif", "labels"])
def test_labels_are_exported(session: Session, trained: Any, tmp_path: Path, name: str) -> None:
    session.viewer.layers[0].scale = (2, 0.5, 0.25)
    session.viewer.layers[0].units = ("um", "um", "um")
    session.set_model(trained)
    assert session.view is not None
    (result,) = session.new_results([session.view])["my [stack]"]
    result.plane(PlaneId("my [stack]", (1,)))[3:9, 4:20] = 70_000
    said = exported(result, tmp_path / name)
    result.status[PlaneId("my [stack]", (1,))] = "rejected"
    again = exported(result, tmp_path / name)
    assert again == said.replace("labels;", "labels, also of 1 rejected plane;")
    (path,) = tmp_path.iterdir()
    assert said == f"{path.name} has the labels; it is in {tmp_path}."
    assert path.suffix == ".tif"
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), result.layer.data)
        if "ome" in name:
            assert file.is_ome
            pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
            assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeZ"]) == (0.25, 2.0)
            assert pixels["PhysicalSizeXUnit"] == "µm"


@pytest.mark.parametrize(
    ("shape", "channel_axis", "place", "axes"),
    [
        ((6, 2, 40, 50), 1, {"scale": (2, 1, 0.5, 0.25)}, "ZYX"),
        ((2, 6, 40, 50), 0, {"scale": (1, 2, 0.5, 0.25)}, "ZYX"),
        ((3, 6, 2, 40, 50), 2, {"scale": (7, 2, 1, 0.5, 0.25)}, "TZYX"),
        ((6, 40, 50), None, {"scale": (2, -0.5, 0.25)}, "ZYX"),
        ((6, 40, 50), None, {"affine": np.diag([2, 0.5, 0.25, 1])}, "ZYX"),
    ],
)
@pytest.mark.parametrize("overlap", [False, True])
def test_labels_have_the_axes_and_the_pixels_of_the_image(
    trained: Any,
    tmp_path: Path,
    shape: tuple[int, ...],
    channel_axis: int | None,
    place: dict[str, Any],
    axes: str,
    overlap: bool,
) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(shape, np.uint8), name="image", units=("um",) * len(shape), **place)
    session = Session(viewer)
    session.choose_image(layer, channel_axis, None if channel_axis is None else 0)
    model = replace(trained.model, classes=("cell", "nucleus"), exclusive=False) if overlap else trained.model
    session.set_model(replace(trained, model=model))
    assert session.view is not None
    results = session.new_results([session.view])["image"]
    plane = PlaneId("image", (0,) * len(session.view.extent))
    for number, result in enumerate(results, start=1):
        result.plane(plane)[3:9, 4:20] = number
    exported(session.result, tmp_path / "labels.ome.tif")
    with tifffile.TiffFile(tmp_path / "labels.ome.tif") as file:
        assert file.series[0].axes == (f"{axes[:-2]}CYX" if overlap else axes)
        labels = file.asarray()
        assert labels.shape == (*session.view.extent, *([2] if overlap else []), 40, 50)
        for number, part in enumerate(np.moveaxis(labels, -3, 0) if overlap else [labels], start=1):
            np.testing.assert_array_equal(part[plane.index][3:9, 4:20], number)
            assert np.count_nonzero(part) == 6 * 16
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"PhysicalSize{axis}"] for axis in "XYZ"] == [0.25, 0.5, 2.0]
        assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "XYZ"} == {"µm"}


def test_what_is_painted_while_labels_are_written_is_not_in_the_file(
    session: Session, trained: Any, tmp_path: Path
) -> None:
    session.set_model(trained)
    assert session.view is not None
    (result,) = session.new_results([session.view])["my [stack]"]
    jobs, said = Later(), list[str]()
    exchange.export_labels(cast("Any", jobs), result, tmp_path / "labels.tif", said.append)
    assert not said, "nothing is written where the user waits"
    assert not list(tmp_path.iterdir())
    result.layer.data[0, :4] = 7
    jobs.end()
    assert not tifffile.imread(tmp_path / "labels.tif").any()


@pytest.mark.parametrize("name", ["labels.tif", "labels.ome.tif"])
def test_classes_that_overlap_are_channels(session: Session, trained: Any, tmp_path: Path, name: str) -> None:
    model = replace(trained.model, classes=("cell", "nucleus"), exclusive=False)
    session.set_model(replace(trained, model=model))
    assert session.view is not None
    cells, nuclei = session.new_results([session.view])["my [stack]"]
    cells.plane(PlaneId("my [stack]", (1,)))[3:20, 4:20] = 70_000
    nuclei.plane(PlaneId("my [stack]", (1,)))[5:9, 6:10] = 1
    both = np.stack([cells.layer.data, nuclei.layer.data], axis=1)
    said = exported(session.result, tmp_path / name)
    assert said.startswith(f"{name} has the labels, a channel for each class: cell, nucleus; it is in")
    with tifffile.TiffFile(tmp_path / name) as file:
        assert file.series[0].axes == "ZCYX"
        np.testing.assert_array_equal(file.asarray(), both)
        if file.is_ome:
            channels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
            assert [channel["Name"] for channel in channels] == ["cell", "nucleus"]
    nuclei.layer.data = nuclei.layer.data[:, :-1]
    with pytest.raises(BoxPromptError, match="have different sizes"):
        exported(session.result, tmp_path / "more.tif")
    session.viewer.layers.remove(nuclei.layer)  # that on top, with which the rest is not gone
    assert "cell; it is in" in exported(session.result, tmp_path / name)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / name).squeeze(), cells.layer.data)


def test_a_name_gets_the_ending_that_was_chosen(tmp_path: Path) -> None:
    ome, plain, coco = "OME-TIFF (*.ome.tif)", "TIFF (*.tif)", "COCO (*.json)"
    assert exchange.named(f"{tmp_path}/a", ome) == tmp_path / "a.ome.tif"
    assert exchange.named(f"{tmp_path}/a.b", plain) == tmp_path / "a.b.tif"
    assert exchange.named(f"{tmp_path}/a", coco) == tmp_path / "a.json"
    for typed in ("a.tif", "a.ome.tif", "a.TIFF", "a.json"):
        assert exchange.named(f"{tmp_path}/{typed}", ome) == tmp_path / typed
    assert exchange.named(f"{tmp_path}/a", "") == tmp_path / "a"
    (tmp_path / "a.json").touch()
    with pytest.raises(BoxPromptError, match="type its whole name"):
        exchange.named(f"{tmp_path}/a", coco)


def test_files_go_beside_the_image(session: Session, tmp_path: Path) -> None:
    assert exchange.proposed(session, "labels.tif") == "labels.tif"
    session.viewer.layers[0]._source = session.viewer.layers[0].source.model_copy(
        update={"path": str(tmp_path / "stack.tif")}
    )
    assert exchange.proposed(session, "labels.tif") == str(tmp_path / "labels.tif")


def run_command(command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Hand a command to the command line, and see what training it would start."""
    import napari_boxprompt.api
    import napari_boxprompt.cli.data
    from napari_boxprompt.cli.app import app

    caught: dict[str, Any] = {}

    class CaughtError(Exception):
        pass

    def start(images: Any, boxes: BoxSet, config: Any, **more: Any) -> None:
        caught.update(images=images, boxes=boxes, config=config, **more)
        raise CaughtError

    monkeypatch.setattr(napari_boxprompt.api, "start_training", start)
    monkeypatch.setattr(napari_boxprompt.cli.data, "load_encoder", lambda *_: None)
    words = shlex.split(command.splitlines()[0])
    assert words[0] == "boxprompt"
    result = CliRunner().invoke(app, words[1:])
    assert isinstance(result.exception, CaughtError), result.output
    return caught


def task(session: Session, config: Any, start: Any = None) -> TrainingTask:
    images, boxes = session.training_set()
    contrast = Normalization(low=(10.0,), high=(5000.0,), gamma=0.7)
    return TrainingTask(images, boxes, config, contrast, start)


def test_a_session_is_repeated_without_an_image_file(
    session: Session, quick: Any, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.new_boxes_layer().add_boxes(boxes_of("my [stack]"))
    wanted = task(session, quick(), trained.model)
    command = command_of(wanted, session, tmp_path / "a session")
    caught = run_command(command, monkeypatch)
    model, images, _, masks, *_ = shlex.split(command.splitlines()[1])[2:]
    assert model == str(tmp_path / "a session" / "model"), "what the first line has trained"
    assert Path(images).is_dir()
    assert masks == str(tmp_path / "a session" / "predicted")
    assert caught["config"] == wanted.config
    assert caught["normalization"] == wanted.normalization
    name = caught["images"].names[0]
    assert [box.as_tuple() for box in caught["boxes"].boxes] == [box.as_tuple() for box in wanted.boxes.boxes]
    assert caught["boxes"].planes[PlaneId(name, (0,))].complete
    np.testing.assert_array_equal(
        caught["images"].read(PlaneId(name, (2,))), wanted.images.read(PlaneId("my [stack]", (2,)))
    )


@pytest.mark.parametrize("exclusive", [True, False])
def test_outlines_of_accepted_planes_are_repeated(
    session: Session, quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    session.new_boxes_layer().add_boxes(boxes_of("my [stack]"))
    plain = task(session, quick())
    assert "--outlines" not in command_of(plain, session, tmp_path / "plain")
    here = PlaneId("my [stack]", (1,))
    mask = np.zeros((2, 40, 50), np.uint8)
    mask[0, 5:15, 6:20], mask[0, 10:15, 6:10] = 1, 0
    mask[1, 16:20, 30:40] = mask[1, 30, 3] = 1
    if not exclusive:
        mask[1, 8:17, 18:31] = 1
    drawn = [box for k, name in enumerate("ab") for box in BoxSet.from_labels(mask[k], here, name=name).boxes]
    boxes = BoxSet(
        (*plain.boxes.boxes, *drawn),
        {**plain.boxes.planes, here: PlaneInfo((40, 50), complete=True)},
        ("a", "b"),
        exclusive,
    )
    known = mask[0] + 2 * mask[1] if exclusive else mask
    wanted = replace(plain, boxes=boxes, masks={here: known})
    caught = run_command(command_of(wanted, session, tmp_path / "a session"), monkeypatch)
    ((plane, found),) = caught["masks"].items()
    assert plane.index == (1,)
    np.testing.assert_array_equal(found, known)


def test_a_session_is_repeated_on_the_image_file(
    quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.zeros((3, 40, 50), np.uint8), photometric="minisblack")
    viewer = ViewerModel()
    with layer_source(path=str(path)):  # what opening a file notes; tests know no reader plugins
        viewer.add_image(tifffile.imread(path), name="scan")
    session = Session(viewer)
    assert session.view is not None
    session.new_boxes_layer().add_boxes(boxes_of(session.view.name))
    folder = tmp_path / "session"
    command = command_of(task(session, quick()), session, folder)
    assert shlex.split(command)[2] == str(path)
    assert sorted(entry.name for entry in folder.iterdir()) == ["boxes.json"]
    assert {image["file_name"] for image in json.loads((folder / "boxes.json").read_text())["images"]} == {
        "scan.tif"
    }
    assert run_command(command, monkeypatch)["boxes"].classes == ("a", "b")


def test_planes_along_another_axis_are_written_as_they_were_seen(
    quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.arange(40 * 3 * 50).reshape(40, 3, 50).astype(np.uint16), name="side")
    viewer.dims.order = (1, 0, 2)
    session = Session(viewer)
    session.new_boxes_layer().add_boxes(boxes_of("side"))
    wanted = task(session, quick())
    command = command_of(wanted, session, tmp_path / "s")
    images = run_command(command, monkeypatch)["images"]
    np.testing.assert_array_equal(
        images.read(PlaneId("side.tif", (2,))), wanted.images.read(PlaneId("side", (2,)))
    )


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_stack_of_several_files_is_written(
    quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Napari notes the first file of those that it opens as a stack."""
    pixels = np.arange(3 * 40 * 50, dtype=np.uint8).reshape(3, 40, 50)
    paths = [tmp_path / f"plane {z}.{suffix}" for z in range(3)]
    for path, plane in zip(paths, pixels, strict=True):
        skimage.io.imsave(path, plane, check_contrast=False)
    viewer = ViewerModel()
    with layer_source(path=str(paths[0])):
        viewer.add_image(pixels, name="plane 0")
    session = Session(viewer)
    session.new_boxes_layer().add_boxes(boxes_of("plane 0"))
    command = command_of(task(session, quick()), session, tmp_path / "session")
    caught = run_command(command, monkeypatch)
    (name,) = caught["images"].names
    assert {box.plane for box in caught["boxes"].boxes} == {PlaneId(name, (0,)), PlaneId(name, (2,))}
    for z, plane in enumerate(pixels):
        np.testing.assert_array_equal(caught["images"].read(PlaneId(name, (z,)))[..., 0], plane)
    predicted = shlex.split(command.splitlines()[1])[3]
    assert [path.name for path in Path(predicted).iterdir()] == [name], "all its planes are segmented"
