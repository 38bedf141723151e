"""Step 4: this plane, some, all, other images, a folder; stopping keeps what is done."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

import tifffile
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QMenu
from tests.gui.conftest import TIMEOUT, Panel

from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.events import Progress
from napari_boxprompt.gui import predicting as module
from napari_boxprompt.gui import segmenting
from napari_boxprompt.gui.jobs import Jobs
from napari_boxprompt.gui.planes import PlaneView
from napari_boxprompt.gui.predict_panel import PredictPanel
from napari_boxprompt.gui.predicting import Predicting
from napari_boxprompt.gui.results import Result

pytestmark = pytest.mark.usefixtures("no_work_left", "tiny_generator")


def stack(planes: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A bright square on each plane, which the model finds."""
    values = np.random.default_rng(0).normal(30, 4, (planes, 96, 112)).clip(0, 255).astype(np.uint8)
    for z in range(planes):
        values[z, 20 + z : 50 + z, 30 : 64 + z] = 200
    return values


@pytest.fixture
def jobs(qtbot: QtBot) -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.close()


@pytest.fixture
def panel(make_panel: Callable[..., Panel[PredictPanel]], jobs: Jobs) -> Panel[PredictPanel]:
    panel = make_panel(PredictPanel, lambda session: Predicting(session, jobs))
    panel.viewer.add_image(stack(), name="stack")
    panel.viewer.dims.set_current_step(0, 1)
    return panel


@pytest.fixture
def ready(panel: Panel[PredictPanel], trained: TrainedModel) -> Panel[PredictPanel]:
    panel.session.set_model(trained)
    return panel


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Hold a prediction at its second plane until this is set."""
    real, event_set = module.predict, threading.Event()

    def slow(stop: Any, **given: Any) -> Any:
        for number, event in enumerate(real(stop, **given)):
            if number == 3:  # the second plane
                event_set.wait(TIMEOUT / 1000)
            yield event

    monkeypatch.setattr(module, "predict", slow)
    return event_set


def choose(panel: Panel[PredictPanel], name: str) -> None:
    """Pick an entry of the menu."""
    (menu,) = panel.widget.more.findChildren(QMenu)
    (action,) = [action for action in menu.actions() if action.text() == name]
    action.trigger()


def end(panel: Panel[PredictPanel], qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not panel.widget._predicting.running, timeout=TIMEOUT)


def newest(panel: Panel[PredictPanel]) -> Result:
    assert panel.session.result is not None
    return panel.session.result


def predicted(panel: Panel[PredictPanel]) -> list[int]:
    return sorted(plane.index[0] for plane in newest(panel).doubts)


def test_a_model_is_waited_for(panel: Panel[PredictPanel], qtbot: QtBot, said: list[str]) -> None:
    widget = panel.widget
    assert not widget.waits.isHidden()
    assert widget.here.isHidden()
    assert widget.summary == "waits for a model"
    with qtbot.waitSignal(widget.load_wanted, timeout=1000):
        widget.load.click()
    assert not widget.all.isEnabled()
    panel.viewer.add_image(stack(2), name="other")
    choose(panel, "Other open images")
    assert said == ["There is no model yet: train one, or load one."]


def test_it_says_beforehand_how_long_all_planes_take(ready: Panel[PredictPanel]) -> None:
    seconds: list[float | None] = [80.0]
    widget = PredictPanel(ready.session, ready.widget._predicting, lambda: seconds[0])
    assert widget.about.isHidden(), "it is asked for when there is a model or an image"
    widget.estimate()
    assert widget.about.text() == "All planes take about 1 min 20 s."
    assert widget.all.text() == "All 4 planes", "a longer one would widen the dock"
    seconds[0] = None
    ready.session.model_changed.emit()
    assert widget.about.isHidden()


def test_planes_one_after_the_other_fill_one_layer(
    ready: Panel[PredictPanel], trained: TrainedModel, qtbot: QtBot
) -> None:
    widget = ready.widget
    assert widget.waits.isHidden()
    assert widget.all.text() == "All 4 planes"
    assert widget.all.property("primary")
    widget.here.click()
    assert not widget.here.isEnabled()
    assert not widget.stop.isHidden()
    end(ready, qtbot)
    assert predicted(ready) == [1]
    assert widget.said.text().startswith("1 plane in ")
    assert widget.stop.isHidden()
    choose(ready, "Some planes …")
    assert not widget.some.isHidden()
    assert (widget.first.text(), widget.last.text()) == ("z from 1", "to 3"), "from here on"
    assert (widget.last.maximum(), widget.first.minimum()) == (3, 0)
    widget.first.setValue(2)
    widget.last.setValue(3)
    widget.some.click()
    end(ready, qtbot)
    assert predicted(ready) == [1, 2, 3]
    assert len(ready.viewer.layers) == 2, "no layer more"
    assert widget.all.property("primary"), "one plane is left"
    found = newest(ready).layer.data
    assert not found[0].any()
    for z in (1, 2, 3):
        assert found[z, 20 + z : 50 + z, 30 : 64 + z].mean() > 0
    widget.all.click()
    end(ready, qtbot)
    assert predicted(ready) == [0, 1, 2, 3]
    assert len(ready.viewer.layers) == 2, "the same model gives the same: there is nothing to keep"
    assert not widget.all.property("primary")
    assert widget.summary == "4 objects on 4 planes"
    assert widget.said.text().endswith("Objects are counted on each plane.")
    again = replace(trained, model=replace(trained.model))
    ready.session.set_model(again)
    assert widget.all.property("primary"), "a new model has predicted nothing yet"
    assert not widget.said.text(), "what another model has predicted is not news any more"
    ready.viewer.layers.selection.active = ready.viewer.layers["stack objects"]
    widget.here.click()
    end(ready, qtbot)
    assert [layer.visible for layer in ready.viewer.layers] == [True, False, True]
    assert "'stack objects' is kept, but hidden" in widget.said.text()
    assert ready.viewer.layers.selection.active is ready.viewer.layers[-1], "keys would act on a hidden layer"


def test_planes_next_to_the_one_on_screen_come_first(ready: Panel[PredictPanel], qtbot: QtBot) -> None:
    came: list[int] = []
    ready.session.results.filled.connect(lambda _, here: came.append(here.index[0]))
    ready.viewer.dims.set_current_step(0, 2)
    ready.widget.all.click()
    end(ready, qtbot)
    assert came == [2, 1, 3, 0]


def test_two_views_are_compared_where_that_is_chosen(ready: Panel[PredictPanel], qtbot: QtBot) -> None:
    ready.widget.here.click()
    end(ready, qtbot)
    assert not ready.widget.compare.isChecked()
    choose(ready, "Compare two views of each plane")
    choose(ready, "Some planes …")
    ready.widget.first.setValue(2)
    ready.widget.last.setValue(3)
    ready.widget.some.click()
    end(ready, qtbot)
    known = {place.index[0]: math.isfinite(scores.views) for place, scores in newest(ready).scores.items()}
    assert known == {1: False, 2: True, 3: True}
    choose(ready, "Compare two views of each plane")
    ready.widget.all.click()
    end(ready, qtbot)
    assert all(math.isnan(scores.views) for scores in newest(ready).scores.values())


def test_a_range_the_wrong_way_round_is_said(ready: Panel[PredictPanel], said: list[str]) -> None:
    choose(ready, "Some planes …")
    ready.widget.first.setValue(3)
    ready.widget.last.setValue(1)
    ready.widget.some.click()
    assert said == ["The image has planes 0 to 3; choose some of them."]
    assert ready.session.result is None


def test_a_range_of_a_series_is_of_the_stack_in_view(ready: Panel[PredictPanel], qtbot: QtBot) -> None:
    ready.viewer.add_image(np.stack([stack(3)] * 2), name="series")
    ready.session.choose_image(ready.viewer.layers["series"])
    ready.viewer.dims.set_current_step((0, 1), (1, 2))
    widget = ready.widget
    choose(ready, "Some planes …")
    assert (widget.first.text(), widget.last.text()) == ("z from 0", "to 2"), "all of it"
    assert widget.some.text() == "Predict at t 1"
    widget.first.setValue(1)
    widget.some.click()
    end(ready, qtbot)
    assert sorted(plane.index for plane in newest(ready).doubts) == [(1, 1), (1, 2)]
    choose(ready, "Some planes …")
    ready.session.choose_image(ready.viewer.layers["stack"])
    assert widget.some.parentWidget().isHidden(), "it would be of the other image"


def test_other_images_and_the_highlight_of_each(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str]
) -> None:
    choose(ready, "Other open images")
    assert said == ["No other image is open; open some, or choose 'Folder'."]
    ready.widget.all.click()
    end(ready, qtbot)
    ready.viewer.add_image(stack(2), name="other")
    ready.session.choose_image(ready.viewer.layers["other"])
    assert ready.widget.all.text() == "All 2 planes"
    assert ready.widget.all.property("primary"), "nothing of this image has been predicted"
    ready.session.choose_image(ready.viewer.layers["stack"])
    assert not ready.widget.all.property("primary")
    choose(ready, "Other open images")
    end(ready, qtbot)
    assert newest(ready).view.name == "other"
    assert predicted(ready) == [0, 1]


def test_a_single_image_has_one_button(ready: Panel[PredictPanel], qtbot: QtBot) -> None:
    ready.viewer.add_image(stack(1)[0], name="flat")
    ready.session.choose_image(ready.viewer.layers["flat"])
    assert ready.widget.all.isHidden()
    assert ready.widget.here.text() == "This image"
    assert ready.widget.here.property("primary")
    ready.widget.here.click()
    end(ready, qtbot)
    assert not ready.widget.here.property("primary")
    assert ready.widget.summary == "1 object on 1 plane"


def test_stopping_keeps_what_is_done(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.predict

    def slow(stop: Any, **given: Any) -> Any:
        for number, event in enumerate(real(stop, **given)):
            yield event
            if number == 2:  # at the start, and for the first plane
                stop.wait(TIMEOUT / 1000)

    monkeypatch.setattr(module, "predict", slow)
    ready.widget.all.click()
    qtbot.waitUntil(lambda: ready.widget.bar.value() == 1, timeout=TIMEOUT)
    assert ready.widget.bar.format().startswith("1 of 4")
    ready.widget.stop.click()
    end(ready, qtbot)
    assert len(predicted(ready)) == 1
    assert said == ["Stopped after 1 of 4 planes; these are kept."]


def test_a_stop_is_answered_at_once(
    ready: Panel[PredictPanel], qtbot: QtBot, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go_on, widget = module.predict, threading.Event(), ready.widget

    def slow(stop: Any, **given: Any) -> Any:
        for number, event in enumerate(real(stop, **given)):
            yield event
            if number == 2:  # at the start, and for the first plane
                go_on.wait(TIMEOUT / 1000)

    monkeypatch.setattr(module, "predict", slow)
    for stop in (widget.stop.click, jobs.stop_all):
        go_on.clear()
        widget.all.click()
        qtbot.waitUntil(lambda: widget.bar.value() == 1, timeout=TIMEOUT)
        assert widget.stop.isEnabled()
        stop()
        assert (widget.stop.isEnabled(), widget.bar.format()) == (False, "Stopping …")
        widget._predicting.tiles = (2, 4)
        widget._last = None
        widget._show_tiles()
        ready.session.result_changed.emit()
        assert (widget.stop.isEnabled(), widget.bar.format()) == (False, "Stopping …")
        go_on.set()
        end(ready, qtbot)
        assert widget.stop.isHidden()


def test_other_data_in_the_result_layer_ends_the_prediction(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str], go_on: threading.Event
) -> None:
    given_data = np.ones((2, 8, 8), np.uint32)
    ready.widget.all.click()
    qtbot.waitUntil(lambda: ready.widget.bar.value() == 1, timeout=TIMEOUT)
    newest(ready).layer.data = given_data
    go_on.set()
    end(ready, qtbot)
    assert len(said) == 2
    assert said[0].startswith("The layer 'stack objects' was given other data")
    assert said[1] == "Stopped after 1 of 4 planes; these are kept."
    assert newest(ready).layer.data is given_data
    ready.widget.all.click()
    end(ready, qtbot)
    assert predicted(ready) == [0, 1, 2, 3], "in a new layer"


@pytest.mark.parametrize(
    ("deleted", "told"),
    [
        (("stack objects", "other objects"), "The prediction was stopped, as its layer was deleted."),
        (
            ("other objects",),
            "The prediction was stopped, as a layer of it was deleted; what is in the others is kept.",
        ),
    ],
)
def test_nothing_is_called_kept_that_was_deleted_meanwhile(
    ready: Panel[PredictPanel],
    qtbot: QtBot,
    said: list[str],
    go_on: threading.Event,
    deleted: tuple[str, ...],
    told: str,
) -> None:
    ready.viewer.add_image(stack(3), name="other")
    views = [PlaneView.from_viewer(layer, ready.viewer) for layer in ready.session.image_layers]
    planes = [plane for view in reversed(views) for plane in view.images().planes]
    ready.widget._predicting.run(views, planes)
    qtbot.waitUntil(lambda: ready.widget.bar.value() == 1, timeout=TIMEOUT)
    for name in deleted:
        ready.viewer.layers.remove(name)
    go_on.set()
    end(ready, qtbot)
    assert said == [told]


def test_one_prediction_at_a_time(ready: Panel[PredictPanel], qtbot: QtBot, said: list[str]) -> None:
    ready.widget.all.click()
    ready.widget.some.click()
    end(ready, qtbot)
    assert said == ["A prediction is running; stop it first, or wait until it is done."]
    assert predicted(ready) == [0, 1, 2, 3]


def test_nothing_found_is_said(ready: Panel[PredictPanel], qtbot: QtBot, said: list[str]) -> None:
    ready.viewer.layers["stack"].data = np.full((4, 96, 112), 20, np.uint8)
    ready.widget.here.click()
    end(ready, qtbot)
    assert said == ["Nothing was found. More boxes, or a longer training, may help."]


def test_another_number_type_is_said_once(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str], tmp_path: Path
) -> None:
    ready.viewer.layers["stack"].data = stack().astype(np.uint16) * 257
    ready.widget.all.click()
    end(ready, qtbot)
    told = [line for line in said if "of the type uint16, but the model learnt from uint8" in line]
    assert len(told) == 1
    assert told[0].startswith("stack[1] has pixels"), "the plane on screen comes first"
    said.clear()
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / "in" / name, stack(1)[0].astype(np.float32) / 255)
    ready.widget._predicting.folder(tmp_path / "in", tmp_path / "out")
    end(ready, qtbot)
    assert [line.partition(",")[0] for line in said] == [
        "a.tif has pixels of the type float32",
        f"5 files were written to {tmp_path / 'out'}.",
    ]


def test_a_folder_is_segmented(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", stack(1)[0])
    with qtbot.waitSignal(ready.widget.folder_wanted, timeout=1000):
        choose(ready, "A folder …")
    ready.widget._predicting.folder(tmp_path / "in", tmp_path / "out")
    end(ready, qtbot)
    assert len(said) == 1
    assert said[0].endswith(f"files were written to {tmp_path / 'out'}.")
    assert list((tmp_path / "out").glob("a*.tif"))


def test_a_folder_of_images_is_not_written_into(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str], tmp_path: Path
) -> None:
    for name in ("a.tif", "a_mask.tif"):
        tifffile.imwrite(tmp_path / name, stack(1)[0])
    mine = (tmp_path / "a_mask.tif").read_bytes()
    ready.widget._predicting.folder(tmp_path, tmp_path)
    end(ready, qtbot)
    assert len(said) == 1
    assert "choose another folder" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a_mask.tif"]
    assert (tmp_path / "a_mask.tif").read_bytes() == mine


def test_what_is_left_out_of_a_folder_is_said_once(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", stack(1)[0])
    for name in ("b.tif", "c.png"):
        (tmp_path / "in" / name).write_bytes(b"no image")
    ready.widget._predicting.folder(tmp_path / "in", tmp_path / "out")
    end(ready, qtbot)
    assert len(said) == 1
    written = f"3 files were written to {tmp_path / 'out'}. "
    assert said[0].startswith(f"{written}2 of 3 images were left out. {tmp_path / 'in' / 'b.tif'} is damaged")
    assert f"{tmp_path / 'in' / 'c.png'} is not an image" in said[0]


def test_a_stopped_folder_keeps_what_is_done(
    ready: Panel[PredictPanel], qtbot: QtBot, said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = segmenting.predict

    def slow(stop: Any, *given: Any, **more: Any) -> Any:
        for event in real(stop, *given, **more):
            yield event
            if isinstance(event, Progress) and event.done == 2:
                stop.wait(TIMEOUT / 1000)

    monkeypatch.setattr(segmenting, "predict", slow)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "s.tif", stack(), photometric="minisblack")
    ready.widget._predicting.folder(tmp_path / "in", tmp_path / "out")
    qtbot.waitUntil(lambda: ready.widget.bar.value() == 2, timeout=TIMEOUT)
    ready.widget.stop.click()
    end(ready, qtbot)
    names = ("mask.tif", "objects.csv", "objects.tif")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    done = found[0][2 : found[0].index("_of")]
    assert found == [f"s_{done}_of_4_planes_{name}" for name in names]
    mask = tifffile.imread(tmp_path / "out" / found[0])
    assert int(done) >= 2
    assert mask.any(axis=(1, 2)).tolist() == [z < int(done) for z in range(4)]
    assert said == [
        f"Stopped: 0 of 1 image is finished; {done} of 4 planes of s.tif are in {found[0]}. "
        f"3 files were written to {tmp_path / 'out'}."
    ]


def test_the_plane_on_screen_decides(ready: Panel[PredictPanel], said: list[str]) -> None:
    ready.viewer.dims.ndisplay = 3
    assert not ready.widget.here.isEnabled()
    assert ready.widget.all.isEnabled()
    ready.viewer.dims.ndisplay = 2
    assert ready.widget.here.isEnabled()
    assert ready.session.plane == PlaneId("stack", (1,))
    assert not said
    ready.viewer.dims.order = (1, 0, 2)
    assert not ready.widget.here.isEnabled()
    assert ready.widget.all.text().startswith("All 4 planes"), "as they were before"
    with pytest.raises(BoxPromptError, match="they are 4 x 112 pixels"):
        ready.widget._predicting.plane()
