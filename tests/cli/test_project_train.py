"""``boxprompt project train``: rounds of a project without a viewer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from tests.helpers.commands import Discs, boxprompt, make_discs, paint
from tests.helpers.synthetic import break_training

from napari_boxprompt import api
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.bundle import load_bundle
from napari_boxprompt.project import Project, Round, project_lessons, verdict
from napari_boxprompt.training.holdout import noted_planes

FEW = (
    *("--preset", "fast", "--set", "generator=tiny", "--set", "steps=20", "--set", "batch=2", "--no-cache"),
    *("--set", "learning_rate=0.04", "--set", "ema=0.8", "--set", "augment.views=1", "--set", "hold_out=0.3"),
    *("--set", "validate_every=10", "--set", "tile=whole"),
)

pytestmark = pytest.mark.usefixtures("fake_weights", "tiny_generator")


@pytest.fixture
def many(tmp_path: Path) -> Discs:
    """Eight grey images with two discs each."""
    return make_discs(tmp_path / "data", ((112, 128),) * 8)


@pytest.fixture
def folder(many: Discs, tmp_path: Path) -> Path:
    place = tmp_path / "project"
    boxprompt("project", "new", place, many.images, "--class", "disc", "--boxes", many.boxes).ok()
    with Project.open(place) as project:
        for plane in project.images.planes:
            project.set_boxes(plane, project.boxes.on(plane), complete=True)
    return place


def train(folder: Path, *words: object) -> str:
    return boxprompt("project", "train", folder, *FEW, *words).ok().out


def test_rounds_are_trained_saved_judged_and_recorded(folder: Path, many: Discs) -> None:
    said = train(folder)
    assert "Round 1 agrees 0." in " ".join(said.split())
    assert "frozen model, your boxes" in said
    with Project.open(folder) as project:
        (first,) = project.rounds
        assert (first.boxes, first.planes, first.masks, first.held_out, first.held_out_boxes) == (
            16,
            8,
            0,
            2,
            4,
        )
        assert (first.model, first.against, first.previous) == ("models/001", 0, {})
        assert first.settings["steps"] == 20
        assert 0.5 < first.scores["box_agreement"] <= 1
        assert first.frozen["box_agreement"] > 0.8
        assert verdict(first) == "unknown"
        plane = PlaneId("image0.png")
        project.accept(plane, many.mask("image0.png").astype(np.uint16), {1: "disc"})

    said = train(folder, "--set", "steps=1", "--set", "learning_rate=0.0001")
    assert "worse than round 1" in " ".join(said.split())
    with Project.open(folder) as project:
        second = project.rounds[-1]
        assert (second.number, second.against, second.masks) == (2, 1, 1)
        assert second.previous == pytest.approx(first.scores), "judged on the planes of before"
        assert verdict(second) == "worse"
        held = [noted_planes(load_bundle(folder / name.model), "held_out") for name in project.rounds]
        assert held[0] == held[1]
        assert len(held[0] or ()) == 2
    info = json.loads(boxprompt("project", "info", folder, "--json").ok().out)
    assert info["rounds"] == 2


def test_a_round_that_nobody_waits_to_see_judged_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "judge_model", stopped)
    assert boxprompt("project", "train", folder, *FEW, "--set", "steps=1").code == 130
    with Project.open(folder, read_only=True) as project:
        (found,) = project.rounds
        assert (found.model, found.boxes, found.scores) == ("models/001", 16, {})
        assert load_bundle(folder / found.model).record["steps"] == 1


def test_an_error_while_training_keeps_the_round(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_training(monkeypatch, 2, RuntimeError("CUDA out of memory"))
    ended = boxprompt("project", "train", folder, *FEW)
    assert ended.code == 1
    assert "Stopped at step 2 of 20; the best model so far is kept." in ended.err
    assert "CUDA out of memory" in ended.err
    with Project.open(folder, read_only=True) as project:
        (found,) = project.rounds
        assert load_bundle(folder / found.model).record["steps"] == 2


def test_a_project_that_is_open_elsewhere_is_refused_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    monkeypatch.setattr(api, "start_training", lambda *words, **_: begun.append(words))
    with Project.open(folder):
        assert "close it there" in boxprompt("project", "train", folder, *FEW).sentence()
    assert not begun


def test_going_on_begins_with_the_last_model(folder: Path) -> None:
    refused = boxprompt("project", "train", folder, *FEW, "--go-on").sentence()
    assert "leave out --go-on" in refused
    train(folder)
    train(folder, "--go-on")
    model = load_bundle(folder / "models" / "002")
    assert model.record["started_from"]["steps"] == 20


def test_without_boxes_nothing_is_trained(many: Discs, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    boxprompt("project", "new", place, many.images).ok()
    assert "two planes" in boxprompt("project", "train", place, *FEW).sentence()
    assert not (place / "models").exists()


def test_a_model_that_is_gone_is_not_compared_with(folder: Path) -> None:
    train(folder)
    for file in (folder / "models" / "001").iterdir():
        file.unlink()
    (folder / "models" / "001").rmdir()
    train(folder)
    with Project.open(folder, read_only=True) as project:
        assert project.rounds[-1].against == 0


def test_a_loaded_model_is_the_one_before(folder: Path) -> None:
    train(folder)
    with Project.open(folder) as project:
        project.add_round(Round(number=2, model="models/001", loaded_from="/home/anna/discs", against=1))
    info = json.loads(boxprompt("project", "info", folder, "--json").ok().out)
    assert (info["rounds"], info["model"]) == (1, "/home/anna/discs")
    assert info["scores"]["box_agreement"] > 0.5
    said = " ".join(train(folder, "--set", "steps=1", "--set", "learning_rate=0.0001").split())
    assert "worse than the loaded model" in said
    assert "boxes agree: the loaded model" in said
    info = json.loads(boxprompt("project", "info", folder, "--json").ok().out)
    assert (info["rounds"], info["model"]) == (2, "round 3")


def test_lessons_of_a_project(folder: Path, many: Discs) -> None:
    first, second = PlaneId("image0.png"), PlaneId("image1.png")
    with Project.open(folder) as project:
        project.set_boxes(second, project.boxes.on(second), complete=False)
        project.set_classes(["disc", "blob", "unused"])
        labels = many.mask("image0.png").astype(np.uint16)
        labels[:4, :4] = 2
        project.accept(first, labels, {1: "disc", 2: "blob"})
        project.paint(second, paint((112, 128), many.discs["image1.png"]))
        lessons = project_lessons(project)
        assert lessons.boxes.classes == ("disc", "blob"), "nothing is learnt of a class without objects"
        assert lessons.masks.keys() == {first, second}
        assert set(np.unique(lessons.masks[first])) == {0, 1, 2}
        assert lessons.masks[first][0, 0] == 2
        assert {box.label for box in lessons.boxes.on(first)} == {"disc", "blob"}
        assert lessons.boxes.planes[first].complete
        assert not lessons.boxes.planes[second].complete, "painted, but nobody said that it is all"
        assert len(lessons.drawn.on(first)) == 2


def test_a_corrected_plane_never_teaches_a_drawn_box_as_background(folder: Path, many: Discs) -> None:
    plane, other = PlaneId("image0.png"), PlaneId("image1.png")
    with Project.open(folder) as project:
        whole = paint((112, 128), many.discs["image0.png"])
        one = np.where(whole == 1, whole, 0)
        project.paint(plane, one)
        drawn = project.boxes.on(plane)
        lessons = project_lessons(project)
        assert lessons.boxes.on(plane) == drawn, "the mask lacks an object, so the boxes teach"
        assert lessons.boxes.planes[plane].complete
        assert plane not in lessons.masks

        project.paint(plane, whole)
        assert plane in project_lessons(project).masks
        project.set_classes(["disc", "blob"])
        project.paint(plane, whole, classes={1: "blob"})
        assert plane not in project_lessons(project).masks, "an object of another class is another object"

        project.accept(other, one)
        lessons = project_lessons(project)
        assert len(lessons.boxes.on(other)) == 1, "what is accepted is right"
        assert lessons.boxes.planes[other].complete
