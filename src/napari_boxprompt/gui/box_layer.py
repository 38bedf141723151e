"""The boxes of one image: a Shapes layer for boxes, one for what is complete, and undo over both.

A rectangle in the *complete* layer says that every object inside it has its box; one that covers the
plane makes the whole plane complete. What the user sees is what is stored.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd
from psygnal import Signal

from napari_boxprompt.boxes import Box, BoxSet, PlaneInfo
from napari_boxprompt.gui.classes import COMPLETE_RGBA, Classes, Color
from napari_boxprompt.gui.complete import new_complete_layer, read_complete, style_complete, whole_rows
from napari_boxprompt.gui.drawing import Drawing, replace_shapes, style_next, style_shapes, vertices_of
from napari_boxprompt.gui.history import History
from napari_boxprompt.gui.hits import keep_clickable
from napari_boxprompt.gui.layers import ROLE_KEY, corners_of, read_boxes, same_selection
from napari_boxprompt.gui.left import take
from napari_boxprompt.gui.reading import USELESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from napari.components import ViewerModel
    from napari.layers import Shapes

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.layers import BoxProblem, BoxReading, PlaneView

__all__ = ["BoxLayer"]

FINAL = frozenset({"added", "removed", "changed"})
"""Ends of gestures; napari also tells of their beginnings."""


class BoxLayer:
    """Boxes on one image layer.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers are.
    view : PlaneView
        How the image is cut into planes.
    shapes : Shapes
        Layer of the boxes, already in the viewer.
    complete : Shapes, optional
        Layer of the complete areas; made when it is first needed.

    Attributes
    ----------
    changed : psygnal.Signal
        Boxes, classes or complete areas are different now.
    reclassed : psygnal.Signal
        Classes have other names or colours now, which may be by undo: emitted before `changed`, with this
        layer and the `Classes` before.
    """

    changed = Signal()
    reclassed = Signal(object, object)

    def __init__(
        self, viewer: ViewerModel, view: PlaneView, shapes: Shapes, complete: Shapes | None = None
    ) -> None:
        self._viewer, self.view, self.shapes, self.complete = viewer, view, shapes, complete
        self.exclusive = bool(shapes.metadata.get(ROLE_KEY, {}).get("exclusive", True))
        """Whether classes exclude each other, or may overlap."""
        self.check_rename: Callable[[str, str], object] = lambda old, new: None
        """Called with the names before a class is renamed; may refuse it."""
        self._busy = False
        self._reading: BoxReading | None = None
        self._marked: dict[PlaneId, PlaneInfo] | None = None
        self.classes = Classes.restored(
            shapes.metadata.get(ROLE_KEY, {}).get("classes", ()), shapes.features.get("class", ())
        )
        self._restyle()
        self.history: History[Drawing] = take(shapes) or History(self._capture())
        self.history.record(self._capture())  # the layer may have changed since it was left
        self._watch(shapes)
        if complete is not None:
            style_complete(complete, self._width)
            self._watch(complete)

    def close(self) -> None:
        """Stop listening; the layers stay."""
        for layer in (self.shapes, self.complete):
            if layer is not None:
                layer.events.data.disconnect(self._on_data)
                layer.events.features.disconnect(self._on_features)

    def forget_complete(self) -> None:
        """The layer of the complete areas was deleted by the user."""
        self.complete = None
        self._take()

    def note_image(self) -> None:
        """The image may have another name: write it down, so that the layers find each other again."""
        self._reading = self._marked = None
        self._restyle()

    def _watch(self, layer: Shapes) -> None:
        keep_clickable(layer, stretched=self.view.channel_axis not in (None, 0))
        layer.events.data.connect(self._on_data)
        layer.events.features.connect(self._on_features)  # pasting tells only this

    def look(self) -> None:
        """Take up classes of which no event told: napari's table of features writes them in place."""
        now, known = self._labels(), self.history.present.labels
        if len(now) == len(known) and now != known:  # one more is a box whose drawing has not ended
            self._take()

    def _on_data(self, event: Any) -> None:
        if str(event.action) in FINAL:
            self._on_features()

    def _on_features(self, event: Any = None) -> None:
        # Napari tells of one gesture up to three times.
        if not self._busy and self._capture() != self.history.present:
            self._take()

    def _take(self) -> None:
        """A gesture has ended: read the layers anew and remember."""
        if self._busy:
            return
        before = self.history.present
        if self._labels()[: len(before.labels)] != before.labels:
            self.shapes.refresh_text()  # after an edit in place it would say what was
        self._restyle()
        self._reading = self._marked = None
        if self.history.record(self._capture()):
            self._tell(before)

    def _tell(self, before: Drawing) -> None:
        if before.renames(self.history.present):
            self.reclassed.emit(self, before.classes)
        self.changed.emit()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Change layers without hearing of it."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    # What is drawn

    @property
    def reading(self) -> BoxReading:
        """Boxes and problems as they are now."""
        if self._reading is None:
            self._reading = read_boxes(self.shapes, self.view, classes=self.classes.names)
        return self._reading

    @property
    def problems(self) -> tuple[BoxProblem, ...]:
        """What the user should look at."""
        return self.reading.problems

    @property
    def boxset(self) -> BoxSet:
        """Boxes, planes and classes for training."""
        boxes, info = self.reading.boxes, PlaneInfo(self.view.shape)
        planes = {box.plane: info for box in boxes}
        planes |= self._complete_planes()
        return BoxSet(boxes, planes, self.classes.names, self.exclusive)

    def _complete_planes(self) -> dict[PlaneId, PlaneInfo]:
        if self._marked is None:
            self._marked = {} if self.complete is None else read_complete(self.complete, self.view)
        return self._marked

    def is_complete(self, plane: PlaneId) -> bool:
        """Whether the whole plane is marked complete."""
        info = self._complete_planes().get(plane)
        return info is not None and info.complete

    # Classes

    def choose_class(self, index: int) -> None:
        """Class of the next box and, while boxes are being selected and not drawn, of the selected ones."""
        self.classes = self.classes.choose(index)
        labels = list(self._labels())
        if not str(self.shapes.mode).startswith("add"):
            for row in self.shapes.selected_data:
                labels[row] = self.classes.current.name
        self._relabel(labels)

    def take_classes(self, classes: Classes) -> None:
        """Offer other classes in a layer that has no boxes; there is nothing to undo."""
        self.classes = classes
        self._restyle()
        self.history = History(self._capture())

    def add_class(self, name: str) -> None:
        """Add a class and choose it for the next box."""
        self.classes = self.classes.add(name)
        self._relabel(self._labels())

    def rename_class(self, index: int, name: str) -> None:
        """Rename a class, on its boxes too; `reclassed` lets others follow.

        Raises
        ------
        BoxError
            The name is empty or taken, or others cannot follow.
        """
        old, classes = self.classes.items[index].name, self.classes.rename(index, name)
        new = classes.items[index].name
        if new != old:
            self.check_rename(old, new)
        self.classes = classes
        self._relabel([new if label == old else label for label in self._labels()])

    def recolor_class(self, index: int, color: Color) -> None:
        """Give a class another colour."""
        self.classes = self.classes.recolor(index, color)
        self._relabel(self._labels())

    def remove_class(self, index: int) -> None:
        """Remove a class and its boxes; undo brings both back."""
        name = self.classes.items[index].name
        self.classes = self.classes.remove(index)
        self.delete(row for row, label in enumerate(self._labels()) if label == name)

    def _labels(self) -> tuple[str, ...]:
        names = self.shapes.features.get("class")
        known = () if names is None else tuple(names)[: self.shapes.nshapes]
        missing = self.shapes.nshapes - len(known)
        chosen = self.classes.current.name
        drawn = [name if isinstance(name, str) and name else chosen for name in known]
        return (*drawn, *(chosen,) * missing)

    def _relabel(self, labels: Sequence[str]) -> None:
        with self._quietly():
            self.shapes.features = pd.DataFrame({"class": pd.Series(list(labels), dtype=object)})
        self._take()

    # Editing

    def delete(self, rows: Iterable[int]) -> None:
        """Delete boxes by their row in the layer."""
        self._remove(self.shapes, set(rows))
        self._take()

    def add_boxes(self, boxes: BoxSet) -> None:
        """Add boxes and complete areas, for instance from a file; classes that are new are added."""
        with self._quietly():
            untouched = not self.shapes.nshapes and self.classes == Classes()
            self.exclusive = self.exclusive and boxes.exclusive
            self.classes = (Classes.named if untouched else self.classes.with_names)(boxes.classes)
            labels = [*self._labels(), *(box.label for box in boxes.boxes)]
            if boxes.boxes:
                corners = corners_of(boxes.boxes, self.view, self.shapes)
                self.shapes.add(list(corners), shape_type="rectangle")
            self.shapes.features = pd.DataFrame({"class": pd.Series(labels, dtype=object)})
        height, width = self.view.shape
        for plane, info in boxes.planes.items():
            whole = [(0.0, 0.0, float(height), float(width))] if info.complete else []
            self._add_areas(plane, [*whole, *info.complete_regions])
        self._take()

    def toggle_complete(self, plane: PlaneId) -> bool:
        """Mark a plane complete, or not any more; return what it is now."""
        height, width = self.view.shape
        if not self.is_complete(plane):
            self._add_areas(plane, [(0.0, 0.0, float(height), float(width))])
        elif self.complete is not None:
            self._remove(self.complete, whole_rows(self.complete, self.view, plane))
        self._take()
        return self.is_complete(plane)

    def complete_layer(self) -> Shapes:
        """Layer of the complete areas, made now if there is none; draw rectangles in it."""
        if self.complete is None:
            self.complete = new_complete_layer(self.view)
            style_complete(self.complete, self._width)
            with same_selection(self._viewer):
                self._viewer.layers.insert(list(self._viewer.layers).index(self.shapes), self.complete)
            self._watch(self.complete)
        return self.complete

    def _add_areas(self, plane: PlaneId, areas: Sequence[tuple[float, float, float, float]]) -> None:
        if not areas:
            return
        layer = self.complete_layer()
        boxes = [Box(*area, plane) for area in areas]
        with self._quietly():
            layer.add(list(corners_of(boxes, self.view, layer)), shape_type="rectangle")

    def fix(self) -> int:
        """Mend boxes, or delete those that lie outside, twice or are hardly there; return how many."""
        repairs = {p.index: p.repair for p in self.problems if p.repair is not None}
        useless = {p.index for p in self.problems if p.kind in USELESS} - repairs.keys()
        if not repairs and not useless:
            return 0
        drawn = self._capture()
        shapes = [repairs.get(row, vertices) for row, vertices in enumerate(drawn.shapes)]
        types = ["rectangle" if row in repairs else kind for row, kind in enumerate(drawn.types)]
        kept = [row for row in range(len(shapes)) if row not in useless]
        self._restore(
            Drawing(
                tuple(shapes[row] for row in kept),
                tuple(types[row] for row in kept),
                tuple(drawn.labels[row] for row in kept),
                drawn.areas,
                drawn.classes,
            )
        )
        self._take()
        return len(repairs) + len(useless)

    # Undo

    @property
    def can_undo(self) -> bool:
        """Whether there is a gesture to take back."""
        return self.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is a gesture to do again."""
        return self.history.can_redo

    def undo(self) -> None:
        """Take back the last gesture."""
        self._step(self.history.undo)

    def redo(self) -> None:
        """Do again what was taken back."""
        self._step(self.history.redo)

    def _step(self, step: Callable[[], Drawing | None]) -> None:
        before, drawing = self.history.present, step()
        if drawing is not None:
            self._restore(drawing)
            self._reading = self._marked = None
            self._tell(before)

    def _capture(self) -> Drawing:
        areas = () if self.complete is None else vertices_of(self.complete)
        return Drawing(
            vertices_of(self.shapes), tuple(self.shapes.shape_type), self._labels(), areas, self.classes
        )

    def _restore(self, drawing: Drawing) -> None:
        if drawing.areas:
            self.complete_layer()  # the user may have deleted it
        chosen = self.classes.current.name
        self.classes = drawing.classes
        if chosen in self.classes.names:
            self.classes = self.classes.choose(self.classes.names.index(chosen))
        with self._quietly():
            replace_shapes(self.shapes, drawing.shapes, drawing.types)
            self.shapes.features = pd.DataFrame({"class": pd.Series(list(drawing.labels), dtype=object)})
            if self.complete is not None:
                replace_shapes(self.complete, drawing.areas, ("rectangle",) * len(drawing.areas))
        self._restyle()

    def _remove(self, layer: Shapes, rows: set[int]) -> None:
        if rows:
            with self._quietly():
                layer.selected_data = rows
                layer.remove_selected()

    # Looks

    @property
    def _width(self) -> float:
        """Line width in pixels that is seen on a small image and not clumsy on a large one."""
        return max(1.0, max(self.view.shape) / 300)

    def _restyle(self) -> None:
        """Colours, classes and widths of all boxes, and of the next one."""
        shapes, labels = self.shapes, self._labels()
        with self._quietly():
            unknown = [label for label in labels if label not in self.classes.names]
            self.classes = self.classes.with_names(unknown)
            if "class" not in shapes.features or tuple(shapes.features["class"]) != labels:
                shapes.features = pd.DataFrame({"class": pd.Series(list(labels), dtype=object)})
            shapes.feature_defaults = pd.DataFrame({"class": [self.classes.current.name]})
            style_shapes(shapes, [self.classes.color_of(label) for label in labels], self._width)
            style_next(shapes, self.classes.current.hex, self._width)
            if self.complete is not None:
                style_shapes(self.complete, [COMPLETE_RGBA] * self.complete.nshapes, 2 * self._width)
        stored = {
            **shapes.metadata.get(ROLE_KEY, {}),
            "role": "boxes",
            "image": self.view.name,
            "classes": self.classes.stored(),
            "exclusive": self.exclusive,
        }
        if shapes.metadata.get(ROLE_KEY) != stored:
            shapes.metadata = {**shapes.metadata, ROLE_KEY: stored}
