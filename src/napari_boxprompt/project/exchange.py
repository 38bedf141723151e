"""What goes out of a project to other programs, and what comes in from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.errors import ProjectError
from napari_boxprompt.formats import load_boxes, save_coco, save_yolo
from napari_boxprompt.formats.alignment import NameIndex
from napari_boxprompt.formats.coco import read_coco
from napari_boxprompt.formats.outlines import encode_mask, load_coco_masks
from napari_boxprompt.outputs import prepare_folder, write_labels
from napari_boxprompt.project.archive import pack
from napari_boxprompt.project.documents import SETTLED
from napari_boxprompt.project.label_files import find_label_files, image_of, open_label_file
from napari_boxprompt.project.masks import SAME_OBJECT, Mask
from napari_boxprompt.project.omezarr import write_labels_zarr
from napari_boxprompt.project.tables import write_objects, write_planes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    import numpy.typing as npt

    from napari_boxprompt.project.documents import Status
    from napari_boxprompt.project.project import Project

__all__ = ["ExportKind", "export_project", "import_into"]

ExportKind = Literal["coco", "yolo", "tiff", "zarr", "csv", "zip"]


def export_project(
    project: Project,
    kind: ExportKind | str,
    target: str | Path,
    *,
    images: bool = False,
    predicted: bool = False,
) -> str:
    """Write what a project holds in a form for other programs; return a sentence about it.

    Parameters
    ----------
    project : Project
        The project.
    kind : {"coco", "yolo", "tiff", "zarr", "csv", "zip"}
        ``coco``: one JSON file, boxes and masks as run lengths. ``yolo``: a folder of text files, boxes only.
        ``tiff``: a folder with OME-TIFF of classes and objects for each image that has a corrected or
        accepted mask. ``zarr``: the same as OME-Zarr labels, plane by plane. ``csv``: a table of the objects,
        and beside it one of the planes. ``zip``: all of it.
    target : str or Path
        The file or folder.
    images : bool
        Put the images into the zip.
    predicted : bool
        Write masks that nobody has looked at, too, but no rejected ones. The zip has all of them anyway.

    Raises
    ------
    BoxPromptError
        The form cannot hold it, or the target cannot be written.
    """
    target, masked = Path(target), project.masked_planes(predicted=predicted)
    match kind:
        case "coco":
            boxes, masks = _with_masks(project, masked)
            save_coco(boxes, target, masks)
            return f"{len(boxes)} boxes, {len(masks)} of them with a mask, written to {target}."
        case "yolo":
            boxes, _ = _with_masks(project, masked)
            save_yolo(boxes, target)
            return f"{len(boxes)} boxes written to {target}."
        case "tiff":
            count = _write_masks(project, masked, prepare_folder(target))
            return f"Masks of {count} images written to {target}."
        case "zarr":
            count = _write_zarr(project, masked, target)
            return f"Labels of {count} images written to {target}."
        case "csv":
            count = write_objects(project, masked, target)
            write_planes(project, masked, target.with_name(f"{target.stem}_planes.csv"))
            return f"{count} objects written to {target}."
        case "zip":
            pack(project, target, images=images)
            return f"The project is packed in {target}."
    raise ProjectError(f"A project cannot be exported as '{kind}'; use {', '.join(get_args(ExportKind))}.")


def _with_masks(project: Project, masked: Collection[PlaneId]) -> tuple[BoxSet, dict[int, dict[str, Any]]]:
    """Return the boxes, those of objects in masks among them, and the masks by the place of their box."""
    boxes = project.boxes
    planes = dict(boxes.planes)
    drawn: list[Box] = []
    outlines: dict[int, dict[str, Any]] = {}
    for plane in dict.fromkeys((*boxes.planes, *masked)):
        left = list(boxes.on(plane))
        mask = project.mask(plane) if plane in masked else None
        if mask is not None:
            info = boxes.planes.get(plane)
            shape = project.entries[plane.image].shape
            if info is None:
                planes[plane] = BoxSet().complete([plane]).planes[plane]
                planes[plane] = replace(planes[plane], shape=shape, complete=False)
            if mask.labels.ndim == 3:  # of the API, it may have a number in several layers
                mask = mask.split(project.classes)
            for found, pixels in _objects(mask, plane, project.classes[0]):
                outlines[len(drawn)] = encode_mask(pixels)
                drawn.append(_drawn_for(found, left))
        drawn += left
    return BoxSet(tuple(drawn), planes, boxes.classes, boxes.exclusive), outlines


def _drawn_for(found: Box, left: list[Box]) -> Box:
    """Take the drawn box that is best for an object of a mask from those left, else the box of the mask."""
    best = max(left, key=found.iou, default=None)
    if best is None or best.label != found.label or found.iou(best) < SAME_OBJECT:
        return found
    left.remove(best)
    return best


def _objects(mask: Mask, plane: PlaneId, first: str) -> Iterator[tuple[Box, npt.NDArray[np.bool_]]]:
    """Yield the tight box and the pixels of each object."""
    from scipy.ndimage import find_objects

    for labels in mask.labels if mask.labels.ndim == 3 else [mask.labels]:
        numbers, inverse = np.unique(labels, return_inverse=True)
        if numbers.size and numbers[0] != 0:
            numbers, inverse = np.concatenate([[0], numbers]), inverse + 1
        inverse = inverse.reshape(labels.shape)
        for place, window in enumerate(find_objects(inverse), start=1):
            rows, columns = window
            number = int(numbers[place])
            name = mask.classes.get(number, first)
            box = Box(rows.start, columns.start, rows.stop, columns.stop, plane, name, number)
            yield box, inverse == place


def _by_image(planes: Iterable[PlaneId]) -> dict[str, list[PlaneId]]:
    images: dict[str, list[PlaneId]] = {}
    for plane in planes:
        images.setdefault(plane.image, []).append(plane)
    return images


def _write_zarr(project: Project, masked: Iterable[PlaneId], folder: Path) -> int:
    def parts(planes: list[PlaneId], *, overlap: bool) -> Iterator[tuple[Any, Any, npt.NDArray[np.uint8]]]:
        for plane in planes:
            mask = project.mask(plane)
            if mask is not None:
                mask = mask.split(project.classes) if overlap else mask
                yield plane.index, mask.labels, mask.class_mask(project.classes)

    images = _by_image(masked)
    for name, planes in images.items():
        path = folder / PurePosixPath(name).with_name(f"{PurePosixPath(name).name}.ome.zarr")
        overlap = _overlap(project, map(project.mask, planes))
        found = parts(planes, overlap=overlap)
        write_labels_zarr(path, found, project.entries[name], project.classes, overlap=overlap)
    return len(images)


def _overlap(project: Project, masks: Iterable[Mask | None]) -> bool:
    """Whether the file of these masks needs an axis over the classes."""
    return not project.exclusive or any(mask is not None and mask.labels.ndim == 3 for mask in masks)


def _write_masks(project: Project, masked: Iterable[PlaneId], folder: Path) -> int:
    images = _by_image(masked)
    for name, planes in images.items():
        entry = project.entries[name]
        masks = {plane: mask for plane in planes if (mask := project.mask(plane)) is not None}
        lead: tuple[int, ...] = ()
        if _overlap(project, masks.values()):
            lead = (len(project.classes),)
            masks = {plane: mask.split(project.classes) for plane, mask in masks.items()}
        objects = np.zeros((*entry.extent, *lead, *entry.shape), np.uint32)
        classes = np.zeros(objects.shape, np.uint8)
        for plane, mask in masks.items():
            objects[plane.index], classes[plane.index] = mask.labels, mask.class_mask(project.classes)
        small = objects.astype(np.uint16) if objects.max(initial=0) < 2**16 else objects
        sizes = {str(axis): size for axis, size in entry.pixel_size.items()}
        place = folder / PurePosixPath(name).parent
        results: dict[str, npt.NDArray[Any]] = {"mask": classes, "objects": small}
        for kind, values in results.items():
            path = place / f"{PurePosixPath(name).name}_{kind}.ome.tif"
            write_labels(path, values, sizes, project.classes, overlap=bool(lead))
    return len(images)


_IDENTICAL = 0.01
"""Pixels by which two boxes may differ and still be the same: what rounding in a file does to one."""


def import_into(project: Project, source: str | Path, *, complete: bool = False, named: bool = False) -> str:
    """Take boxes and masks of other programs into a project; return a sentence about it.

    Parameters
    ----------
    project : Project
        The project; its images must be there.
    source : str or Path
        A COCO file, YOLO files, a label TIFF, PNG or OME-Zarr, or a folder of them. Label files are called
        like their image, with ``_objects`` or ``_labels`` behind the name if need be. Planes that are
        corrected or accepted already keep their masks; classes that are new are added. Boxes that are there
        already are passed over. On planes with a crowd masks come in for review and are not accepted, as the
        objects in the crowd are not in them.
    complete : bool
        Mark every plane in a file of boxes complete: all objects of all its classes are boxed.
    named : bool
        Keep a class ``object`` that nothing has: somebody has named it. Else it gives way, as the one that a
        project has while nobody has named any.

    Raises
    ------
    BoxPromptError
        It cannot be read, or does not fit the images.
    """
    source = Path(source)
    files = find_label_files(source)
    if files:
        count, kept = _import_labels(project, files, named=named)
        return f"Masks of {count} planes imported.{_about(kept)}"
    boxes = load_boxes(source, project.images, complete=complete)
    fresh = _fresh(boxes, project.boxes)
    overlap = not (boxes.exclusive and project.exclusive)
    coco = source.suffix.lower() == ".json"
    masks = load_coco_masks(source, overlap=overlap) if coco else {}
    crowds = read_coco(source).crowds if masks else {}
    index = NameIndex(project.images.names)
    used = {box.label for box in fresh}
    _take_classes(project, [name for name in boxes.classes if name in used], overlap=overlap, named=named)
    project.add_boxes(boxes.with_boxes(fresh))
    kept = 0
    for plane, (labels, classes) in masks.items():
        target = PlaneId(index.find(plane.image) or plane.image, plane.index)
        if target in project.images:
            mask = Mask(labels, classes)
            mask = mask.split(project.classes) if overlap else mask
            # A mask that is accepted says that all else is background.
            status: Status = "boxed" if plane in crowds else "accepted"
            kept += not _take_mask(project, target, mask.labels, classes, status)
    said = f"{len(fresh)} boxes and masks of {len(masks) - kept} planes imported."
    return f"{said}{_about(kept)}{_about_boxes(len(boxes) - len(fresh))}"


def _about(kept: int) -> str:
    return f" {kept} planes were corrected or accepted already and keep their masks." if kept else ""


def _about_boxes(known: int) -> str:
    return f" {known} boxes that were there already are passed over." if known else ""


def _fresh(boxes: BoxSet, known: BoxSet) -> list[Box]:
    """Return the boxes that are not there yet: a file may be imported twice, or grow and come again."""
    there: dict[tuple[PlaneId, str], list[tuple[float, float, float, float]]] = {}
    for box in known.boxes:
        there.setdefault((box.plane, box.label), []).append(box.as_tuple())
    sides = {key: np.asarray(drawn) for key, drawn in there.items()}

    def is_there(box: Box) -> bool:
        near = sides.get((box.plane, box.label))
        return near is not None and bool((np.abs(near - box.as_tuple()).max(axis=1) <= _IDENTICAL).any())

    return [box for box in boxes.boxes if not is_there(box)]


def _import_labels(project: Project, files: list[Path], *, named: bool) -> tuple[int, int]:
    index = NameIndex(project.images.names)
    # Each file is looked at before anything changes.
    found = [
        (
            name := _image_for(project, path, index),
            open_label_file(path, project.entries[name], project.classes),
        )
        for path in files
    ]
    names = [label for _, file in found for label in file.names]
    overlap = any(file.axis is not None for _, file in found)
    _take_classes(project, names, overlap=overlap, named=named)
    taken = kept = 0
    for name, file in found:
        for place, mask in file.masks():
            mask = mask if mask.labels.ndim == 2 else mask.split(project.classes)
            done = _take_mask(project, PlaneId(name, place), mask.labels, dict(mask.classes))
            taken, kept = taken + done, kept + (not done)
    return taken, kept


def _image_for(project: Project, path: Path, index: NameIndex) -> str:
    """Return the image that a label file is about, which is another file."""
    name = image_of(path, index)
    if (project.folder / project.entries[name].path).resolve() == path.resolve():
        raise ProjectError(f"{path} is an image of the project; give the file with its labels.")
    return name


def _take_classes(project: Project, names: list[str], *, overlap: bool, named: bool) -> None:
    """Add classes that are new to a project, and let them overlap if need be."""
    nameless = not named and project.classes == ("object",) and _unlabelled(project)
    known = () if names and nameless else project.classes
    classes = tuple(dict.fromkeys((*known, *names)))
    if classes != project.classes or (overlap and project.exclusive):
        project.set_classes(classes, exclusive=False if overlap else None)


def _unlabelled(project: Project) -> bool:
    """Whether a project has no boxes and no masks, as far as its images are there to tell."""
    if project.boxes.boxes or project.missing or project.changed:
        return False
    worked = (plane for plane in project.images.planes if project.status(plane) != "new")
    return all(project.mask(plane) is None for plane in worked)


def _take_mask(
    project: Project,
    plane: PlaneId,
    labels: npt.NDArray[Any],
    classes: dict[int, str],
    status: Status = "accepted",
) -> bool:
    """Give a plane a mask unless somebody has worked on the one it has; return whether it was taken."""
    if project.status(plane) in SETTLED and project.mask(plane) is not None:
        return False
    project.paint(plane, labels, classes=classes, status=status)
    return True
