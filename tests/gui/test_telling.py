"""What is said to the user, in words."""

from __future__ import annotations

import pytest

pytest.importorskip("napari", reason="needs napari")

from napari_boxprompt.gui.telling import counted, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (84, "1 min 20 s"),
        (594, "9 min 50 s"),
        (596, "10 min"),
        (640, "11 min"),
        (3569, "59 min"),
        (3571, "1 h"),
        (7500, "2 h 5 min"),
        (36_000, "10 h"),
        (44_700, "12 h"),
    ],
)
def test_times(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_how_many() -> None:
    assert [counted(n, "box", "boxes") for n in (0, 1, 2)] == ["0 boxes", "1 box", "2 boxes"]
    assert counted(3, "plane") == "3 planes"
