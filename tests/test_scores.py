"""What is measured of the scores of planes; the script lies beside the package."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_benchmark import make_data

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scores.py"
SCORES = runpy.run_path(str(SCRIPT))


def test_what_a_score_knows() -> None:
    errors = np.arange(12) / 20
    assert SCORES["told"](errors, errors**2) == "1.00 (1.00 to 1.00); 0.450"
    assert SCORES["told"](errors, -errors).startswith("-1.00 (-1.00 to -1.00); 0.100")
    assert SCORES["told"](errors, np.full(12, 0.3)) == "the same for all"
    assert SCORES["told"](errors, np.full(12, np.nan)) == "not known"
    half = np.where(errors > 0.25, errors, np.nan)
    assert SCORES["told"](errors, half).startswith("1.00")


def test_of_equals_the_mean_comes_first() -> None:
    errors = np.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    values = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert SCORES["first_error"](errors, values) == pytest.approx((0.9 + 4 * 0.35) / 5)


def test_a_score_that_is_not_known_changes_no_mean_of_ranks() -> None:
    rows = [
        {"seed": 0, "image": str(i), "error": i / 10, "doubt": i, "size": i, "look": None, "views": -i}
        for i in range(8)
    ]
    *_, line = SCORES["table"](rows)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["0", "8", "0.350"]
    assert cells[5] == "not known"
    assert [cell[:4] for cell in (*cells[3:5], *cells[6:])] == ["1.00", "1.00", "-1.0", "1.00", "1.00"]


@pytest.mark.usefixtures("fake_weights", "tiny_generator")
def test_it_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = make_data(tmp_path / "data"), tmp_path / "scores.json"
    trained: list[int] = []
    script = SCORES["main"].__globals__
    real = script["train"]

    def train(images: Any, boxes: Any, preset: str, *, seed: int) -> Any:
        trained.append(seed)
        return real(images, boxes, preset, seed=seed, generator="tiny", steps=3, augment={"views": 0})

    monkeypatch.setitem(script, "train", train)
    words = [str(SCRIPT), str(data.folder), str(out), "--label", "1", "--shots", "4", "--test", "6"]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", words)
        SCORES["main"]()
    assert trained == [0]
    rows = json.loads(out.read_text(encoding="utf-8"))["images"]
    assert len(rows) == 6
    assert all(0 <= row["views"] <= 1 and 0 <= row["error"] <= 1 for row in rows)
    first, second = (part for part in capsys.readouterr().out.split("| seed")[1:])
    assert first == second
