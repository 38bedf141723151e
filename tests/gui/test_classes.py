"""Classes of boxes."""

import pytest

from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.classes import COLORS, COMPLETE_COLOR, Classes


def test_there_is_always_a_class() -> None:
    assert Classes().names == ("object",)
    assert Classes.named([]).names == ("object",)
    with pytest.raises(BoxError, match="only class"):
        Classes().remove(0)


def test_adding_chooses_the_new_class() -> None:
    classes = Classes.named(["nucleus"]).add(" mitosis ")
    assert classes.names == ("nucleus", "mitosis")
    assert classes.current.name == "mitosis"
    assert classes.choose(7) == classes


@pytest.mark.parametrize("name", ["", "  ", "nucleus"])
def test_a_name_must_be_free(name: str) -> None:
    with pytest.raises(BoxError):
        Classes.named(["nucleus"]).add(name)


def test_renaming_keeps_colour_and_choice() -> None:
    classes = Classes.named(["a", "b"]).choose(1)
    renamed = classes.rename(0, "c")
    assert renamed.names == ("c", "b")
    assert renamed.items[0].color == classes.items[0].color
    assert renamed.current.name == "b"
    assert classes.rename(0, "a") == classes
    with pytest.raises(BoxError, match="already"):
        classes.rename(0, "b")


@pytest.mark.parametrize(("chosen", "removed", "left"), [(0, 0, "b"), (1, 0, "b"), (2, 2, "b"), (2, 0, "c")])
def test_removing_keeps_the_choice_where_it_can(chosen: int, removed: int, left: str) -> None:
    assert Classes.named(["a", "b", "c"]).choose(chosen).remove(removed).current.name == left


def test_colours_differ_and_none_is_that_of_complete() -> None:
    assert len({*COLORS, COMPLETE_COLOR}) == len(COLORS) + 1
    assert Classes.named(["a"]).items[0].hex == COLORS[0]


def test_stored_classes_come_back() -> None:
    classes = Classes.named(["a", "b"]).recolor(1, (1.0, 0.0, 0.0, 1.0))
    restored = Classes.restored(classes.stored(), ["b", "c"])
    assert restored.names == ("a", "b", "c")
    assert restored.items[1].hex == "#ff0000"
    assert Classes.restored((), ["x", "x"]).names == ("x",)
