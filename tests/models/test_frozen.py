"""Frozen models: our batched decoder against the upstream one, prompts and gradients."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_boxprompt.errors import ModelError
from napari_boxprompt.lattice import Lattice
from napari_boxprompt.models import litemedsam, load_frozen
from napari_boxprompt.models.architectures import build_model
from napari_boxprompt.models.base import ELSEWHERE
from napari_boxprompt.models.checkpoints import load_state_dict
from napari_boxprompt.models.registry import BUILT_IN
from napari_boxprompt.models.sam import SamModel

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 256


@pytest.fixture(scope="module")
def model() -> SamModel:
    loaded = load_frozen("litemedsam")
    assert isinstance(loaded, SamModel)
    return loaded


def disc(y: float, x: float, radius: float) -> Tensor:
    """Boolean ``(256, 256)`` disc."""
    rows, columns = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.rand(3, 3, SIZE, SIZE, generator=generator)
    discs = torch.stack([disc(70, 170, 30), disc(150, 60, 45), disc(128, 128, 20)])
    return (0.15 + noise + 0.7 * discs[:, None]).clamp(0, 1)


@pytest.fixture(scope="module")
def embedding(model: SamModel, images: Tensor) -> Tensor:
    return model.encode(images)


BOXES = torch.tensor([[40.0, 140, 100, 200], [105, 15, 195, 105], [108, 108, 148, 148]])


def upstream(model: SamModel, embedding: Tensor, sparse: Tensor, dense: Tensor, candidates: bool) -> Any:
    """Masks of the upstream decoder, one image at a time."""
    network: Any = model._network
    rows = [
        network.mask_decoder(
            image_embeddings=embedding[i : i + 1],
            image_pe=network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse[i : i + 1],
            dense_prompt_embeddings=dense[i : i + 1],
            multimask_output=candidates,
        )
        for i in range(len(embedding))
    ]
    return tuple(torch.cat(part) for part in zip(*rows, strict=True))


@pytest.mark.parametrize("candidates", [False, True])
@pytest.mark.parametrize("prompt", ["box", "none", "dense", "sparse and dense"])
def test_batched_decode_equals_upstream(
    model: SamModel, embedding: Tensor, prompt: str, candidates: bool
) -> None:
    sparse, dense = model.box_prompt(BOXES) if prompt == "box" else model.no_prompt(3)
    generator = torch.Generator().manual_seed(1)
    if "dense" in prompt:
        dense = dense + 0.2 * torch.randn(dense.shape, generator=generator)
    if "sparse" in prompt:
        sparse = torch.randn(3, 4, 256, generator=generator)
    logits, quality = model.decode(embedding, sparse, dense, candidates=candidates)
    expected_logits, expected_quality = upstream(model, embedding, sparse, dense, candidates)
    assert logits.shape == (3, 3 if candidates else 1, 256, 256)
    assert quality.shape == (3, 3 if candidates else 1)
    scale = expected_logits.abs().max()
    torch.testing.assert_close(logits / scale, expected_logits / scale, rtol=0, atol=1e-5)
    torch.testing.assert_close(quality, expected_quality, rtol=0, atol=1e-5)


def test_rows_do_not_mix(model: SamModel, embedding: Tensor) -> None:
    sparse, dense = model.box_prompt(BOXES)
    order = torch.tensor([2, 0, 1])
    logits = model.decode(embedding, sparse, dense)[0]
    shuffled = model.decode(embedding[order], sparse[order], dense[order])[0]
    torch.testing.assert_close(shuffled, logits[order], rtol=1e-4, atol=1e-4)


def test_only_what_is_asked_for_is_decoded(model: SamModel, embedding: Tensor) -> None:
    boxes = torch.tensor([[60.0, 50.0, 200.0, 210.0], [64.0, 64.0, 128.0, 128.0]])
    embedding = embedding[:1].expand(2, -1, -1, -1)
    sparse, dense = model.box_prompt(boxes)
    whole, quality = model.decode(embedding, sparse, dense, candidates=True)
    # The second reaches beyond the grid, and its edges lie within tokens.
    within = torch.tensor([[61.5, 50.0, 70.0, 190.5], [-9.0, 130.0, 31.0, 300.0]])
    part, same = model.decode(embedding, sparse, dense, candidates=True, within=within)
    torch.testing.assert_close(same, quality)
    for row, rows, columns in ((0, slice(60, 72), slice(48, 192)), (1, slice(0, 32), slice(128, 256))):
        torch.testing.assert_close(
            part[row, :, rows, columns], whole[row, :, rows, columns], atol=1e-4, rtol=1e-4
        )
        rest = part[row].clone()
        rest[:, rows, columns] = ELSEWHERE
        assert (rest == ELSEWHERE).all()


@pytest.mark.parametrize("lattice", [Lattice(2, row, column) for row in (0, 1) for column in (0, 1)])
def test_tokens_of_a_lattice_are_decoded_by_themselves(
    model: SamModel, embedding: Tensor, lattice: Lattice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each token has three equals, prompt tokens gather the same from one in four as from all."""

    def four_of_each(maps: Tensor) -> Tensor:
        return maps[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2)

    monkeypatch.setattr(model, "_position", four_of_each(model._position))
    sparse, dense = model.box_prompt(BOXES)
    whole, quality = model.decode(four_of_each(embedding), sparse, dense)
    seen, prompt = lattice.tokens(four_of_each(embedding)), lattice.tokens(dense)
    found, same = model.decode(seen, sparse, prompt, lattice=lattice)
    torch.testing.assert_close(found, lattice.pixels(whole), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(same, quality, atol=1e-4, rtol=1e-4)


def test_a_lattice_has_its_positions(model: SamModel, embedding: Tensor) -> None:
    """Masks of a lattice are much like those of the whole image at the same places."""
    lattice = Lattice(2, 1, 0)
    sparse, dense = model.box_prompt(BOXES)
    whole = model.decode(embedding, sparse, dense)[0] > 0
    seen, prompt = lattice.tokens(embedding), lattice.tokens(dense)
    found = model.decode(seen, sparse, prompt, lattice=lattice)[0] > 0
    assert (found == lattice.pixels(whole)).float().mean() > 0.99


def test_a_box_beside_the_grid_gets_nothing(model: SamModel, embedding: Tensor) -> None:
    beside = torch.tensor([[10.0, 256.0, 20.0, 270.0]])
    logits, _ = model.decode(embedding[:1], *model.no_prompt(1), within=beside)
    assert logits.shape == (1, 1, 256, 256)
    assert (logits == ELSEWHERE).all()


def test_gradient_reaches_prompts_and_not_weights(model: SamModel, embedding: Tensor) -> None:
    sparse, dense = (part.clone().requires_grad_() for part in model.box_prompt(BOXES))
    logits, _ = model.decode(embedding, sparse, dense)
    logits.mean().backward()
    assert sparse.grad is not None
    assert sparse.grad.abs().sum() > 0
    assert dense.grad is not None
    assert all((row.abs().sum() > 0) for row in dense.grad)
    network: Any = model._network
    assert not any(weight.requires_grad or weight.grad is not None for weight in network.parameters())
    assert not embedding.requires_grad


def test_gradient_of_a_row_comes_from_its_image(model: SamModel, embedding: Tensor) -> None:
    sparse, dense = model.box_prompt(BOXES[:2])
    dense = dense.clone().requires_grad_()
    model.decode(embedding[:2], sparse, dense)[0][0].sum().backward()
    assert dense.grad is not None
    assert dense.grad[0].abs().sum() > 0
    assert dense.grad[1].abs().sum() == 0


def test_box_prompt_gives_the_boxed_object(model: SamModel, embedding: Tensor) -> None:
    masks = model.decode(embedding, *model.box_prompt(BOXES))[0][:, 0] > 0
    for mask, truth in zip(masks, (disc(70, 170, 30), disc(150, 60, 45), disc(128, 128, 20)), strict=True):
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert dice > 0.8
    y0, x0, y1, x1 = (int(edge) for edge in BOXES[0])
    assert masks[0][y0 - 3 : y1 + 3, x0 - 3 : x1 + 3].sum() > 0.97 * masks[0].sum()


def test_box_prompt_is_inclusive_x_first(model: SamModel) -> None:
    network: Any = model._network
    sparse, dense = model.box_prompt(torch.tensor([[10.0, 20, 50, 100]]))
    with torch.no_grad():
        expected = network.prompt_encoder(points=None, boxes=torch.tensor([[20.0, 10, 99, 49]]), masks=None)
    torch.testing.assert_close(sparse, expected[0])
    torch.testing.assert_close(dense, expected[1])


def test_box_thinner_than_a_pixel_is_the_pixel_at_its_middle(model: SamModel) -> None:
    thin, _ = model.box_prompt(torch.tensor([[10.4, 20.0, 10.6, 21.0]]))
    pixel, _ = model.box_prompt(torch.tensor([[10.0, 20.0, 11.0, 21.0]]))
    torch.testing.assert_close(thin, pixel, rtol=0, atol=1e-5)


def test_prompts_keep_float32_under_autocast(model: SamModel) -> None:
    plain = model.box_prompt(BOXES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.box_prompt(BOXES)
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_decode_in_bfloat16_takes_cached_embeddings(model: SamModel, embedding: Tensor) -> None:
    sparse, dense = model.box_prompt(BOXES)
    exact = model.decode(embedding, sparse, dense)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.decode(embedding.bfloat16(), sparse, dense)[0]
    assert mixed.dtype == torch.float32
    assert ((mixed > 0) == (exact > 0)).float().mean() > 0.99
    half = model.decode(embedding.half(), sparse, dense)[0]
    assert ((half > 0) == (exact > 0)).float().mean() > 0.999


def test_encode_refuses_other_shapes(model: SamModel) -> None:
    for shape in ((1, 3, 128, 128), (3, 256, 256), (0, 3, 256, 256)):
        with pytest.raises(ModelError, match="takes images of shape"):
            model.encode(torch.zeros(shape))


def test_folded_encoder_equals_the_published_one(
    model: SamModel, images: Tensor, embedding: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litemedsam, "_fold_normalisations", lambda encoder: None)
    plain: Any = load_frozen("litemedsam")
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in plain._network.modules())
    network: Any = model._network
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    torch.testing.assert_close(plain.encode(images[:1]), embedding[:1], rtol=0, atol=1e-4)


def test_copies_share_the_frozen_weights(model: SamModel) -> None:
    assert copy.deepcopy({"decode": model.decode})["decode"].__self__ is model
    assert model.to("cpu") is model
    assert model.device == torch.device("cpu")


def test_damaged_embedded_weights_are_refused() -> None:
    state = load_state_dict(litemedsam.embedded_weights())
    missing = {name: value for name, value in state.items() if "mask_tokens" not in name}
    with pytest.raises(ModelError, match="do not fit"):
        build_model(missing, BUILT_IN[0])
    with pytest.raises(ModelError, match="are litemedsam, not vit_b"):
        build_model(state, dataclasses.replace(BUILT_IN[0], architecture="vit_b"))
