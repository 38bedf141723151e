from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.choosing import REASONS, STRATEGIES, PlaneScores, order_planes, plane_scores
from napari_boxprompt.instances import Instance
from napari_boxprompt.prediction import Prediction
from napari_boxprompt.ranking import doubt


def scores(
    name: str, *, doubt: float = 0.0, size: float = 0.0, look: float = math.nan, at: float | None = None
) -> PlaneScores:
    vector = None if at is None else np.array([at, 0.0], np.float32)
    return PlaneScores(PlaneId(name), doubt, size, look, vector)


def names(planes: list[PlaneScores], *boxed: float, **options: object) -> list[str]:
    vectors = [np.array([at, 0.0], np.float32) for at in boxed]
    return [found.plane.image for found in order_planes(planes, vectors, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["doubt", "size", "look"])
def test_a_strategy_goes_by_its_own_score(name: str) -> None:
    planes = [scores(letter, **{name: value}) for letter, value in zip("abc", (0.2, 0.9, 0.5), strict=True)]
    assert names(planes, strategy=name) == ["b", "c", "a"]
    assert {found.because for found in order_planes(planes, strategy=name)} == {name}  # type: ignore[arg-type]


def test_what_is_unlike_the_boxed_planes_comes_first_and_its_neighbours_last() -> None:
    planes = [scores("near", at=1.0), scores("far", at=10.0), scores("too", at=9.9), scores("mid", at=5.0)]
    assert names(planes, 0.0, strategy="novelty") == ["far", "mid", "near", "too"]


def test_combined_weighs_what_a_plane_shows_and_what_is_new_about_it() -> None:
    sure, unsure = {"doubt": 0.1, "look": 0.1}, {"doubt": 0.8, "look": 0.6}
    planes = [
        scores("dull", **sure, at=0.5),
        scores("new", **sure, at=9.0),
        scores("odd", **unsure, at=0.5),
        scores("both", **unsure, at=9.0),
    ]
    found = order_planes(planes, [np.zeros(2, np.float32)])
    assert [item.plane.image for item in found][:2] == ["both", "odd"]
    assert found[0].because == "novelty"
    assert set(REASONS) >= {item.because for item in found}


def test_an_unknown_second_look_is_neither_good_nor_bad() -> None:
    planes = [scores("bad", look=0.9), scores("unknown"), scores("good", look=0.1)]
    assert names(planes, strategy="look") == ["bad", "unknown", "good"]


def test_random_follows_the_seed_and_not_the_names() -> None:
    planes = [scores(letter) for letter in "abcdefgh"]
    assert names(planes, strategy="random", seed=3) == names(planes, strategy="random", seed=3)
    firsts = {names(planes, strategy="random", seed=seed)[0] for seed in range(30)}
    assert len(firsts) > 4
    # Nor do equals come in the order of their names.
    assert len({names(planes, strategy="doubt", seed=seed)[0] for seed in range(30)}) > 4


@given(
    st.sampled_from(STRATEGIES),
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.floats(0, 3),
            st.floats(0, 1) | st.just(math.nan),
            st.none() | st.floats(-5, 5),
        ),
        max_size=12,
    ),
    st.lists(st.floats(-5, 5), max_size=3),
)
def test_every_plane_comes_once(
    strategy: str, values: list[tuple[float, float, float, float | None]], boxed: list[float]
) -> None:
    planes = [
        scores(str(i), doubt=value[0], size=value[1], look=value[2], at=value[3])
        for i, value in enumerate(values)
    ]
    assert sorted(names(planes, *boxed, strategy=strategy)) == sorted(p.plane.image for p in planes)
    assert names(planes, *boxed, strategy=strategy, count=2) == names(planes, *boxed, strategy=strategy)[:2]


def test_scores_of_a_prediction() -> None:
    probability = np.full((20, 20), 200, np.uint8)
    objects = tuple(
        Instance(i, "cell", area, (0, 0, 5, 5), 0.8) for i, area in enumerate((100, 400, 25), start=1)
    )
    vector = np.ones(256, np.float32)
    labels = np.ones((20, 20), np.uint32)
    found = Prediction(PlaneId("a"), labels.astype(np.uint8), probability, labels, objects, 0.75, vector)
    given_areas = plane_scores(found, {"cell": [50.0, 100.0, 200.0]})
    assert given_areas.doubt == doubt(found)
    assert given_areas.look == 0.25
    assert given_areas.size == pytest.approx(math.log(2) * 2 / 3)  # 400 and 25 are off by a factor of two
    assert given_areas.vector is vector
    assert plane_scores(found, {}).size == 0.0
