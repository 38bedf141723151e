"""All of the dock widget that is about projects, put together."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from napari_boxprompt.gui.elsewhere import Elsewhere
from napari_boxprompt.gui.kept_rounds import KeptRounds
from napari_boxprompt.gui.project_actions import ProjectActions
from napari_boxprompt.gui.project_bar import ProjectBar
from napari_boxprompt.gui.project_settings import ProjectSettings
from napari_boxprompt.gui.projects import Projects
from napari_boxprompt.gui.unopened import Unopened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qtpy.QtWidgets import QWidget

    from napari_boxprompt.gui.widget import BoxPromptWidget

__all__ = ["ProjectPart"]


class ProjectPart:
    """Projects of one dock widget.

    Parameters
    ----------
    widget : BoxPromptWidget
        With its session, jobs, trainer, predictions, rounds, review and step Train.
    """

    def __init__(self, widget: BoxPromptWidget) -> None:
        self.settings = ProjectSettings(widget.train_panel)
        self.projects = Projects(widget.session, widget.jobs, self.settings.now, widget.review.order.reason)
        self.projects.still = partial(_still, widget)
        self.settings.follow(self.projects)
        self.rounds = KeptRounds(self.projects, widget.rounds, widget.trainer, widget.session, widget.jobs)
        self.bar = ProjectBar(self.projects)
        self.elsewhere = widget.session.lessons.away = Elsewhere(widget.session, widget.jobs, self.projects)
        self.unopened = widget.review.away = Unopened(widget.session, self.projects, widget.predicting)
        self.actions = ProjectActions(widget, self.projects)
        self.actions.connect(self.bar)


@contextmanager
def _still(widget: QWidget) -> Iterator[None]:
    """Paint the window once for all layers: napari would for each, and again for each that is selected."""
    window = widget.window()
    window.setUpdatesEnabled(False)
    try:
        yield
    finally:
        window.setUpdatesEnabled(True)
