"""Wrong settings, places that cannot be written, and models that cannot be used."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from tests.helpers.commands import Discs, boxprompt, everything
from tests.helpers.synthetic import FakeModel, tiny_generator_known

import napari_boxprompt.api
import napari_boxprompt.files
from napari_boxprompt.prediction import Predictor

pytestmark = pytest.mark.usefixtures("fake_weights", "tiny_generator")

TINY = ("--complete", "--generator", "tiny", "--set", "steps=1", "--set", "augment.views=0")


@pytest.fixture(scope="module")
def quick_model(discs: Discs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model on the fake frozen model."""
    out = tmp_path_factory.mktemp("quick") / "model"
    with pytest.MonkeyPatch.context() as patch, tiny_generator_known():
        patch.setattr(napari_boxprompt.api, "load_frozen", lambda *_, **__: FakeModel())
        boxprompt("train", discs.images, "--boxes", discs.boxes, "--out", out, *TINY).ok()
    return out


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be made."""
    if sys.platform == "win32":
        pytest.skip("permissions of a folder work in other ways on Windows")
    if os.geteuid() == 0:
        folder = Path("/sys/kernel")
        if not folder.is_dir():
            pytest.skip("root may write everywhere here")
        yield folder
        return
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full as soon as a file should be made durable."""

    def flush(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(napari_boxprompt.files, "_flush", flush)


# Settings


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--preset", "slow"], "choose one of fast, balanced, best"),
        (["--model", "sam_vit_z"], "use one of litemedsam"),
        (["--generator", "heavy"], "choose one of light, wide"),
        (["--device", "gpu"], "use one of: auto"),
        (["--device", "mps" if sys.platform != "darwin" else "cuda"], "use one of: auto"),
        (["--set", "stepz=3"], "'stepz'"),
        (["--set", "loss.sizes=3"], "'loss.sizes'"),
        (["--set", "steps=0"], "'steps': Input should be greater than or equal to 1"),
        (["--set", "steps=many"], "'steps': Input should be a valid integer"),
        (["--set", "loss=3"], "'loss'"),
        (["--set", "tile=8"], "'tile': Input should be 'auto' or 'whole'; or: "),
        (["--set", "precision=16"], "use 'auto', '32' or 'bf16'"),
        (["--set", "steps"], "write it as NAME=VALUE"),
        (["--set", "augment=1", "--set", "augment.views=1"], "keep one of them"),
        (["--set", "preset=best"], "--preset VALUE"),
        (["--set", "seed=3"], "--seed VALUE"),
        (["--channel", "3"], "it has one channel, 0"),
        (["--resume"], "train without --resume"),
    ],
)
def test_settings(
    words: list[str], advice: str, discs: Discs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--model" in words:
        monkeypatch.undo()
        words = [*words, "--generator", "light"]
    train = ("train", discs.images, "--boxes", discs.boxes, "--out", tmp_path / "model", *TINY)
    assert advice in boxprompt(*train, *words).sentence()
    assert everything(tmp_path) == set()


@pytest.mark.parametrize(
    ("words", "missing"),
    [(["train", "images"], "--boxes"), (["predict"], "MODEL"), (["predict", "a", "b", "--fast"], "--fast")],
)
def test_words_that_no_command_knows(words: list[str], missing: str) -> None:
    ended = boxprompt(*words)
    assert ended.code == 2
    assert missing in ended.err.upper() + ended.err
    assert "--help" in ended.err


# Places


def test_folders_that_cannot_be_written(quick_model: Path, discs: Discs, unwritable: Path) -> None:
    before = everything(unwritable) if unwritable.parts[1] != "sys" else set()
    train = ("train", discs.images, "--boxes", discs.boxes, *TINY)
    assert "choose another place" in boxprompt(*train, "--out", unwritable / "model").sentence()
    words = ("predict", quick_model, discs.images, "--out", unwritable / "masks")
    assert "choose another folder" in boxprompt(*words).sentence()
    words = ("benchmark", discs.folder, "--instances", "--json", unwritable / "new" / "report.json")
    assert "choose another" in boxprompt(*words).sentence()
    assert not (unwritable / "model").exists()
    assert not (unwritable / "masks").exists()
    if unwritable.parts[1] != "sys":
        assert everything(unwritable) == before


def test_places_that_are_taken(quick_model: Path, discs: Discs, tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("years of work", encoding="utf-8")
    train = ("train", discs.images, "--boxes", discs.boxes, *TINY)
    assert "choose another name" in boxprompt(*train, "--out", mine).sentence()
    assert "choose another" in boxprompt(*train, "--out", mine / "chapter.txt").sentence()
    assert "choose another" in boxprompt(*train, "--out", mine / "chapter.txt" / "model").sentence()
    words = ("predict", quick_model, discs.images, "--out", mine / "chapter.txt")
    assert "choose another folder" in boxprompt(*words).sentence()
    assert everything(tmp_path) == {"thesis", "thesis/chapter.txt"}
    assert (mine / "chapter.txt").read_text(encoding="utf-8") == "years of work"


def test_images_are_not_written_over(quick_model: Path, discs: Discs, tmp_path: Path) -> None:
    shutil.copytree(discs.images, tmp_path / "data")
    mine = tmp_path / "data" / "image0_mask.tif"
    mine.write_bytes(b"years of work")
    before = everything(tmp_path)
    said = boxprompt("predict", quick_model, tmp_path / "data", "--out", tmp_path / "data").sentence()
    assert f"choose another folder, for instance {tmp_path / 'data' / 'masks'}." in said
    assert everything(tmp_path) == before
    assert mine.read_bytes() == b"years of work"
    words = ("predict", quick_model, tmp_path / "data" / "image1.png", "--out", tmp_path / "data")
    boxprompt(*words).ok()
    assert everything(tmp_path) > before


def test_a_full_disk(quick_model: Path, discs: Discs, tmp_path: Path, full_disk: None) -> None:
    old = tmp_path / "model"
    shutil.copytree(quick_model, old)
    train = ("train", discs.images, "--boxes", discs.boxes, *TINY, "--seed", 1)
    assert "free some space" in boxprompt(*train, "--out", old).sentence()
    assert everything(tmp_path) == {"model", "model/model.json", "model/weights.safetensors"}
    for name in ("model.json", "weights.safetensors"):
        assert (old / name).read_bytes() == (quick_model / name).read_bytes()
    words = ("predict", old, discs.images, "--out", tmp_path / "masks")
    assert "free some space" in boxprompt(*words).sentence()
    assert everything(tmp_path / "masks") == set()


def test_a_new_model_replaces_an_old_one(quick_model: Path, discs: Discs, tmp_path: Path) -> None:
    old = tmp_path / "model"
    shutil.copytree(quick_model, old)
    train = ("train", discs.images, "--boxes", discs.boxes, *TINY, "--seed", 1)
    said = boxprompt(*train, "--out", old).ok().out
    record = json.loads((old / "model.json").read_text(encoding="utf-8"))["record"]
    agreement = f"box agreement on held-out planes {record['validation']['box_agreement']:.2f}"
    lines = said.splitlines()
    assert lines[0] == f"Model saved in {old}; whole images; {agreement}."
    error = record["reliability"]["ece"]
    assert lines[1].startswith(f"Calibration error on held-out planes, as boxes tell: {error:.3f}")
    assert record["reliability"]["planes"] == 1
    assert (old / "weights.safetensors").read_bytes() != (quick_model / "weights.safetensors").read_bytes()
    assert everything(tmp_path) == {"model", "model/model.json", "model/weights.safetensors"}


# Models


def description(**changes: object) -> Callable[[Path], None]:
    """Change the description of a model."""

    def spoil(folder: Path) -> None:
        path = folder / "model.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**found, **changes}), encoding="utf-8")

    return spoil


def other_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    save_file({f"other.{name}": value for name, value in load_file(path).items()}, path)


def half_the_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (shutil.rmtree, "check the path"),
    "no description": (lambda folder: (folder / "model.json").unlink(), "check the path"),
    "no weights": (lambda folder: (folder / "weights.safetensors").unlink(), "copy the whole folder"),
    "half the weights": (half_the_weights, "train again or copy the model anew"),
    "other weights": (other_weights, "train again or copy"),
    "half a description": (
        lambda folder: (folder / "model.json").write_text('{"format": 1'),
        "copy the model",
    ),
    "list": (lambda folder: (folder / "model.json").write_text("[1]"), "check the path"),
    "empty description": (lambda folder: (folder / "model.json").write_text("{}"), "copy it anew"),
    "other fields": (description(normalization={"low": [0], "high": [0]}), "copy it anew"),
    "newer": (description(format=2, record={"versions": {"napari-boxprompt": "9.1"}}), "9.1"),
    "unknown newer": (description(format=2, future=True), "run 'pip install -U napari-boxprompt'"),
    "other frozen model": (description(frozen={"name": "x", "sha256": "0" * 64}), "right file with --model"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_cannot_be_used(case: str, quick_model: Path, discs: Discs, tmp_path: Path) -> None:
    spoil, advice = MODELS[case]
    model, out = tmp_path / "model", tmp_path / "masks"
    shutil.copytree(quick_model, model)
    spoil(model)
    said = boxprompt("predict", model, discs.images, "--out", out).sentence()
    assert advice in said
    assert case == "other weights" or str(model) in said
    assert not out.exists() or everything(out) == set()


def test_the_sentence_names_both_frozen_models(
    quick_model: Path, discs: Discs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FakeModel("tuned", sha256="e" * 64)
    monkeypatch.setattr(napari_boxprompt.api, "load_frozen", lambda *_, **__: other)
    words = ("predict", quick_model, discs.images, "--out", tmp_path / "out", "--model", "tuned")
    said = boxprompt(*words).sentence()
    assert "'litemedsam' (weights ffffffffffff)" in said
    assert "'tuned' has weights eeeeeeeeeeee" in said


# Images of a folder that cannot be used


def test_images_that_cannot_be_used_are_left_out(quick_model: Path, discs: Discs, tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(discs.images, folder)
    whole = (folder / "image1.png").read_bytes()
    (folder / "image1.png").write_bytes(whole[: len(whole) // 2])  # its header can be read
    (folder / "a.tif").write_bytes(b"no image")
    (folder / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "colour.png")
    ended = boxprompt("predict", quick_model, folder, "--out", out, "--workers", 2)
    said = ended.sentence()
    assert said.startswith(f"Error: 4 of 7 images were left out. {folder / 'a.tif'} is damaged")
    assert f"{folder / 'empty.png'} is empty" in said
    assert "colour.png is in colour (channels: 3), but the model learnt from images that are grey" in said
    assert said.endswith("Left out too: image1.png.")
    assert ended.out == f"3 planes segmented; 7 files written to {out}.\n"
    written = {f"image{i}_{kind}.tif" for i in (0, 2, 3) for kind in ("mask", "objects")}
    assert everything(out) == written | {"objects.csv"}


def test_a_single_image_that_cannot_be_used(quick_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "colour.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    ended = boxprompt("predict", quick_model, path, "--out", tmp_path / "out")
    assert ended.sentence().startswith("Error: colour.png is in colour")
    assert not ended.out
    path.write_bytes(b"")
    assert "is empty" in boxprompt("predict", quick_model, path, "--out", tmp_path / "out").sentence()
    (tmp_path / "other.png").write_bytes(b"")
    said = boxprompt("predict", quick_model, tmp_path, "--out", tmp_path / "out").sentence()
    assert said.startswith(f"Error: None of the 2 images can be opened. {path} is empty")


def test_images_of_another_number_type_are_said(
    quick_model: Path, discs: Discs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(discs.images, folder)
    boxprompt("predict", quick_model, folder, "--out", tmp_path / "out").ok()
    assert not caplog.messages
    for name in ("image1.png", "image2.png"):
        pixels = np.asarray(Image.open(folder / name)).astype(np.uint16) * 257
        Image.fromarray(pixels).save(folder / name)
    boxprompt("predict", quick_model, folder, "--out", tmp_path / "out").ok()
    (said,) = caplog.messages
    assert said.startswith("image1.png has pixels of the type uint16, but the model learnt from uint8")


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_ends_the_prediction(quick_model: Path, discs: Discs, tmp_path: Path) -> None:
    said = boxprompt("predict", quick_model, discs.images, "--out", tmp_path / "out").sentence()
    assert "the disk is full" in said
    assert "left out" not in said


# Ctrl-C while predicting; while training it is tested with real signals


def test_ctrl_c_leaves_out_the_stack_that_is_not_finished(
    quick_model: Path, discs: Discs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = Predictor.predict, []

    def predict(self: Predictor, *arguments: object, **named: object) -> object:
        seen.append(arguments[0])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(self, *arguments, **named)

    monkeypatch.setattr(Predictor, "predict", predict)
    ended = boxprompt("predict", quick_model, discs.images, "--out", tmp_path / "out")
    assert ended.code == 130
    written = f"5 files were written to {tmp_path / 'out'}."
    assert ended.messages == [f"Stopped: 2 of {len(discs.shapes)} images are finished. {written}"]
    names = {f"image{i}_{kind}.tif" for i in range(2) for kind in ("mask", "objects")}
    assert everything(tmp_path / "out") == names | {"objects.csv"}
