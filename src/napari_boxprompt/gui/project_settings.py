"""Settings and model of a project: shown in the widget when it is opened, told when it is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from pydantic import ValidationError

from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui import exchange
from napari_boxprompt.gui.settings import plugin_settings

if TYPE_CHECKING:
    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.projects import Projects
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.train_panel import TrainPanel

__all__ = ["ProjectSettings"]


class ProjectSettings:
    """Goes between a project and the step Train.

    Parameters
    ----------
    session, jobs, panel
        See the classes.
    """

    def __init__(self, session: Session, jobs: Jobs, panel: TrainPanel) -> None:
        self._session, self._jobs, self._panel = session, jobs, panel
        self._projects: Projects | None = None

    def follow(self, projects: Projects) -> None:
        """Show what a project says whenever one is opened."""
        self._projects = projects
        projects.opened.connect(self._show)

    def now(self) -> dict[str, Any] | None:
        """Settings as they stand, None while one is not allowed."""
        try:
            return self._panel.config.model_dump(mode="json")
        except BoxPromptError:
            return None

    def _show(self) -> None:
        project = None if self._projects is None else self._projects.project
        if project is None:
            return
        if project.settings:
            try:
                config = TrainConfig.model_validate(dict(project.settings))
            except ValidationError:
                show_warning(
                    "The training settings of the project are not known here; the usual ones are used."
                )
            else:
                # The next computer may have no graphics card.
                self._panel.take(config.model_copy(update={"device": plugin_settings().device}))
        last = project.rounds[-1] if project.rounds else None
        if last is not None and last.model and (project.folder / last.model).is_dir():
            exchange.load_model(self._session, self._jobs, project.folder / last.model, plugin_settings())
        elif self._session.trained is not None:
            # That of another project would predict what nobody has boxed here.
            self._session.trained = None
            self._session.model_changed.emit()
