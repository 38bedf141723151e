"""Settings of a project: shown in the widget when it is opened, told when it is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from pydantic import ValidationError

from napari_boxprompt.config import TrainConfig
from napari_boxprompt.errors import BoxPromptError, unknown_key
from napari_boxprompt.gui.settings import plugin_settings

if TYPE_CHECKING:
    from napari_boxprompt.gui.projects import Projects
    from napari_boxprompt.gui.train_panel import TrainPanel

__all__ = ["ProjectSettings"]


class ProjectSettings:
    """Goes between a project and the step Train.

    Parameters
    ----------
    panel : TrainPanel
        Has the form.
    """

    def __init__(self, panel: TrainPanel) -> None:
        self._panel = panel
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
            except ValidationError as error:
                unknown = unknown_key(error)
                reason = "are not known here" if unknown is None else f"have '{unknown}', not known here"
                hint = (
                    "" if unknown is None else " To get the newest version: pip install -U napari-boxprompt."
                )
                show_warning(f"The training settings of the project {reason}; the usual ones are used.{hint}")
            else:
                # The next computer may have no graphics card.
                self._panel.take(config.model_copy(update={"device": plugin_settings().device}))
