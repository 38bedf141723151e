"""The keys of our layers, in one table; napari ignores those of a manifest, so they are bound here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.layers import Layer

    from napari_boxprompt.gui.actions import Actions
    from napari_boxprompt.gui.key_table import KeyTable
    from napari_boxprompt.gui.state import Session

__all__ = ["BOX_KEYS", "REVIEW_KEYS", "STOP_KEYS", "Key", "bind", "bind_all", "bind_classes"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Parameters
    ----------
    key : str
        As napari writes it.
    action : str
        Method of the dock widget.
    text : str
        What it does, for the table of keys.
    """

    key: str
    action: str
    text: str


BOX_KEYS = (
    Key("B", "new_boxes_layer", "draw boxes"),
    Key("C", "toggle_complete", "this plane is complete, or not"),
    Key("Control-Z", "undo", "undo the last change of boxes"),
    Key("Control-Shift-Z", "redo", "redo"),
)
"""On boxes layers, besides 1 to 9 for the classes."""

REVIEW_KEYS = (
    Key("N", "next_plane", "next plane to review"),
    Key("P", "previous_plane", "back to the plane before"),
    Key("A", "accept_plane", "accept this plane: the next training learns it"),
    Key("R", "reject_plane", "reject this plane: it waits at the end of the list"),
    Key("E", "edit_plane", "paint on this plane's objects"),
    Key("X", "box_from_object", "box from the object under the cursor"),
    Key("Control-B", "new_boxes_layer", "back to drawing boxes"),
)
"""On layers of predicted objects."""

STOP_KEYS = (Key("Escape", "ask_to_stop", "stop the training or prediction that runs, after asking"),)
"""On all of these layers, only while something runs: the key is napari's at all other times."""

DRAWING = ("add_path", "add_polyline", "add_polygon", "add_polygon_lasso", "polygon")
"""Modes in which a shape takes several clicks, and napari's own key ends or gives up one."""


def bind_all(session: Session, actions: Actions, table: KeyTable) -> None:
    """Bind the keys on the layers there are of the chosen image's boxes and of all results.

    Keys of ours that these layers had before are taken away first.
    """
    boxes = session.boxes
    on_boxes, on_results = table.of("boxes"), table.of("review")
    called = {key.action: getattr(actions, key.action) for key in (*on_boxes, *on_results)}
    keys: list[tuple[Layer, tuple[Key, ...]]] = []
    if boxes is not None:
        keys += [(layer, on_boxes) for layer in (boxes.shapes, boxes.complete) if layer is not None]
    keys += [(one.layer, on_results) for one in session.results.alive]
    for layer, some in keys:
        unbind(layer)
        bind(layer, some, called)
        if actions.busy:
            for key in table.of("stop"):
                layer.bind_key(key.key, _after_own(getattr(actions, key.action), key.key), overwrite=True)
    if boxes is not None:
        bind_classes(boxes.shapes, boxes.choose_class)


def unbind(layer: Layer) -> None:
    """Take our keys from a layer; those of napari, or of the user, work again."""
    for key in [
        key for key, pressed in layer.keymap.items() if getattr(pressed, "__module__", "") == __name__
    ]:
        layer.bind_key(key, None)


def bind(layer: Layer, keys: tuple[Key, ...], actions: Mapping[str, Callable[[], object]]) -> None:
    """Bind keys on one layer, and only there.

    Parameters
    ----------
    layer : Layer
        The layer.
    keys : tuple of Key
        Which keys.
    actions : mapping of str to callable
        What each does, by the name of the action.
    """
    for key in keys:
        layer.bind_key(key.key, _ignoring_layer(actions[key.action]), overwrite=True)


def bind_classes(layer: Layer, choose: Callable[[int], object]) -> None:
    """Bind 1 to 9 to the classes."""
    for number in range(1, 10):
        layer.bind_key(str(number), lambda _layer, i=number - 1: choose(i) and None, overwrite=True)


def _ignoring_layer(action: Callable[[], object]) -> Callable[[object], None]:
    def pressed(_layer: object) -> None:
        action()

    return pressed


def _after_own(action: Callable[[], object], key: str) -> Callable[[Layer], None]:
    """Do what napari does with the key on such a layer first; while a shape is drawn, nothing more."""

    def pressed(layer: Layer) -> None:
        known = type(layer).class_keymap.items()
        own = next((does for bound, does in known if str(bound) == key), None)
        if own is not None:
            own(layer)
        if own is None or str(layer.mode) not in DRAWING:
            action()

    return pressed
