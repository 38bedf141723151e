"""Boxes whose layer was deleted: they are kept while their image is open, and can be brought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_boxprompt.errors import BoxError

if TYPE_CHECKING:
    from napari.components import LayerList
    from napari.layers import Image, Layer, Shapes

    from napari_boxprompt.boxes import BoxSet
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.classes import Classes
    from napari_boxprompt.gui.state import Session

__all__ = ["Deleted", "DeletedBoxes"]


@dataclass(frozen=True)
class DeletedBoxes:
    """What was on the boxes layer of an image.

    Parameters
    ----------
    image : Image
        The layer that they belong to.
    drawn : BoxSet
        Boxes, and what was complete.
    classes : Classes
        Names and colours.
    complete : Shapes, optional
        Layer that shows what is complete; without boxes it would say that there are no objects.
    """

    image: Image
    drawn: BoxSet
    classes: Classes
    complete: Shapes | None


class Deleted:
    """Listens to layers that go away.

    Parameters
    ----------
    session : Session
        Its boxes are kept.

    Attributes
    ----------
    changed : psygnal.Signal
        Boxes of an image were deleted with their layer, or brought back.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: list[DeletedBoxes] = []
        session.viewer.layers.events.removing.connect(self._on_removing)

    def close(self) -> None:
        """Stop listening."""
        self._session.viewer.layers.events.removing.disconnect(self._on_removing)

    @property
    def here(self) -> DeletedBoxes | None:
        """Those of the chosen image, None where there are none, or others have been drawn since."""
        view, boxes = self._session.view, self._session.boxes
        if view is None or (boxes is not None and boxes.boxset.boxes):
            return None
        return next((kept for kept in self._kept if kept.image == view.layer), None)

    def bring_back(self) -> None:
        """Make a layer of them again.

        Raises
        ------
        BoxError
            There are none.
        """
        kept = self.here
        if kept is None:
            raise BoxError("No boxes of this image were deleted with their layer.")
        boxes = self._session.new_boxes_layer()
        if not boxes.boxset.boxes:  # a project may have had them
            boxes.take_classes(kept.classes)
            boxes.add_boxes(kept.drawn)
        boxes.shapes.mode = "select"
        self._kept.remove(kept)
        self.changed.emit()

    def tidy(self) -> None:
        """Take away what says which planes are complete where the boxes are gone."""
        layers = self._session.viewer.layers
        for kept in self._kept:
            if kept.complete is not None and kept.complete in layers and kept.image in layers:
                used = any(boxes.complete == kept.complete for boxes in self._session.box_layers)
                if not used:
                    layers.remove(kept.complete)

    def _on_removing(self, event: Any) -> None:
        layers = self._session.viewer.layers
        gone = layers[event.index]
        self._kept = [kept for kept in self._kept if kept.image != gone]
        found = next((boxes for boxes in self._session.box_layers if _goes(boxes, gone, layers)), None)
        if found is None or not found.boxset.boxes:
            return
        image = found.view.layer
        if any(kept.image == image and kept.drawn.boxes == found.boxset.boxes for kept in self._kept):
            return  # it went right before, with what was complete
        self._kept = [kept for kept in self._kept if kept.image != image]  # of an earlier layer
        self._kept.append(DeletedBoxes(image, found.boxset, found.classes, found.complete))
        self.changed.emit()


def _goes(boxes: BoxLayer, gone: Layer, layers: LayerList) -> bool:
    """Whether boxes are about to go: with their layer, or right after what is complete."""
    both = boxes.complete is not None and boxes.complete == gone and boxes.shapes in layers.selection
    return bool(boxes.shapes == gone or both)
