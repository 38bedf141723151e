"""Which keys our layers have: the standard ones, and those that the user chose instead."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from napari.settings import get_plugin_settings
from napari.utils.key_bindings import coerce_keybinding
from psygnal import Signal

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.keys import BOX_KEYS, REVIEW_KEYS, STOP_KEYS, Key
from napari_boxprompt.gui.settings import PLUGIN

__all__ = ["KeyTable"]

STANDARD = {"boxes": BOX_KEYS, "review": REVIEW_KEYS, "stop": STOP_KEYS}
"""Keys by where they work; those that stop work in both other places too."""

MODIFIERS = ("Ctrl", "Shift", "Alt", "Meta")


class KeyTable:
    """The keys as they are now, kept in the plugin's preferences.

    Attributes
    ----------
    changed : psygnal.Signal
        The user has changed a key, or put the standard ones back.
    """

    changed = Signal()

    def __init__(self) -> None:
        self._chosen: dict[str, str] = {}
        self.take(_stored())

    def of(self, place: str) -> tuple[Key, ...]:
        """Keys of a place: ``"boxes"``, ``"review"`` or ``"stop"``; written as ``"Ctrl+Shift+Z"``."""
        return tuple(
            replace(key, key=self._chosen.get(f"{place}.{key.action}", _written(key.key)))
            for key in STANDARD[place]
        )

    def key(self, place: str, action: str) -> str:
        """The key of one action."""
        return next(key.key for key in self.of(place) if key.action == action)

    @property
    def is_standard(self) -> bool:
        """Whether no key is changed."""
        return not self._chosen

    def change(self, place: str, action: str, wanted: str) -> None:
        """Give an action another key.

        Raises
        ------
        BoxPromptError
            The key is taken, or napari does not know it.
        """
        self._check(place, action, wanted)
        standard = next(_written(key.key) for key in STANDARD[place] if key.action == action)
        self._chosen.pop(f"{place}.{action}", None)
        if wanted != standard:
            self._chosen[f"{place}.{action}"] = wanted
        self._keep()

    def reset(self) -> None:
        """Put the standard keys back."""
        self._chosen = {}
        self._keep()

    def take(self, text: str) -> None:
        """Take the keys that were kept; what makes no sense (any more) is left out."""
        keys = [(place, key.action) for place, found in STANDARD.items() for key in found]
        places = {f"{place}.{action}": (place, action) for place, action in keys}
        entries = {name: wanted for name, _, wanted in (entry.partition("=") for entry in text.split())}
        # All at once before each is looked at: two may have swapped their keys.
        self._chosen = {name: wanted for name, wanted in entries.items() if name in places}
        for name, wanted in list(self._chosen.items()):
            try:
                self._check(*places[name], wanted)
            except BoxPromptError:
                del self._chosen[name]

    def _check(self, place: str, action: str, wanted: str) -> None:
        if not wanted or wanted.rpartition("+")[2] in MODIFIERS or str(coerce_keybinding(wanted)) != wanted:
            raise BoxPromptError(f"{wanted or 'Nothing'} cannot be a key here; choose another one.")
        if wanted in tuple("123456789"):
            raise BoxPromptError(f"{wanted} chooses a class; choose another key.")
        for other in STANDARD if place == "stop" else (place, "stop"):
            for key in self.of(other):
                if key.key == wanted and (other, key.action) != (place, action):
                    raise BoxPromptError(f"{wanted} is taken: {key.text}. Choose another key.")

    def _keep(self) -> None:
        text = " ".join(f"{name}={key}" for name, key in self._chosen.items())
        with suppress(KeyError):  # napari does not know the plugin: they count until the widget is closed
            get_plugin_settings(PLUGIN).keys.changed = text
        self.changed.emit()


def _stored() -> str:
    try:
        return str(get_plugin_settings(PLUGIN).keys.changed)
    except KeyError:
        return ""


def _written(key: str) -> str:
    return key.replace("Control", "Ctrl").replace("-", "+")
