"""Predictions of the viewer, as generators that run in a worker; see `napari_boxprompt.gui.work`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from napari_boxprompt.events import Caution, Event, Finished, Progress
from napari_boxprompt.gui.backend import load_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.errors import ImageError
    from napari_boxprompt.gui.jobs import Stop
    from napari_boxprompt.images import Images
    from napari_boxprompt.outputs import ResultWriter
    from napari_boxprompt.prediction import Prediction
    from napari_boxprompt.ranking import PlaneScores

__all__ = ["Found", "predict", "predict_files"]


@dataclass(frozen=True)
class Found:
    """What a trained model found on a plane.

    Parameters
    ----------
    prediction : Prediction
        Masks and objects.
    scores : PlaneScores
        How much a look at the plane, and boxes on it, are worth.
    """

    prediction: Prediction
    scores: PlaneScores

    @property
    def doubt(self) -> float:
        """How unsure the model is of the plane, see `napari_boxprompt.ranking.doubt`."""
        return self.scores.doubt


class _StoppedError(Exception):
    """A prediction was stopped between two tiles."""


def _watched(stop: Stop, on_tile: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
    def tile(done: int, total: int) -> None:
        if stop.is_set():
            raise _StoppedError
        if on_tile is not None:
            on_tile(done, total)

    return tile


@dataclass
class _Count:
    """Planes that are done, and why others are not; where the first one fails, as likely as not all do."""

    wanted: int
    done: int = 0
    lost: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def lose(self, plane: PlaneId, error: ImageError) -> None:
        if not self.done:
            raise error
        self.lost.append(f"{plane}: {error}")

    def progress(self, message: str = "") -> Progress:
        return Progress("predict", self.done + len(self.lost), self.wanted, message)

    def end(self, stop: Stop) -> Generator[Event, None, None]:
        """Say what was lost, when the others are done."""
        if self.lost:
            yield self.progress()
            yield Caution(f"{len(self.lost)} of {self.wanted} planes could not be segmented: {self.lost[0]}")
        stopped = stop.is_set() and self.done < self.wanted
        yield Finished("predict", time.perf_counter() - self.started, stopped=stopped)


def predict(
    stop: Stop,
    model: TrainedModel,
    images: Images,
    planes: Sequence[PlaneId],
    on_tile: Callable[[int, int], None] | None = None,
    disagreement: bool = False,
    on_error: Callable[[PlaneId, ImageError], None] | None = None,
) -> Generator[Found | Event, None, int]:
    """Segment planes; what is finished when it is stopped has been yielded.

    Parameters
    ----------
    on_tile : callable, optional
        Called in the worker with tiles done and in all of the plane at work.
    disagreement : bool
        Compare two views of each plane.
    on_error : callable, optional
        See `napari_boxprompt.predict`. By default planes that cannot be read are told at the end, and the
        first one ends the prediction.

    Returns
    -------
    int
        Planes done.
    """
    load_backend()
    from napari_boxprompt.api import predict as predict_images
    from napari_boxprompt.ranking import plane_scores

    count, warned = _Count(len(planes)), list[str]()

    yield count.progress()
    try:
        for prediction in predict_images(
            model,
            images,
            planes,
            on_tile=_watched(stop, on_tile),
            disagreement=disagreement,
            on_error=on_error or count.lose,
            on_warning=warned.append,
        ):
            while warned:
                yield Caution(warned.pop())
            count.done += 1
            yield Found(prediction, plane_scores(prediction, model.model.object_area))
            yield count.progress(str(prediction.plane))
            if stop.is_set():
                break
    except _StoppedError:
        pass
    yield from count.end(stop)
    return count.done


def predict_files(
    stop: Stop, model: TrainedModel, source: str | Path, out: str | Path
) -> Generator[Event, None, ResultWriter]:
    """Segment image files and write masks, objects and a table beside each other.

    Returns
    -------
    ResultWriter
        It knows what was written, also of the image that was at work when this was stopped, and what was
        left out.
    """
    from napari_boxprompt.outputs import ResultWriter, prepare_results

    images, folder, left_out = prepare_results(source, out)
    classes, overlap = model.model.classes, not model.model.exclusive
    with ResultWriter(folder, images, classes, overlap=overlap, left_out=left_out) as writer:
        for event in predict(stop, model, images, images.planes, on_error=writer.leave_out):
            if isinstance(event, Found):
                writer.add(event.prediction)
            else:
                yield replace(event, total=writer.planes) if isinstance(event, Progress) else event
    return writer
