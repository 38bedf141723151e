"""Files of weights: good ones, damaged ones and ones that want to run code."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models.checkpoints import file_sha256, load_state_dict

STATE = {
    "image_encoder.pos_embed": torch.arange(6.0).reshape(2, 3),
    "prompt_encoder.no_mask_embed.weight": torch.ones(1, 4),
    "mask_decoder.iou_token.weight": torch.zeros(1, 4),
}


class Evil:
    """Runs a command when it is unpickled; here it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model": STATE, "epoch": 3},
        {"state_dict": STATE},
        {"model_state": {f"sam.{name}": value for name, value in STATE.items()}, "iteration": 10},
        {f"module.{name}": value for name, value in STATE.items()},
        {**STATE, "pixel_mean": torch.zeros(3), "decoder.weight": torch.zeros(3)},
    ],
)
def test_layouts(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert same(load_state_dict(tmp_path / "w.pth"))


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert same(load_state_dict(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_truncated_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(STATE, path)
    else:
        save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match="damaged or not complete"):
        load_state_dict(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>Not found</html>", b"hello " * 20])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or not complete"):
        load_state_dict(path)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights file"):
        load_state_dict(tmp_path / "none.pth")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ModelError, match="is empty"):
        load_state_dict(tmp_path / "empty.pth")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"weight": torch.ones(2)}])
def test_files_without_a_model(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="no weights of a SAM-like model"):
        load_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("writer", ["torch", "pickle 2", "pickle 4"])
def test_code_in_a_file_is_not_run(tmp_path: Path, writer: str) -> None:
    content = {**STATE, "evil": Evil(tmp_path / "made")}
    path = tmp_path / "w.pth"
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(writer[-1])))
    with pytest.raises(ModelError, match="wants to run code"):
        load_state_dict(path)
    assert not (tmp_path / "made").exists()


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(ModelError, match="cannot be read"):
        file_sha256(tmp_path / "b")
