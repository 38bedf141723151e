"""Runs trainings for the viewer and remembers how long things take here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from psygnal import Signal

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.work import Glimpse, Trained, TrainingTask, time_machine, train

if TYPE_CHECKING:
    from napari_boxprompt.api import Timings
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.events import Progress
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.preview import Preview
    from napari_boxprompt.gui.renaming import Renaming
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.work import Encoders

__all__ = ["Trainer"]

JOB, TIMING = "training", "timing"


class Trainer:
    """One training at a time.

    Parameters
    ----------
    session, jobs, encoders, preview
        See the classes.

    Attributes
    ----------
    started : psygnal.Signal
        Emitted with the settings of a training that begins.
    event : psygnal.Signal
        Emitted with each event of it.
    ended : psygnal.Signal
        Emitted with a `Trained`, or None where nothing came of it.
    timed : psygnal.Signal
        The speed of this machine is known.
    stop_asked : psygnal.Signal
        Work was asked to stop, perhaps this one.
    """

    started = Signal(object)
    event = Signal(object)
    ended = Signal(object)
    timed = Signal()
    stop_asked = Signal()

    def __init__(self, session: Session, jobs: Jobs, encoders: Encoders, preview: Preview) -> None:
        self._session, self._jobs, self._encoders, self._preview = session, jobs, encoders, preview
        self._timings: dict[tuple[str, str], Timings] = {}
        self._result: Trained | None = None
        self.last: TrainingTask | None = None
        self._renamings: list[Renaming] = []  # since a training began
        session.renamed.connect(self._on_renamed)
        jobs.stop_asked.connect(self.stop_asked.emit)
        jobs.leaving.connect(self._leave)

    @property
    def running(self) -> bool:
        """Whether a training runs."""
        return self._jobs.running(JOB)

    @property
    def stopping(self) -> bool:
        """Whether a training runs that was asked to stop."""
        return self._jobs.stopping(JOB)

    def start(self, config: TrainConfig, *, go_on: bool = False) -> None:
        """Train on all boxes and accepted planes.

        Parameters
        ----------
        config : TrainConfig
            Settings.
        go_on : bool
            Start from the weights of the present model.

        Raises
        ------
        BoxPromptError
            A training runs already, or the boxes do not suffice.
        """
        if self.running:
            raise BoxPromptError("A training is running; stop it first, or wait until it is done.")
        for drawn in self._session.box_layers:
            drawn.look()
        self._session.lessons.check()
        self._session.lessons.forget()  # accepted planes may have been painted on
        images, boxes = self._session.training_set()
        masks = self._session.lessons.masks(boxes, self._session.drawn)
        trained = self._session.trained
        previous = None if trained is None else trained.model
        start = previous if go_on else None
        task = TrainingTask(images, boxes, config, self._session.contrast, start, masks, previous)
        self._result, self._renamings = None, []
        self._preview.begin_training()
        self.last = task
        self._jobs.start(
            JOB,
            partial(train, task=task, encoders=self._encoders, shown=lambda: self._session.plane),
            on_event=self._on_event,
            on_result=self._on_result,
            on_end=self._on_end,
        )
        self.started.emit(config)

    def stop(self) -> None:
        """Stop and keep the best so far."""
        self._jobs.stop(JOB)

    def _leave(self) -> None:
        """The dock goes away: let a training that runs stop, and leave its model for the next dock."""
        left = self._session.left

        def keep(result: Trained | None) -> None:
            if result is None:
                return
            model = self._renamed(result).model
            left.trained = model
            if left.arrived is not None:
                left.arrived(model)
            show_info(
                f"The training was stopped as its dock was closed. What it learnt in {result.steps} steps "
                "is kept: open Box prompt again in this window."
            )

        if self.running:
            self._jobs.let_go(JOB, keep)

    def estimate(self, config: TrainConfig) -> float | None:
        """Seconds a training with these settings takes here, None while that is not known."""
        timings = self._timings.get((config.model, config.device))
        if timings is None:
            return None
        from napari_boxprompt.api import estimate_seconds

        try:
            images, boxes = self._session.training_set()
            return float(estimate_seconds(images, boxes, config, timings))
        except BoxPromptError:
            return None

    def estimate_prediction(self) -> float | None:
        """Seconds that all planes of the image take with the present model, None while that is not known."""
        view, trained = self._session.view, self._session.trained
        if view is None or trained is None:
            return None
        config = trained.model.config
        timings = self._timings.get((config.model, config.device))
        if timings is None:
            return None
        from napari_boxprompt.api import estimate_prediction

        images = view.images()
        return float(estimate_prediction(images, images.planes, trained.model, timings))

    @property
    def stepping(self) -> float | None:
        """Seconds that the steps of the last training take here, None while that is not known."""
        task = self.last
        timings = None if task is None else self._timings.get((task.config.model, task.config.device))
        if task is None or timings is None:
            return None
        return task.config.steps * timings.step * len(task.boxes.classes)

    def time(self, config: TrainConfig) -> None:
        """Measure the speed of this machine in the background, once for each model."""
        key = (config.model, config.device)
        if key in self._timings or self._jobs.running(TIMING) or self.running:
            return

        def keep(timings: Timings | None) -> None:
            if timings is not None:
                self._timings[key] = timings
                self.timed.emit()

        self._jobs.start(
            TIMING, partial(time_machine, encoders=self._encoders, config=config), on_result=keep
        )

    def _on_event(self, event: object) -> None:
        if isinstance(event, Glimpse):
            if event.plane == self._session.plane:
                self._preview.glimpse(event.plane, event.mask)
            return
        if isinstance(event, Trained):  # what there is, before the error that ends the training
            self._on_result(event)
            return
        self.event.emit(event)

    def _on_renamed(self, renaming: Renaming) -> None:
        if self.running:
            self._renamings.append(renaming)

    def _on_result(self, result: Trained | None) -> None:
        if result is None:
            show_info("Stopped before the first training step; there is nothing to keep. Your boxes stay.")
            return
        self._result = result = self._renamed(result)
        self._learn_speed(result)
        self._session.set_model(result.model)
        if result.stopped:
            show_info(f"Stopped after {result.steps} steps; the best of this training is kept.")

    def _renamed(self, result: Trained) -> Trained:
        """Let the model follow what classes were called since it began."""
        for renaming in self._renamings:
            result = replace(result, model=renaming.trained(result.model))
        return result

    def _learn_speed(self, result: Trained) -> None:
        """What a real training took is a better guide than a test of a second."""
        model = result.model.model
        key = (model.config.model, model.config.device)
        if key in self._timings and "train" in result.seconds and result.steps:
            step = result.seconds["train"] / result.steps / len(model.classes)
            self._timings[key] = replace(self._timings[key], step=step)
            self.timed.emit()

    def _on_end(self) -> None:
        self._preview.paused = False
        self._preview.request()
        self.ended.emit(self._result)


def time_left(progress: Progress, elapsed: float) -> float | None:
    """Seconds until a phase is done, from what has been done so far; None at its start."""
    if progress.done < 1 or progress.total <= progress.done:
        return None if progress.done < 1 else 0.0
    return elapsed / progress.done * (progress.total - progress.done)
