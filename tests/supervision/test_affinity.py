from __future__ import annotations

import math

import pytest
import torch

from napari_boxprompt.supervision.affinity import affinity_loss

SIDE = 32


def halves(left: float, right: float) -> torch.Tensor:
    """Map whose left half has one value and whose right half another."""
    values = torch.full((SIDE, SIDE), left)
    values[:, SIDE // 2 :] = right
    return values


IMAGE = halves(0.2, 0.8)[None]
EVERYWHERE = torch.ones(SIDE, SIDE, dtype=torch.bool)


def test_an_outline_on_the_edge_of_the_image_costs_nothing() -> None:
    assert float(affinity_loss(halves(-12.0, 12.0), IMAGE, EVERYWHERE)) < 1e-3
    beside = halves(-12.0, 12.0).roll(4, dims=1)
    beside[:, :4] = -12.0
    assert float(affinity_loss(beside, IMAGE, EVERYWHERE)) > 0.5


def test_pixels_that_look_alike_and_are_half_believed_cost_log_2() -> None:
    found = affinity_loss(torch.zeros(SIDE, SIDE), IMAGE, EVERYWHERE)
    assert float(found) == pytest.approx(math.log(2))


def test_only_pairs_with_a_pixel_in_a_box_count() -> None:
    boxed = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    assert float(affinity_loss(torch.zeros(SIDE, SIDE), IMAGE, boxed)) == 0.0
    boxed[10, 10] = True
    logits = torch.zeros(SIDE, SIDE, requires_grad=True)
    affinity_loss(logits + 1.0, IMAGE, boxed).backward()
    assert logits.grad is not None
    rows, columns = torch.nonzero(logits.grad, as_tuple=True)
    assert {(int(y) - 10, int(x) - 10) for y, x in zip(rows, columns, strict=True)} <= {
        (y, x) for y in (-2, 0, 2) for x in (-2, 0, 2)
    }
    assert len(rows) > 1


def test_neighbours_that_were_apart_do_not_count() -> None:
    flat = torch.full_like(IMAGE, 0.5)  # all alike, so that only the blocks keep pixels apart
    blocks = (torch.arange(SIDE) // (SIDE // 2)).expand(SIDE, SIDE)
    assert float(affinity_loss(halves(-12.0, 12.0), flat, EVERYWHERE)) > 0.5
    assert float(affinity_loss(halves(-12.0, 12.0), flat, EVERYWHERE, blocks)) < 1e-3


def test_background_reaches_in_up_to_the_edge() -> None:
    """Outside is known, the box is not: the image decides which part of the box is the object."""
    image = torch.full((1, SIDE, SIDE), 0.2)
    image[:, 12:20, 12:20] = 0.8
    boxed = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    boxed[8:24, 8:24] = True
    logits = torch.zeros(SIDE, SIDE, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(150):
        known = torch.where(boxed, logits, torch.full_like(logits, -8.0))
        seed = torch.nn.functional.softplus(-logits[15:17, 15:17]).mean()
        loss = affinity_loss(known, image, boxed) + 0.1 * seed
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = (logits > 0) & boxed
    assert found[13:19, 13:19].all()
    assert not found[8:11].any()
    assert not found[:, 8:11].any()


def test_saturated_logits_keep_their_gradient() -> None:
    logits = halves(-60.0, 60.0).roll(4, dims=1).requires_grad_()
    affinity_loss(logits, IMAGE, EVERYWHERE).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0
