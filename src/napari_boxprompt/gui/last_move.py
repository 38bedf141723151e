"""A drag ends where the mouse is released, also when the viewer was too busy to see it get there.

vispy passes on no mouse move within 10 ms of the one before, and napari takes the end of a drag from the last
move, not from the release. After a moment in which the viewer was busy all waiting moves come at once: only
the first counts, and a box that was drawn meanwhile is too small, or a dot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.interactions import mouse_move_callbacks

from napari_boxprompt.gui.layers import role_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel

__all__ = ["LastMoves"]


class LastMoves:
    """Gives our layers the last move of each drag.

    Parameters
    ----------
    viewer : ViewerModel
        Its callbacks come before those of the layers.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        viewer.mouse_drag_callbacks.append(_follow)

    def close(self) -> None:
        """Let drags end as napari has it."""
        if _follow in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(_follow)


def _follow(viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
    last = tuple(event.position)
    yield
    while event.type == "mouse_move":
        last = tuple(event.position)
        yield
    layer = viewer.layers.selection.active
    if layer is not None and role_of(layer) is not None and tuple(event.position) != last:
        mouse_move_callbacks(layer, _Move(event.__wrapped__))


class _Move:
    """A release, told as a move to where it is."""

    type, is_dragging = "mouse_move", True

    def __init__(self, release: Any) -> None:
        # Not what a generator is given: napari puts the next event into that very object.
        self._release = release

    def __getattr__(self, name: str) -> Any:
        return getattr(self._release, name)
