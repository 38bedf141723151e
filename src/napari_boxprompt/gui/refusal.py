"""Why the image in the viewer cannot be worked on, as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image
from psygnal import Signal

from napari_boxprompt._readers import MIN_SIDE
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.planes import PlaneView

if TYPE_CHECKING:
    from napari_boxprompt.gui.state import Session

__all__ = ["Refusal", "wanted_image"]


class Refusal:
    """Knows why there is no image to work on, or why boxes cannot be drawn on the planes on screen.

    Parameters
    ----------
    session : Session
        Image and boxes.

    Attributes
    ----------
    why : str
        A sentence for the user; empty where all is well.
    changed : psygnal.Signal
        The sentence is another one.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self._session, self.why = session, ""
        for signal in (
            session.image_changed,
            session.layers_changed,
            session.active_changed,
            session.boxes_changed,
        ):
            signal.connect(self.look)

    def look(self) -> None:
        """Find out how it is now."""
        why = self._find()
        if why != self.why:
            self.why = why
            self.changed.emit()

    def _find(self) -> str:
        session, viewer = self._session, self._session.viewer
        try:
            if session.view is None:
                wanted = wanted_image(session)
                if wanted is not None:
                    PlaneView.from_viewer(wanted, viewer).images()
            elif session.boxes is None:
                session.view.as_shown(viewer)
        except BoxPromptError as error:
            return f"{error}{_way_out(session)}"
        return ""


def wanted_image(session: Session) -> Image | None:
    """Return the active image, or else the first one; None where there is none."""
    active, layers = session.viewer.layers.selection.active, session.image_layers
    return active if isinstance(active, Image) else layers[0] if layers else None


def _way_out(session: Session) -> str:
    """Say that an image has larger planes than those on screen, where that is so."""
    wanted = wanted_image(session) if session.view is None else None
    if wanted is None or wanted.ndim < 3:
        return ""
    view = PlaneView.from_viewer(wanted, session.viewer)
    too_small = min(view.shape) < MIN_SIDE <= sorted(view.lengths)[-2]
    return " Or roll the axes: it has larger planes." if too_small else ""
