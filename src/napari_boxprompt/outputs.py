"""Results on disk: masks and objects as TIFF, a table of objects as CSV, reports as JSON."""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import tifffile

from napari_boxprompt._readers import reading
from napari_boxprompt.errors import ImageError, OutputError
from napari_boxprompt.files import atomic_path, atomic_write_bytes
from napari_boxprompt.images import find_files, open_images

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.images import Images
    from napari_boxprompt.prediction import Prediction

__all__ = ["ResultWriter", "prepare_folder", "prepare_results", "write_json", "write_labels"]

_AXES = "LKJIRQTZ"
"""Names of what comes before y and x; planes of a volume come last, then time."""
_OME_UNITS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "meter": "m"}
_COLUMNS = ["image", "plane", "object", "class", "area_px", "score", "y0", "x0", "y1", "x1"]
_REASONS, _NAMES = 3, 10
"""Of how many images that were left out it is said why, and how many more are named."""


def prepare_folder(folder: str | Path) -> Path:
    """Make a folder for results and check, before long work, that it can be written.

    Raises
    ------
    OutputError
        It cannot be made or written.
    """
    folder = Path(folder)
    probe = folder / ".boxprompt-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}); choose another folder.") from error
    return folder


def prepare_results(
    source: str | Path, folder: str | Path, *, channel: int | None = None
) -> tuple[Images, Path, dict[str, str]]:
    """Open the images to predict and make the folder for their results, which must not lie among them.

    Parameters
    ----------
    source : str or Path
        A file, a folder or a pattern, see `napari_boxprompt.images.open_images`.
    folder : str or Path
        Folder for the results.
    channel : int, optional
        See `napari_boxprompt.images.open_images`.

    Returns
    -------
    images : Images
        The images.
    folder : Path
        The folder, which can be written.
    left_out : dict
        Names of the images that cannot be opened, and why.

    Raises
    ------
    ImageError
        There are no images, or none can be opened.
    OutputError
        The folder cannot be written, or is that of the images. A single image may have its results beside it
        where they take the place of nothing but older results.
    """
    _check_apart(source, Path(folder))
    left_out: dict[str, str] = {}

    def leave_out(image: str, error: ImageError) -> None:
        left_out[image] = str(error)

    images = open_images(source, channel=channel, on_error=leave_out)
    return images, prepare_folder(folder), left_out


def _check_apart(source: str | Path, folder: Path) -> None:
    """Refuse to write among the images, over files of the user that the next run would take for images."""
    files = find_files(source)
    places = {
        place for path in files.values() for place in (path.parent, Path(os.path.realpath(path)).parent)
    }
    taken = {_identity(place) for place in places if place.is_dir()}
    for place in sorted({(folder / name).parent for name in files} | {folder}):
        if not place.is_dir() or _identity(place) not in taken:
            continue
        if len(files) > 1 or Path(source).is_dir():
            raise OutputError(
                f"{place} is the folder of the images: results could overwrite your files there and be "
                f"taken for images the next time; choose another folder, for instance {place / 'masks'}."
            )
        (stem,) = (folder / PurePosixPath(name).with_suffix("") for name in files)
        names = (f"{stem.name}_mask.tif", f"{stem.name}_objects.tif", "objects.csv")
        for path in (stem.with_name(name) for name in names):
            if path.exists() and not _is_result(path):
                raise OutputError(
                    f"{path} would be overwritten, and no prediction has written it; choose another folder, "
                    f"for instance {place / 'masks'}."
                )


def _identity(folder: Path) -> tuple[int, int]:
    """Know a folder again, whatever links lead to it and however its name is written."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_result(path: Path) -> bool:
    """Return whether a file looks like one of `ResultWriter`."""
    try:
        with reading(path):
            if path.suffix == ".csv":
                with path.open(encoding="utf-8") as table:
                    return table.readline().rstrip() == ",".join(_COLUMNS)
            with tifffile.TiffFile(path) as file:
                about = file.shaped_metadata or ()
            return any('"classes"' in str(found.get("Description")) for found in about)
    except ImageError:
        return False


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON in one piece."""
    atomic_write_bytes(path, (json.dumps(values, indent=2) + "\n").encode())


def write_labels(
    path: Path,
    labels: npt.NDArray[np.unsignedinteger],
    pixel_size: Mapping[str, tuple[float, str]] | None = None,
    classes: Sequence[str] = (),
    *,
    overlap: bool = False,
) -> None:
    """Write a label image or stack ``(..., Y, X)`` as a compressed TIFF in one piece.

    Parameters
    ----------
    path : pathlib.Path
        A name that ends in ``.ome.tif`` or ``.ome.tiff`` makes it an OME-TIFF.
    labels : numpy.ndarray
        What to write.
    pixel_size : mapping of str to (float, str), optional
        Size of a pixel along ``"x"``, ``"y"`` and ``"z"`` and its unit; kept in an OME-TIFF.
    classes : sequence of str, optional
        Names of the classes 1, 2, ..., to be noted in the file.
    overlap : bool
        Whether classes may overlap: the axis before the last two runs over them, as channels.
    """
    stacked = labels.ndim - 2 - overlap
    axes = _AXES[len(_AXES) - stacked :]
    big = labels.nbytes > 3_000_000_000
    metadata: dict[str, Any] = {"axes": axes + ("CYX" if overlap else "YX")}
    if classes:
        metadata["Description"] = json.dumps({"classes": list(classes)})
    if overlap:
        metadata["Channel"] = {"Name": list(classes)}
    ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    for name, (size, unit) in (pixel_size or {}).items():
        if ome and name in ("x", "y", "z") and unit in _OME_UNITS:
            metadata[f"PhysicalSize{name.upper()}"] = size
            metadata[f"PhysicalSize{name.upper()}Unit"] = _OME_UNITS[unit]
    with atomic_path(path) as scratch:
        tifffile.imwrite(
            scratch,
            labels,
            compression="zlib",
            photometric="minisblack",
            bigtiff=big,
            ome=ome,
            metadata=metadata,
        )


class ResultWriter:
    """Collects the planes of an image and writes it when its last plane has come.

    For each image ``NAME_mask.tif`` (class masks) and ``NAME_objects.tif`` (object numbers); where
    classes may overlap, an axis before the last two runs over the classes. `close`, or the end of a
    ``with`` block, writes ``objects.csv``. What there is of an image whose last plane never came goes to
    files of its own, as ``NAME_3_of_40_planes_mask.tif``, so that it is kept but not taken for a result.

    Parameters
    ----------
    folder : Path
        Where to write.
    images : Images
        What is predicted.
    classes : sequence of str, optional
        Names of the classes.
    overlap : bool
        Whether classes may overlap.
    left_out : mapping of str to str
        Names of images that could not be opened, and why.

    Attributes
    ----------
    left_out : dict
        Names of the images of which there is no whole result, and why.
    """

    def __init__(
        self,
        folder: Path,
        images: Images,
        classes: Sequence[str] = (),
        *,
        overlap: bool = False,
        left_out: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._folder, self._classes, self._overlap = folder, classes, overlap
        self._left: dict[str, int] = {}
        self._parts: dict[str, str] = {}
        self._depth: dict[str, tuple[int, ...]] = {}
        for plane in images.planes:
            self._left[plane.image] = self._left.get(plane.image, 0) + 1
            depth = self._depth.get(plane.image, (0,) * len(plane.index))
            self._depth[plane.image] = tuple(max(d, i + 1) for d, i in zip(depth, plane.index, strict=True))
        self._stacks: dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]] = {}
        self._wanted = dict(self._left)
        self._lost = 0
        self._rows: dict[str, list[dict[str, object]]] = {}
        self._finished: list[str] = []
        self.written: list[Path] = []
        self.left_out = dict(left_out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        told = (OutputError,) if isinstance(error, OutputError) else ()
        with suppress(*told):  # that nothing can be written is told once
            self.close()

    def add(self, prediction: Prediction) -> None:
        """Take one plane."""
        plane = prediction.plane
        if plane.image not in self._stacks:
            shape = (*self._depth[plane.image], *prediction.mask.shape)
            self._stacks[plane.image] = (np.zeros(shape, np.uint8), np.zeros(shape, np.uint32))
        mask, labels = self._stacks[plane.image]
        mask[plane.index], labels[plane.index] = prediction.mask, prediction.labels
        self._rows.setdefault(plane.image, []).extend(
            {
                "image": plane.image,
                "plane": " ".join(map(str, plane.index)),
                "object": item.id,
                "class": item.label,
                "area_px": item.area,
                "score": f"{item.score:.4f}",
                **dict(zip(("y0", "x0", "y1", "x1"), item.box, strict=True)),
            }
            for item in prediction.objects
        )
        self._left[plane.image] -= 1
        if self._left[plane.image] == 0:
            self._write(plane.image)
            self._finished.append(plane.image)

    def leave_out(self, plane: PlaneId, error: ImageError) -> None:
        """Note that a plane does not come; its image is kept as if it was stopped."""
        self.left_out.setdefault(plane.image, str(error))
        self._lost += 1

    @property
    def planes(self) -> int:
        """How many planes there will be without those that are left out."""
        return sum(self._wanted.values()) - self._lost

    def _write(self, image: str, part: str = "") -> Path:
        """Write what there is of an image; return the place of its files, without their last word."""
        mask, labels = self._stacks.pop(image)
        stem = self._folder / PurePosixPath(image).with_suffix("")
        if part:
            stem = stem.with_name(f"{stem.name}_{part}")
        elif stem.with_name(f"{stem.name}_mask.tif") in self.written:  # same name, other suffix
            stem = self._folder / PurePosixPath(image)
        numbers = labels.astype(np.uint16) if labels.max(initial=0) < 2**16 else labels
        results: dict[str, npt.NDArray[np.unsignedinteger]] = {"mask": mask, "objects": numbers}
        for name, values in results.items():
            path = stem.with_name(f"{stem.name}_{name}.tif")
            write_labels(path, values, classes=self._classes, overlap=self._overlap)
            self.written.append(path)
        return stem

    def close(self) -> list[Path]:
        """Write the table of objects, and what there is of images that are not finished; return all files."""
        if self._finished:  # an empty table would say that there are no objects
            self._write_table(self._folder / "objects.csv", self._finished)
        for image in tuple(self._stacks):
            done, wanted = self._wanted[image] - self._left[image], self._wanted[image]
            stem = self._write(image, f"{done}_of_{wanted}_planes")
            self._parts[image] = f"{done} of {wanted} planes of {image} are in {stem.name}_mask.tif"
            self._write_table(stem.with_name(f"{stem.name}_objects.csv"), [image])
        return self.written

    @property
    def outcome(self) -> str:
        """What was written, and what is missing, in words."""
        files = "1 file was" if len(self.written) == 1 else f"{len(self.written)} files were"
        where = f"{files} written to {self._folder}."
        done, wanted = len(self._finished), len(self._wanted | self.left_out)
        if done + len(self.left_out) == wanted:
            return f"{where if self.written else ''} {self.missing}".strip()
        if not self.written:
            return f"Stopped before the first plane was done; nothing was written. {self.missing}".strip()
        parts = "".join(f"; {part}" for image, part in self._parts.items() if image not in self.left_out)
        images = "image is" if wanted == 1 else "images are"
        return f"Stopped: {done} of {wanted} {images} finished{parts}. {where} {self.missing}".strip()

    @property
    def missing(self) -> str:
        """How many images were left out, and why the first few of them, in words; nothing where none was."""
        count, wanted = len(self.left_out), len(self._wanted | self.left_out)
        if not count:
            return ""
        told = (
            [] if wanted == 1 else [f"{count} of {wanted} images {'was' if count == 1 else 'were'} left out."]
        )
        told += list(self.left_out.values())[:_REASONS]
        if rest := list(self.left_out)[_REASONS:]:
            named, more = rest[:_NAMES], len(rest) - _NAMES
            told.append(f"Left out too: {', '.join(named)}{f' and {more} more' if more > 0 else ''}.")
        return " ".join([*told, *(f"{self._parts[i]}." for i in self.left_out if i in self._parts)])

    def _write_table(self, path: Path, images: Sequence[str]) -> None:
        table = io.StringIO()
        writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for image in images for row in self._rows[image])
        atomic_write_bytes(path, table.getvalue().encode())
        self.written.append(path)
