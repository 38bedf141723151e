"""Boxes of a file, and the open images that they belong to."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING

from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.errors import BoxError, ImageError
from napari_boxprompt.formats import NameIndex, align, load_boxes, load_yolo
from napari_boxprompt.gui.layers import PlaneView, combined_images, new_boxes_layer, same_selection
from napari_boxprompt.gui.telling import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari.components import ViewerModel

    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.state import Session

__all__ = ["Added", "boxes_from_file", "plane_of_yolo", "with_names"]


@dataclass(frozen=True)
class Added:
    """What became of the boxes of a file.

    Parameters
    ----------
    count : int
        Boxes that were added.
    images : tuple of str
        Images that they were added to.
    where : str
        In words, where it is not the chosen image as a whole.
    left_out : str
        Which boxes were left out and why, as a sentence; empty where none was.
    """

    count: int
    images: tuple[str, ...] = ()
    where: str = ""
    left_out: str = ""

    def __str__(self) -> str:
        """Say it."""
        said = f"{counted(self.count, 'box was', 'boxes were')} added{self.where}."
        return f"{said} {self.left_out}" if self.left_out else said


def boxes_from_file(session: Session, path: str | Path) -> Added:
    """Add the boxes of a COCO or YOLO file to the open images that they belong to.

    Images that are not chosen get a boxes layer where they need one, and nothing else changes for them. A
    file about a single image that is not open fits the chosen one, whatever that is called here. YOLO files
    are about the chosen image; a single one names no plane: of an image with several it is about the one on
    screen.

    Parameters
    ----------
    session : Session
        Gives images and boxes layers.
    path : str or pathlib.Path
        The file.

    Raises
    ------
    BoxError
        There is no image, or the file cannot be read or does not fit the images; nothing is added then.
    """
    place = Path(path)
    if session.view is None:
        raise BoxError("Boxes need an image: open one, or choose it under Image.")
    if place.is_dir() or place.suffix.lower() == ".txt":
        return _from_yolo(session, place)
    chosen, views = session.view.name, _views(session)
    found = _as_called_here(load_boxes(place), chosen, tuple(views))
    index = NameIndex(views)
    lost = [name for name in dict.fromkeys(p.image for p in found.planes) if index.find(name) is None]
    there = _on_images(found, lambda name: name not in lost)
    # Where none fits, it is said by `align`.
    aligned = align(there if there.planes else found, combined_images(list(views.values())))
    named = dict.fromkeys(plane.image for plane in aligned.planes)
    parts = {name: _on_images(aligned, partial(eq, name)) for name in named}
    parts = {name: part for name, part in parts.items() if _says_something(part)}
    if chosen in parts:
        session.new_boxes_layer().add_boxes(parts[chosen])
    with _unheard(session.viewer):
        for name, part in parts.items():
            if name != chosen:
                _boxes_of(session, views[name]).add_boxes(part)
    where = "" if parts.keys() <= {chosen} else f" on {_listed(tuple(parts))}"
    return Added(len(aligned), tuple(parts), where, _left_out(found, lost))


def plane_of_yolo(session: Session, path: str | Path) -> PlaneId | None:
    """Return the plane on screen if the boxes of a YOLO text file are meant for it, None for other files."""
    place = Path(path)
    return session.plane if place.suffix.lower() == ".txt" and place.is_file() else None


def _from_yolo(session: Session, place: Path) -> Added:
    target = session.new_boxes_layer()
    images, plane = target.view.images(), plane_of_yolo(session, place)
    found = load_boxes(place, images) if plane is None else load_yolo(place, images, at=plane)
    target.add_boxes(found)
    where = ""
    if plane is not None and plane.index:
        index = " · ".join(map(str, plane.index))
        where = f" on plane {index}: a YOLO file names no plane, and this one is on screen"
    return Added(len(found), (target.view.name,), where)


def with_names(boxes: BoxSet, names: Mapping[str, str]) -> BoxSet:
    """Return the same boxes on images that are called otherwise."""

    def renamed(plane: PlaneId) -> PlaneId:
        return PlaneId(names.get(plane.image, plane.image), plane.index)

    planes = {renamed(plane): info for plane, info in boxes.planes.items()}
    return replace(
        boxes, boxes=tuple(replace(box, plane=renamed(box.plane)) for box in boxes.boxes), planes=planes
    )


def _views(session: Session) -> dict[str, PlaneView]:
    """How the open images are cut into planes, those left out that cannot be used."""
    found = {}
    for layer in session.image_layers:
        with suppress(ImageError):
            view = session.view_of(layer) or PlaneView.from_viewer(layer, session.viewer)
            view.images()
            found[view.name] = view
    return found


def _as_called_here(found: BoxSet, chosen: str, names: Sequence[str]) -> BoxSet:
    """Return boxes of a single image under the name of the open one that they are about."""
    said = {plane.image for plane in found.planes}
    if len(said) != 1 or said <= set(names):
        return found
    (name,) = said
    # Without the number that napari adds to a second layer of a name: the user has chosen which it is.
    alike = NameIndex([re.sub(r" \[\d+\]$", "", chosen)]).find(name) is not None
    return with_names(found, {name: chosen if alike else NameIndex(names).find(name) or chosen})


def _on_images(boxes: BoxSet, kept: Callable[[str], bool]) -> BoxSet:
    planes = {plane: info for plane, info in boxes.planes.items() if kept(plane.image)}
    return replace(boxes, boxes=tuple(box for box in boxes.boxes if box.plane in planes), planes=planes)


def _says_something(part: BoxSet) -> bool:
    return bool(part.boxes) or any(info.complete or info.complete_regions for info in part.planes.values())


def _boxes_of(session: Session, view: PlaneView) -> BoxLayer:
    """Return the boxes of an image, made now if there are none."""
    if session.boxes_of(view.layer) is None:
        # Adopted by the event of its insertion.
        session.viewer.layers.append(new_boxes_layer(view, name=f"{view.name} boxes", role="boxes"))
    boxes = session.boxes_of(view.layer)
    if boxes is None:
        raise BoxError("The boxes layer went away while it was being made; try again.")
    return boxes


@contextmanager
def _unheard(viewer: ViewerModel) -> Iterator[None]:
    """Add layers, which napari selects; as that chooses their image, nobody hears of it."""
    with viewer.layers.selection.events.active.blocker(), same_selection(viewer):
        yield


def _listed(names: Sequence[str]) -> str:
    return f"“{names[0]}”" if len(names) == 1 else counted(len(names), "image")


def _left_out(found: BoxSet, lost: Sequence[str]) -> str:
    """Say how many boxes have no image here."""
    count = sum(box.plane.image in lost for box in found.boxes)
    if not count:
        return ""
    named = [name for name in lost if any(box.plane.image == name for box in found.boxes)]
    more = f" or like {len(named) - 1} more" if len(named) > 1 else ""
    return f"{counted(count, 'box was', 'boxes were')} left out: no open image is called {named[0]}{more}."
