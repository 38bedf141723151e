from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from lightning_fabric import Fabric
from tests.helpers.synthetic import CountingImages, FakeModel, Scene, overlap

import napari_boxprompt
from napari_boxprompt import api
from napari_boxprompt._readers import ArrayReader
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.bundle import save_bundle
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import BoxError, BundleError, ConfigError
from napari_boxprompt.events import Event, Finished, Metrics, Progress
from napari_boxprompt.images import Images, Normalization
from napari_boxprompt.models import EmbeddingCache
from napari_boxprompt.models.encoding import Encoder

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Load the fake model whatever is asked for; note what was."""
    asked: list[tuple[str, str]] = []

    def load(name: str, device: str = "cpu", progress: Callable[[int, int], None] | None = None) -> FakeModel:
        asked.append((name, device))
        if progress is not None:
            progress(3, 7)
        return FakeModel(sha256=("0" if name == "other" else "f") * 64)

    monkeypatch.setattr(api, "load_frozen", load)
    return asked


@pytest.fixture
def folder(scene: Scene, tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for plane in scene.images.planes:
        tifffile.imwrite(images / plane.image, scene.images.read(plane)[..., 0])
    return images


SETTINGS: dict[str, Any] = {
    "generator": "tiny",
    "steps": 20,
    "batch": 2,
    "learning_rate": 0.05,
    "ema": 0.8,
    "validate_every": 10,
    "augment": {"views": 1},
    "device": "cpu",
    "precision": "32",
}


def test_masks_find_their_images_as_boxes_do(
    scene: Scene, encoder: Encoder, quick: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(api, "fit", lambda *words: given.append(words))
    plane, other = scene.images.planes[:2]
    mask = scene.mask(plane).astype(np.uint8)

    def start(masks: dict[PlaneId, Any], boxes: BoxSet = scene.boxes) -> None:
        api.start_training(scene.images, boxes, quick(), encoder=encoder, masks=masks)

    start({PlaneId(f"elsewhere/{plane.image}"): mask})
    assert given[0][-3].keys() == {plane}
    few = scene.boxes.restrict(scene.images.planes[1:])
    for wrong in ({plane: mask}, {PlaneId("gone.tif"): mask}):
        with pytest.raises(BoxError, match="no boxed plane"):
            start(wrong, few)
    with pytest.raises(BoxError, match="use the mask of the same image"):
        start({other: mask})
    assert len(given) == 1


def test_from_a_folder_of_images_to_masks(
    loaded: list, folder: Path, scene: Scene, unseen: Scene, tiny_generator: None, tmp_path: Path
) -> None:
    events: list[Event] = []
    model = napari_boxprompt.train(folder, scene.boxes, "fast", on_event=events.append, **SETTINGS)
    assert loaded == [("litemedsam", "cpu")]
    assert events[0] == Progress("download", 3, 7, "litemedsam")
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, Metrics) for event in events)
    assert model.model.config.steps == 20
    path = model.save(tmp_path / "model")
    again = napari_boxprompt.load_model(path, device="cpu")
    seen: list[tuple[int, int]] = []
    fresh = napari_boxprompt.predict(model, unseen.images)
    repeated = api.predict(again, unseen.images, on_tile=lambda done, total: seen.append((done, total)))
    for first, second in zip(fresh, repeated, strict=True):
        np.testing.assert_array_equal(first.probability, second.probability)
        assert overlap(first.mask, unseen.mask(first.plane)) > 0.85
    assert seen == [(1, 1)] * 3
    assert all(math.isnan(found.disagreement) for found in api.predict(again, unseen.images))
    assert all(
        0 <= found.disagreement < 0.5 for found in api.predict(again, unseen.images, disagreement=True)
    )


def test_arrays_and_chosen_planes(loaded: list, scene: Scene, tiny_generator: None) -> None:
    source = scene.images.planes[5]
    stack = np.stack([scene.images.read(source)[..., 0]] * 4)
    drawn = scene.boxes.on(source)
    boxes = tuple(Box(*box.as_tuple(), PlaneId("image", (z,))) for z in (0, 2) for box in drawn)
    model = api.train(stack, BoxSet(boxes).complete(), **{**SETTINGS, "steps": 2})
    assert model.model.record["planes"] == 2
    (found,) = api.predict(model, stack, [PlaneId("image", (3,))])
    assert found.plane == PlaneId("image", (3,))
    assert found.mask.shape == stack.shape[1:]


def test_training_measures_brightness_and_lifts_it(scene: Scene, encoder: Encoder, quick: MakeConfig) -> None:
    images = CountingImages(scene.images)
    run = api.start_training(images, scene.boxes, quick(steps=1), encoder=encoder)
    expected = Normalization.fit(scene.images).lifted(scene.images, scene.boxes)
    assert run.model.normalization == expected
    given = Normalization(low=(3.0,), high=(200.0,))
    images.reads.clear()
    run = api.start_training(images, scene.boxes, quick(), encoder=encoder, normalization=given)
    assert run.model.normalization == given
    assert images.reads == []


def test_boxes_are_fitted_to_the_images(scene: Scene, encoder: Encoder, quick: MakeConfig) -> None:
    moved = BoxSet(
        tuple(
            Box(box.y0, box.x0, box.y1, box.x1, PlaneId(f"elsewhere/{box.plane.image}"), box.label)
            for box in scene.boxes.boxes
        )
    )
    run = api.start_training(scene.images, moved, quick(steps=1), encoder=encoder)
    list(run)
    assert run.model.record["planes"] == 6


def test_boxes_of_one_plane_are_refused_before_anything_is_loaded(
    loaded: list, scene: Scene, quick: MakeConfig
) -> None:
    images = CountingImages(scene.images)
    with pytest.raises(BoxError, match="two planes"):
        api.start_training(images, scene.boxes.restrict(scene.images.planes[:1]), quick())
    assert images.reads == loaded == []


def test_defaults_load_the_default_model(
    loaded: list, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def make(device: str, precision: str) -> Fabric:
        asked.append((device, precision))
        return fabric

    monkeypatch.setattr(api, "make_fabric", make)
    api.make_encoder()
    assert asked == [("auto", "auto")]
    assert loaded == [("litemedsam", "cpu")]


def test_encoder_keeps_the_given_cache(loaded: list) -> None:
    cache = EmbeddingCache(None)
    encoder = api.make_encoder("any", device="cpu", precision="bf16", cache=cache)
    assert encoder.cache is cache
    assert encoder.precision == "bf16-mixed"
    assert loaded == [("any", "cpu")]


def test_training_goes_on_from_a_folder(
    scene: Scene, encoder: Encoder, quick: MakeConfig, tmp_path: Path
) -> None:
    run = api.start_training(scene.images, scene.boxes, quick(steps=4), encoder=encoder)
    for event in run:
        if event == Progress("train", 2, 4):
            break
    run.close()
    path = save_bundle(run.model, tmp_path / "model", run.state())
    resumed = api.start_training(scene.images, scene.boxes, quick(steps=4), encoder=encoder, resume=path)
    assert resumed.step == 2
    save_bundle(run.model, path)
    with pytest.raises(BundleError, match="without --resume"):
        api.start_training(scene.images, scene.boxes, quick(), encoder=encoder, resume=path)


def test_other_frozen_model_is_refused(loaded: list, trained: api.TrainedModel, tmp_path: Path) -> None:
    path = trained.save(tmp_path / "model")
    assert api.load_model(path, model="renamed", device="cpu").model.classes == ("object",)
    with pytest.raises(BundleError, match=r"'litemedsam' \(weights f{12}\), but 'other' has weights 0{12}"):
        api.load_model(path, model="other", device="cpu")
    assert [name for name, _ in loaded] == ["renamed", "other"]


def test_wrong_settings(loaded: list, scene: Scene) -> None:
    with pytest.raises(ConfigError, match="'stepz'"):
        api.train(scene.images, scene.boxes, stepz=3)
    with pytest.raises(ConfigError, match="'quick'"):
        api.train(scene.images, scene.boxes, "quick")
    with pytest.raises(ConfigError, match="no prompt generator 'gone'"):
        api.train(scene.images, scene.boxes, generator="gone", device="cpu")


def test_opened_images_are_taken_as_they_are(trained: api.TrainedModel, unseen: Scene) -> None:
    one = unseen.images.restrict(unseen.images.planes[1:2])
    assert isinstance(one, Images)
    assert [found.plane for found in api.predict(trained, one, workers=2)] == list(one.planes)


LAYERS = ("cells", "cells [1]", "my cells, 2nd", "DAPI: well a/b [0]", "back\\slash.tif", "  ")


def test_layers_of_a_viewer_are_images_too(
    scene: Scene, encoder: Encoder, quick: MakeConfig, unseen: Scene
) -> None:
    """Names of layers hold spaces, brackets and slashes, and one can be the beginning of another."""
    stack = np.stack([unseen.images.read(unseen.images.planes[0])[..., 0]] * 2)
    readers = {
        name: ArrayReader(scene.images.read(plane)[..., 0], name)
        for name, plane in zip(LAYERS, scene.images.planes, strict=True)
    }
    images = Images({**readers, "stack [z]": ArrayReader(stack, "stack [z]")})
    names = dict(zip(scene.images.planes, LAYERS, strict=True))
    boxes = BoxSet(tuple(replace(box, plane=PlaneId(names[box.plane])) for box in scene.boxes.boxes))
    shown = BoxSet.merge([boxes, BoxSet((Box(20, 20, 50, 50, PlaneId("stack [z]", (1,))),))]).complete()
    config = quick(steps=2, hold_out=0.0)
    run = api.start_training(images, shown, config, encoder=encoder)
    encoded = {event.message for event in run if isinstance(event, Progress) and event.phase == "encode"}
    assert {*LAYERS, "stack [z][1]"} <= encoded
    assert (run.model.record["planes"], run.model.record["boxes"]) == (7, 19)
    assert api.estimate_seconds(images, shown, config, api.Timings(1, 0)) == 14
    found = list(api.predict(api.TrainedModel(run.model, encoder), images))
    assert [prediction.plane for prediction in found] == list(images.planes)
    assert [prediction.mask.shape for prediction in found] == [images.shape(p) for p in images.planes]
