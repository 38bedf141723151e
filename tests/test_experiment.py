from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.helpers.synthetic import CountingImages, Scene, finish, overlap

from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import ConfigError, ImageError
from napari_boxprompt.events import Finished, Progress
from napari_boxprompt.experiment import Experiment, Outcome, run_experiment
from napari_boxprompt.images import Images
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.report import table_rows

MakeConfig = Callable[..., TrainConfig]


class Watched:
    """An experiment that notes, in order, what was looked at."""

    def __init__(self, scene: Scene, unseen: Scene, **changes: Any) -> None:
        self.log: list[tuple[str, PlaneId | None]] = []
        self.train = CountingImages(scene.images)
        self._unseen = unseen
        parts: dict[str, Any] = {
            "train_images": self.train,
            "boxes": scene.boxes,
            "test_images": self._test_images,
            "reference": self._reference,
            "true_boxes": self._true_boxes,
        }
        self.experiment = Experiment(**{**parts, **changes})

    def _test_images(self) -> Images:
        self.log.append(("opened", None))
        return self._unseen.images

    def _reference(self, plane: PlaneId) -> np.ndarray:
        self.log.append(("reference", plane))
        return self._unseen.mask(plane)

    def _true_boxes(self, plane: PlaneId) -> tuple:
        self.log.append(("boxes", plane))
        return self._unseen.boxes.on(plane)


@pytest.fixture
def settings(quick: MakeConfig) -> TrainConfig:
    return quick(steps=15, learning_rate=0.05, validate_every=5)


def test_report_has_the_documented_keys_and_true_figures(
    scene: Scene, unseen: Scene, encoder: Encoder, settings: TrainConfig
) -> None:
    watched = Watched(scene, unseen)
    outcome, events = finish(run_experiment(watched.experiment, settings, encoder, workers=2, keep=True))
    assert isinstance(outcome, Outcome)
    report = json.loads(json.dumps(outcome.report, allow_nan=False))
    assert set(report["dice"]) == {"mean", "sd", "p5", "p50"}
    assert set(report["seconds"]) == {"encode", "train", "predict", "total"}
    required = {
        "dice",
        "oracle_dice",
        "no_prompt_dice",
        "ratio",
        "seconds",
        "peak_rss_mb",
        "n_boxes",
        "n_train",
    }
    assert set(report) >= {*required, "n_test", "model", "preset", "device", "versions"}

    figures = [overlap(found.mask, unseen.mask(found.plane)) for found in outcome.predictions]
    assert [found.plane for found in outcome.predictions] == list(unseen.images.planes)
    assert report["dice"]["mean"] == pytest.approx(np.mean(figures))
    assert report["dice"]["mean"] > 0.85
    assert report["dice"]["sd"] == pytest.approx(np.std(figures, ddof=1))
    assert report["dice"]["p5"] == pytest.approx(np.percentile(figures, 5))
    assert report["dice"]["p50"] == pytest.approx(np.median(figures))
    assert [plane["dice"] for plane in report["planes"]] == pytest.approx(figures)
    assert report["oracle_dice"] > 0.9
    assert report["no_prompt_dice"] == 0.0
    assert report["ratio"] == pytest.approx(report["dice"]["mean"] / report["oracle_dice"])
    assert (report["n_boxes"], report["n_train"], report["n_test"]) == (18, 6, 3)
    assert (report["model"], report["preset"], report["device"]) == ("fake", "fast", "cpu")
    assert (report["generator"], report["precision"], report["seed"]) == ("tiny", "32-true", 0)
    assert report["validation"] == outcome.model.record["validation"] != {}
    seconds = report["seconds"]
    assert seconds["total"] >= seconds["encode"] + seconds["train"] + seconds["predict"] - 0.02 > 0
    assert 50 < report["peak_rss_mb"] < 1e6
    assert "torch" in report["versions"]
    assert len(table_rows(report)) > 10

    phases = [event.phase for event in events if isinstance(event, Finished)]
    assert phases == ["encode", "train", "predict"]
    predicted = [event for event in events if isinstance(event, Progress) and event.phase == "predict"]
    assert [(event.done, event.total) for event in predicted] == [(1, 3), (2, 3), (3, 3)]


def test_tests_are_looked_at_after_training_only(
    scene: Scene, unseen: Scene, encoder: Encoder, settings: TrainConfig
) -> None:
    watched = Watched(scene, unseen)
    steps = run_experiment(watched.experiment, settings, encoder)
    for event in steps:
        if event == Finished("train", getattr(event, "seconds", 0.0)):
            break
        assert not watched.log
    first = next(steps)
    assert isinstance(first, Progress)
    assert watched.log == [("opened", None)]  # the prediction is done before its reference is read
    next(steps)
    plane = unseen.images.planes[0]
    assert watched.log == [("opened", None), ("reference", plane), ("boxes", plane)]
    assert set(watched.train.reads) <= set(scene.images.planes)
    steps.close()


def test_planes_with_little_reference_are_not_scored(
    scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig
) -> None:
    covered = sorted(unseen.mask(plane).mean() for plane in unseen.images.planes)
    watched = Watched(scene, unseen, least_coverage=(covered[0] + covered[1]) / 2)
    outcome, _ = finish(run_experiment(watched.experiment, quick(steps=1), encoder))
    assert outcome.report["n_test"] == 2
    assert outcome.predictions == []


def test_nothing_to_score(scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig) -> None:
    watched = Watched(scene, unseen, least_coverage=1.0)
    with pytest.raises(ConfigError, match="No test plane"):
        finish(run_experiment(watched.experiment, quick(steps=1), encoder))


def test_oracle_that_finds_nothing_gives_valid_json(
    scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig
) -> None:
    watched = Watched(scene, unseen, true_boxes=lambda plane: ())
    outcome, _ = finish(run_experiment(watched.experiment, quick(steps=1), encoder))
    assert outcome.report["oracle_dice"] == 0.0
    assert json.loads(json.dumps(outcome.report, allow_nan=False))["ratio"] is None
    assert dict(table_rows(outcome.report))["ratio to the oracle"] == "-"


def test_reference_of_another_size(scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig) -> None:
    watched = Watched(scene, unseen, reference=lambda plane: np.ones((5, 5), bool))
    with pytest.raises(ImageError, match=r"\(5, 5\)"):
        finish(run_experiment(watched.experiment, quick(steps=1), encoder))


def test_boxes_only_on_one_plane(scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig) -> None:
    one: BoxSet = scene.boxes.restrict(scene.images.planes[:1])
    watched = Watched(scene, unseen, boxes=one)
    with pytest.raises(Exception, match="two planes"):
        finish(run_experiment(watched.experiment, quick(), encoder))
    assert not watched.log


def test_worst_planes_are_kept_and_no_others(
    scene: Scene, unseen: Scene, encoder: Encoder, settings: TrainConfig
) -> None:
    watched = Watched(scene, unseen)
    outcome, _ = finish(run_experiment(watched.experiment, settings, encoder, worst=2))
    ranked = sorted(outcome.report["planes"], key=lambda plane: plane["dice"])
    assert [item.plane.image for item in outcome.worst] == [plane["image"] for plane in ranked[:2]]
    for item in outcome.worst:
        assert overlap(item.mask, item.reference) == pytest.approx(item.figures["dice"])
        assert overlap(item.oracle, item.reference) == pytest.approx(item.figures["oracle"])
        assert item.values.shape[:2] == item.mask.shape
        assert (item.reference == unseen.mask(item.plane)).all()


def test_reliability_of_test_planes_and_of_held_out_ones(
    scene: Scene, unseen: Scene, encoder: Encoder, settings: TrainConfig
) -> None:
    watched = Watched(scene, unseen)
    outcome, _ = finish(run_experiment(watched.experiment, settings, encoder, keep=True))
    test, held = (outcome.report["reliability"][name] for name in ("test", "held"))
    assert test["pixels"] == sum(found.mask.size for found in outcome.predictions)
    gaps = [
        abs(part["observed"] - part["probability"]) * part["pixels"]
        for part in test["bins"]
        if part["pixels"]
    ]
    assert test["ece"] == pytest.approx(sum(gaps) / test["pixels"])
    sure = np.concatenate([unseen.mask(f.plane)[f.probability > 230] for f in outcome.predictions])
    assert test["bins"][9]["observed"] == pytest.approx(sure.mean(), abs=0.02)
    assert held["planes"] == 1


def test_no_plane_is_held_out(scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig) -> None:
    watched = Watched(scene, unseen)
    outcome, _ = finish(run_experiment(watched.experiment, quick(steps=1, hold_out=0), encoder))
    assert outcome.report["reliability"]["held"] is None
    assert "held-out" not in dict(table_rows(outcome.report))["calibration error"]


@pytest.mark.parametrize(("shown", "transductive"), [(None, False), ("scene", False), ("unseen", True)])
def test_whoever_has_seen_test_planes_says_so(
    shown: str | None, transductive: bool, scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig
) -> None:
    # The scenes name their planes alike.
    strange = scene.images.restrict(scene.images.planes[len(unseen.images.planes) :])
    others = {None: None, "scene": strange, "unseen": unseen.images}[shown]
    watched = Watched(scene, unseen, unlabelled=others)
    outcome, _ = finish(run_experiment(watched.experiment, quick(steps=1), encoder))
    assert outcome.report["transductive"] is transductive


def test_planes_without_a_subject_are_subjects_of_their_own(
    scene: Scene, unseen: Scene, encoder: Encoder, quick: MakeConfig
) -> None:
    for subject, wanted in ((None, 3), (lambda plane: "one", 1)):
        watched = Watched(scene, unseen, subject=subject)
        outcome, _ = finish(run_experiment(watched.experiment, quick(steps=1), encoder))
        assert len({plane["subject"] for plane in outcome.report["planes"]}) == wanted
        assert (outcome.report["dice_interval"] is None) == (wanted == 1)


def test_closing_stops_the_training(
    scene: Scene, unseen: Scene, encoder: Encoder, settings: TrainConfig
) -> None:
    watched = Watched(scene, unseen)
    steps = run_experiment(watched.experiment, settings, encoder)
    for event in steps:
        if isinstance(event, Progress) and event.phase == "train":
            break
    steps.close()
    assert not watched.log
