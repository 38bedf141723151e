"""The picture of a series of benchmarks; what draws it lies beside the package."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

CURVES = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "curves.py"))


def cell(preset: str, shots: int, dice: float, **changes: Any) -> dict[str, Any]:
    return {
        "preset": preset,
        "changed": {},
        "supervision": "boxes",
        "transductive": False,
        "shots": shots,
        "dice": dice,
        "dice_interval": [dice - 0.02, dice + 0.02],
        "oracle_dice": 0.9,
        **changes,
    }


def draw(found: dict[str, list[dict[str, Any]]]) -> tuple[str, list[str], list[dict[str, str]]]:
    """The SVG, its words and its dots."""
    text = CURVES["draw_curves"](found)
    items = list(ElementTree.fromstring(text).iter())
    words = [item.text or "" for item in items if item.tag.endswith("text")]
    return text, words, [dict(item.attrib) for item in items if item.tag.endswith("circle")]


def test_lines_bands_and_words() -> None:
    shots = {5: 0.8, 10: 0.85, 20: 0.88}
    group = [cell(preset, s, d) for preset in ("fast", "balanced") for s, d in shots.items()]
    text, words, dots = draw({"one & two": group})
    assert {"one & two", "fast", "balanced", "5", "10", "20", "boxed images", "Dice, %"} <= set(words)
    assert len(dots) == 6
    assert len({dot["fill"] for dot in dots}) == 2
    xs = [float(dot["cx"]) for dot in dots[:3]]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2), "doublings are equally far apart"
    ys = [float(dot["cy"]) for dot in dots[:3]]
    assert ys[0] > ys[1] > ys[2], "better is higher"
    assert text.count("fill-opacity") == 2
    assert text.count("stroke-dasharray") == 2  # the oracle and its legend


def test_dots_lie_at_their_figures_on_the_axis() -> None:
    text, _, dots = draw({"a": [cell("fast", 5, 0.85), cell("fast", 10, 0.9)]})
    lines = re.findall(r'<path d="M0 ([0-9.]+)H300" stroke="#e3e5e8"/>\n<text[^>]*>([0-9]+)<', text)
    axis = {int(tick): float(y) for y, tick in lines}
    assert [float(dot["cy"]) for dot in dots] == [axis[85], axis[90]]


def test_one_number_of_shots() -> None:
    _, _, dots = draw({"a": [cell("fast", 8, 0.85, dice_interval=None)]})
    assert float(dots[0]["cx"]) == 150


def test_runs_that_differ_in_more_than_the_preset_are_lines_of_their_own() -> None:
    group = [
        cell("fast", 5, 0.8),
        cell("fast", 5, 0.81, changed={"steps": 4}),
        cell("fast", 5, 0.82, supervision="masks"),
        cell("fast", 5, 0.83, transductive=True),
    ]
    _, words, dots = draw({"a": group})
    assert {"fast", "fast, steps=4", "fast, from masks", "fast, transductive"} <= set(words)
    assert len({dot["fill"] for dot in dots}) == 4


def test_panels_lie_inside_the_picture() -> None:
    for count in (1, 2, 3, 5):
        text, _, dots = draw({f"d{i}": [cell("fast", 5, 0.1 * i + 0.3)] for i in range(count)})
        assert len(dots) == count
        width, height = map(int, re.findall(r'(?:width|height)="(\d+)"', text)[:2])
        places = [(float(x), float(y)) for x, y in re.findall(r'translate\((\d+) (\d+)\)">', text)]
        assert len(places) == len(set(places)) == count
        assert all(x + 300 <= width and y + 220 + 44 <= height for x, y in places)


def test_loops_have_no_oracle() -> None:
    cells = [{k: v for k, v in cell("random", n, 0.7).items() if k != "oracle_dice"} for n in (4, 8)]
    _, words, dots = draw({"cells": [{**c, "dice_interval": None} for c in cells]})
    assert "frozen model, true boxes" not in words
    assert len(dots) == 2
    assert {"4", "8", "random"} <= set(words)
