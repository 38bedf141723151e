"""Runs predictions for the viewer: a plane, many planes, other images, a folder."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info, show_warning
from psygnal import Signal

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.events import Caution, Progress
from napari_boxprompt.gui.layers import PlaneView, combined_images
from napari_boxprompt.gui.on_screen import plane_on_screen
from napari_boxprompt.gui.segmenting import Found, predict, predict_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.images import Images
    from napari_boxprompt.outputs import ResultWriter

__all__ = ["Predicting"]

JOB = "prediction"


class Predicting:
    """One prediction at a time.

    Parameters
    ----------
    session, jobs
        See the classes.

    Attributes
    ----------
    started : psygnal.Signal
        A prediction begins.
    progressed : psygnal.Signal
        Emitted with each `Progress` of it.
    ended : psygnal.Signal
        Emitted with the number of planes done.
    stop_asked : psygnal.Signal
        Work was asked to stop, perhaps this one.
    """

    started = Signal()
    progressed = Signal(object)
    ended = Signal(int)
    stop_asked = Signal()

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session, self._jobs = session, jobs
        self._results: dict[str, list[Result]] = {}
        self._keep: Callable[[Found], bool] | None = None
        self._done = 0
        self._wanted = 0
        self.tiles = (0, 0)
        self.compares_views = False
        """Whether the next prediction compares two views of each plane."""
        self.hidden: tuple[str, ...] = ()
        """Older layers that are out of sight now, so that the new ones can be read."""
        jobs.stop_asked.connect(self.stop_asked.emit)

    @property
    def running(self) -> bool:
        """Whether a prediction runs."""
        return self._jobs.running(JOB)

    @property
    def stopping(self) -> bool:
        """Whether a prediction runs that was asked to stop."""
        return self._jobs.stopping(JOB)

    def plane(self) -> None:
        """Segment the plane on screen.

        Raises
        ------
        BoxPromptError
            No model, no plane on screen, or a prediction runs.
        """
        plane, view = plane_on_screen(self._session), self._session.view
        if view is not None:
            self.run([view], [plane])

    def planes(self, first: int = 0, last: int | None = None) -> None:
        """Segment planes of the image by their position, both ends included; all by default.

        Those next to the plane on screen come first: they are looked at, and kept if it is stopped.

        Raises
        ------
        BoxPromptError
            No model, no image, no such planes, or a prediction runs.
        """
        view = self._session.view
        if view is None:
            raise BoxPromptError("There is no image to segment; choose one under Image.")
        planes = view.images().planes[first : None if last is None else last + 1]
        if not planes:
            raise BoxPromptError(f"The image has planes 0 to {view.count - 1}; choose some of them.")
        here = self._session.plane
        if here in planes:
            middle = planes.index(here)
            near = sorted(range(len(planes)), key=lambda place: abs(place - middle))
            planes = tuple(planes[place] for place in near)
        self.run([view], planes)

    def others(self) -> None:
        """Segment all other open images.

        Raises
        ------
        BoxPromptError
            No model, no other image, or a prediction runs.
        """
        chosen = self._session.view
        views = [
            PlaneView.from_viewer(layer, self._session.viewer)
            for layer in self._session.image_layers
            if chosen is None or layer != chosen.layer
        ]
        if not views:
            raise BoxPromptError("No other image is open; open some, or choose 'Folder'.")
        self.run(views, [plane for view in views for plane in view.images().planes])

    def run(self, views: Sequence[PlaneView], planes: Sequence[PlaneId]) -> None:
        """Segment planes of images into new layers, one for each image."""
        model = self._ready()
        images = combined_images(views)
        self._results = self._session.new_results(views, planes)
        for result in (one for found in self._results.values() for one in found):
            chosen = self._session.view is not None and self._session.view.layer == result.view.layer
            if not chosen and not result.view.layer.visible:  # it would lie over an image it is not of
                result.layer.visible = False
        self._begin(len(planes), self._session.results.hidden)
        self._start(model, images, planes)

    def apart(self, images: Images, planes: Sequence[PlaneId], keep: Callable[[Found], bool]) -> None:
        """Segment planes of images that are not in the viewer.

        Parameters
        ----------
        images : Images
            The images.
        planes : sequence of PlaneId
            Some of their planes.
        keep : callable
            Takes what was found on a plane; where it returns False the prediction ends.

        Raises
        ------
        BoxPromptError
            No model, or a prediction runs.
        """
        model = self._ready()
        self._results = {}
        self._begin(len(planes))
        self._keep = keep
        self._start(model, images, planes)

    def _start(self, model: TrainedModel, images: Images, planes: Sequence[PlaneId]) -> None:
        self._jobs.start(
            JOB,
            partial(
                predict,
                model=model,
                images=images,
                planes=list(planes),
                on_tile=self._on_tile,
                disagreement=self.compares_views,
            ),
            on_event=self._on_event,
            on_end=self._on_end,
        )
        self.started.emit()

    def folder(self, source: str | Path, out: str | Path) -> None:
        """Segment image files into another folder.

        Raises
        ------
        BoxPromptError
            No model, or a prediction runs.
        """
        model = self._ready()
        self._results = {}
        self._begin(0)

        def tell(writer: ResultWriter) -> None:
            (show_warning if writer.left_out else show_info)(writer.outcome)

        self._jobs.start(
            JOB,
            partial(predict_files, model=model, source=source, out=out),
            on_event=self._on_event,
            on_result=tell,
            on_end=self._on_end,
        )
        self.started.emit()

    def stop(self) -> None:
        """Stop and keep what is done."""
        self._jobs.stop(JOB)

    def _ready(self) -> TrainedModel:
        if self.running:
            raise BoxPromptError("A prediction is running; stop it first, or wait until it is done.")
        if self._session.trained is None:
            raise BoxPromptError("There is no model yet: train one, or load one.")
        return self._session.trained

    def _begin(self, wanted: int, hidden: tuple[str, ...] = ()) -> None:
        self._done, self._wanted, self.tiles, self.hidden = 0, wanted, (0, 0), hidden
        self._keep = None

    def _on_tile(self, done: int, total: int) -> None:
        self.tiles = (done, total)  # read by the panel's timer: a plane of many tiles takes minutes

    def _on_event(self, event: object) -> None:
        if isinstance(event, Found) and self._keep is not None:
            if not self._keep(event):
                self.stop()
        elif isinstance(event, Found):
            results = self._results.get(event.prediction.plane.image, [])
            if not any(result.alive for result in results):
                self.stop()  # the user has deleted the layer
            there = [result for result in results if result.alive]
            for result in there:
                result.add(event)
            for result in there[-1:]:  # when all that belong together have it
                here = PlaneId(result.view.name, event.prediction.plane.index)
                self._session.results.filled.emit(result, here)
        elif isinstance(event, Caution):
            show_warning(event.message)
        elif isinstance(event, Progress):
            self._done = event.done
            self.progressed.emit(event)

    def _on_end(self) -> None:
        results = [result for found in self._results.values() for result in found if result.alive]
        for result in results:
            result.renew()
        if self._done < self._wanted:
            show_info(self._stopped())
        elif self._wanted and results and not any(result.count for result in results):
            show_warning("Nothing was found. More boxes, or a longer training, may help.")
        self._session.result_changed.emit()
        self.ended.emit(self._done)

    def _stopped(self) -> str:
        """Say what there is of a prediction that did not come to its end; the user may have deleted it."""
        left = [any(result.alive for result in found) for found in self._results.values()]
        if left and not any(left):
            return "The prediction was stopped, as its layer was deleted."
        if not all(left):
            return "The prediction was stopped, as a layer of it was deleted; what is in the others is kept."
        return f"Stopped after {self._done} of {self._wanted} planes; these are kept."
