"""Views: what part of an image the frozen model looks at, how large, turned or shifted.

A *view* is an affine map from the model's square logit grid to the pixels of a plane. Whole images,
tiles and augmented copies are all views, so boxes, pseudo-labels and predictions travel between the
grid and the image by one mechanism. Coordinates are continuous and half-open: pixel ``i`` covers
``[i, i + 1)``, its centre is ``i + 0.5``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from napari_boxprompt.config import AugmentConfig

__all__ = [
    "GRID",
    "View",
    "choose_tile",
    "ideal_tile",
    "perturbed",
    "sample_view",
    "tile_views",
    "to_region",
    "turned",
    "warp_between",
]

GRID = 256
"""Side of the logit grid of every SAM decoder: four times its 64 x 64 embedding."""

Region = tuple[int, int, int, int]

OBJECT_SIDE = 40.0
"""Median side of a box on the grid below which tiles are enlarged (see docs/concepts)."""

LARGEST_ENLARGEMENT = 2.0
"""Tiles are enlarged at most this much: beyond it there is cost and no more detail."""


@dataclass(frozen=True, slots=True)
class View:
    """Affine map from grid ``(x, y)`` to image pixels ``(x, y)``.

    Parameters
    ----------
    matrix : tuple of 6 floats
        Rows of the 2 x 3 matrix ``[[a, b, c], [d, e, f]]``: ``x' = a x + b y + c``,
        ``y' = d x + e y + f``.
    gamma : float
        Exponent applied to normalised intensities in 0..1.
    """

    matrix: tuple[float, float, float, float, float, float]
    gamma: float = 1.0

    @classmethod
    def square(cls, y0: float, x0: float, side: float) -> View:
        """View of the axis-aligned square with corner ``(y0, x0)`` and ``side``, in image pixels."""
        scale = side / GRID
        return cls((scale, 0.0, float(x0), 0.0, scale, float(y0)))

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> View:
        """View of a whole plane of ``shape`` (height, width); the shorter side is padded at its end."""
        return cls.square(0, 0, max(shape))

    @property
    def scale(self) -> float:
        """Image pixels per grid pixel."""
        a, b, _, d, e, _ = self.matrix
        return math.sqrt(abs(a * e - b * d))

    @property
    def axis_aligned(self) -> bool:
        """Whether boxes stay boxes: no rotation."""
        return self.matrix[1] == 0.0 and self.matrix[3] == 0.0

    def as_array(self) -> npt.NDArray[np.float64]:
        """Return the 3 x 3 homogeneous matrix."""
        return np.array([self.matrix[:3], self.matrix[3:], (0.0, 0.0, 1.0)], dtype=np.float64)

    def region(self, shape: tuple[int, int], margin: int = 2) -> Region:
        """Smallest pixel region ``(y0, x0, y1, x1)`` of the plane that the view can see."""
        corners = self.as_array() @ np.array([[0, GRID, 0, GRID], [0, 0, GRID, GRID], [1, 1, 1, 1]], float)
        low = np.floor(corners[:2].min(axis=1)) - margin
        high = np.ceil(corners[:2].max(axis=1)) + margin
        y0, x0 = (int(np.clip(v, 0, n)) for v, n in zip(low[::-1], shape, strict=True))
        y1, x1 = (int(np.clip(v, 0, n)) for v, n in zip(high[::-1], shape, strict=True))
        return y0, x0, max(y1, y0 + 1), max(x1, x0 + 1)

    def boxes_to_grid(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Boxes ``(n, 4)`` (y0, x0, y1, x1) from image pixels to grid pixels, axis-aligned views only."""
        a, _, c, _, e, f = self.matrix
        ends = ((boxes - np.array([f, c, f, c])) / np.array([e, a, e, a])).reshape(-1, 2, 2)
        return np.sort(ends, axis=1).reshape(boxes.shape)  # a mirrored view swaps left and right


def _pixel_grid(
    transform: npt.NDArray[np.float64], out: tuple[int, int], source: tuple[int, int]
) -> torch.Tensor:
    """Sampling positions for `torch.nn.functional.grid_sample`, shape (1, h, w, 2).

    `transform` (3 x 3) maps output pixels to source pixels, both continuous (x, y).
    """
    scaling = np.diag([2.0 / source[1], 2.0 / source[0], 1.0])
    scaling[0, 2] = scaling[1, 2] = -1.0
    m = torch.from_numpy((scaling @ transform)[:2]).float()
    ys = torch.arange(out[0]) + 0.5
    xs = torch.arange(out[1]) + 0.5
    gy, gx = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack([gx, gy, torch.ones_like(gx)], dim=-1).matmul(m.T)[None]


def sample_view(
    read: Callable[[Region], npt.NDArray[np.float32]], shape: tuple[int, int], view: View, size: int
) -> torch.Tensor:
    """Pixels of a plane as a view sees them.

    Parameters
    ----------
    read : callable
        Gives the values of a region ``(y0, x0, y1, x1)`` as ``(h, w, C)`` float32.
    shape : tuple of int
        Height and width of the plane.
    view : View
        What to look at; what lies outside the plane is 0.
    size : int
        Side of the result.

    Returns
    -------
    torch.Tensor
        ``(C, size, size)``, anti-aliased where the plane is reduced.
    """
    region = view.region(shape)
    crop = torch.from_numpy(np.ascontiguousarray(read(region))).permute(2, 0, 1)[None]
    height, width = crop.shape[-2:]
    reduction = view.scale * GRID / size
    if reduction > 1.0:
        small = (max(1, round(height / reduction)), max(1, round(width / reduction)))
        crop = F.interpolate(crop, size=small, mode="bilinear", antialias=True, align_corners=False)
    to_crop = np.diag([crop.shape[-1] / width, crop.shape[-2] / height, 1.0])
    to_crop[0, 2], to_crop[1, 2] = -region[1] * to_crop[0, 0], -region[0] * to_crop[1, 1]
    transform = to_crop @ view.as_array() @ np.diag([GRID / size, GRID / size, 1.0])
    where = _pixel_grid(transform, (size, size), (crop.shape[-2], crop.shape[-1]))
    sampled = F.grid_sample(crop, where, mode="bilinear", padding_mode="border", align_corners=False)[0]
    sampled = sampled * inside_plane(shape, view, size)
    return sampled if view.gamma == 1.0 else sampled.clamp(min=0.0) ** view.gamma


def inside_plane(shape: tuple[int, int], view: View, size: int = GRID) -> torch.Tensor:
    """Bool map ``(size, size)``: whether the centre of each pixel of a view lies in the plane."""
    transform = view.as_array() @ np.diag([GRID / size, GRID / size, 1.0])
    where = _pixel_grid(transform, (size, size), shape)[0]
    return (where.abs() <= 1.0).all(dim=-1)


def to_region(maps: torch.Tensor, view: View, region: Region) -> torch.Tensor:
    """Grid maps at the pixels of an image region.

    Parameters
    ----------
    maps : torch.Tensor
        ``(C, GRID, GRID)`` values on the grid of `view`.
    view : View
        Where the grid lies.
    region : tuple of int
        ``(y0, x0, y1, x1)`` image pixels.

    Returns
    -------
    torch.Tensor
        ``(C, y1 - y0, x1 - x0)``, bilinear; pixels beyond the grid repeat its border.
    """
    y0, x0, y1, x1 = region
    shift = np.array([[1.0, 0.0, x0], [0.0, 1.0, y0], [0.0, 0.0, 1.0]])
    transform = np.linalg.inv(view.as_array()) @ shift
    where = _pixel_grid(transform, (y1 - y0, x1 - x0), (GRID, GRID))
    return F.grid_sample(maps[None].float(), where, padding_mode="border", align_corners=False)[0]


def warp_between(
    maps: torch.Tensor, source: View, target: View, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps on the grid of one view as another view of the same plane sees them.

    Parameters
    ----------
    maps : torch.Tensor
        ``(C, h, h)`` on the grid of `source` (at any resolution); gradients pass through.
    source, target : View
        Two views of one plane.
    size : int
        Side of the result.

    Returns
    -------
    warped : torch.Tensor
        ``(C, size, size)``; what lies beyond `source` repeats its border.
    valid : torch.Tensor
        Bool ``(size, size)``: what `source` saw.
    """
    side = maps.shape[-1]
    transform = (
        np.diag([side / GRID, side / GRID, 1.0]) @ np.linalg.inv(source.as_array()) @ target.as_array()
    )
    where = _pixel_grid(transform @ np.diag([GRID / size, GRID / size, 1.0]), (size, size), (side, side))
    # On Apple's GPUs torch before 2.13 cannot repeat the border.
    where = where.to("cpu" if maps.device.type == "mps" else maps.device)
    warped = F.grid_sample(maps[None].to(where.device), where, padding_mode="border", align_corners=False)[0]
    return warped.to(maps.device), (where[0].abs() <= 1.0).all(dim=-1).to(maps.device)


def perturbed(view: View, settings: AugmentConfig, rng: np.random.Generator, *, mirror: bool) -> View:
    """Random rotation, zoom, shift and gamma of a view, about its centre; with `mirror` half are mirrored."""
    angle = rng.uniform(-settings.rotation, settings.rotation)
    zoom = math.exp(rng.uniform(-1.0, 1.0) * math.log(settings.zoom))
    shift = rng.uniform(-settings.shift, settings.shift, size=2)
    flip = mirror and rng.random() < 0.5
    gamma = math.exp(rng.uniform(-1.0, 1.0) * math.log(settings.gamma))
    return turned(view, angle, zoom, gamma, shift, flip=flip)


def turned(
    view: View,
    angle: float,
    zoom: float,
    gamma: float,
    shift: Sequence[float] | npt.NDArray[np.float64] = (0.0, 0.0),
    *,
    flip: bool = False,
) -> View:
    """View that is turned about its centre, seen from further away or nearer, and brighter or darker.

    Parameters
    ----------
    view : View
        What is changed.
    angle : float
        Rotation in degrees.
    zoom : float
        Factor of its side: above 1 it sees more, and that smaller.
    gamma : float
        Its new exponent.
    shift : sequence of 2 floats
        Along its x and y, as fractions of its side.
    flip : bool
        Mirror left and right.
    """
    c, s = (zoom * f(math.radians(angle)) for f in (math.cos, math.sin))
    side, half = -1.0 if flip else 1.0, GRID / 2
    turn = np.array([[side * c, -s, 0.0], [side * s, c, 0.0], [0.0, 0.0, 1.0]])
    turn[:2, 2] = half + np.asarray(shift) * GRID - turn[:2, :2] @ np.array([half, half])
    m = view.as_array() @ turn
    return replace(view, matrix=(*m[0].tolist(), *m[1].tolist()), gamma=gamma)


def ideal_tile(sides: Sequence[float]) -> float:
    """Side of a working tile for boxes of these sides, whatever the size of the image; see `choose_tile`."""
    scale = max(float(np.median(sides)) / OBJECT_SIDE, 1.0 / LARGEST_ENLARGEMENT)
    return 16.0 * math.ceil(scale * GRID / 16.0)


def choose_tile(sides: Sequence[float], shapes: Sequence[tuple[int, int]]) -> float | None:
    """Side of a working tile from the drawn boxes; None where whole images are best.

    The frozen model resolves objects badly that are small on its grid, so tiles are enlarged until
    the median box side reaches `OBJECT_SIDE` grid pixels.

    Parameters
    ----------
    sides : sequence of float
        Square root of each box's area, in image pixels.
    shapes : sequence of tuple
        Height and width of the planes.

    Returns
    -------
    float or None
        Tile side in image pixels, a multiple of 16.
    """
    if not len(sides):
        return None
    tile = ideal_tile(sides)
    longest = float(np.median([max(shape) for shape in shapes]))
    return None if tile >= 0.8 * longest else tile


def tile_views(shape: tuple[int, int], tile: float | None, overlap: float = 0.25) -> list[list[View]]:
    """Views that cover a plane, in rows from top to bottom.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    tile : float or None
        Side in image pixels; None for one view of the whole plane.
    overlap : float
        Least fraction of a tile shared with its neighbour.
    """
    if tile is None or tile >= max(shape):
        return [[View.whole(shape) if tile is None else View.square(0, 0, tile)]]
    ys, xs = (_starts(n, tile, overlap) for n in shape)
    return [[View.square(y, x, tile) for x in xs] for y in ys]


def _starts(length: int, tile: float, overlap: float) -> list[float]:
    if length <= tile:
        return [0.0]
    count = math.ceil((length - tile) / (tile * (1.0 - overlap))) + 1
    return [round(i * (length - tile) / (count - 1)) + 0.0 for i in range(count)]


def window(height: int, width: int) -> torch.Tensor:
    """Blending weights of a tile, ``(height, width)``: 1 in the middle, small and positive at the rim."""

    def ramp(n: int) -> torch.Tensor:
        distance = torch.minimum(torch.arange(n) + 0.5, n - torch.arange(n) - 0.5)
        return (distance / (n * 0.25)).clamp(max=1.0) ** 2

    return (ramp(height)[:, None] * ramp(width)[None]).clamp(min=1e-4)


def blend_rows(
    shape: tuple[int, int],
    rows: Sequence[Sequence[View]],
    maps: Callable[[View], torch.Tensor],
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Blend the maps of overlapping tiles, band by band, so that memory stays with the band.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    rows : sequence of rows of View
        From `tile_views`.
    maps : callable
        Gives ``(C, GRID, GRID)`` values for a view.

    Yields
    ------
    y0 : int
        First image row of a finished band.
    band : numpy.ndarray
        ``(C, h, W)`` float32 values of the band; the bands follow each other without a gap.
    """
    single = sum(map(len, rows)) == 1
    held: torch.Tensor | None = None
    for index, row in enumerate(rows):
        pieces = [(view.region(shape, margin=0), view, maps(view)) for view in row]
        y0, _, y1, _ = pieces[0][0]
        total = torch.zeros(pieces[0][2].shape[0] + 1, y1 - y0, shape[1])
        for region, view, values in pieces:
            _, x0, _, x1 = region
            weight = torch.ones(y1 - y0, x1 - x0) if single else window(y1 - y0, x1 - x0)
            total[:-1, :, x0:x1] += to_region(values, view, region) * weight
            total[-1, :, x0:x1] += weight
        if held is not None:
            total[:, : held.shape[1]] += held
        done = y1 if index + 1 == len(rows) else rows[index + 1][0].region(shape, margin=0)[0]
        ready, held = total[:, : done - y0], total[:, done - y0 :]
        yield y0, (ready[:-1] / ready[-1]).numpy()
