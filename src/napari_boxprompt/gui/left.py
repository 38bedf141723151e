"""What a closed dock leaves for the next one in its viewer: the model, and results with all verdicts.

Boxes need none of this: they are in their layers. A result says more than its layer, so it waits at the
layer, and goes when that goes. Nothing here keeps a viewer alive.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.prompting import PromptModel

__all__ = ["Entry", "leave", "take"]

Entry: TypeAlias = "tuple[Result, PromptModel | None]"
"""A result, and the model that it is of."""

_NAME = "_boxprompt_result"
_MODELS: list[tuple[weakref.ref[ViewerModel], TrainedModel]] = []


def leave(viewer: ViewerModel, trained: TrainedModel | None, entries: Sequence[Entry]) -> None:
    """Leave a model and results, the newest last."""
    viewer = _itself(viewer)
    _forget(viewer)
    if trained is not None:
        _MODELS.append((weakref.ref(viewer), trained))
    for place, entry in enumerate(entries):
        setattr(entry[0].layer, _NAME, (place, *entry))


def take(viewer: ViewerModel) -> tuple[TrainedModel | None, list[Entry]]:
    """Take what was left in a viewer; then it is left no more."""
    viewer = _itself(viewer)
    trained = next((model for kept, model in _MODELS if kept() is viewer), None)
    _forget(viewer)
    found = []
    for layer in viewer.layers:
        if hasattr(layer, _NAME):
            found.append(getattr(layer, _NAME))
            delattr(layer, _NAME)
    return trained, [(result, model) for _, result, model in sorted(found, key=lambda entry: entry[0])]


def _forget(viewer: ViewerModel) -> None:
    """Drop the models of a viewer, and of those that are gone."""
    _MODELS[:] = [(kept, model) for kept, model in _MODELS if kept() is not None and kept() is not viewer]


def _itself(viewer: ViewerModel) -> ViewerModel:
    """Return the viewer behind the proxy that napari hands to plugins: there may be several of one."""
    found: ViewerModel = getattr(viewer, "__wrapped__", viewer)
    return found
