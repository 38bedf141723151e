"""What a training learns from: drawn boxes, and planes of results that the user has accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_boxprompt.boxes import BoxSet, PlaneInfo
from napari_boxprompt.errors import BoxError
from napari_boxprompt.gui.layers import combined_images
from napari_boxprompt.gui.telling import counted
from napari_boxprompt.labels import boxes_from_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from napari.layers import Image

    from napari_boxprompt.boxes import Box, PlaneId
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.elsewhere import Taught
    from napari_boxprompt.gui.layers import PlaneView
    from napari_boxprompt.gui.result_book import ResultBook
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.images import Images

__all__ = ["Lessons"]


class Away(Protocol):
    """What images teach that are not in the viewer."""

    @property
    def settled(self) -> bool:
        """Whether all is known of it."""
        ...

    @property
    def taught(self) -> Taught | None:
        """What is known of it."""
        ...


class Lessons:
    """Drawn boxes and accepted planes, put together.

    An accepted plane is right and complete: every object on it is in the result. It teaches its outlines,
    and all the rest of it as background; boxes that were drawn on it before say less and are left out.

    Parameters
    ----------
    results : ResultBook
        Where planes are accepted.
    boxes_of : callable
        Gives the boxes of an image layer.
    """

    def __init__(self, results: ResultBook, boxes_of: Callable[[Image], BoxLayer | None]) -> None:
        self._results, self._boxes_of = results, boxes_of
        self._boxes: dict[PlaneId, tuple[tuple[Result, ...], tuple[Box, ...]]] = {}
        self.away: Away | None = None
        """Images of the project that are not open, where there is a project."""

    @property
    def elsewhere(self) -> Taught | None:
        """What images teach that are not open."""
        return None if self.away is None else self.away.taught

    def accepted(self, drawn: Sequence[BoxLayer] = ()) -> dict[PlaneId, Result]:
        """Accepted planes that can teach, with the result each is accepted in.

        Not among them are planes cut along other axes than the boxes of their image.

        Parameters
        ----------
        drawn : sequence of BoxLayer
            Boxes of the images.
        """
        views = {boxes.view.name: boxes.view for boxes in drawn}
        found: dict[PlaneId, Result] = {}
        for plane, result in self._results.accepted().items():
            view = views.setdefault(plane.image, result.view)
            if result.together and _same_planes(view, result.view):
                found[plane] = result
        return found

    def training_set(self, drawn: Sequence[BoxLayer]) -> tuple[Images, BoxSet]:
        """Images and boxes to learn from; objects of accepted planes are among the boxes.

        Boxes of an accepted plane are found once and remembered until `forget`, because this is asked for
        at every change.

        Parameters
        ----------
        drawn : sequence of BoxLayer
            Boxes of the images that have some.

        Raises
        ------
        BoxError
            No boxes, or boxes on a single plane.
        """
        accepted, away = self.accepted(drawn), self.elsewhere
        if not drawn and not accepted and away is None:
            raise BoxError("There are no boxes yet: draw some on two planes or images.")
        parts = [_without(boxes.boxset, accepted) for boxes in drawn]
        parts += [self._part(plane, result) for plane, result in accepted.items()]
        parts += [] if away is None else [away.boxes]
        used = {box.label for part in parts for box in part.boxes}  # others have nothing to learn from
        learnt = BoxSet.merge(
            replace(part, classes=tuple(name for name in part.classes if name in used)) for part in parts
        )
        if not learnt.boxes:
            raise BoxError("There are no boxes yet: draw some on two planes or images.")
        if len({box.plane for box in learnt.boxes}) < 2:
            raise BoxError("Training needs boxes on two planes or images; draw some on one more.")
        views = {boxes.view.name: boxes.view for boxes in drawn}
        for plane, result in accepted.items():
            views.setdefault(plane.image, result.view)
        images = combined_images(list(views.values()))
        if away is not None:
            images = images.join(away.images, {name: name for name in away.images.names})
        return images, learnt

    def masks(self, boxes: BoxSet, drawn: Sequence[BoxLayer] = ()) -> Mapping[PlaneId, npt.NDArray[np.uint8]]:
        """Class masks of the accepted planes, copied, for `napari_boxprompt.api.start_training`.

        Those of images that are not open are read when they are asked for.

        Parameters
        ----------
        boxes : BoxSet
            From `training_set`: its classes give the numbers, class k is k + 1, or the layers, where
            classes may overlap.
        drawn : sequence of BoxLayer
            As for `training_set`.
        """
        number = {name: k + 1 for k, name in enumerate(boxes.classes)}
        masks = {}
        for plane, result in self.accepted(drawn).items():
            if result.only is not None:
                layers = {one.only: one.plane(plane) > 0 for one in result.together}
                empty = np.zeros(result.view.shape, bool)
                found = [layers.get(name, empty) for name in boxes.classes]
                masks[plane] = np.stack(found).astype(np.uint8)
                continue
            objects, places = np.unique(result.plane(plane), return_inverse=True)
            values = [number.get(self._class_of(result, int(i)), 0) if i > 0 else 0 for i in objects]
            masks[plane] = np.array(values, np.uint8)[places].reshape(result.view.shape)
        away = self.elsewhere
        return masks if away is None else away.masks(boxes.classes, masks)

    def check(self) -> None:
        """Make sure that nothing is missing that is to be learnt from.

        Raises
        ------
        BoxError
            It is not known yet what images teach that are not open.
        """
        if self.away is not None and not self.away.settled:
            raise BoxError("What was labelled on images that are not open is being read; wait a moment.")

    def forget(self, plane: PlaneId | None = None) -> None:
        """Look at an accepted plane, or all, anew: the user may have painted there since."""
        if plane is None:
            self._boxes.clear()
        else:
            self._boxes.pop(plane, None)

    def class_of_painted(self, result: Result) -> str:
        """Class of objects that the user paints into a result: that of the next box, if there are boxes.

        A result that has one class gets no other.
        """
        if result.only is not None:
            return result.only
        boxes = self._boxes_of(result.view.layer)
        return result.classes[0] if not boxes or not boxes.boxset else boxes.classes.current.name

    def describe(self, drawn: Sequence[BoxLayer]) -> str:
        """Say what a training takes, "5 boxed and 12 accepted planes".

        Empty where it is only boxes of images that are open.
        """
        accepted, away = self.accepted(drawn), self.elsewhere
        if not accepted and away is None:
            return ""
        boxed = {plane for boxes in drawn for plane in boxes.boxset.boxed_planes} - accepted.keys()
        said = counted(len(accepted), "accepted plane")
        if away is None:
            return said if not boxed else f"{len(boxed)} boxed and {said}"
        closed = f"{counted(len(away.boxes.boxed_planes), 'plane')} of images that are not open"
        if not accepted:
            return closed if not boxed else f"{counted(len(boxed), 'boxed plane')} and {closed}"
        return f"{said} and {closed}" if not boxed else f"{len(boxed)} boxed and {said}, and {closed}"

    def _part(self, plane: PlaneId, result: Result) -> BoxSet:
        """Objects of an accepted plane as boxes; complete for the classes that its model knew."""
        known, together = self._boxes.get(plane), result.together
        if known is None or known[0] != together:
            found = [(one, box) for one in together for box in boxes_from_labels(one.plane(plane), plane)]
            named = tuple(replace(box, label=self._class_of(one, box.id)) for one, box in found)
            known = self._boxes[plane] = (together, named)
        boxes = known[1]
        classes = tuple(dict.fromkeys((*result.classes, *(box.label for box in boxes))))
        complete = {plane: PlaneInfo(result.view.shape, complete=True)}
        return BoxSet(boxes, complete, classes, exclusive=result.only is None)

    def _class_of(self, result: Result, number: int) -> str:
        return result.class_of(number) or self.class_of_painted(result)


def _without(boxes: BoxSet, accepted: dict[PlaneId, Result]) -> BoxSet:
    return boxes.restrict(plane for plane in boxes.planes if plane not in accepted)


def _same_planes(one: PlaneView, other: PlaneView) -> bool:
    """Whether a plane of one is a plane of the other; which channel is read does not matter."""
    return (one.layer, one.axes, one.channel_axis) == (other.layer, other.axes, other.channel_axis)
