"""Box files: COCO JSON (our own files are COCO too) and YOLO text files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_boxprompt.errors import BoxError
from napari_boxprompt.formats.alignment import align, align_masks
from napari_boxprompt.formats.coco import load_coco, save_coco
from napari_boxprompt.formats.yolo import label_files, load_yolo, save_yolo

if TYPE_CHECKING:
    from napari_boxprompt.boxes import BoxSet
    from napari_boxprompt.images import Images

__all__ = ["align", "align_masks", "load_boxes", "load_coco", "load_yolo", "save_coco", "save_yolo"]


def load_boxes(path: str | Path, images: Images | None = None, *, complete: bool = False) -> BoxSet:
    """Read boxes from a file or folder, whatever its format.

    Parameters
    ----------
    path : str or Path
        A COCO JSON file, a folder that holds exactly one, a folder of YOLO text files or one such file.
    images : Images, optional
        The images the boxes belong to; YOLO files need them. With images, the result is aligned to them.
    complete : bool
        Mark every plane in the file complete: all objects of all its classes are boxed.

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
    else:
        boxes = load_coco(_json_file(place))
        if images is not None:
            boxes = align(boxes, images)
    return boxes.complete() if complete else boxes


def _is_yolo(place: Path) -> bool:
    if place.is_dir():
        # A folder of images and text files may hold other JSON; a single JSON without labels means COCO.
        return bool(label_files(place))
    return place.suffix.lower() == ".txt"


def _json_file(place: Path) -> Path:
    if not place.is_dir():
        return place
    found = sorted(entry for entry in place.glob("*.json") if not entry.name.startswith("."))
    if len(found) == 1:
        return found[0]
    if found:
        raise BoxError(f"{place} holds {len(found)} JSON files; name the one with the boxes.")
    raise BoxError(f"{place} holds no boxes; a COCO .json file or YOLO .txt files are needed.")
