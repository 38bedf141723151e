"""All predictions of a session, and what the user has said of their planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from napari_boxprompt.gui.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.classes import Color
    from napari_boxprompt.gui.layers import PlaneView
    from napari_boxprompt.gui.results import Status
    from napari_boxprompt.prompting import PromptModel

__all__ = ["ResultBook"]


class ResultBook:
    """All results of a session, the newest last.

    Parameters
    ----------
    viewer : ViewerModel
        Where their layers are.

    Attributes
    ----------
    filled : psygnal.Signal
        A prediction has put a plane into a result; with both.
    """

    filled = Signal(object, object)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._entries: list[tuple[Result, PromptModel | None]] = []
        self.hidden: tuple[str, ...] = ()
        """Names of the layers that the last new ones took the place of."""

    @property
    def newest(self) -> Result | None:
        """The last result whose layer is still in the viewer."""
        return next((result for result, _ in reversed(self._entries) if result.alive), None)

    @property
    def alive(self) -> list[Result]:
        """Results whose layers are still in the viewer, oldest first."""
        return [result for result, _ in self._entries if result.alive]

    def restore(self, view: PlaneView, colors: Mapping[str, Color]) -> Result:
        """Make a result for planes that were kept, of no model that is known now."""
        result = Result(self._viewer, view, colors)
        self._entries.append((result, None))
        return result

    def take(
        self,
        views: Sequence[PlaneView],
        planes: Sequence[PlaneId],
        model: PromptModel,
        colors: Mapping[str, Color],
    ) -> dict[str, list[Result]]:
        """Layers for a prediction: one for each image, or one a class where classes overlap.

        A layer of the same model that has none of these planes yet is filled up. Otherwise there is a new
        one, and the older ones of the image are hidden, because two over each other cannot be read. What was
        accepted is in the new one too.

        Parameters
        ----------
        views : sequence of PlaneView
            The images.
        planes : sequence of PlaneId
            What will be predicted.
        model : PromptModel
            What predicts.
        colors : mapping of str to color
            Colour of each class, in the order of the model's.

        Returns
        -------
        dict
            By the name of the image.
        """
        wanted = set(planes)
        channels = [None] if model.exclusive else list(range(len(model.classes)))
        taken: dict[str, list[Result]] = {}
        hidden: list[str] = []
        for view in views:
            mine = [(old, by) for old, by in self._entries if old.alive and old.view == view]
            fitting = [old for old, by in mine if by is model and wanted.isdisjoint(old.doubts) and old.fits]
            if len(fitting) == len(channels):
                taken[view.name] = [old.reserving() for old in fitting]
                continue
            hidden += [old.layer.name for old, _ in mine if old.layer.visible]
            for old, _ in mine:
                old.layer.visible = False
            new = [Result(self._viewer, view, colors, channel) for channel in channels]
            if model.exclusive:
                self._hand_down(view, new[0])
            self._entries += [(result, model) for result in new]
            taken[view.name] = new
        self.hidden = tuple(hidden)
        return taken

    def _hand_down(self, view: PlaneView, new: Result) -> None:
        """Put what was accepted into a new layer: a prediction must not take its place."""
        planes: dict[Result, list[PlaneId]] = {}
        for plane, result in self.accepted().items():
            if result.view == view and result.is_whole and result.fits:
                planes.setdefault(result, []).append(plane)
        for result, accepted in planes.items():
            new.inherit(result, accepted)

    def predicted(self, view: PlaneView, model: PromptModel) -> set[PlaneId]:
        """Planes of an image that a model has predicted, in layers that are still there."""
        mine = (old for old, by in self._entries if old.alive and by is model and old.view == view)
        return {plane for result in mine for plane in result.doubts}

    def said(self) -> dict[PlaneId, tuple[Result, Status]]:
        """What the user has said of planes, and in which result: what was said last of a plane counts."""
        said: dict[PlaneId, tuple[Result, Status]] = {}
        for result in self.alive:
            said |= {plane: (result, status) for plane, status in result.status.items()}
        return said

    def accepted(self) -> dict[PlaneId, Result]:
        """Planes that the user has accepted, and where."""
        return {plane: result for plane, (result, status) in self.said().items() if status == "accepted"}

    def note_images(self) -> None:
        """Images may have other names."""
        for result, _ in self._entries:
            result.note_image()

    def forget(self, layer: Layer) -> bool:
        """Leave out the result of a layer that is gone; True if there was one."""
        kept = [(result, model) for result, model in self._entries if result.layer != layer]
        found = len(kept) < len(self._entries)
        self._entries = kept
        return found
