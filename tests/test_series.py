from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.report import interval, versions
from napari_boxprompt.series import Series, cells, filled, row


def plane(subject: str, dice: float, oracle: float = 0.9) -> dict[str, Any]:
    return {"subject": subject, "dice": dice, "oracle": oracle}


def report(seed: int = 0, dice: float = 0.8, **changes: Any) -> dict[str, Any]:
    """A report with what the table is made of; `changes` go into its plan."""
    run = {
        "preset": "balanced",
        "supervision": "boxes",
        "shots": 20,
        "test": 50,
        "jitter": 0.0,
        "missing": 0.0,
        "wrong": 0.0,
        "changed": {},
        "config": {"seed": seed},
        **changes,
    }
    planes = [plane("a", dice - 0.1), plane("a", dice), plane(f"b{seed}", dice + 0.1)]
    return {
        "run": run,
        "seed": seed,
        "preset": run["preset"],
        "versions": versions(),
        "transductive": False,
        "planes": planes,
        "dice": {"mean": dice},
        "oracle_dice": 0.9,
        "assd": {"mean": 2.0},
        "reliability": {"test": {"ece": 0.02}, "held": None},
        "n_boxes": 40,
        "n_train": 20,
        "n_test": 3,
        "seconds": {"encode": 1.0, "train": 2.0, "predict": 3.0, "total": 7.0 + seed},
        "peak_rss_mb": 1000.0 + seed,
    }


# Intervals


def test_interval_of_independent_planes_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(1)
    dices = rng.normal(0.8, 0.1, 200)
    low, high = interval([[plane(str(i), d) for i, d in enumerate(dices)]])["dice"] or (0, 0)
    error = 1.96 * dices.std() / 200**0.5
    assert (low, high) == pytest.approx((dices.mean() - error, dices.mean() + error), abs=0.003)


def test_planes_of_one_subject_count_together() -> None:
    dices = np.random.default_rng(1).normal(0.8, 0.1, 10)
    repeated = [plane(str(i), d) for i, d in enumerate(dices) for _ in range(20)]
    once = [plane(str(i), d) for i, d in enumerate(dices)]
    found, wanted = interval([repeated])["dice"], interval([once])["dice"]
    assert found == pytest.approx(wanted)


def test_a_subject_of_several_runs_is_drawn_for_all_of_them() -> None:
    run = [plane("a", 0.6), plane("b", 0.8), plane("c", 1.0)]
    same, once = interval([run, run, run])["dice"], interval([run])["dice"]
    assert same == pytest.approx(once), "three runs on the same subjects are not three times as many subjects"
    others = [[plane(f"{i}{p['subject']}", p["dice"]) for p in run] for i in range(3)]
    low, high = interval(others)["dice"] or (0, 0)
    assert once is not None
    assert high - low < 0.75 * (once[1] - once[0])


def test_runs_weigh_the_same_however_many_planes_they_have() -> None:
    many = [plane(f"m{i}", 1.0) for i in range(100)]
    few = [plane(f"f{i}", 0.0) for i in range(20)]
    low, high = interval([many, few])["dice"] or (0, 0)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)


def test_ratio_is_of_the_same_draws() -> None:
    run = [plane(str(i), 0.9 * o, o) for i, o in enumerate((0.2, 0.5, 0.9, 1.0))]
    found = interval([run])
    assert found["ratio"] == pytest.approx([0.9, 0.9])
    assert found["dice"] is not None
    assert found["dice"][1] - found["dice"][0] > 0.2


def test_no_interval() -> None:
    assert interval([[plane("a", 0.5), plane("a", 0.7)]]) == {"dice": None, "ratio": None}
    assert interval([[plane("a", 0.5, 0.0), plane("b", 0.7, 0.0)]])["ratio"] is None


# Cells and rows


def test_seeds_are_averaged_and_nothing_else() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"preset": "fast"},
        {"shots": 5},
        {"supervision": "masks"},
        {"jitter": 0.1},
        {"missing": 0.1},
        {"wrong": 0.05},
        {"changed": {"steps": 4}},
        {"test": 7},
    ]
    reports = [report(seed, 0.7 + seed / 10, **change) for seed in (0, 1) for change in changes]
    found = cells(reports)
    assert len(found) == len(changes)
    for cell, change in zip(found, changes, strict=True):
        assert cell["seeds"] == [0, 1]
        assert cell["dice"] == pytest.approx(0.75)
        assert {name: cell[name] for name in change} == change


def test_figures_of_a_cell() -> None:
    (cell,) = cells([report(0, 0.7), report(1, 0.8)])
    assert cell["ratio"] == pytest.approx(0.75 / 0.9)
    assert cell["dice_p5"] == pytest.approx(np.percentile([0.6, 0.7, 0.8, 0.7, 0.8, 0.9], 5))
    assert (cell["n_test"], cell["subjects"]) == (6, 3)
    assert (cell["ece_test"], cell["ece_held"]) == (0.02, None)
    assert cell["seconds"] == {"encode": 1.0, "train": 2.0, "predict": 3.0, "total": 7.5}
    assert cell["peak_rss_mb"] == 1001
    assert cell["dice_interval"][0] < 0.75 < cell["dice_interval"][1]


def test_held_out_planes_of_some_runs_only() -> None:
    with_held = report(1)
    with_held["reliability"] = {"test": {"ece": 0.04}, "held": {"ece": 0.1}}
    (cell,) = cells([report(0), with_held])
    assert (cell["ece_test"], cell["ece_held"]) == (pytest.approx(0.03), 0.1)


def test_transductive_runs_stand_in_a_column_of_their_own() -> None:
    other = {**report(1), "transductive": True}
    strict, transductive = map(row, cells([report(0), other]))
    assert (strict["transductive"], transductive["Dice (95 %)"]) == ("-", "-")
    assert strict["Dice (95 %)"].startswith("80.0 (")
    assert transductive["transductive"].startswith("80.0 (")


def test_words_of_a_row() -> None:
    (cell,) = cells([report(jitter=0.1, wrong=0.05, changed={"loss.size": 0.02})])
    found = row(cell)
    assert found["preset"] == "balanced"
    assert found["changed"] == "loss.size=0.02, jitter 0.1, wrong 0.05"
    assert (found["ratio"], found["ECE"], found["boxes"]) == ("0.889", "0.020 / -", "40 on 20")
    assert found["test"] == "3 of 2 subjects"
    assert found["seconds"] == "1 / 2 / 3 / 7"
    assert row({**cell, "ratio": None})["ratio (95 %)"] == "-"


def test_columns_for_special_runs_are_there_when_needed() -> None:
    names = ["preset", "transductive", "changed"]
    plain = row(cells([report()])[0])
    other = row(cells([{**report(missing=0.1), "transductive": True}])[0])
    assert filled(names, [plain]) == ["preset"]
    assert filled(names, [plain, other]) == names


# The file


def test_one_run_is_its_own_report(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Series(path, 1).add(report())
    assert json.loads(path.read_text(encoding="utf-8")) == report()


def test_several_runs_are_written_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    series = Series(path, 3)
    for seed in range(3):
        series.add(report(seed))
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content == {
            "cells": cells([report(s) for s in range(seed + 1)]),
            "runs": [report(s) for s in range(seed + 1)],
        }


def test_going_on(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Series(path, 1).add(report(0))
    resumed = Series(path, 2, resume=True)
    assert resumed.find(report(0)["run"]) == report(0)
    assert resumed.find(report(1)["run"]) is None
    assert resumed.find(report(0, jitter=0.1)["run"]) is None
    resumed.add(report(1))
    assert len(json.loads(path.read_text(encoding="utf-8"))["runs"]) == 2
    assert Series(path, 2, resume=True).find(report(1)["run"]) == report(1)
    assert Series(path, 2).reports == []


def test_runs_of_other_versions_are_done_again(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    Series(path, 2).add({**report(), "versions": {"torch": "0.1"}})
    resumed = Series(path, 2, resume=True)
    assert resumed.find(report()["run"]) is None
    resumed.add(report())
    assert resumed.reports == [report()]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{"dice": 1}]}', "{"])
def test_files_that_cannot_be_gone_on_with(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="leave out --resume"):
        Series(path, 2, resume=True)
    assert path.read_text(encoding="utf-8") == text


def test_going_on_with_nothing(tmp_path: Path) -> None:
    assert Series(tmp_path / "r.json", 2, resume=True).reports == []
