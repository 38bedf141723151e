"""Every error a user can cause or meet; each message says what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = [
    "WORK_ERRORS",
    "BoxError",
    "BoxPromptError",
    "BundleError",
    "ConfigError",
    "ImageError",
    "ModelError",
    "OutputError",
    "ProjectError",
    "unknown_key",
]


class BoxPromptError(Exception):
    """Base of all errors raised on purpose; its text is one sentence for the user."""


class BoxError(BoxPromptError):
    """Boxes that cannot be read or used: file, coordinates, planes or classes."""


class ImageError(BoxPromptError):
    """An image that cannot be read, or whose shape or type cannot be used."""


class ModelError(BoxPromptError):
    """A frozen model whose weights are missing, damaged, unsafe or of another kind."""


class BundleError(BoxPromptError):
    """A trained model on disk that cannot be read or does not fit its frozen model."""


class ConfigError(BoxPromptError):
    """A setting out of range or settings that exclude each other."""


class OutputError(BoxPromptError):
    """A result that cannot be written: read-only folder, full disk, existing file."""


class ProjectError(BoxPromptError):
    """A labelling project that cannot be read, is written by somebody else, or does not fit its images."""


WORK_ERRORS = (BoxPromptError, MemoryError, OSError, RuntimeError)
"""What ends long work in the middle: a file that is gone, a full disk or memory, also that of a GPU."""


def unknown_key(error: ValidationError) -> str | None:
    """Return the key, with dots, that a newer or another version has put into a file; None if there is none.

    Parameters
    ----------
    error : pydantic.ValidationError
        Of a model that allows no other keys than its own.
    """
    places = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
    return ".".join(map(str, places[0])) if places else None
