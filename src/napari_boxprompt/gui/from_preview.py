"""What the frozen model makes of the boxes of a plane, as a result: one plane is nothing to train on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info, show_warning
from psygnal import Signal

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxError, BoxPromptError
from napari_boxprompt.events import Progress
from napari_boxprompt.gui.backend import load_backend
from napari_boxprompt.gui.predicting import JOB
from napari_boxprompt.gui.preview import contrast_for
from napari_boxprompt.gui.segmenting import Found
from napari_boxprompt.gui.telling import counted

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.preview import Preview, Request
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.work import Encoders

__all__ = ["FromPreview"]


@dataclass(eq=False)
class _Boxes:
    """Stands where results have the model that they are of: planes done one after the other share a layer.

    Parameters
    ----------
    classes : tuple of str
        Classes of the boxes.
    exclusive : bool
        Whether no two of them overlap.
    """

    classes: tuple[str, ...]
    exclusive: bool

    def renamed(self, old: str, new: str) -> _Boxes:
        """Return what it is with another name of a class."""
        if old not in self.classes or new in self.classes:
            return self
        return _Boxes(tuple(new if name == old else name for name in self.classes), self.exclusive)


class FromPreview:
    """Makes a result of the boxes on the plane on screen: an object for each, with its class.

    It is reviewed, painted on, exported and kept like a prediction.

    Parameters
    ----------
    session, jobs, encoders, preview
        See the classes.

    Attributes
    ----------
    changed : psygnal.Signal
        It has begun or ended.
    ended : psygnal.Signal
        A result is there.
    """

    changed = Signal()
    ended = Signal()

    def __init__(self, session: Session, jobs: Jobs, encoders: Encoders, preview: Preview) -> None:
        self._session, self._jobs, self._encoders, self._preview = session, jobs, encoders, preview

    @property
    def possible(self) -> bool:
        """Whether the plane on screen has boxes."""
        boxes, plane = self._session.boxes, self._session.plane
        return boxes is not None and plane is not None and any(b.plane == plane for b in boxes.reading.boxes)

    @property
    def is_shown(self) -> bool:
        """Whether the user sees beforehand what comes of it."""
        return self._preview.enabled

    @property
    def running(self) -> bool:
        """Whether it, or a prediction, is at work."""
        return self._jobs.running(JOB)

    def plane(self) -> None:
        """Take the boxes of the plane on screen.

        Raises
        ------
        BoxPromptError
            The plane has no boxes, is the user's own work already, or a prediction runs.
        """
        asked, boxes = self._preview.asked(), self._session.boxes
        if asked is None or boxes is None or not asked.boxes:
            raise BoxError("There are no boxes on this plane: draw some, or go to a plane that has some.")
        if asked.plane in self._session.results.work():
            raise BoxPromptError(
                "You have accepted this plane or painted on it, and it stays as it is; to have the preview "
                "instead, reject it first."
            )
        if self.running:  # it fills layers too
            raise BoxPromptError("A prediction is running; stop it first, or wait until it is done.")
        self._jobs.start(
            JOB,
            partial(_outline, asked=asked, encoders=self._encoders),
            on_result=partial(self._take, asked, boxes),
            on_end=self.changed.emit,
        )
        self.changed.emit()

    def _take(self, asked: Request, boxes: BoxLayer, found: Found | None) -> None:
        session = self._session
        if found is None or asked.view.layer not in session.viewer.layers:
            return
        results = session.new_results([asked.view], [asked.plane], self._maker(asked, boxes))[asked.view.name]
        for result in results:
            result.colors |= {name: boxes.classes.color_of(name) for name in boxes.classes.names}
            result.add(found)
            result.renew()
        session.results.filled.emit(results[-1], PlaneId(asked.view.name, asked.plane.index))
        session.result_changed.emit()
        _tell(len(asked.boxes), len(found.prediction.objects))
        self.ended.emit()

    def _maker(self, asked: Request, boxes: BoxLayer) -> _Boxes:
        """What the planes before were made by, if their layer can take these boxes too."""
        names, exclusive = asked.everywhere.classes, asked.everywhere.exclusive
        mine: list[tuple[Result, object]] = [
            (result, by) for result, by in self._session.results.entries if result.view == asked.view
        ]
        newest, by = mine[-1] if mine else (None, None)
        if isinstance(by, _Boxes) and newest is not None and by.exclusive == exclusive:
            if exclusive:  # a layer of all classes may get another one
                by.classes = newest.known = names
            if by.classes == names:
                return by
        return _Boxes(names, exclusive)


def _tell(drawn: int, found: int) -> None:
    """Say what came of the boxes."""
    if found == drawn:
        show_info(f"{counted(found, 'object')}, one for each box; look through them under Review.")
    else:
        show_warning(
            f"{counted(found, 'object')} for {counted(drawn, 'box', 'boxes')}: in the others the model sees "
            "nothing, or smaller boxes cover it all."
        )


def _outline(stop: Stop, asked: Request, encoders: Encoders) -> Generator[Progress, None, Found | None]:
    """Do what the preview does, and keep the objects apart."""
    yield Progress("prepare", 0, 1, "loading the model")
    load_backend()
    from napari_boxprompt.api import PlanePixels, boxes_prediction, encode_plane, preview_tile
    from napari_boxprompt.ranking import plane_scores

    encoder = encoders.get(asked.model[0], asked.model[1])
    contrast = asked.contrast if asked.manual else contrast_for(asked)
    if contrast is None or stop.is_set():
        return None
    tile = preview_tile(asked.everywhere, asked.images, asked.tile)
    pixels = PlanePixels(asked.images.read(asked.plane), contrast)
    for progress in encode_plane(encoder, pixels, tile):  # most often they are in the cache
        yield progress
        if stop.is_set():
            return None
    prediction = boxes_prediction(encoder, pixels, asked.boxes, asked.plane, tile)
    return Found(prediction, plane_scores(prediction, {}))
