"""What the frozen model makes of each box, shown while boxes are drawn."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.events import Progress
from napari_boxprompt.gui.backend import load_backend
from napari_boxprompt.gui.layers import (
    empty_labels,
    layers_with_role,
    new_labels_layer,
    plane_slice,
    same_selection,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy.typing as npt
    from napari.layers import Labels

    from napari_boxprompt.boxes import Box, PlaneId
    from napari_boxprompt.gui.jobs import Jobs, Stop
    from napari_boxprompt.gui.planes import PlaneView
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.work import Encoders
    from napari_boxprompt.images import Images
    from napari_boxprompt.models.encoding import PlanePixels
    from napari_boxprompt.normalization import Normalization
    from napari_boxprompt.previews import BoxMasks

__all__ = ["Preview", "Request", "contrast_for"]

JOB = "preview"
SAME_GAMMA = 0.15
"""A new exponent replaces the shown one when it differs by more than this part: each costs new encodings."""

YOUNG = 0.1
"""A model in training that finds less than this part of what the frozen model makes of the boxes is too young
to be shown instead."""

STAND_S = 2.0
"""How long the masks of a box that is drawn during a training stand before a glimpse takes their place: one
that is on its way was made before."""

WAIT_S = 0.05
"""How long the viewer waits for the masks of new boxes before it paints them without: nobody notices that."""


@dataclass(frozen=True)
class Request:
    """What is to be shown, as plain data for the worker."""

    view: PlaneView
    data: object
    images: Images
    plane: PlaneId
    boxes: BoxSet
    everywhere: BoxSet
    contrast: Normalization | None
    manual: bool
    tile: float | None
    model: tuple[str, str]
    version: int


@dataclass(frozen=True)
class _Seen:
    """Masks on one plane so far."""

    plane: PlaneId
    mask: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Encoded:
    """A plane of which all tiles have been encoded, and how: the next box on it needs none of that again."""

    what: tuple[PlaneView, PlaneId, Normalization, float | None, tuple[str, str]]
    data: object
    version: int
    pixels: PlanePixels

    def serves(self, asked: Request) -> bool:
        """Whether it is the plane that is asked for; an image layer may have been given other pixels."""
        same = (asked.view, asked.plane, asked.contrast, asked.tile, asked.model)
        return self.what == same and self.data is asked.data


class Preview:
    """Encodes the plane on screen in the background and shows the mask of each of its boxes.

    Parameters
    ----------
    session : Session
        Image, boxes and contrast.
    jobs : Jobs
        Runs the work.
    encoders : Encoders
        Frozen models.
    model : callable
        Gives the name of the frozen model and the device to use.

    Attributes
    ----------
    progressed : psygnal.Signal
        Emitted with a `Progress`, or None when there is nothing more to do.
    """

    progressed = Signal(object)

    def __init__(
        self, session: Session, jobs: Jobs, encoders: Encoders, model: Callable[[], tuple[str, str]]
    ) -> None:
        self._session, self._jobs, self._encoders, self._model = session, jobs, encoders, model
        self._masks: BoxMasks = {}
        self._tile: float | None = None
        self._layer: Labels | None = None
        self._shown: tuple[PlaneView, PlaneId, tuple[float, ...]] | None = None
        self._said = ""
        self._encoded: _Encoded | None = None
        self._version = 0
        self._seen: _Seen | None = None
        self._learnt: set[PlaneId] = set()
        self._answered: tuple[PlaneId, tuple[Box, ...]] | None = None
        self._stands_until = 0.0
        self.enabled = True
        self.paused = False

    def asked(self) -> Request | None:
        """What is on screen now, None where that is no plane of the image."""
        session = self._session
        view, plane, images = session.view, session.plane, session.images
        if view is None or plane is None or images is None:
            return None
        boxes = session.boxes.boxset if session.boxes is not None else BoxSet()
        return Request(
            view,
            view.layer.data,
            images,
            plane,
            boxes.restrict([plane]),
            boxes,
            session.contrast,
            session.contrast_is_manual,
            self._tile,
            self._model(),
            self._version,
        )

    def request(self) -> None:
        """Look at what is on screen now; an older look that is not finished is given up.

        While it is paused, only other boxes on a plane that is encoded are looked at: that costs a moment of
        the decoder.
        """
        asked = self.asked()
        if asked is None:
            return
        plane, drawn = asked.plane, asked.boxes.on(asked.plane)
        if self.paused and self._answered == (plane, drawn):
            return
        self._answered = (plane, drawn)
        if not drawn and plane not in self._learnt:
            self.hide()
        encoded = self._encoded if self._encoded is not None and self._encoded.serves(asked) else None
        if self.paused and (encoded is None or not drawn):
            return
        job = self._jobs.start(
            JOB,
            partial(
                _look,
                asked=asked,
                encoders=self._encoders,
                masks=self._masks,
                encoded=encoded,
                said=self._said,
                decode_only=self.paused,
            ),
            on_event=self._on_event,
            on_error=self._on_error,
            on_end=partial(self.progressed.emit, None),
            replace=True,
        )
        if encoded is not None and drawn:
            job.wait_for_first(WAIT_S)

    def forget(self) -> None:
        """The image has other pixels: the next look reads the plane again."""
        self._version += 1
        self._encoded = None

    def begin_training(self) -> None:
        """Leave the processor to a training, and the plane on screen to its glimpses."""
        self.paused = True
        self._learnt = set()

    def begin_prediction(self) -> None:
        """What a model in training has made of a plane is not shown below what it predicts now."""
        self._learnt = set()
        if self._session.plane is None or not self._boxed(self._session.plane):
            self.hide()

    def _boxed(self, plane: PlaneId) -> bool:
        """Whether there are boxes on a plane, still: their layer may have been deleted."""
        boxes = self._session.boxes
        return boxes is not None and bool(boxes.boxset.on(plane))

    def glimpse(self, plane: PlaneId, mask: npt.NDArray[np.uint8]) -> None:
        """Show what a model in training makes of a plane, once it makes something of it.

        A young model finds nothing yet. Until it does, the masks that the frozen model made of the boxes
        stay: with an empty plane instead, a user would think that they are lost.
        """
        if time.monotonic() < self._stands_until:
            return
        frozen = self._seen
        if frozen is not None and frozen.plane == plane and plane not in self._learnt and self._boxed(plane):
            if np.count_nonzero(mask) < YOUNG * np.count_nonzero(frozen.mask):
                self.show(plane, frozen.mask)
                return
            self._learnt.add(plane)
        self.show(plane, mask)

    def show(self, plane: PlaneId, mask: npt.NDArray[np.uint8]) -> None:
        """Put a class mask on a plane, in the colours of the classes."""
        session = self._session
        view = session.view
        if view is None or plane.image != view.name or not self.enabled:
            return
        if mask.shape != view.shape or view.plane(plane.index) is None:
            return  # made of data that the layer had before
        self._drop_foreign()
        data = empty_labels(view, np.uint8, plane)
        data[plane_slice(view, plane, of_one_plane=True)] = mask
        shown = (view, plane, (*view.layer.translate, *data.shape))
        if self._layer is not None and self._shown == shown:
            self._layer.data[...] = data  # as painting does: other data would be measured and placed anew
            self._layer.refresh(extent=False)
        else:
            self._layer = self._placed(view, plane, data)
            self._shown = shown
        self._paint(self._layer)
        if not self._layer.visible:  # napari would draw it again
            self._layer.visible = True

    def _placed(self, view: PlaneView, plane: PlaneId, data: npt.NDArray[np.uint8]) -> Labels:
        """Make the layer, or bring it to another plane."""
        offset = [0] * view.ndim
        for axis, index in zip(view.plane_axes, plane.index, strict=True):
            offset[axis] = index
        fresh = new_labels_layer(
            view, data, name=f"{view.name} preview", role="preview", offset=offset, opacity=0.5
        )
        if self._layer is None:
            for left in layers_with_role(self._session.viewer, "preview"):  # of a dock that was closed
                self._session.viewer.layers.remove(left)
            self._insert(fresh)
            return fresh
        self._layer.translate = fresh.translate
        self._layer.data = data
        self._layer.editable = False  # other data makes it editable again
        return self._layer

    def hide(self) -> None:
        """Show nothing."""
        if self._layer is not None and self._layer in self._session.viewer.layers:
            self._layer.visible = False

    def _drop_foreign(self) -> None:
        """Forget a layer that was deleted, or belongs to another image."""
        layer, view, layers = self._layer, self._session.view, self._session.viewer.layers
        if layer is None or view is None:
            return
        if layer not in layers:
            self._layer = None
        elif layer.name != f"{view.name} preview":
            layers.remove(layer)
            self._layer = None

    def _insert(self, layer: Labels) -> None:
        """Below the boxes, so that they stay in sight; what is selected stays selected."""
        viewer, boxes = self._session.viewer, self._session.boxes
        layer.editable = False
        places = [i for i, other in enumerate(viewer.layers) if boxes is not None and other == boxes.shapes]
        with same_selection(viewer):
            viewer.layers.insert(places[0] if places else len(viewer.layers), layer)

    def _paint(self, layer: Labels) -> None:
        """Give the preview the colours of the classes; only new ones, because napari draws all anew."""
        boxes = self._session.boxes
        colors = [] if boxes is None else [item.color for item in boxes.classes.items]
        trained = self._session.trained
        if not colors and trained is not None:
            colors = [(1.0, 0.83, 0.0, 1.0)] * len(trained.model.classes)
        table = {None: np.zeros(4)} | {k + 1: np.array(color) for k, color in enumerate(colors)}
        wanted = DirectLabelColormap(color_dict=table)  # adds what napari adds, and rounds as it does
        shown, colored = getattr(layer.colormap, "color_dict", {}), wanted.color_dict
        if shown.keys() != colored.keys() or any(
            not np.array_equal(shown[key], colored[key]) for key in colored
        ):
            layer.colormap = wanted

    def _on_error(self, message: str) -> None:
        self._said = message

    def _on_event(self, event: object) -> None:
        if isinstance(event, Progress):
            self.progressed.emit(event)
        elif isinstance(event, _Seen):
            self._seen = event
            self._stands_until = time.monotonic() + STAND_S if self.paused else 0.0
            if event.plane == self._session.plane and self._boxed(event.plane):
                self.show(event.plane, event.mask)
        elif isinstance(event, _Encoded):
            if event.version == self._version:  # or the pixels have changed while it was at work
                self._encoded = event
        elif isinstance(event, tuple):
            self._said = ""
            contrast, self._tile = event
            if contrast != self._session.contrast:
                self._session.set_contrast(contrast, manual=self._session.contrast_is_manual)


def _look(
    stop: Stop,
    asked: Request,
    encoders: Encoders,
    masks: BoxMasks,
    encoded: _Encoded | None = None,
    said: str = "",
    decode_only: bool = False,
) -> Generator[Progress | _Seen | _Encoded | tuple[Normalization, float | None], None, None]:
    """Measure the contrast where it is not known, encode the plane, prompt each new box.

    Where the plane is encoded, boxes are prompted first: the user waits for the mask, and most boxes change
    neither contrast nor tile. With `decode_only` that is all.
    """
    if encoded is None:
        yield Progress("prepare", 0, 1, "loading the model")
    load_backend()
    from napari_boxprompt.api import PlanePixels, boxes_preview, encode_plane, is_encoded, preview_tile

    try:
        encoder = encoders.get(asked.model[0], asked.model[1])
    except BoxPromptError as error:
        if str(error) == said:  # at each new plane it would be said again
            return
        raise
    boxed = bool(asked.boxes.on(asked.plane))
    if encoded is not None and boxed:
        if decode_only and not is_encoded(encoder, encoded.pixels, asked.boxes, asked.plane, asked.tile):
            return  # the cache is small, and has let go of the plane
        yield _Seen(
            asked.plane, boxes_preview(encoder, encoded.pixels, asked.boxes, asked.plane, asked.tile, masks)
        )
    if decode_only:
        return
    contrast = asked.contrast if asked.manual else contrast_for(asked)
    tile = preview_tile(asked.everywhere, asked.images, asked.tile) if len(asked.everywhere) else asked.tile
    if contrast is None or stop.is_set():
        return
    yield contrast, tile
    if encoded is not None and (contrast, tile) == (asked.contrast, asked.tile):
        return
    pixels = PlanePixels(asked.images.read(asked.plane), contrast)
    for progress in encode_plane(encoder, pixels, tile):
        yield progress
        if stop.is_set():
            return
    same = (asked.view, asked.plane, contrast, tile, asked.model)
    yield _Encoded(same, asked.data, asked.version, pixels)
    if boxed:
        yield _Seen(asked.plane, boxes_preview(encoder, pixels, asked.boxes, asked.plane, tile, masks))


def contrast_for(asked: Request) -> Normalization:
    """Brightness of the dataset; the exponent changes only where it pays, because it costs new encodings."""
    from napari_boxprompt.normalization import Normalization

    shown = asked.contrast
    found = shown if shown is not None else Normalization.fit(asked.images)
    if not len(asked.everywhere):
        return found
    lifted = found.lifted(asked.images, asked.everywhere)
    if shown is not None and abs(math.log(lifted.gamma / shown.gamma)) <= SAME_GAMMA:
        return shown
    return lifted
