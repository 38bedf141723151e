from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.synthetic import Scene

from napari_boxprompt.api import TrainedModel, predict
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.instances import Instance
from napari_boxprompt.prediction import Prediction
from napari_boxprompt.ranking import (
    REASONS,
    STRATEGIES,
    PlaneScores,
    doubt,
    order_planes,
    plane_scores,
    standing_out,
    unsure_objects,
)


def seen(probability: Any) -> Prediction:
    values = np.round(np.asarray(probability, float) * 255).astype(np.uint8)
    return Prediction(PlaneId("a"), (values > 127).astype(np.uint8), values, values.astype(np.uint32), ())


def plane(background: float, *objects: tuple[float, int], side: int = 100) -> Prediction:
    """Plane with square objects of a probability and a side."""
    values = np.full((side, side), background)
    for i, (p, size) in enumerate(objects):
        values[i * 30 : i * 30 + size, :size] = p
    return seen(values)


def test_certain_planes_are_not_doubtful() -> None:
    assert doubt(plane(0.0)) == 0.0
    assert doubt(plane(0.0, (1.0, 20))) == 0.0
    assert doubt(plane(1.0)) == 0.0


@pytest.mark.parametrize("p", [0.01, 0.03, 0.05])
def test_nearly_certain_emptiness_is_nearly_no_doubt(p: float) -> None:
    assert doubt(plane(p)) <= 2 * p + 0.005


def test_one_half_everywhere_is_the_most() -> None:
    assert doubt(plane(0.5)) == pytest.approx(1.0, abs=0.01)
    assert doubt(plane(0.0, (0.5, 50))) == pytest.approx(1.0, abs=0.02)


def test_an_object_more_or_less_believed() -> None:
    doubts = [doubt(plane(0.01, (p, 20))) for p in (1.0, 0.9, 0.75, 0.5)]
    assert doubts == sorted(doubts)
    assert doubts[0] < 0.02 < 0.15 < doubts[1]


def test_an_object_that_was_seen_and_not_believed_counts() -> None:
    assert doubt(plane(0.01, (0.3, 20))) > 0.4
    sure = doubt(plane(0.01, (0.98, 20)))
    assert doubt(plane(0.01, (0.98, 20), (0.45, 20))) > sure + 0.1


def test_sizes_do_not_count_except_of_specks() -> None:
    small, large = (doubt(plane(0.0, (0.7, side))) for side in (30, 60))
    assert small == pytest.approx(large, rel=0.05)
    wide = doubt(plane(0.0, (0.7, 300), side=1000))
    assert wide == pytest.approx(small)
    assert doubt(plane(0.0, (0.7, 2))) < small / 4


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.09])
def test_noise_on_an_empty_plane_comes_after_objects_with_unsure_edges(noise: float) -> None:
    """Nothing is found there and nothing was nearly found: there is nothing to look at."""
    values = np.zeros((100, 100))
    values[20:60, 20:60], values[22:58, 22:58] = 0.6, 1.0
    edges = doubt(seen(values))
    assert doubt(plane(noise)) == 0.0
    assert doubt(plane(noise, (0.3, 3))) < edges


def test_overlapping_classes_are_taken_together() -> None:
    certain, unsure = np.zeros((50, 50)), np.zeros((50, 50))
    certain[:20] = 1.0
    unsure[:20] = 0.5
    assert doubt(seen([certain, certain])) == 0.0
    assert 0.1 < doubt(seen([certain, unsure])) < doubt(seen([unsure, unsure]))


def test_dim_planes_are_more_doubtful(trained: TrainedModel, unseen: Scene) -> None:
    """A model that has learnt bright objects is unsure of faint ones."""
    normal = [doubt(found) for found in predict(trained, unseen.images)]
    scale = trained.model.normalization
    high = tuple(2 * value for value in scale.high)
    dim = replace(trained.model, normalization=scale.model_copy(update={"high": high}))
    faint = [doubt(found) for found in predict(TrainedModel(dim, trained.encoder), unseen.images)]
    assert min(faint) > max(normal)
    assert all(0 <= value <= 1 for value in (*normal, *faint))


def test_objects_that_are_half_believed() -> None:
    sure, unsure = (Instance(i, "a", 16, (0, 0, 4, 4), score) for i, score in ((1, 0.96), (2, 0.8)))
    found = Prediction(PlaneId("a"), *[np.zeros((4, 4), t) for t in ("u1", "u1", "u4")], (sure, unsure))
    assert unsure_objects(found) == [unsure]


def doubtful(values: Mapping[int, float]) -> dict[int, PlaneScores]:
    return {z: PlaneScores(PlaneId("a", (z,)), value, 0.0) for z, value in values.items()}


def test_few_planes_stand_out_of_a_good_result() -> None:
    """As on the nuclei: most planes have nearly the same doubt, and that of some is several times as high."""
    good = {z: 0.06 + 0.01 * np.sin(z) for z in range(40)}
    assert standing_out(doubtful(good)) == {}
    assert standing_out(doubtful({**good, 50: 0.3, 51: 0.18})) == {50: "doubt", 51: "doubt"}
    assert standing_out(doubtful({**good, 50: 0.09})) == {}


def test_a_sure_plane_stands_out_by_its_sizes_or_by_its_second_look() -> None:
    """As on a nearly black plane: one giant object, of which the model is sure."""
    planes = {z: replace(one, look=0.1) for z, one in doubtful(dict.fromkeys(range(20), 0.05)).items()}
    planes[3] = replace(planes[3], size=1.2)
    planes[4] = replace(planes[4], size=0.3)
    planes[5] = replace(planes[5], look=0.4)
    planes[6] = replace(planes[6], look=math.nan)
    planes[7] = replace(planes[7], size=1.2, doubt=0.5)
    assert standing_out(planes) == {7: "doubt", 5: "look", 3: "size"}


def test_giants_stand_out_though_most_planes_have_them() -> None:
    """As in a stack of which a third is empty, and a model of two boxed planes that fills the dark."""
    planes = {z: replace(one, size=2.0) for z, one in doubtful(dict.fromkeys(range(20), 0.05)).items()}
    assert standing_out(planes) == dict.fromkeys(range(20), "size")


def test_a_giant_counts_among_many_objects_of_usual_size() -> None:
    usual = [Instance(i, "a", 100, (0, 0, 10, 10), 1.0) for i in range(1, 12)]
    giant = Instance(12, "a", 20_000, (0, 0, 200, 200), 1.0)
    empty = [np.zeros((4, 4), kind) for kind in ("u1", "u1", "u4")]
    areas = {"a": (50.0, 100.0, 200.0)}
    assert plane_scores(Prediction(PlaneId("a"), *empty, tuple(usual)), areas).size == 0.0
    found = plane_scores(Prediction(PlaneId("a"), *empty, (*usual, giant)), areas).size
    assert found == pytest.approx(math.log(100) * 20_000 / 21_100)


def test_nothing_stands_out_of_nothing_or_of_one() -> None:
    assert standing_out({}) == {}
    assert standing_out(doubtful({1: 0.9})) == {}
    assert standing_out(doubtful(dict.fromkeys(range(5), 0.4))) == {}


# The order of planes


def scores(
    name: str,
    *,
    doubt: float = 0.0,
    size: float = 0.0,
    look: float = math.nan,
    views: float = math.nan,
    at: float | None = None,
) -> PlaneScores:
    vector = None if at is None else np.array([at, 0.0], np.float32)
    return PlaneScores(PlaneId(name), doubt, size, look, vector, views)


def names(planes: list[PlaneScores], *boxed: float, **options: object) -> list[str]:
    vectors = [np.array([at, 0.0], np.float32) for at in boxed]
    return [found.plane.image for found in order_planes(planes, vectors, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["doubt", "size", "look", "views"])
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


def test_a_plane_near_the_boxed_ones_is_not_called_unlike_them_because_others_are_nearer() -> None:
    planes = [scores("far", doubt=0.4, at=10.0), scores("twin", doubt=0.3, at=9.9), scores("near", at=1.0)]
    because = {item.plane.image: item.because for item in order_planes(planes, [np.zeros(2, np.float32)])}
    assert because["near"] != "novelty"
    assert because["twin"] != "novelty"


@pytest.mark.parametrize("name", ["look", "views"])
def test_an_unknown_score_is_neither_good_nor_bad(name: str) -> None:
    planes = [scores("bad", **{name: 0.9}), scores("unknown"), scores("good", **{name: 0.1})]
    assert names(planes, strategy=name) == ["bad", "unknown", "good"]


@given(st.permutations(range(6)), st.permutations(range(6)), st.permutations(range(6)))
def test_a_score_that_no_plane_has_changes_no_order(
    doubts: list[int], sizes: list[int], places: list[int]
) -> None:
    planes = [
        scores(str(i), doubt=doubts[i], size=sizes[i], look=0.1 * doubts[i], at=places[i]) for i in range(6)
    ]
    # Without a look, what is left is doubt and size; with one that says what doubt says, doubt counts twice.
    without = [replace(plane, look=math.nan) for plane in planes]
    by_hand = {
        plane.plane.image: (plane.doubt / 5 + plane.size / 5) / 2 + places[i] / max(places)
        for i, plane in enumerate(planes)
    }
    first = order_planes(without, [np.zeros(2, np.float32)], count=1)[0]
    assert by_hand[first.plane.image] == pytest.approx(max(by_hand.values()))
    assert first.score == pytest.approx(max(by_hand.values()) / 2)


def test_views_count_in_the_combined_order_where_they_are_known() -> None:
    planes = [scores(letter, doubt=0.1 * i, at=1.0) for i, letter in enumerate("abcd")]
    assert names(planes, 0.0)[0] == "d"
    measured = [replace(plane, views=0.9 if plane.plane.image == "c" else 0.1) for plane in planes]
    found = order_planes(measured, [np.zeros(2, np.float32)])
    assert found[0].plane.image == "c"
    assert found[0].because == "views"


def test_what_is_not_known_is_no_reason() -> None:
    known = [scores(str(i), doubt=0.1 * i, size=0.1 * i, look=0.1 * i, views=0.1 * i) for i in range(5)]
    low = scores("low", doubt=0.05, size=0.05)
    (found,) = [item for item in order_planes([*known, low], [np.zeros(2)]) if item.plane.image == "low"]
    assert found.because in ("doubt", "size", "novelty")


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
            st.floats(0, 1) | st.just(math.nan),
            st.none() | st.floats(-5, 5),
        ),
        max_size=12,
    ),
    st.lists(st.floats(-5, 5), max_size=3),
)
def test_every_plane_comes_once(
    strategy: str, values: list[tuple[float, float, float, float, float | None]], boxed: list[float]
) -> None:
    planes = [
        scores(str(i), doubt=value[0], size=value[1], look=value[2], views=value[3], at=value[4])
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
    found = Prediction(PlaneId("a"), labels.astype(np.uint8), probability, labels, objects, 0.75, vector, 0.3)
    given_areas = plane_scores(found, {"cell": [50.0, 100.0, 200.0]})
    assert given_areas.doubt == doubt(found)
    assert given_areas.look == 0.25
    assert given_areas.views == 0.3
    assert given_areas.size == pytest.approx(math.log(2) * 425 / 525)  # 400 and 25 are twice off
    assert given_areas.vector is vector
    assert plane_scores(found, {}).size == 0.0
