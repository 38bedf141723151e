"""``boxprompt loop``: rounds of a simulated person."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_benchmark import TINY, Data, make_data
from tests.helpers.commands import boxprompt

from napari_boxprompt import loop
from napari_boxprompt.ranking import REASONS


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return make_data(tmp_path / "data")


@pytest.fixture
def quick(fake_weights: None, tiny_generator: None) -> None:
    """The fake model and the tiny generator, by name."""


def run(data: Data, out: Path, *words: object) -> dict[str, Any]:
    options = ("--label", 1, "--rounds", 3, "--per-round", 2, "--test", 3, "--no-cache")
    boxprompt("loop", data.folder, "--json", out, *options, *TINY, *words).ok()
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("strategy", ["combined", "random", "novelty", "views"])
def test_each_round_boxes_two_more_images_of_other_subjects(
    data: Data, tmp_path: Path, strategy: str
) -> None:
    report = run(data, tmp_path / "loop.json", "--strategy", strategy)
    assert report["strategy"] == strategy
    boxed = [found["images"] for found in report["rounds"]]
    assert [len(images) for images in boxed] == [2, 4, 6]
    for before, after, found in zip(boxed, boxed[1:], report["rounds"], strict=False):
        assert after[: len(before)] == before
        assert [item["image"] for item in found["asked"]] == after[len(before) :]
        assert {item["because"] for item in found["asked"]} <= set(REASONS)
    assert len(set(boxed[-1])) == 6
    tested = {plane["image"] for found in report["rounds"] for plane in found["planes"]}
    assert not {data.subjects[name] for name in boxed[-1]} & {data.subjects[name] for name in tested}
    assert [found["n_boxes"] for found in report["rounds"]] == [6, 12, 18]
    assert report["rounds"][-1]["asked"] == []


@pytest.mark.usefixtures("quick")
def test_strategies_begin_alike_and_the_seed_decides(data: Data, tmp_path: Path) -> None:
    first = [
        run(data, tmp_path / f"{i}.json", "--rounds", 1, *words)["rounds"][0]["images"]
        for i, words in enumerate(
            [("--strategy", "random"), ("--strategy", "combined"), ("--seed", 1), ("--seed", 2)]
        )
    ]
    assert first[0] == first[1]
    assert len({tuple(sorted(images)) for images in first[1:]}) > 1


@pytest.mark.usefixtures("quick")
def test_only_the_boxes_of_asked_images_are_used(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[set[str]] = []
    original = loop.start_training

    def noted(images: Any, boxes: Any, *rest: Any, **options: Any) -> Any:
        used.append({plane.image for plane in boxes.boxed_planes})
        assert {plane.image for plane in images.planes} == used[-1]
        return original(images, boxes, *rest, **options)

    monkeypatch.setattr(loop, "start_training", noted)
    report = run(data, tmp_path / "loop.json")
    assert used == [set(found["images"]) for found in report["rounds"]]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("strategy", ["views", "combined"])
def test_only_the_strategy_that_needs_it_compares_two_views(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    known: list[bool] = []
    original = loop.order_planes

    def noted(candidates: Any, *rest: Any, **options: Any) -> Any:
        known.extend(not math.isnan(plane.views) for plane in candidates)
        return original(candidates, *rest, **options)

    monkeypatch.setattr(loop, "order_planes", noted)
    report = run(data, tmp_path / "loop.json", "--strategy", strategy, "--rounds", 2)
    assert known
    assert all(known) == any(known) == (strategy == "views")
    if strategy == "views":
        assert {item["because"] for item in report["rounds"][0]["asked"]} == {"views"}


@pytest.mark.usefixtures("quick")
def test_more_rounds_than_images_are_refused(data: Data, tmp_path: Path) -> None:
    words = ("loop", data.folder, "--json", tmp_path / "loop.json", "--label", 1, "--rounds", 4)
    ended = boxprompt(*words, "--per-round", 2, "--no-cache", *TINY)
    assert "need 8 images" in ended.sentence()
    assert not (tmp_path / "loop.json").exists()
