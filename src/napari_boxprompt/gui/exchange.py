"""Files in and out: boxes, labels, models, and the command that repeats a training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_boxprompt.boxes import BoxSet, PlaneId
from napari_boxprompt.errors import BoxError, BoxPromptError
from napari_boxprompt.formats import load_boxes
from napari_boxprompt.gui.backend import load_backend
from napari_boxprompt.outputs import write_labels

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.events import Event
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.settings import PluginSettings
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.work import TrainingTask

__all__ = ["add_boxes_file", "export_labels", "load_model", "repeat_command", "save_boxes"]


def add_boxes_file(session: Session, path: str | Path) -> int:
    """Add the boxes of a COCO or YOLO file to the chosen image; return how many.

    A file about a single image fits whatever that image is called here.

    Raises
    ------
    BoxError
        The file cannot be read, or does not fit the image.
    """
    target = session.new_boxes_layer()
    images = target.view.images()
    try:
        found = load_boxes(path, images)
    except BoxError:
        alone = _about_one_image(path, target.view.name)
        if alone is None:
            raise
        from napari_boxprompt.formats import align

        found = align(alone, images)
    target.add_boxes(found)
    return len(found)


def _about_one_image(path: str | Path, name: str) -> BoxSet | None:
    """Boxes of a COCO file that names one image, under another name; None for other files."""
    try:
        found = load_boxes(path)
    except BoxError:
        return None
    if len({plane.image for plane in found.planes}) != 1:
        return None
    planes = {PlaneId(name, plane.index): info for plane, info in found.planes.items()}
    boxes = tuple(replace(box, plane=PlaneId(name, box.plane.index)) for box in found.boxes)
    return replace(found, boxes=boxes, planes=planes)


def save_boxes(session: Session, path: str | Path) -> int:
    """Write the boxes of all images as COCO JSON; return how many.

    Raises
    ------
    BoxPromptError
        There are none, or the file cannot be written.
    """
    drawn = session.all_boxes()
    if not drawn:
        raise BoxError("There are no boxes to export yet.")
    drawn.save(path)
    return len(drawn)


def export_labels(result: Result | None, path: str | Path) -> None:
    """Write the label image as TIFF, or as OME-TIFF where the name ends in ``.ome.tif``.

    Raises
    ------
    BoxPromptError
        There is no result, or the file cannot be written.
    """
    if result is None:
        raise BoxPromptError("There are no labels to export yet: predict first.")
    place = Path(path)
    if place.suffix.lower() not in (".tif", ".tiff"):
        place = place.with_name(f"{place.name}.tif")
    write_labels(place, result.layer.data, pixel_size=result.pixel_size())


def load_model(session: Session, jobs: Jobs, folder: str | Path, settings: PluginSettings) -> None:
    """Load a trained model in the background and make it the session's."""
    jobs.start(
        "loading the model", partial(_load, folder=folder, settings=settings), on_result=session.set_model
    )


def _load(stop: Stop, folder: str | Path, settings: PluginSettings) -> Generator[Event, None, TrainedModel]:
    from napari_boxprompt.gui.settings import make_cache

    yield from ()
    load_backend()
    from napari_boxprompt.api import load_model as load

    return load(folder, device=settings.device, cache=make_cache(settings))


def repeat_command(session: Session, task: TrainingTask, folder: Path) -> str:
    """Command that repeats a training; the boxes are written to `folder`, and images that have no file.

    Raises
    ------
    BoxPromptError
        The files cannot be written.
    """
    import tifffile

    from napari_boxprompt.files import atomic_path

    view = session.view
    if view is None:
        raise BoxPromptError("There is no image to repeat a training on.")
    folder.mkdir(parents=True, exist_ok=True)
    source = view.layer.source.path
    images = Path(source) if source else folder / f"{view.name}.tif"
    if not source:
        data = view.layer.data[0] if view.layer.multiscale else view.layer.data
        with atomic_path(images) as scratch:
            tifffile.imwrite(scratch, data)
    task.boxes.save(folder / "boxes.json")
    load_backend()
    from napari_boxprompt.api import command_line

    return command_line(
        images,
        folder / "boxes.json",
        folder / "model",
        task.config,
        contrast=task.normalization,
        channel=view.channel,
    )
