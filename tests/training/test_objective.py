from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from tests.helpers.synthetic import FakeModel, Scene, finish, make_scene, quick_config

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.config import LossConfig
from napari_boxprompt.images import Normalization
from napari_boxprompt.lattice import Lattice
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.supervision.targets import PlaneTargets, size_range
from napari_boxprompt.training.dataset import Dataset, Sample, build_dataset
from napari_boxprompt.training.objective import (
    FIXED_RANGE,
    Objective,
    between_views,
    boxed_fraction,
    turn,
    under_flips,
)
from napari_boxprompt.views import GRID, View

LATTICES = [Lattice(2, row, column) for row in (0, 1) for column in (0, 1)]
TERMS = ("pseudo_label", "outside", "size", "tightness", "consistency", "affinity")


def collect(scene: Scene, encoder: Encoder, normalization: Normalization) -> Dataset:
    config = quick_config()
    data, _ = finish(build_dataset(scene.images, scene.boxes, config, encoder, normalization, None))
    assert isinstance(data, Dataset)
    return data


@pytest.fixture(scope="module")
def data(scene: Scene, normalization: Normalization, fabric: Fabric) -> Dataset:
    return collect(scene, Encoder(FakeModel(), fabric), normalization)


@pytest.fixture
def batch(data: Dataset) -> list[Sample]:
    return [*data.groups[0], *data.groups[1]]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(4, 1, GRID, GRID, generator=torch.Generator().manual_seed(0))


def truth(batch: list[Sample], margin: float = 6.0) -> torch.Tensor:
    """Logits that agree with the pseudo-labels."""
    return (
        torch.stack([torch.stack([t.pseudo for t in s.targets]) for s in batch]).float() * 2 * margin - margin
    )


# --- terms and weights --------------------------------------------------------------------------------------


def test_every_term_is_there_and_pulls(data: Dataset, batch: list[Sample], logits: torch.Tensor) -> None:
    logits.requires_grad_()
    terms = Objective(LossConfig(), data)(logits, batch, 5.0)
    assert set(terms) == set(TERMS)
    for name in TERMS:
        assert terms[name].shape == ()
        (gradient,) = torch.autograd.grad(terms[name], logits, retain_graph=True)
        assert gradient.abs().sum() > 0, name
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", TERMS)
def test_a_term_of_weight_0_has_no_part(
    data: Dataset, batch: list[Sample], logits: torch.Tensor, name: str
) -> None:
    without = Objective(LossConfig(**{name: 0.0}), data)(logits, batch, 5.0)
    every = Objective(LossConfig(), data)(logits, batch, 5.0)
    assert float(without.get(name, torch.zeros(()))) == 0.0
    for other in set(TERMS) - {name}:
        assert float(without[other]) == float(every[other])


@pytest.mark.parametrize("name", TERMS)
def test_weights_are_factors(data: Dataset, batch: list[Sample], logits: torch.Tensor, name: str) -> None:
    weight = getattr(LossConfig(), name)
    once = Objective(LossConfig(), data)(logits, batch, 5.0)[name]
    thrice = Objective(LossConfig(**{name: 3 * weight}), data)(logits, batch, 5.0)[name]
    assert float(thrice) == pytest.approx(3 * float(once), rel=1e-5)


def incomplete(sample: Sample) -> Sample:
    return sample.of(replace(sample.plane, complete=False))


def test_what_was_not_said_is_presumed_to_be_background(
    data: Dataset, batch: list[Sample], logits: torch.Tensor
) -> None:
    batch = [incomplete(sample) for sample in batch]  # which other planes are complete changes nothing
    logits.requires_grad_()

    def pull(**weights: float) -> torch.Tensor:
        term = Objective(LossConfig(**weights), data)(logits, batch, 5.0)["pseudo_label"]
        (gradient,) = torch.autograd.grad(term, logits)
        unsaid = torch.stack([torch.stack([t.unsaid for t in sample.targets]) for sample in batch])
        assert unsaid.any()
        return gradient[unsaid]

    presumed = pull()
    assert (presumed > 0).all()  # downhill is towards background
    more = pull(presumed=0.6)
    assert more.sum() > 1.1 * presumed.sum()
    beside = torch.stack([torch.stack([t.beside for t in s.targets]) for s in batch])
    unsaid = torch.stack([torch.stack([t.unsaid for t in s.targets]) for s in batch])
    near = beside[unsaid]
    assert near.any()
    assert not near.all()
    assert presumed[near].mean() > 2 * presumed[~near].mean(), (
        "just round a box there is hardly another object"
    )
    assert not pull(presumed=0.0).any()


def test_background_is_not_presumed_where_few_objects_are_boxed(data: Dataset) -> None:
    known, *others = data.planes
    labels = known.labels[0]
    assert known.complete
    assert len(labels) > 1

    def boxed(times: int, boxes: int, **said: Any) -> list[PlaneTargets]:
        """A plane with many objects boxed, and others, of which nothing is said, with few."""
        dense = replace(known, labels=(labels * times,), **said)
        sparse = replace(known, complete=False, labels=(labels[:1] * boxes,))
        return [dense, sparse, replace(sparse, labels=((),)), replace(known, labels=((),))]

    fraction = boxed_fraction(boxed(10, 3))
    assert fraction == pytest.approx(3 / (10 * len(labels)))
    assert Objective(LossConfig(), Dataset(planes=boxed(10, 3))).presumed == 0.0
    assert Objective(LossConfig(), Dataset(planes=boxed(1, len(labels)))).presumed == 0.3
    assert Objective(LossConfig(presumed=0.0), Dataset(planes=boxed(1, len(labels)))).presumed == 0.0
    assert boxed_fraction(others) == math.inf, "all are complete"
    assert boxed_fraction(boxed(1, 1)[1:]) == math.inf, "a plane without boxes says nothing about others"

    height, width = known.shape
    y0, x0, y1, x1 = labels[0].box
    around = (math.floor(y0), math.floor(x0), math.ceil(y1), math.ceil(x1))
    area = (around[2] - around[0]) * (around[3] - around[1])
    inside = sum(
        around[0] <= (a + c) / 2 < around[2] and around[1] <= (b + d) / 2 < around[3]
        for a, b, c, d in (label.box for label in labels)
    )
    region = boxed(1, 1, complete=False, complete_regions=(around,))
    assert boxed_fraction(region) == pytest.approx(area / (height * width) / inside)


def test_distant_background_pulls_as_it_is_weighed(
    data: Dataset, batch: list[Sample], logits: torch.Tensor
) -> None:
    logits.requires_grad_()

    def pull(distant: float) -> torch.Tensor:
        term = Objective(LossConfig(distant=distant), data)(logits, batch, 5.0)["pseudo_label"]
        (gradient,) = torch.autograd.grad(term, logits)
        return gradient

    outside, beside = (
        torch.stack([torch.stack([getattr(t, name) for t in sample.targets]) for sample in batch])
        for name in ("outside", "beside")
    )
    near, far = outside & beside, outside & ~beside
    assert near.any()
    assert far.any()
    fully, less, not_at_all = pull(1.0), pull(0.3), pull(0.0)
    assert (fully[far] > 0).all()
    ratio = (less[far].mean() / less[near].mean()) / (fully[far].mean() / fully[near].mean())
    assert float(ratio) == pytest.approx(0.3, rel=0.2), "the Dice part of it depends on the sum of all"
    assert not not_at_all[far].any()
    assert (not_at_all[near] > 0).all()


def test_affinity_begins_at_nothing_and_grows(
    data: Dataset, batch: list[Sample], logits: torch.Tensor
) -> None:
    objective = Objective(LossConfig(), data)
    parts = [float(objective(logits, batch, 5.0, done)["affinity"]) for done in (0.0, 0.15, 0.3, 1.0)]
    assert parts[0] == 0.0
    assert parts[1] == pytest.approx(parts[2] / 2)
    assert parts[2] == parts[3] > 0


def test_the_right_mask_is_better_than_all_others(data: Dataset, batch: list[Sample]) -> None:
    objective = Objective(LossConfig(), data)
    right = truth(batch)

    def total(logits: torch.Tensor) -> float:
        return sum(float(term) for term in objective(logits, batch, 20.0).values())

    assert total(right) < 0.2  # noise makes some pixels across an edge look alike
    for wrong in (-right, right.abs(), -right.abs(), right * 0, right.roll(20, dims=-1)):
        assert total(wrong) > total(right) + 0.2


def test_empty_mask_breaks_the_lower_bound_and_full_one_the_upper(data: Dataset, batch: list[Sample]) -> None:
    objective = Objective(LossConfig(), data)
    right = objective(truth(batch), batch, 20.0)
    empty = objective(torch.full((4, 1, GRID, GRID), -8.0), batch, 20.0)
    full = objective(torch.full((4, 1, GRID, GRID), 8.0), batch, 20.0)
    assert float(empty["size"]) > float(right["size"]) + 0.01
    assert float(full["size"]) > float(right["size"]) + 0.01
    assert float(empty["tightness"]) > float(right["tightness"])
    assert float(full["tightness"]) <= float(right["tightness"])
    assert float(full["outside"]) > 1000 * float(right["outside"]) > 0
    assert float(empty["outside"]) < float(full["outside"])


def test_turned_views_take_no_part_in_tightness(data: Dataset, logits: torch.Tensor) -> None:
    turned = [group[1] for group in data.groups[:4]]
    assert not any(sample.targets[0].axis_aligned for sample in turned)
    terms = Objective(LossConfig(), data)(logits, turned, 5.0)
    assert float(terms["tightness"]) == 0.0
    assert float(terms["size"]) != 0.0


def test_incomplete_planes_have_no_outside_term(
    scene: Scene, encoder: Encoder, normalization: Normalization, logits: torch.Tensor
) -> None:
    incomplete = make_scene(complete=False)
    data = collect(incomplete, encoder, normalization)
    batch = [*data.groups[0], *data.groups[1]]
    logits.requires_grad_()
    terms = Objective(LossConfig(presumed=0.0), data)(logits, batch, 5.0)
    assert terms["outside"].item() == 0.0
    (gradient,) = torch.autograd.grad(terms["pseudo_label"], logits)
    boxed = torch.stack([sample.targets[0].valid for sample in batch])[:, None]
    assert (gradient[~boxed] == 0).all()
    assert (gradient[boxed] != 0).any()


# --- variants -----------------------------------------------------------------------------------------------


def test_released_outside_term_also_punishes_objects(data: Dataset, batch: list[Sample]) -> None:
    right = truth(batch).requires_grad_()
    masked = Objective(LossConfig(outside_variant="masked"), data)(right, batch, 5.0)["outside"]
    released = Objective(LossConfig(outside_variant="released"), data)(right, batch, 5.0)["outside"]
    assert released.item() > 10 * masked.item()
    objects = torch.stack([sample.targets[0].pseudo for sample in batch])[:, None]
    (of_masked,) = torch.autograd.grad(masked, right)
    (of_released,) = torch.autograd.grad(released, right)
    assert (of_masked[objects] == 0).all()
    assert (of_released[objects] > 0).all()


def test_size_range_is_learnt_or_fixed(data: Dataset, batch: list[Sample], logits: torch.Tensor) -> None:
    learnt = Objective(LossConfig(size_range="learnt"), data)
    fixed = Objective(LossConfig(size_range="fixed"), data)
    labels = [label for plane in data.planes for label in plane.labels[0]]
    assert len(labels) == 15
    assert learnt.ranges == [size_range(labels)]
    assert fixed.ranges == [FIXED_RANGE] == [(0.7, 0.9)]
    sizes = [float(objective(logits, batch, 5.0)["size"]) for objective in (learnt, fixed)]
    assert sizes[0] != sizes[1]


def test_each_class_has_its_range(encoder: Encoder) -> None:
    scene = make_scene(((160, 160),) * 4, objects=2, classes=(("bright", 0.9), ("dim", 0.6)))
    data = collect(scene, encoder, Normalization.fit(scene.images))
    ranges = Objective(LossConfig(), data).ranges
    assert len(ranges) == 2
    assert ranges[0] != ranges[1]


@pytest.mark.parametrize(
    ("barrier", "fraction", "epoch", "t"),
    [
        ("fraction", 0.0, 99.0, 5.0),
        ("fraction", 0.5, 0.0, 5.0 * math.sqrt(10)),
        ("fraction", 1.0, 0.0, 50.0),
        ("epochs", 0.9, 0.0, 5.0),
        ("epochs", 0.0, 4.9, 5.0),
        ("epochs", 0.0, 5.0, 5.5),
        ("epochs", 0.0, 27.3, 5.0 * 1.1**5),
    ],
)
def test_constraints_harden(data: Dataset, barrier: Any, fraction: float, epoch: float, t: float) -> None:
    assert Objective(LossConfig(barrier=barrier), data).hardness(fraction, epoch) == pytest.approx(t)


def test_minmax_activation_does_not_see_the_scale(
    data: Dataset, batch: list[Sample], logits: torch.Tensor
) -> None:
    objective = Objective(LossConfig(activation="minmax"), data)
    first, second = objective(logits, batch, 5.0), objective(3 * logits - 1, batch, 5.0)
    for name in TERMS:
        assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-3, abs=1e-7)


# --- consistency --------------------------------------------------------------------------------------------


def disc(view: View, y: float, x: float, radius: float) -> torch.Tensor:
    """Probability on the grid of a view of a disc in image pixels, with a soft rim."""
    columns, rows = np.meshgrid(np.arange(GRID) + 0.5, np.arange(GRID) + 0.5)
    image_x, image_y, _ = np.tensordot(view.as_array(), np.stack([columns, rows, np.ones_like(rows)]), axes=1)
    return torch.from_numpy(1 / (1 + np.exp((np.hypot(image_x - x, image_y - y) - radius) / 3))).float()


def sample_at(view: View) -> Sample:
    plane = PlaneTargets(PlaneId("a"), (GRID, GRID), (), complete=True)
    return Sample(view, torch.zeros(1), torch.zeros(1), (), plane)


BASE = View.square(0, 0, 256)
TURNED = View((0.9, -0.35, 40.0, 0.35, 0.9, -20.0))


def test_one_mask_in_two_views_costs_nothing() -> None:
    same = torch.stack([disc(view, 120, 140, 50)[None] for view in (BASE, TURNED)])
    moved = torch.stack([disc(BASE, 120, 140, 50)[None], disc(TURNED, 100, 160, 50)[None]])
    batch = [sample_at(BASE), sample_at(TURNED)]
    assert float(between_views(same, batch)) < 0.01
    assert float(between_views(moved, batch)) > 0.15


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_masks_agree_exactly(value: float) -> None:
    maps = torch.full((2, 2, GRID, GRID), value)
    assert float(between_views(maps, [sample_at(BASE), sample_at(TURNED)])) == pytest.approx(0, abs=1e-6)


def test_only_what_both_views_saw_is_compared() -> None:
    left, right = View.square(0, 0, 256), View.square(0, 128, 256)
    maps = torch.zeros(2, 1, GRID, GRID)
    maps[0, :, :, :120] = 1.0  # out of sight of the right view
    maps[1, :, :, 136:] = 1.0  # and of the left one
    assert float(between_views(maps, [sample_at(left), sample_at(right)])) == 0.0
    maps[0, :, :, 120:] = 1.0
    assert float(between_views(maps, [sample_at(left), sample_at(right)])) == pytest.approx(1.0, abs=0.02)


def test_pairs_are_averaged_and_equal_views_skipped() -> None:
    opposite = torch.stack([torch.zeros(1, GRID, GRID), torch.ones(1, GRID, GRID)])
    one_pair = [sample_at(BASE), sample_at(TURNED)]
    alone = float(between_views(opposite, one_pair))
    assert alone == pytest.approx(1.0, abs=0.02)
    assert float(between_views(opposite, [sample_at(BASE), sample_at(BASE)])) == 0.0
    maps = torch.cat([opposite, torch.zeros(2, 1, GRID, GRID)])
    assert float(between_views(maps, one_pair * 2)) == pytest.approx(alone / 2)
    skipped = [*one_pair, sample_at(BASE), sample_at(BASE)]
    assert float(between_views(maps, skipped)) == pytest.approx(alone)
    assert float(between_views(opposite[:1], one_pair[:1])) == 0.0


def test_classes_do_not_change_what_a_term_weighs(data: Dataset, batch: list[Sample]) -> None:
    right = truth(batch)
    logits = right.roll(6, dims=-1) * 0.3
    one = Objective(LossConfig(tightness=0.1), data)(logits, batch, 5.0)
    thrice = [replace(sample, targets=sample.targets * 3) for sample in batch]
    objective = Objective(LossConfig(tightness=0.1), data)
    objective.ranges *= 3
    found = objective(logits.repeat(1, 3, 1, 1), thrice, 5.0)
    for name, term in one.items():
        assert float(found[name]) == pytest.approx(float(term), rel=1e-5), name


def test_a_plane_without_boxes_of_a_class_says_less_where_nothing_is_complete(encoder: Encoder) -> None:
    scene = make_scene(((96, 96),) * 4, objects=1, classes=(("a", 0.9), ("b", 0.5)), complete=False)
    first = scene.images.planes[0]
    boxes = scene.boxes.with_boxes(b for b in scene.boxes.boxes if b.label == "a" or b.plane == first)
    data = collect(replace(scene, boxes=boxes), encoder, Normalization.fit(scene.images))
    objective = Objective(LossConfig(), data)
    batch = [next(group[0] for group in data.groups if group[0].plane.plane != first)]
    empty = torch.full((1, 2, GRID, GRID), -30.0)
    found = empty.clone()
    found[0, 1] = 5.0

    def everywhere(batch: list[Sample]) -> float:
        terms = [objective(maps, batch, 5.0)["pseudo_label"] for maps in (found, empty)]
        return float(terms[0] - terms[1])

    assert everywhere(batch) == pytest.approx(objective.presumed / 3 * 5.0 / 2, rel=0.01), "of two classes"
    (sample,) = batch
    known = [sample.of(replace(sample.plane, complete=True))]
    assert everywhere(known) == pytest.approx(5.0 / 2, rel=0.01), "on a complete plane there is none"


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_released_consistency_under_flips(turns: int, mirrored: bool) -> None:
    p = torch.rand(2, 1, GRID, GRID, generator=torch.Generator().manual_seed(1))
    assert float(under_flips(p, turn(p, turns, mirrored), turns, mirrored)) < 1e-4
    if turns or mirrored:
        assert float(under_flips(p, p, turns, mirrored)) > 0.05 * 64, "a sum over 64 x 64 pixels"


def test_turn_is_a_quarter_turn_then_a_mirror() -> None:
    corner = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert turn(corner, 1, False).tolist() == [[2, 4], [1, 3]]
    assert turn(corner, 0, True).tolist() == [[2, 1], [4, 3]]
    assert turn(corner, 1, True).tolist() == [[4, 2], [3, 1]]


def test_shared_pixels_break_no_upper_bound(data: Dataset) -> None:
    sample = data.groups[0][0]
    (target,) = sample.targets
    y0, x0, y1, x1 = target.boxes[0].tolist()
    middle = (x0 + x1) / 2
    halves = [[y0, x0, y1, x1], [y0, x0, y1, middle], [y0, middle, y1, x1]]
    shared = replace(target, boxes=torch.tensor(halves, dtype=torch.float64))
    full = torch.full((1, 1, GRID, GRID), 8.0)
    objective = Objective(LossConfig(size_range="fixed"), data)
    # Every pixel may belong to another box, so a full box is not too much.
    assert float(objective(full, [replace(sample, targets=(shared,))], 20.0)["size"]) < 0
    assert float(objective(full, [sample], 20.0)["size"]) > 0


def test_views_without_boxes_are_harmless(data: Dataset, logits: torch.Tensor) -> None:
    sample = data.groups[0][0]
    (target,) = sample.targets
    bare = replace(target, boxes=target.boxes[:0], pseudo=torch.zeros_like(target.pseudo))
    terms = Objective(LossConfig(), data)(logits[:1], [replace(sample, targets=(bare,))], 5.0)
    assert float(terms["size"]) == float(terms["tightness"]) == float(terms["consistency"]) == 0.0
    assert float(terms["pseudo_label"]) > 0


# --- on a lattice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", LATTICES)
def test_terms_on_a_lattice_are_about_those_of_the_whole(
    data: Dataset, batch: list[Sample], lattice: Lattice
) -> None:
    """Logits as smooth as a decoder's: what a quarter of the blocks says is what all of them say, nearly."""
    noise = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    logits = truth(batch, 1.0) + F.interpolate(noise, size=(GRID, GRID), mode="bilinear")
    objective = Objective(LossConfig(size=1.0, tightness=1.0), data)
    whole = objective(logits, batch, 5.0)
    part = objective(lattice.pixels(logits), batch, 5.0, lattice=lattice)
    assert set(part) == set(TERMS)
    for name in set(TERMS) - {"tightness"}:  # its bands are twice as wide here
        assert float(part[name]) == pytest.approx(float(whole[name]), rel=0.3, abs=0.02), name


@pytest.mark.parametrize("lattice", LATTICES)
def test_every_term_pulls_on_a_lattice(
    data: Dataset, batch: list[Sample], logits: torch.Tensor, lattice: Lattice
) -> None:
    logits.requires_grad_()
    terms = Objective(LossConfig(), data)(lattice.pixels(logits), batch, 5.0, lattice=lattice)
    for name in TERMS:
        (gradient,) = torch.autograd.grad(terms[name], logits, retain_graph=True)
        assert gradient.abs().sum() > 0, name
        assert gradient.isfinite().all()


@pytest.mark.parametrize("lattice", LATTICES)
def test_what_agrees_with_the_boxes_costs_less_on_a_lattice(
    data: Dataset, batch: list[Sample], lattice: Lattice
) -> None:
    objective, right = Objective(LossConfig(), data), truth(batch)
    for wrong in (right.roll(30, -1), torch.full_like(right, -6.0), torch.full_like(right, 6.0)):
        good, bad = (
            sum(map(float, objective(lattice.pixels(m), batch, 20.0, lattice=lattice).values()))
            for m in (right, wrong)
        )
        assert good < bad


@pytest.mark.parametrize("lattice", LATTICES)
def test_one_mask_in_two_views_costs_nothing_on_a_lattice(lattice: Lattice) -> None:
    def cost(*masks: torch.Tensor) -> float:
        maps = lattice.pixels(torch.stack([mask[None] for mask in masks]))
        return float(between_views(maps, [sample_at(BASE), sample_at(TURNED)], lattice))

    same = cost(disc(BASE, 120, 140, 50), disc(TURNED, 120, 140, 50))
    moved = cost(disc(BASE, 120, 140, 50), disc(TURNED, 116, 144, 50))
    assert same < 0.03 < moved
