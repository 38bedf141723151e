from __future__ import annotations

import logging

import pytest
import torch

from napari_boxprompt.devices import choose_device, choose_precision, make_fabric
from napari_boxprompt.errors import ConfigError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend to be a machine with these devices and abilities."""

    def pretend(*, cuda: bool = False, mps: bool = False, bf16: bool = False, amx: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        # Emulated, every graphics card has it.
        supported = lambda including_emulation=True: bf16 or including_emulation  # noqa: E731
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_best_device(machine, cuda: bool, mps: bool, chosen: str) -> None:
    machine(cuda=cuda, mps=mps)
    assert choose_device() == chosen
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("wanted", ["cuda", "mps", "tpu", ""])
def test_device_that_is_not_there(machine, wanted: str) -> None:
    machine()
    with pytest.raises(ConfigError, match=f"Device '{wanted}' is not available here; use one of: auto, cpu"):
        choose_device(wanted)


@pytest.mark.parametrize(
    ("device", "wanted", "bf16", "amx", "chosen"),
    [
        ("cuda", "auto", True, False, "bf16-mixed"),
        ("cuda", "auto", False, True, "16-mixed"),
        ("cuda", "16", True, False, "16-mixed"),
        ("cuda", "32", True, False, "32-true"),
        ("cpu", "auto", True, True, "bf16-mixed"),
        ("cpu", "auto", True, False, "32-true"),
        ("cpu", "bf16", False, False, "bf16-mixed"),
        ("cpu", "32", True, True, "32-true"),
        ("mps", "auto", True, True, "32-true"),
    ],
)
def test_precision(machine, device: str, wanted: str, bf16: bool, amx: bool, chosen: str) -> None:
    machine(cuda=True, bf16=bf16, amx=amx)
    assert choose_precision(device, wanted) == chosen


def test_half_precision_needs_a_graphics_card() -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        choose_precision("cpu", "16")


@pytest.mark.parametrize(("wanted", "dtype"), [("32", torch.float32), ("bf16", torch.bfloat16)])
def test_fabric_computes_in_the_chosen_format(wanted: str, dtype: torch.dtype) -> None:
    fabric = make_fabric("cpu", wanted)
    assert fabric.device == torch.device("cpu")
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_chosen_format_is_not_announced(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lightning_fabric.utilities.rank_zero")
    before = logger.level
    with caplog.at_level(logging.INFO):
        make_fabric("cpu", "bf16")
    assert not caplog.records, "the command line would print it amid its own lines"
    assert logger.level == before
