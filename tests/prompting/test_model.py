from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.helpers.synthetic import FakeModel

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.errors import BundleError, ConfigError
from napari_boxprompt.prompting import PromptNet


def test_one_map_for_each_class(frozen: FakeModel, tiny_generator: None) -> None:
    net = PromptNet(frozen, "tiny", 3)
    embedding = torch.randn(2, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = net(embedding, torch.zeros(2, 3, 256, 256))
    assert logits.shape == (2, 3, 256, 256)
    none = frozen.decode(embedding, *frozen.no_prompt(2))[0]
    for k in range(3):
        torch.testing.assert_close(logits[:, k], none[:, 0])


def test_classes_do_not_share_weights(frozen: FakeModel, tiny_generator: None) -> None:
    net = PromptNet(frozen, "tiny", 2)
    net(torch.randn(1, 256, 64, 64), torch.zeros(1, 3, 256, 256))[:, 1].sum().backward()
    grads = {name: weight.grad for name, weight in net.named_parameters()}
    for name, grad in grads.items():
        first = name.startswith("generators.0")
        assert (grad is None or not grad.any()) if first else grad is not None
    assert grads["generators.1.output.weight"].any()


def test_frozen_weights_are_not_part_of_the_network(frozen: FakeModel, tiny_generator: None) -> None:
    assert all(name.startswith("generators.") for name in PromptNet(frozen, "tiny", 1).state_dict())


def test_network_of_a_model_predicts_what_was_trained(trained: TrainedModel, frozen: FakeModel) -> None:
    net = trained.model.network(frozen)
    assert not net.training
    assert net.state_dict().keys() == trained.model.weights.keys()
    assert all(torch.equal(value, trained.model.weights[name]) for name, value in net.state_dict().items())
    with torch.no_grad():
        next(net.parameters()).add_(1.0)
    again = trained.model.network(frozen)
    assert all(torch.equal(value, trained.model.weights[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("change", [{"classes": ("a", "b")}, {"weights": {}}])
def test_weights_of_other_classes(trained: TrainedModel, frozen: FakeModel, change: dict) -> None:
    with pytest.raises(BundleError, match="do not fit"):
        replace(trained.model, **change).network(frozen)


def test_generator_that_is_not_known(trained: TrainedModel, frozen: FakeModel) -> None:
    config = trained.model.config.model_copy(update={"generator": "light"})
    with pytest.raises(BundleError):
        replace(trained.model, config=config).network(frozen)
    config = trained.model.config.model_copy(update={"generator": "gone"})
    with pytest.raises(ConfigError, match="'gone'"):
        replace(trained.model, config=config).network(frozen)
