"""Each training and each loaded model is kept with the project, and what came of it is written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui import exchange
from napari_boxprompt.gui.project_work import KEEPING, keep_round
from napari_boxprompt.gui.settings import plugin_settings
from napari_boxprompt.project import Round, newest_model

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.projects import Projects
    from napari_boxprompt.gui.renaming import Renaming
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.rounds import RoundBook
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.work import Trained, TrainingTask
    from napari_boxprompt.project import Project
    from napari_boxprompt.prompting import PromptModel

__all__ = ["KeptRounds", "round_of"]


class KeptRounds:
    """Goes between the rounds of the session and those of the project.

    A model is kept as soon as its training ends; the comparison with other models, which takes a while, is
    added to the record when it is there.

    Parameters
    ----------
    projects, book, trainer, session, jobs
        See the classes.
    """

    def __init__(
        self, projects: Projects, book: RoundBook, trainer: Trainer, session: Session, jobs: Jobs
    ) -> None:
        self._projects, self._book, self._trainer = projects, book, trainer
        self._session, self._jobs = session, jobs
        self._kept: dict[int, Round] = {}
        self._judged: dict[int, Round] = {}
        self._newest: Round | None = None
        self._waiting: dict[int, tuple[Round, PromptModel]] = {}  # to be kept, by the number of the round
        self._brought: Round | None = None  # a loaded model that the project gets when it is used in it
        self._open: Project | None = None
        trainer.started.connect(self._on_started)
        trainer.ended.connect(self._on_ended)
        book.recorded.connect(self._on_judged)
        book.revised.connect(self._on_judged)
        book.loaded.connect(self._on_loaded)
        session.renamed.connect(self._on_renamed)
        session.results.filled.connect(self._on_filled)
        projects.made.connect(self._on_made)
        projects.opened.connect(self._on_opened)
        projects.changed.connect(self._on_changed)

    # From the session to the project

    def _on_ended(self, result: Trained | None) -> None:
        task = self._trainer.last
        if result is None or task is None:
            return
        # The book has heard of the training first, and has numbered it.
        self._newest = round_of(self._book.last, result, task)
        self._keep(self._newest, result.model.model)

    def _keep(self, record: Round, model: PromptModel) -> None:
        project = self._projects.project
        if project is not None and not project.read_only:
            self._waiting[record.number] = (record, model)
            self._keep_next(project)

    def _keep_next(self, project: Project) -> None:
        if self._projects.project is not project or not self._waiting or self._jobs.running(KEEPING):
            return
        number, (record, model) = next(iter(self._waiting.items()))

        def kept(found: Round | None) -> None:
            if found is not None and self._projects.project is project:
                self._kept[found.number] = found
                self._settle(found.number)

        def ended() -> None:
            if self._waiting.get(number, (None, None))[1] is model:  # or it has another name meanwhile
                del self._waiting[number]
            self._projects.touch()
            self._keep_next(project)

        work = partial(_keep, project=project, record=record, model=model)
        self._jobs.start(KEEPING, work, on_result=kept, on_end=ended)

    def _on_renamed(self, renaming: Renaming) -> None:
        """Keep models under the new name of a class; the book has renamed them first."""
        for number, model in self._book.models.items():
            record = self._kept.get(number) or self._waiting.get(number, (None,))[0]
            if record is not None and renaming.gave(model):
                self._keep(record, model.model)

    def _on_judged(self, record: Round, _: object = None) -> None:
        self._judged[record.number] = record
        self._settle(record.number)

    def _on_loaded(self, record: Round, model: TrainedModel) -> None:
        if record.number not in self._kept:
            self._keep(record, model.model)

    def _on_filled(self, result: Result, _: object) -> None:
        table = self._projects.table
        if table is not None and self._brought is not None and table.entry_of(result.view) is not None:
            self._keep_brought()

    def _on_started(self, _: object) -> None:
        self._keep_brought()

    def _keep_brought(self) -> None:
        """Keep a model that was loaded before the project was opened: it works here now.

        Not at once: to open a project only to look at it leaves no model in it.
        """
        record, trained, project = self._brought, self._session.trained, self._projects.project
        if record is None or trained is None or project is None or project.read_only:
            return
        self._brought = None
        if record.number == self._book.current:
            self._keep(record, trained.model)

    def _settle(self, number: int) -> None:
        """Replace the record of a kept model by the judged one, when both are there."""
        project, kept, judged = self._projects.project, self._kept.get(number), self._judged.get(number)
        if project is None or project.read_only or kept is None or judged is None:
            return
        changes = {"model": kept.model, "started": kept.started, "seconds": kept.seconds}
        try:
            project.add_round(judged.model_copy(update=changes))
        except BoxPromptError as error:
            show_error(str(error))
        self._projects.touch()

    # From the project to the session

    def _on_opened(self) -> None:
        self._kept, self._judged, self._waiting, self._brought = {}, {}, {}, None
        project = self._projects.project
        if project is None:
            return
        rounds, own, trained = list(project.rounds), self._book.own, self._session.trained
        self._kept = {record.number: record for record in rounds if record.model}
        found = newest_model(rounds, project.folder)
        if found is None and own is not None and trained is not None:
            number = max((record.number for record in rounds), default=0) + 1
            self._brought = own.model_copy(update={"number": number})
            self._book.restore([*rounds, self._brought], {number: trained}, self._brought)
            return
        self._book.restore(rounds)
        if trained is not None:
            # That of other work would predict what nobody has boxed here.
            self._session.set_model(None)
        if found is not None:

            def loaded(model: TrainedModel) -> None:
                if self._projects.project is project:
                    self._book.restore(rounds, {found.number: model})
                    self._session.set_model(model)

            exchange.load_model(self._jobs, project.folder / found.model, plugin_settings(), loaded)

    def _on_made(self) -> None:
        """Take the model of work in progress into a project that was made about it."""
        trained, current = self._session.trained, self._book.current
        judged = {known.number: known for known in self._book.rounds if known.number == current}
        self._kept, self._judged, self._waiting = {}, judged, {}
        record = judged.get(current, self._newest)  # which may be judged only now
        if record is not None and record.number == current and trained is not None:
            self._keep(record, trained.model)

    def _on_changed(self) -> None:
        if self._open is not None and self._projects.project is None:
            self.leave()
        self._open = self._projects.project

    def leave(self) -> None:
        """Forget the rounds of the open project; its model stays in use, as one loaded from there."""
        project, trained = self._open, self._session.trained
        if project is None:
            return
        known, own = (*self._kept.values(), *self._book.rounds), self._book.own
        record = own or next((r for r in known if r.number == self._book.current), Round(number=1))
        self._open, self._kept, self._judged, self._waiting, self._brought = None, {}, {}, {}, None
        if trained is None:
            self._book.restore([])
            return
        source = record.loaded_from or (project.folder / record.model).as_posix()
        record = Round(number=1, loaded_from=source)
        self._book.restore([record], {1: trained}, None if own is None else record)


def round_of(number: int, result: Trained, task: TrainingTask) -> Round:
    """Write down what a training knows of itself."""
    model, seconds = result.model.model, sum(result.seconds.values())
    began = datetime.now(UTC) - timedelta(seconds=seconds)
    scores = model.record.get("validation", {})
    return Round(
        number=number,
        started=began.isoformat(timespec="seconds"),
        seconds=seconds,
        settings=model.config.model_dump(mode="json"),
        boxes=len(task.boxes),
        planes=len(task.boxes.boxed_planes),
        masks=len(task.masks),
        scores={name: float(value) for name, value in scores.items()},
        note="Not compared with other models yet.",
    )


def _keep(stop: Stop, project: Project, record: Round, model: PromptModel) -> Generator[None, None, Round]:
    yield from ()  # what has begun is done, even if the window closes
    return keep_round(project, record, model)
