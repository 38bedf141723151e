"""``--contrast`` and ``--start`` of ``boxprompt train``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.commands import Discs, boxprompt, everything, make_discs
from tests.helpers.synthetic import break_training

from napari_boxprompt.errors import ImageError

pytestmark = pytest.mark.usefixtures("fake_weights", "tiny_generator")

TINY = ("--complete", "--generator", "tiny", "--set", "steps=1", "--set", "augment.views=0")


def trained(discs: Discs, out: Path, *more: object) -> dict[str, Any]:
    """Train, and return what the model says of itself."""
    boxprompt("train", discs.images, "--boxes", discs.boxes, "--out", out, *TINY, *more).ok()
    found: dict[str, Any] = json.loads((out / "model.json").read_text(encoding="utf-8"))
    return found


def refused(discs: Discs, place: Path, *more: object) -> str:
    words = ("train", discs.images, "--boxes", discs.boxes, "--out", place / "model")
    said = boxprompt(*words, *TINY, *more).sentence()
    assert not (place / "model").exists()
    return said


# --- contrast -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high", "gamma"),
    [
        ("20 200", 20.0, 200.0, 1.0),
        ("20 200 0.5", 20.0, 200.0, 0.5),
        ("-10 200.25", -10.0, 200.25, 1.0),
        ("  1e2\t3e2  2 ", 100.0, 300.0, 2.0),
    ],
)
def test_contrast_is_that_of_the_model(
    discs: Discs, tmp_path: Path, text: str, low: float, high: float, gamma: float
) -> None:
    found = trained(discs, tmp_path / "model", "--contrast", text)["normalization"]
    assert found == {"low": [low], "high": [high], "gamma": gamma, "percentiles": None}


def test_without_contrast_it_is_measured(discs: Discs, tmp_path: Path) -> None:
    found = trained(discs, tmp_path / "model")["normalization"]
    assert found["percentiles"] == [0.5, 99.8]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0 255", [0.0] * 3, [255.0] * 3),
        ("0 250,240,230", [0.0] * 3, [250.0, 240.0, 230.0]),
        ("1,2,3 250,240,230", [1.0, 2.0, 3.0], [250.0, 240.0, 230.0]),
    ],
)
def test_contrast_of_colours(tmp_path: Path, text: str, low: list[float], high: list[float]) -> None:
    red = make_discs(tmp_path / "red", ((64, 96),) * 2, names=["red"], colour=True)
    found = trained(red, tmp_path / "model", "--contrast", text)["normalization"]
    assert (found["low"], found["high"]) == (low, high)


@pytest.mark.parametrize("text", ["", "5", "a b", "0 1 2 3", "0,1 255", "0 255 1,2,3", "0-255", "0 255,"])
def test_contrast_that_is_not_understood(discs: Discs, tmp_path: Path, text: str) -> None:
    said = refused(discs, tmp_path, "--contrast", text)
    assert said.startswith(f"Error: --contrast {text!r} is not understood; write 'LOW HIGH' or")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9 3", "HIGH must be above LOW"),
        ("3 3 1", "HIGH must be above LOW"),
        ("0,5,0 9,5,9", "HIGH must be above LOW"),
        ("nan 3", "both finite"),
        ("0 inf", "both finite"),
        ("0 255 0", "GAMMA must lie between 0.1 and 10"),
        ("0 255 nan", "GAMMA must lie between 0.1 and 10"),
    ],
)
def test_contrast_that_no_image_can_have(discs: Discs, tmp_path: Path, text: str, reason: str) -> None:
    said = refused(discs, tmp_path, "--contrast", text)
    assert said.startswith(f"Error: --contrast {text!r} cannot be used: ")
    assert reason in said


def test_colours_for_grey_images(discs: Discs, tmp_path: Path) -> None:
    assert "the images have one channel" in refused(discs, tmp_path, "--contrast", "0,0,0 1,2,3")


# --- outlines -----------------------------------------------------------------------------------------------


def outlined(discs: Discs, path: Path, *, bare: int = 0) -> Path:
    """The boxes of the discs, with outlines but of the first few."""
    content = json.loads(discs.boxes.read_text(encoding="utf-8"))
    for entry in content["images"]:
        entry["height"], entry["width"] = discs.shapes[entry["file_name"]]
    for entry in content["annotations"][bare:]:
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_outlines_are_learnt(discs: Discs, tmp_path: Path) -> None:
    file = outlined(discs, tmp_path / "outlined.json")
    words = ("train", discs.images, "--boxes", file, "--seed", 3, *TINY, "--set", "steps=2")
    boxprompt(*words, "--out", tmp_path / "boxes").ok()
    boxprompt(*words, "--out", tmp_path / "outlines", "--outlines").ok()
    with_, without = (
        (tmp_path / name / "weights.safetensors").read_bytes() for name in ("outlines", "boxes")
    )
    assert with_ != without


def test_outlines_that_cannot_be_learnt(discs: Discs, tmp_path: Path) -> None:
    file = outlined(discs, tmp_path / "outlined.json")
    words = ("train", discs.images, "--out", tmp_path / "model", "--outlines")
    said = boxprompt(*words, "--boxes", file).sentence()
    assert "nothing says that they are all there are" in said
    said = boxprompt(*words, "--complete", "--boxes", discs.boxes).sentence()
    assert "has no outlines on these images" in said
    said = boxprompt(
        *words, "--complete", "--boxes", outlined(discs, tmp_path / "some.json", bare=1)
    ).sentence()
    assert "some have only a box" in said
    said = boxprompt(*words, "--complete", "--boxes", discs.folder / "labels").sentence()
    assert "YOLO" in said
    assert not (tmp_path / "model").exists()


# --- an error on the way


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ImageError("The disk is gone.")])
def test_an_error_keeps_the_best_so_far(
    discs: Discs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    out = tmp_path / "model"
    words = ("train", discs.images, "--boxes", discs.boxes, "--out", out, *TINY, "--set", "steps=5")
    with monkeypatch.context() as patch:
        break_training(patch, 3, error)
        ended = boxprompt(*words)
    assert ended.code == 1
    assert "Stopped at step 3 of 5; the best model so far is in" in ended.err
    assert str(error) in ended.err
    assert json.loads((out / "model.json").read_text(encoding="utf-8"))["record"]["steps"] == 3
    boxprompt(*words, "--resume").ok()
    assert json.loads((out / "model.json").read_text(encoding="utf-8"))["record"]["steps"] == 5


def test_before_the_first_step_there_is_nothing_to_keep(
    discs: Discs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_training(monkeypatch, 0, ImageError("The disk is gone."))
    assert "The disk is gone." in refused(discs, tmp_path)


# --- a model to start from ----------------------------------------------------------------------------------


def test_training_starts_from_a_model(discs: Discs, tmp_path: Path) -> None:
    first = trained(discs, tmp_path / "first", "--set", "steps=3")
    found = trained(discs, tmp_path / "second", "--start", tmp_path / "first")
    weights = (tmp_path / "first" / "weights.safetensors").read_bytes()
    assert "started_from" not in first["record"]
    assert found["record"]["started_from"] == {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "steps": 3,
        "boxes": 8,
        "planes": 4,
    }
    fresh = trained(discs, tmp_path / "fresh")
    assert fresh["record"]["steps"] == found["record"]["steps"] == 1
    assert (tmp_path / "fresh" / "weights.safetensors").read_bytes() != (
        tmp_path / "second" / "weights.safetensors"
    ).read_bytes()


def test_a_model_can_be_trained_on_in_its_own_folder(discs: Discs, tmp_path: Path) -> None:
    trained(discs, tmp_path / "model")
    assert "started_from" in trained(discs, tmp_path / "model", "--start", tmp_path / "model")["record"]


def test_a_model_that_is_not_there(discs: Discs, tmp_path: Path) -> None:
    assert "no trained model" in refused(discs, tmp_path, "--start", tmp_path / "gone")
    assert everything(tmp_path) == set()


def test_a_model_with_another_generator(discs: Discs, tmp_path: Path) -> None:
    trained(discs, tmp_path / "simple", "--generator", "simple")
    said = refused(discs, tmp_path, "--start", tmp_path / "simple")
    assert "generator 'simple', not 'tiny'" in said


# --- more planes than views ---------------------------------------------------------------------------------


def test_planes_that_are_left_out_are_said(discs: Discs, tmp_path: Path) -> None:
    train = ("train", discs.images, "--boxes", discs.boxes, "--out", tmp_path / "model", *TINY)
    assert "left out" not in boxprompt(*train).ok().err
    said = boxprompt(*train, "--set", "max_encodings=2").ok().err
    assert "Planes left out: 1 of 4; raise 'max_encodings' (now 2) to take all." in said
