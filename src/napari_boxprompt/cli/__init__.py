"""The command line ``boxprompt``."""

from napari_boxprompt.cli.app import app, main

__all__ = ["app", "main"]
