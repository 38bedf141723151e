"""A project on screen: its images, boxes, complete areas and masks as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.gui.classes import Classes
from napari_boxprompt.gui.kept import KeptImage
from napari_boxprompt.gui.layers import (
    ROLE_KEY,
    corners_of,
    layers_with_role,
    new_boxes_layer,
    same_selection,
)
from napari_boxprompt.gui.project_images import file_of, image_layer
from napari_boxprompt.gui.uncovering import uncover
from napari_boxprompt.ranking import PlaneScores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari.layers import Shapes

    from napari_boxprompt.gui.classes import Color
    from napari_boxprompt.gui.layers import PlaneView, Role
    from napari_boxprompt.gui.project_images import ImageTable, Loaded
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.project import Project

__all__ = ["ProjectLayers"]


class ProjectLayers:
    """Puts what a project holds into the viewer.

    Parameters
    ----------
    session : Session
        Where the user works.
    project : Project
        The project.
    table : ImageTable
        Takes the layers that are made.
    """

    def __init__(self, session: Session, project: Project, table: ImageTable) -> None:
        self._session, self._project, self._table = session, project, table
        self.restored: list[tuple[Result, dict[PlaneId, str]]] = []
        """Results that were made, and the planes that the project has of them as they are."""

    def show(self, images: Iterable[Loaded], masks: Mapping[str, KeptImage]) -> None:
        """Add layers for images, and for what the project knows of those that are open."""
        viewer = self._session.viewer
        before = {name for _, name in self._table.pairs}
        names = list(self._table.bind_files(self._session.image_layers))
        for loaded in images:
            if self._table.layer_of(loaded.entry.name) is not None:  # the user has opened it meanwhile
                continue
            layer = image_layer(loaded)
            viewer.add_layer(layer)
            self._table.bind(layer, loaded.entry.name)
            names.append(loaded.entry.name)
        fresh = [name for name in names if name not in before]
        for name in fresh:
            view = self._table.view_of(name)
            if view is not None:
                self._show_boxes(view, name)
                self._show_masks(view, name, masks.get(name))
        self._choose(fresh)

    def _choose(self, names: Sequence[str]) -> None:
        """Work on the first image on which something was done, on a plane with boxes or a mask."""
        views = [view for name in names if (view := self._table.view_of(name)) is not None]
        if not views:
            return
        worked = self._worked_planes()
        view = next((view for view in views if self._table.name_of(view.layer) in worked), views[0])
        name = self._table.name_of(view.layer) or ""
        self.turn_to(view)
        middle = [n // 2 for n in view.extent]
        places = sorted(
            worked.get(name, []), key=lambda p: sum(abs(i - m) for i, m in zip(p, middle, strict=True))
        )
        if places:
            view.show(self._session.viewer, PlaneId(view.name, places[0]))
        self._take_in_hand(view)
        self.show_contrast()

    def turn_to(self, view: PlaneView) -> None:
        """Choose an image, and have it seen without those that lie over it, and their boxes."""
        self._session.choose_image(view.layer, view.channel_axis, view.channel)
        uncover(self._session, view.layer, whole=True)

    def _take_in_hand(self, view: PlaneView) -> None:
        """Have the keys at hand of what there is to do: of the review, else of the boxes."""
        result, boxes = self._session.results.latest.get(view.name), self._session.boxes_of(view.layer)
        layer = result.layer if result is not None else None if boxes is None else boxes.shapes
        if layer is not None:
            self._session.viewer.layers.selection.active = layer

    def _worked_planes(self) -> dict[str, list[tuple[int, ...]]]:
        found: dict[str, list[tuple[int, ...]]] = {}
        for plane in dict.fromkeys((*self._project.boxes.planes, *self._project.masked_planes())):
            found.setdefault(plane.image, []).append(plane.index)
        return found

    def show_contrast(self) -> None:
        """Let the model see the chosen image as it did before."""
        view = self._session.view
        entry = None if view is None else self._table.entry_of(view)
        if entry is None or entry.look is None or self._session.contrast is not None:
            return
        if entry.look.contrast is not None:
            self._session.set_contrast(entry.look.contrast, manual=entry.look.contrast_by_hand)

    # Boxes

    def _show_boxes(self, view: PlaneView, name: str) -> None:
        """Make the layers of boxes and of what is complete; to layers there are, the recorder adds."""
        if self._session.boxes_of(view.layer) is not None or self._belongs(view):
            return
        boxes = self._project.boxes
        planes = {plane: info for plane, info in boxes.planes.items() if plane.image == name}
        height, width = view.shape
        areas: list[Box] = []
        for plane, info in planes.items():
            here = PlaneId(view.name, plane.index)
            areas += [Box(0, 0, height, width, here)] if info.complete else []
            areas += [Box(*region, here) for region in info.complete_regions]
        drawn = [box for plane in planes for box in boxes.on(plane)]
        layer = self._layer(view, drawn, "boxes")
        layer.features = {"class": np.array([box.label for box in drawn], object)}
        known = self._project.colors
        pairs = [(label, known[label]) for label in self._project.classes if label in known]
        classes = Classes.restored(pairs, self._project.classes)
        told = {"classes": classes.stored(), "exclusive": self._project.exclusive}
        layer.metadata = {**layer.metadata, ROLE_KEY: {**layer.metadata[ROLE_KEY], **told}}
        viewer = self._session.viewer
        with same_selection(viewer):
            if areas:
                viewer.add_layer(self._layer(view, areas, "complete"))
            viewer.add_layer(layer)  # adopted by the event of its insertion
        found = self._session.boxes_of(view.layer)
        if found is not None:
            found.view = view  # with the channel, which the layer does not say

    def _belongs(self, view: PlaneView) -> bool:
        """Whether there is a boxes layer that was not taken up for an image of this name."""
        known = [boxes.shapes for boxes in self._session.box_layers]
        free = [layer for layer in layers_with_role(self._session.viewer, "boxes") if layer not in known]
        return any(layer.metadata[ROLE_KEY].get("image") == view.name for layer in free)

    def _layer(self, view: PlaneView, boxes: Sequence[Box], role: Role) -> Shapes:
        name = f"{view.name} {role}"
        layer = new_boxes_layer(view, name=name, role=role, opacity=1.0 if role == "complete" else 0.7)
        if boxes:
            layer.add_rectangles(corners_of(boxes, view, layer))
        return layer

    # Masks

    def _show_masks(self, view: PlaneView, name: str, kept: KeptImage | None) -> None:
        """Make a result of the planes that have a mask, or that were rejected."""
        project = self._project
        records = {plane: project.record(plane) for plane in project.images.planes if plane.image == name}
        masked = frozenset[tuple[int, ...]]() if kept is None else kept.masked
        records = {p: r for p, r in records.items() if p.index in masked or r.status == "rejected"}
        if not records:
            return
        kept = kept or KeptImage(project, name, exclusive=project.exclusive)
        result = self._session.results.restore(view, self._colors(), kept.layers)
        shown = {PlaneId(view.name, plane.index): record for plane, record in records.items()}
        # As they are wanted by the list of planes to review.
        scores = {
            here: PlaneScores.of_signs(here, record.score or 0.0, record.signs)
            for here, record in shown.items()
        }
        painted = {here for here, r in shown.items() if here.index in masked and r.status == "corrected"}
        for one in result.siblings:
            one.scores |= scores
            one.painted |= painted
            for here, record in shown.items():
                if record.status in ("accepted", "rejected"):
                    one.status[here] = record.status
        same: dict[PlaneId, str] = {
            plane: record.status
            for plane, record in records.items()
            if record.status in ("accepted", "rejected") and (plane in kept.same or plane.index not in masked)
        }
        self.restored.append((result, same))  # which is told when the image is chosen

    def _colors(self) -> dict[str, Color]:
        known = self._project.colors
        pairs = [(name, known[name]) for name in self._project.classes if name in known]
        classes = Classes.restored(pairs, self._project.classes)
        return {name: classes.color_of(name) for name in self._project.classes}

    # Away again

    def remove(self, only: str | None = None) -> None:
        """Take the layers of the project out of the viewer, or of one image: they are safe on the disk."""
        layers, session = self._session.viewer.layers, self._session
        gone = []
        for image, name in self._table.pairs:
            if only not in (None, name):
                continue
            boxes = session.boxes_of(image)
            if boxes is not None:
                gone += [boxes.shapes, boxes.complete]
                boxes.close()
                session.box_layers.remove(boxes)  # first, or they would be taken for deleted by the user
            gone += [result.layer for result in session.results.alive if result.view.layer == image]
            gone += [
                layer
                for layer in layers_with_role(session.viewer, "preview")
                if layer.metadata[ROLE_KEY].get("image") == image.name
            ]
            # An image that was no file is not on the disk as the user opened it, but as a copy.
            gone += [image] if file_of(image) is not None else []
        for layer in gone:
            if layer is not None and layer in layers:
                layers.remove(layer)
        self.restored = [found for found in self.restored if found[0].alive]
        session.boxes_changed.emit()
