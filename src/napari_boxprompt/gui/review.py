"""Going through a result plane by plane."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.on_screen import plane_on_screen
from napari_boxprompt.gui.ordering import ReviewOrder
from napari_boxprompt.gui.telling import told
from napari_boxprompt.gui.uncovering import uncover

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.results import Result, Status
    from napari_boxprompt.gui.state import Session

__all__ = ["Review"]


class Away(Protocol):
    """Images that are not in the viewer, and can be opened for a look."""

    def waiting(self) -> list[PlaneId]:
        """Predicted planes of them that are not accepted, the one that needs a look most first."""
        ...

    def open(self, plane: PlaneId, then: Callable[[PlaneId], object]) -> None:
        """Open the image of one; then call with the plane as it is called in the viewer."""
        ...

    def accepted(self) -> int:
        """Count the accepted planes of images that are not open."""
        ...


class Review:
    """The user's way through the newest results, those of all images together.

    Parameters
    ----------
    session : Session
        State of the widget.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.order = ReviewOrder(session)
        self.away: Away | None = None
        """Where to go on when the open images have been looked at."""
        self._visited: list[PlaneId] = []

    @told
    def next(self, _: object = None) -> None:
        """Go to the plane that needs a look most, and is not on screen.

        When all planes of the open images have been seen, an image that is not open yet is opened.
        """
        away = [] if self.away is None else self.away.waiting()
        if not away:
            self._result()
        here = self._session.plane
        seen, waiting = {*self._visited, here}, self.order.waiting()
        fresh = [plane for plane in waiting if plane not in seen]
        if not fresh and away and self.away is not None:
            self.away.open(away[0], partial(self._go_on, here))
            return
        fresh = fresh or [plane for plane in waiting if plane != here]
        if not fresh:
            raise BoxPromptError(_nothing_left(here if here in waiting else None))
        self._go_on(here, fresh[0])

    def _go_on(self, here: PlaneId | None, plane: PlaneId) -> None:
        if here is not None:
            self._visited.append(here)
        self.go(plane)

    @told
    def previous(self, _: object = None) -> None:
        """Go back to the plane looked at before."""
        self._result()
        while self._visited:
            plane = self._visited.pop()
            if self._session.results.of(plane) is not None:  # else its image was closed
                self.go(plane)
                return
        raise BoxPromptError("There is no earlier plane of this review in the images that are open.")

    @told
    def accept(self, _: object = None) -> None:
        """Say that the plane on screen is right; go to the next."""
        self._judge("accepted")

    @told
    def reject(self, _: object = None) -> None:
        """Say that the plane on screen is wrong; go to the next. It waits at the end of the list."""
        self._judge("rejected")

    @told
    def edit(self, _: object = None) -> None:
        """Take the brush to the objects of the result, with a number that no object has yet.

        napari begins with number 1, and a stroke anywhere would become part of object 1. To go on with an
        object there is, the user picks it with napari's own tool.
        """
        layer = self._layer(self._result())
        self._session.viewer.layers.selection.active = layer
        layer.visible = True
        layer.selected_label = _fresh(layer)
        layer.mode = "paint"

    def go(self, plane: PlaneId) -> None:
        """Show a plane, and its image where another one is chosen."""
        result = self._session.results.of(plane)
        if result is not None:
            image, before = result.view.layer, self._session.view
            # Whoever reviews wants the keys of the review, which are those of this layer.
            self._session.viewer.layers.selection.active = self._layer(result)  # chooses its image
            uncover(self._session, image, whole=before is None or before.layer != image)
            result.view.show(self._session.viewer, plane)
            layer = self._layer(result)
            if layer.mode == "paint":  # what is painted here is no part of an object of another plane
                layer.selected_label = _fresh(layer)

    def _layer(self, result: Result) -> Labels:
        """Where classes have layers of their own, the one that the user is in; else the only one."""
        active = self._session.viewer.layers.selection.active
        return next((one.layer for one in result.together if one.layer == active), result.layer)

    def _judge(self, status: Status) -> None:
        self._result()
        plane = plane_on_screen(self._session)
        result = self._session.results.of(plane)
        if result is None or not (plane in result.scores or plane in result.status):
            raise BoxPromptError("This plane has no prediction; go to one of the list.")
        self._session.set_status(plane, status)
        away = self.away is not None and bool(self.away.waiting())
        if away or any(other != plane for other in self.order.waiting()):
            self.next()

    def _result(self) -> Result:
        result = self._session.result
        if result is None:
            raise BoxPromptError("There is no prediction to review yet.")
        return result


def _fresh(layer: Labels) -> int:
    """Return a number that no object has yet."""
    return int(np.max(layer.data)) + 1


def _nothing_left(here: PlaneId | None) -> str:
    """Say what to do when there is no other plane to go to."""
    if here is None:
        return "Every plane has been accepted; export the labels, or train again: accepted planes teach."
    return "Only this plane is left: accept it, or paint it right and accept it then."
