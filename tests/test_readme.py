"""What README and documentation show works: the example runs, and every command and option exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.commands import make_discs
from typer.main import get_command

from napari_boxprompt import config, load_model
from napari_boxprompt.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def example() -> str:
    """Return the first Python block of the README."""
    return blocks(ROOT / "README.md", "python")[0]


def commands(page: Path) -> set[tuple[str, str]]:
    """Return name and words of every call of ours, in code blocks and in running text."""
    shown = {line for block in blocks(page, "[a-z]*") for line in block.replace("\\\n", " ").splitlines()}
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    shown |= set(re.findall(r"`(boxprompt [^`]+)`", prose))
    return {(page.name, line.strip()) for line in shown if re.match(r"\s*boxprompt\s", line)}


SHOWN = sorted(set[tuple[str, str]]().union(*map(commands, PAGES)))


def test_the_example_is_short() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 15


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    discs = make_discs(tmp_path / "drawn", ((112, 128),) * 3)
    fresh = make_discs(tmp_path / "fresh", ((128, 112), (112, 128)), seed=5)
    monkeypatch.chdir(tmp_path)
    discs.images.rename("images")
    fresh.images.rename("more-images")
    discs.boxes.rename("boxes.json")
    quick = {
        "steps": 14,
        "batch": 2,
        "learning_rate": 0.005,
        "ema": 0.5,
        "hold_out": 0,
        "augment": {"views": 1},
    }
    monkeypatch.setattr(config, "PRESETS", {**config.PRESETS, "fast": quick})
    names: dict[str, Any] = {}
    exec(compile(example(), "README.md", "exec"), names)  # its words are ours
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert [int(line.split()[-2]) for line in printed] == [2, 2]
    assert (tmp_path / "my-model" / "model.json").is_file()
    assert load_model("my-model").model.classes == ("disc",)
    wanted = fresh.mask("image1.png")
    assert 2 * np.sum((names["mask"] > 0) & wanted) / ((names["mask"] > 0).sum() + wanted.sum()) > 0.85
    assert names["labels"].max() == 2


def test_pages_show_commands() -> None:
    assert {line.split()[1] for _, line in SHOWN} >= {
        "demo",
        "train",
        "predict",
        "benchmark",
        "models",
        "doctor",
    }


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_commands_that_are_shown_exist(page: str, line: str) -> None:
    # A letter stands for a number, as in "--label N".
    words = shlex.split(re.sub(r"(--\w+) [A-Z]\b", r"\1 1", line), comments=True)[1:]
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        assert words, f"{page}: {line} names no command"
        assert words[0] in command.commands, f"{page}: {line}"
        command = command.commands[words.pop(0)]
    # The bare name of a command, as in a sentence about it, is not meant to be typed like that.
    if words:
        command.make_context(line, words)
