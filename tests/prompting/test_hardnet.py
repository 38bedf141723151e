"""HarDNet-85 against hand-counted totals and a state dict in the published layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.prompting import HarDNetGenerator, LightGenerator
from napari_boxprompt.prompting.hardnet import HarDNet85

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.fixture(scope="module")
def features() -> HarDNet85:
    torch.manual_seed(0)
    return HarDNet85().eval()


def test_parameters_are_as_many_as_published(features: HarDNet85) -> None:
    assert count(features) == 35_389_212
    counted = {0: 1_392, 1: 41_664, 3: 475_964, 6: 1_751_292, 16: 15_900_544}
    assert {number: count(features.base[number]) for number in counted} == counted
    assert count(HarDNetGenerator(torch.zeros(256))) - count(features) == 6_169_088


def test_widths_of_a_block_follow_its_links(features: HarDNet85) -> None:
    # Growth 24 and links to 0 | 1 0 | 2 | 3 2 0 | 4 | 5 4 | 6 | 7 6 4 0: 24 * 1.7 = 40.8, 69.36, 117.9.
    layers = features.base[3].layers
    widths = [layer.conv.out_channels for layer in layers]  # type: ignore[union-attr]
    assert widths == [24, 40, 24, 70, 24, 40, 24, 118]
    inputs = [layer.conv.in_channels for layer in layers]  # type: ignore[union-attr]
    assert inputs == [96, 24 + 96, 40, 24 + 40 + 96, 70, 24 + 70, 40, 24 + 40 + 70 + 96]


def test_features_have_the_strides_of_the_taps(features: HarDNet85) -> None:
    with torch.no_grad():
        found = features(torch.rand(1, 3, 96, 64))
    assert [tuple(x.shape[1:]) for x in found] == [(192, 24, 16), (320, 12, 8), (720, 6, 4)]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_published_weights_load(features: HarDNet85, tmp_path: Path, suffix: str) -> None:
    # The published file also holds the classifier of ImageNet.
    state = {
        name: torch.randn_like(value.float()).to(value.dtype) for name, value in features.state_dict().items()
    }
    published = {**state, "base.19.3.weight": torch.zeros(1000, 1280), "base.19.3.bias": torch.zeros(1000)}
    path = tmp_path / f"hardnet85{suffix}"
    if suffix == ".pth":
        torch.save(published, path)
    else:
        from safetensors.torch import save_file

        save_file(published, path)
    generator = HarDNetGenerator(torch.zeros(256))
    generator.load_pretrained(path)
    assert all(torch.equal(value, state[name]) for name, value in generator.encoder.state_dict().items())


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"base.0.conv.weight": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match="does not hold the weights of HarDNet-85"):
        HarDNetGenerator(torch.zeros(256)).load_pretrained(path)
    with pytest.raises(ConfigError, match="no published weights"):
        LightGenerator(torch.zeros(256)).load_pretrained(path)


def test_prompt_is_bounded_and_needs_no_embedding() -> None:
    torch.manual_seed(0)
    generator = HarDNetGenerator(torch.zeros(256)).eval()
    image = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        sparse, dense = generator(torch.randn(1, 256, 64, 64), image)
        again = generator(torch.zeros(1, 256, 64, 64), image)[1]
    assert sparse.shape == (1, 0, 256)
    assert dense.shape == (1, 256, 64, 64)
    assert dense.abs().max() <= 1
    assert torch.equal(dense, again)
