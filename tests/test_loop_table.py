"""The table of benchmarks/loop.py, from reports as `boxprompt loop` writes them."""

from __future__ import annotations

from typing import Any

from curves import draw_curves
from loop import curve, table


def rounds(*dice: float) -> list[dict[str, Any]]:
    """Rounds of a report: two images more in each, with three boxes."""
    return [
        {
            "round": number,
            "images": [f"{name}.png" for name in range(2 * number)],
            "n_boxes": 6 * number,
            "dice": {"mean": value, "sd": 0.1, "p5": 0.5, "p50": value},
        }
        for number, value in enumerate(dice, start=1)
    ]


def test_what_each_strategy_needs_to_be_nearly_as_good_as_chance() -> None:
    found = {
        "cells": [
            *curve("combined", [rounds(0.7, 0.9, 0.9), rounds(0.7, 0.8, 0.9)]),
            *curve("random", [rounds(0.7, 0.8, 0.85), rounds(0.7, 0.8, 0.91)]),
            *curve("doubt", [rounds(0.7, 0.7, 0.7)]),
        ]
    }
    assert table(found) == [
        "| data | strategy | 2 images | 4 images | 6 images | reaches 95 % of random with |",
        "|---|---|---|---|---|---|",
        "| cells | combined | 70.0 | 85.0 | 90.0 | 4 images, 12 boxes |",
        "| cells | random | 70.0 | 80.0 | 88.0 | 6 images, 18 boxes |",
        "| cells | doubt | 70.0 | 70.0 | 70.0 | not reached |",
    ]
    assert draw_curves(found).count("<circle") == 9, "a dot for each strategy after each round"
