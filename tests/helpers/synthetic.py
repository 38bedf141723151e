"""A frozen model that takes milliseconds, and images of which every mask is known."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from napari_boxprompt._readers import ArrayReader
from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.config import TrainConfig, make_config
from napari_boxprompt.images import Images
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.models.base import ELSEWHERE, ModelInfo
from napari_boxprompt.prompting import generators
from napari_boxprompt.training.steps import Steps

GRID, CELLS, CHANNELS = 256, 64, 256
GAIN = 12.0
THRESHOLD = 0.4
"""Brightness above which a boxed pixel belongs to the object."""


class FakeModel:
    """Frozen model that sees brightness: an embedding of average-pooled pixels and a linear read-out.

    One direction of the 256 channels is read out; embeddings lie along it by their brightness, dense prompts
    shift it. A box shifts everything outside it far down, no prompt shifts everything down.
    """

    def __init__(self, name: str = "fake", input_size: int = GRID, sha256: str = "f" * 64) -> None:
        self.info = ModelInfo(
            name=name,
            description="A model for tests",
            architecture="litemedsam",
            input_size=input_size,
            licence="BSD-3-Clause",
            sha256=sha256,
            filename=f"{name}.pth",
        )
        self.device = torch.device("cpu")
        self.encoded = 0
        mixed = torch.randn(CHANNELS, 6, generator=torch.Generator().manual_seed(0))
        basis = torch.linalg.qr(mixed).Q
        self.readout, self._features, self._learned = basis[:, 0], basis[:, 1:5], basis[:, 5]

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeModel:
        return self

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1:] == (3, self.info.input_size, self.info.input_size)
        assert images.min() >= 0
        assert images.max() <= 1
        self.encoded += len(images)
        with torch.no_grad():
            colours = F.adaptive_avg_pool2d(images, CELLS)
            grey = colours.mean(dim=1)
            around = F.avg_pool2d(grey[:, None], 5, stride=1, padding=2)[:, 0]
            seen = torch.stack([grey, grey**2, around, colours[:, 0] - colours[:, 2]], dim=1)
            embedding = torch.einsum("ck,bkhw->bchw", self._features, seen)
            return embedding + self.readout[:, None, None] * (grey - THRESHOLD)[:, None]

    def decode(
        self,
        embedding: torch.Tensor,
        sparse: torch.Tensor,
        dense: torch.Tensor,
        *,
        candidates: bool = False,
        within: torch.Tensor | None = None,
        lattice: Lattice = WHOLE,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert len(embedding) == len(sparse) == len(dense)
        cells = CELLS // lattice.step
        assert embedding.shape[-2:] == dense.shape[-2:] == (cells, cells)
        rows = self.readout.expand(len(embedding), 1, -1)
        values = torch.bmm(rows, (embedding + dense).flatten(2)).view(-1, cells, cells)
        if sparse.shape[1]:
            values = values + (sparse.mean(dim=1) @ self.readout)[:, None, None]
        # Tokens of a lattice were apart: they have no neighbours to go over into.
        mode = "bilinear" if lattice == WHOLE else "nearest"
        logits = GAIN * F.interpolate(values[:, None], size=(GRID // lattice.step,) * 2, mode=mode)
        if candidates:
            logits = torch.cat([logits - 1.0, logits, logits + 1.0], dim=1)
        for row, (y0, x0, y1, x1) in enumerate([] if within is None else within.tolist()):
            middle = torch.arange(GRID) + 0.5
            asked = ((middle > y0) & (middle < y1))[:, None] & ((middle > x0) & (middle < x1))
            logits[row, :, ~asked] = ELSEWHERE
        return logits.float(), logits.sigmoid().mean(dim=(-2, -1)).float()

    def box_prompt(self, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = GRID // CELLS
        edges = torch.arange(CELLS + 1) * size
        low, high = edges[:-1].float(), edges[1:].float()

        def covered(start: torch.Tensor, stop: torch.Tensor) -> torch.Tensor:
            return (torch.minimum(stop[:, None], high) - torch.maximum(start[:, None], low)).clamp(
                min=0
            ) / size

        y0, x0, y1, x1 = boxes.unbind(dim=1)
        inside = covered(y0, y1)[:, :, None] * covered(x0, x1)[:, None, :]
        dense = self.readout[None, :, None, None] * (-3.0 * (1.0 - inside))[:, None]
        return boxes.new_zeros(len(boxes), 2, CHANNELS), dense

    def no_prompt(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        vector = 0.3 * self._learned - self.readout
        return torch.zeros(batch, 0, CHANNELS), vector[None, :, None, None].expand(batch, -1, CELLS, CELLS)

    def to(self, device: torch.device | str) -> FakeModel:
        return self


class TinyGenerator(generators.PromptGenerator):
    """Pixel-wise generator that learns in a few quick steps."""

    def __init__(self, no_mask: torch.Tensor) -> None:
        super().__init__(no_mask)
        self.hidden, self.output = nn.Linear(CHANNELS, 8), nn.Linear(8, CHANNELS)
        nn.init.zeros_(self.output.weight)
        with torch.no_grad():
            self.output.bias.copy_(no_mask)

    def forward(
        self, embedding: torch.Tensor, image: torch.Tensor, lattice: Lattice = WHOLE
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen = lattice.tokens(embedding)
        dense = _mix(self.output, F.gelu(_mix(self.hidden, seen.flatten(2))))
        return embedding.new_zeros(len(embedding), 0, CHANNELS), dense.unflatten(2, seen.shape[2:])


def _mix(layer: nn.Linear, values: torch.Tensor) -> torch.Tensor:
    """Linear layer over the channels of ``(B, C, N)``: quicker on one thread than a convolution."""
    weight = layer.weight.expand(len(values), -1, -1)
    return torch.baddbmm(layer.bias[None, :, None], weight, values)


@contextmanager
def tiny_generator_known() -> Iterator[None]:
    """Let settings name the generator "tiny"."""
    with pytest.MonkeyPatch.context() as patch:
        known: Mapping[str, Any] = {**generators.GENERATORS, "tiny": TinyGenerator}
        patch.setattr(generators, "GENERATORS", known)
        yield


def quick_config(**changes: Any) -> TrainConfig:
    """Settings of a training of a second on the CPU."""
    base: dict[str, Any] = {
        "generator": "tiny",
        "steps": 6,
        "batch": 2,
        "token_step": 1,  # the made-up decoder goes over from token to token, which a real one does not
        "learning_rate": 0.02,
        "ema": 0.8,
        "validate_every": 3,
        "renew": 0,
        "augment": {"views": 1, "emptied": 0.0},
        "device": "cpu",
        "precision": "32",
    }
    return make_config("fast", **{**base, **changes})


def break_training(patch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Let every training end with an error after so many steps."""
    real = Steps._train_step

    def broken(steps: Steps, *words: Any) -> dict[str, float]:
        if steps.step == step:
            raise error
        return real(steps, *words)

    patch.setattr(Steps, "_train_step", broken)


@dataclass(frozen=True)
class Scene:
    """Planes with bright ellipses, their labels and the boxes round them."""

    images: Images
    labels: dict[PlaneId, npt.NDArray[np.int32]]
    boxes: BoxSet

    def mask(self, plane: PlaneId) -> npt.NDArray[np.bool_]:
        return self.labels[plane] > 0


def ellipse(
    shape: tuple[int, int], y: float, x: float, ry: float, rx: float | None = None
) -> npt.NDArray[np.bool_]:
    """Pixels whose centres lie in an ellipse round the continuous position ``(y, x)``."""
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None] + 0.5
    return ((rows - y) / ry) ** 2 + ((columns - x) / (ry if rx is None else rx)) ** 2 < 1.0


def draw_plane(
    shape: tuple[int, int], brightness: Sequence[float], rng: np.random.Generator, radius: float = 0.12
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Values in 0..1 and labels of a noisy plane with a separate ellipse for each brightness."""
    labels = np.zeros(shape, np.int32)
    values = np.full(shape, 0.12)
    mean = radius * min(shape)
    number = 0
    for _ in range(1000):
        if number == len(brightness):
            break
        ry, rx = mean * rng.uniform(0.8, 1.25, size=2)
        y, x = rng.uniform(ry + 1, shape[0] - ry - 1), rng.uniform(rx + 1, shape[1] - rx - 1)
        if (labels[ellipse(shape, y, x, ry + 3, rx + 3)] > 0).any():
            continue
        inside = ellipse(shape, y, x, ry, rx)
        values[inside] = brightness[number]
        number += 1
        labels[inside] = number
    assert number == len(brightness)
    return np.clip(values + rng.normal(0, 0.03, shape), 0, 1), labels


def make_scene(
    shapes: Sequence[tuple[int, int]] = (
        (96, 128),
        (128, 96),
        (120, 120),
        (160, 128),
        (112, 200),
        (128, 128),
    ),
    *,
    seed: int = 0,
    objects: int = 3,
    radius: float = 0.12,
    dtype: npt.DTypeLike = np.uint8,
    classes: Sequence[tuple[str, float]] = (("object", 0.8),),
    complete: bool = True,
) -> Scene:
    """Images of `shapes`, each with `objects` ellipses of every class ``(name, brightness)``."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    top = 60_000 if kind == np.uint16 else np.iinfo(kind).max if kind.kind in "iu" else 1
    readers, found, sets = {}, {}, []
    for i, shape in enumerate(shapes):
        plane = PlaneId(f"plane{i}.tif")
        brightness = [value for _, value in classes for _ in range(objects)]
        values, labels = draw_plane(shape, brightness, rng, radius)
        readers[plane.image] = ArrayReader((values * top).astype(kind), plane.image)
        found[plane] = labels
        for k, (name, _) in enumerate(classes):
            mine = np.where((labels > k * objects) & (labels <= (k + 1) * objects), labels, 0)
            sets.append(BoxSet.from_labels(mine, plane, name=name, complete=complete))
    return Scene(Images(readers), found, BoxSet.merge(sets))


class CountingImages(Images):
    """Images that remember what was read."""

    def __init__(self, images: Images) -> None:
        super().__init__(images._readers, images.planes)
        self.reads: list[PlaneId] = []

    def read(self, plane: PlaneId) -> npt.NDArray[Any]:
        self.reads.append(plane)
        return super().read(plane)


def overlap(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Dice coefficient, written once more so that no test checks a figure with itself."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    return 2.0 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1e-9)


def finish(steps: Generator[Any, None, Any]) -> tuple[Any, list[Any]]:
    """Run a generator to its end: what it returns, and what it yields on the way."""
    yielded = []
    while True:
        try:
            yielded.append(next(steps))
        except StopIteration as end:
            return end.value, yielded
