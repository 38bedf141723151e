"""One plane of a result as a project keeps it: one mask, where classes may overlap with a layer for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.renaming import Renaming
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.project import Mask

__all__ = ["PlaneMask"]


class PlaneMask:
    """A plane of a result and its siblings.

    Parameters
    ----------
    result : Result
        The result, or one of several that have a class each.
    here : PlaneId
        The plane.
    classes : tuple of str
        Classes of the project.
    kept : Mask, optional
        Work that the project has of the plane: objects of classes that have no layer stay as they are in it.

    Attributes
    ----------
    known : numpy.ndarray or None
        The plane as the project has it by now.
    """

    def __init__(
        self, result: Result, here: PlaneId, classes: tuple[str, ...] = (), kept: Mask | None = None
    ) -> None:
        self.result, self._here = result, here
        self._layers: dict[str, npt.NDArray[Any]] = {}
        self.known: npt.NDArray[Any] | None = None
        self._names: dict[int, str] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        if result.only is not None:
            empty = np.zeros(result.view.shape, np.uint32)
            self._layers = {one.only or "": empty for one in result.siblings}
        if result.only is not None and kept is not None:
            found = zip(classes, kept.split(classes).labels, strict=True)
            self._layers |= {name: layer for name, layer in found if layer.any()}

    def labels(self) -> npt.NDArray[Any]:
        """Return the plane as it is now, ``(H, W)`` or ``(classes, H, W)``, with the numbers of the layers.

        It may change with the layer.
        """
        if self.result.only is None:
            return self.result.plane(self._here)
        self._layers |= {one.only or "": one.plane(self._here) for one in self.result.together}
        return np.stack(list(self._layers.values()))

    def numbered(
        self, labels: npt.NDArray[Any], painted: Callable[[Result], str]
    ) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Give the objects of a part of the plane the numbers that they have in the project.

        Those are different for all objects of a plane, which those of several layers need not be.

        Parameters
        ----------
        labels : numpy.ndarray
            The part, from `labels`.
        painted : callable
            Gives the class of objects that were painted into a result.

        Returns
        -------
        labels : numpy.ndarray
            The part with other numbers where these are needed.
        classes : dict of int to str
            Class of each object that was seen on the plane so far.
        """
        if self.result.only is None:
            for number in object_numbers(labels):
                if number not in self._names or self.result.class_of(number) is not None:
                    self._names[number] = self.result.class_of(number) or painted(self.result)
            return labels.copy(), dict(self._names)
        top = int(labels.max(initial=0))
        parts = []
        for name, part in zip(self._layers, labels, strict=True):
            found, places = np.unique(part, return_inverse=True)
            numbers = [self._number(name, int(n), top) if n else 0 for n in found]
            parts.append(np.array(numbers, np.uint32)[places].reshape(part.shape))
        return np.stack(parts), dict(self._names)

    def rename(self, renaming: Renaming) -> None:
        """Call a class by its new name, where the result does."""
        both = {renaming.old, renaming.new} <= self._layers.keys()
        if both or self.result.view.layer not in renaming.images:
            return
        names = {name: name for name in (*self._layers, *self._names.values())} | {renaming.old: renaming.new}
        self._layers = {names[name]: layer for name, layer in self._layers.items()}
        self._names = {number: names[name] for number, name in self._names.items()}
        self._numbers = {(names[name], number): found for (name, number), found in self._numbers.items()}

    def _number(self, name: str, number: int, top: int) -> int:
        """Return the number of an object in the project: its own, or a new one if another class has that."""
        found = self._numbers.get((name, number))
        if found is None:
            found = number if number not in self._names else max(top, *self._names) + 1
            self._numbers[name, number], self._names[found] = found, name
        return found


def object_numbers(labels: npt.NDArray[Any]) -> list[int]:
    """Return the numbers of the objects; counting is many times faster than sorting."""
    top = int(labels.max(initial=0))
    if top > 4 * labels.size + 65536:
        return [int(n) for n in np.unique(labels) if n > 0]
    return [int(n) for n in np.flatnonzero(np.bincount(labels.ravel(), minlength=1)) if n > 0]
