"""In which order planes are reviewed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from tests.gui.test_results import plane

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.gui.ordering import ORDERS, ReviewOrder
from napari_boxprompt.gui.results import Counts
from napari_boxprompt.gui.state import Session
from napari_boxprompt.ranking import REASONS, STRATEGIES, PlaneScores

PLANES = 6


def vector(x: float) -> Any:
    return np.array([x, 0, 0], np.float32)


@pytest.fixture
def session(trained: Any) -> Session:
    """Plane 1 is the most unsure, plane 2 has unusual sizes, plane 5 looks unlike all others."""
    viewer = ViewerModel()
    viewer.add_image(np.zeros((PLANES, 40, 50)), name="stack")
    session = Session(viewer)
    session.set_model(trained)
    assert session.view is not None
    [plane(z) for z in range(PLANES)]
    (result,) = session.new_results([session.view])["stack"]
    for z in range(PLANES):
        size, look = (0.5 if z == 2 else 0.0), (9.0 if z == 5 else 0.01 * z)
        doubt = 0.4 if z == 1 else 0.02 * z
        result.scores[plane(z)] = PlaneScores(plane(z), doubt, size, vector=vector(look))
        result.counts[plane(z)] = Counts(3, 0)
    session.new_boxes_layer().add_boxes(BoxSet((Box(3, 3, 13, 13, plane(0)),)))
    return session


def positions(order: ReviewOrder) -> list[int]:
    return [plane.index[0] for plane in order.waiting()]


def test_every_order_has_words() -> None:
    assert set(ORDERS) == {*STRATEGIES, "index"} - {"random"}


def test_each_order_begins_with_what_it_says(session: Session) -> None:
    order = ReviewOrder(session)
    for by, first in (("doubt", 1), ("size", 2), ("novelty", 5)):
        order.choose(by)  # type: ignore[arg-type]
        assert positions(order)[0] == first
        assert order.reason(plane(first)) == REASONS[by]  # type: ignore[index]
    order.choose("index")
    assert positions(order) == list(range(PLANES))
    assert not any(order.reason(plane(z)) for z in range(PLANES))


def test_two_views_put_planes_in_order_only_where_they_were_compared(session: Session) -> None:
    order, result = ReviewOrder(session), session.result
    assert result is not None
    before = positions(order)
    assert not order.knows("views")
    assert all(order.knows(by) for by in ORDERS if by != "views")
    order.choose("views")
    assert order.by == "combined"
    assert positions(order) == before
    result.scores[plane(3)] = replace(result.scores[plane(3)], views=0.7, doubt=0.07)
    result.scores[plane(4)] = replace(result.scores[plane(4)], views=0.1)
    assert order.by == "views", "chosen once, it counts from when it is known"
    assert positions(order)[0] == 3
    assert positions(order)[-1] == 4
    assert order.reason(plane(3)) == "two views disagree"
    assert not order.reason(plane(4))


def test_a_boxed_plane_comes_last_where_new_looks_count(session: Session) -> None:
    order = ReviewOrder(session)
    order.choose("novelty")
    assert positions(order)[-1] == 0
    assert not order.reason(plane(0))


def test_together_it_says_for_each_what_speaks_for_it(session: Session) -> None:
    order = ReviewOrder(session)
    assert order.by == "combined"
    assert positions(order)[0] == 5
    assert order.reason(plane(5)) == "unlike boxed ones"
    assert set(positions(order)) == set(range(PLANES))


def test_the_order_stays_while_planes_are_judged(session: Session) -> None:
    order = ReviewOrder(session)
    before = positions(order)
    session.set_status(plane(before[1]), "accepted")
    session.set_status(plane(before[0]), "rejected")
    assert session.boxes is not None
    session.boxes.add_boxes(BoxSet((Box(3, 3, 13, 13, plane(before[2])),)))
    assert positions(order) == [*before[2:], before[0]], "accepted ones are done, rejected ones wait"


def test_a_renamed_image_keeps_its_order(session: Session) -> None:
    order = ReviewOrder(session)
    before = positions(order)
    session.viewer.layers["stack"].name = "other"
    assert positions(order) == before
    assert order.waiting()[0] == PlaneId("other", (before[0],))
    assert order.reason(order.waiting()[0])


def test_thousands_of_planes_are_put_in_order_at_once(session: Session) -> None:
    result, rng = session.result, np.random.default_rng(0)
    assert result is not None
    for z in range(5000):
        look = rng.random(256).astype(np.float32)
        result.scores[plane(z)] = PlaneScores(plane(z), float(rng.random()), 0.0, vector=look)
    order = ReviewOrder(session)
    started = time.perf_counter()
    assert len(order.waiting()) == 5000
    assert time.perf_counter() - started < 5, "a third of a second where nothing else runs"
    started = time.perf_counter()
    order.waiting()
    assert time.perf_counter() - started < 0.5, "remembered"
