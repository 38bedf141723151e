"""Classes with another name or colour in the boxes: results and models follow, or they would be apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.classes import Classes
    from napari_boxprompt.gui.result_book import Maker
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session

__all__ = ["Renaming", "check", "follow"]

Model = TypeVar("Model")
Named = TypeVar("Named", bound="Maker")


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

    def model(self, model: Named) -> Named:
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


def check(session: Session, boxes: BoxLayer, old: str, new: str) -> None:
    """Refuse a name under which the objects of two layers would be of one class, before anything changes.

    Objects of classes that may overlap lie over each other: in one layer they would lose pixels, and undo
    could not tell them apart again.

    Raises
    ------
    BoxError
        A result or a mask of the project has both classes, each in a layer.
    """
    for image in _followers(session, boxes, old)[0]:
        kept = session.results.kept_classes(image)
        mine = [result for result in session.results.alive if result.view.layer == image]
        layered = ({one.only for one in result.siblings if one.only} for result in mine)
        if any({old, new} <= names | kept for names in (set[str](), *layered)):
            raise BoxError(
                f"There are objects of a class '{new}' on '{image.name}' already, in a layer beside that of "
                f"'{old}', and the two do not become one: choose another name. To go on with one class, add "
                f"'{new}' here, select the boxes of '{old}' and choose '{new}' for them; then train."
            )


def _followers(session: Session, boxes: BoxLayer, old: str) -> tuple[list[Image], bool]:
    """Return the images whose results follow boxes in a class, and whether no other boxes have it."""
    others = (other.boxset for other in session.box_layers if other is not boxes)
    alone = not any(box.label == old for drawn in others for box in drawn.boxes)
    images = [boxes.view.layer]
    return images + [result.view.layer for result in session.results.alive if alone], alone


def follow(session: Session, boxes: BoxLayer, before: Classes) -> None:
    """Name and colour classes everywhere as the boxes of an image do now.

    Results of other images, and models, follow where no other boxes have the class.
    """
    for old, new in zip(before.items, boxes.classes.items, strict=True):
        if old == new:
            continue
        images, alone = _followers(session, boxes, old.name)
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
