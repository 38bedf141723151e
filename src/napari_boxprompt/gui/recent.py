"""The projects that were open last, in the plugin's preferences."""

from __future__ import annotations

from pathlib import Path

from napari.settings import get_plugin_settings

from napari_boxprompt.gui.settings import PLUGIN

__all__ = ["note_recent", "recent_projects"]

MOST = 8
"""Projects that are remembered."""

_BETWEEN = "|"
"""No system likes this sign in a path, and the preferences hold one line of text."""


def recent_projects() -> list[Path]:
    """Folders of the projects that were open last, the newest first; they may be gone by now."""
    try:
        text = str(get_plugin_settings(PLUGIN).projects.recent)
    except KeyError:  # napari does not know the plugin
        return []
    return [Path(line) for line in text.split(_BETWEEN) if line.strip()]


def note_recent(folder: Path) -> None:
    """Put a project in the first place."""
    kept = [folder, *(other for other in recent_projects() if other != folder)][:MOST]
    try:
        get_plugin_settings(PLUGIN).projects.recent = _BETWEEN.join(map(str, kept))
    except KeyError:
        return
