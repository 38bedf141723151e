from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import Training
from tests.helpers.synthetic import Scene, make_scene

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.calibration import Reliability, held_planes, held_reliability
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


def predictor(trained: TrainedModel) -> Predictor:
    return Predictor(trained.model, trained.encoder)


def test_held_planes_are_those_that_training_held(
    training: Training, trained: TrainedModel, scene: Scene
) -> None:
    found = held_planes(predictor(trained), scene.images, scene.boxes)
    data = training.run._data
    assert len(found) == 1
    assert not set(found) & {targets.plane for targets in data.planes}
    assert len(data.planes) == len(scene.images.planes) - 1


def test_reliability_on_held_planes(trained: TrainedModel, scene: Scene) -> None:
    planes = held_planes(predictor(trained), scene.images, scene.boxes)
    report = held_reliability(predictor(trained), scene.images, scene.boxes, planes).report()
    assert report is not None
    height, width = scene.images.shape(planes[0])
    assert report["pixels"] == height * width, "a complete plane is known everywhere"
    assert 0 < report["ece"] < 0.1
    high, low = report["bins"][9], report["bins"][0]
    assert high["observed"] > 0.9
    assert low["observed"] < 0.05


def test_outside_boxes_nothing_is_known_of_an_incomplete_plane(trained: TrainedModel, scene: Scene) -> None:
    planes = scene.images.planes[:1]
    infos = {plane: replace(info, complete=False) for plane, info in scene.boxes.planes.items()}
    boxes = replace(scene.boxes, planes=infos)
    report = held_reliability(predictor(trained), scene.images, boxes, planes).report()
    assert report is not None
    inside = np.zeros(scene.images.shape(planes[0]), bool)
    for box in boxes.on(planes[0]):
        y0, x0, y1, x1 = map(int, box.as_tuple())
        inside[y0:y1, x0:x1] = True
    assert report["pixels"] == inside.sum()


def test_planes_larger_than_a_square_are_counted_once(trained: TrainedModel) -> None:
    large = make_scene(((300, 530),), seed=3)
    report = held_reliability(predictor(trained), large.images, large.boxes, large.images.planes).report()
    assert report is not None
    assert report["pixels"] == 300 * 530
    truth = sum(b["pixels"] * (b["observed"] or 0) for b in report["bins"])
    assert truth == pytest.approx(large.mask(large.images.planes[0]).sum(), rel=0.25)
