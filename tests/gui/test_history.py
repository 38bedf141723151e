"""Undo and redo over whole states."""

from hypothesis import given
from hypothesis import strategies as st

from napari_boxprompt.gui.history import History


def test_undo_and_redo_walk_along_the_line() -> None:
    history = History(0)
    for state in (1, 2, 3):
        assert history.record(state)
    assert [history.undo(), history.undo(), history.undo(), history.undo()] == [2, 1, 0, None]
    assert [history.redo(), history.redo(), history.redo(), history.redo()] == [1, 2, 3, None]


def test_a_new_state_forgets_what_was_undone() -> None:
    history = History("a")
    history.record("b")
    history.undo()
    history.record("c")
    assert not history.can_redo
    assert history.undo() == "a"
    assert history.redo() == "c"


def test_the_same_state_leaves_no_trace() -> None:
    history = History("a")
    assert not history.record("a")
    assert not history.can_undo


def test_the_oldest_states_go_first() -> None:
    history = History(0, depth=3)
    for state in range(1, 10):
        history.record(state)
    assert [history.undo(), history.undo(), history.undo()] == [8, 7, None]


@given(st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["undo", "redo"]))))
def test_it_is_a_list_with_a_place(moves: list[int | str]) -> None:
    history, line, at = History(0), [0], 0
    for move in moves:
        if move == "undo":
            at = max(0, at - 1)
            history.undo()
        elif move == "redo":
            at = min(len(line) - 1, at + 1)
            history.redo()
        elif move != line[at]:
            line, at = [*line[: at + 1], int(move)], at + 1
            history.record(int(move))
        assert history.present == line[at]
        assert (history.can_undo, history.can_redo) == (at > 0, at + 1 < len(line))
