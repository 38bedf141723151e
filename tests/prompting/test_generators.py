from __future__ import annotations

import re

import pytest
import torch
from tests.helpers.synthetic import FakeModel

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.lattice import Lattice
from napari_boxprompt.prompting import GENERATORS, LightGenerator, SimpleGenerator, make_generator

NO_MASK = torch.linspace(-1, 1, 256)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(2, 256, 64, 64, generator=generator)
    return embedding, torch.rand(2, 3, 256, 256, generator=generator)


@pytest.mark.parametrize(("name", "tokens"), [("light", 0), ("simple", 3)])
def test_prompts_have_the_shapes_of_a_decoder(
    inputs: tuple[torch.Tensor, torch.Tensor], name: str, tokens: int
) -> None:
    generator = make_generator(name, NO_MASK).eval()
    sparse, dense = generator(*inputs)
    assert sparse.shape == (2, tokens, 256)
    assert dense.shape == (2, 256, 64, 64)
    alone = generator(inputs[0][:1], inputs[1][:1])
    torch.testing.assert_close(alone[0], sparse[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone[1], dense[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(GENERATORS))
def test_every_weight_is_reached(inputs: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    generator = make_generator(name, NO_MASK)
    if name in ("light", "wide"):  # its last layer starts at zero, which hides the others from the first step
        torch.nn.init.normal_(generator.output.weight, std=0.1)  # type: ignore[arg-type, union-attr]
    sparse, dense = generator(*inputs)
    (dense.square().mean() + (sparse.square().mean() if sparse.numel() else 0.0)).backward()
    for key, weight in generator.named_parameters():
        beyond = re.match(r"encoder\.base\.1[68]\.", key)  # stride 16: the decoder does not read it
        assert weight.requires_grad == (not beyond), "several processes wait for the gradients of all that do"
        if beyond:
            continue
        assert weight.grad is not None, key
        assert weight.grad.abs().sum() > 0, key


@pytest.mark.parametrize("lattice", [Lattice(2, row, column) for row in (0, 1) for column in (0, 1)])
@pytest.mark.parametrize("name", list(GENERATORS))
def test_a_prompt_on_a_lattice_is_the_prompt_there(
    inputs: tuple[torch.Tensor, torch.Tensor], name: str, lattice: Lattice
) -> None:
    generator = make_generator(name, NO_MASK).eval()
    if name in ("light", "wide"):
        torch.nn.init.normal_(generator.output.weight, std=0.1)  # type: ignore[arg-type, union-attr]
        # The statistics of a norm differ a little with the tokens that it sees.
        for block in (generator.join, *generator.context):  # type: ignore[misc, union-attr]
            block[1] = torch.nn.Identity()  # type: ignore[index, operator]
    sparse, dense = generator(*inputs)
    thinned, quarter = generator(*inputs, lattice)
    torch.testing.assert_close(thinned, sparse)
    torch.testing.assert_close(quarter, lattice.tokens(dense), rtol=1e-4, atol=1e-4)


def test_untrained_light_generator_is_no_prompt(inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    frozen = FakeModel()
    no_sparse, no_dense = frozen.no_prompt(2)
    sparse, dense = LightGenerator(no_dense[0, :, 0, 0])(*inputs)
    assert torch.equal(sparse, no_sparse)
    assert torch.equal(dense, no_dense)


def test_light_generator_uses_embedding_and_image(inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    generator = LightGenerator(NO_MASK).eval()
    torch.nn.init.normal_(generator.output.weight, std=0.1)
    embedding, image = inputs
    dense = generator(embedding, image)[1]
    assert not torch.allclose(dense, generator(embedding.roll(9, -1), image)[1])
    assert not torch.allclose(dense, generator(embedding, image.roll(9, -1))[1])
    assert sum(weight.numel() for weight in generator.parameters()) < 250_000


def test_simple_generator_does_not_use_the_image(inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    generator = SimpleGenerator(NO_MASK, points=4)
    embedding, image = inputs
    sparse, dense = generator(embedding, image)
    other = generator(embedding, 1 - image)
    assert torch.equal(dense, other[1])
    assert torch.equal(sparse, other[0])
    assert sparse.shape == (2, 5, 256)


def test_unknown_generator() -> None:
    with pytest.raises(ConfigError, match="'heavy'; choose one of light, wide, hardnet85, simple"):
        make_generator("heavy", NO_MASK)
