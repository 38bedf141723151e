"""Shapes layers read as boxes on the planes of an image, and boxes written back as shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_boxprompt.boxes import TINY_SIDE, Box, PlaneId
from napari_boxprompt.gui.geometry import image_from_layer, layer_from_image, shared_axes, transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.layers import Shapes

    from napari_boxprompt.gui.planes import PlaneView

__all__ = ["USELESS", "BoxProblem", "BoxReading", "box_corners", "corners_of", "read_boxes"]

USELESS = ("outside", "duplicate", "tiny")
"""Problems of boxes that are mended by deleting them."""

_UNSEEN = 0.1
"""Nobody sees a corner that is out of place by this part of a pixel; napari's float32 costs less."""
_FLAT = 0.5
"""A shape that leaves its plane by less than this many planes lies on it."""


@dataclass(frozen=True)
class BoxProblem:
    """Something about a shape that the user should look at.

    Parameters
    ----------
    kind : str
        "rotated", "not a rectangle", "outside", "partly outside", "tiny", "duplicate" or "across planes".
    index : int
        Row in the Shapes layer.
    plane : PlaneId or None
        The plane, None if the shape lies on none.
    message : str
        One sentence for the user.
    repair : ndarray, shape (4, ndim), optional
        Corners, in data coordinates of the Shapes layer, of a rectangle that mends it; None where only
        deleting helps.
    """

    kind: str
    index: int
    plane: PlaneId | None
    message: str
    repair: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class BoxReading:
    """What a Shapes layer says.

    Parameters
    ----------
    boxes : tuple of Box
        The boxes, in the order of the layer.
    rows : tuple of int
        Row in the layer of each box.
    problems : tuple of BoxProblem
        In the order of the layer; a shape can have several.
    """

    boxes: tuple[Box, ...] = ()
    rows: tuple[int, ...] = ()
    problems: tuple[BoxProblem, ...] = ()


@dataclass(frozen=True)
class _Outlines:
    """Shapes in data coordinates of the image, one row each."""

    low: npt.NDArray[np.float64]  # (N, ndim)
    high: npt.NDArray[np.float64]
    middle: npt.NDArray[np.float64]
    upright: npt.NDArray[np.bool_]  # (N,) all four corners of the bounding rectangle, and nothing else
    one_plane: npt.NDArray[np.bool_]  # (N, ndim) all corners are nearest to the same position


def _outlines(vertices: Sequence[npt.NDArray[Any]], view: PlaneView, matrix: npt.NDArray[Any]) -> _Outlines:
    """Measure all shapes at once: a loop over ten thousand would be felt after every mouse release."""
    starts = np.cumsum([0, *(len(points) for points in vertices[:-1])])
    counts = np.array([len(points) for points in vertices])
    points = transform(matrix, np.concatenate(vertices))
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    middle = np.add.reduceat(points, starts) / counts[:, np.newaxis]
    rounded = np.rint(points)
    same = np.minimum.reduceat(rounded, starts) == np.maximum.reduceat(rounded, starts)
    flat = points[:, view.axes]
    to_low = flat - np.repeat(low[:, view.axes], counts, axis=0)
    to_high = np.repeat(high[:, view.axes], counts, axis=0) - flat
    off = np.maximum.reduceat(np.minimum(to_low, to_high).max(axis=1), starts)
    at_high = to_high < to_low
    seen = np.bitwise_or.reduceat(1 << (2 * at_high[:, 0] + at_high[:, 1]), starts)
    upright = (off <= _UNSEEN) & (seen == 0b1111)
    return _Outlines(low, high, middle, upright, same | (high - low <= _FLAT))


@dataclass
class _Reader:
    """Reads the rows of one Shapes layer."""

    shapes: Shapes
    view: PlaneView
    at: PlaneId | None
    vertices: Sequence[npt.NDArray[Any]]
    outlines: _Outlines
    boxes: list[Box] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    problems: list[BoxProblem] = field(default_factory=list)
    seen: set[tuple[Any, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.size = self.view.shape
        self.back = layer_from_image(self.shapes, self.view)
        own, of_image = shared_axes(self.shapes, self.view)
        self.own_axes = [axis for axis in range(self.shapes.ndim) if axis not in own]
        self.cut_otherwise = not set(self.view.axes) <= set(of_image)
        index = () if self.at is None else self.at.index
        self.places: dict[int, int | None] = {}
        """Where a shape lies along plane axes that its layer has not."""
        for number, (axis, length) in enumerate(zip(self.view.plane_axes, self.view.extent, strict=True)):
            if axis not in of_image:
                given = index[number] if number < len(index) else None
                self.places[axis] = 0 if length == 1 else given

    def complain(
        self, kind: str, row: int, plane: PlaneId | None, message: str, box: Box | None = None
    ) -> None:
        repair = None if box is None else self.repair(row, box)
        self.problems.append(BoxProblem(kind, row, plane, message, repair))

    def repair(self, row: int, box: Box) -> npt.NDArray[np.float64]:
        """Return the corners of a box; along axes that say nothing about planes the shape stays."""
        channel = None
        if self.view.channel_axis is not None:
            channel = float(self.outlines.middle[row, self.view.channel_axis])
        corners = transform(self.back, _corners(box, self.view, channel))
        for axis in self.own_axes:
            corners[:, axis] = np.mean(self.vertices[row][:, axis])
        return corners

    def plane_of(self, row: int) -> PlaneId | None:
        """Return the plane a shape lies on; complains if there is none."""
        across = "A box reaches across planes; delete it and draw it on the plane of the object."
        fewer = "A box lies in a layer with fewer axes than the image; draw it in a layer made for the image."
        if self.cut_otherwise or None in self.places.values():
            self.complain("across planes", row, None, fewer)
            return None
        place: list[int] = []
        for axis in self.view.plane_axes:
            fixed = self.places.get(axis)
            if fixed is None and not self.outlines.one_plane[row, axis]:
                self.complain("across planes", row, None, across)
                return None
            place.append(round(float(self.outlines.middle[row, axis])) if fixed is None else fixed)
        plane = self.view.plane(place)
        if plane is None:
            text = f"A box lies at {place}, where {self.view.name} has no plane; delete or move it."
            self.complain("outside", row, None, text)
        return plane

    def read(self, row: int, kind: str, label: str) -> None:
        outlines, (first, second) = self.outlines, self.view.axes
        if not (np.isfinite(outlines.low[row]).all() and np.isfinite(outlines.high[row]).all()):
            self.complain("outside", row, None, "A box has a corner that is nowhere; delete it.")
            return
        plane = self.plane_of(row)
        if plane is None:
            return
        y0, x0 = (float(outlines.low[row, axis]) + 0.5 for axis in (first, second))
        y1, x1 = (float(outlines.high[row, axis]) + 0.5 for axis in (first, second))
        if not (y1 > y0 and x1 > x0):
            self.complain("tiny", row, plane, f"A box on {_where(plane)} has no area; delete it.")
            return
        box = Box(y0, x0, y1, x1, plane, label)
        part = box.clip(*self.size)
        if part is None:
            size = f"{self.size[0]} x {self.size[1]}"
            text = f"A box on {_where(plane)} lies outside the image ({size}); delete or move it."
            self.complain("outside", row, plane, text)
            return
        beyond = max(-y0, -x0, y1 - self.size[0], x1 - self.size[1])
        self.judge(row, kind, part, cut=beyond > _UNSEEN)

    def judge(self, row: int, kind: str, box: Box, *, cut: bool) -> None:
        """Take a box that lies in the image and say what is wrong with it."""
        key = (box.plane, box.label, *(round(value) for value in box.as_tuple()))
        if key in self.seen:
            text = f"Two boxes of class '{box.label}' on {_where(box.plane)} are the same; delete one."
            self.complain("duplicate", row, box.plane, text)
            return
        self.seen.add(key)
        if kind not in ("rectangle", "polygon"):
            text = f"A shape on {_where(box.plane)} is {_article(kind)}; the rectangle round it is used."
            self.complain("not a rectangle", row, box.plane, text, box)
        elif not self.outlines.upright[row]:
            name, words = (
                ("rotated", "A box {} is rotated; the upright rectangle round it is used.")
                if kind == "rectangle"
                else ("not a rectangle", "A shape {} is a polygon; the rectangle round it is used.")
            )
            self.complain(name, row, box.plane, words.format(f"on {_where(box.plane)}"), box)
        if cut:
            text = f"A box on {_where(box.plane)} reaches beyond the image; it is cut at the border."
            self.complain("partly outside", row, box.plane, text, box)
        if min(box.height, box.width) < TINY_SIDE:
            text = (
                f"A box on {_where(box.plane)} is only {box.height:.2g} x {box.width:.2g} pixels; "
                "was it drawn by accident?"
            )
            self.complain("tiny", row, box.plane, text)
        self.boxes.append(box)
        self.rows.append(row)


def _where(plane: PlaneId) -> str:
    """Name a plane as the panels do."""
    return f"plane {' · '.join(map(str, plane.index))}" if plane.index else plane.image


def _article(kind: str) -> str:
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"


def _labels(shapes: Shapes, classes: Sequence[str]) -> list[str]:
    """Return the class of every row; an empty cell, which pandas fills with NaN, is the default."""
    default = classes[0] if classes else "object"
    table = shapes.features
    if "class" not in table:
        return [default] * len(table)
    column = table["class"]
    missing = column.isna().tolist()
    names = [str(value).strip() for value in column.tolist()]
    return [default if gone or not name else name for gone, name in zip(missing, names, strict=True)]


def read_boxes(
    shapes: Shapes, view: PlaneView, *, at: PlaneId | None = None, classes: Sequence[str] = ()
) -> BoxReading:
    """Read a Shapes layer as boxes on the planes of an image.

    Parameters
    ----------
    shapes : napari.layers.Shapes
        The layer, with transforms and units of its own and any number of axes. The column ``class`` of its
        features names the classes.
    view : PlaneView
        The image.
    at : PlaneId, optional
        The plane on which shapes lie that have fewer axes than the image.
    classes : sequence of str
        The first one is the class of shapes that have none; ``object`` if there is none.

    Returns
    -------
    BoxReading
        Boxes cut at the border of the image, in pixels of its planes, and what is wrong with the shapes.
    """
    vertices = [np.asarray(points, dtype=np.float64) for points in shapes.data]
    if not vertices:
        return BoxReading()
    outlines = _outlines(vertices, view, image_from_layer(shapes, view))
    reader = _Reader(shapes, view, at, vertices, outlines)
    kinds = [str(kind) for kind in shapes.shape_type]
    for row, (kind, label) in enumerate(zip(kinds, _labels(shapes, classes), strict=True)):
        reader.read(row, kind, label)
    return BoxReading(tuple(reader.boxes), tuple(reader.rows), tuple(reader.problems))


def box_corners(box: Box, view: PlaneView, shapes: Shapes) -> npt.NDArray[np.float64]:
    """Return the corners of a box in data coordinates of a Shapes layer; the inverse of `read_boxes`.

    Parameters
    ----------
    box : Box
        The box, on a plane of the image.
    view : PlaneView
        The image.
    shapes : napari.layers.Shapes
        The layer that the corners are for.

    Returns
    -------
    ndarray, shape (4, shapes.ndim)
        The corners in order round the box.
    """
    return corners_of([box], view, shapes)[0]


def corners_of(boxes: Sequence[Box], view: PlaneView, shapes: Shapes) -> list[npt.NDArray[np.float64]]:
    """Return `box_corners` of many boxes, at the cost of one."""
    matrix = layer_from_image(shapes, view)
    return [transform(matrix, _corners(box, view, view.channel)) for box in boxes]


def _corners(box: Box, view: PlaneView, channel: float | None) -> npt.NDArray[np.float64]:
    """Return the corners of a box in data coordinates of the image."""
    corners = np.zeros((4, view.ndim))
    for axis, position in zip(view.plane_axes, box.plane.index, strict=True):
        corners[:, axis] = position
    if view.channel_axis is not None:
        corners[:, view.channel_axis] = channel or 0
    corners[:, view.axes[0]] = np.array([box.y0, box.y0, box.y1, box.y1]) - 0.5
    corners[:, view.axes[1]] = np.array([box.x0, box.x1, box.x1, box.x0]) - 0.5
    return corners
