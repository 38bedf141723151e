from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from napari_boxprompt.errors import ConfigError
from napari_boxprompt.supervision import boxmasks, losses

SIDE = 24
QUICK = settings(max_examples=40, deadline=None)


def psi(z: float, t: float) -> float:
    """ψ_t in plain Python, for comparison."""
    if z <= -1 / t**2:
        return -math.log(-z) / t
    return t * z - math.log(1 / t**2) / t + 1 / t


def boxes_of(*boxes: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


def random_map(*shape: int, seed: int = 0) -> torch.Tensor:
    """Probabilities in 0.1..0.9, float64, with gradient."""
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (0.1 + 0.8 * values).requires_grad_()


def size_of(p: torch.Tensor, boxes: torch.Tensor, t: float = 5.0, low: float = 0.7, high: float = 0.9):
    masks = boxmasks.box_mask(boxes, (p.shape[0], p.shape[1]))
    return losses.size_loss(p, masks, masks.sum((1, 2)), boxmasks.exclusive_masks(masks), low, high, t)


def ellipse(box: tuple[int, int, int, int]) -> torch.Tensor:
    """Mask of the ellipse that touches the four sides of a box."""
    y0, x0, y1, x1 = box
    centre = torch.arange(SIDE) + 0.5
    v, u = (2 * centre - y0 - y1) / (y1 - y0), (2 * centre - x0 - x1) / (x1 - x0)
    return (v[:, None] ** 2 + u[None] ** 2 <= 1).float()


# --- barrier ---------------------------------------------------------------------------------------


def test_barrier_values_by_hand():
    z = torch.tensor([-1.0, -math.e, -0.06, -0.04, 0.0, 1.0], dtype=torch.float64)
    linear = math.log(25) / 5 + 0.2
    expected = [0.0, -0.2, -math.log(0.06) / 5, math.log(25) / 5, linear, 5 + linear]
    assert losses.log_barrier(z, 5.0).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("t", [0.5, 1.0, 5.0, 50.0])
def test_barrier_value_and_slope_are_continuous(t):
    limit = -1 / t**2
    z = torch.tensor([limit * (1 + 1e-9), limit * (1 - 1e-9)], dtype=torch.float64, requires_grad=True)
    value = losses.log_barrier(z, t)
    value.sum().backward()
    assert value[0].item() == pytest.approx(value[1].item(), abs=1e-7)
    assert value[0].item() == pytest.approx(2 * math.log(t) / t, abs=1e-7)
    assert z.grad.tolist() == pytest.approx([t, t], rel=1e-6)


@QUICK
@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32), st.floats(0.5, 100))
def test_barrier_rises_and_has_finite_slope(a, b, t):
    z = torch.tensor(sorted([a, b]), requires_grad=True)
    value = losses.log_barrier(z, t)
    value.sum().backward()
    assert value[0] <= value[1] + 1e-6 * abs(value[1])
    assert torch.isfinite(value).all()
    # The slope -1/(tz) of the curved part never exceeds that of the straight one.
    assert ((z.grad > 0) & (z.grad <= t * (1 + 1e-5))).all()


@pytest.mark.parametrize("t", [0.0, -1.0, math.nan])
def test_barrier_refuses_t(t):
    with pytest.raises(ConfigError, match="positive"):
        losses.log_barrier(torch.zeros(1), t)


def test_schedules():
    assert [losses.barrier_t(f) for f in (0, 0.5, 1)] == pytest.approx([5, math.sqrt(250), 50])
    assert losses.barrier_t(0.25, 1, 16) == pytest.approx(2)
    assert (losses.barrier_t(-1), losses.barrier_t(2)) == pytest.approx((5, 50))
    found = [losses.barrier_t_epochs(e) for e in (0, 4, 5, 9, 10)]
    assert found == pytest.approx([5, 5, 5.5, 5.5, 6.05])
    assert losses.barrier_t_epochs(3, factor=2, every=1) == pytest.approx(40)


# --- probabilities ---------------------------------------------------------------------------------


def test_sigmoid_and_minmax_by_hand():
    logits = torch.tensor([[[0.0, 2.0], [-2.0, 1.0]], [[4.0, 4.0], [4.0, 5.0]]])
    sigmoid = losses.probabilities(logits, "sigmoid")
    assert sigmoid[0, 0].tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-2))])
    minmax = losses.probabilities(logits, "minmax")
    assert minmax.tolist() == [[[0.5, 1.0], [0.0, 0.75]], [[0.0, 0.0], [0.0, 1.0]]]
    assert torch.equal(losses.probabilities(logits[:, None], "minmax"), minmax[:, None])
    assert torch.allclose(losses.probabilities(logits * 1e-6, "minmax"), minmax)


@QUICK
@given(st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4))
def test_minmax_always_reaches_one_even_where_nothing_is_seen(values):
    logits = torch.tensor(values).reshape(1, 2, 2) - 100
    assume(logits.max() > logits.min())
    found = losses.probabilities(logits, "minmax")
    assert (found.min(), found.max()) == (0, 1)
    assert losses.probabilities(logits, "sigmoid").max() < 1e-6


def test_minmax_of_a_constant_map():
    logits = torch.full((1, 3, 3), 2.0, requires_grad=True)
    found = losses.probabilities(logits, "minmax")
    found.sum().backward()
    assert not found.any()
    assert torch.isfinite(logits.grad).all()


# --- masks -----------------------------------------------------------------------------------------


def test_box_mask_is_half_open_at_pixel_centres():
    boxes = boxes_of(
        (1, 2, 3, 4), (0.5, 0, 1.5, 0.6), (0.51, 0, 1.5, 0.6), (-9, -9, 99, 99), (1, 1, 1.4, 1.4)
    )
    masks = boxmasks.box_mask(boxes, (4, 5))
    assert masks.dtype == torch.float32
    assert masks.shape == (5, 4, 5)
    assert [mask.nonzero().tolist() for mask in masks[:3]] == [[[1, 2], [1, 3], [2, 2], [2, 3]], [[0, 0]], []]
    assert masks[3].all()
    assert not masks[4].any()
    assert boxmasks.box_mask(boxes_of(), (4, 5)).shape == (0, 4, 5)


def test_touching_boxes_share_no_pixel():
    masks = boxmasks.box_mask(boxes_of((0, 0, 4, 2.5), (0, 2.5, 4, 6)), (4, 6))
    assert torch.equal(masks.sum(0), torch.ones(4, 6))


@pytest.mark.parametrize(
    ("transform", "pixels"),
    [
        # Twice as fine: grid (x, y) shows base (x / 2, y / 2).
        ([[0.5, 0, 0], [0, 0.5, 0]], [[2, 4], [2, 5], [3, 4], [3, 5]]),
        ([[1, 0, 2], [0, 1, -1]], [[2, 0]]),
        # Quarter turn: base x is 6 - grid y, base y is grid x.
        ([[0, -1, 6], [1, 0, 0]], [[3, 1]]),
        ([[-1, 0, 6], [0, 1, 0]], [[1, 3]]),
    ],
)
def test_box_mask_through_axis_aligned_views(transform, pixels):
    mask = boxmasks.box_mask(boxes_of((1, 2, 2, 3)), (6, 6), torch.tensor(transform, dtype=torch.float64))
    assert mask[0].nonzero().tolist() == pixels


def test_box_mask_through_a_rotated_view():
    s = math.sqrt(0.5)
    # Base is the grid turned by 45° round (8, 8): the square becomes a diamond |x - 8| + |y - 8| < 4.
    turn = torch.tensor([[s, -s, 8], [s, s, 8 - 16 * s]], dtype=torch.float64)
    half = 4 * s
    mask = boxmasks.box_mask(boxes_of((8 - half, 8 - half, 8 + half, 8 + half)), (16, 16), turn)[0]
    x = torch.arange(16) + 0.5 - 8
    distance = x.abs()[:, None] + x.abs()[None]
    assert mask[distance < 3.9].all()
    assert not mask[distance > 4.1].any()
    assert mask.sum() > 0


def test_exclusive_masks_of_nested_and_overlapping_boxes():
    masks = boxmasks.box_mask(boxes_of((0, 0, 1, 4), (0, 1, 1, 3), (0, 3, 1, 5)), (1, 6))
    assert boxmasks.exclusive_masks(masks)[:, 0].tolist() == [[1, 0, 0, 0, 0, 0], [0] * 6, [0, 0, 0, 0, 1, 0]]
    apart = boxmasks.box_mask(boxes_of((0, 0, 1, 3), (0, 3, 1, 6)), (1, 6))
    assert torch.equal(boxmasks.exclusive_masks(apart), apart)


# --- pseudo-label ----------------------------------------------------------------------------------


def test_pseudo_label_by_hand():
    p = torch.tensor([[[0.8, 0.4, 0.9]]], dtype=torch.float64)
    y = torch.tensor([[[1.0, 0.0, 1.0]]])
    valid = torch.tensor([[[True, True, False]]])
    bce = -(math.log(0.8) + math.log(0.6)) / 2
    dice = 1 - (2 * 0.8 + 1) / (1.2 + 1 + 1)
    assert losses.pseudo_label_loss(p, y, valid).item() == pytest.approx((bce + dice) / 2)
    dice = 1 - (2 * 0.8 + 3) / (1.2 + 1 + 3)
    assert losses.pseudo_label_loss(p, y, valid, smooth=3).item() == pytest.approx((bce + dice) / 2)
    weights = torch.tensor([[[0.3, 0.1, 0.0]]])
    bce = -(0.3 * math.log(0.8) + 0.1 * math.log(0.6)) / 0.4
    dice = 1 - (2 * 0.3 * 0.8 + 1) / (0.28 + 0.3 + 1)
    assert losses.pseudo_label_loss(p, y, weights).item() == pytest.approx((bce + dice) / 2, rel=1e-6)


def test_pseudo_label_of_empty_and_unknown_samples():
    p = torch.full((3, 2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    target = torch.zeros(3, 2, 2)
    target[1, 0, 0] = target[2] = 1
    valid = torch.ones(3, 2, 2)
    valid[1, 0, 0] = valid[2] = 0
    # An empty target, one that is empty where it is known, and one of which nothing is known.
    loss = losses.pseudo_label_loss(p, target, valid)
    assert loss.item() == pytest.approx(2 / 3 * math.log(2))
    loss.backward()
    assert torch.equal(p.grad != 0, valid.bool())
    assert (p.grad >= 0).all()
    assert losses.pseudo_label_loss(p[:0], target[:0], valid[:0]).item() == 0


def test_logits_give_the_same_loss_and_a_slope_where_the_model_is_sure():
    logits = torch.tensor([[[2.0, -1.0], [0.5, -3.0]]], dtype=torch.float64, requires_grad=True)
    target, valid = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.ones(1, 2, 2, dtype=torch.bool)
    p = logits.sigmoid()
    assert losses.pseudo_label_loss(p, target, valid, logits=logits).item() == pytest.approx(
        losses.pseudo_label_loss(p, target, valid).item()
    )
    assert losses.outside_loss(p, valid, logits=logits).item() == pytest.approx(
        losses.outside_loss(p, valid).item()
    )
    # A frozen decoder is this sure that there is nothing, and of the opposite.
    sure = torch.tensor([[[-30.0, 30.0]]], dtype=torch.float64, requires_grad=True)
    wrong, known = torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    losses.pseudo_label_loss(sure.sigmoid(), wrong, known).backward()
    assert sure.grad.abs().max() < 1e-6
    sure.grad = None
    losses.pseudo_label_loss(sure.sigmoid(), wrong, known, logits=sure).backward()
    assert sure.grad[0, 0, 0] < -0.1
    assert sure.grad[0, 0, 1] > 0.1


def test_pseudo_label_of_certain_mistakes_is_finite():
    p = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], requires_grad=True)
    target = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    loss = losses.pseudo_label_loss(p, target, torch.ones(1, 2, 2))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * -math.log(1e-6) / 2 + 0.5 * 0.4, rel=2e-3)
    assert torch.isfinite(p.grad).all()


# --- box size --------------------------------------------------------------------------------------


def test_size_equals_the_paper_where_boxes_share_nothing():
    p = random_map(SIDE, SIDE).detach()
    boxes = [(0, 0, 10, 8), (0, 8, 6, 24), (12, 3, 20, 20)]
    expected = 0.0
    for y0, x0, y1, x1 in boxes:
        area, held = (y1 - y0) * (x1 - x0), p[y0:y1, x0:x1].sum().item()
        expected += (psi(held - 0.9 * area, 7.0) + psi(0.7 * area - held, 7.0)) / area / len(boxes)
    assert size_of(p, boxes_of(*boxes), t=7.0).item() == pytest.approx(expected, rel=1e-9)


def test_size_of_nested_boxes_bounds_above_only_what_is_its_own():
    p = torch.full((6, 6), 0.5, dtype=torch.float64)
    found = size_of(p, boxes_of((0, 0, 6, 6), (1, 1, 3, 3)))
    outer = (psi(16 - 0.9 * 36, 5) + psi(0.7 * 36 - 18, 5)) / 36
    inner = (psi(0 - 0.9 * 4, 5) + psi(0.7 * 4 - 2, 5)) / 4
    assert found.item() == pytest.approx((outer + inner) / 2)


def test_size_takes_a_range_for_each_box_and_skips_boxes_out_of_sight():
    p = random_map(SIDE, SIDE)
    boxes = boxes_of((0, 0, 8, 8), (10, 10, 20, 20), (3.1, 3.1, 3.2, 3.2))
    masks = boxmasks.box_mask(boxes, (SIDE, SIDE))
    low, high = torch.tensor([0.1, 0.6, 0.7]), torch.tensor([0.3, 0.8, 0.9])
    found = losses.size_loss(p, masks, masks.sum((1, 2)), boxmasks.exclusive_masks(masks), low, high, 5.0)
    apart = size_of(p, boxes[:1], low=0.1, high=0.3) + size_of(p, boxes[1:2], low=0.6, high=0.8)
    assert found.item() == pytest.approx(apart.item() / 2, rel=1e-6)


@pytest.mark.parametrize("boxes", [boxes_of(), boxes_of((3.1, 3.1, 3.2, 3.2))])
def test_terms_without_a_visible_box_are_zero_with_a_gradient(boxes):
    for loss in (lambda p: size_of(p, boxes), lambda p: losses.tightness_loss(p, boxes, 5.0)):
        p = random_map(SIDE, SIDE)
        value = loss(p)
        value.backward()
        assert value.item() == 0
        assert not p.grad.any()


@QUICK
@given(st.floats(0.05, 0.6), st.floats(0.05, 0.35), st.sampled_from([2.0, 5.0, 50.0]))
def test_size_is_least_in_the_middle_of_the_range(low, width, t):
    high = low + width
    box, middle = boxes_of((2, 2, 22, 22)), low + width / 2
    fills = torch.linspace(0, 1, 41, dtype=torch.float64)
    value = [size_of(f.expand(SIDE, SIDE), box, t, low, high).item() for f in fills]
    order = sorted(range(41), key=lambda i: abs(fills[i].item() - middle))
    ranked = [value[i] for i in order]
    assert ranked == pytest.approx(sorted(ranked), abs=1e-9)
    inside = [v for v, f in zip(value, fills, strict=True) if low + 0.01 < f < high - 0.01]
    outside = [v for v, f in zip(value, fills, strict=True) if f < low - 0.01 or f > high + 0.01]
    assert all(v < 0 for v in inside)
    assert not inside or max(inside) < min(outside)


# --- outside ---------------------------------------------------------------------------------------


def test_outside_by_hand_masked_and_released():
    p = torch.tensor([[[0.5, 0.75], [0.9, 0.0]], [[0.5, 0.5], [0.5, 0.5]]], dtype=torch.float64)
    outside = torch.zeros(2, 2, 2, dtype=torch.bool)
    outside[0, 0] = True
    masked = losses.outside_loss(p, outside)
    assert masked.item() == pytest.approx((math.log(2) + math.log(4)) / 2 / 2)
    released = losses.outside_loss(p, outside, "released")
    assert released.item() == pytest.approx((math.log(2) + math.log(4) + math.log(10)) / 2 / 2)


@pytest.mark.parametrize(("variant", "touched"), [("masked", False), ("released", True)])
def test_only_the_released_outside_loss_pushes_the_object_to_background(variant, touched):
    p = random_map(2, 6, 6)
    outside = torch.ones(2, 6, 6, dtype=torch.bool)
    outside[0, 1:4, 1:4] = False
    outside[1] = False
    losses.outside_loss(p, outside, variant).backward()
    assert (p.grad[0, outside[0]] > 0).all()
    assert bool((p.grad[0, 1:4, 1:4] > 0).all()) is touched
    if not touched:
        assert not p.grad[0, 1:4, 1:4].any()
    assert not p.grad[1].any()


def test_outside_rises_with_probability_and_is_finite_at_one():
    outside = torch.ones(1, 4, 4, dtype=torch.bool)
    values = [losses.outside_loss(torch.full((1, 4, 4), p), outside).item() for p in (0, 0.3, 0.9, 1.0)]
    assert values[0] == 0
    assert values == sorted(set(values))
    assert values[-1] == pytest.approx(-math.log(1e-6), rel=2e-3)


# --- tightness -------------------------------------------------------------------------------------


def test_tightness_by_hand():
    p = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    p[2, 3:9], p[12, 4] = 1.0, 0.5
    # 12 rows are two bands (the last two rows are dropped), 6 columns are one.
    held = [6, 0, 5 + 0.5]
    expected = sum(psi(5 - h, 4.0) for h in held) / 3
    found = losses.tightness_loss(p, boxes_of((2, 3, 14, 9)), 4.0)
    assert found.item() == pytest.approx(expected)


def test_tightness_of_a_box_thinner_than_a_band():
    p = torch.full((SIDE, SIDE), 0.5, dtype=torch.float64)
    # 3 rows: one band that needs 3 pixels and holds 15; 10 columns: two bands of 5 that hold 7.5 each.
    expected = (psi(3 - 15, 5.0) + 2 * psi(5 - 7.5, 5.0)) / 3
    assert losses.tightness_loss(p, boxes_of((4, 4, 7, 14)), 5.0).item() == pytest.approx(expected)
    one = losses.tightness_loss(p, boxes_of((4.2, 4.2, 5.1, 5.1)), 5.0, width=5)
    assert one.item() == pytest.approx(psi(0.5, 5.0))


def test_tightness_uses_only_bands_that_are_seen_whole():
    p = random_map(SIDE, SIDE)
    # Cut at the left: its rows may hold the object out of sight, its columns 0..4 may not.
    found = losses.tightness_loss(p, boxes_of((5, -5, 15, 5)), 5.0)
    assert found.item() == pytest.approx(psi(5 - p[5:15, 0:5].sum().item(), 5.0))
    whole = losses.tightness_loss(p, boxes_of((5, -0.4, 15, 5)), 5.0)
    bands = [p[5:10, 0:5], p[10:15, 0:5], p[5:15, 0:5]]
    assert whole.item() == pytest.approx(sum(psi(5 - b.sum().item(), 5.0) for b in bands) / 3)
    assert losses.tightness_loss(p, boxes_of((-3, -3, 9, 9)), 5.0).item() == 0


def test_tightness_falls_with_probability_and_only_inside_the_box():
    p = random_map(SIDE, SIDE)
    losses.tightness_loss(p, boxes_of((3, 4, 13, 19)), 5.0).backward()
    inside = boxmasks.box_mask(boxes_of((3, 4, 13, 19)), (SIDE, SIDE))[0].bool()
    assert (p.grad[inside] < 0).all()
    assert not p.grad[~inside].any()


# --- consistency -----------------------------------------------------------------------------------


def test_consistency_by_hand():
    warped = torch.tensor([[0.1, 0.9, 0.5]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.4, 0.5, 1.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, False]])
    rms = losses.consistency_loss(warped, target, valid)
    assert rms.item() == pytest.approx(math.sqrt((0.09 + 0.16) / 2))
    assert losses.consistency_loss(warped, target, valid, "l2").item() == pytest.approx(0.5)
    rms.backward()
    assert warped.grad[0, 2] == 0
    assert warped.grad[0, 0] < 0 < warped.grad[0, 1]


@pytest.mark.parametrize("norm", ["rms", "l2"])
@pytest.mark.parametrize("known", [0.0, 1.0])
def test_consistency_of_equal_or_unknown_maps(norm, known):
    warped = random_map(4, 4)
    target = warped.detach().clone() if known else torch.zeros(4, 4, dtype=torch.float64)
    loss = losses.consistency_loss(warped, target, torch.full((4, 4), known), norm)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(warped.grad, torch.zeros_like(warped))


# --- all of them -----------------------------------------------------------------------------------

KNOWN = random_map(8, 8, seed=1).detach()
TERMS = {
    "sigmoid": lambda p: losses.probabilities(p[None], "sigmoid"),
    "minmax": lambda p: losses.probabilities(p[None], "minmax"),
    "pseudo_label": lambda p: losses.pseudo_label_loss(p[None], KNOWN[None], KNOWN.T[None] > 0.3),
    "size": lambda p: size_of(p, boxes_of((0, 0, 4, 4), (2, 2, 7, 8), (3, 3, 4, 4))),
    "masked": lambda p: losses.outside_loss(p[None], KNOWN[None] > 0.4),
    "released": lambda p: losses.outside_loss(p[None], KNOWN[None] > 0.4, "released"),
    "tightness": lambda p: losses.tightness_loss(p, boxes_of((0, 0, 8, 8), (1, 2, 4, 8)), 5.0, width=3),
    "rms": lambda p: losses.consistency_loss(p, KNOWN, KNOWN > 0.2),
    "l2": lambda p: losses.consistency_loss(p, KNOWN, KNOWN > 0.2, "l2"),
}


@pytest.mark.parametrize("name", TERMS)
def test_gradients_and_precision(name):
    p = random_map(8, 8, seed=3)
    value = TERMS[name](p)
    assert value.dtype == torch.float64
    assert torch.autograd.gradcheck(TERMS[name], (p,))
    single = TERMS[name](p.detach().float())
    assert torch.allclose(single.double(), value, rtol=1e-4, atol=1e-5)


def test_gradient_of_the_barrier():
    z = torch.tensor([-30.0, -1.0, -0.05, -0.03, 0.0, 12.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: losses.log_barrier(z, 5.0), (z,))


def test_unknown_names_are_refused():
    one = torch.ones(1, 2, 2)
    with pytest.raises(ConfigError, match="sigmoid"):
        losses.probabilities(one, "softmax")
    with pytest.raises(ConfigError, match="masked"):
        losses.outside_loss(one, one > 0, "all")
    with pytest.raises(ConfigError, match="rms"):
        losses.consistency_loss(one, one, one, "l1")


SPAN = st.floats(0.0078125, SIDE, width=32)
START = st.floats(-3, SIDE, width=32)
ANY_BOX = st.builds(lambda y, x, h, w: (y, x, y + h, x + w), START, START, SPAN, SPAN)


@st.composite
def box_sets(draw):
    """Boxes as people draw them: touching, nested, tiny, full-frame and over the border."""
    y, x, h, w = (draw(st.integers(1, 9)) for _ in range(4))
    first = (y, x, y + h, x + w)
    kinds = {
        "touching": (y, x + w, y + h, x + 2 * w),
        "nested": (y + h / 4, x + w / 4, y + h / 2, x + w / 2),
        "equal": first,
        "tiny": (y + 0.4, x + 0.4, y + 0.4 + draw(st.floats(1e-3, 0.9)), x + 0.6),
        "full": (0, 0, SIDE, SIDE),
        "border": (SIDE - h, SIDE - w, SIDE + draw(st.integers(0, 9)), SIDE),
        "out": (-h, -w, 0, 0),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=4))
    return boxes_of(first, *(kinds[kind] for kind in chosen), *draw(st.lists(ANY_BOX, max_size=3)))


@QUICK
@given(box_sets(), st.sampled_from([0.0, 0.5, 1.0, None]), st.sampled_from([5.0, 50.0, 500.0]))
def test_any_boxes_give_finite_losses_and_gradients(boxes, level, t):
    p = random_map(SIDE, SIDE).detach().float() if level is None else torch.full((SIDE, SIDE), level)
    p.requires_grad_()
    inside = boxmasks.box_mask(boxes, (SIDE, SIDE)).bool().any(dim=0)
    target = ellipse((3, 3, 15, 12)) * inside
    size, tight = size_of(p, boxes, t), losses.tightness_loss(p, boxes, t)
    rest = losses.pseudo_label_loss(p[None], target[None], inside[None])
    for loss, reach in ((size, inside), (tight, inside), (rest, inside)):
        (slope,) = torch.autograd.grad(loss, p)
        assert torch.isfinite(loss)
        assert torch.isfinite(slope).all()
        assert not slope[~reach].any()
    for variant in ("masked", "released"):
        loss = losses.outside_loss(p[None], ~inside[None], variant)
        (slope,) = torch.autograd.grad(loss, p)
        assert torch.isfinite(loss)
        assert torch.isfinite(slope).all()
        assert variant == "released" or not slope[inside].any()


@QUICK
@given(box_sets())
def test_exclusive_pixels_lie_in_exactly_one_box(boxes):
    masks = boxmasks.box_mask(boxes, (SIDE, SIDE))
    alone = boxmasks.exclusive_masks(masks).sum(dim=0)
    assert torch.equal(alone == 1, masks.sum(dim=0) == 1)
    assert alone.max() <= 1


@QUICK
@given(st.integers(0, 8), st.integers(0, 8), st.integers(12, 16), st.integers(12, 16))
def test_a_perfect_mask_is_better_than_none_and_all(y, x, h, w):
    box = (y, x, y + h, x + w)
    perfect, empty, full = ellipse(box), torch.zeros(SIDE, SIDE), torch.ones(SIDE, SIDE)
    boxes = boxes_of(box)
    outside = boxmasks.box_mask(boxes, (SIDE, SIDE)) == 0

    size = [size_of(p, boxes).item() for p in (perfect, empty, full)]
    assert size[0] < 0 < 0.3 < size[2] < 1 < 3.4 < size[1]
    tight = [losses.tightness_loss(p, boxes, 5.0).item() for p in (perfect, empty)]
    assert tight[0] < 0 < 25 < tight[1]
    out = [losses.outside_loss(p[None], outside).item() for p in (perfect, empty, full)]
    assert out[:2] == [0, 0]
    assert out[2] > 13
    known = torch.ones(1, SIDE, SIDE)
    pseudo = [losses.pseudo_label_loss(p[None], perfect[None], known).item() for p in (perfect, empty, full)]
    assert pseudo[0] < 1e-4
    assert min(pseudo[1:]) > 1


@QUICK
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**31))
def test_what_is_not_valid_has_no_value_and_no_gradient(bits, seed):
    valid = torch.tensor([bool(bits >> i & 1) for i in range(64)]).reshape(1, 8, 8)
    p, target = random_map(1, 8, 8, seed=seed), random_map(1, 8, 8, seed=seed + 1).detach()
    changed = torch.where(valid, p.detach(), 1 - p.detach())
    for term in (losses.pseudo_label_loss, losses.consistency_loss):
        loss = term(p, target, valid)
        (slope,) = torch.autograd.grad(loss, p)
        assert not slope[~valid].any()
        assert slope.any() == valid.any()
        assert term(changed, target, valid).item() == pytest.approx(loss.item(), rel=1e-12)


def test_samples_have_weights_and_masks_of_minmax_begin_at_half():
    p, y = torch.full((2, 4, 4), 0.3), torch.zeros(2, 4, 4)
    one, none = (losses.pseudo_label_loss(p, y, y == 0, weight=torch.tensor([1.0, w])) for w in (1.0, 0.0))
    assert float(none) == pytest.approx(float(one) / 2)
    maps = torch.tensor([[[-7.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 9.0]]])
    for activation in ("sigmoid", "minmax"):
        found = losses.cut_at_zero(maps, activation) > 0
        torch.testing.assert_close(found, losses.probabilities(maps, activation) > 0.5)
