from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.helpers.synthetic import FakeModel

from napari_boxprompt.images import Normalization
from napari_boxprompt.models import EmbeddingCache
from napari_boxprompt.models.encoding import Encoder, PlanePixels, small_image
from napari_boxprompt.views import View

UNIT = Normalization(low=(0.0,), high=(10.0,))
PIXELS = PlanePixels(np.arange(100 * 80, dtype=np.float32).reshape(100, 80, 1) / 1000, UNIT)
VIEWS = [View.whole((100, 80)), View.square(0, 0, 64), View.square(30, 10, 64)]


def test_a_plane_is_normalised_where_it_is_seen() -> None:
    found = PIXELS.see(View.square(10, 20, 32), 32)
    assert found.shape == (3, 32, 32)
    expected = PIXELS._pixels[10:42, 20:52, 0] / 10
    for channel in found:
        np.testing.assert_allclose(channel, expected, atol=1e-5)


@pytest.mark.parametrize("size", [256, 512])
def test_inputs_have_the_size_of_the_model(fabric: Fabric, size: int) -> None:
    inputs = Encoder(FakeModel(input_size=size), fabric).inputs(PIXELS, VIEWS)
    assert [image.shape for image in inputs] == [(3, size, size)] * 3


def test_embeddings_are_half_floats_on_the_cpu(encoder: Encoder) -> None:
    inputs = encoder.inputs(PIXELS, VIEWS)
    found = encoder.encode(inputs)
    assert found.shape == (3, 256, 64, 64)
    assert found.dtype == torch.float16
    expected = encoder.frozen.encode(torch.stack(inputs)).half()
    assert torch.equal(found, expected)


def test_what_is_cached_is_not_computed_again(frozen: FakeModel, encoder: Encoder) -> None:
    inputs = encoder.inputs(PIXELS, VIEWS)
    first = encoder.encode(inputs[:2])
    assert frozen.encoded == 2
    mixed = encoder.encode([inputs[1], inputs[2], inputs[0]])
    assert frozen.encoded == 3
    assert torch.equal(mixed[0], first[1])
    assert torch.equal(mixed[2], first[0])


def test_cache_outlives_the_process(fabric: Fabric, tmp_path: Path) -> None:
    first, second = FakeModel(), FakeModel()
    inputs = Encoder(first, fabric).inputs(PIXELS, VIEWS)
    written = Encoder(first, fabric, EmbeddingCache(tmp_path)).encode(inputs)
    read = Encoder(second, fabric, EmbeddingCache(tmp_path)).encode(inputs)
    assert (first.encoded, second.encoded) == (3, 0)
    assert torch.equal(written, read)


def test_other_models_have_other_embeddings(fabric: Fabric) -> None:
    cache = EmbeddingCache(None)
    first, second = FakeModel(), FakeModel(sha256="0" * 64)
    inputs = Encoder(first, fabric).inputs(PIXELS, VIEWS[:1])
    Encoder(first, fabric, cache).encode(inputs)
    Encoder(second, fabric, cache).encode(inputs)
    assert second.encoded == 1


def test_changing_an_embedding_does_not_change_the_cache(encoder: Encoder) -> None:
    inputs = encoder.inputs(PIXELS, VIEWS[:1])
    first = encoder.encode(inputs)
    kept = first.clone()
    first.zero_()
    assert torch.equal(encoder.encode(inputs), kept)


def test_small_image_is_the_area_mean() -> None:
    inputs = torch.rand(2, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    small = small_image(inputs)
    assert small.shape == (2, 3, 256, 256)
    torch.testing.assert_close(small[1, 2, 7, 9], inputs[1, 2, 14:16, 18:20].mean())
    assert small_image(small) is small
