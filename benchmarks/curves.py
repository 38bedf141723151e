"""Dice against the number of boxed images as an SVG: a panel for each data set, a line for each preset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = ("#0b66c3", "#d1495b", "#2e8b57", "#8a5fbf", "#c77d0a", "#555b66")
WIDTH, HEIGHT, LEFT, TOP, BELOW, ACROSS = 300, 220, 48, 64, 48, 2
"""Of a panel, the room around it, and panels side by side."""

Cell = Mapping[str, Any]


def draw_curves(found: Mapping[str, Sequence[Cell]]) -> str:
    """SVG of the cells of each data set; bands are 95 % intervals, dashes the oracle where there is one."""
    names = list(dict.fromkeys(_name(cell) for cells in found.values() for cell in cells))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    rows = math.ceil(len(found) / ACROSS)
    width = min(len(found), ACROSS) * (WIDTH + LEFT) + 24
    height = rows * (HEIGHT + TOP + BELOW) + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, (task, cells) in enumerate(found.items()):
        x, y = LEFT + i % ACROSS * (WIDTH + LEFT), TOP + i // ACROSS * (HEIGHT + TOP + BELOW) - 24
        parts += [f'<g transform="translate({x} {y})">', *_panel(task, cells, colours), "</g>"]
    x = LEFT
    oracle = any("oracle_dice" in cell for cells in found.values() for cell in cells)
    for name, colour in [*colours.items(), *[("frozen model, true boxes", "#333")] * oracle]:
        dash = ' stroke-dasharray="5 4"' if name not in colours else ""
        parts.append(
            f'<path d="M{x} {height - 20}h24" stroke="{colour}" stroke-width="2"{dash}/>'
            f'<text x="{x + 30}" y="{height - 16}">{escape(name)}</text>'
        )
        x += 56 + 7 * len(name)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _name(cell: Cell) -> str:
    parts = [cell["preset"], *(f"{k}={v}" for k, v in cell["changed"].items())]
    parts += ["from masks"] * (cell["supervision"] == "masks") + ["transductive"] * cell["transductive"]
    return ", ".join(parts)


def _panel(task: str, cells: Sequence[Cell], colours: Mapping[str, str]) -> list[str]:
    shots = sorted({cell["shots"] for cell in cells})
    bounds = [
        v for c in cells for v in (c["dice"], c.get("oracle_dice", c["dice"]), *(c["dice_interval"] or ()))
    ]
    step = 5 if max(bounds) - min(bounds) <= 0.3 else 10 if max(bounds) - min(bounds) <= 0.6 else 20
    low = step * math.floor(100 * min(bounds) / step)
    high = min(100, max(low + step, step * math.ceil(100 * max(bounds) / step)))

    def x(value: float) -> float:
        """Doublings are as far apart as each other; a single number of shots lies in the middle."""
        share = math.log(value / shots[0]) / math.log(shots[-1] / shots[0]) if len(shots) > 1 else 0.5
        return round(20 + share * (WIDTH - 40), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (high - 100 * value) / (high - low), 1)

    parts = [f'<text x="0" y="-12" font-size="14" font-weight="bold">{escape(task)}</text>']
    for tick in range(low, high + 1, step):
        parts.append(f'<path d="M0 {y(tick / 100)}H{WIDTH}" stroke="#e3e5e8"/>')
        parts.append(f'<text x="-8" y="{y(tick / 100) + 4}" text-anchor="end">{tick}</text>')
    for count in shots:
        parts.append(f'<path d="M{x(count)} {HEIGHT}v4" stroke="#333"/>')
        parts.append(f'<text x="{x(count)}" y="{HEIGHT + 18}" text-anchor="middle">{count}</text>')
    parts.append(f'<path d="M0 {HEIGHT}H{WIDTH}" stroke="#333"/>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT + 34}" text-anchor="middle">boxed images</text>')
    parts.append(
        f'<text transform="translate(-34 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">Dice, %</text>'
    )
    for name, colour in colours.items():
        line = sorted((c for c in cells if _name(c) == name), key=lambda c: c["shots"])
        parts += _line(
            [(x(c["shots"]), y(c["dice"]), [y(v) for v in c["dice_interval"] or ()]) for c in line], colour
        )
    # The oracle sees no training, but each number of shots has its own seeds and test images.
    known = [cell for cell in cells if "oracle_dice" in cell]
    oracle = {s: [c["oracle_dice"] for c in known if c["shots"] == s] for s in shots}
    points = [(x(s), y(sum(v) / len(v))) for s, v in oracle.items() if v]
    if not points:
        return parts
    points = points if len(points) > 1 else [(0, points[0][1]), (WIDTH, points[0][1])]
    return [*parts, _path(points, 'fill="none" stroke="#333" stroke-width="1.5" stroke-dasharray="5 4"')]


def _line(points: Sequence[tuple[float, float, list[float]]], colour: str) -> list[str]:
    sure = [(x, bounds) for x, _, bounds in points if bounds]
    band = [(x, bounds[1]) for x, bounds in sure] + [(x, bounds[0]) for x, bounds in reversed(sure)]
    if len(sure) == 1:
        band = [
            (x + d, v)
            for (x, bounds) in sure
            for d, v in zip((-4, 4, 4, -4), sorted(bounds * 2), strict=True)
        ]
    dots = [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y, _ in points]
    shade = [_path(band, f'fill="{colour}" fill-opacity="0.14"')] if band else []
    drawn = (
        [_path([(x, y) for x, y, _ in points], f'fill="none" stroke="{colour}" stroke-width="2"')]
        if points
        else []
    )
    return [*shade, *drawn, *dots]


def _path(points: Sequence[tuple[float, float]], style: str) -> str:
    return f'<path d="M{" L".join(f"{x} {y}" for x, y in points)}" {style}/>'
