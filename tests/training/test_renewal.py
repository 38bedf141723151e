"""Masks to learn from that the model renews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.synthetic import Scene

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.config import TrainConfig
from napari_boxprompt.events import Progress
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.supervision.targets import BoxLabel, PlaneTargets
from napari_boxprompt.training import TrainingRun, fit
from napari_boxprompt.training.dataset import Dataset, Sample
from napari_boxprompt.training.renewal import renew_masks
from napari_boxprompt.views import GRID, View

MakeConfig = Callable[..., TrainConfig]
BOX = (40.0, 60.0, 100.0, 160.0)
AREA = 60 * 100
HERE = View.square(0, 0, GRID)
TURNED = View((0.0, -1.0, GRID, 1.0, 0.0, 0.0))


def filled(box: tuple[float, float, float, float] = BOX) -> BoxLabel:
    """A pseudo-label that fills its box."""
    y0, x0, y1, x1 = map(int, box)
    return BoxLabel(box, (y0, x0, y1, x1), np.ones((y1 - y0, x1 - x0), np.float16))


def dataset(*labels: BoxLabel, drawn: bool = False) -> Dataset:
    """One plane of the size of the grid, as it is and turned, and a held-out one."""
    known = [
        PlaneTargets(PlaneId(name), (GRID, GRID), (labels,), complete=True, drawn=drawn) for name in "ab"
    ]
    plane, held = (
        [Sample(view, torch.zeros(1), torch.zeros(1), one.render(view), one) for view in (HERE, TURNED)]
        for one in known
    )
    return Dataset(groups=[plane], held=held[:1], planes=known[:1], held_planes=(known[1].plane,))


def marked(*boxes: tuple[int, int, int, int]) -> Callable[[Sample], torch.Tensor]:
    """A model that marks rectangles of the grid."""
    logits = torch.full((1, GRID, GRID), -8.0)
    for y0, x0, y1, x1 in boxes:
        logits[0, y0:y1, x0:x1] = 8.0
    return lambda _: logits


def renewed(data: Dataset, logits: Callable[[Sample], torch.Tensor]) -> Dataset:
    list(renew_masks(data, logits))
    return data


def test_masks_of_the_model_are_learnt_from_in_every_view() -> None:
    # Half of the box, and something outside of it that no box allows.
    data = renewed(dataset(filled()), marked((40, 60, 70, 160), (200, 200, 240, 240)))
    (plane,) = data.planes
    assert plane.labels[0][0].fill == pytest.approx(0.5, abs=0.01)
    for sample in data.groups[0]:
        assert sample.plane is plane
        (target,) = sample.targets
        assert int(target.pseudo.sum()) == pytest.approx(AREA / 2, rel=0.03)
        assert int(target.outside.sum()) == pytest.approx(GRID**2 - AREA, rel=0.01)
    straight, turned = (sample.targets[0].pseudo for sample in data.groups[0])
    assert not torch.equal(straight, turned)
    assert straight[41:69, 61:159].all()


def test_an_object_that_was_not_found_is_not_taught_away() -> None:
    missed = (150.0, 20.0, 190.0, 60.0)
    data = renewed(dataset(filled(), filled(missed)), marked((40, 60, 100, 110), (150, 20, 155, 60)))
    found, kept = data.planes[0].labels[0]
    assert found.fill == pytest.approx(0.5, abs=0.01)
    assert kept.fill == 1.0


def test_a_box_beyond_the_view_keeps_its_mask() -> None:
    cut = BoxLabel((200.0, 200.0, 300.0, 300.0), (200, 200, 300, 300), np.ones((100, 100), np.float16))
    data = renewed(dataset(filled(), cut), marked((0, 0, GRID, 128)))
    assert data.planes[0].labels[0][1] is cut


def test_masks_of_the_user_and_of_held_out_planes_stay() -> None:
    data = dataset(filled(), drawn=True)
    before, held = data.groups[0][0], data.held[0]
    renewed(data, marked((40, 60, 70, 160)))
    assert data.groups[0][0] is before
    guessed = renewed(dataset(filled()), marked((40, 60, 70, 160)))
    assert guessed.held[0].targets[0].pseudo.sum() == held.targets[0].pseudo.sum()


def test_renewing_that_is_cut_off_changes_nothing() -> None:
    data = dataset(filled())
    planes, groups = data.planes, data.groups
    work = renew_masks(data, marked((40, 60, 70, 160)))
    next(work)
    work.close()
    assert data.planes is planes
    assert data.groups is groups


# --- in a training ------------------------------------------------------------------------------------------


@pytest.fixture
def start(
    scene: Scene, encoder: Encoder, normalization: Normalization, quick: MakeConfig
) -> Callable[..., TrainingRun]:
    def prepare(resume: Any = None, masks: Any = None, **settings: Any) -> TrainingRun:
        config = quick(**{"steps": 6, "renew": 0.5, **settings})
        return fit(scene.images, scene.boxes, config, encoder, normalization, resume, masks=masks)

    return prepare


def steps_of(training: TrainingRun) -> Iterator[Progress]:
    return (event for event in training if isinstance(event, Progress) and event.phase == "train")


def same(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_comes_once_at_its_time(start: Callable[..., TrainingRun]) -> None:
    training = start()
    told = [(event.done, event.message) for event in steps_of(training)]
    planes = len(training._data.planes)
    assert told == [
        *((step, "") for step in (1, 2, 3)),
        *[(3, "renewing masks")] * planes,
        *((step, "") for step in (4, 5, 6)),
    ]


def test_what_is_learnt_after_it_is_another(start: Callable[..., TrainingRun]) -> None:
    with_it, without = start(), start(renew=0)
    list(with_it)
    list(without)
    assert not same(with_it.state(), without.state())
    assert not any(name.startswith("teacher.") for name in without.state())


@pytest.mark.parametrize(("stop", "message"), [(2, ""), (3, ""), (3, "renewing masks"), (4, ""), (5, "")])
def test_a_training_that_was_stopped_goes_on_with_the_same_masks(
    start: Callable[..., TrainingRun], stop: int, message: str
) -> None:
    whole, stopped = start(), start()
    list(whole)
    for event in steps_of(stopped):
        if (event.done, event.message) == (stop, message):
            break
    stopped.close()
    resumed = start(resume=stopped.state())
    assert resumed.step == stop
    list(resumed)
    assert same(resumed.state(), whole.state())
    assert same(resumed.model.weights, whole.model.weights)


def test_masks_that_the_user_gave_are_learnt_from_to_the_end(
    start: Callable[..., TrainingRun], scene: Scene
) -> None:
    masks = {plane: (scene.labels[plane] > 0).astype(np.uint8) for plane in scene.boxes.boxed_planes}
    with_it, without = start(masks=masks), start(masks=masks, renew=0)
    list(with_it)
    list(without)
    assert same(dict(with_it.snapshot().weights), dict(without.snapshot().weights))
