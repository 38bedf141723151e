"""Which device and which number format the heavy work runs on."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

from napari_boxprompt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_fabric import Fabric

__all__ = ["choose_device", "choose_precision", "make_fabric"]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def choose_device(wanted: str = "auto") -> str:
    """Name of the device to use: ``cuda``, ``mps`` or ``cpu``.

    Parameters
    ----------
    wanted : str
        ``"auto"`` takes the best there is.

    Raises
    ------
    ConfigError
        The wanted device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in available.items() if there)
    if not available.get(wanted, False):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise ConfigError(f"Device {wanted!r} is not available here; use one of: auto, {there}.")
    return wanted


def choose_precision(device: str, wanted: str = "auto") -> Precision:
    """Number format for autocast.

    On CPUs bfloat16 pays only where tiles of it are multiplied in hardware (AMX); with the AVX-512
    instructions alone it was measured slower than float32 (ADR 0011).
    """
    if wanted != "auto":
        if wanted == "16" and device == "cpu":
            raise ConfigError("Precision '16' needs a GPU; use 'auto', '32' or 'bf16' on the CPU.")
        return _PRECISIONS[wanted]
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if device == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bf16-mixed"
    return "32-true"


def make_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """Lightning Fabric for one process, or for one of several started by ``torchrun``.

    Parameters
    ----------
    device, precision : str
        See `choose_device` and `choose_precision`.

    Notes
    -----
    Under ``torchrun --nproc-per-node N`` the generators are trained on N devices at once: Fabric
    averages the gradients, and each process draws other views.
    """
    from lightning_fabric import Fabric

    name = choose_device(device)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
    strategy = "ddp" if processes * nodes > 1 else "auto"
    with _quiet("lightning_fabric.utilities.rank_zero"):  # it tells the precision, whether asked or not
        fabric = Fabric(
            accelerator=name,
            devices=processes,
            num_nodes=nodes,
            strategy=strategy,
            precision=choose_precision(name, precision),
        )
        fabric.launch()
    return fabric


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a logger tell only warnings and worse."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
