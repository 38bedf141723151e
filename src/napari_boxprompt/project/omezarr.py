"""Masks of an image as OME-Zarr labels, version 0.5, plane by plane: for images larger than memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_boxprompt.errors import OutputError, ProjectError
from napari_boxprompt.files import explain

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.project.documents import ImageEntry

__all__ = ["open_labels", "write_labels_zarr"]

_VERSION = "0.5"
_AXES_OF = {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_CHUNK = 1024


def write_labels_zarr(
    path: Path,
    planes: Iterable[tuple[tuple[int, ...], npt.NDArray[Any], npt.NDArray[np.uint8]]],
    image: ImageEntry,
    names: tuple[str, ...],
) -> None:
    """Write the labels ``objects`` and ``classes`` of an image.

    Parameters
    ----------
    path : Path
        A new folder, which ends in ``.ome.zarr``.
    planes : iterable of (tuple of int, ndarray, ndarray)
        Index, numbers of the objects ``(H, W)`` and classes ``(H, W)``; other planes are 0.
    image : ImageEntry
        The image.
    names : tuple of str
        Names of the classes 1, 2, ...

    Raises
    ------
    ProjectError
        The folder exists, or the image has more axes than OME-Zarr knows.
    OutputError
        It cannot be written.
    """
    import zarr

    shape = (*image.extent, *image.shape)
    if len(shape) not in _AXES_OF:
        raise ProjectError(f"{image.name} has {len(shape)} axes, OME-Zarr has 5 at most; export TIFF.")
    if path.exists():
        raise ProjectError(f"{path} exists already; choose another folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            root = zarr.open_group(Path(scratch) / "new", mode="w", zarr_format=3)
            labels = root.create_group("labels", attributes={"ome": {"version": _VERSION, "labels": []}})
            arrays = [
                _label(labels, "objects", "uint32", image, ()),
                _label(labels, "classes", "uint8", image, names),
            ]
            for index, objects, classes in planes:
                for array, values in zip(arrays, (objects, classes), strict=True):
                    array[index] = values
            labels.attrs["ome"] = {"version": _VERSION, "labels": ["objects", "classes"]}
            os.replace(Path(scratch) / "new", path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {explain(error)}.") from error


def _label(labels: Any, name: str, dtype: str, image: ImageEntry, names: tuple[str, ...]) -> Any:
    """Make the group and the empty array of one label; return the array."""
    shape = (*image.extent, *image.shape)
    letters = _AXES_OF[len(shape)]
    axes, scale = [], []
    for letter in letters:
        known = image.pixel_size.get(letter)  # type: ignore[call-overload]  # t and c are never in it
        axes.append({"name": letter, "type": _TYPES[letter], **({"unit": known[1]} if known else {})})
        scale.append(known[0] if known else 1.0)
    description: dict[str, Any] = {
        "version": _VERSION,
        "multiscales": [
            {
                "name": name,
                "axes": axes,
                "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
            }
        ],
        "image-label": {
            "properties": [{"label-value": k, "class": text} for k, text in enumerate(names, start=1)]
        }
        if names
        else {},
    }
    group = labels.create_group(name, attributes={"ome": description})
    chunks = (*(1,) * len(image.extent), *(min(side, _CHUNK) for side in image.shape))
    return group.create_array(
        "0", shape=shape, chunks=chunks, dtype=dtype, fill_value=0, dimension_names=list(letters)
    )


def open_labels(path: Path) -> Any:
    """Open the first label of an OME-Zarr, which is read when it is sliced.

    Raises
    ------
    ProjectError
        There are no labels in it.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        own: Any = group.attrs.get("ome", {})
        # Where the group is a label itself, as some programs write them.
        place = group
        if "multiscales" not in own:
            labels: Any = group["labels"]
            listed: Any = labels.attrs.get("ome", labels.attrs).get("labels", [])
            place = labels["objects" if "objects" in listed else listed[0]]
        own = place.attrs.get("ome", place.attrs)
        return place[own["multiscales"][0]["datasets"][0]["path"]]
    except (KeyError, IndexError, TypeError, AttributeError, OSError, ValueError) as error:
        raise ProjectError(f"{path} holds no OME-Zarr labels ({error}); export them again.") from error
