"""Going through a result plane by plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.telling import told

if TYPE_CHECKING:
    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.results import Result, Status
    from napari_boxprompt.gui.state import Session

__all__ = ["Review"]


class Review:
    """The user's way through the newest result.

    Parameters
    ----------
    session : Session
        State of the widget.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._visited: list[PlaneId] = []

    @told
    def next(self, _: object = None) -> None:
        """Go to the plane that needs a look most, and is not on screen."""
        result, here = self._result(), self._session.plane
        seen = {*self._visited, here}
        ranked = result.ranked()
        fresh = [plane for plane in ranked if plane not in seen] or [p for p in ranked if p != here]
        if not fresh:
            raise BoxPromptError("Every plane has been reviewed; export the labels, or train on more boxes.")
        if here is not None:
            self._visited.append(here)
        self.go(fresh[0])

    @told
    def previous(self, _: object = None) -> None:
        """Go back to the plane looked at before."""
        if not self._visited:
            raise BoxPromptError("There is no earlier plane of this review.")
        self.go(self._visited.pop())

    @told
    def accept(self, _: object = None) -> None:
        """Say that the plane on screen is right; go to the next."""
        self._judge("accepted")

    @told
    def reject(self, _: object = None) -> None:
        """Say that the plane on screen is wrong; go to the next."""
        self._judge("rejected")

    @told
    def edit(self, _: object = None) -> None:
        """Take the brush to the objects of the result, with a number that no object has yet.

        napari begins with number 1, and a stroke anywhere would become part of object 1. To go on with an
        object there is, the user picks it with napari's own tool.
        """
        layer = self._result().layer
        self._session.viewer.layers.selection.active = layer
        layer.visible = True
        layer.selected_label = int(np.max(layer.data)) + 1
        layer.mode = "paint"

    def go(self, plane: PlaneId) -> None:
        """Show a plane."""
        result = self._session.result
        if result is not None:
            result.view.show(self._session.viewer, plane)
            # Whoever reviews wants the keys of the review, which are those of this layer.
            self._session.viewer.layers.selection.active = result.layer

    def _judge(self, status: Status) -> None:
        result, plane = self._result(), self._session.plane
        if plane is None or plane not in result.doubts:
            raise BoxPromptError("This plane has no prediction; go to one of the list.")
        self._session.set_status(plane, status)
        if result.ranked():
            self.next()

    def _result(self) -> Result:
        result = self._session.result
        if result is None:
            raise BoxPromptError("There is no prediction to review yet.")
        return result
