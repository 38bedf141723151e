"""Predictions as Labels layers: one layer for a run, filled plane by plane, never over an older one."""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from psygnal import Signal

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.layers import class_colormap, empty_labels, new_labels_layer, plane_slice
from napari_boxprompt.gui.planes import planes_touched
from napari_boxprompt.ranking import standing_out, unsure_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_boxprompt.gui.classes import Color
    from napari_boxprompt.gui.layers import PlaneView
    from napari_boxprompt.gui.work import Found
    from napari_boxprompt.ranking import PlaneScores, Strategy

__all__ = ["Counts", "Result", "Status"]

REFRESH_SECONDS = 1.0
"""Least time between two renewals of colours and table while planes come in."""

Status = Literal["accepted", "rejected"]
"""What the user has said of a plane."""

LABEL_BYTES = 4
"""Least size of a pixel in a layer that can hold the numbers of all objects."""


class Counts(NamedTuple):
    """Objects that were found on a plane, and how many of them the model half believes in."""

    objects: int
    unsure: int


NOTHING = Counts(0, 0)

WORK = -1
"""In the place of a checksum: of a plane that a person has made as it is."""


class Result:
    """One prediction run on one image.

    Parameters
    ----------
    viewer : ViewerModel
        The new layer is put on top of the others; the active layer stays active.
    view : PlaneView
        How the image is cut into planes.
    colors : mapping of str to color
        Colour of each class.
    channel : int, optional
        Where classes may overlap, each has a layer of its own: the position of the class in a prediction.

    Attributes
    ----------
    corrected : psygnal.Signal
        The user has painted on a plane for the first time.
    """

    corrected = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        view: PlaneView,
        colors: Mapping[str, Color],
        channel: int | None = None,
    ) -> None:
        self.view = view
        self.scores: dict[PlaneId, PlaneScores] = {}
        self.counts: dict[PlaneId, Counts] = {}
        self.status: dict[PlaneId, Status] = {}
        self.painted: set[PlaneId] = set()
        """Planes on which the user was seen to paint."""
        self.agreement: dict[PlaneId, float] = {}
        """Dice of what was accepted or painted earlier, where it was predicted again."""
        self._viewer, self._colors, self._channel = viewer, dict(colors), channel
        self._rows: list[dict[str, Any]] = []
        self._objects: dict[int, str] = {}
        self._painted = 0
        self._made: dict[PlaneId, int] = {}  # checksums of planes as they were predicted
        self._renewed = 0.0
        what = "objects" if channel is None else list(self._colors)[channel]
        self.layer: Labels = new_labels_layer(
            view, empty_labels(view), name=f"{view.name} {what}", role="prediction", opacity=0.6
        )
        self._shape = self.layer.data.shape
        self.layer.events.paint.connect(self._on_paint)
        active = viewer.layers.selection.active
        viewer.layers.append(self.layer)
        if active is not None:
            viewer.layers.selection.active = active  # a result must not take the tool out of the hand

    @property
    def alive(self) -> bool:
        """Whether its layer is still in the viewer."""
        return self.layer in self._viewer.layers

    @property
    def fits(self) -> bool:
        """Whether its layer can still take objects: the user may have given it other data."""
        data = self.layer.data
        return (
            isinstance(data, np.ndarray)
            and data.shape == self._shape
            and data.dtype.itemsize >= LABEL_BYTES
            and data.flags.writeable
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that its model knows, also those of which it found nothing."""
        return tuple(self._colors)

    @property
    def is_whole(self) -> bool:
        """Whether it holds objects of every class, and not of one of several that overlap."""
        return self._channel is None

    @property
    def doubts(self) -> dict[PlaneId, float]:
        """How unsure the model is of each predicted plane."""
        return {plane: scores.doubt for plane, scores in self.scores.items()}

    def class_of(self, number: int) -> str | None:
        """Class of an object, None for one that was painted and not adopted."""
        return self._objects.get(number)

    def color_of(self, number: int) -> tuple[float, float, float]:
        """RGB in 0..1 of the class of an object; that of the first class where that is not known."""
        first = next(iter(self._colors.values()))
        red, green, blue, *_ = self._colors.get(self._objects.get(number, ""), first)
        return red, green, blue

    @property
    def count(self) -> int:
        """Objects found."""
        return len(self._objects)

    def add(self, found: Found) -> None:
        """Take the objects of one plane, in the place of those predicted before; work of the user stays.

        Colours and table follow within a second, or with `renew`.

        Raises
        ------
        BoxPromptError
            The layer was given data that the objects do not fit into.
        """
        if not self.fits:
            raise BoxPromptError(
                f"The layer '{self.layer.name}' was given other data: no more planes can be written to it. "
                "What is in it stays; predict the other planes again, and they go to a new layer."
            )
        prediction = found.prediction
        here = PlaneId(self.view.name, prediction.plane.index)  # the image may have another name by now
        self.scores[here] = replace(found.scores, plane=here)
        if self.is_work(here):
            from napari_boxprompt.evaluation import dice  # PyTorch comes with it, which predicting has loaded

            # It is not written over, but shows how good the prediction is.
            self.agreement[here] = dice(prediction.labels > 0, self.plane(here) > 0)
            return
        free = self._clear(here)
        labels = prediction.labels if self._channel is None else prediction.labels[self._channel]
        mine = [int(n) for n in np.unique(labels) if n > 0]
        first = max(self._painted, *self._objects, *free, 0) + 1
        # The numbers of the plane's last prediction come first: the same objects keep theirs.
        numbers = dict(zip(mine, [*free, *range(first, first + len(mine))], strict=False))
        table = np.zeros(max(mine, default=0) + 1, self.layer.data.dtype)
        table[mine] = [numbers[n] for n in mine]
        self.plane(here)[...] = table[labels]
        self._made[here] = _checksum(self.plane(here))
        for item in prediction.objects:
            if item.id not in numbers:
                continue
            number = numbers[item.id]
            self._objects[number] = item.label
            self._rows.append(
                {
                    "index": number,
                    "plane": " ".join(map(str, here.index)),
                    "class": item.label,
                    "area": item.area,
                    "score": round(item.score, 4),
                }
            )
        unsure = sum(item.id in numbers for item in unsure_objects(prediction))
        self.counts[here] = Counts(len(mine), unsure)
        if time.monotonic() - self._renewed > REFRESH_SECONDS:
            self.renew()
        elif here == self.view.plane_shown(self._viewer):
            self.layer.refresh()

    def is_work(self, plane: PlaneId) -> bool:
        """Whether the user has accepted a plane, or changed it in any way and not rejected it since."""
        status = self.status.get(plane)
        if status is not None:
            return status == "accepted"
        made = self._made.get(plane)
        return bool(self.plane(plane).any()) if made is None else made != _checksum(self.plane(plane))

    def _clear(self, plane: PlaneId) -> list[int]:
        """Forget the objects of a plane, and what was said of it; return their numbers."""
        if plane not in self.counts:
            return []
        where = " ".join(map(str, plane.index))
        gone = {row["index"] for row in self._rows if row["plane"] == where}
        self._rows = [row for row in self._rows if row["plane"] != where]
        self._objects = {number: name for number, name in self._objects.items() if number not in gone}
        self.status.pop(plane, None)
        self.painted.discard(plane)
        return sorted(gone)

    def _on_paint(self, event: Any) -> None:
        """A stroke has ended."""
        new = set(planes_touched(self.view, event.value)) - self.painted
        if new:
            self.painted |= new
            self.corrected.emit()

    def reserving(self) -> Self:
        """Return itself; numbers that the user has painted with, also on planes not accepted, stay free."""
        self._painted = int(self.layer.data.max(initial=0))
        return self

    def adopt(self, plane: PlaneId, name: str) -> None:
        """Write what the user has made of a plane into table and counts.

        Parameters
        ----------
        plane : PlaneId
            A plane that was accepted.
        name : str
            Class of the objects that were painted on it.
        """
        if not self.fits:
            return
        numbers, areas = np.unique(self.plane(plane), return_counts=True)
        there = {int(n): int(area) for n, area in zip(numbers, areas, strict=True) if n > 0}
        before = [row["area"] for row in self._rows]
        where = " ".join(map(str, plane.index))
        for row in self._rows:
            if row["plane"] == where:
                row["area"] = there.get(row["index"], 0)  # 0: it was rubbed out
        painted = sorted(there.keys() - self._objects.keys())
        for number in painted:
            self._objects[number] = name
            row = {"index": number, "plane": where, "class": name, "area": there[number], "score": math.nan}
            self._rows.append(row)
        if before != [row["area"] for row in self._rows]:
            self.counts[plane] = Counts(len(there), self.counts.get(plane, NOTHING).unsure)
            self.renew()

    def put(
        self,
        plane: PlaneId,
        labels: np.ndarray[Any, Any],
        classes: Mapping[int, str],
        *,
        predicted: bool = False,
    ) -> bool:
        """Take a plane as it was kept; return whether its objects have the numbers that they had.

        Parameters
        ----------
        plane : PlaneId
            A plane of the image.
        labels : numpy.ndarray
            Numbers of the objects, ``(H, W)``.
        classes : mapping of int to str
            Class of each object; those not named have the first class.
        predicted : bool
            It is as it was predicted; else it is somebody's work.
        """
        numbers, areas = np.unique(labels, return_counts=True)
        there = {int(n): int(area) for n, area in zip(numbers, areas, strict=True) if n > 0}
        first = max(self._objects, default=0) if there.keys() & self._objects.keys() else 0
        self.plane(plane)[...] = np.where(labels > 0, labels.astype(np.uint32) + np.uint32(first), 0)
        where = " ".join(map(str, plane.index))
        for number, area in there.items():
            name = self._objects[number + first] = classes.get(number, self.classes[0])
            row = {"index": number + first, "plane": where, "class": name, "area": area, "score": math.nan}
            self._rows.append(row)
        self.counts[plane] = Counts(len(there), 0)
        self._made[plane] = _checksum(self.plane(plane)) if predicted else WORK
        return not first

    def inherit(self, other: Result, planes: Sequence[PlaneId]) -> None:
        """Take over the user's work on planes of an older result; its objects may get other numbers."""
        first, numbers = max(self._objects, default=0), set[int]()
        for plane in planes:
            part = other.plane(plane)
            self.plane(plane)[...] = np.where(part > 0, part + first, 0)
            numbers.update(np.unique(part).tolist())
            self._painted = max(self._painted, int(part.max(initial=0)) + first)
            self.counts[plane] = other.counts.get(plane, NOTHING)
            if plane in other.status:
                self.status[plane] = other.status[plane]
            if plane in other.painted:
                self.painted.add(plane)
            self._made[plane] = WORK
        kept = (row for row in other._rows if row["index"] in numbers)
        self._rows += [{**row, "index": row["index"] + first} for row in kept]
        self._objects |= {n + first: name for n, name in other._objects.items() if n in numbers}
        self.renew()

    def note_image(self) -> None:
        """The image may have another name: planes are called after it."""
        name = self.view.name
        moved = (replace(scores, plane=PlaneId(name, plane.index)) for plane, scores in self.scores.items())
        self.scores = {scores.plane: scores for scores in moved}
        self.counts = {PlaneId(name, plane.index): value for plane, value in self.counts.items()}
        self.agreement = {PlaneId(name, plane.index): value for plane, value in self.agreement.items()}
        self.status = {PlaneId(name, plane.index): value for plane, value in self.status.items()}
        self.painted = {PlaneId(name, plane.index) for plane in self.painted}
        self._made = {PlaneId(name, plane.index): value for plane, value in self._made.items()}

    def plane(self, plane: PlaneId) -> np.ndarray[Any, np.dtype[Any]]:
        """Labels of one plane, ``(H, W)``, a view into the layer's data."""
        part: np.ndarray[Any, np.dtype[Any]] = self.layer.data[plane_slice(self.view, plane)]
        return part

    def pixel_size(self) -> dict[str, tuple[float, str]]:
        """Size of a pixel along the last axes, with its unit: ``{"y": (0.5, "micrometer"), ...}``."""
        layer, names = self.layer, "tzyx"[-min(self.layer.ndim, 4) :]
        sizes = zip(names, layer.scale[-len(names) :], layer.units[-len(names) :], strict=True)
        return {name: (float(size), str(unit)) for name, size, unit in sizes if str(unit) != "pixel"}

    def renew(self) -> None:
        """Bring colours and table up to date."""
        self._renewed = time.monotonic()
        self.layer.colormap = class_colormap(self._objects, self._colors)
        # The first row belongs to the background.
        rows = [{"index": 0, "plane": "", "class": "", "area": 0, "score": 0.0}, *self._rows]
        self.layer.features = pd.DataFrame(rows)
        self.layer.refresh()

    def standing_out(self) -> dict[PlaneId, Strategy]:
        """Planes that need a look more clearly than most, and why, whatever the user has said of them."""
        return standing_out(self.scores)


def _checksum(labels: np.ndarray[Any, Any]) -> int:
    """Tell planes apart; painting is not always told by an event, and undo is."""
    return zlib.crc32(np.ascontiguousarray(labels).data)
