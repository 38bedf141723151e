"""What is said to the user: one sentence at the edge of the window, never a dialog."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from napari.utils.notifications import show_error

from napari_boxprompt.errors import BoxPromptError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["counted", "duration", "told"]

P = ParamSpec("P")
R = TypeVar("R")


def told(action: Callable[P, R]) -> Callable[P, R | None]:
    """Show the sentence of a `BoxPromptError` that an action raises; give None then."""

    @wraps(action)
    def shown(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return action(*args, **kwargs)
        except BoxPromptError as error:
            show_error(str(error))
            return None

    return shown


def counted(number: int, one: str, many: str = "") -> str:
    """Say how many: ``1 plane``, ``3 planes``, ``2 boxes``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Time in words: ``8 s``, ``1 min 20 s``, ``15 min``, ``2 h 5 min``, ``12 h``.

    What says nothing at that length is left out, as there is little room.
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 595:
        minutes, rest = divmod(round(whole, -1), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 600:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{round(minutes / 60)} h"
