"""What undo brings back: the shapes of a boxes layer, their classes, and what is complete."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.gui.classes import Classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.layers import Shapes

__all__ = ["Drawing", "replace_shapes", "style_next", "style_shapes", "vertices_of"]

CLEAR = "#00000000"

Vertices = tuple["npt.NDArray[np.float64]", ...]


@dataclass(frozen=True, eq=False)
class Drawing:
    """State of a boxes layer and of its complete areas.

    Parameters
    ----------
    shapes : tuple of numpy.ndarray
        Vertices ``(n, ndim)`` of each shape.
    types, labels : tuple of str
        Kind and class of each shape.
    areas : tuple of numpy.ndarray
        Vertices of each complete area.
    classes : Classes
        Names and colours.
    """

    shapes: Vertices = ()
    types: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    areas: Vertices = ()
    classes: Classes = field(default_factory=Classes)

    def __eq__(self, other: object) -> bool:
        """Compare vertices and classes; the class chosen for the next box is no part of the drawing."""
        return (
            isinstance(other, Drawing)
            and self.types == other.types
            and self.labels == other.labels
            and self.classes.items == other.classes.items
            and _same(self.shapes, other.shapes)
            and _same(self.areas, other.areas)
        )

    __hash__ = None  # type: ignore[assignment]

    def renames(self, other: Drawing) -> bool:
        """Whether classes have other names or colours in another drawing, and all else is the same."""
        items, others = self.classes.items, other.classes.items
        same = replace(self, labels=other.labels, classes=other.classes)
        return items != others and len(items) == len(others) and same == other


def _same(one: Vertices, other: Vertices) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def vertices_of(layer: Shapes) -> Vertices:
    """Copy of the vertices of each shape."""
    return tuple(np.array(vertices, dtype=np.float64) for vertices in layer.data)


def replace_shapes(layer: Shapes, vertices: Vertices, types: Sequence[str]) -> None:
    """Put these shapes in the place of all others; their features are the caller's."""
    if vertices:
        layer.data = list(zip(vertices, types, strict=True))
    elif layer.nshapes:
        # Assigning an empty list would leave the features of the old shapes behind.
        layer.selected_data = set(range(layer.nshapes))
        layer.remove_selected()


def style_shapes(layer: Shapes, colors: Sequence[Sequence[float]], width: float) -> None:
    """Outline each shape in its colour (RGBA); what is so already stays, for napari makes all shapes anew."""
    if not colors:
        return
    clear = np.zeros((len(colors), 4))
    if not _alike(layer.edge_color, colors):
        layer.edge_color = np.array(colors)
    if not _alike(layer.face_color, clear):
        layer.face_color = clear
    if not _alike(layer.edge_width, [width] * len(colors)):
        layer.edge_width = [width] * len(colors)


def style_next(layer: Shapes, color: str, width: float) -> None:
    """Outline the next shape in this colour, and leave the selected ones as they are."""
    now = (layer.current_edge_color, layer.current_face_color, layer.current_edge_width)
    if now == (f"{color}ff", CLEAR, width):
        return
    selected = set(layer.selected_data)
    layer.selected_data = set()  # or the selected shapes would take these colours
    layer.current_edge_color, layer.current_face_color, layer.current_edge_width = color, CLEAR, width
    layer.selected_data = selected


def _alike(one: npt.ArrayLike, other: npt.ArrayLike) -> bool:
    one, other = np.asarray(one, float), np.asarray(other, float)
    return one.shape == other.shape and bool(np.allclose(one, other, atol=1e-6))
