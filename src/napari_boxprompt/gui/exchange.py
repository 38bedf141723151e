"""Files in and out: boxes, labels, models, and the commands that repeat a session."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_boxprompt.commandline import command_line, prediction_line
from napari_boxprompt.errors import BoxError, BoxPromptError, OutputError
from napari_boxprompt.events import Progress
from napari_boxprompt.files import atomic_path
from napari_boxprompt.formats import save_coco
from napari_boxprompt.formats.outlines import encode_class_masks
from napari_boxprompt.gui.backend import load_backend
from napari_boxprompt.gui.from_file import with_names
from napari_boxprompt.gui.project_images import file_of
from napari_boxprompt.gui.project_pixels import has_planes
from napari_boxprompt.gui.telling import counted
from napari_boxprompt.outputs import prepare_folder, write_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    import numpy.typing as npt

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.events import Event
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.settings import PluginSettings
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.work import TrainingTask
    from napari_boxprompt.images import Images

__all__ = ["export_labels", "load_model", "repeat_command", "save_boxes", "source_files"]


def save_boxes(session: Session, path: str | Path) -> int:
    """Write the boxes of all images as COCO JSON; return how many.

    Raises
    ------
    BoxPromptError
        There are none, or the file cannot be written.
    """
    for boxes in session.box_layers:
        boxes.look()
    drawn = session.all_boxes()
    if not drawn:
        raise BoxError("There are no boxes to export yet.")
    drawn.save(path)
    return len(drawn)


def named(path: str, kind: str) -> Path:
    """Return a file name with the ending of the kind that was chosen in a dialog, which adds none by itself.

    Parameters
    ----------
    path : str
        What was typed; a name that ends in what any of our files end in stays.
    kind : str
        As ``"OME-TIFF (*.ome.tif)"``.

    Raises
    ------
    OutputError
        A file of the longer name is there: the dialog has not asked whether it may be written over.
    """
    place, ending = Path(path), kind.partition("(*")[2].rstrip(")")
    if place.suffix.lower() in (".tif", ".tiff", ".json") or not ending:
        return place
    longer = place.with_name(place.name + ending)
    if longer.exists():
        raise OutputError(f"{longer.name} is there already; type its whole name to write over it.")
    return longer


def proposed(session: Session, name: str) -> str:
    """Return where a file about the chosen image might go: beside the image, if that is a file."""
    # Not `file_of`: the copy that a project has of an array is no place for exports.
    source = None if session.view is None else session.view.layer.source.path
    return name if source is None else str(Path(source).parent / name)


def export_labels(
    jobs: Jobs,
    result: Result | None,
    path: str | Path,
    then: Callable[[str], None],
    at_end: Callable[[], None] | None = None,
) -> None:
    """Write labels in the background as TIFF, or as OME-TIFF where the name ends in ``.ome.tif``.

    What is written is what the layers hold now. Where classes may overlap, each is a channel. Objects have
    the numbers that they have in the layers. The axes are those of the image without that of its channels.

    Parameters
    ----------
    jobs : Jobs
        Runs it: to compress takes long.
    result : Result or None
        What to write.
    path : str or pathlib.Path
        The file.
    then : callable
        Called with a sentence about the file when it is written.
    at_end : callable, optional
        Called last, whatever happened.

    Raises
    ------
    BoxPromptError
        There is no result, layers of its classes do not fit each other, or labels are being written.
    """
    if result is None:
        raise BoxPromptError("There are no labels to export yet: predict first.")
    place = Path(path)
    if place.suffix.lower() not in (".tif", ".tiff"):
        place = place.with_name(f"{place.name}.tif")
    classes, channels = list[str](), ""
    if result.only is None:
        labels = _unchannelled(result)
    else:
        there = {one.only or "": one for one in result.siblings if one.alive}
        if len({one.layer.data.shape for one in there.values()}) > 1:
            names = ", ".join(f"'{one.layer.name}'" for one in there.values())
            raise BoxPromptError(
                f"{names} have different sizes: they do not go into one file. Delete the one that was "
                "given other data, or save each by itself, from the menu File."
            )
        labels, classes = np.stack([_unchannelled(one) for one in there.values()], axis=-3), list(there)
        channels = f", a channel for each class: {', '.join(classes)}"
    rejected = sum(status == "rejected" for status in result.status.values())
    among = f", also of {counted(rejected, 'rejected plane')}" if rejected else ""
    said = f"{place.name} has the labels{channels}{among}; it is in {place.parent}."
    write = partial(
        write_labels, place, labels, pixel_size=result.pixel_size(), classes=classes, overlap=bool(classes)
    )
    jobs.start("writing the labels", partial(_written, write=write, said=said), on_result=then, on_end=at_end)


def _unchannelled(result: Result) -> npt.NDArray[Any]:
    """Copy the labels without the axis that is one of channels in the image: they are about all of these."""
    labels, view = np.array(result.layer.data), result.view  # a copy: the user goes on painting
    axis = view.channel_axis
    if axis is None or labels.ndim != view.ndim or labels.shape[axis] != 1:  # it was given other data
        return labels
    return labels.squeeze(axis)


def _written(stop: Stop, write: Callable[[], None], said: str) -> Generator[Event, None, str]:
    yield from ()
    write()
    return said


def load_model(
    jobs: Jobs, folder: str | Path, settings: PluginSettings, then: Callable[[TrainedModel], None]
) -> None:
    """Load a trained model in the background, and then do something with it."""
    jobs.start("loading the model", partial(_load, folder=folder, settings=settings), on_result=then)


def _load(stop: Stop, folder: str | Path, settings: PluginSettings) -> Generator[Event, None, TrainedModel]:
    from napari_boxprompt.gui.settings import make_cache

    yield from ()
    load_backend()
    from napari_boxprompt.api import load_model as load

    return load(folder, device=settings.device, cache=make_cache(settings))


def source_files(session: Session) -> dict[str, Path | None]:
    """File that each image layer names, None where the layer is cut into planes in another way."""
    files: dict[str, Path | None] = {}
    for layer in session.image_layers:
        view, path = session.view_of(layer), file_of(layer)
        last = (layer.ndim - 2, layer.ndim - 1)
        plain = view is not None and view.channel_axis is None and view.axes == last
        files[layer.name] = path if plain else None
    return files


def repeat_command(
    stop: Stop, task: TrainingTask, sources: Mapping[str, Path | None], folder: Path
) -> Generator[Event, None, str]:
    """Lines that repeat a training and predict all its images; what they need is written to `folder`.

    Whole stacks of images may be, so it is work for a worker.

    Parameters
    ----------
    stop : Stop
        Not heeded: a command without its files is of no use.
    task : TrainingTask
        The training.
    sources : mapping of str to pathlib.Path or None
        File that each image names, None where the command line would not see the same planes in it. One
        with other planes is not used: a stack that was opened from several files names the first.
    folder : pathlib.Path
        Made here.

    Raises
    ------
    BoxPromptError
        The files cannot be written.
    """
    from napari_boxprompt.bundle import save_bundle

    folder = prepare_folder(folder)
    names = {plane.image for plane in task.boxes.planes}
    files = {name: sources.get(name) for name in names}
    only = next(iter(files.values())) if len(files) == 1 else None
    if only is None or not _holds(only, task.images, *names):
        images = prepare_folder(folder / "images")
        for name in sorted(names):
            files[name] = yield from _write_image(task.images, name, images)
    else:
        images = only
    renamed = {name: path.name for name, path in files.items() if path is not None}
    outlines = encode_class_masks(task.boxes, task.masks)
    save_coco(with_names(task.boxes, renamed), folder / "boxes.json", outlines)
    start = None if task.start is None else save_bundle(task.start, folder / "start")
    training = command_line(
        images,
        folder / "boxes.json",
        folder / "model",
        task.config,
        normalization=task.normalization,
        start=start,
        outlines=bool(outlines),
    )
    masks = folder / "predicted"
    return f"{training}\n{prediction_line(folder / 'model', images, masks, device=task.config.device)}"


def _holds(path: Path, images: Images, name: str) -> bool:
    first = next(plane for plane in images.planes if plane.image == name)
    return has_planes(path, images.extent(name), images.shape(first))


def _write_image(images: Images, name: str, folder: Path) -> Generator[Event, None, Path]:
    """Write the planes of one image as a TIFF stack."""
    planes = [plane for plane in images.planes if plane.image == name]
    first = images.read(planes[0])
    rgb = first.shape[2] == 3
    shape = (*images.extent(name), *first.shape[: 3 if rgb else 2])
    stack = np.empty(shape, first.dtype)
    for done, plane in enumerate(planes):
        yield Progress("prepare", done, len(planes), str(plane))  # here a closed widget ends it
        pixels = images.read(plane)
        stack[plane.index] = pixels if rgb else pixels[..., 0]
    path = folder / f"{_file_name(name)}.tif"
    with atomic_path(path) as scratch:
        tifffile.imwrite(scratch, stack, photometric="rgb" if rgb else "minisblack")
    return path


def _file_name(name: str) -> str:
    """Layer names may hold what file names must not."""
    return re.sub(r"[^\w .-]+", "_", name).strip(" .") or "image"
