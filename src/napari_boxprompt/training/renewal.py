"""Masks to learn from, renewed by the model that has learnt from them.

The frozen model does not know what the boxes are about. On thin cells in phase contrast its masks are nearly
twice as large as the cells, the same background inside a box as outside all of them. A prompt generator that
has learnt from such masks, and that there is nothing outside the boxes, no longer believes all of it: on
complete planes the outside says what background looks like. So after a part of the training its own masks,
cut by the boxes, take the place of the frozen model's. Where these are good it agrees with them, and little
changes. (Self-training; Gaillochet et al. 2025 learn from the first masks to the end.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.supervision.targets import assign, box_label

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import torch

    from napari_boxprompt.supervision.targets import BoxLabel, PlaneTargets
    from napari_boxprompt.training.dataset import Dataset, Sample

__all__ = ["renew_masks"]

LEAST = 0.25
"""Part of the former mask that the new one must have at least: an object that the model has not found yet
must not be taught away."""


def renew_masks(data: Dataset, logits: Callable[[Sample], torch.Tensor]) -> Generator[None, None, None]:
    """Put a model's masks of boxed objects in the place of those that were learnt from.

    Planes whose masks the user has drawn or accepted stay as they are, and so do held-out ones: what a check
    says before and after is of the same masks.

    Parameters
    ----------
    data : Dataset
        Its groups and planes are exchanged at the end, all at once.
    logits : callable
        Gives ``(K, G, G)`` logits of the classes on a sample.

    Yields
    ------
    None
        After each plane; closing the generator leaves the data unchanged.
    """
    planes: list[PlaneTargets] = []
    groups: list[list[Sample]] = []
    for plane in data.planes:
        own = [group for group in data.groups if group[0].plane is plane]
        if own and not plane.drawn:
            bases = [group[0] for group in own]  # the others are turned, and see it less well
            plane = _renewed(plane, bases, [logits(sample) for sample in bases])
            own = [[sample.of(plane) for sample in group] for group in own]
        planes.append(plane)
        groups += own
        yield
    data.planes, data.groups = planes, groups


def _renewed(plane: PlaneTargets, samples: Sequence[Sample], logits: Sequence[torch.Tensor]) -> PlaneTargets:
    classes = []
    for k, labels in enumerate(plane.labels):
        drawn = np.array([label.box for label in labels], float).reshape(-1, 4)
        seen = assign(drawn, [sample.view for sample in samples]).tolist() if labels else []
        found = (
            box_label(label.box, logits[i][k], samples[i].view, tight=False)
            for label, i in zip(labels, seen, strict=True)
        )
        classes.append(tuple(_better(label, new) for label, new in zip(labels, found, strict=True)))
    return replace(plane, labels=tuple(classes))


def _better(former: BoxLabel, new: BoxLabel) -> BoxLabel:
    return new if new.whole and new.fill > LEAST * former.fill else former
