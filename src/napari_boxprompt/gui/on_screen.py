"""What is on screen, for those who can do nothing without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_boxprompt.errors import BoxError, BoxPromptError

if TYPE_CHECKING:
    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.state import Session

__all__ = ["boxes_on_screen", "boxes_to_draw", "plane_on_screen"]


def plane_on_screen(session: Session) -> PlaneId:
    """Return the plane of the chosen image that the viewer shows.

    Raises
    ------
    BoxPromptError
        There is none; the message says how to come to one.
    """
    view, dims = session.view, session.viewer.dims
    if session.plane is not None:
        return session.plane
    if session.refusal.why:
        raise BoxPromptError(session.refusal.why)
    if view is None:
        raise BoxPromptError("There is no image yet: open one, or choose it under Image.")
    if dims.ndisplay != 2:
        raise BoxPromptError("No single plane is on screen in 3-D: turn to 2-D display first.")
    names = view.axis_names()
    wanted = " and ".join(names[axis] for axis in view.axes)
    raise BoxPromptError(
        f"No plane of {view.name} is on screen: move the sliders into the image, and show its axes {wanted}."
    )


def boxes_on_screen(session: Session) -> BoxLayer:
    """Return the boxes of the chosen image.

    Raises
    ------
    BoxError
        It has no boxes layer yet.
    """
    if session.boxes is None:
        raise BoxError("There is no boxes layer yet: make one with 'New boxes layer'.")
    return session.boxes


def boxes_to_draw(session: Session) -> BoxLayer:
    """Make a boxes layer over the chosen image, or take the one there is in hand.

    Where the chosen image is hidden and another is active, that one is chosen first: boxes would go to an
    image that nobody sees.

    Raises
    ------
    BoxPromptError
        There is no image, or the active one cannot be used.
    """
    other = session.aside
    if other is not None and session.view is not None and not session.view.layer.visible:
        session.choose_image(other)
    return session.new_boxes_layer()
