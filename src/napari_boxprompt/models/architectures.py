"""From a state dict to a model: which architecture the shapes show, and how it is built."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from segment_anything import sam_model_registry
from torch import nn

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models.base import ModelInfo
from napari_boxprompt.models.litemedsam import build_litemedsam
from napari_boxprompt.models.sam import SamModel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_boxprompt.models.base import Architecture, Scaling

__all__ = ["build_model", "describe_weights", "recognise"]

_VIT_WIDTHS: Mapping[int, Architecture] = MappingProxyType({768: "vit_b", 1024: "vit_l", 1280: "vit_h"})
_INPUT_SIZES: Mapping[Architecture, int] = MappingProxyType(
    {"litemedsam": 256, "vit_b": 1024, "vit_l": 1024, "vit_h": 1024}
)
_PART_NAMES = ("image_encoder", "prompt_encoder", "mask_decoder")


def recognise(state: Mapping[str, Tensor]) -> Architecture:
    """Architecture that the shapes of a state dict show.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        As `load_state_dict` gives it; only shapes are looked at.

    Raises
    ------
    ModelError
        The shapes are of no architecture that can be loaded.
    """
    positions = state.get("image_encoder.pos_embed")
    if positions is not None and positions.ndim == 4 and tuple(positions.shape[:3]) == (1, 64, 64):
        architecture = _VIT_WIDTHS.get(positions.shape[3])
        if architecture is not None:
            return architecture
    stem = state.get("image_encoder.patch_embed.seq.0.c.weight")
    if stem is not None and tuple(stem.shape) == (32, 3, 1, 1):
        return "litemedsam"
    raise ModelError(
        "These weights are of an architecture that cannot be loaded; use SAM or MedSAM ViT-B, ViT-L "
        "or ViT-H for 1024-pixel input, or LiteMedSAM."
    )


def describe_weights(
    path: Path, state: Mapping[str, Tensor], sha256: str, scaling: Scaling | None
) -> ModelInfo:
    """Describe a weights file that the registry does not know.

    Parameters
    ----------
    path : pathlib.Path
        The file; its stem becomes the model's name.
    state : mapping of str to torch.Tensor
        Its weights.
    sha256 : str
        Hash of the file.
    scaling : {"unit", "sam"} or None
        What the encoder wants. The weights do not show it: with None, LiteMedSAM and files with
        "medsam" in their name take values in 0..1, all others SAM's mean and deviation.
    """
    architecture = recognise(state)
    if scaling is None:
        unit = architecture == "litemedsam" or "medsam" in path.name.lower()
        scaling = "unit" if unit else "sam"
    return ModelInfo(
        name=path.stem,
        description=f"Imported file {path.name}",
        architecture=architecture,
        input_size=_INPUT_SIZES[architecture],
        scaling=scaling,
        sha256=sha256,
        filename=path.name,
        size=path.stat().st_size,
    )


def build_model(state: Mapping[str, Tensor], info: ModelInfo) -> SamModel:
    """Build a frozen model on the CPU from its weights.

    Raises
    ------
    ModelError
        The weights do not fit the architecture that ``info`` names.
    """
    found = recognise(state)
    if found != info.architecture:
        raise ModelError(f"The weights of {info.name} are {found}, not {info.architecture}; import another.")
    state = {name: value.float() for name, value in state.items()}
    if found == "litemedsam":
        return build_litemedsam(state, info)
    # Built without memory and then given the loaded tensors: a ViT-H is never held twice.
    with torch.device("meta"):
        sam = sam_model_registry[found]()
    parts = nn.ModuleDict({name: getattr(sam, name) for name in _PART_NAMES})
    try:
        parts.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelError(f"The weights of {info.name} do not fit {found}; import another file.") from error
    return SamModel(parts, info)
