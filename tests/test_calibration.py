from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.conftest import Training
from tests.helpers.synthetic import CountingImages, Scene, make_scene

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.calibration import Reliability, held_reliability
from napari_boxprompt.prediction import Predictor


def reliability(*groups: tuple[int, int, int]) -> Reliability:
    """Groups of (probability as a byte, pixels, object pixels among them)."""
    found = Reliability()
    for value, pixels, true in groups:
        truth = np.arange(pixels) < true
        found.add(np.full(pixels, value, np.uint8), truth)
    return found


def naive(probability: np.ndarray, truth: np.ndarray) -> float:
    """The formula, pixel by pixel."""
    total = 0.0
    p = probability / 255
    for b in range(10):
        inside = (p >= b / 10) & ((p < (b + 1) / 10) | (b == 9))
        if inside.any():
            total += inside.mean() * abs(truth[inside].mean() - p[inside].mean())
    return total


def test_nothing_counted() -> None:
    assert Reliability().report() is None


def test_probabilities_that_mean_what_they_say() -> None:
    report = reliability((51, 1000, 200), (204, 500, 400), (0, 300, 0), (255, 100, 100)).report()
    assert report is not None
    assert report["ece"] == pytest.approx(0, abs=1e-12)
    assert report["ece_unsure"] == pytest.approx(0, abs=1e-12)
    assert report["pixels"] == 1900
    assert report["unsure"] == pytest.approx(1500 / 1900)


def test_overconfidence_is_an_error_of_its_size() -> None:
    report = reliability((204, 100, 50), (0, 900, 0)).report()
    assert report is not None
    assert report["ece"] == pytest.approx(0.1 * 0.3)
    assert report["ece_unsure"] == pytest.approx(0.3), "sure background does not hide it"
    assert [b["pixels"] for b in report["bins"]] == [900, 0, 0, 0, 0, 0, 0, 0, 100, 0]
    assert report["bins"][8] == {
        "from": 0.8,
        "to": 0.9,
        "pixels": 100,
        "probability": pytest.approx(0.8),
        "observed": 0.5,
    }
    assert report["bins"][4]["probability"] is None


@pytest.mark.parametrize(
    ("value", "which"), [(0, 0), (25, 0), (26, 1), (153, 6), (229, 8), (230, 9), (255, 9)]
)
def test_which_bin(value: int, which: int) -> None:
    report = reliability((value, 1, 1)).report()
    assert report is not None
    assert [b["pixels"] for b in report["bins"]].index(1) == which


def test_the_formula_pixel_by_pixel_and_in_parts() -> None:
    rng = np.random.default_rng(0)
    probability = rng.integers(0, 256, (70, 50)).astype(np.uint8)
    truth = rng.random((70, 50)) < (probability / 255) ** 2
    found = Reliability()
    for part in (np.s_[:30], np.s_[30:]):
        found.add(probability[part], truth[part])
    report = found.report()
    assert report is not None
    assert report["ece"] == pytest.approx(naive(probability, truth))
    assert report["ece"] > 0.1


def test_unknown_pixels_do_not_count() -> None:
    found = Reliability()
    known = np.array([[True, False]])
    found.add(np.array([[255, 255]], np.uint8), np.array([[True, False]]), known)
    report = found.report()
    assert report is not None
    assert (report["pixels"], report["ece"]) == (1, 0.0)


def held(trained: TrainedModel, scene: Scene, boxes: BoxSet | None = None) -> dict[str, Any] | None:
    drawn = scene.boxes if boxes is None else boxes
    return held_reliability(Predictor(trained.model, trained.encoder), scene.images, drawn)


def held_plane(training: Training, scene: Scene) -> PlaneId:
    """The plane that the training itself left out."""
    used = {targets.plane for targets in training.run._data.planes}
    (plane,) = set(scene.images.planes) - used
    return plane


def test_only_planes_that_training_held_out_are_read(
    training: Training, trained: TrainedModel, scene: Scene
) -> None:
    counting = CountingImages(scene.images)
    report = held_reliability(Predictor(trained.model, trained.encoder), counting, scene.boxes)
    assert report is not None
    assert report["planes"] == 1
    assert counting.reads == [held_plane(training, scene)]


def test_reliability_on_held_planes(training: Training, trained: TrainedModel, scene: Scene) -> None:
    report = held(trained, scene)
    assert report is not None
    height, width = scene.images.shape(held_plane(training, scene))
    shown = 256 * 256 * min(height, width) / max(height, width)
    assert report["pixels"] == pytest.approx(shown, rel=0.02), "a complete plane is known everywhere"
    assert 0 < report["ece"] < 0.1
    assert report["bins"][9]["observed"] > 0.9
    assert report["bins"][0]["observed"] < 0.05


def test_outside_boxes_nothing_is_known_of_an_incomplete_plane(
    training: Training, trained: TrainedModel, scene: Scene
) -> None:
    infos = {plane: replace(info, complete=False) for plane, info in scene.boxes.planes.items()}
    report = held(trained, scene, replace(scene.boxes, planes=infos))
    assert report is not None
    plane = held_plane(training, scene)
    inside = np.zeros(scene.images.shape(plane), bool)
    for box in scene.boxes.on(plane):
        y0, x0, y1, x1 = map(int, box.as_tuple())
        inside[y0:y1, x0:x1] = True
    enlarged = (256 / max(inside.shape)) ** 2
    assert report["pixels"] == pytest.approx(inside.sum() * enlarged, rel=0.05)


def test_a_model_that_is_sure_of_nothing_is_told_apart(trained: TrainedModel, scene: Scene) -> None:
    untrained = replace(trained.model, weights={k: v * 0 for k, v in trained.model.weights.items()})
    before, after = held(TrainedModel(untrained, trained.encoder), scene), held(trained, scene)
    assert before is not None
    assert after is not None
    assert before["ece"] > 2 * after["ece"]


def test_no_plane_was_held_out(trained: TrainedModel, scene: Scene) -> None:
    config = trained.model.config.model_copy(update={"hold_out": 0.0})
    assert held(TrainedModel(replace(trained.model, config=config), trained.encoder), scene) is None


def test_many_views_of_a_large_plane_cost_no_more_than_a_check(trained: TrainedModel) -> None:
    large = make_scene(((400, 530),) * 3, seed=3)
    model = replace(trained.model, tile=64.0)
    before = trained.encoder.frozen.encoded
    report = held(TrainedModel(model, trained.encoder), large)
    assert report is not None
    assert report["pixels"] <= 12 * 256 * 256
    assert trained.encoder.frozen.encoded - before <= 12


def test_of_many_held_planes_those_are_read_that_a_check_looks_at(
    trained: TrainedModel, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_boxprompt.training.plan.MAX_HELD_VIEWS", 2)
    config = trained.model.config.model_copy(update={"hold_out": 0.5})
    report = held(TrainedModel(replace(trained.model, config=config), trained.encoder), scene)
    assert report is not None
    assert report["planes"] == 2
