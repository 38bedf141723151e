"""What the user does, recorded in the project as it happens: boxes, complete areas, classes, looks, settings.

Masks are in `napari_boxprompt.gui.painted` and `napari_boxprompt.gui.predicted`. Everything is compared with
what the project says, so that a signal without a change costs nothing, and a signal too many does no harm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_boxprompt.boxes import BoxSet, PlaneId, PlaneInfo
from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.classes import Classes
from napari_boxprompt.gui.painted import Painted
from napari_boxprompt.gui.predicted import Predicted
from napari_boxprompt.gui.project_images import as_copied, look_of, pixel_size_of
from napari_boxprompt.project import take_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Image

    from napari_boxprompt.boxes import Box
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.layers import PlaneView
    from napari_boxprompt.gui.project_images import ImageTable
    from napari_boxprompt.gui.renaming import Renaming
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.segmenting import Found
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Project

__all__ = ["Autosave"]

_SAME = 5e-3
"""Pixels by which a box may differ and still be the same: layers keep coordinates as float32."""


class Autosave:
    """Records what happens in a session.

    Parameters
    ----------
    session : Session
        Where the user works.
    project : Project
        Open for writing.
    table : ImageTable
        Which image layers are in the project.
    settings : callable, optional
        Gives the settings of the next training, None while one is not allowed.
    restored : sequence
        Results that were made from the project, with the planes that it has as they are, and their statuses.
    reason : callable, optional
        Gives the reason why a plane should be looked at, in words.

    Attributes
    ----------
    recorded : psygnal.Signal
        Something was recorded.
    troubled : psygnal.Signal
        Emitted with a sentence about what could not be recorded.
    """

    recorded = Signal()
    troubled = Signal(str)

    def __init__(
        self,
        session: Session,
        project: Project,
        table: ImageTable,
        settings: Callable[[], dict[str, Any] | None] = lambda: None,
        restored: Sequence[tuple[Result, dict[PlaneId, str]]] = (),
        reason: Callable[[PlaneId], str] = lambda _: "",
    ) -> None:
        self._session, self._project, self._table, self._settings = session, project, table, settings
        self._busy = False
        self._layers: dict[str, BoxLayer] = {}
        boxes = project.boxes
        self._boxes: dict[PlaneId, tuple[Box, ...]] = {p: tuple(boxes.on(p)) for p in boxes.planes}
        self._infos: dict[PlaneId, PlaneInfo] = dict(boxes.planes)
        self._seen: dict[PlaneId, object] = {}
        self._painted = Painted(session, project, table, reason, self._do)
        self._predicted = Predicted(session, project, table, self._do, self._painted.note_strokes)
        self.know(restored)
        session.renamed.connect(self._on_renamed)
        session.boxes_changed.connect(self.note_boxes)
        session.result_changed.connect(self.note_results)
        self.note_boxes()
        self.note_results()

    def know(self, restored: Sequence[tuple[Result, dict[PlaneId, str]]]) -> None:
        """Take it that the project has these planes of results as they are."""
        for result, planes in restored:
            self._painted.know(result, planes)
            self._predicted.know(result)

    def close(self) -> None:
        """Record what no event told of, and stop listening."""
        self._painted.note_all()
        self._predicted.close()
        self.note_quiet()
        self.let_go()

    def forget(self, image: Image) -> None:
        """Let go of what belongs to an image that was closed."""
        self._layers = {name: boxes for name, boxes in self._layers.items() if boxes.view.layer != image}
        self._painted.forget(image)
        self._predicted.forget(image)

    def let_go(self) -> None:
        """Stop listening."""
        self._session.renamed.disconnect(self._on_renamed)
        self._session.boxes_changed.disconnect(self.note_boxes)
        self._session.result_changed.disconnect(self.note_results)
        self._painted.close()
        self._predicted.let_go()

    def _do(self, record: Callable[..., None], *arguments: Any, **more: Any) -> bool:
        """Record something; say so, or say why not."""
        try:
            record(*arguments, **more)
        except BoxPromptError as error:
            self.troubled.emit(str(error))
            return False
        self.recorded.emit()
        return True

    def expect(self, classes: Sequence[str], *, exclusive: bool) -> None:
        """Have the classes of a model in the project, before what it finds is kept."""
        self._painted.classes |= dict.fromkeys(classes)
        self._do(take_classes, self._project, classes, exclusive=exclusive)

    def keep(self, found: Found) -> bool:
        """Record what was found on a plane of an image that is not open; see `Predicted.keep`."""
        return self._predicted.keep(found)

    def note_results(self) -> None:
        """Record what was said of planes, and which were predicted."""
        self._painted.note()
        self._predicted.note()

    # Boxes

    def note_boxes(self) -> None:
        """Record boxes and complete areas that are different from what the project says."""
        if self._busy:
            return
        self._busy = True
        try:
            for boxes in list(self._session.box_layers):
                entry = self._table.entry_of(boxes.view)
                if entry is None:
                    continue
                if self._layers.get(entry.name) is not boxes:
                    self._layers[entry.name] = boxes
                    self._fill(boxes, entry.name)
                self._note_layer(boxes, entry.name)
            self._note_classes()
        finally:
            self._busy = False

    def _fill(self, boxes: BoxLayer, name: str) -> None:
        """Put boxes of the project into a layer that is new to it, and lacks them.

        So a layer that was deleted is not taken for boxes that were deleted: the next one has them again.
        """
        self._give_classes(boxes)
        drawn = boxes.boxset
        missing: list[Box] = []
        planes: dict[PlaneId, PlaneInfo] = {}
        for plane, info in self._infos.items():
            if plane.image != name:
                continue
            here = PlaneId(boxes.view.name, plane.index)
            there = drawn.on(here)
            missing += [
                replace(box, plane=here)
                for box in self._boxes.get(plane, ())
                if not any(_alike([box], [other]) for other in there)
            ]
            known = drawn.planes.get(here, PlaneInfo())
            regions = tuple(r for r in info.complete_regions if r not in known.complete_regions)
            planes[here] = PlaneInfo(boxes.view.shape, info.complete and not known.complete, regions)
        exclusive = self._project.exclusive or not boxes.exclusive  # else it has to be told
        if missing or not exclusive or any(i.complete or i.complete_regions for i in planes.values()):
            names = boxes.classes.with_names(self._labels()).names
            boxes.add_boxes(BoxSet(tuple(missing), planes, names, self._project.exclusive))

    def _labels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(box.label for drawn in self._boxes.values() for box in drawn))

    def _give_classes(self, boxes: BoxLayer) -> None:
        """Offer the classes of the project in a layer that has none of its own yet."""
        if boxes.shapes.nshapes or boxes.classes != Classes() or not self._project.colors:
            return
        pairs = [(name, self._project.colors.get(name, "")) for name in self._project.classes]
        boxes.take_classes(Classes.restored([pair for pair in pairs if pair[1]], self._project.classes))

    def _note_layer(self, boxes: BoxLayer, name: str) -> None:
        drawn = boxes.boxset
        here = {PlaneId(name, plane.index): plane for plane in drawn.planes}
        known = [plane for plane in self._infos if plane.image == name]
        for plane in dict.fromkeys((*known, *here)):
            info = drawn.planes.get(here.get(plane, plane), PlaneInfo())
            there = drawn.on(here[plane]) if plane in here else ()
            before, said = self._boxes.get(plane, ()), self._infos.get(plane, PlaneInfo())
            # Of thousands of planes one has changed: the others are to cost little.
            seen = ([(*box.as_tuple(), box.label) for box in there], info)
            if self._seen.get(plane) == seen:
                continue
            self._seen[plane] = seen
            if _alike(there, before) and _same_areas(info, said):
                continue
            found = _with_numbers(tuple(replace(box, plane=plane) for box in there), before)
            if self._do(
                self._project.set_boxes,
                plane,
                found,
                complete=info.complete,
                complete_regions=info.complete_regions,
            ):
                self._boxes[plane], self._infos[plane] = found, info
            else:
                del self._seen[plane]

    def _note_classes(self) -> None:
        """Record names and colours of the classes; those of images that are not open stay."""
        colors: dict[str, str] = {}
        for boxes in self._layers.values():
            for item in boxes.classes.items:
                colors.setdefault(item.name, item.hex)
        if not colors:
            return
        names = tuple(dict.fromkeys((*colors, *self._labels(), *self._painted.classes)))
        exclusive = self._project.exclusive and all(boxes.exclusive for boxes in self._layers.values())
        if (names, exclusive) != (self._project.classes, self._project.exclusive):
            self._do(self._project.set_classes, names, exclusive=exclusive)
        colors = {name: color for name, color in self._project.colors.items() if name in names} | colors
        if colors != self._project.colors:
            self._do(self._project.set_colors, colors)

    def _on_renamed(self, renaming: Renaming) -> None:
        """Rename the boxes of images that are not open, too."""
        closed = set(self._table.closed) if renaming.everywhere else set()
        for plane, drawn in self._boxes.items():
            if plane.image in closed and any(box.label == renaming.old for box in drawn):
                found = tuple(
                    replace(box, label=renaming.new) if box.label == renaming.old else box for box in drawn
                )
                if self._do(self._project.set_boxes, plane, found):
                    self._boxes[plane] = found

    # What has no gesture of its own

    def note_quiet(self) -> None:
        """Record how images are shown, the settings, and classes edited in a table, if they are different."""
        for boxes in list(self._session.box_layers):
            boxes.look()  # what it finds is told as all changes are
        for layer, name in self._table.pairs:
            entry = self._project.entries.get(name)
            view = self._view(layer, name)
            if entry is None or view is None or layer not in self._session.viewer.layers:
                continue
            old = entry.look
            chosen = self._session.view
            if chosen is not None and chosen.layer == layer:
                contrast, by_hand = self._session.contrast, self._session.contrast_is_manual
                if contrast is None and old is not None:  # it is being measured
                    contrast, by_hand = old.contrast, old.contrast_by_hand
            else:
                contrast, by_hand = (None, False) if old is None else (old.contrast, old.contrast_by_hand)
            look = look_of(view, contrast, by_hand=by_hand, reader="" if old is None else old.reader)
            copied = self._table.is_copy(layer)
            look = as_copied(look) if copied else look
            if look != old:
                sizes = pixel_size_of(view) or entry.pixel_size
                channel = None if copied else view.channel
                self._do(self._project.set_look, name, look, pixel_size=sizes, channel=channel)
        settings = self._settings()
        if settings is not None and settings != self._project.settings:
            self._do(self._project.set_settings, settings)

    def _view(self, layer: Any, name: str) -> PlaneView | None:
        boxes = self._session.boxes_of(layer)
        if boxes is not None and self._table.entry_of(boxes.view) is not None:
            return boxes.view
        chosen = self._session.view
        if chosen is not None and chosen.layer == layer and self._table.entry_of(chosen) is not None:
            return chosen
        return self._table.view_of(name)


def _alike(one: Sequence[Box], other: Sequence[Box]) -> bool:
    """Whether boxes are the same but for what float32 loses."""
    if [box.label for box in one] != [box.label for box in other]:
        return False
    places = [[box.as_tuple() for box in boxes] for boxes in (one, other)]
    return not one or bool(np.allclose(places[0], places[1], rtol=0.0, atol=_SAME))


def _same_areas(one: PlaneInfo, other: PlaneInfo) -> bool:
    if one.complete != other.complete or len(one.complete_regions) != len(other.complete_regions):
        return False
    first, second = np.array(one.complete_regions), np.array(other.complete_regions)
    return bool(np.allclose(first, second, rtol=0.0, atol=_SAME))


def _with_numbers(boxes: tuple[Box, ...], before: Sequence[Box]) -> tuple[Box, ...]:
    """Give boxes that have not moved the numbers of objects that they had; layers do not know them."""
    numbered = [box for box in before if box.id]
    if not numbered:
        return boxes

    def number(box: Box) -> int:
        return next((old.id for old in numbered if _alike([box], [old])), box.id)

    return tuple(replace(box, id=number(box)) for box in boxes)
