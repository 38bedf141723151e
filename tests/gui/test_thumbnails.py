"""Small pictures of planes: what they show, that they are made when they are seen, and that they stay few."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from tests.gui.test_results import found, overlapping_on, plane
from tests.helpers.synthetic import finish

from napari_boxprompt.gui import thumbnails
from napari_boxprompt.gui.state import Session
from napari_boxprompt.gui.thumbnails import SIDE, Thumbnails, step, thumbnail


class FakeJobs:
    """Does the work when told to."""

    def __init__(self) -> None:
        self.work: Any = None

    def running(self, _: str) -> bool:
        return self.work is not None

    def start(self, _: str, work: Any, *, on_event: Any, on_end: Any) -> None:
        self.work = (work, on_event, on_end)

    def run(self) -> int:
        work, on_event, on_end = self.work
        _, events = finish(work(SimpleNamespace(is_set=lambda: False)))
        for event in events:
            on_event(event)
        self.work = None
        on_end()
        return len(events)


@pytest.fixture
def session(trained: Any) -> Session:
    viewer = ViewerModel()
    viewer.add_image(np.random.default_rng(0).random((6, 40, 50)), name="stack")
    session = Session(viewer)
    session.set_model(replace(trained, model=replace(trained.model, classes=("b", "a"))))
    assert session.view is not None
    (result,) = session.new_results([session.view])["stack"]
    for z in range(6):
        result.add(found(z, ["a"]))
    return session


@pytest.mark.parametrize("shape", [(40, 40), (40, 50), (1000, 30), (641, 2000), (16, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_small_and_shows_objects_in_colour(shape: tuple[int, int], channels: int) -> None:
    every = step(shape)
    pixels = np.full((*shape, channels), 100, np.uint16)
    pixels[0, 0] = 0
    overlay = np.zeros((*shape, 4))[every // 2 if every // 2 < min(shape) else 0 :: every, ::every]
    overlay[0, :2] = 0.5, 0, 0, 0.5
    picture = thumbnail(pixels, overlay, None)
    assert picture.shape == (*overlay.shape[:2], 3)
    assert max(picture.shape) <= SIDE
    assert picture[0, 1, 0] > picture[0, 1, 1]
    assert len(set(picture[-1, -1].tolist())) == 1, "grey beside the objects"


def test_pictures_are_made_for_what_is_seen_and_kept(session: Session) -> None:
    jobs = FakeJobs()
    pictures = Thumbnails(session, cast("Any", jobs))
    made: list[Any] = []
    pictures.made.connect(made.append)
    pictures.want([plane(0), plane(1)])
    assert pictures.get(plane(0)) is None
    pictures.want([plane(3)])  # scrolled on meanwhile
    assert jobs.run() == 2
    assert jobs.run() == 1
    assert made == [plane(0), plane(1), plane(3)]
    picture = pictures.get(plane(0))
    assert picture is not None
    assert picture.shape[2] == 3
    pictures.want([plane(0), plane(3)])
    assert jobs.work is None, "both are there"
    session.set_status(plane(0), "accepted")
    assert pictures.get(plane(0)) is None, "the user may have painted"
    pictures.want([plane(0)])
    assert jobs.run() == 1


def test_classes_that_overlap_are_all_in_a_picture(trained: Any) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((6, 40, 50)), name="stack")
    session = Session(viewer)
    session.set_model(replace(trained, model=replace(trained.model, classes=("a", "b"), exclusive=False)))
    assert session.view is not None
    a, b = session.new_results([session.view])["stack"]
    for result in (a, b):
        result.add(overlapping_on(0))
    jobs = FakeJobs()
    pictures = Thumbnails(session, cast("Any", jobs))
    pictures.want([plane(0)])
    jobs.run()
    picture = pictures.get(plane(0))
    assert picture is not None
    only_a, only_b, both, none = (picture[place].astype(int) for place in ((2, 2), (11, 11), (7, 7), (18, 2)))
    tint_a, tint_b = (255 * np.array(one.color_of(0)) / 2 for one in (a, b))
    np.testing.assert_allclose(only_a, tint_a, atol=1)
    np.testing.assert_allclose(only_b, tint_b, atol=1)
    np.testing.assert_allclose(both, tint_a / 2 + tint_b, atol=1, err_msg="b lies over a")
    assert not none.any()
    viewer.layers.remove(a.layer)
    assert pictures.get(plane(0)) is None, "that shows what is deleted"


def test_few_pictures_are_kept(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MOST", 3)
    jobs = FakeJobs()
    pictures = Thumbnails(session, cast("Any", jobs))
    pictures.want([plane(z) for z in range(6)])
    jobs.run()
    assert [pictures.get(plane(z)) is not None for z in range(6)] == [False] * 3 + [True] * 3


def test_a_plane_that_cannot_be_read_has_no_picture_and_is_not_tried_again(session: Session) -> None:
    jobs = FakeJobs()
    pictures = Thumbnails(session, cast("Any", jobs))
    pictures.want([plane(0)])
    work, on_event, on_end = jobs.work
    images = SimpleNamespace(read=_fail)
    jobs.work = (
        lambda stop: thumbnails.make_pictures(stop, cast("Any", images), work.keywords["wishes"], None),
        on_event,
        on_end,
    )
    jobs.run()
    assert pictures.get(plane(0)) is None
    pictures.want([plane(0)])
    assert jobs.work is None


def _fail(_: object) -> None:
    from napari_boxprompt.errors import ImageError

    raise ImageError("The file is gone.")


def test_without_a_result_nothing_is_made() -> None:
    jobs = FakeJobs()
    pictures = Thumbnails(Session(ViewerModel()), cast("Any", jobs))
    pictures.want([plane(0)])
    assert jobs.work is None
    assert pictures.get(plane(0)) is None
