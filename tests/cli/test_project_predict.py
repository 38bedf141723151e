"""``boxprompt project predict``: masks of a project's planes, to be reviewed in the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_project_train import folder, many, train
from tests.helpers.commands import Discs, boxprompt

from napari_boxprompt import api
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.evaluation import dice
from napari_boxprompt.project import Project

__all__ = ["folder", "many"]

pytestmark = pytest.mark.usefixtures("fake_weights", "tiny_generator")


def test_planes_that_nobody_has_settled_are_predicted(folder: Path, many: Discs) -> None:
    train(folder)
    mine = np.zeros(many.mask("image2.png").shape, np.uint8)
    mine[:9, :9] = 1
    with Project.open(folder) as project:
        project.accept(PlaneId("image2.png"), mine, {1: "disc"})
        project.set_boxes(PlaneId("image5.png"), [], complete=False)
    said = boxprompt("project", "predict", folder, "--no-cache").ok().out
    assert "7 planes segmented" in said
    with Project.open(folder, read_only=True) as project:
        found = {plane.image: project.mask(plane) for plane in project.images.planes}
        status = {plane.image: project.status(plane) for plane in project.images.planes}
        record = project.record(PlaneId("image5.png"))
        assert project.classes == ("disc",)
    assert status.pop("image2.png") == "accepted"
    assert status.pop("image5.png") == "predicted"
    assert set(status.values()) == {"boxed"}
    assert record.score is not None
    assert "size" in record.signs
    np.testing.assert_array_equal(found.pop("image2.png").labels, mine)
    agreement = [dice(mask.labels > 0, many.mask(name) > 0) for name, mask in found.items()]
    assert np.mean(agreement) > 0.6, "a prediction of nothing has 0"
    assert all(set(mask.classes.values()) == {"disc"} for mask in found.values())


def test_what_is_done_is_kept_when_it_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder)
    real = api.predict

    def stopped(*given: Any, **more: Any) -> Iterator[Any]:
        for number, found in enumerate(real(*given, **more)):
            if number == 3:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(api, "predict", stopped)
    ended = boxprompt("project", "predict", folder, "--no-cache")
    assert ended.code == 130
    assert "Stopped after 3 of 8 planes; these are kept." in ended.err
    with Project.open(folder, read_only=True) as project:
        assert sum(project.mask(plane) is not None for plane in project.images.planes) == 3


def test_an_image_that_cannot_be_read_is_left_out(folder: Path, many: Discs) -> None:
    train(folder)
    with Project.open(folder) as project:
        place = (folder / project.entries["image3.png"].path).resolve()
    content = place.read_bytes()
    place.write_bytes(content[: len(content) // 2])  # a changed image is reported, and not segmented
    said = boxprompt("project", "predict", folder, "--no-cache").ok()
    assert "7 planes segmented" in said.out
    assert "image3.png" in said.err


def test_a_plane_that_fails_is_named_and_the_others_are_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_boxprompt.errors import ImageError

    train(folder)
    real = api.predict

    def failing(model: Any, images: Any, planes: Any, *, on_error: Any, **more: Any) -> Iterator[Any]:
        on_error(planes[1], ImageError("The disk was taken out."))
        yield from real(model, images, [planes[0], *planes[2:]], on_error=on_error, **more)

    monkeypatch.setattr(api, "predict", failing)
    ended = boxprompt("project", "predict", folder, "--no-cache")
    assert "1 of 8 planes could not be segmented: image1.png: The disk was taken out." in ended.sentence()
    with Project.open(folder, read_only=True) as project:
        assert sum(project.mask(plane) is not None for plane in project.images.planes) == 7


def test_without_a_model_or_a_plane_it_says_so(folder: Path) -> None:
    assert "no model yet" in boxprompt("project", "predict", folder).sentence()
    train(folder, "--set", "steps=1")
    with Project.open(folder) as project:
        for plane in project.images.planes:
            project.accept(plane, np.zeros((112, 128), np.uint8))
    assert "Every plane" in boxprompt("project", "predict", folder).sentence()
