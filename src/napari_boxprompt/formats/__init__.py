"""Box files: COCO JSON (our own files are COCO too) and YOLO text files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_boxprompt.errors import BoxError
from napari_boxprompt.formats.alignment import NameIndex, align, align_masks
from napari_boxprompt.formats.coco import load_coco, read_coco, save_coco
from napari_boxprompt.formats.outlines import class_masks
from napari_boxprompt.formats.yolo import label_files, load_yolo, save_yolo
from napari_boxprompt.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.images import Images

__all__ = [
    "NameIndex",
    "align",
    "align_masks",
    "load_boxes",
    "load_class_masks",
    "load_coco",
    "load_yolo",
    "save_coco",
    "save_yolo",
]

_LABELS_TEACH = (
    "Labels teach in a project ('boxprompt project new', 'project import', 'project train'); "
    "or make boxes of them in the viewer, with 'Boxes from a Labels layer'."
)


def load_boxes(path: str | Path, images: Images | None = None, *, complete: bool = False) -> BoxSet:
    """Read boxes from a file or folder, whatever its format.

    Parameters
    ----------
    path : str or Path
        A COCO JSON file, a folder that holds exactly one, a folder of YOLO text files or one such file.
    images : Images, optional
        The images the boxes belong to; YOLO files need them. With images, the result is aligned to them.
    complete : bool
        Mark every plane in the file complete: all objects of all its classes are boxed. Planes with a crowd
        (see `load_coco`) are not marked: its objects have no boxes.

    Returns
    -------
    BoxSet
        With `images`, its planes are planes of `images` and its boxes lie inside them.

    Raises
    ------
    BoxError
        If the file cannot be read, or does not fit the images; the message names the file and the entry.
    """
    place = Path(path)
    if not place.exists():
        raise BoxError(f"There are no boxes at {place}; check the path.")
    if _is_yolo(place):
        if images is None:
            raise BoxError(
                f"{place} holds YOLO boxes, which need the sizes of the images; give the images too."
            )
        boxes = load_yolo(place, images)
        return boxes.complete() if complete else boxes
    file = _json_file(place)
    found = read_coco(file)
    boxes = found.boxes
    if complete:
        boxes = boxes.complete(plane for plane in boxes.planes if plane not in found.crowds)
    boxes = boxes if images is None else align(boxes, images)
    found.tell(file)
    return boxes


def load_class_masks(
    path: str | Path, images: Images, drawn: BoxSet
) -> dict[PlaneId, npt.NDArray[np.integer]]:
    """Read outlines to learn from, beside the boxes that `load_boxes` reads from the same file.

    Parameters
    ----------
    path : str or Path
        A COCO JSON file, or a folder that holds exactly one.
    images : Images
        The images.
    drawn : BoxSet
        What `load_boxes` returned.

    Returns
    -------
    dict of PlaneId to ndarray
        For `napari_boxprompt.start_training`.

    Raises
    ------
    BoxError
        There are no outlines, they do not fit the images, or lie on planes that are not complete.
    """
    place = Path(path)
    if _is_yolo(place):
        raise BoxError(
            f"{place} holds YOLO boxes, which have no outlines; use COCO, or train on boxes alone."
        )
    file, index = _json_file(place), NameIndex(images.names)
    masks = {plane: mask for plane, mask in class_masks(file).items() if index.find(plane.image) is not None}
    found = align_masks(masks, drawn, images)
    if not found:
        raise BoxError(
            f"{file} has no outlines on these images, or only beside crowds; train on boxes alone."
        )
    unsaid = next((plane for plane in found if not drawn.planes[plane].complete), None)
    if unsaid is not None:
        raise BoxError(
            f"There are outlines on {unsaid}, but nothing says that they are all there are; mark the plane "
            "complete, for instance with --complete."
        )
    return found


def _is_yolo(place: Path) -> bool:
    if place.is_dir():
        # A folder of images and text files may hold other JSON; a single JSON without labels means COCO.
        return bool(label_files(place))
    return place.suffix.lower() == ".txt"


def _json_file(place: Path) -> Path:
    if _of_labels(place):
        raise BoxError(f"{place} is an image, no file of boxes. {_LABELS_TEACH}")
    if not place.is_dir():
        return place
    found = sorted(entry for entry in place.glob("*.json") if not entry.name.startswith("."))
    if len(found) == 1:
        return found[0]
    if found:
        raise BoxError(f"{place} holds {len(found)} JSON files; name the one with the boxes.")
    about_labels = f" {_LABELS_TEACH}" if any(map(_of_labels, place.iterdir())) else ""
    raise BoxError(f"{place} holds no boxes; a COCO .json file or YOLO .txt files are needed.{about_labels}")


def _of_labels(place: Path) -> bool:
    """Whether this is an image, in which somebody may have labels; they are often given as boxes."""
    return place.suffix.lower() in {".zarr", *IMAGE_SUFFIXES}
