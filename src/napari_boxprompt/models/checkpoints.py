"""Reading files of weights without running anything that is inside them."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_boxprompt.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["file_sha256", "load_state_dict", "load_tensors"]

_NESTED = ("model", "state_dict", "model_state")
_DAMAGE = (
    SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,  # a length that is none
    struct.error,
)
_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises
    ------
    ModelError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a SAM-like model onto the CPU.

    Parameters
    ----------
    path : pathlib.Path
        A ``.safetensors`` file, or what `torch.save` wrote: a state dict, or a dict that holds one
        under ``"model"``, ``"state_dict"`` or ``"model_state"`` (micro-sam). Only the tensors of the
        image encoder, prompt encoder and mask decoder are kept; a prefix before these names, such
        as micro-sam's ``"sam."``, is taken off.

    Returns
    -------
    dict of str to torch.Tensor
        Names start with ``image_encoder.``, ``prompt_encoder.`` or ``mask_decoder.``.

    Raises
    ------
    ModelError
        The file is missing, empty, damaged, wants to run code, or holds no such tensors.
    """
    state = _sam_tensors(load_tensors(path))
    if not state:
        raise ModelError(
            f"{path} holds no weights of a SAM-like model; choose a checkpoint of SAM, MedSAM, "
            "LiteMedSAM or micro-sam (.pth, .pt or .safetensors)."
        )
    return state


def load_tensors(path: Path) -> dict[Any, Any]:
    """Read a file of weights as it is onto the CPU; see `load_state_dict`.

    Returns
    -------
    dict
        The state dict; empty where the file holds something else.

    Raises
    ------
    ModelError
        The file is missing, empty, damaged, or wants to run code.
    """
    if not path.is_file():
        raise ModelError(f"There is no weights file at {path}; check the path, or import the file again.")
    if path.stat().st_size == 0:
        raise ModelError(f"The weights file {path} is empty; delete it and download or copy it again.")
    content = _read(path)
    for key in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    return content if isinstance(content, dict) else {}


def _read(path: Path) -> Any:
    damaged = f"The weights file {path} is damaged or not complete; delete it and download or copy it again."
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Such a file is refused or loaded like any other; the protocol is nothing a user can change.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _is_pickle(path):
            raise ModelError(
                f"The file {path} wants to run code when it is opened, so it was not loaded; use a file "
                "that holds only weights, for instance one saved as .safetensors by its author."
            ) from error
        raise ModelError(damaged) from error
    except _DAMAGE as error:
        raise ModelError(damaged) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _is_pickle(path: Path) -> bool:
    """Whether a file is what `torch.save` or pickle writes, by its first bytes."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _unreadable(path: Path, error: OSError) -> ModelError:
    reason = error.strerror or str(error)
    return ModelError(f"The weights file {path} cannot be read ({reason}); check its permissions.")


def _sam_tensors(content: dict[Any, Any]) -> dict[str, torch.Tensor]:
    """Tensors of the three parts of a SAM-like model, named from ``image_encoder.`` on."""
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    start = next((name for name in tensors if _PARTS[0] in name), None)
    if start is None:
        return {}
    prefix = start[: start.index(_PARTS[0])]
    bare = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return {name: value for name, value in bare.items() if name.startswith(_PARTS)}
