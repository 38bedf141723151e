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
    *,
    overlap: bool = False,
) -> None:
    """Write the labels ``objects`` and ``classes`` of an image.

    Parameters
    ----------
    path : Path
        A new folder, which ends in ``.ome.zarr``.
    planes : iterable of (tuple of int, ndarray, ndarray)
        Index, numbers of the objects and classes, each ``(H, W)``, or ``(classes, H, W)`` where these may
        overlap; other planes are 0.
    image : ImageEntry
        The image.
    names : tuple of str
        Names of the classes 1, 2, ...
    overlap : bool
        Whether classes may overlap: an axis of channels runs over them, which OME-Zarr has before z.

    Raises
    ------
    ProjectError
        The folder exists, or the image has more axes than OME-Zarr knows.
    OutputError
        It cannot be written.
    """
    import zarr

    count = len(image.extent) + 2 + overlap
    if count not in _AXES_OF:
        raise ProjectError(f"{image.name} has {count} axes, OME-Zarr has 5 at most; export TIFF.")
    if path.exists():
        raise ProjectError(f"{path} exists already; choose another folder.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            root = zarr.open_group(Path(scratch) / "new", mode="w", zarr_format=3)
            labels = root.create_group("labels", attributes={"ome": {"version": _VERSION, "labels": []}})
            layers = len(names) if overlap else None
            arrays = [
                _label(labels, "objects", "uint32", image, (), layers),
                _label(labels, "classes", "uint8", image, names, layers),
            ]
            for index, objects, classes in planes:
                place = (*index[:-1], slice(None), *index[-1:]) if overlap else index
                for array, values in zip(arrays, (objects, classes), strict=True):
                    array[place] = values
            labels.attrs["ome"] = {"version": _VERSION, "labels": ["objects", "classes"]}
            os.replace(Path(scratch) / "new", path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {explain(error)}.") from error


def _label(
    labels: Any, name: str, dtype: str, image: ImageEntry, names: tuple[str, ...], layers: int | None
) -> Any:
    """Make the group and the empty array of one label; return the array."""
    extent, letters = list(image.extent), _AXES_OF[len(image.extent) + 2]
    if layers is not None:
        place = max(len(extent) - 1, 0)
        extent.insert(place, layers)
        letters = f"{letters[:place]}c{letters[place:]}"
    shape = (*extent, *image.shape)
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
    chunks = (*(1,) * len(extent), *(min(side, _CHUNK) for side in image.shape))
    return group.create_array(
        "0", shape=shape, chunks=chunks, dtype=dtype, fill_value=0, dimension_names=list(letters)
    )


def open_labels(path: Path) -> tuple[Any, Any, str, tuple[str, ...]]:
    """Open the first label of an OME-Zarr, which is read when it is sliced.

    Returns
    -------
    objects, classes : zarr.Array
        The label, and the class of each pixel; None if it is not there.
    axes : str
        Letters of the axes of the label.
    names : tuple of str
        Names of the classes 1, 2, ...; none if they are not there.

    Raises
    ------
    ProjectError
        There are no labels in it.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        own: Any = group.attrs.get("ome", {})
        if "multiscales" in own:  # the group is a label itself, as some programs write them
            array, axes = _opened(group)
            return array, None, axes, ()
        labels: Any = group["labels"]
        listed: Any = labels.attrs.get("ome", labels.attrs).get("labels", [])
        array, axes = _opened(labels["objects" if "objects" in listed else listed[0]])
        if not {"objects", "classes"} <= set(listed):
            return array, None, axes, ()
        about: Any = labels["classes"].attrs.get("ome", {})
        said = about.get("image-label", {}).get("properties", [])
        names = {entry.get("label-value"): entry.get("class") for entry in said}
        whole = set(names) == set(range(1, len(said) + 1)) and all(names.values())
        found = tuple(str(names[k]) for k in sorted(names)) if whole else ()
        return array, _opened(labels["classes"])[0], axes, found
    except (KeyError, IndexError, TypeError, AttributeError, OSError, ValueError) as error:
        raise ProjectError(f"{path} holds no OME-Zarr labels ({error}); export them again.") from error


def _opened(label: Any) -> tuple[Any, str]:
    """Return the array of a label and the letters of its axes."""
    about = label.attrs.get("ome", label.attrs)["multiscales"][0]
    # Older versions have bare letters, or none.
    axes = [axis["name"] if isinstance(axis, dict) else axis for axis in about.get("axes", "tczyx")]
    return label[about["datasets"][0]["path"]], "".join(axes)
