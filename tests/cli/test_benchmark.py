"""``boxprompt benchmark``: what it reports, and that it learns from boxes of training images alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tests.conftest import quick_config
from tests.helpers.commands import boxprompt, everything, write_image
from tests.helpers.synthetic import draw_plane

import napari_boxprompt.benchmarking
from napari_boxprompt.benchmarking import BenchmarkFolder, Split, run_benchmark
from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.cli import INTERRUPTED
from napari_boxprompt.config import Supervision
from napari_boxprompt.disturbance import Disturbance
from napari_boxprompt.errors import ImageError
from napari_boxprompt.events import Event
from napari_boxprompt.experiment import Outcome
from napari_boxprompt.models.encoding import Encoder

TINY = ("--set", "generator=tiny", "--set", "steps=3", "--set", "batch=2", "--set", "augment.views=0")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Data:
    """A benchmark folder: two files of each of six subjects, three objects of class 1 and one of class 2."""

    folder: Path
    subjects: dict[str, str]

    def masks(self) -> dict[str, npt.NDArray[np.uint8]]:
        return {name: np.asarray(Image.open(self.folder / "masks" / name)) for name in self.subjects}


def make_data(folder: Path, suffix: str = ".png", *, numbered: bool = False) -> Data:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    subjects = {f"s{i // 2}_{i % 2}{suffix}": f"s{i // 2}" for i in range(12)}
    for name in subjects:
        values, labels = draw_plane((96, 112), [0.8] * 4, rng)
        mask = labels if numbered else np.where(labels == 4, 2, labels > 0)
        write_image(folder / "images" / name, (values * 255).astype(np.uint8))
        write_image(folder / "masks" / name, mask.astype(np.uint8))
    rows = "".join(f"{name},{subject}\n" for name, subject in subjects.items())
    (folder / "manifest.csv").write_text(f"file,subject\n{rows}", encoding="utf-8")
    return Data(folder, subjects)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return make_data(tmp_path / "data")


@pytest.fixture
def quick(fake_weights: None, tiny_generator: None) -> None:
    """The fake model and the tiny generator, by name."""


def benchmark(data: Data, out: Path, *words: object) -> dict[str, Any]:
    out.parent.mkdir(exist_ok=True)
    boxprompt("benchmark", data.folder, "--json", out, *TINY, *words).ok()
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


# Report


@pytest.mark.usefixtures("quick")
def test_the_line_above_learns_from_masks(data: Data, tmp_path: Path) -> None:
    words = ("--instances", "--shots", 4, "--test", 3)
    by_boxes = benchmark(data, tmp_path / "boxes.json", *words)
    by_masks = benchmark(data, tmp_path / "masks.json", *words, "--supervision", "masks")
    assert (by_boxes["supervision"], by_masks["supervision"]) == ("boxes", "masks")
    assert by_boxes["oracle_dice"] == by_masks["oracle_dice"]


def test_masks_teach_something_else_than_boxes(data: Data, encoder: Encoder, tiny_generator: None) -> None:
    by_boxes, by_masks = outcome(data, encoder), outcome(data, encoder, "masks")
    assert any(
        not torch.equal(weights, by_masks.model.weights[name])
        for name, weights in by_boxes.model.weights.items()
    )


@pytest.mark.usefixtures("quick")
def test_the_report_has_the_keys_of_the_contract(data: Data, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.json"
    words = ("--instances", "--shots", 4, "--test", 3, "--preset", "fast")
    ended = boxprompt("benchmark", data.folder, "--json", out, *TINY, *words).ok()
    report = json.loads(out.read_text(encoding="utf-8"))
    assert set(report["dice"]) == set(report["assd"]) == {"mean", "sd", "p5", "p50"}
    assert set(report["seconds"]) == {"encode", "train", "predict", "total"}
    assert report["ratio"] == pytest.approx(report["dice"]["mean"] / report["oracle_dice"])
    assert (report["n_train"], report["n_test"], report["n_boxes"]) == (4, 3, 8)
    assert (report["model"], report["preset"], report["device"]) == ("fake", "fast", "cpu")
    assert 0 <= report["no_prompt_dice"] < report["oracle_dice"] <= 1
    assert {"peak_rss_mb", "versions", "seed", "tile", "generator", "precision"} <= set(report)
    for figure in ("dice", "assd"):
        found = [plane[figure] for plane in report["planes"]]
        assert report[figure]["mean"] == pytest.approx(np.mean(found))
        assert report[figure]["p5"] == pytest.approx(np.percentile(found, 5))
    for word in (
        "data, 4 shots, seed 0",
        "8 on 4 planes",
        f"{report['dice']['mean']:.3f}",
        "oracle",
        "no prompt",
    ):
        assert word in ended.out
    assert everything(tmp_path / "new") == {"report.json"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "per_image"),
    [(("--label", 1), 3), (("--label", 1, "--one-box"), 1), (("--label", 2), 1), (("--instances",), 2)],
)
def test_boxes_of_each_mode(words: tuple[object, ...], per_image: int, data: Data, tmp_path: Path) -> None:
    report = benchmark(data, tmp_path / "report.json", *words, "--shots", 5, "--test", 1)
    assert (report["n_boxes"], report["n_train"]) == (5 * per_image, 5)


@pytest.mark.usefixtures("quick")
def test_workers_and_a_second_run_change_nothing(data: Data, tmp_path: Path) -> None:
    words = ("--label", 1, "--shots", 4, "--test", 4)
    reports = [
        benchmark(data, tmp_path / f"{i}.json", *words, *more)
        for i, more in enumerate(([], ["--workers", 3], ["--seed", 1]))
    ]
    assert reports[0]["planes"] == reports[1]["planes"]
    assert reports[0]["planes"] != reports[2]["planes"]


# Several runs


@pytest.mark.usefixtures("quick")
def test_every_combination_in_one_report(data: Data, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    words = ("--instances", "--test", 3, "--shots", "3,5", "--seeds", "0,2", "--presets", "fast,balanced")
    ended = boxprompt("benchmark", data.folder, "--json", out, *TINY, *words).ok()
    found = json.loads(out.read_text(encoding="utf-8"))
    runs = [(run["run"]["shots"], run["preset"], run["seed"]) for run in found["runs"]]
    assert sorted(runs) == [(s, p, seed) for s in (3, 5) for p in ("balanced", "fast") for seed in (0, 2)]
    assert [(cell["shots"], cell["preset"], cell["seeds"]) for cell in found["cells"]] == [
        (s, p, [0, 2]) for s in (3, 5) for p in ("fast", "balanced")
    ]
    assert "Run 8 of 8: balanced, 5 shots, seed 2" in ended.err
    assert "Dice (95 %)" in ended.out
    alone = benchmark(data, tmp_path / "one.json", "--instances", "--test", 3, "--shots", 5, "--seed", 2)
    (same,) = (run for run in found["runs"] if run["run"] == alone["run"])
    assert same["planes"] == alone["planes"], "a run in a series is the same as alone"


@pytest.mark.usefixtures("quick")
def test_a_series_goes_on_where_it_was_stopped(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.json"
    words = ("benchmark", data.folder, "--json", out, *TINY, "--instances", "--test", 2, "--shots", 3)
    real, done = napari_boxprompt.benchmarking.run_plan, list[int]()

    def stopped(folder: Any, plan: Any, *words: Any, **more: Any) -> Any:
        if plan.config.seed == 1 and not done.count(1):
            done.append(1)
            raise KeyboardInterrupt
        done.append(plan.config.seed)
        return real(folder, plan, *words, **more)

    monkeypatch.setattr(napari_boxprompt.benchmarking, "run_plan", stopped)
    assert boxprompt(*words, "--seeds", "0,1,2").code == INTERRUPTED
    assert [run["seed"] for run in json.loads(out.read_text(encoding="utf-8"))["runs"]] == [0]
    boxprompt(*words, "--seeds", "0,1,2", "--resume").ok()
    assert done == [0, 1, 1, 2]
    assert [run["seed"] for run in json.loads(out.read_text(encoding="utf-8"))["runs"]] == [0, 1, 2]
    boxprompt(*words, "--seeds", "0", "--resume", "--jitter", "0.1").ok()
    assert done == [0, 1, 1, 2, 0], "another plan is another run"
    said = boxprompt(*words, "--seeds", "0", "--resume").ok().out
    assert "data, generator=tiny, steps=3" in said
    assert "jitter 0.1" in said, "what is in the report is in the table"


@pytest.mark.usefixtures("quick")
def test_disturbed_boxes(data: Data, tmp_path: Path) -> None:
    learning = ("--set", "steps=12", "--set", "learning_rate=0.04", "--set", "ema=0.5")
    words = ("--instances", "--shots", 5, "--test", 3, *learning)
    clean = benchmark(data, tmp_path / "clean.json", *words)
    missing = benchmark(data, tmp_path / "missing.json", *words, "--missing", 0.2)
    moved = benchmark(data, tmp_path / "moved.json", *words, "--jitter", 0.1, "--wrong", 0.05)
    assert (clean["n_boxes"], missing["n_boxes"], moved["n_boxes"]) == (10, 8, 10)
    assert [moved["run"][name] for name in ("jitter", "missing", "wrong")] == [0.1, 0.0, 0.05]
    for other in (missing, moved):
        assert other["oracle_dice"] == clean["oracle_dice"], "boxes of test images are as they were"
        assert other["reliability"]["test"] != clean["reliability"]["test"], "something else is learnt"


def test_a_palette_counts_as_numbers_and_colours_are_refused(data: Data) -> None:
    name, folder = "s0_0.png", BenchmarkFolder(data.folder, "instances")
    path = data.folder / "masks" / name
    before = folder.mask(name)
    picture = Image.fromarray(before)
    picture.putpalette([0, 0, 0, 128, 0, 0, 128, 128, 0])  # 1 and 2 are equally red
    picture.save(path)
    np.testing.assert_array_equal(folder.mask(name), before)
    picture.convert("RGB").save(path)
    with pytest.raises(ImageError, match="three colour channels"):
        folder.mask(name)


def test_files_in_folders_keep_their_names_in_the_manifest(data: Data) -> None:
    rows = "file,subject\n"
    for name, subject in data.subjects.items():
        for kind in ("images", "masks"):
            (data.folder / kind / subject).mkdir(exist_ok=True)
            (data.folder / kind / name).rename(data.folder / kind / subject / name[3:])
        rows += f"{subject}/{name[3:]},{subject}\n"
    (data.folder / "manifest.csv").write_text(rows, encoding="utf-8")
    folder = BenchmarkFolder(data.folder, "instances")
    split = Split(("s0/0.png", "s0/1.png"), ("s1/0.png",))  # each side shares a folder
    experiment = folder.experiment(split, "masks")
    assert [plane.image for plane in experiment.train_images.planes] == list(split.train)
    assert set(experiment.masks or ()) == set(experiment.train_images.planes)
    (plane,) = experiment.test_images().planes
    assert experiment.subject is not None
    assert experiment.subject(plane) == "s1"
    assert experiment.reference(plane).any()
    assert len(experiment.true_boxes(plane)) == 2


def test_only_boxes_to_train_on_are_disturbed(data: Data) -> None:
    folder = BenchmarkFolder(data.folder, "instances")
    split = folder.split(5, 3, 0)
    clean, other = folder.experiment(split), folder.experiment(split, disturbance=Disturbance(0.1, 0.2, 0.1))
    assert len(other.boxes) == len(clean.boxes) - 2
    withdrawn = {plane for plane, info in other.boxes.planes.items() if not info.complete}
    assert 1 <= len(withdrawn) <= 2
    for file in split.test:
        assert list(other.true_boxes(PlaneId(file))) == list(clean.true_boxes(PlaneId(file)))


@pytest.mark.usefixtures("quick")
def test_pictures_of_the_worst(data: Data, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    words = ("--instances", "--shots", 4, "--test", 5, "--pictures", pictures, "--worst", 2)
    report = benchmark(data, tmp_path / "report.json", *words)
    ranked = sorted(report["planes"], key=lambda plane: plane["dice"])[:2]
    assert everything(pictures / "balanced-4-0") == {
        f"{i:02d}-dice-{plane['dice']:.3f}-{Path(plane['image']).stem}.png"
        for i, plane in enumerate(ranked, 1)
    }
    benchmark(data, tmp_path / "both.json", *words[:-2], "--worst", 1, "--seeds", "0,1")
    assert len(list((pictures / "balanced-4-1").iterdir())) == 1


@pytest.mark.usefixtures("quick")
def test_what_a_report_says_of_calibration_and_subjects(data: Data, tmp_path: Path) -> None:
    report = benchmark(data, tmp_path / "report.json", "--instances", "--shots", 6, "--test", 6)
    assert {plane["subject"] for plane in report["planes"]} == {
        data.subjects[plane["image"]] for plane in report["planes"]
    }
    assert report["reliability"]["test"]["pixels"] == 6 * 96 * 112
    assert report["reliability"]["held"]["planes"] == 1
    assert report["transductive"] is False
    low, high = report["dice_interval"]
    assert low <= report["dice"]["mean"] <= high


# Who is trained on, who is tested on


@pytest.mark.parametrize("seed", range(8))
def test_no_subject_is_on_both_sides(seed: int, data: Data) -> None:
    split = BenchmarkFolder(data.folder, "instances").split(20, 50, seed)
    sides = [{data.subjects[name] for name in files} for files in (split.train, split.test)]
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[0]) == len(sides[1]) == 3
    assert (len(split.train), len(split.test)) == (6, 6)
    assert split == BenchmarkFolder(data.folder, "instances").split(20, 50, seed)
    others = [BenchmarkFolder(data.folder, "instances").split(20, 50, s) for s in range(8) if s != seed]
    assert any(split != other for other in others)
    assert len(BenchmarkFolder(data.folder, "instances").split(3, 2, seed).train) == 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_nothing_but_training_files_is_opened_before_training_has_ended(suffix: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", suffix)
    # A process of its own, since a hook that sees every file opened can never be taken off again.
    ended = subprocess.run(
        [sys.executable, "-m", "tests.helpers.opened_files", str(data.folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    opened = json.loads(ended.stdout)
    split = BenchmarkFolder(data.folder, "components", 1).split(3, 2, 0)

    def files(names: tuple[str, ...]) -> set[str]:
        return {f"{kind}/{name}" for kind in ("images", "masks") for name in names}

    assert set(opened["before"]) == {"manifest.csv"} | files(split.train)
    assert set(opened["after"]) >= files(split.test), "the hook sees what is opened"
    assert set(opened["after"]) <= files(split.test)


def outcome(data: Data, encoder: Encoder, supervision: Supervision = "boxes") -> Outcome:
    folder = BenchmarkFolder(data.folder, "instances")
    found = list[Outcome]()

    def work() -> Iterator[Event]:
        config = quick_config(steps=4)
        found.append(
            (yield from run_benchmark(folder, config, encoder, shots=4, test=3, supervision=supervision))
        )

    list(work())
    return found[0]


def sides_only(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One pixel for each side of each object's box, and nothing else of the object."""
    kept = np.zeros_like(mask)
    for value in np.unique(mask[mask > 0]):
        ys, xs = np.nonzero(mask == value)
        for i in (ys.argmin(), ys.argmax(), xs.argmin(), xs.argmax()):
            kept[ys[i], xs[i]] = value
    return kept


def test_masks_that_differ_inside_their_boxes_teach_the_same(
    tmp_path: Path, encoder: Encoder, tiny_generator: None
) -> None:
    data = make_data(tmp_path / "data", numbered=True)
    before = outcome(data, encoder)
    split = BenchmarkFolder(data.folder, "instances").split(4, 3, 0)
    for name, mask in data.masks().items():
        if name in split.train:
            thin = sides_only(mask)
            boxes = [BoxSet.from_labels(values, PlaneId(name)).boxes for values in (mask, thin)]
            assert boxes[0] == boxes[1]
            assert np.count_nonzero(thin) < np.count_nonzero(mask) / 5
            write_image(data.folder / "masks" / name, thin)
    after = outcome(data, encoder)
    assert before.report["planes"] == after.report["planes"]
    for name, weights in before.model.weights.items():
        assert weights.numpy().tobytes() == after.model.weights[name].numpy().tobytes(), name


# What can be wrong


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ((), "Give either --label N or --instances"),
        (("--label", 1, "--instances"), "Give either --label N or --instances"),
        (("--instances", "--one-box"), "--one-box goes with --label N"),
        (("--label", 9), "check --label and the masks"),
        (("--instances", "--shots", "5,1"), "whole numbers from 2 on"),
        (("--instances", "--shots", "five"), "whole numbers from 2 on"),
        (("--instances", "--seeds", "0,0"), "different values with commas"),
        (("--instances", "--seeds", "-1"), "whole numbers from 0 on"),
        (("--instances", "--presets", "fast,"), "different values with commas"),
        (("--instances", "--presets", "fast,quick"), "no preset 'quick'"),
        (("--instances", "--jitter", "2"), "give a fraction"),
        (("--instances", "--jitter", "0.1", "--supervision", "masks"), "give --supervision boxes"),
    ],
)
def test_words_that_do_not_fit(words: tuple[object, ...], advice: str, data: Data, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert advice in boxprompt("benchmark", data.folder, "--json", out, *TINY, *words).sentence()
    assert not out.exists()


def without_manifest(data: Data) -> None:
    (data.folder / "manifest.csv").unlink()


def manifest(text: str) -> Any:
    def write(data: Data) -> None:
        (data.folder / "manifest.csv").write_text(text, encoding="utf-8")

    return write


def without(kind: str, name: str) -> Any:
    return lambda data: (data.folder / kind / name).unlink()


def small_test_masks(data: Data) -> None:
    for name in BenchmarkFolder(data.folder, "components", 1).split(3, 2, 0).test:
        write_image(data.folder / "masks" / name, np.ones((50, 50), np.uint8))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (without_manifest, "columns 'file' and 'subject'"),
        (manifest("name,who\na.png,b\n"), "columns 'file' and 'subject'"),
        (manifest("file,subject\ns0_0.png\n"), "filled in every row"),
        (manifest("file,subject\n"), "columns 'file' and 'subject'"),
        (manifest("file,subject\ns0_0.png,x\ns1_0.png,x\n"), "at least two"),
        (lambda data: [without("images", name)(data) for name in data.subjects], "correct the manifest"),
        (lambda data: [without("masks", name)(data) for name in data.subjects], "check the path"),
        (small_test_masks, "correct it"),
    ],
)
def test_folders_that_cannot_be_used(spoil: Any, advice: str, data: Data, tmp_path: Path) -> None:
    spoil(data)
    out = tmp_path / "report.json"
    words = ("benchmark", data.folder, "--label", 1, "--json", out, "--shots", 3, "--test", 2, *TINY)
    assert advice in boxprompt(*words).sentence()
    assert not out.exists()
