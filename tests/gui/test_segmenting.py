"""Predictions of the viewer, run here without a viewer."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="napari is not installed")

from PIL import Image
from tests.helpers.synthetic import Scene, finish

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import ImageError
from napari_boxprompt.events import Caution, Finished, Progress
from napari_boxprompt.gui import segmenting
from napari_boxprompt.gui.jobs import Stop
from napari_boxprompt.gui.segmenting import Found


@pytest.fixture
def stop() -> Stop:
    return cast("Stop", threading.Event())


def test_a_prediction_stops_between_planes_and_keeps_them(stop: Stop, trained: Any, unseen: Scene) -> None:
    running = segmenting.predict(stop, trained, unseen.images, unseen.images.planes)
    for event in running:
        if isinstance(event, Found):
            stop.set()
            break
    count, rest = finish(running)
    assert count == 1
    assert cast("Finished", rest[-1]).stopped


def test_a_prediction_stops_between_tiles(stop: Stop, trained: Any, unseen: Scene) -> None:
    tiled = replace(trained, model=replace(trained.model, tile=64.0))
    seen: list[tuple[int, int]] = []

    def on_tile(done: int, total: int) -> None:
        seen.append((done, total))
        stop.set()

    count, _ = finish(segmenting.predict(stop, tiled, unseen.images, unseen.images.planes, on_tile))
    assert count == 0
    assert len(seen) == 1
    assert seen[0][1] > 2


def test_a_plane_that_cannot_be_read_is_told_when_the_others_are_done(
    stop: Stop, trained: Any, unseen: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = unseen.images
    first, second, third = images.planes

    def read(plane: PlaneId) -> Any:
        if plane == second:
            raise ImageError("The drive is gone.")
        return type(images).read(images, plane)

    monkeypatch.setattr(images, "read", read, raising=False)
    count, events = finish(segmenting.predict(stop, trained, images, [first, second, third]))
    assert count == 2
    assert [event.prediction.plane for event in events if isinstance(event, Found)] == [first, third]
    assert [event.done for event in events if isinstance(event, Progress)] == [0, 1, 3, 3]
    (caution,) = [event for event in events if isinstance(event, Caution)]
    assert caution.message == f"1 of 3 planes could not be segmented: {second}: The drive is gone."
    with pytest.raises(ImageError, match="drive is gone"):
        finish(segmenting.predict(stop, trained, images, [second, third]))


def test_files_are_segmented_into_a_folder(stop: Stop, trained: Any, unseen: Scene, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for plane in unseen.images.planes:
        pixels = unseen.images.read(plane)[..., 0]
        Image.fromarray(pixels).save(tmp_path / "in" / plane.image.replace(".tif", ".png"))
    writer, events = finish(segmenting.predict_files(stop, trained, tmp_path / "in", tmp_path / "out"))
    written = writer.written
    assert sorted(path.name for path in written)[:2] == ["objects.csv", "plane0_mask.tif"]
    assert all(path.is_file() for path in written)
    assert [event.done for event in events if isinstance(event, Progress)] == [0, 1, 2, 3]
    with tifffile.TiffFile(tmp_path / "out" / "plane0_mask.tif") as file:
        assert json.loads(file.shaped_metadata[0]["Description"]) == {"classes": list(trained.model.classes)}
    overlapping = replace(trained, model=replace(trained.model, exclusive=False))
    finish(segmenting.predict_files(stop, overlapping, tmp_path / "in", tmp_path / "both"))
    with tifffile.TiffFile(tmp_path / "both" / "plane0_mask.tif") as file:
        assert file.shaped_metadata[0]["Channel"] == {"Name": list(trained.model.classes)}


def test_files_that_cannot_be_used_are_left_out(
    stop: Stop, trained: Any, unseen: Scene, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for plane in unseen.images.planes:
        tifffile.imwrite(tmp_path / "in" / plane.image, unseen.images.read(plane)[..., 0])
    whole = unseen.images.read(unseen.images.planes[0])
    Image.fromarray(np.repeat(whole, 3, axis=2)).save(tmp_path / "in" / "colour.png")
    (tmp_path / "in" / "cut.tif").write_bytes(b"II")
    writer, events = finish(segmenting.predict_files(stop, trained, tmp_path / "in", tmp_path / "out"))
    assert list(writer.left_out) == ["cut.tif", "colour.png"]
    assert {path.name for path in writer.written} == {
        "objects.csv",
        *(f"plane{i}_{kind}.tif" for i in range(3) for kind in ("mask", "objects")),
    }
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert (last.done, last.total) == (3, 3)
    assert not events[-1].stopped
