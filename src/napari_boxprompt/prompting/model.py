"""A trained model: one prompt generator per class, and all that is needed to use it again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from napari_boxprompt.errors import BundleError
from napari_boxprompt.lattice import WHOLE, Lattice
from napari_boxprompt.prompting.generators import make_generator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Normalization
    from napari_boxprompt.models import FrozenModel
    from napari_boxprompt.prompting.generators import PromptGenerator

__all__ = ["PromptModel", "PromptNet"]


class PromptNet(nn.Module):
    """Generators of all classes over one shared embedding, decoded by a frozen model.

    Parameters
    ----------
    frozen : FrozenModel
        Not a submodule: its weights are neither trained nor saved here.
    generator : str
        Name of the generator.
    classes : int
        How many generators.
    """

    def __init__(self, frozen: FrozenModel, generator: str, classes: int) -> None:
        super().__init__()
        no_mask = frozen.no_prompt(1)[1][0, :, 0, 0].detach().float().cpu()
        self.generators = nn.ModuleList(make_generator(generator, no_mask) for _ in range(classes))
        self._decode = frozen.decode

    def load_pretrained(self, path: Path) -> None:
        """Start all generators from published weights; see `PromptGenerator.load_pretrained`."""
        for generator in self.generators:
            cast("PromptGenerator", generator).load_pretrained(path)

    def forward(self, embedding: torch.Tensor, image: torch.Tensor, lattice: Lattice = WHOLE) -> torch.Tensor:
        """Logits ``(B, K, 256, 256)`` of K classes, or those of the tokens of a lattice.

        Parameters
        ----------
        embedding : torch.Tensor
            ``(B, 256, 64, 64)``.
        image : torch.Tensor
            ``(B, 3, 256, 256)`` in 0..1.
        lattice : Lattice
            Image tokens that are decoded.
        """
        logits, seen = [], lattice.tokens(embedding)
        for generator in self.generators:
            sparse, dense = generator(embedding, image, lattice)
            logits.append(self._decode(seen, sparse, dense, lattice=lattice)[0])
        return torch.cat(logits, dim=1)


@dataclass(frozen=True)
class PromptModel:
    """What a training gives and a prediction needs.

    Parameters
    ----------
    weights : mapping of str to torch.Tensor
        State of a `PromptNet`, float32 on the CPU.
    classes : tuple of str
        Class names; class k is label k + 1 in a class mask.
    exclusive : bool
        Classes exclude each other (a pixel has one class) or may overlap.
    config : TrainConfig
        Settings of the training.
    normalization : Normalization
        Intensity range of the dataset, applied to every plane.
    tile : float or None
        Side of a working tile in image pixels; None for whole images.
    side : float
        Median longest side of the planes trained on, in pixels.
    frozen_sha256 : str
        Hash of the frozen model's weights.
    object_area : mapping of str to tuple
        5th, 50th and 95th percentile of the object area by class, in pixels, from the pseudo-labels.
    most_objects : mapping of str to int
        Most boxes of a class on one complete plane, known from three of them on.
    record : mapping
        Training record: data used, versions, validation.
    """

    weights: Mapping[str, torch.Tensor]
    classes: tuple[str, ...]
    exclusive: bool
    config: TrainConfig
    normalization: Normalization
    tile: float | None
    side: float
    frozen_sha256: str
    object_area: Mapping[str, Sequence[float]] = field(default_factory=dict)
    most_objects: Mapping[str, int] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pixel_types(self) -> tuple[str, ...]:
        """Number types of the pixels learnt from, as NumPy calls them; none where that was not noted."""
        noted = self.record.get("pixel_types")
        return tuple(map(str, noted)) if isinstance(noted, list) else ()

    @property
    def refines(self) -> bool:
        """Whether objects get a second look: where tiles show many small ones, none was gained by it."""
        return self.config.refine and self.tile is None

    def renamed(self, old: str, new: str) -> PromptModel:
        """Return the model with another name of a class; itself where it lacks the old one or has both."""
        if old not in self.classes or new in self.classes:
            return self
        names = {name: new if name == old else name for name in self.classes}
        return replace(
            self,
            classes=tuple(names.values()),
            object_area={names.get(name, name): area for name, area in self.object_area.items()},
            most_objects={names.get(name, name): most for name, most in self.most_objects.items()},
        )

    def is_single(self, name: str, shape: tuple[int, int]) -> bool:
        """Whether a plane of ``shape`` holds one object of a class: no plane trained on had more.

        This says nothing of a plane so much larger that it is seen in tiles.
        """
        return self.most_objects.get(name) == 1 and self.tile_for(shape) is None

    def tile_for(self, shape: tuple[int, int]) -> float | None:
        """Side of the tiles for a plane of ``shape``, None to look at it as a whole.

        A model trained on whole images looks at a plane more than twice as large in tiles of the size it
        knows: a crop to draw boxes on and the full field to predict show objects of one size.
        """
        return self.side if self.tile is None and max(shape) > 2 * self.side else self.tile

    def network(self, frozen: FrozenModel) -> PromptNet:
        """Build the network with these weights, on the frozen model's device, ready to predict.

        Raises
        ------
        BundleError
            The weights are those of another model.
        """
        net = PromptNet(frozen, self.config.generator, len(self.classes))
        try:
            net.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise BundleError(
                "The weights of the model do not fit its classes and generator; train again or copy it anew."
            ) from error
        return net.to(frozen.device).eval()
