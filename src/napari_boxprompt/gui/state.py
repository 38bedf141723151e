"""What the widget knows: image, boxes, model and results. It talks to a viewer's model and needs no Qt."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from psygnal import Signal

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxError, BoxPromptError
from napari_boxprompt.gui.adopting import stored_boxes
from napari_boxprompt.gui.classes import Classes
from napari_boxprompt.gui.layers import PlaneView, match_units, new_boxes_layer
from napari_boxprompt.gui.left import Left, layers_of, leave, leave_results, take, take_results
from napari_boxprompt.gui.lessons import Lessons
from napari_boxprompt.gui.refusal import Refusal, wanted_image
from napari_boxprompt.gui.renaming import check, follow
from napari_boxprompt.gui.result_book import ResultBook
from napari_boxprompt.gui.uncovering import view_behind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.result_book import Maker
    from napari_boxprompt.gui.results import Result, Status
    from napari_boxprompt.images import Images
    from napari_boxprompt.normalization import Normalization

__all__ = ["Session"]


class Session:
    """State of one dock widget.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer, with or without a window.

    Attributes
    ----------
    layers_changed : psygnal.Signal
        Image layers came, went or have another name.
    active_changed : psygnal.Signal
        Another layer is selected.
    image_changed : psygnal.Signal
        Another image, channel or orientation of the planes.
    plane_changed : psygnal.Signal
        The viewer shows another plane.
    boxes_changed : psygnal.Signal
        Boxes, classes or complete areas of any image.
    contrast_changed : psygnal.Signal
        The contrast that the model sees.
    model_changed : psygnal.Signal
        A model was trained or loaded.
    result_changed : psygnal.Signal
        There is another newest result, another image with its own, or the user said something of a plane.
    renamed : psygnal.Signal
        A class has another name in results and model: emitted with the `Renaming`, before `boxes_changed`.
    """

    layers_changed = Signal()
    active_changed = Signal()
    image_changed = Signal()
    plane_changed = Signal()
    boxes_changed = Signal()
    contrast_changed = Signal()
    model_changed = Signal()
    result_changed = Signal()
    renamed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.view: PlaneView | None = None
        self.contrast: Normalization | None = None
        self.contrast_is_manual = False
        self.left: Left = take(layers_of(viewer)) or Left()
        self.trained = self.left.trained
        self.results = ResultBook(viewer, take_results(viewer))
        self.results.corrected.connect(self._on_corrected)
        self.lessons = Lessons(self.results, self.boxes_of)
        self.box_layers: list[BoxLayer] = []
        self._plane: PlaneId | None = None
        self.refusal = Refusal(self)
        self._connections = [
            (viewer.layers.events.inserted, self._on_inserted),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.layers.events.renamed, self._on_renamed),
            (viewer.layers.selection.events.active, self._on_active),
            (viewer.dims.events.current_step, self._on_dims),
            (viewer.dims.events.order, self._on_dims),
            (viewer.dims.events.ndisplay, self._on_dims),
            (viewer.dims.events.units, self._on_units),
        ]
        for emitter, slot in self._connections:
            emitter.connect(slot)
        self._choose_by_itself()
        self._adopt_boxes()
        self.refusal.look()

    def close(self) -> None:
        """Stop listening; layers stay as they are, and the next session finds what else there is."""
        if self._connections:
            self.left.trained = self.trained
            leave(layers_of(self.viewer), self.left)
            leave_results(self.results.entries)
            for boxes in self.box_layers:
                leave(boxes.shapes, boxes.history)
        for emitter, slot in self._connections:
            emitter.disconnect(slot)
        self._connections = []
        for boxes in self.box_layers:
            boxes.close()

    # Image

    @property
    def image_layers(self) -> list[Image]:
        """Image layers that have planes."""
        return [layer for layer in self.viewer.layers if isinstance(layer, Image) and layer.ndim >= 2]

    @property
    def aside(self) -> Image | None:
        """Image that is active in the viewer but not worked on, because boxes are drawn on another."""
        active = self.viewer.layers.selection.active
        return active if isinstance(active, Image) and self.view and self.view.layer != active else None

    @property
    def plane(self) -> PlaneId | None:
        """Plane of the image that the viewer shows, None in 3-D display or beside the image."""
        return self._plane

    @property
    def images(self) -> Images | None:
        """Planes of the chosen image."""
        return None if self.view is None else self.view.images()

    def choose_image(self, layer: Image, channel_axis: int | None = None, channel: int | None = None) -> None:
        """Work on an image layer.

        Raises
        ------
        ImageError
            Its planes cannot be used, for instance because they are too small.
        """
        boxes = self.boxes_of(layer)
        view = PlaneView.from_viewer(layer, self.viewer, channel_axis, channel)
        if boxes is not None and channel_axis is None and channel is None:
            view = boxes.view
        view.images()  # refuses what cannot be used, before anything is changed
        same_pixels = self.view is not None and self.view == view
        self.view = view
        if boxes is not None:
            boxes.view = view
        if not same_pixels:
            self.contrast, self.contrast_is_manual = None, False
        self._plane = view.plane_shown(self.viewer)
        self._take_in_hand(layer if boxes is None else boxes.shapes)
        for signal in (self.image_changed, self.plane_changed, self.boxes_changed, self.result_changed):
            signal.emit()

    def _take_in_hand(self, layer: Layer) -> None:
        """Boxes and objects of another image are not worked on any more: it would be on the wrong image."""
        behind = view_behind(self, self.viewer.layers.selection.active)
        if behind is not None and self.view is not None and behind.layer != self.view.layer:
            self.viewer.layers.selection.active = layer

    def set_contrast(self, contrast: Normalization, *, manual: bool) -> None:
        """Set the brightness scale that the model sees on every plane."""
        self.contrast, self.contrast_is_manual = contrast, manual
        self.contrast_changed.emit()

    def forget_contrast(self) -> None:
        """Have the contrast measured anew."""
        self.contrast, self.contrast_is_manual = None, False
        self.contrast_changed.emit()

    def _choose_by_itself(self) -> None:
        """Take the active image, or the only one; change nothing while the chosen one is there."""
        chosen = wanted_image(self) if self.view is None else None
        if chosen is not None:
            with suppress(BoxPromptError):  # `refusal` says why
                self.choose_image(chosen)

    # Boxes

    @property
    def boxes(self) -> BoxLayer | None:
        """Boxes of the chosen image, None where there is no boxes layer."""
        return None if self.view is None else self.boxes_of(self.view.layer)

    def new_boxes_layer(self) -> BoxLayer:
        """Make a boxes layer over the chosen image and take it in hand, in rectangle mode.

        Raises
        ------
        BoxPromptError
            There is no image, or the planes on screen cannot be used.
        """
        if self.view is None:
            raise BoxError(self.refusal.why or "Boxes need an image: open one, or choose it under Image.")
        if (existing := self.boxes) is not None:
            self.viewer.layers.selection.active = existing.shapes
            existing.shapes.visible = True  # napari has no tool for what is hidden
            existing.shapes.mode = "add_rectangle"
            return existing
        self.view = self.view.as_shown(self.viewer)
        shapes = new_boxes_layer(self.view, name=f"{self.view.name} boxes", role="boxes")
        self.viewer.layers.append(shapes)  # adopted by the event of its insertion
        self.viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"
        boxes = self.boxes
        if boxes is None:
            raise BoxError("The boxes layer went away while it was being made; try again.")
        return boxes

    @property
    def drawn(self) -> list[BoxLayer]:
        """Boxes of the images that have some."""
        return [boxes for boxes in self.box_layers if boxes.boxset]

    def all_boxes(self) -> BoxSet:
        """Boxes of every open image."""
        return BoxSet.merge([boxes.boxset for boxes in self.box_layers])

    def training_set(self) -> tuple[Images, BoxSet]:
        """Images and boxes of every image that has boxes or accepted planes; see `Lessons`.

        Raises
        ------
        BoxError
            No boxes, or boxes on a single plane.
        """
        return self.lessons.training_set(self.drawn)

    def view_of(self, layer: Layer) -> PlaneView | None:
        """How an image layer is cut into planes, None where it is neither chosen nor has boxes."""
        boxes = self.boxes_of(layer)
        if boxes is not None:
            return boxes.view
        return self.view if self.view is not None and self.view.layer == layer else None

    def boxes_of(self, layer: Layer) -> BoxLayer | None:
        """Boxes of an image layer, None where there is no boxes layer."""
        return next((boxes for boxes in self.box_layers if boxes.view.layer == layer), None)

    def _adopt_boxes(self) -> None:
        """Take up boxes layers that are in the viewer, for instance of a sample."""
        for boxes in stored_boxes(self.viewer, self.box_layers, self.image_layers, self.view):
            boxes.changed.connect(self._on_boxes)
            boxes.reclassed.connect(self._on_classes)
            boxes.check_rename = partial(check, self, boxes)
            self.box_layers.append(boxes)
            if self.view is None or self.view.layer == boxes.view.layer:
                self.view = boxes.view
                self._on_dims()
                self.image_changed.emit()
            self.boxes_changed.emit()

    # Model and results

    def set_model(self, trained: TrainedModel | None) -> None:
        """Take a trained or loaded model, or leave that of other work."""
        self.trained = trained
        self.model_changed.emit()

    @property
    def result(self) -> Result | None:
        """The newest result of the chosen image; of any image where that has none."""
        return self.results.latest.get(self.view.name if self.view else "", self.results.newest)

    @property
    def predicted(self) -> set[PlaneId]:
        """Planes of the chosen image that the present model has predicted."""
        if self.view is None or self.trained is None:
            return set()
        return self.results.predicted(self.view, self.trained.model)

    def new_results(
        self, views: Sequence[PlaneView], planes: Collection[PlaneId] = (), maker: Maker | None = None
    ) -> dict[str, list[Result]]:
        """Layers for a prediction of planes, by image name, by the present model; see `ResultBook.take`."""
        maker = self.trained.model if maker is None and self.trained is not None else maker
        if maker is None:
            raise BoxError("There is no model yet: train one, or load one.")
        names = maker.classes
        known = (self.boxes.classes if self.boxes else Classes.named(names)).with_names(names)
        colors = {name: known.color_of(name) for name in names}
        made = self.results.take(views, maker, colors, planes, self._adopt)
        self.result_changed.emit()
        return made

    def set_status(self, plane: PlaneId, status: Status) -> None:
        """Accept or reject a plane of the newest result of its image."""
        result = self.results.of(plane)
        if result is not None:
            for one in (*result.together, result):
                one.status[plane] = status
            if status == "accepted":
                self._adopt(plane, result)
            self.lessons.forget(plane)
            self.result_changed.emit()

    def _adopt(self, plane: PlaneId, result: Result) -> None:
        for one in result.together:
            one.adopt(plane, self.lessons.class_of_painted(one))

    def _on_corrected(self) -> None:
        self.result_changed.emit()

    # Events of the viewer

    def _on_inserted(self, event: Any) -> None:
        if isinstance(event.value, Image):
            self._choose_by_itself()
            self.layers_changed.emit()
        self._adopt_boxes()
        self._on_units()

    def _on_removed(self, event: Any) -> None:
        gone = event.value
        for boxes in list(self.box_layers):
            if boxes.shapes == gone or boxes.view.layer == gone:
                boxes.close()
                self.box_layers.remove(boxes)
                self.boxes_changed.emit()
            elif boxes.complete is not None and boxes.complete == gone:
                boxes.forget_complete()
        if self.results.forget(gone):
            self.result_changed.emit()
        if self.view is not None and self.view.layer == gone:
            self.view, self._plane, self.contrast = None, None, None
            self._choose_by_itself()
            for signal in (self.image_changed, self.plane_changed, self.boxes_changed):
                signal.emit()
        if isinstance(gone, Image):
            self.layers_changed.emit()

    def _on_renamed(self, event: Any) -> None:
        for boxes in self.box_layers:
            boxes.note_image()
        self.results.note_images()
        self._on_dims()
        for signal in (self.layers_changed, self.boxes_changed, self.result_changed):
            signal.emit()

    def _on_active(self, event: Any) -> None:
        """Work on an active image if no boxes are drawn on another, and on that of active boxes, objects."""
        active = self.viewer.layers.selection.active
        behind = view_behind(self, active)
        free = self.boxes is None or not self.boxes.shapes.nshapes
        wanted = behind.layer if behind is not None else active if free else None
        if wanted in self.image_layers and (self.view is None or self.view.layer != wanted):
            with suppress(BoxPromptError):  # the image panel says why when the user chooses it
                self.choose_image(wanted, *((behind.channel_axis, behind.channel) if behind else ()))
        self.active_changed.emit()

    def _on_units(self, event: Any = None) -> None:
        for layer in self.viewer.layers:
            match_units(layer, self.viewer.dims.units)

    def _on_boxes(self) -> None:
        # Not `emit` itself: psygnal calls that once to learn its parameters.
        self.boxes_changed.emit()

    def _on_classes(self, boxes: BoxLayer, before: Classes) -> None:
        follow(self, boxes, before)

    def _on_dims(self, event: Any = None) -> None:
        if self.view is None and self.refusal.why:
            self._choose_by_itself()  # planes along other axes may do
        if self.view is not None and self.boxes is None:
            self._follow_orientation(self.view)
        self.refusal.look()
        if self.view is None:
            return
        plane = self.view.plane_shown(self.viewer)
        if plane != self._plane:
            self._plane = plane
            self.plane_changed.emit()

    def _follow_orientation(self, view: PlaneView) -> None:
        """Without boxes, planes are what the viewer shows, where that can be used."""
        turned = view
        with suppress(BoxPromptError):  # `refusal` says why
            turned = view.as_shown(self.viewer)
        if turned.axes != view.axes:
            self.view, self.contrast = turned, None if not self.contrast_is_manual else self.contrast
            self.image_changed.emit()
