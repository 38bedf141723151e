"""Classes with another name or colour in the boxes: results and models follow, or they would be apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from napari_boxprompt.boxes import BoxSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.classes import Classes
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.prompting import PromptModel

__all__ = ["Renaming", "follow"]

Model = TypeVar("Model")


class Renaming:
    """A class has another name.

    Parameters
    ----------
    old, new : str
        Its names.
    images : sequence of Image
        Whose results follow.
    everywhere : bool
        No boxes have the old name any more; then models follow too.
    """

    def __init__(self, old: str, new: str, images: Sequence[Image], *, everywhere: bool) -> None:
        self.old, self.new, self.images, self.everywhere = old, new, images, everywhere
        # With the models that they were made of, so that no other has their identity.
        self._made: dict[int, tuple[Any, Any]] = {}

    def model(self, model: PromptModel) -> PromptModel:
        """Return a model as it is called now: of the same one the same, for identity tells models apart."""
        if not self.everywhere:
            return model
        return self._once(model, model.renamed(self.old, self.new))

    def trained(self, trained: TrainedModel) -> TrainedModel:
        """Return a model with its frozen model as it is called now, of the same one the same."""
        model = self.model(trained.model)
        return self._once(trained, trained if model is trained.model else replace(trained, model=model))

    def boxes(self, boxes: BoxSet) -> BoxSet:
        """Return the boxes of a training as models are called now."""
        if not self.everywhere or self.new in boxes.classes:
            return boxes
        names = {name: self.new if name == self.old else name for name in boxes.classes}
        named = tuple(replace(box, label=names[box.label]) for box in boxes.boxes)
        return BoxSet(named, boxes.planes, tuple(names.values()), boxes.exclusive)

    def gave(self, trained: TrainedModel) -> bool:
        """Whether a model has got its name here."""
        return any(new is trained and new is not old for old, new in self._made.values())

    def _once(self, old: Model, new: Model) -> Model:
        made: Model = self._made.setdefault(id(old), (old, new))[1]
        return made


def follow(session: Session, boxes: BoxLayer, before: Classes) -> None:
    """Name and colour classes everywhere as the boxes of an image do now.

    Results of other images, and models, follow where no other boxes have the class.
    """
    for old, new in zip(before.items, boxes.classes.items, strict=True):
        if old == new:
            continue
        others = (other.boxset for other in session.box_layers if other is not boxes)
        alone = not any(box.label == old.name for drawn in others for box in drawn.boxes)
        images = [boxes.view.layer]
        images += [result.view.layer for result in session.results.alive if alone]
        if old.name != new.name:
            renaming = Renaming(old.name, new.name, images, everywhere=alone)
            session.results.rename(renaming)
            session.trained = session.trained and renaming.trained(session.trained)
            session.lessons.forget()
            session.renamed.emit(renaming)
        for result in session.results.alive:
            if result.view.layer in images and new.name in result.colors:
                result.colors[new.name] = new.color
                _show(result, old.name)
    session.result_changed.emit()


def _show(result: Result, old: str) -> None:
    """Show a result under the name that its class has now, in the name of its layer if that is ours."""
    ours, name = f"{result.view.name} {old}", result.layer.name
    if result.only not in (None, old) and (name == ours or name.startswith(f"{ours} [")):
        result.layer.name = f"{result.view.name} {result.only}"
    result.renew()
