"""When the worker is to look at the plane on screen: once for changes that follow each other closely."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_boxprompt.gui.pixels import PixelWatch

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from napari_boxprompt.gui.preview import Preview
    from napari_boxprompt.gui.state import Session

__all__ = ["Looks"]

QUIET_MS = 20
"""Changes that follow each other faster than this are answered once."""


class Looks(QTimer):
    """Asks for a preview of the plane on screen; `start` asks for one soon.

    It must be made before the panels: the worker then looks at a new box while they draw theirs.

    Parameters
    ----------
    session : Session
        Tells of changes.
    preview : Preview
        Looks.
    parent : QObject
        Owner of the timer.
    """

    def __init__(self, session: Session, preview: Preview, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._preview = session, preview
        self.setSingleShot(True)
        self.setInterval(QUIET_MS)
        self.timeout.connect(self.now)
        session.boxes_changed.connect(self.now)
        for signal in (session.image_changed, session.plane_changed, session.contrast_changed):
            signal.connect(self.soon)
        self._pixels = PixelWatch(session)
        self._pixels.replaced.connect(self._on_new_pixels)
        self._pixels.redrawn.connect(preview.forget)

    def soon(self) -> None:
        """Look when nothing more has changed for a moment."""
        self.start()

    def now(self) -> None:
        """Look at once."""
        self.stop()
        self._preview.request()

    def switch(self, wanted: bool) -> None:
        """Show what the model makes of the boxes, or do not."""
        self._preview.enabled = wanted
        if wanted:
            self.now()
        else:
            self._preview.hide()

    def close(self) -> None:
        """Look at nothing any more."""
        self.stop()
        self._pixels.close()

    def _on_new_pixels(self) -> None:
        self._preview.forget()
        if not self._session.contrast_is_manual:
            self._session.forget_contrast()  # what was measured on other pixels says nothing of these
        self.soon()
