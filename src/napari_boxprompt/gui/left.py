"""What a closed dock leaves for the next one in its viewer, each thing at what it belongs to and goes with.

Boxes need none of this: they are in their layers. A result says more than its layer, and so it waits at it;
so does the undo history of boxes. The model, the rounds and the settings wait at the list of layers.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from napari.layers import Labels

from napari_boxprompt.errors import BoxPromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.components import ViewerModel

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.gui.result_book import Maker
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.rounds import RoundBook
    from napari_boxprompt.gui.train_panel import TrainPanel
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.work import TrainingTask
    from napari_boxprompt.project.rounds import Round

__all__ = ["Entry", "Left", "layers_of", "leave", "leave_results", "take", "take_results"]

Entry: TypeAlias = "tuple[Result, Maker | None]"
"""A result, and the model, or else what it is of."""

_NAME = "_boxprompt_left"


@dataclass
class Left:
    """What belongs to a viewer as a whole.

    Parameters
    ----------
    trained : TrainedModel, optional
        The model.
    task : TrainingTask, optional
        The last training.
    rounds, models, loaded_here
        Rounds, their models as far as they are in memory, and that which the user has loaded.
    config : TrainConfig, optional
        Settings of the next training.
    """

    trained: TrainedModel | None = None
    task: TrainingTask | None = None
    rounds: list[Round] = field(default_factory=list)
    models: dict[int, TrainedModel] = field(default_factory=dict)
    loaded_here: Round | None = None
    config: TrainConfig | None = None
    arrived: Callable[[TrainedModel], object] | None = None
    """Of the dock that is open: takes the model of a training that ended after its dock was closed."""

    def note(self, trainer: Trainer, book: RoundBook, panel: TrainPanel) -> None:
        """Take what a dock has."""
        self.task, self.rounds, self.models = trainer.last, book.rounds, book.models
        self.loaded_here, self.arrived = book.loaded_here, None
        with suppress(BoxPromptError):  # a setting that is not allowed
            self.config = panel.config

    def show(self, trainer: Trainer, book: RoundBook, panel: TrainPanel) -> None:
        """Give it to a new dock."""
        trainer.last = self.task
        if self.config is not None:
            panel.take(self.config)
        book.restore(self.rounds, self.models, self.loaded_here)


def leave(owner: object, what: object) -> None:
    """Leave something at a layer, or at a viewer's list of layers."""
    setattr(owner, _NAME, what)


def take(owner: object) -> Any:
    """Take what was left there, None where nothing was; then it is left no more."""
    found = getattr(owner, _NAME, None)
    if found is not None:
        delattr(owner, _NAME)
    return found


def leave_results(entries: Sequence[Entry]) -> None:
    """Leave results, the newest last."""
    for place, entry in enumerate(entries):
        leave(entry[0].layer, (place, *entry))


def take_results(viewer: ViewerModel) -> list[Entry]:
    """Take the results that were left in a viewer."""
    labels = (layer for layer in layers_of(viewer) if isinstance(layer, Labels))
    found = [left for layer in labels if (left := take(layer)) is not None]
    return [(result, model) for _, result, model in sorted(found, key=lambda entry: entry[0])]


def layers_of(viewer: ViewerModel) -> Any:
    """Return the list of layers itself, not behind the proxy that napari hands to plugins."""
    return getattr(viewer, "__wrapped__", viewer).layers
