"""Classes of boxes: a name and a colour each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_boxprompt.errors import BoxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["COLORS", "COMPLETE_COLOR", "BoxClass", "Classes", "Color"]

Color = tuple[float, float, float, float]

COLORS = ("#ffd400", "#19c8ff", "#ff5ca8", "#ff8c1a", "#b48cff", "#f2f2f2", "#ff4d4d", "#c2a878", "#8fa8ff")
"""Told apart on grey by most eyes; green is left for what is complete."""

COMPLETE_COLOR = "#1a8f50"
"""As far from white as from black: the word stands on the canvas, which is white in the light theme."""


def _rgba(text: str) -> Color:
    red, green, blue = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return (red, green, blue, 1.0)


COMPLETE_RGBA = _rgba(COMPLETE_COLOR)


@dataclass(frozen=True, slots=True)
class BoxClass:
    """One class.

    Parameters
    ----------
    name : str
        What the user calls it.
    color : tuple of float
        Red, green, blue and opacity in 0..1.
    """

    name: str
    color: Color

    @property
    def hex(self) -> str:
        """Colour as ``#rrggbb``."""
        return "#" + "".join(f"{round(255 * value):02x}" for value in self.color[:3])


@dataclass(frozen=True, slots=True)
class Classes:
    """Ordered classes, of which one is chosen for the next box; methods return new ones.

    Parameters
    ----------
    items : tuple of BoxClass
        At least one.
    chosen : int
        Position of the class of the next box.
    """

    items: tuple[BoxClass, ...] = (BoxClass("object", _rgba(COLORS[0])),)
    chosen: int = 0

    @classmethod
    def named(cls, names: Iterable[str]) -> Classes:
        """Classes of these names in the usual colours; ``object`` where there is none."""
        found = tuple(dict.fromkeys(names)) or ("object",)
        return cls(tuple(BoxClass(name, _rgba(COLORS[i % len(COLORS)])) for i, name in enumerate(found)))

    @classmethod
    def restored(cls, stored: Iterable[tuple[str, str]], names: Iterable[object]) -> Classes:
        """Classes that a layer carries (see `stored`), and those its features name besides."""
        pairs = [(str(name), str(color)) for name, color in stored]
        found = cls(tuple(BoxClass(name, _rgba(color)) for name, color in pairs)) if pairs else None
        named = [str(name) for name in names]
        return found.with_names(named) if found is not None else cls.named(named)

    def stored(self) -> list[list[str]]:
        """Name and colour of each class, as plain text for a layer's metadata."""
        return [[item.name, item.hex] for item in self.items]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(item.name for item in self.items)

    @property
    def current(self) -> BoxClass:
        """Class of the next box."""
        return self.items[self.chosen]

    def color_of(self, name: str) -> Color:
        """Colour of a class, grey for an unknown one."""
        return next((item.color for item in self.items if item.name == name), (0.6, 0.6, 0.6, 1.0))

    def choose(self, index: int) -> Classes:
        """Choose the class of the next box; an index beyond the last changes nothing."""
        return replace(self, chosen=index) if 0 <= index < len(self.items) else self

    def with_names(self, names: Sequence[str]) -> Classes:
        """Append the classes that are missing."""
        missing = [name for name in dict.fromkeys(names) if name not in self.names]
        new = tuple(
            BoxClass(name, _rgba(COLORS[(len(self.items) + i) % len(COLORS)]))
            for i, name in enumerate(missing)
        )
        return replace(self, items=self.items + new)

    def add(self, name: str) -> Classes:
        """Append a class and choose it.

        Raises
        ------
        BoxError
            The name is empty or taken.
        """
        name = self._free(name)
        more = self.with_names([name])
        return replace(more, chosen=len(more.items) - 1)

    def rename(self, index: int, name: str) -> Classes:
        """Give a class another name.

        Raises
        ------
        BoxError
            The name is empty or taken.
        """
        if name.strip() == self.items[index].name:
            return self
        return self._with(index, replace(self.items[index], name=self._free(name)))

    def recolor(self, index: int, color: Color) -> Classes:
        """Give a class another colour."""
        return self._with(index, replace(self.items[index], color=color))

    def remove(self, index: int) -> Classes:
        """Leave a class out.

        Raises
        ------
        BoxError
            It is the only one.
        """
        if len(self.items) == 1:
            raise BoxError("This is the only class; rename it instead of removing it.")
        items = self.items[:index] + self.items[index + 1 :]
        chosen = self.chosen - (index < self.chosen)
        return Classes(items, min(chosen, len(items) - 1))

    def _with(self, index: int, item: BoxClass) -> Classes:
        return replace(self, items=(*self.items[:index], item, *self.items[index + 1 :]))

    def _free(self, name: str) -> str:
        name = name.strip()
        if not name:
            raise BoxError("A class needs a name.")
        if name in self.names:
            raise BoxError(f"There is a class '{name}' already; choose another name.")
        return name
