"""What the frozen model makes of boxes while they are drawn."""

import threading
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari.components import ViewerModel
from tests.gui.test_work import FakeEncoders
from tests.helpers.synthetic import Scene, overlap

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.events import Progress
from napari_boxprompt.gui import preview as module
from napari_boxprompt.gui.jobs import Jobs, Stop
from napari_boxprompt.gui.layers import layers_with_role
from napari_boxprompt.gui.pixels import PixelWatch
from napari_boxprompt.gui.preview import Preview
from napari_boxprompt.gui.state import Session
from napari_boxprompt.views import View


class NowJobs:
    """Does work at once, on this thread."""

    def __init__(self) -> None:
        self.started = 0
        self.waits: list[float] = []

    def start(
        self, name: str, work: Any, *, on_event: Any, on_error: Any, on_end: Any, replace: bool
    ) -> Self:
        assert replace, "a newer look gives up an older one"
        self.started += 1
        for event in work(cast("Stop", threading.Event())):
            on_event(event)
        on_end()
        return self

    def wait_for_first(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def session(scene: Scene) -> Session:
    """A stack whose first plane is one of the scene's, with its boxes."""
    viewer = ViewerModel()
    plane = scene.images.planes[0]
    values = scene.images.read(plane)[..., 0]
    viewer.add_image(np.stack([values, np.flipud(values)]), name="s")
    viewer.dims.set_current_step(0, 0)
    session = Session(viewer)
    boxes = tuple(replace(box, plane=PlaneId("s", (0,))) for box in scene.boxes.on(plane))
    session.new_boxes_layer().add_boxes(BoxSet(boxes))
    return session


def make(session: Session, encoder: Any) -> tuple[Preview, NowJobs]:
    jobs = NowJobs()
    encoders = FakeEncoders(encoder)
    return Preview(session, cast("Jobs", jobs), encoders, lambda: ("litemedsam", "cpu")), jobs


def test_masks_appear_under_the_boxes_in_their_colour(session: Session, encoder: Any, scene: Scene) -> None:
    preview, _ = make(session, encoder)
    progress: list[Progress | None] = []
    preview.progressed.connect(progress.append)
    preview.request()
    (layer,) = layers_with_role(session.viewer, "preview")
    assert layer.data.shape == (1, *scene.images.shape(scene.images.planes[0]))
    assert overlap(layer.data[0], scene.mask(scene.images.planes[0])) > 0.8
    assert session.boxes is not None
    np.testing.assert_allclose(layer.get_color(1), session.boxes.classes.items[0].color, atol=0.01)
    assert progress[-1] is None
    assert session.contrast is not None, "the contrast was measured on the way"
    names = [other.name for other in session.viewer.layers]
    assert names.index("s preview") < names.index("s boxes"), "boxes stay in sight"


def test_the_next_box_is_shown_before_brightness_is_measured(
    session: Session, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    order: list[str] = []
    show, contrast = preview.show, module.contrast_for
    monkeypatch.setattr(preview, "show", lambda *what: (order.append("shown"), show(*what)))
    monkeypatch.setattr(module, "contrast_for", lambda asked: (order.append("measured"), contrast(asked))[1])
    preview.request()
    assert order == ["shown", "measured"]


def test_the_viewer_waits_for_masks_only_where_the_plane_is_encoded(session: Session, encoder: Any) -> None:
    preview, jobs = make(session, encoder)
    preview.request()
    assert not jobs.waits, "encoding takes longer than anybody should wait"
    told: list[object] = []
    inner = preview._on_event
    preview._on_event = lambda event: (told.append(event), inner(event))  # type: ignore[method-assign]
    preview.request()
    assert jobs.waits == [module.WAIT_S]
    assert isinstance(told[0], module._Seen), "the first thing told is what is waited for"
    session.viewer.dims.set_current_step(0, 1)
    preview.request()
    session.viewer.dims.set_current_step(0, 0)
    preview.forget()
    preview.request()
    assert len(jobs.waits) == 1, "another plane, or other pixels"


def test_a_look_at_the_same_boxes_draws_the_layer_once(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    (layer,) = layers_with_role(session.viewer, "preview")
    drawn: list[str] = []
    for name in ("colormap", "visible", "set_data"):
        getattr(layer.events, name).connect(lambda event: drawn.append(event.type))
    preview.request()
    assert drawn == ["set_data"], "each of them makes napari draw the plane again"


def test_a_plane_without_boxes_shows_nothing(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    session.viewer.dims.set_current_step(0, 1)
    preview.request()
    (layer,) = layers_with_role(session.viewer, "preview")
    assert not layer.visible
    session.viewer.dims.set_current_step(0, 0)
    preview.request()
    assert layer.visible


def test_the_preview_lies_on_its_plane(session: Session, encoder: Any) -> None:
    session.viewer.layers["s"].scale = (4, 2, 2)
    session.viewer.layers["s"].translate = (3, 1, 1)
    preview, _ = make(session, encoder)
    preview.show(PlaneId("s", (1,)), np.ones((96, 128), np.uint8))
    (layer,) = layers_with_role(session.viewer, "preview")
    np.testing.assert_allclose(
        layer.data_to_world((0, 0, 0)), session.viewer.layers["s"].data_to_world((1, 0, 0))
    )
    preview.show(PlaneId("s", (0,)), np.ones((96, 128), np.uint8))
    np.testing.assert_allclose(
        layer.data_to_world((0, 5, 5)), session.viewer.layers["s"].data_to_world((0, 5, 5))
    )


def test_no_box_is_prompted_twice_and_no_tile_encoded_twice(
    session: Session, encoder: Any, frozen: Any
) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    preview.request()  # the exponent may have changed with the boxes
    encoded, masks = frozen.encoded, dict(preview._masks)
    preview.request()
    assert frozen.encoded == encoded
    assert preview._masks.keys() == masks.keys()


def test_active_layer_and_camera_stay(session: Session, encoder: Any) -> None:
    active, camera = session.viewer.layers.selection.active, session.viewer.scene.camera.model_dump()
    make(session, encoder)[0].request()
    assert session.viewer.layers.selection.active == active
    assert session.viewer.scene.camera.model_dump() == camera


def test_switched_off_and_paused(session: Session, encoder: Any) -> None:
    preview, jobs = make(session, encoder)
    preview.enabled = False
    preview.request()
    assert jobs.started == 1, "the plane is encoded all the same"
    assert not layers_with_role(session.viewer, "preview")
    preview.paused = True
    preview.request()
    assert jobs.started == 1


def test_a_deleted_preview_layer_comes_back(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    session.viewer.layers.remove("s preview")
    preview.request()
    assert len(layers_with_role(session.viewer, "preview")) == 1


def test_another_image_gets_a_preview_of_its_own(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    other = session.viewer.add_image(session.viewer.layers["s"].data[0], name="t")
    session.choose_image(other)
    session.new_boxes_layer().shapes.add(
        np.array([[4, 4], [4, 30], [40, 30], [40, 4]]), shape_type="rectangle"
    )
    preview.request()
    assert [layer.name for layer in layers_with_role(session.viewer, "preview")] == ["t preview"]


def test_a_manual_contrast_is_kept(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    assert session.contrast is not None
    manual = session.contrast.model_copy(update={"high": (99.0,), "gamma": 2.0})
    session.set_contrast(manual, manual=True)
    preview.request()
    assert session.contrast == manual


def test_small_changes_of_brightness_keep_the_exponent(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    assert session.contrast is not None
    shown = session.contrast.model_copy(
        update={"gamma": session.contrast.gamma * (1 - module.SAME_GAMMA / 2)}
    )
    session.set_contrast(shown, manual=False)
    preview.request()
    assert session.contrast == shown


def test_masks_of_boxes_stay_until_a_training_finds_something(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    (layer,) = layers_with_role(session.viewer, "preview")
    frozen, here = layer.data[0].copy(), PlaneId("s", (0,))
    preview.begin_training()
    young = np.zeros_like(frozen)
    young[0, :5] = 1
    for glimpse in (np.zeros_like(frozen), young):
        preview.glimpse(here, glimpse)
        np.testing.assert_array_equal(layer.data[0], frozen)
        assert layer.visible
    learnt = np.ones_like(frozen)
    preview.glimpse(here, learnt)
    np.testing.assert_array_equal(layer.data[0], learnt)
    preview.glimpse(here, young)
    np.testing.assert_array_equal(layer.data[0], young)  # it has seen this plane, and now believes this
    preview.begin_training()
    preview.glimpse(here, young)
    np.testing.assert_array_equal(layer.data[0], frozen)  # the next model is young again


def test_masks_of_boxes_that_were_deleted_meanwhile_are_not_shown(session: Session, encoder: Any) -> None:
    class LateJobs(NowJobs):
        def start(self, name: str, work: Any, *, on_event: Any, **_: Any) -> Self:
            self.started += 1
            self.work, self.on_event = work, on_event
            return self

        def end(self) -> None:
            for event in self.work(cast("Stop", threading.Event())):
                self.on_event(event)

    jobs, here = LateJobs(), PlaneId("s", (0,))
    preview = Preview(session, cast("Jobs", jobs), FakeEncoders(encoder), lambda: ("litemedsam", "cpu"))
    preview.request()
    preview.begin_training()
    session.viewer.layers.remove("s boxes")
    preview.request()
    assert jobs.started == 1, "during a training the look before is not given up"
    jobs.end()
    assert preview._seen is not None
    assert preview._seen.mask.any()
    assert not layers_with_role(session.viewer, "preview")
    preview._stands_until = 0.0
    preview.glimpse(here, np.zeros_like(preview._seen.mask))
    (layer,) = layers_with_role(session.viewer, "preview")
    assert not layer.data.any(), "what the model in training makes of the plane, not what the boxes had"


def test_a_glimpse_of_a_plane_without_boxes_is_shown_as_it_is(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    session.viewer.dims.set_current_step(0, 1)
    preview.begin_training()
    preview.glimpse(PlaneId("s", (1,)), np.zeros((96, 128), np.uint8))
    (layer,) = layers_with_role(session.viewer, "preview")
    assert not layer.data.any()


def test_a_glimpse_of_data_that_the_layer_had_before_is_passed_over(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    (layer,) = layers_with_role(session.viewer, "preview")
    shown, image = layer.data.copy(), session.viewer.layers["s"]
    preview.begin_training()
    image.data = image.data[:1, :64]
    preview.glimpse(PlaneId("s", (0,)), np.ones((96, 128), np.uint8))
    preview.glimpse(PlaneId("s", (1,)), np.ones((64, 128), np.uint8))
    np.testing.assert_array_equal(layer.data, shown)
    preview.glimpse(PlaneId("s", (0,)), np.ones((64, 128), np.uint8))
    assert layer.data.shape[1:] == (64, 128)
    assert layer.data.all()


def test_pixels_changed_in_place_are_seen(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    watch = PixelWatch(session)
    watch.redrawn.connect(preview.forget)
    preview.request()
    image = session.viewer.layers["s"]
    image.data[:] = 0
    image.refresh()
    preview.request()
    assert preview._encoded is not None
    assert not preview._encoded.pixels.see(View.whole((8, 8)), 256).any()
    watch.close()


def test_what_was_read_before_the_pixels_changed_is_not_remembered(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    old = preview._encoded
    preview.forget()
    preview._on_event(old)  # of a look that was under way
    assert preview._encoded is None


def test_the_watch_follows_the_chosen_image(session: Session) -> None:
    watch, heard = PixelWatch(session), []
    watch.replaced.connect(lambda: heard.append("s"))
    first = session.viewer.layers["s"]
    other = session.viewer.add_image(first.data.copy(), name="t")
    session.choose_image(other)
    first.data = first.data.copy()
    assert not heard
    other.data = other.data.copy()
    assert heard == ["s"]
    watch.close()
    other.data = other.data.copy()
    assert heard == ["s"]


def test_new_pixels_in_the_image_layer_are_seen(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    preview.request()
    (layer,) = layers_with_role(session.viewer, "preview")
    assert layer.data.any()
    image = session.viewer.layers["s"]
    image.data = np.zeros_like(image.data)
    preview.request()
    assert preview._encoded is not None
    assert preview._encoded.data is image.data
    assert not preview._encoded.pixels.see(View.whole((8, 8)), 256).any()


def test_the_first_preview_leaves_all_selected_layers_selected(session: Session, encoder: Any) -> None:
    preview, _ = make(session, encoder)
    chosen = set(session.viewer.layers)
    session.viewer.layers.selection = chosen
    preview.request()
    assert len(layers_with_role(session.viewer, "preview")) == 1
    assert set(session.viewer.layers.selection) == chosen


def draw_one_more(session: Session) -> None:
    assert session.boxes is not None
    here = PlaneId("s", (0,))
    session.boxes.add_boxes(BoxSet((Box(5.0, 5.0, 25.0, 30.0, here, "object"),)))


def test_a_box_drawn_during_a_training_gets_its_mask_from_the_decoder_alone(
    session: Session, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    preview, jobs = make(session, encoder)
    preview.request()
    preview.request()  # the first look has changed the contrast
    here, contrast = PlaneId("s", (0,)), session.contrast
    preview.begin_training()
    monkeypatch.setattr(encoder.frozen, "encode", lambda *_: pytest.fail("the training needs the processor"))
    monkeypatch.setattr(module, "contrast_for", lambda *_: pytest.fail("nothing is measured"))
    started = jobs.started
    preview.request()
    assert jobs.started == started, "nothing is new"
    glimpse = np.full_like(preview._layer.data[0], 1) if preview._layer is not None else None
    assert glimpse is not None
    preview.glimpse(here, glimpse)
    (layer,) = layers_with_role(session.viewer, "preview")
    assert layer.data.all()
    draw_one_more(session)
    preview.request()
    assert jobs.started == started + 1
    boxed = layer.data[0].copy()
    assert boxed.any()
    assert not boxed.all(), "the masks of all boxes, and not those of the glimpse"
    preview.glimpse(here, glimpse)
    np.testing.assert_array_equal(layer.data[0], boxed)  # it was on its way before the box was drawn
    monkeypatch.setattr(preview, "_stands_until", 0.0)
    preview.glimpse(here, glimpse)
    assert layer.data.all()
    assert session.contrast == contrast


def test_during_a_training_a_plane_that_is_not_encoded_waits(
    session: Session, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    preview, jobs = make(session, encoder)
    preview.request()
    preview.request()
    preview.begin_training()
    monkeypatch.setattr(encoder.frozen, "encode", lambda *_: pytest.fail("the training needs the processor"))
    monkeypatch.setattr(encoder.cache, "get", lambda _: None)  # it was small, and let go of the plane
    (layer,) = layers_with_role(session.viewer, "preview")
    before = layer.data.copy()
    draw_one_more(session)
    preview.request()
    np.testing.assert_array_equal(layer.data, before)
    started = jobs.started
    session.viewer.dims.set_current_step(0, 1)
    preview.request()
    assert jobs.started == started
