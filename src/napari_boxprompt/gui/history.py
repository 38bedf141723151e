"""Undo and redo over whole states: what napari's Shapes layer lacks (napari#1382)."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["History"]

State = TypeVar("State")


class History(Generic[State]):
    """A line of states with a place on it.

    States are compared with ``==`` and never changed, so a gesture that changed nothing leaves no trace,
    and events that come twice for one gesture count once.

    Parameters
    ----------
    state : State
        Where the line starts.
    depth : int
        Most states that are kept; the oldest go first.
    """

    def __init__(self, state: State, depth: int = 200) -> None:
        self._states = [state]
        self._at = 0
        self._depth = depth

    @property
    def present(self) -> State:
        """State at the present place."""
        return self._states[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier state."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a later state, left by `undo`."""
        return self._at + 1 < len(self._states)

    def record(self, state: State) -> bool:
        """Put a new state after the present one and drop what was undone; False if nothing changed."""
        if state == self.present:
            return False
        self._states = [*self._states[: self._at + 1], state][-self._depth :]
        self._at = len(self._states) - 1
        return True

    def undo(self) -> State | None:
        """Step back; None at the start of the line."""
        if not self.can_undo:
            return None
        self._at -= 1
        return self.present

    def redo(self) -> State | None:
        """Step forward again; None at the end of the line."""
        if not self.can_redo:
            return None
        self._at += 1
        return self.present
