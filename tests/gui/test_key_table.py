"""Keys that the user changes: what is taken, what is refused, what is kept."""

from __future__ import annotations

import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.settings import get_plugin_settings

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.key_table import KeyTable

pytestmark = pytest.mark.usefixtures("plugin")


def key_of(table: KeyTable, place: str, action: str) -> str:
    return next(key.key for key in table.of(place) if key.action == action)


def test_changed_keys_are_kept() -> None:
    table = KeyTable()
    heard: list[bool] = []
    table.changed.connect(lambda: heard.append(True))
    table.change("boxes", "toggle_complete", "Ctrl+-")
    table.change("review", "new_boxes_layer", "=")
    again = KeyTable()
    assert key_of(again, "boxes", "toggle_complete") == "Ctrl+-"
    assert key_of(again, "review", "new_boxes_layer") == "="
    assert key_of(again, "boxes", "new_boxes_layer") == "B", "the same action elsewhere has its own key"
    table.change("boxes", "toggle_complete", "C")
    table.reset()
    assert KeyTable().is_standard
    assert len(heard) == 4


@pytest.mark.parametrize(
    ("place", "wanted", "said"),
    [
        ("boxes", "B", "taken: draw boxes"),
        ("boxes", "Escape", "taken: stop"),
        ("boxes", "7", "class"),
        ("boxes", "", "cannot"),
        ("boxes", "Ctrl+Shift", "cannot"),
        ("boxes", "Volume Up", "cannot"),
        ("stop", "N", "taken: next plane"),
    ],
)
def test_a_key_that_cannot_be_had_is_refused(place: str, wanted: str, said: str) -> None:
    table = KeyTable()
    action = "ask_to_stop" if place == "stop" else "toggle_complete"
    with pytest.raises(BoxPromptError, match=said):
        table.change(place, action, wanted)
    assert table.is_standard


def test_places_that_share_no_layer_may_share_a_key() -> None:
    table = KeyTable()
    table.change("boxes", "toggle_complete", "N")
    assert key_of(table, "review", "next_plane") == "N"


def test_kept_keys_that_make_no_sense_are_left_out() -> None:
    get_plugin_settings(
        "napari-boxprompt"
    ).keys.changed = "x=Y boxes.undo boxes.gone=K boxes.redo=B boxes.undo=U"
    table = KeyTable()
    assert key_of(table, "boxes", "undo") == "U"
    assert key_of(table, "boxes", "redo") == "Ctrl+Shift+Z"


def test_two_keys_that_were_swapped_are_kept() -> None:
    table = KeyTable()
    for action, key in (("undo", "K"), ("redo", "Ctrl+Z"), ("undo", "Ctrl+Shift+Z")):
        table.change("boxes", action, key)
    assert KeyTable().of("boxes") == table.of("boxes")
    assert key_of(table, "boxes", "redo") == "Ctrl+Z"
