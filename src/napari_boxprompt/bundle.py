"""A trained model on disk: a folder with ``model.json`` and ``weights.safetensors``; no pickle."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import BundleError, OutputError, unknown_key
from napari_boxprompt.files import atomic_write_bytes, flush_folder
from napari_boxprompt.images import Normalization
from napari_boxprompt.prompting import PromptModel

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMAT_VERSION", "check_target", "load_bundle", "load_state", "same_model", "save_bundle"]

FORMAT_VERSION = 1
_DESCRIPTION, _WEIGHTS, _STATE = "model.json", "weights.safetensors", "resume.safetensors"


def save_bundle(
    model: PromptModel, folder: str | Path, state: Mapping[str, torch.Tensor] | None = None
) -> Path:
    """Write a model; an older model in `folder` is replaced only when the new one is whole.

    Parameters
    ----------
    model : PromptModel
        What to save.
    folder : str or Path
        Folder to make or to replace. A folder that holds anything but a model is refused.
    state : mapping of str to torch.Tensor, optional
        State of the training, saved beside the model so that it can go on.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        The folder cannot be written, or is not a model's.
    """
    folder = Path(folder)
    check_target(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            atomic_write_bytes(new / _WEIGHTS, save({k: v.contiguous() for k, v in model.weights.items()}))
            if state is not None:
                atomic_write_bytes(new / _STATE, save({k: v.contiguous() for k, v in state.items()}))
            atomic_write_bytes(new / _DESCRIPTION, _describe(model).encode())
            _swap(new, folder, Path(scratch) / "old")
            flush_folder(folder.parent)  # or a power cut could take a model that a project has noted
    except OSError as error:
        raise OutputError(
            f"The model could not be written to {folder} ({error.strerror}); choose a folder with free "
            "space that you may write to."
        ) from error
    return folder


def _describe(model: PromptModel) -> str:
    """Content of ``model.json``."""
    description = {
        "format": FORMAT_VERSION,
        "frozen": {"name": Path(model.config.model).name, "sha256": model.frozen_sha256},
        "classes": list(model.classes),
        "exclusive": model.exclusive,
        "tile": model.tile,
        "side": model.side,
        "most_objects": dict(model.most_objects),
        "object_area": {name: list(values) for name, values in model.object_area.items()},
        "normalization": model.normalization.model_dump(),
        "config": model.config.model_dump(),
        "record": {**model.record, "versions": {p: version(p) for p in ("napari-boxprompt", "torch")}},
    }
    return json.dumps(description, indent=2) + "\n"


def same_model(one: PromptModel, other: PromptModel) -> bool:
    """Return whether two models would be saved as the same files."""
    return (
        _describe(one) == _describe(other)
        and one.weights.keys() == other.weights.keys()
        and all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    )


def _swap(new: Path, folder: Path, old: Path) -> None:
    """Put `new` in the place of `folder`, which goes to `old`, or leave everything as it is."""
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def check_target(folder: str | Path) -> None:
    """Make sure, before long work, that a model may be saved in a folder.

    Raises
    ------
    OutputError
        It holds other things than a model, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not _is_bundle(folder):
        raise OutputError(f"{folder} exists and is not a saved model; choose another name for the model.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder.parent} cannot be written ({error.strerror}); choose another place for the model."
        ) from error


def _is_bundle(folder: Path) -> bool:
    return folder.is_dir() and {p.name for p in folder.iterdir()} <= {_DESCRIPTION, _WEIGHTS, _STATE}


def load_bundle(folder: str | Path) -> PromptModel:
    """Read a model that `save_bundle` wrote.

    Raises
    ------
    BundleError
        Not a model, damaged, or from a newer version; the message says which.
    """
    folder = Path(folder)
    description = _read_description(folder)
    try:
        if description["format"] > FORMAT_VERSION:
            raise BundleError(
                f"{folder} was saved by napari-boxprompt {_maker(description)}, which is newer than "
                "this one; run 'pip install -U napari-boxprompt'."
            )
        return PromptModel(
            weights=_load_tensors(folder / _WEIGHTS),
            classes=tuple(description["classes"]),
            exclusive=bool(description["exclusive"]),
            config=TrainConfig.model_validate(description["config"]),
            normalization=Normalization.model_validate(description["normalization"]),
            tile=description["tile"],
            side=description["side"],
            frozen_sha256=description["frozen"]["sha256"],
            object_area=description["object_area"],
            most_objects=description.get("most_objects", {}),
            record=description["record"],
        )
    except (AttributeError, KeyError, TypeError, ValidationError) as error:
        unknown = unknown_key(error) if isinstance(error, ValidationError) else None
        if unknown is not None:
            raise BundleError(
                f"{folder} was saved by napari-boxprompt {_maker(description)}, which has a setting that "
                f"this one does not know, '{unknown}'; run 'pip install -U napari-boxprompt', or train again."
            ) from error
        # What pydantic prints takes several lines and has an address in it.
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise BundleError(
            f"{folder / _DESCRIPTION} is damaged ({reason}); train again or copy it anew."
        ) from error


def _maker(description: dict[str, Any]) -> str:
    """Version that saved a model, or "of another version" where that is not recorded."""
    record = description.get("record")
    versions = record.get("versions") if isinstance(record, dict) else None
    made = versions.get("napari-boxprompt") if isinstance(versions, dict) else None
    return str(made) if made else "of another version"


def load_state(folder: str | Path) -> dict[str, torch.Tensor]:
    """Read the training state saved beside a model, to go on training.

    Raises
    ------
    BundleError
        There is none, or it is damaged.
    """
    path = Path(folder) / _STATE
    if not path.exists():
        raise BundleError(f"{folder} holds no stopped training to go on with; train without --resume.")
    return _load_tensors(path)


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"There is no trained model in {folder} (no {_DESCRIPTION}); check the path."
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} cannot be read ({error}); train again or copy the model anew.") from error
    if not isinstance(found, dict):
        raise BundleError(f"{path} is not the description of a model; check the path.")
    return found


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        # Not mapped: Windows would refuse to save over the file of a model that is in use.
        return load(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing; copy the whole folder of the model.") from error
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} is damaged ({error}); train again or copy the model anew.") from error
