"""Settings of a project that another version wrote; the others are shown in `test_project_desk`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("napari", reason="napari is not installed")

from psygnal import Signal

from napari_boxprompt.config import make_config
from napari_boxprompt.gui.project_settings import ProjectSettings


class Projects:
    """One that is opened, as far as its settings go."""

    opened = Signal()

    def __init__(self, settings: dict[str, Any]) -> None:
        self.project = SimpleNamespace(settings=settings)


@pytest.mark.parametrize(
    ("group", "key", "words"),
    [
        ("loss", "sharpness", ["have 'loss.sharpness', not known", "pip install -U napari-boxprompt"]),
        (None, "steps", ["are not known here"]),
    ],
)
def test_settings_of_another_version_are_named(
    said: list[str], group: str | None, key: str, words: list[str]
) -> None:
    taken: list[object] = []
    settings = make_config().model_dump(mode="json")
    (settings if group is None else settings[group])[key] = -1
    projects = Projects(settings)
    shown = ProjectSettings(cast("Any", SimpleNamespace(take=taken.append)))
    shown.follow(cast("Any", projects))
    projects.opened.emit()
    assert not taken
    (message,) = said
    assert all(word in message for word in words)
    assert message.endswith("pip install -U napari-boxprompt.") == (group is not None)
