"""Tables of a project: objects with their measures, and planes with what was done on them."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from napari_boxprompt.files import atomic_write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.project.documents import ImageEntry
    from napari_boxprompt.project.masks import Mask
    from napari_boxprompt.project.project import Project

__all__ = ["object_rows", "write_objects", "write_planes"]

_MEASURES = (
    "label",
    "area",
    "bbox",
    "centroid",
    "axis_major_length",
    "axis_minor_length",
    "perimeter",
    "eccentricity",
    "solidity",
)
_COLUMNS = (
    "image",
    "plane",
    "status",
    "object",
    "class",
    "unit",
    "area",
    "y",
    "x",
    "major_axis",
    "minor_axis",
)
_MORE = ("perimeter", "eccentricity", "solidity", "area_px", "y0", "x0", "y1", "x1")


def write_objects(project: Project, masked: Iterable[PlaneId], path: Path) -> int:
    """Write a table with a line for each object of the masks of some planes; return how many.

    Lengths and areas are in the unit of the image's pixel size, or in pixels where it is not known.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    rows = [row for plane in masked for row in _rows_of(project, plane)]
    _write(path, (*_COLUMNS, *_MORE), rows)
    return len(rows)


def _rows_of(project: Project, plane: PlaneId) -> Iterator[dict[str, Any]]:
    mask = project.mask(plane)
    if mask is not None:
        status, first = project.status(plane), project.classes[0]
        yield from object_rows(plane, mask, project.entries[plane.image], status, first)


def object_rows(
    plane: PlaneId, mask: Mask, image: ImageEntry, status: str = "", first_class: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield the measures of the objects of a mask, as `skimage.measure.regionprops_table` takes them."""
    from skimage.measure import regionprops_table

    sizes = [image.pixel_size.get(axis) for axis in ("y", "x")]
    known = all(size is not None for size in sizes) and len({size[1] for size in sizes if size}) == 1
    spacing = tuple(size[0] for size in sizes if size) if known else (1.0, 1.0)
    unit = sizes[0][1] if known and sizes[0] else "pixel"
    # The perimeter, which skimage measures for square pixels only, is left out elsewhere.
    measures = [name for name in _MEASURES if name != "perimeter" or spacing[0] == spacing[1]]
    for labels in mask.labels if mask.labels.ndim == 3 else [mask.labels]:
        if not labels.any():
            continue
        table = regionprops_table(labels.astype("int64"), properties=measures, spacing=spacing)
        for place, number in enumerate(table["label"].tolist()):
            found = {name: values[place].item() for name, values in table.items()}
            perimeter = found.get("perimeter")
            yield {
                "image": plane.image,
                "plane": " ".join(map(str, plane.index)),
                "status": status,
                "object": number,
                "class": mask.classes.get(number, first_class),
                "unit": unit,
                "area": _short(found["area"]),
                "y": _short(found["centroid-0"]),
                "x": _short(found["centroid-1"]),
                "major_axis": _short(found["axis_major_length"]),
                "minor_axis": _short(found["axis_minor_length"]),
                "perimeter": "" if perimeter is None else _short(perimeter),
                "eccentricity": _short(found["eccentricity"]),
                "solidity": _short(found["solidity"]),
                "area_px": round(found["area"] / (spacing[0] * spacing[1])),
                **{name: found[f"bbox-{k}"] for k, name in enumerate(("y0", "x0", "y1", "x1"))},
            }


def _short(value: float) -> str:
    return f"{value:.6g}"


def write_planes(project: Project, masked: Iterable[PlaneId], path: Path) -> None:
    """Write a table with a line for each plane: its status, score, boxes and whether its mask is exported.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    boxes, masked = project.boxes, set(masked)
    rows = (
        {
            "image": plane.image,
            "plane": " ".join(map(str, plane.index)),
            "status": project.status(plane),
            "score": "" if (score := project.record(plane).score) is None else _short(score),
            "boxes": len(boxes.on(plane)),
            "complete": int(plane in boxes.planes and boxes.planes[plane].complete),
            "mask": int(plane in masked),
        }
        for plane in project.images.planes
    )
    _write(path, ("image", "plane", "status", "score", "boxes", "complete", "mask"), rows)


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_bytes(path, table.getvalue().encode())
