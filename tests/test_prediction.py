from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.helpers.synthetic import FakeModel, Scene, draw_plane, make_scene, overlap

from napari_boxprompt import prediction
from napari_boxprompt._readers import ArrayReader
from napari_boxprompt.api import TrainedModel
from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BundleError, ImageError
from napari_boxprompt.images import Images, Normalization, open_images
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.prediction import Prediction, Predictor, assemble, predict_planes
from napari_boxprompt.refinement import Refined
from napari_boxprompt.views import GRID, View, tile_views

PLANE = PlaneId("a.tif")
RANGE = Normalization(low=(0.0,), high=(1.0,))


@pytest.fixture
def predictor(trained: TrainedModel) -> Predictor:
    return Predictor(trained.model, trained.encoder)


Predict = Callable[..., Prediction]


@pytest.fixture
def predict(trained: TrainedModel) -> Predict:
    """Predict one array on its own range of values, with other settings of the model if wanted."""

    def run(values: np.ndarray, scale: float = 1.0, **changes: Any) -> Prediction:
        channels = values.shape[2]
        normalization = Normalization(low=(0.0,) * channels, high=(scale,) * channels)
        model = replace(trained.model, normalization=normalization, **changes)
        return Predictor(model, trained.encoder).predict(PLANE, values)

    return run


def drawn(shape: tuple[int, int], seed: int = 3, objects: int = 2) -> tuple[np.ndarray, np.ndarray]:
    values, labels = draw_plane(shape, [0.8] * objects, np.random.default_rng(seed), 0.15)
    return values[..., None], labels > 0


# --- kinds of images


@pytest.mark.parametrize("shape", [(96, 200), (200, 96), (128, 128), (37, 64)])
@pytest.mark.parametrize("tile", [None, 64.0])
def test_shapes_and_tiles(predict: Predict, shape: tuple[int, int], tile: float | None) -> None:
    values, truth = drawn(shape)
    found = predict(values, tile=tile)
    assert found.mask.shape == found.probability.shape == found.labels.shape == shape
    assert (found.mask.dtype, found.probability.dtype, found.labels.dtype) == (np.uint8, np.uint8, np.uint32)
    assert set(np.unique(found.mask)) == {0, 1}
    assert overlap(found.mask, truth) > 0.88
    assert ((found.probability > 127.6) == (found.mask == 1)).all()


def test_smallest_image(predict: Predict) -> None:
    values, truth = drawn((32, 32), objects=1)
    found = predict(values)
    assert found.mask.shape == (32, 32)
    assert overlap(found.mask, truth) > 0.85


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.uint8, 255), (np.uint16, 60_000), (np.int16, 30_000), (np.float32, 1), (np.float64, 7)],
)
def test_pixel_types_give_one_mask(predict: Predict, dtype: Any, scale: float) -> None:
    values, truth = drawn((110, 90))
    found = predict((values * scale).astype(dtype), scale)
    assert overlap(found.mask, predict(values).mask) > 0.995
    assert overlap(found.mask, truth) > 0.9


def test_not_a_number_is_background(predict: Predict) -> None:
    values, truth = drawn((110, 90))
    broken = values.astype(np.float32)
    broken[:20] = np.nan
    broken[60, 45] = -np.inf
    found = predict(broken)
    assert not found.mask[:16].any()
    whole = predict(values.astype(np.float32))
    np.testing.assert_array_equal(found.mask[70:], whole.mask[70:])
    assert truth[70:].any()


def test_colour_and_one_channel_of_it(predict: Predict, predictor: Predictor) -> None:
    values, truth = drawn((110, 90))
    colour = np.repeat(values, 3, axis=2) * 255
    assert overlap(predict(colour.astype(np.uint8), 255).mask, truth) > 0.9
    stained = np.stack([np.zeros((110, 90)), values[..., 0] * 255, np.full((110, 90), 9)], axis=-1)
    images = open_images(stained.astype(np.uint8), channel=1, name="a")
    found = predict(images.read(images.planes[0]), 255)
    assert overlap(found.mask, truth) > 0.9


# --- tiles


class CountedArray(np.memmap):
    """Memory map that notes which regions are asked for."""

    asked: list[tuple[int, int, int, int]]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and all(isinstance(part, slice) for part in key[:2]):
            y, x = (part.indices(side) for part, side in zip(key, self.shape, strict=False))
            self.asked.append((y[0], x[0], y[1], x[1]))
        return super().__getitem__(key)

    def __array_finalize__(self, source: Any) -> None:
        super().__array_finalize__(source)
        self.asked = getattr(source, "asked", [])


def test_memory_map_is_read_tile_by_tile(predict: Predict, tmp_path: Path) -> None:
    values, truth = drawn((220, 300))
    path = tmp_path / "a.raw"
    (values * 255).astype(np.uint8).tofile(path)
    mapped = CountedArray(path, np.uint8, "r", shape=(220, 300, 1))
    mapped.asked = []
    found = predict(mapped, 255, tile=96.0)
    views = [view for row in tile_views((220, 300), 96.0) for view in row]
    assert mapped.asked == [view.region((220, 300)) for view in views]
    assert len(views) > 8
    assert max((y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in mapped.asked) <= 100 * 100
    assert overlap(found.mask, truth) > 0.9


def test_planes_much_larger_than_those_trained_on_are_seen_in_tiles(
    predict: Predict, trained: TrainedModel
) -> None:
    assert trained.model.tile is None
    assert trained.model.tile_for((200, 256)) is None
    assert trained.model.tile_for((257, 100)) == trained.model.side == 128.0
    assert replace(trained.model, tile=64.0).tile_for((9999, 100)) == 64.0
    values, truth = drawn((300, 120))
    assert overlap(predict(values).mask, truth) > 0.9


@pytest.mark.parametrize(
    ("changes", "looks"),
    [({}, True), ({"tile": 64.0}, False), ({"refine": False}, False)],
    ids=["whole", "tiles", "switched off"],
)
def test_objects_on_whole_images_get_a_second_look(
    predict: Predict,
    trained: TrainedModel,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    looks: bool,
) -> None:
    asked: list[bool] = []

    def noted(_frozen: Any, _embedding: Any, logits: torch.Tensor, *, single: bool) -> Refined:
        asked.append(single)
        return Refined(torch.full_like(logits, 5.0), 0.75)

    monkeypatch.setattr(prediction, "refined", noted)
    config = trained.model.config.model_copy(update={"refine": changes.pop("refine", True)})
    found = predict(drawn((96, 96))[0], config=config, most_objects={trained.model.classes[0]: 1}, **changes)
    assert found.mask.all() == looks
    assert asked == ([True] if looks else [])
    assert found.agreement == 0.75 if looks else math.isnan(found.agreement)


@pytest.mark.parametrize(("shape", "single"), [((96, 96), True), ((300, 120), False)], ids=["whole", "tiles"])
def test_one_object_in_an_image_is_not_one_in_each_tile(
    predict: Predict,
    trained: TrainedModel,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    single: bool,
) -> None:
    asked: set[bool] = set()

    def noted(_frozen: Any, _embedding: Any, logits: torch.Tensor, *, single: bool) -> Refined:
        asked.add(single)
        return Refined(logits, 0.75)

    monkeypatch.setattr(prediction, "refined", noted)
    predict(drawn(shape)[0], most_objects={trained.model.classes[0]: 1})
    assert asked == {single}


# --- a second view


class _Net(torch.nn.Module):
    """Generator that says the same of every view, or what it is told of the first and of the second."""

    def __init__(self, *answers: float) -> None:
        super().__init__()
        self.answers = list(answers)

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return torch.full((1, 1, GRID, GRID), answer)


@pytest.mark.parametrize(("answers", "expected"), [([3.0], 0.0), ([-9.0], 0.0), ([8.0, -8.0], 1.0)])
@pytest.mark.parametrize("tile", [None, 64.0])
def test_disagreement_is_what_two_views_make_different(
    trained: TrainedModel, answers: list[float], expected: float, tile: float | None
) -> None:
    predictor = Predictor(replace(trained.model, tile=tile), trained.encoder)
    predictor._net = _Net(*answers * (1 if len(answers) == 1 else 20))
    found = predictor.predict(PLANE, drawn((96, 96))[0], disagreement=True)
    assert found.disagreement == pytest.approx(expected, abs=0.01)


def test_a_second_view_costs_an_encoding_a_tile_and_changes_nothing_else(trained: TrainedModel) -> None:
    encoder = Encoder(FakeModel(sha256=trained.model.frozen_sha256), trained.encoder.fabric)
    predictor = Predictor(replace(trained.model, tile=64.0, normalization=RANGE), encoder)
    values, _ = drawn((96, 130))
    plain = predictor.predict(PLANE, values)
    tiles = encoder.frozen.encoded
    assert tiles > 4
    both = predictor.predict(PLANE, values, disagreement=True)
    assert encoder.frozen.encoded == 2 * tiles
    assert math.isnan(plain.disagreement)
    assert 0.0 < both.disagreement < 0.3
    for name in ("mask", "probability", "labels", "vector"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(both, name))
    assert plain.objects == both.objects


def test_a_plane_on_which_views_differ_disagrees_more(predict: Predict, predictor: Predictor) -> None:
    clear = drawn((96, 96))[0]
    faint = np.where(clear > 0.5, clear * 0.62, clear)  # near what the model takes for an object
    model = replace(predictor.model, normalization=RANGE)
    sure, unsure = (
        Predictor(model, predictor.encoder).predict(PLANE, values, disagreement=True).disagreement
        for values in (clear, faint)
    )
    assert sure < unsure <= 1.0


def test_planes_that_look_alike_have_near_vectors(predict: Predict) -> None:
    one, other = drawn((96, 96))[0], drawn((96, 96))[0].max() - drawn((96, 96))[0]
    vectors = [predict(values).vector for values in (one, np.roll(one, 3, axis=1), other)]
    assert all(vector is not None and vector.shape == (256,) for vector in vectors)
    near, far = (float(np.linalg.norm(vectors[0] - vectors[i])) for i in (1, 2))
    assert near < far


def test_progress_counts_tiles(predictor: Predictor, trained: TrainedModel) -> None:
    values, _ = drawn((200, 128))
    seen: list[tuple[int, int]] = []
    tiled = Predictor(replace(trained.model, tile=100.0), trained.encoder)
    tiled.predict(PLANE, values, lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_one_overconfident_tile_does_not_outvote_its_neighbour() -> None:
    rows = tile_views((64, 100), 64.0)
    first = rows[0][0]

    def maps(view: View) -> torch.Tensor:
        return torch.full((1, GRID, GRID), 1e6 if view == first else -8.0)

    mask, probability = assemble((64, 100), rows, maps, 1, exclusive=True)
    assert mask[:, :45].all()
    assert not mask[:, 55:].any()
    np.testing.assert_allclose(probability[:, 50], 128, atol=60)


def test_classes_exclude_each_other_or_overlap() -> None:
    logits = torch.full((3, GRID, GRID), -4.0)
    logits[0, :, :128], logits[1, :, 64:192], logits[2, :64] = 1.0, 2.0, 0.5

    def maps(view: View) -> torch.Tensor:
        return logits

    shape, rows = (GRID, GRID), [[View.whole((GRID, GRID))]]
    mask, probability = assemble(shape, rows, maps, 3, exclusive=True)
    expected = np.zeros(shape)
    expected[:64], expected[:, :128], expected[:, 64:192] = 3, 1, 2
    np.testing.assert_array_equal(mask, expected)
    certain = {
        0: 1 / (1 + np.exp(4)),
        1: 1 / (1 + np.exp(-1)),
        2: 1 / (1 + np.exp(-2)),
        3: 1 / (1 + np.exp(-0.5)),
    }
    for value, chance in certain.items():
        np.testing.assert_array_equal(probability[expected == value], round(chance * 255))
    masks, chances = assemble(shape, rows, maps, 3, exclusive=False)
    assert masks.shape == chances.shape == (3, GRID, GRID)
    np.testing.assert_array_equal(masks, logits > 0)
    assert chances[1, 100, 100] == round(255 / (1 + np.exp(-2)))


# --- objects


def check_objects(labels: np.ndarray, mask: np.ndarray, found: Prediction) -> None:
    """Every object is where the label image has its number, and nothing else is there."""
    numbers = [item.id for item in found.objects]
    assert sorted(np.unique(labels[labels > 0]).tolist()) == sorted(numbers)
    for item in found.objects:
        where = labels == item.id
        assert where.sum() == item.area
        layers, *_ = np.nonzero(where) if where.ndim == 3 else (np.zeros(1, int),)
        flat = where.any(axis=0) if where.ndim == 3 else where
        rows, columns = np.nonzero(flat)
        assert item.box == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        value = found.probability[where].mean() / 255
        assert item.score == pytest.approx(value)
        assert len(set(layers.tolist())) == 1
        assert (mask[where] > 0).all()


def test_table_of_objects_fits_the_labels(predictor: Predictor, unseen: Scene) -> None:
    for found in predict_planes(predictor, unseen.images):
        check_objects(found.labels, found.mask, found)
        assert [item.id for item in found.objects] == [1, 2, 3]
        assert {item.label for item in found.objects} == {"object"}
        for number in range(1, 4):
            truth = unseen.labels[found.plane] == number
            best = max(overlap(found.labels == item.id, truth) for item in found.objects)
            assert best > 0.88


def test_overlapping_classes_have_a_stack_of_labels(trained: TrainedModel, unseen: Scene) -> None:
    weights = dict(trained.model.weights)
    weights |= {name.replace("generators.0", "generators.1"): value for name, value in weights.items()}
    model = replace(trained.model, weights=weights, classes=("a", "b"), exclusive=False)
    plane = unseen.images.planes[0]
    found = Predictor(model, trained.encoder).predict(plane, unseen.images.read(plane))
    assert found.mask.shape == found.labels.shape == found.probability.shape == (2, *unseen.mask(plane).shape)
    np.testing.assert_array_equal(found.mask[0], found.mask[1])
    assert [item.id for item in found.objects] == [1, 2, 3, 4, 5, 6]
    assert [item.label for item in found.objects] == ["a"] * 3 + ["b"] * 3
    check_objects(found.labels, found.mask, found)
    both = Predictor(replace(model, exclusive=True), trained.encoder).predict(
        plane, unseen.images.read(plane)
    )
    assert both.mask.shape == unseen.mask(plane).shape
    np.testing.assert_array_equal(both.mask, found.mask[0])  # equal classes: the first one wins


# --- planes


def test_workers_do_not_change_the_result(predictor: Predictor, scene: Scene) -> None:
    one, three = (list(predict_planes(predictor, scene.images, workers=n)) for n in (1, 3))
    assert [found.plane for found in one] == [found.plane for found in three] == list(scene.images.planes)
    for first, second in zip(one, three, strict=True):
        np.testing.assert_array_equal(first.mask, second.mask)
        np.testing.assert_array_equal(first.probability, second.probability)
        np.testing.assert_array_equal(first.labels, second.labels)
        assert first.objects == second.objects


def test_chosen_planes_in_the_given_order(predictor: Predictor, scene: Scene) -> None:
    chosen = [scene.images.planes[i] for i in (4, 1)]
    assert [found.plane for found in predict_planes(predictor, scene.images, chosen, workers=3)] == chosen
    assert list(predict_planes(predictor, scene.images, [])) == []


class Damaged(Images):
    """A stack whose second plane cannot be read, between two images."""

    def __init__(self) -> None:
        values = np.full((3, 64, 64), 40, np.uint8)
        shapes = {"a.tif": values[0], "s.tif": values, "z.tif": values[0]}
        super().__init__({name: ArrayReader(shape, name) for name, shape in shapes.items()})

    def read(self, plane: PlaneId) -> Any:
        if plane == PlaneId("s.tif", (1,)):
            raise ImageError("s.tif is damaged.")
        return super().read(plane)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_plane_that_cannot_be_read_is_passed_over(predictor: Predictor, workers: int) -> None:
    errors = list[tuple[str, str]]()
    found = predict_planes(
        predictor,
        Damaged(),
        workers=workers,
        on_error=lambda plane, error: errors.append((str(plane), str(error))),
    )
    assert [str(one.plane) for one in found] == ["a.tif", "s.tif[0]", "s.tif[2]", "z.tif"]
    assert errors == [("s.tif[1]", "s.tif is damaged.")]
    with pytest.raises(ImageError, match="damaged"):
        list(predict_planes(predictor, Damaged(), workers=workers))


def test_colours_are_not_taken_for_grey(predictor: Predictor) -> None:
    images = Images({"c.png": ArrayReader(np.zeros((64, 64, 3), np.uint8), "c.png")})
    with pytest.raises(ImageError, match=r"c\.png is in colour \(channels: 3\).* grey \(1\).*--channel"):
        next(predict_planes(predictor, images))
    scale = Normalization(low=(0, 0, 0), high=(1, 1, 1))
    colour = Predictor(replace(predictor.model, normalization=scale), predictor.encoder)
    with pytest.raises(ImageError, match=r"a\.tif is grey \(channels: 1\).* in colour \(3\); convert it"):
        next(predict_planes(colour, Damaged()))


def kinds(*types: str) -> Images:
    """The same picture, once of each number type."""
    values, _ = drawn((64, 64))
    shown = (values[..., 0] * 255).astype(np.uint8)
    made = {
        "uint8": shown,
        "uint16": shown.astype(np.uint16) * 257,
        "float32": shown.astype(np.float32) / 255,
        "bool": shown > 100,
    }
    return Images({f"{kind}.tif": ArrayReader(made[kind], f"{kind}.tif") for kind in types})


@pytest.mark.parametrize("kind", ["uint16", "float32", "bool"])
def test_another_number_type_is_said_once(
    predictor: Predictor, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    assert predictor.model.pixel_types == ("uint8",)
    said: list[str] = []
    list(predict_planes(predictor, kinds("uint8", kind, "uint16"), on_warning=said.append))
    assert len(said) == 1
    assert said[0].startswith(f"{kind}.tif has pixels of the type {kind}, but the model learnt from uint8")
    assert "Convert such images to uint8, or train on" in said[0]
    assert not caplog.records
    list(predict_planes(predictor, kinds("uint8", kind, "uint16")))
    assert [record.getMessage() for record in caplog.records] == said
    assert not list(predict_planes(predictor, kinds("uint8"), on_warning=said.append))[1:]
    assert len(said) == 1


def test_models_that_do_not_know_the_type_know_the_scale(predictor: Predictor) -> None:
    scale = Normalization(low=(9.0,), high=(250.0,))
    old = Predictor(replace(predictor.model, record={}, normalization=scale), predictor.encoder)
    for kind in ("uint16", "float32", "bool"):
        said: list[str] = []
        list(predict_planes(old, kinds("uint8", kind, "uint16"), on_warning=said.append))
        assert len(said) == 1
        assert said[0].startswith(f"Almost all pixels of {kind}.tif lie outside the brightness")
        assert "9 to 250" in said[0]
    black = np.zeros((64, 64, 1), np.uint8)
    assert not old.caution(PLANE, black), "an empty plane is nothing unusual"


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_stops_reading(predictor: Predictor, scene: Scene, workers: int) -> None:
    reads: list[PlaneId] = []

    class Noted(Images):
        def read(self, plane: PlaneId) -> Any:
            reads.append(plane)
            return super().read(plane)

    predicting = predict_planes(predictor, Noted(scene.images._readers), workers=workers)
    next(predicting)
    predicting.close()
    assert len(reads) <= 1 + workers
    assert next(predicting, None) is None


def test_same_embedding_for_a_plane_seen_before(predictor: Predictor, encoder: Encoder) -> None:
    values, _ = drawn((64, 64))
    fresh = Predictor(predictor.model, encoder)
    first, second = (fresh.predict(PLANE, (values * 255).astype(np.uint8)) for _ in range(2))
    np.testing.assert_array_equal(first.probability, second.probability)
    assert isinstance(encoder.frozen, FakeModel)
    assert encoder.frozen.encoded == 1


def test_other_frozen_model_is_refused(trained: TrainedModel, fabric: Fabric) -> None:
    other = Encoder(FakeModel("stranger", sha256="a1b2" * 16), fabric)
    model = replace(trained.model, config=trained.model.config.model_copy(update={"model": "litemedsam"}))
    with pytest.raises(BundleError) as caught:
        Predictor(model, other)
    for part in ("'litemedsam'", "f" * 12, "'stranger'", "a1b2a1b2a1b2"):
        assert part in str(caught.value)


def test_weights_of_another_model_are_refused(trained: TrainedModel) -> None:
    with pytest.raises(BundleError, match="do not fit"):
        Predictor(replace(trained.model, classes=("a", "b")), trained.encoder)


def test_larger_model_input(trained: TrainedModel, fabric: Fabric) -> None:
    scene = make_scene(((128, 128),), seed=4)
    large = Encoder(FakeModel(input_size=512), fabric)
    (found,) = predict_planes(Predictor(trained.model, large), scene.images)
    assert overlap(found.mask, scene.mask(found.plane)) > 0.88
