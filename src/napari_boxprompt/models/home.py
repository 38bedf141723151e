"""The one folder in which downloaded models and computed embeddings are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pooch

__all__ = ["HOME_VARIABLE", "embeddings_folder", "home_folder", "models_folder"]

HOME_VARIABLE = "NAPARI_BOXPROMPT_HOME"
"""Environment variable that names the folder."""


def home_folder() -> Path:
    """Folder of models and embeddings; not created here.

    The environment variable ``NAPARI_BOXPROMPT_HOME`` names it; without it, it is the folder
    ``napari-boxprompt`` in the user's cache folder. The variable is read at every call.
    """
    named = os.environ.get(HOME_VARIABLE, "").strip()
    return Path(named).expanduser() if named else Path(pooch.os_cache("napari-boxprompt"))


def models_folder() -> Path:
    """Folder of weights files."""
    return home_folder() / "models"


def embeddings_folder() -> Path:
    """Folder of image embeddings; it may be deleted at any time."""
    return home_folder() / "embeddings"
