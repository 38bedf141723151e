"""The command line ``boxprompt``."""

from __future__ import annotations

import sys

__all__ = ["main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Entry point of the console script."""
    try:
        # Here, because whoever presses Ctrl-C while this takes its time wants no traceback either.
        from napari_boxprompt.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before anything was done.\n")
        raise SystemExit(INTERRUPTED) from None
