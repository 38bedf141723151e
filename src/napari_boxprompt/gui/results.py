"""Predictions as Labels layers, filled plane by plane, never over an older one.

A run has one layer, or one for each class where classes may overlap.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap
from napari.utils.notifications import show_info
from psygnal import Signal

from napari_boxprompt.boxes import PlaneId
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.kept import WORK, Counts, areas_of, checksum
from napari_boxprompt.gui.layers import (
    class_colormap,
    empty_labels,
    forget_strokes,
    new_labels_layer,
    on_layer,
    plane_slice,
    same_selection,
)
from napari_boxprompt.gui.object_table import ObjectTable
from napari_boxprompt.gui.planes import planes_touched
from napari_boxprompt.ranking import standing_out, unsure_objects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_boxprompt.gui.classes import Color
    from napari_boxprompt.gui.kept import KeptLabels
    from napari_boxprompt.gui.layers import PlaneView
    from napari_boxprompt.gui.segmenting import Found
    from napari_boxprompt.ranking import PlaneScores, Strategy

__all__ = ["Counts", "Result", "Status"]

REFRESH_SECONDS = 1.0
"""Least time between two renewals of colours and table while planes come in."""

REFRESH_SHARE = 10
"""That time is at least as many times what the last renewal took: with thousands of objects it takes long."""

Status = Literal["accepted", "rejected"]
"""What the user has said of a plane."""

LABEL_BYTES = 4
"""Least size of a pixel in a layer that can hold the numbers of all objects."""


NOTHING = Counts(0, 0)


class Result:
    """One prediction run on one image, or one class of it where classes may overlap.

    Parameters
    ----------
    viewer : ViewerModel
        The new layer is put on top of the others; the active layer stays active.
    view : PlaneView
        How the image is cut into planes.
    colors : mapping of str to color
        Colour of each class.
    only : str, optional
        The class that it has the objects of; of all by default.
    kept : KeptLabels, optional
        What it begins with; it begins empty by default.

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
        only: str | None = None,
        kept: KeptLabels | None = None,
    ) -> None:
        self.view, self.only = view, only
        self.siblings: list[Result] = [self]
        """Results of the same run, one for each class, itself among them."""
        self.scores: dict[PlaneId, PlaneScores] = {}
        self.counts: dict[PlaneId, Counts] = {}
        self.status: dict[PlaneId, Status] = {}
        self.painted: set[PlaneId] = set()
        """Planes on which the user was seen to paint."""
        self.agreement: dict[PlaneId, float] = {}
        """Dice of what was accepted or painted earlier, where it was predicted again."""
        self._viewer, self.colors = viewer, dict(colors)
        self.known = tuple(self.colors)
        """Classes that its model knows, where that is said: those of which it shows nothing too."""
        self._table = ObjectTable() if kept is None else kept.table
        self._called: dict[str, str] = {}  # classes that were renamed since its prediction began
        self._painted = 0
        self._made: dict[PlaneId, int] = {}  # checksums of planes as they were predicted
        self._renewed, self._pause = 0.0, REFRESH_SECONDS
        self._plain = False  # whether it was said that its colours are not those of classes
        name = f"{view.name} {only or 'objects'}"
        labels = empty_labels(view) if kept is None else on_layer(view, kept.labels)
        self.layer: Labels = new_labels_layer(view, labels, name=name, role="prediction", opacity=0.6)
        self._shape = self.layer.data.shape
        if kept is not None:
            self.counts = {PlaneId(view.name, index): value for index, value in kept.counts.items()}
            self._made = {PlaneId(view.name, index): value for index, value in kept.made.items()}
            self.renew()
        self.layer.events.paint.connect(self._on_paint)
        # A result must not take the tool out of the hand; where the hand is empty, its keys are at hand.
        with same_selection(viewer) if viewer.layers.selection else nullcontext():
            viewer.layers.append(self.layer)

    @classmethod
    def of_each_class(
        cls,
        viewer: ViewerModel,
        view: PlaneView,
        colors: Mapping[str, Color],
        kept: Mapping[str | None, KeptLabels] = MappingProxyType({}),
    ) -> Result:
        """Make a result for each class, with what was kept of it; return the last, which is on top."""
        made: list[Result] = [cls(viewer, view, colors, name, kept.get(name)) for name in colors]
        for result in made:
            result.siblings = made
        return made[-1]

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
        """Classes that its model knows, also those of which it found nothing; not those without a layer."""
        there = [one.only for one in self.together]
        return tuple(name for name in self.known if self.only is None or name in there)

    @property
    def together(self) -> tuple[Result, ...]:
        """Itself and its siblings, as far as their layers are there and can take objects."""
        return tuple(one for one in self.siblings if one.alive and one.fits)

    def holding(self, name: str | None, plane: PlaneId) -> Result:
        """Return the sibling that has the objects of a class on a plane, itself where none has.

        One whose layer was deleted has only what is the user's work.
        """
        fitting = (one for one in self.siblings if one.only in (None, name) and one.fits)
        return next((one for one in fitting if one.alive or one._is_work(plane)), self)

    @property
    def used(self) -> tuple[str, ...]:
        """Classes that it has objects of."""
        return tuple(dict.fromkeys(self._table.classes.values())) if self.only is None else (self.only,)

    @property
    def doubts(self) -> dict[PlaneId, float]:
        """How unsure the model is of each predicted plane."""
        return {plane: scores.doubt for plane, scores in self.scores.items()}

    def class_of(self, number: int) -> str | None:
        """Class of an object, None for one that was painted and not adopted."""
        return self.only or self._table.classes.get(number)

    def color_of(self, number: int) -> tuple[float, float, float]:
        """RGB in 0..1 of the class of an object; that of the first class where that is not known."""
        first = next(iter(self.colors.values()))
        red, green, blue, *_ = self.colors.get(self.class_of(number) or "", first)
        return red, green, blue

    @property
    def count(self) -> int:
        """Objects found, of all classes."""
        return sum(len(one._table.classes) for one in self.together or (self,))

    def add(self, found: Found) -> None:
        """Take the objects of one plane, in the place of those predicted before; work of the user stays.

        Colours and table follow within a second, later where that takes long, or with `renew`.

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
        labels = prediction.labels
        names = {item.id: self._called.get(item.label, item.label) for item in prediction.objects}
        if self.only is not None:
            wanted = [number for number, name in names.items() if name == self.only]
            labels = np.where(np.isin(labels, wanted), labels, 0).reshape(-1, *labels.shape[-2:]).max(axis=0)
        if self.is_work(here):
            from napari_boxprompt.evaluation import dice  # PyTorch comes with it, which predicting has loaded

            # It is not written over, but shows how good the prediction is.
            self.agreement[here] = dice(labels > 0, self.plane(here) > 0)
            return
        if here in self.painted:
            forget_strokes(self.layer)
        free = self._clear(here)
        mine = [int(n) for n in np.unique(labels) if n > 0]
        first = max(self._painted, *self._table.classes, *free, 0) + 1
        # The numbers of the plane's last prediction come first: the same objects keep theirs.
        numbers = dict(zip(mine, [*free, *range(first, first + len(mine))], strict=False))
        table = np.zeros(max(mine, default=0) + 1, self.layer.data.dtype)
        table[mine] = [numbers[n] for n in mine]
        self.plane(here)[...] = table[labels]
        self._made[here] = checksum(self.plane(here))
        for item in prediction.objects:
            if item.id not in numbers:
                continue
            self._table.add(numbers[item.id], here, names[item.id], item.area, round(item.score, 4))
        unsure = sum(item.id in numbers for item in unsure_objects(prediction))
        self.counts[here] = Counts(len(mine), unsure)
        if time.monotonic() - self._renewed > self._pause:
            self.renew()
        elif here == self.view.plane_shown(self._viewer):
            self.layer.refresh()

    def is_work(self, plane: PlaneId) -> bool:
        """Whether the user has accepted a plane, or changed any class of it and not rejected it since."""
        return any(one._is_work(plane) for one in self.together)

    def worked_on(self, looked_at: Collection[PlaneId] | None = None) -> list[PlaneId]:
        """Planes that the user has accepted or changed.

        Parameters
        ----------
        looked_at : collection of PlaneId, optional
            Others are among them only where it was seen that they were changed; by default all are looked at.
        """
        wanted = self.scores if looked_at is None else set(looked_at)
        predicted = (plane for plane in self.scores if plane in wanted)
        planes = dict.fromkeys((*predicted, *self.painted, *self.status))
        return [plane for plane in planes if self.is_work(plane)]

    def _is_work(self, plane: PlaneId) -> bool:
        status = self.status.get(plane)
        if status is not None:
            return status == "accepted"
        made = self._made.get(plane)
        return bool(self.plane(plane).any()) if made is None else made != checksum(self.plane(plane))

    def _clear(self, plane: PlaneId) -> list[int]:
        """Forget the objects of a plane, and what was said of it; return their numbers."""
        if plane not in self.counts:
            return []
        self.status.pop(plane, None)
        self.painted.discard(plane)
        return self._table.forget(plane)

    def _on_paint(self, event: Any) -> None:
        """A stroke has ended."""
        new = set(planes_touched(self.view, event.value)) - self.painted
        if new:
            for one in self.siblings:
                one.painted |= new
            self.corrected.emit()

    def reserving(self) -> Self:
        """Return itself; numbers that the user has painted with, also on planes not accepted, stay free."""
        self._called = {}  # the prediction that begins has the names of now
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
        there = areas_of(self.plane(plane))
        if self._table.measure(plane, there, name):
            self.counts[plane] = Counts(len(there), self.counts.get(plane, NOTHING).unsure)
            self.renew()

    def inherit(self, other: Result, planes: Sequence[PlaneId]) -> None:
        """Take over the user's work on planes of an older result; its objects may get other numbers.

        Where it has one class only, it takes the objects of that.
        """
        first, numbers = max(self._table.classes, default=0), set[int]()
        for plane in planes:
            part = other._objects_on(plane, self.only)
            self.plane(plane)[...] = np.where(part > 0, part + first, 0)
            numbers.update(np.unique(part).tolist())
            self._painted = max(self._painted, int(part.max(initial=0)) + first)
            self.counts[plane] = other.counts.get(plane, NOTHING)
            if plane in other.status:
                self.status[plane] = other.status[plane]
            if plane in other.painted:
                self.painted.add(plane)
            self._made[plane] = WORK
        self._table.take(other._table, numbers, first)
        self.renew()

    def _objects_on(self, plane: PlaneId, name: str | None) -> np.ndarray[Any, np.dtype[Any]]:
        """Labels of a plane, of the objects of one class if it is named."""
        labels = self.plane(plane)
        if name in (None, self.only):
            return labels
        wanted = [number for number in np.unique(labels) if number and self.class_of(int(number)) == name]
        return np.where(np.isin(labels, wanted), labels, 0)

    def rename(self, old: str, new: str) -> None:
        """Give a class another name, also in what is being predicted; `renew` shows it.

        Two classes that have a layer each do not become one.
        """
        if {old, new} <= {one.only for one in self.siblings}:
            return
        self.only = new if self.only == old else self.only
        self._called = {old: new} | {k: new if name == old else name for k, name in self._called.items()}
        self.colors = {new if name == old else name: color for name, color in self.colors.items()}
        self.known = tuple(dict.fromkeys(new if name == old else name for name in self.known))
        self._table.rename(old, new)

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
        """Size of a pixel of the image: its own layer is expressed in the units of the viewer."""
        return self.view.pixel_size()

    def renew(self) -> None:
        """Bring colours and table up to date."""
        started = time.monotonic()
        colormap = class_colormap(self._table.classes, self.colors)
        self.layer.colormap = colormap
        if isinstance(colormap, CyclicLabelColormap) and len(self.used) > 1 and not self._plain:
            self._plain = True
            show_info(
                f"'{self.layer.name}' has too many objects for the colours of their classes: they have mixed "
                "colours. Nothing is lost; for the colours of classes, pip install numba and start anew."
            )
        self.layer.features = self._table.features()
        self.layer.refresh()
        self._renewed = time.monotonic()
        self._pause = max(REFRESH_SECONDS, REFRESH_SHARE * (self._renewed - started))

    def standing_out(self) -> dict[PlaneId, Strategy]:
        """Planes that need a look more clearly than most, and why, whatever the user has said of them."""
        return standing_out(self.scores)
