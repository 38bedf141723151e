"""Rounds of a session: trainings that are judged, and models that are loaded. No Qt in here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.backend import load_backend
from napari_boxprompt.project.rounds import Round, verdict

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.events import Progress
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.renaming import Renaming
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.work import Trained
    from napari_boxprompt.images import Images

__all__ = ["RoundBook", "RoundTask", "judge_round"]

JOB = "checking round {}"


@dataclass(frozen=True)
class RoundTask:
    """All that is needed to judge a round.

    Parameters
    ----------
    number, against : int
        Number of the round, and of the round that the model before is of; 0 where it is of none.
    model : TrainedModel
        The new model.
    previous : TrainedModel or None
        The model of the session before.
    images : Images
        What it was trained on.
    drawn : BoxSet
        Boxes that the user has drawn.
    masks : mapping of PlaneId to numpy.ndarray
        Class masks of accepted planes.
    """

    number: int
    against: int
    model: TrainedModel
    previous: TrainedModel | None
    images: Images
    drawn: BoxSet
    masks: Mapping[PlaneId, npt.NDArray[np.uint8]]


def judge_round(stop: Stop, task: RoundTask) -> Generator[Progress, None, Round]:
    """Judge a round, in a worker. A round is recorded even where that fails or is stopped."""
    load_backend()
    from napari_boxprompt.api import Judgement, judge_model
    from napari_boxprompt.judging import round_of

    drawn = task.drawn.restrict(plane for plane in task.drawn.planes if plane in task.images)
    judging = judge_model(task.model, task.images, drawn, task.previous, task.masks)
    found = Judgement(reason="The comparison was stopped.")
    try:
        while not stop.is_set():
            yield next(judging)
    except StopIteration as ended:
        found = ended.value
    except BoxPromptError as error:
        found = Judgement(reason=str(error))
    finally:
        judging.close()
    return round_of(
        task.number,
        task.model.model,
        found,
        against=task.against,
        boxes=len(drawn),
        masks=len(task.masks),
    )


class RoundBook:
    """Rounds of this session, the newest last.

    Parameters
    ----------
    session, jobs, trainer
        See the classes.

    Attributes
    ----------
    recorded : psygnal.Signal
        A training was judged: emitted with its `Round` and its `TrainedModel`.
    changed : psygnal.Signal
        A round is being judged, was judged, or another model was taken.
    revised : psygnal.Signal
        The model before a round was taken back: emitted with its `Round`.
    loaded : psygnal.Signal
        A model was loaded: emitted with its `Round` and the `TrainedModel`.
    """

    recorded = Signal(object, object)
    changed = Signal()
    revised = Signal(object)
    loaded = Signal(object, object)

    def __init__(self, session: Session, jobs: Jobs, trainer: Trainer) -> None:
        self._session, self._jobs, self._trainer = session, jobs, trainer
        self.rounds: list[Round] = []
        self.models: dict[int, TrainedModel] = {}
        """Models that are in memory, by their round: of the newest, and of the one before it."""
        self.loaded_here: Round | None = None
        """The model that the user has loaded last in this session, in whatever project."""
        self._before: TrainedModel | None = None
        self._drawn: BoxSet | None = None
        self._last = 0
        self._judging: set[int] = set()
        trainer.started.connect(self._on_started)
        trainer.ended.connect(self._on_ended)
        # Not `emit` itself: psygnal calls that once to learn its parameters.
        session.model_changed.connect(self._on_model)
        session.renamed.connect(self._on_renamed)

    @property
    def running(self) -> bool:
        """Whether a round is being judged."""
        return bool(self._judging)

    @property
    def last(self) -> int:
        """Number of the last training, judged or not."""
        return self._last

    @property
    def newest(self) -> Round | None:
        """The round of the last training that was judged."""
        return self.rounds[-1] if self.rounds else None

    @property
    def current(self) -> int:
        """Number of the round that the session's model is of; 0 without a model."""
        model = self._session.trained
        return next((number for number, known in self.models.items() if known is model), 0)

    @property
    def own(self) -> Round | None:
        """The model in use, if the user has loaded it in this session; else None."""
        loaded = self.loaded_here
        return loaded if loaded is not None and loaded.number == self.current else None

    @property
    def offered(self) -> int | None:
        """Number of the round before the newest, if that is in use and may be worse; else None."""
        newest = self.newest
        if newest is None or self.current != newest.number or verdict(newest) not in ("worse", "unknown"):
            return None
        return newest.against if newest.against in self.models else None

    def restore(
        self,
        rounds: list[Round],
        models: Mapping[int, TrainedModel] | None = None,
        loaded_here: Round | None = None,
    ) -> None:
        """Take up rounds that were recorded before, for instance in a project.

        Parameters
        ----------
        rounds : list of Round
            Oldest first.
        models : mapping of int to TrainedModel, optional
            Models that are loaded, by the number of their round.
        loaded_here : Round, optional
            That of them which the user has loaded in this session.
        """
        self.rounds, self.loaded_here = list(rounds), loaded_here
        self.models = dict(models or {})
        self._last = max((*self.models, *(record.number for record in rounds)), default=0)
        self.changed.emit()

    def take_back(self) -> None:
        """Make the model of the round before the session's model again.

        Raises
        ------
        BoxPromptError
            There is none to take back, or a training runs.
        """
        number = self.offered
        if number is None:
            raise BoxPromptError("There is no round to take back.")
        if self._trainer.running:
            raise BoxPromptError("A training is running; stop it first, or wait until it is done.")
        self.rounds[-1] = self.rounds[-1].model_copy(update={"taken_back": True})
        self.revised.emit(self.rounds[-1])
        self._session.set_model(self.models[number])

    def take_up(self, model: TrainedModel, folder: str | Path) -> None:
        """Make a loaded model the session's, with a number like that of a round, so that it is kept like one.

        The model that is in use already keeps its number: it may have been loaded anew for another device.
        """
        from napari_boxprompt.bundle import same_model

        number, source = self.current, Path(folder).absolute().as_posix()
        before = self.models.get(number)
        if before is not None and same_model(before.model, model.model):
            # Results know their model by its identity.
            self.models[number] = model = replace(model, model=before.model)
        else:
            self._last += 1
            self.models = {self._last: model} | ({} if before is None else {number: before})
            self.rounds.append(Round(number=self._last, loaded_from=source, against=number))
            number = self._last
        self.loaded_here = Round(number=number, loaded_from=source)
        self._session.set_model(model)
        for record in self.rounds:
            if record.number == number:
                self.loaded.emit(record, model)

    def _on_started(self, _: object) -> None:
        self._before, self._drawn = self._session.trained, self._session.all_boxes()
        away = self._session.lessons.elsewhere
        if away is not None:
            self._drawn = BoxSet.merge([self._drawn, away.drawn])

    def _on_ended(self, trained: Trained | None) -> None:
        task = self._trainer.last
        if trained is None or task is None or self._drawn is None:
            return
        self._last += 1
        before = next((n for n, known in self.models.items() if known is self._before), 0)
        judged = RoundTask(
            self._last, before, trained.model, self._before, task.images, self._drawn, task.masks
        )
        self._keep(judged)
        self._judging.add(judged.number)
        self._jobs.start(
            JOB.format(judged.number),
            partial(judge_round, task=judged),
            on_result=partial(self._on_judged, judged),
            on_end=partial(self._on_judging_ended, judged.number),
        )
        self.changed.emit()

    def _keep(self, task: RoundTask) -> None:
        """Remember the new model and the one that it may have to give way to, and no others."""
        kept = {task.number: task.model}
        if task.previous is not None and task.against:
            kept[task.against] = task.previous
        self.models = kept

    def _on_judged(self, task: RoundTask, record: Round) -> None:
        self.rounds = sorted([*self.rounds, record], key=lambda known: known.number)
        self.recorded.emit(record, task.model)

    def _on_judging_ended(self, number: int) -> None:
        self._judging.discard(number)
        self.changed.emit()

    def _on_model(self) -> None:
        self.changed.emit()

    def _on_renamed(self, renaming: Renaming) -> None:
        self.models = {number: renaming.trained(model) for number, model in self.models.items()}
        self._before = self._before and renaming.trained(self._before)
        self._drawn = self._drawn and renaming.boxes(self._drawn)
