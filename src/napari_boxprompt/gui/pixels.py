"""Hears of pixels of the chosen image that are not what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_boxprompt.gui.state import Session

__all__ = ["PixelWatch"]


class PixelWatch:
    """Listens to the layer of the chosen image.

    Parameters
    ----------
    session : Session
        Says which image is chosen.

    Attributes
    ----------
    replaced : psygnal.Signal
        The layer was given other data.
    redrawn : psygnal.Signal
        The layer drew a plane anew. It does so for many reasons; one is that its pixels were changed in
        place and `Layer.refresh` was called, of which napari tells in no other way.
    """

    replaced = Signal()
    redrawn = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layer: Image | None = None
        session.image_changed.connect(self._follow)
        self._follow()

    def close(self) -> None:
        """Stop listening."""
        self._session.image_changed.disconnect(self._follow)
        self._let_go()

    def _follow(self) -> None:
        view = self._session.view
        layer = None if view is None else view.layer
        if self._layer is not None and self._layer == layer:
            return
        self._let_go()
        self._layer = layer
        if layer is not None:
            layer.events.data.connect(self._on_data)
            layer.events.set_data.connect(self._on_set_data)

    def _let_go(self) -> None:
        if self._layer is not None:
            self._layer.events.data.disconnect(self._on_data)
            self._layer.events.set_data.disconnect(self._on_set_data)
        self._layer = None

    def _on_data(self, event: Any = None) -> None:
        # Not `emit` itself: psygnal calls that once to learn its parameters.
        self.replaced.emit()

    def _on_set_data(self, event: Any = None) -> None:
        # A multiscale layer draws anew at every zoom, and to read a plane of it again takes long.
        if self._layer is not None and not self._layer.multiscale:
            self.redrawn.emit()
