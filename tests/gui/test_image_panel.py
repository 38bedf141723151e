"""Step 1: which image, which channel, which contrast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

import dask.array
from napari.layers import Image
from pytestqt.qtbot import QtBot
from tests.gui.conftest import TIMEOUT, Panel

from napari_boxprompt.gui import image_panel
from napari_boxprompt.gui.histogram import Bars
from napari_boxprompt.gui.image_panel import ImagePanel
from napari_boxprompt.gui.jobs import Jobs
from napari_boxprompt.normalization import Normalization


@pytest.fixture
def panel(make_panel: Callable[..., Panel[ImagePanel]]) -> Panel[ImagePanel]:
    return make_panel(ImagePanel)


def names(panel: ImagePanel) -> list[str]:
    return [panel.layers.itemText(row) for row in range(panel.layers.count())]


def choose(panel: ImagePanel, name: str) -> None:
    row = panel.layers.findText(name)
    panel.layers.setCurrentIndex(row)
    panel.layers.activated.emit(row)  # as when the user picks it


def test_the_size_of_an_image_may_come_from_its_affine(panel: Panel[ImagePanel]) -> None:
    place = {"affine": np.diag([2, 0.5, 0.5, 1]), "units": ("um",) * 3}
    panel.viewer.add_image(np.zeros((3, 128, 160), np.uint8), name="placed", **place)
    assert panel.widget.size.text() == "64 x 80 µm"


def test_the_list_follows_the_layers(panel: Panel[ImagePanel]) -> None:
    viewer, box = panel.viewer, panel.widget
    assert names(box) == []
    first = viewer.add_image(
        np.zeros((3, 40, 50), np.uint8), name="first", scale=(2, 0.5, 0.5), units=("um",) * 3
    )
    viewer.add_labels(np.zeros((40, 50), int), name="no image")
    viewer.add_image(np.zeros((60, 64, 3), np.uint8), name="second", rgb=True)
    assert names(box) == ["first", "second"]
    assert box.layers.currentText() == "second", "made active, with no boxes on the other"
    assert box.summary == "1 plane of 60 x 64 · RGB"
    assert box.size.isHidden(), "pixels"
    choose(box, "first")
    assert panel.session.view is not None
    assert panel.session.view.layer == first
    assert not box.size.isHidden()
    assert box.size.text() == "20 x 25 µm"
    assert box.summary == "3 planes of 40 x 50, z · uint8"
    assert box.choose.isHidden()
    first.name = "renamed"
    assert box.layers.currentText() == "renamed"
    viewer.layers.remove(first)
    assert names(box) == ["second"]
    assert box.layers.currentText() == "second"
    viewer.layers.clear()
    assert box.summary == "no image"
    assert not box.empty.isHidden()


def test_a_selected_image_that_is_not_worked_on_is_named(panel: Panel[ImagePanel]) -> None:
    viewer, box = panel.viewer, panel.widget
    first = viewer.add_image(np.zeros((3, 40, 50), np.uint8), name="first")
    boxes = panel.session.new_boxes_layer()
    boxes.shapes.add_rectangles(np.array([[0, 5, 5], [0, 5, 20], [0, 20, 20], [0, 20, 5]], float))
    assert box.take_aside.parentWidget().isHidden()
    second = viewer.add_image(np.zeros((3, 40, 50), np.uint8), name="second")
    assert panel.session.view is not None
    assert panel.session.view.layer == first, "a click on another layer does not leave the boxes"
    assert not box.take_aside.parentWidget().isHidden()
    assert box.aside.text() == "“second” is selected, but boxes are drawn on “first”."
    viewer.layers.selection.active = boxes.shapes
    assert box.take_aside.parentWidget().isHidden()
    viewer.layers.selection.active = second
    box.take_aside.click()
    assert panel.session.view.layer == second
    assert box.take_aside.parentWidget().isHidden()
    assert boxes.shapes.nshapes == 1


def seen(panel: Panel[ImagePanel]) -> set[str]:
    return {layer.name for layer in panel.viewer.layers if layer.visible}


@pytest.fixture
def pile(panel: Panel[ImagePanel]) -> Panel[ImagePanel]:
    """Three images over each other; the lowest and the second have boxes and are complete."""
    viewer, session = panel.viewer, panel.session
    for name in ("low", "middle", "top"):
        viewer.add_image(np.zeros((40, 50), np.uint8), name=name)
    viewer.add_points([[5, 5]], name="mine")
    for name in ("low", "middle"):
        session.choose_image(viewer.layers[name])
        boxes = session.new_boxes_layer()
        boxes.shapes.add([[3, 4], [20, 30]], shape_type="rectangle")
        boxes.toggle_complete(session.plane)
    return panel


def test_a_chosen_image_comes_into_sight_with_its_layers(pile: Panel[ImagePanel]) -> None:
    active = pile.viewer.layers.selection.active
    assert active == pile.viewer.layers["middle boxes"]
    choose(pile.widget, "middle")
    assert seen(pile) == {"middle", "middle boxes", "middle complete", "mine"}
    assert pile.viewer.layers.selection.active == active
    assert active.mode == "add_rectangle"
    choose(pile.widget, "low")
    assert seen(pile) == {"low", "low boxes", "low complete", "mine"}
    assert pile.viewer.layers.selection.active == pile.viewer.layers["low boxes"]
    choose(pile.widget, "top")
    assert seen(pile) == {"top", "mine"}
    pile.viewer.layers["middle"].visible = True
    pile.viewer.layers["top"].visible = False
    choose(pile.widget, "middle")
    assert seen(pile) == {"middle", "middle boxes", "middle complete", "mine"}, "as it was alone, but bare"


def test_an_image_of_the_notice_comes_into_sight(pile: Panel[ImagePanel]) -> None:
    viewer = pile.viewer
    viewer.layers.selection.active = viewer.layers["low"]
    everything = {layer.name for layer in viewer.layers}
    assert seen(pile) == everything, "it is only selected"
    pile.widget.take_aside.click()
    assert seen(pile) == {"low", "low boxes", "low complete", "mine"}


def test_only_the_user_brings_an_image_into_sight(pile: Panel[ImagePanel]) -> None:
    viewer, everything = pile.viewer, {layer.name for layer in pile.viewer.layers}
    pile.session.choose_image(viewer.layers["low"])
    viewer.layers.selection.active = viewer.layers["middle boxes"]
    assert pile.session.view is not None
    assert pile.session.view.name == "middle"
    pile.widget.refresh()
    viewer.add_image(np.zeros((40, 50), np.uint8), name="fresh")
    assert seen(pile) == {*everything, "fresh"}


def test_the_choice_of_a_channel_hides_nothing(panel: Panel[ImagePanel]) -> None:
    viewer, box = panel.viewer, panel.widget
    viewer.add_image(np.zeros((2, 40, 50), np.uint8), name="channels")
    viewer.add_image(np.zeros((40, 50), np.uint8), name="over it")
    panel.session.choose_image(viewer.layers["channels"])
    box.channel_axis.setCurrentIndex(1)
    box.channel_axis.activated.emit(1)
    assert panel.session.view is not None
    assert panel.session.view.channel_axis == 0
    assert seen(panel) == {"channels", "over it"}


def test_an_image_that_cannot_be_used_hides_nothing(pile: Panel[ImagePanel], said: list[str]) -> None:
    pile.viewer.add_image(np.zeros((3, 50), np.uint8), name="too small")
    before = seen(pile)
    choose(pile.widget, "too small")
    assert len(said) == 1
    assert seen(pile) == before


def test_images_beside_each_other_and_channels_stay_in_sight(panel: Panel[ImagePanel]) -> None:
    viewer = panel.viewer
    viewer.add_image(np.zeros((2, 40, 50), np.uint8), channel_axis=0, name=["red", "green"])
    viewer.add_image(np.zeros((40, 50), np.uint8), name="beside", translate=(0, 50))
    for name in ("red", "green", "beside"):
        choose(panel.widget, name)
        assert seen(panel) == {"red", "green", "beside"}
    viewer.layers["green"].blending = "translucent"
    choose(panel.widget, "red")
    assert seen(panel) == {"red", "beside"}


@pytest.mark.parametrize("there", [True, False])
def test_the_button_names_the_sample_that_it_opens(
    there: bool, make_panel: Callable[..., Panel[ImagePanel]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_panel, "has_nuclei", lambda: there)
    panel = make_panel(ImagePanel)
    button = panel.widget.sample
    assert button.text() == ("Open the nuclei sample" if there else "Open the synthetic cells")
    assert ("pip install" in button.toolTip()) != there


def test_an_image_that_cannot_be_used_is_refused_in_a_sentence(
    panel: Panel[ImagePanel], said: list[str]
) -> None:
    viewer, box = panel.viewer, panel.widget
    viewer.add_image(np.zeros((40, 50), np.uint8), name="good")
    panel.session.new_boxes_layer().shapes.add(np.array([[2, 2], [9, 9]]), shape_type="rectangle")
    viewer.add_image(np.zeros((3, 50), np.uint8), name="too small")
    choose(box, "too small")
    assert len(said) == 1
    assert "too small" in said[0]
    assert panel.session.view is not None
    assert panel.session.view.name == "good"
    assert box.layers.currentText() == "good"


def test_the_only_image_is_not_shown_as_chosen_where_it_cannot_be_used(panel: Panel[ImagePanel]) -> None:
    viewer, box = panel.viewer, panel.widget
    viewer.add_image(np.zeros((40, 24, 50), np.uint8), name="thin")
    assert names(box) == ["thin"]
    assert box.layers.currentIndex() == -1
    assert not box.refused.isHidden()
    assert box.refused.text().startswith("thin is 24 x 50 pixels; both sides must be at least 32")
    assert box.choose.isHidden()
    viewer.dims.order = (1, 0, 2)
    assert box.layers.currentText() == "thin"
    assert box.refused.isHidden()
    viewer.dims.order = (2, 0, 1)
    assert box.layers.currentText() == "thin", "the planes shown before are still worked on"
    assert box.refused.text().startswith("The planes of thin on screen cannot be used: they are 40 x 24")
    viewer.layers.clear()
    assert box.refused.isHidden()


def test_an_active_image_that_cannot_be_used_is_not_worked_on(panel: Panel[ImagePanel]) -> None:
    viewer, box = panel.viewer, panel.widget
    viewer.add_image(np.zeros((40, 50), np.uint8), name="good")
    viewer.add_image(np.zeros((3, 50), np.uint8), name="small")
    assert box.layers.currentText() == "good"
    assert box.aside.text() == "“small” is selected, but the work is on “good”."


def test_a_channel_is_chosen(panel: Panel[ImagePanel]) -> None:
    viewer, box = panel.viewer, panel.widget
    values = np.zeros((4, 2, 40, 50), np.uint8)
    values[:, 1] = 7
    viewer.add_image(values, name="two")
    choices = [box.channel_axis.itemText(row) for row in range(box.channel_axis.count())]
    assert choices == ["none", "axis t (4)", "axis z (2)"]
    assert box.channel.isHidden()
    box.channel_axis.setCurrentIndex(2)
    box.channel_axis.activated.emit(2)
    box.channel.setValue(1)
    view = panel.session.view
    assert view is not None
    assert (view.channel_axis, view.channel, view.count) == (1, 1, 4)
    assert view.images().read(view.images().planes[0]).max() == 7
    assert not box.channel.isHidden()
    assert box.channel.maximum() == 1


def test_the_contrast_is_shown_and_can_be_set(panel: Panel[ImagePanel], qtbot: QtBot) -> None:
    viewer, box, session = panel.viewer, panel.widget, panel.session
    layer = viewer.add_image(np.arange(2000, dtype=np.uint16).reshape(40, 50), name="ramp")
    assert box.limits.text() == "measuring …"
    assert not box.slider.isEnabled()
    session.set_contrast(Normalization(low=(10.0,), high=(1500.0,), gamma=0.5), manual=False)
    assert box.slider.isEnabled()
    assert box.slider.value() == (10.0, 1500.0)
    assert box.limits.text().startswith("10 to 1500")
    assert box.limits.text().endswith("brightened (gamma 0.5)")
    assert "objects in your boxes are dark" in box.limits.toolTip()
    assert not session.contrast_is_manual, "to show a value is not to set it"

    box.slider.setValue((100.0, 900.0))
    assert session.contrast_is_manual
    assert session.contrast is not None
    assert (session.contrast.low, session.contrast.high) == ((100.0,), (900.0,))
    assert session.contrast.gamma == 0.5
    assert box.limits.text().endswith(" · gamma 0.5"), "it is the user's own now"

    layer.contrast_limits, layer.gamma = (200, 800), 1.5
    box.like_layer.click()
    assert (session.contrast.low, session.contrast.high) == ((200.0,), (800.0,))
    assert session.contrast.gamma == 1.5
    box.auto.click()
    assert session.contrast is None
    assert not session.contrast_is_manual
    assert box.limits.text() == "measuring …"


def test_the_sample_is_asked_for(panel: Panel[ImagePanel], qtbot: QtBot) -> None:
    with qtbot.waitSignal(panel.widget.sample_wanted, timeout=1000):
        panel.widget.sample.click()


@pytest.mark.parametrize(
    ("length", "label", "offered"),
    [(40, None, True), (65, None, False), (65, "z", False), (100, "c", True), (100, "Channel", True)],
)
def test_a_long_axis_of_channels_is_offered(
    length: int, label: str | None, offered: bool, panel: Panel[ImagePanel]
) -> None:
    values = np.zeros((length, 40, 50), np.uint8)
    values[length - 1] = 7
    labels = {} if label is None else {"axis_labels": (label, "y", "x")}
    panel.viewer.add_image(values, name="many", **labels)
    box = panel.widget
    assert panel.session.view is not None
    assert panel.session.view.channel_axis is None, "offered only: planes stay planes"
    assert (box.channel_axis.count() == 2) == offered
    if offered:
        box.channel_axis.setCurrentIndex(1)
        box.channel_axis.activated.emit(1)
        box.channel.setValue(length - 1)
        view = panel.session.view
        assert (view.channel_axis, view.channel, view.count) == (0, length - 1, 1)
        assert view.images().read(view.images().planes[0]).max() == 7


def test_bars_show_how_many_pixels_are_how_bright(
    make_panel: Callable[..., Panel[Any]], qtbot: QtBot
) -> None:
    panel = make_panel(ImagePanel, lambda _: Jobs())
    bars = panel.widget.bars
    image = np.full((3, 40, 50), 10, np.uint8)
    image[:, :4] = 200
    layer = panel.viewer.add_image(image, name="cells", contrast_limits=(0, 255))
    assert not bars.heights.any(), "nothing is read before the contrast is known"
    panel.session.set_contrast(Normalization(low=(10,), high=(200,)), manual=False)
    qtbot.waitUntil(lambda: bool(bars.heights.any()), timeout=TIMEOUT)
    dark, bright = np.flatnonzero(bars.heights)
    assert bars.heights[dark] == 1
    assert bars.heights[bright] == pytest.approx((1 / 9) ** 0.5), "a tenth of the pixels, as a square root"
    assert bright > 3 * dark
    layer.data = np.full((3, 40, 50), 100, np.uint8)
    panel.session.set_contrast(Normalization(low=(10,), high=(201,)), manual=False)
    qtbot.waitUntil(lambda: np.count_nonzero(bars.heights) == 1, timeout=TIMEOUT)
    picture = _picture(bars)
    painted = (picture != picture[0, 0]).any(axis=2)
    assert painted.any(axis=0).sum() == pytest.approx(painted.shape[1] / 64, abs=3), "one bar"
    accent = np.array([0x0B, 0x72, 0xD0])
    assert (np.abs(picture[painted].astype(int) - accent) < 40).all(), "the model sees it"


def test_bars_keep_no_image_that_is_gone(make_panel: Callable[..., Panel[Any]], qtbot: QtBot) -> None:
    panel = make_panel(ImagePanel, lambda _: Jobs())
    layer = panel.viewer.add_image(np.arange(6000, dtype=float).reshape(3, 40, 50), name="cells")
    panel.session.set_contrast(Normalization(low=(0,), high=(6000,)), manual=False)
    qtbot.waitUntil(lambda: bool(panel.widget.bars.heights.any()), timeout=TIMEOUT)
    reading = panel.widget._brightness
    assert reading._pixels is layer.data
    panel.viewer.layers.clear()
    assert reading._pixels is None
    assert reading._view is None


def test_pixels_that_cannot_be_read_have_no_bars(
    make_panel: Callable[..., Panel[Any]], qtbot: QtBot, said: list[str]
) -> None:
    jobs = Jobs()
    panel = make_panel(ImagePanel, lambda _: jobs)

    def fail(_: object) -> None:
        raise OSError("the drive is gone")

    lost = dask.array.map_blocks(fail, dask.array.zeros((3, 40, 50)), dtype=float, meta=np.empty((0, 0, 0)))
    panel.viewer.add_layer(Image(lost, name="lost", contrast_limits=(0, 1), visible=False))
    panel.session.set_contrast(Normalization(low=(0,), high=(1,)), manual=False)
    qtbot.waitUntil(lambda: not jobs.names, timeout=TIMEOUT)
    assert not panel.widget.bars.heights.any()
    assert not said


def _picture(bars: Bars) -> np.ndarray:
    bars.resize(300, 28)
    image = bars.grab().toImage()
    colors = [[image.pixel(x, y) for x in range(image.width())] for y in range(image.height())]
    return np.array(colors, np.uint32)[..., None] >> np.array([16, 8, 0]) & 255
