"""Models that somebody else trained are kept with a project, loaded while it is open or before."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="needs napari")
pytest.importorskip("qtpy.QtCore", reason="needs Qt", exc_type=ImportError)
pytest.importorskip("pytestqt", reason="needs pytest-qt")

from tests.gui.conftest import Desk, workers
from tests.gui.test_lifetime import train_as
from tests.gui.test_project_desk import make, open_again, quiet

from napari_boxprompt import bundle
from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.bundle import load_bundle, same_model, save_bundle
from napari_boxprompt.errors import OutputError
from napari_boxprompt.gui.work import Trained
from napari_boxprompt.project import Project, Round, unpack

pytestmark = pytest.mark.usefixtures("fake_encoders", "fake_weights", "tiny_generator")

Load = Callable[[Desk, Path], None]


def made_by_others(trained: TrainedModel, folder: Path, *classes: str, seed: int = 1) -> Path:
    """Save a model as somebody else would have trained it."""
    weights = {name: value * (1 + seed / 1000) for name, value in trained.model.weights.items()}
    return save_bundle(replace(trained.model, weights=weights, classes=classes or ("cell",)), folder)


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    """A stack of three planes with boxes on two of them."""
    desk = open_desk()
    desk.viewer.add_image(np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8), name="stack")
    boxes = tuple(Box(10, 12, 30, 40, PlaneId("stack", (z,)), "cell") for z in (0, 1))
    desk.widget.session.new_boxes_layer().add_boxes(BoxSet(boxes))
    return desk


@pytest.fixture
def theirs(trained: TrainedModel, tmp_path: Path) -> Path:
    return made_by_others(trained, tmp_path / "theirs")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a model as a user does."""
    from qtpy.QtWidgets import QFileDialog

    def load(desk: Desk, folder: Path) -> None:
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
        desk.widget.actions.load_model()
        quiet(desk)

    return load


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads in which models are written."""
    found: list[str] = []
    save = bundle.save_bundle

    def noted(*arguments: Any) -> Path:
        found.append(threading.current_thread().name)
        return save(*arguments)

    monkeypatch.setattr(bundle, "save_bundle", noted)
    return found


def rounds_of(folder: Path) -> tuple[Round, ...]:
    with Project.open(folder, read_only=True) as project:
        return project.rounds


def close(desk: Desk) -> None:
    desk.widget.projects.close()
    quiet(desk)


def in_use(desk: Desk, folder: Path) -> bool:
    """Whether the session has the model that is saved in a folder."""
    trained = desk.widget.session.trained
    return trained is not None and same_model(trained.model, load_bundle(folder))


def unexpected(desk: Desk) -> list[str]:
    """What was said, without that a dock closes its project."""
    return [text for text in desk.said if "closed with the dock" not in text]


def said_of_rounds(desk: Desk) -> str:
    view = desk.widget.train_panel.rounds
    assert view is not None
    return "" if view.isHidden() else str(view.said.text())


@pytest.mark.parametrize("first", ["project", "model"])
def test_a_loaded_model_is_there_again(
    desk: Desk,
    theirs: Path,
    load: Load,
    writers: list[str],
    tmp_path: Path,
    first: str,
) -> None:
    folder = tmp_path / "project"
    if first == "project":
        make(desk, folder)
    load(desk, theirs)
    if first == "model":
        make(desk, folder)
    (record,) = rounds_of(folder)
    assert (record.number, record.model, record.loaded_from) == (1, "models/001", theirs.as_posix())
    assert writers == ["boxprompt keeping the model"]
    said = f"The model was loaded from {theirs.as_posix()}."
    assert said_of_rounds(desk) == said
    close(desk)
    for file in theirs.iterdir():
        file.unlink()
    desk.widget.session.set_model(None)
    open_again(desk, folder)
    assert in_use(desk, folder / "models" / "001")
    assert said_of_rounds(desk) == said
    assert desk.widget.train_panel.summary == "model ready"
    assert not desk.said


def test_the_same_model_is_kept_once(
    desk: Desk,
    trained: TrainedModel,
    theirs: Path,
    load: Load,
    tmp_path: Path,
) -> None:
    folder, models = tmp_path / "project", tmp_path / "project" / "models"
    make(desk, folder)
    load(desk, theirs)
    session = desk.widget.session
    assert session.trained is not None
    model = session.trained.model
    load(desk, theirs)
    assert session.trained.model is model, "its results are its own still"
    assert len(rounds_of(folder)) == 1
    load(desk, made_by_others(trained, tmp_path / "other", seed=2))
    load(desk, theirs)
    assert [(r.number, r.model) for r in rounds_of(folder)] == [
        (1, "models/001"),
        (2, "models/002"),
        (3, "models/001"),
    ]
    assert sorted(path.name for path in models.iterdir()) == ["001", "002"]
    assert desk.widget.rounds.offered == 2
    desk.widget.rounds.take_back()
    quiet(desk)
    close(desk)
    open_again(desk, folder)
    assert in_use(desk, models / "002"), "loading was taken back"
    assert not desk.said


def test_a_later_training_takes_its_place(
    desk: Desk,
    trained: TrainedModel,
    theirs: Path,
    load: Load,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "project"
    make(desk, folder)
    load(desk, theirs)
    train_as(desk, Trained(trained, stopped=False, steps=5))
    quiet(desk)
    assert [(r.model, r.against, r.loaded_from is None) for r in rounds_of(folder)] == [
        ("models/001", 0, False),
        ("models/002", 1, True),
    ]
    view = desk.widget.train_panel.rounds
    assert view is not None
    assert view.back.text() == "Take the loaded model back"
    close(desk)
    open_again(desk, folder)
    assert in_use(desk, folder / "models" / "002")
    load(desk, theirs)
    close(desk)
    open_again(desk, folder)
    assert in_use(desk, folder / "models" / "001")
    assert not desk.said


def test_a_model_for_other_classes_changes_none_of_the_project(
    desk: Desk,
    trained: TrainedModel,
    load: Load,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "project"
    make(desk, folder)
    load(desk, made_by_others(trained, tmp_path / "theirs", "vessel"))
    close(desk)
    open_again(desk, folder)
    session, project = desk.widget.session, desk.widget.projects.project
    assert session.trained is not None
    assert session.trained.model.classes == ("vessel",)
    assert project is not None
    assert project.classes == ("cell",)
    boxes = session.boxes
    assert boxes is not None
    boxes.rename_class(0, "nucleus")
    quiet(desk)
    assert json.loads((folder / "models" / "001" / "model.json").read_text())["classes"] == ["vessel"]
    assert not desk.said


def test_a_window_that_reads_only_keeps_no_model(
    desk: Desk,
    open_desk: Callable[..., Desk],
    theirs: Path,
    load: Load,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "project"
    make(desk, folder)
    second = open_desk()
    open_again(second, folder)
    assert second.widget.projects.state == "read-only"
    load(second, theirs)
    assert in_use(second, theirs), "it predicts all the same"
    assert rounds_of(folder) == ()
    assert not (folder / "models").exists()
    assert not second.said


def test_a_full_disk_is_told_and_loading_again_keeps_the_model(
    desk: Desk,
    theirs: Path,
    load: Load,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "project"
    make(desk, folder)

    def full(*_: object) -> None:
        raise OutputError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "save_bundle", full)
        load(desk, theirs)
    assert desk.said == ["The disk is full."]
    assert in_use(desk, theirs)
    assert rounds_of(folder) == ()
    load(desk, theirs)
    assert [r.model for r in rounds_of(folder)] == ["models/001"]
    assert len(desk.said) == 1


@pytest.mark.parametrize("end", ["project", "dock"])
def test_what_is_closed_while_a_model_is_copied_has_it(
    desk: Desk,
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    folder = tmp_path / "project"
    make(desk, folder)
    begun, go_on, save = threading.Event(), threading.Event(), bundle.save_bundle

    def slow(*arguments: Any) -> Path:
        begun.set()
        assert go_on.wait(60)
        return save(*arguments)

    monkeypatch.setattr(bundle, "save_bundle", slow)
    desk.widget.rounds.take_up(TrainedModel(load_bundle(theirs), desk.widget.encoders.get()), theirs)
    assert begun.wait(60)
    if end == "project":
        desk.widget.projects.close()
    else:
        desk.dock.destroyOnClose()
    threading.Timer(0.3, go_on.set).start()
    desk.wait(lambda: not workers() and not [t for t in threading.enumerate() if "closing" in t.name])
    assert [r.model for r in rounds_of(folder)] == ["models/001"]
    desk.settle()
    assert not unexpected(desk)


def test_a_colleague_gets_it_in_the_zip(
    desk: Desk,
    theirs: Path,
    load: Load,
    tmp_path: Path,
) -> None:
    make(desk, tmp_path / "project")
    load(desk, theirs)
    desk.widget.projects.export("zip", tmp_path / "p.zip", images=True)
    quiet(desk)
    close(desk)
    desk.widget.session.set_model(None)
    open_again(desk, unpack(tmp_path / "p.zip", tmp_path / "colleague"))
    assert in_use(desk, tmp_path / "colleague" / "models" / "001")


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "trained"])
def test_a_new_dock_and_a_new_project_have_the_model_of_the_project_before(
    desk: Desk,
    trained: TrainedModel,
    theirs: Path,
    load: Load,
    tmp_path: Path,
    loaded: bool,
) -> None:
    from napari_boxprompt.gui.commands import open_widget

    first, second = tmp_path / "first", tmp_path / "second"
    make(desk, first)
    if loaded:
        load(desk, theirs)
    else:
        train_as(desk, Trained(trained, stopped=False, steps=5))
        quiet(desk)
    desk.dock.destroyOnClose()
    desk.wait(lambda: not workers())
    desk.widget = open_widget(desk.viewer.__wrapped__)
    source = (theirs if loaded else first / "models" / "001").as_posix()
    assert said_of_rounds(desk) == f"The model was loaded from {source}."
    make(desk, second)
    (record,) = rounds_of(second)
    assert (record.number, record.model, record.loaded_from) == (1, "models/001", source)
    assert same_model(load_bundle(second / "models" / "001"), load_bundle(first / "models" / "001"))
    assert not unexpected(desk)


def test_a_model_that_cannot_be_loaded_leaves_none(
    desk: Desk,
    theirs: Path,
    load: Load,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "project"
    make(desk, folder)
    load(desk, theirs)
    close(desk)
    (folder / "models" / "001" / "weights.safetensors").write_bytes(b"")
    assert desk.widget.session.trained is not None
    open_again(desk, folder)
    assert desk.widget.session.trained is None, "not that of the project before"
    (said,) = desk.said
    assert "damaged" in said


@pytest.fixture
def bare(open_desk: Callable[..., Desk], tmp_path: Path) -> Path:
    """A project with boxes and without a model, and nothing else is open."""
    desk = open_desk()
    desk.viewer.add_image(np.random.default_rng(1).integers(0, 255, (3, 64, 64), np.uint8), name="theirs")
    boxes = tuple(Box(10, 12, 30, 40, PlaneId("theirs", (z,)), "cell") for z in (0, 1))
    desk.widget.session.new_boxes_layer().add_boxes(BoxSet(boxes))
    make(desk, tmp_path / "bare")
    close(desk)
    return tmp_path / "bare"


def test_a_loaded_model_stays_in_use_where_a_project_has_none(
    desk: Desk,
    bare: Path,
    theirs: Path,
    load: Load,
) -> None:
    load(desk, theirs)
    session = desk.widget.session
    assert session.trained is not None
    model = session.trained.model
    for _ in range(2):
        open_again(desk, bare)
        assert session.trained is not None
        assert session.trained.model is model
        assert said_of_rounds(desk) == f"The model was loaded from {theirs.as_posix()}."
        assert not (bare / "models").exists(), "to look at a project leaves nothing in it"
    assert rounds_of(bare) == ()
    desk.widget.predicting.planes()
    quiet(desk)
    (record,) = rounds_of(bare)
    assert (record.number, record.model, record.loaded_from) == (1, "models/001", theirs.as_posix())
    close(desk)
    session.set_model(None)
    open_again(desk, bare)
    assert in_use(desk, theirs), "it has predicted there"
    assert not desk.said


def test_what_is_trained_after_a_model_from_before_is_told_apart_from_it(
    desk: Desk,
    bare: Path,
    trained: TrainedModel,
    theirs: Path,
    load: Load,
) -> None:
    load(desk, theirs)
    open_again(desk, bare)
    train_as(desk, Trained(trained, stopped=False, steps=5))
    quiet(desk)
    assert [(r.model, r.against, r.loaded_from) for r in rounds_of(bare)] == [
        ("models/001", 0, theirs.as_posix()),
        ("models/002", 1, None),
    ]


@pytest.mark.parametrize("before", ["session", "project", "loaded, then trained"])
def test_a_model_that_nobody_has_loaded_here_does_not_get_into_another_project(
    desk: Desk,
    bare: Path,
    trained: TrainedModel,
    theirs: Path,
    load: Load,
    tmp_path: Path,
    before: str,
) -> None:
    if before == "project":
        make(desk, tmp_path / "project")
    if before == "loaded, then trained":
        load(desk, theirs)
    train_as(desk, Trained(trained, stopped=False, steps=5))
    quiet(desk)
    assert desk.widget.session.trained is not None
    open_again(desk, bare)
    assert desk.widget.session.trained is None
    assert desk.widget.rounds.rounds == []


def test_a_model_of_a_project_takes_the_place_of_a_loaded_one(
    desk: Desk,
    bare: Path,
    trained: TrainedModel,
    theirs: Path,
    load: Load,
    tmp_path: Path,
) -> None:
    other = made_by_others(trained, tmp_path / "other", seed=2)
    open_again(desk, bare)
    load(desk, theirs)
    close(desk)
    load(desk, other)
    open_again(desk, bare)
    assert in_use(desk, theirs)


def test_a_loaded_model_stays_in_use_in_a_new_dock(
    desk: Desk,
    bare: Path,
    theirs: Path,
    load: Load,
) -> None:
    from napari_boxprompt.gui.commands import open_widget

    load(desk, theirs)
    desk.dock.destroyOnClose()
    desk.wait(lambda: not workers())
    desk.widget = open_widget(desk.viewer.__wrapped__)
    open_again(desk, bare)
    assert in_use(desk, theirs)


def test_a_window_that_only_reads_uses_a_loaded_model_and_keeps_none(
    desk: Desk,
    open_desk: Callable[..., Desk],
    bare: Path,
    theirs: Path,
    load: Load,
) -> None:
    writer = open_desk()
    open_again(writer, bare)
    load(desk, theirs)
    open_again(desk, bare)
    assert desk.widget.projects.state == "read-only"
    assert in_use(desk, theirs)
    desk.widget.predicting.planes()
    quiet(desk)
    assert rounds_of(bare) == ()
    close(writer)
    open_again(desk, bare)
    assert desk.widget.projects.state == "saved"
    assert in_use(desk, theirs)
