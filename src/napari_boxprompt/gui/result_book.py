"""All predictions of a session, and what the user has said of their planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from psygnal import Signal

from napari_boxprompt.gui.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.classes import Color
    from napari_boxprompt.gui.kept import KeptLabels
    from napari_boxprompt.gui.layers import PlaneView
    from napari_boxprompt.gui.left import Entry
    from napari_boxprompt.gui.renaming import Renaming
    from napari_boxprompt.gui.results import Status

__all__ = ["Maker", "ResultBook"]


class Maker(Protocol):
    """What results are of: a trained model, or boxes alone. It is known by its identity."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that it knows."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether no two of them overlap."""
        ...

    def renamed(self, old: str, new: str) -> Self:
        """Return it with another name of a class; itself where that changes nothing."""
        ...


class ResultBook:
    """All results of a session, the newest last.

    Parameters
    ----------
    viewer : ViewerModel
        Where their layers are.
    entries : sequence of Entry
        Results of an earlier session, and the models that they are of.

    Attributes
    ----------
    filled : psygnal.Signal
        A prediction has put a plane into a result and its siblings; with both.
    corrected : psygnal.Signal
        The user has painted on a plane of a result for the first time.
    """

    filled = Signal(object, object)
    corrected = Signal()

    def __init__(self, viewer: ViewerModel, entries: Sequence[Entry] = ()) -> None:
        self._viewer = viewer
        self._entries: list[Entry] = []
        self.hidden: tuple[str, ...] = ()
        """Names of the layers that the last new ones took the place of."""
        self.kept_classes: Callable[[Image], set[str]] = lambda _: set()
        """Classes that the masks of an image in the open project have in a layer each."""
        for result, model in entries:
            self._note(result, model)

    @property
    def entries(self) -> list[Entry]:
        """Results whose layers are still in the viewer, oldest first, and the models that they are of."""
        return [entry for entry in self._entries if entry[0].alive]

    @property
    def newest(self) -> Result | None:
        """The last result whose layer is still in the viewer."""
        return next((result for result, _ in reversed(self._entries) if result.alive), None)

    @property
    def alive(self) -> list[Result]:
        """Results whose layers are still in the viewer, oldest first."""
        return [result for result, _ in self._entries if result.alive]

    @property
    def latest(self) -> dict[str, Result]:
        """The last result of each image whose layer is still in the viewer, by the name of the image."""
        return {result.view.name: result for result in self.alive}

    def of(self, plane: PlaneId) -> Result | None:
        """The last result of the image that a plane is of."""
        return self.latest.get(plane.image)

    def restore(
        self, view: PlaneView, colors: Mapping[str, Color], kept: Sequence[KeptLabels] = ()
    ) -> Result:
        """Make a result of planes that were kept, of no model that is known now; older ones are hidden.

        Where they were kept class by class, each class gets one; the last is returned.
        """
        for old in self.alive:
            if old.view == view:
                old.layer.visible = False
        by_class = {one.only: one for one in kept}
        if by_class.keys() <= {None}:
            return self._noted(Result(self._viewer, view, colors, kept=by_class.get(None)), None)
        return self._noted(Result.of_each_class(self._viewer, view, colors, by_class), None)

    def _noted(self, last: Result, model: Maker | None) -> Result:
        for result in last.siblings:
            self._note(result, model)
        return last

    def _note(self, result: Result, model: Maker | None) -> None:
        result.corrected.connect(self._on_corrected)
        self._entries.append((result, model))

    def _on_corrected(self) -> None:
        self.corrected.emit()

    def take(
        self,
        views: Sequence[PlaneView],
        model: Maker,
        colors: Mapping[str, Color],
        planes: Collection[PlaneId] = (),
        adopt: Callable[[PlaneId, Result], None] = lambda *_: None,
    ) -> dict[str, list[Result]]:
        """Layers for a prediction: one for each image, or one a class where classes overlap.

        The newest layer of an image is filled up if the same model has made it: what it has predicted there
        before comes out the same. Otherwise there is a new one, and the older ones of the image are hidden,
        because two over each other cannot be read. What was accepted or painted is in the new one too:
        where that has classes that overlap, the new one has a layer for each, whatever the model says.

        Parameters
        ----------
        views : sequence of PlaneView
            The images.
        model : Maker
            What predicts, or else makes objects.
        colors : mapping of str to color
            Colour of each class, in the order of the model's.
        planes : collection of PlaneId
            What will be predicted. To look at all that a layer holds takes seconds for a large stack; one
            that is filled up is looked at here, and where it was seen that the user painted.
        adopt : callable
            Called with a plane that the user has accepted or changed, and the result where that was.

        Returns
        -------
        dict
            By the name of the image.
        """
        taken: dict[str, list[Result]] = {}
        hidden: list[str] = []
        for view in views:
            mine = [(old, by) for old, by in self._entries if old.alive and old.view == view]
            newest, by = mine[-1] if mine else (None, None)
            whole = newest is not None and len(newest.together) == len(newest.siblings)
            if newest is not None and whole and by is model and newest.known == model.classes:
                for plane in newest.worked_on(planes):
                    adopt(plane, newest)
                taken[view.name] = [old.reserving() for old in newest.siblings]
                continue
            hidden += [old.layer.name for old, _ in mine if old.layer.visible]
            for old, _ in mine:
                old.layer.visible = False
            work = {plane: result for plane, result in self.work(view).items() if result.view == view}
            for plane, result in work.items():
                adopt(plane, result)
            new = self._following(view, model, colors, work)
            active = self._viewer.layers.selection.active
            if any(old.layer is active for old, _ in mine):  # its keys would act out of sight
                self._viewer.layers.selection.active = new.layer
            taken[view.name] = new.siblings
        self.hidden = tuple(hidden)
        return taken

    def _following(
        self,
        view: PlaneView,
        model: Maker,
        colors: Mapping[str, Color],
        work: Mapping[PlaneId, Result],
    ) -> Result:
        """Make a result with the user's work in it: a prediction must not take its place."""
        planes: dict[Result, list[PlaneId]] = {}
        for plane, result in work.items():
            if result.together:
                planes.setdefault(result, []).append(plane)
        exclusive = model.exclusive and all(result.only is None for result in planes)
        if not exclusive:
            first = next(iter(colors.values()))
            olds = [old for result in planes for old in result.siblings]
            others = {name: old.colors.get(name, first) for old in olds for name in old.used}
            colors = {**colors, **others, **colors}  # those of the model come first
        kind = Result if exclusive else Result.of_each_class
        last = self._noted(kind(self._viewer, view, colors), model)
        for new in last.siblings:
            new.known = model.classes
            for result, worked_on in planes.items():
                sources: dict[Result, list[PlaneId]] = {}
                for plane in worked_on:
                    sources.setdefault(result.holding(new.only, plane), []).append(plane)
                for source, some in sources.items():
                    new.inherit(source, some)
                new.status |= {plane: result.status[plane] for plane in worked_on if plane in result.status}
        return last

    def predicted(self, view: PlaneView, model: Maker) -> set[PlaneId]:
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

    def work(self, view: PlaneView | None = None) -> dict[PlaneId, Result]:
        """Planes that the user has accepted or changed, and where last; of one image only, if it is given."""
        changed: dict[PlaneId, Result] = {}
        for result in self.alive:
            last = result.together[-1:] == (result,)  # of siblings, each would say the same
            if last and view in (None, result.view):
                changed |= dict.fromkeys(result.worked_on(), result)
        return changed | self.accepted()

    def rename(self, renaming: Renaming) -> None:
        """Give a class of objects its new name, and the models that they are of."""
        self._entries = [(result, by and renaming.model(by)) for result, by in self._entries]
        mine = (result for result, _ in self._entries if result.view.layer in renaming.images)
        for result in {one: None for found in mine for one in found.siblings}:
            result.rename(renaming.old, renaming.new)

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
