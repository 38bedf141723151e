"""Masks of a project put together for layers: numbers, classes, areas, and whose work they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

pytest.importorskip("napari", reason="napari is not installed")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)

from napari.components import ViewerModel
from tests.gui.test_project_work import done

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.gui.kept import WORK, Counts, KeptImage, areas_of, read_kept
from napari_boxprompt.gui.layers import PlaneView
from napari_boxprompt.gui.result_book import ResultBook
from napari_boxprompt.project import Project

SHAPE = (4, 40, 50)
COLORS = {"a": (1.0, 0.0, 0.0, 1.0), "b": (0.0, 0.0, 1.0, 1.0)}


def plane(z: int) -> PlaneId:
    return PlaneId("stack.tif", (z,))


def labels(*numbers: int) -> npt.NDArray[np.uint16]:
    """Objects of 4 x 5 pixels side by side."""
    made = np.zeros(SHAPE[1:], np.uint16)
    for i, number in enumerate(numbers):
        made[4:8, 6 * i : 6 * i + 5] = number
    return made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    tifffile.imwrite(tmp_path / "stack.tif", np.ones(SHAPE, np.uint8), photometric="minisblack")
    with Project.create(tmp_path / "project", tmp_path / "stack.tif", classes=["a", "b"]) as project:
        yield project


@pytest.fixture
def read(project: Project) -> Callable[..., KeptImage]:
    def all_of_it(troubles: list[str] | None = None) -> KeptImage:
        said = [] if troubles is None else troubles
        kept = done(read_kept(project, "stack.tif", project.images.planes, said))
        assert kept is not None
        return kept

    return all_of_it


def test_numbers_stay_unless_they_clash(project: Project, read: Callable[..., KeptImage]) -> None:
    project.paint(plane(0), labels(3, 7), classes={3: "a", 7: "b"}, status="predicted")
    project.paint(plane(1), labels(8), classes={8: "b"}, status="predicted")
    project.paint(plane(3), labels(7, 1), classes={7: "a"}, status="corrected")
    kept = read()
    (layer,) = kept.layers
    np.testing.assert_array_equal(layer.labels[:3], [labels(3, 7), labels(8), labels()])
    np.testing.assert_array_equal(layer.labels[3], labels(15, 9))
    assert kept.same == {plane(0), plane(1)}
    assert kept.masked == {(0,), (1,), (3,)}
    assert layer.table.classes == {3: "a", 7: "b", 8: "b", 15: "a", 9: "a"}
    assert layer.counts == {(0,): Counts(2, 0), (1,): Counts(1, 0), (3,): Counts(2, 0)}
    assert (layer.made[3,], layer.made[0,] == WORK) == (WORK, False)
    assert layer.table.features()["area"].tolist() == [0, *[20] * 5]


def test_classes_that_overlap_have_a_layer_each(project: Project, read: Callable[..., KeptImage]) -> None:
    project.set_classes(["a", "b"], exclusive=False)
    project.paint(plane(0), labels(3, 7), classes={3: "a", 7: "b"}, status="predicted")
    first, second = read().layers
    assert (first.only, second.only) == ("a", "b")
    np.testing.assert_array_equal(first.labels[0], labels(3))
    np.testing.assert_array_equal(second.labels[0], labels(0, 7))


def test_one_mask_of_classes_that_overlap_divides_all(
    project: Project, read: Callable[..., KeptImage]
) -> None:
    project.paint(plane(0), labels(3, 7), classes={3: "a", 7: "b"}, status="predicted")
    both = np.stack([labels(1), labels(2)])
    project.paint(plane(2), both, classes={1: "a", 2: "b"}, status="accepted")
    assert project.exclusive
    project.save()
    next((project.folder / "masks").rglob("*plane-0000*")).write_bytes(b"")
    troubles: list[str] = []
    first, second = read(troubles).layers
    np.testing.assert_array_equal([first.labels[2], second.labels[2]], both)
    assert len(troubles) == 1, "what is read twice is told once"


def test_a_result_takes_what_was_kept_as_it_is(project: Project, read: Callable[..., KeptImage]) -> None:
    project.paint(plane(0), labels(3, 7), classes={3: "a", 7: "b"}, status="predicted")
    project.paint(plane(3), labels(9), classes={9: "b"}, status="accepted")
    viewer = ViewerModel()
    layer = viewer.add_image(np.ones(SHAPE), name="stack")
    kept = read()
    result = ResultBook(viewer).restore(PlaneView.from_viewer(layer, viewer), COLORS, kept.layers)
    here = [PlaneId("stack", (z,)) for z in range(4)]
    assert np.shares_memory(result.layer.data, kept.layers[0].labels), "hundreds of megabytes are not copied"
    assert [result.is_work(one) for one in here] == [False, False, False, True]
    assert result.counts == {here[0]: Counts(2, 0), here[3]: Counts(1, 0)}
    assert result.layer.features["class"].tolist() == ["", "a", "b", "b"]
    np.testing.assert_allclose(result.layer.get_color(9)[:2], 0, atol=0.5)
    result.plane(here[0])[20:] = 3
    assert result.is_work(here[0])


def test_areas() -> None:
    assert areas_of(labels(2, 5)) == {2: 20, 5: 20}
    assert areas_of(labels()) == {}
