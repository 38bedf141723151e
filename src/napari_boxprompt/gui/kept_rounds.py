"""Each training of a project is a round of it: its model is kept, and what it learnt from is written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from napari_boxprompt.gui.project_work import keep_round
from napari_boxprompt.project import Round

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.projects import Projects
    from napari_boxprompt.gui.trainer import Trainer
    from napari_boxprompt.gui.work import Trained, TrainingTask
    from napari_boxprompt.project import Project
    from napari_boxprompt.prompting import PromptModel

__all__ = ["KeptRounds", "round_of"]

KEEPING = "keeping the model"


class KeptRounds:
    """Keeps the model of each training in the project.

    Parameters
    ----------
    projects, trainer, jobs
        See the classes.
    """

    def __init__(self, projects: Projects, trainer: Trainer, jobs: Jobs) -> None:
        self._projects, self._trainer, self._jobs = projects, trainer, jobs
        self._waiting: tuple[Trained, TrainingTask] | None = None
        trainer.ended.connect(self._on_ended)
        projects.made.connect(self._keep_waiting)

    def _on_ended(self, result: Trained | None) -> None:
        if result is not None and self._trainer.last is not None:
            self._waiting = (result, self._trainer.last)
            self._keep_waiting()

    def _keep_waiting(self) -> None:
        """Keep the last training; one that came before its project is made is the first round of it."""
        project = self._projects.project
        if self._waiting is None or project is None or project.read_only:
            return
        result, task = self._waiting
        self._waiting = None
        record = round_of(project.next_round(), result, task)
        work = partial(_keep, project=project, record=record, model=result.model.model)
        self._jobs.start(KEEPING, work, on_end=self._projects.touch)


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
        note="stopped early" if result.stopped else "",
    )


def _keep(stop: Stop, project: Project, record: Round, model: PromptModel) -> Generator[None, None, None]:
    yield
    keep_round(project, record, model)
