"""Objects of a result: number, class, plane, area and score of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from napari_boxprompt.boxes import PlaneId

__all__ = ["ObjectTable"]


class ObjectTable:
    """Objects of a layer, in the order in which they came."""

    def __init__(self) -> None:
        self.classes: dict[int, str] = {}
        """Class of each object."""
        self._rows: list[dict[str, Any]] = []

    def add(self, number: int, plane: PlaneId, name: str, area: int, score: float = math.nan) -> None:
        """Add an object."""
        self.classes[number] = name
        row = {"index": number, "plane": _where(plane), "class": name, "area": area, "score": score}
        self._rows.append(row)

    def forget(self, plane: PlaneId) -> list[int]:
        """Forget the objects of a plane; return their numbers."""
        gone = {row["index"] for row in self._rows if row["plane"] == _where(plane)}
        self._rows = [row for row in self._rows if row["plane"] != _where(plane)]
        self.classes = {number: name for number, name in self.classes.items() if number not in gone}
        return sorted(gone)

    def measure(self, plane: PlaneId, areas: Mapping[int, int], name: str) -> bool:
        """Take the areas that objects of a plane have now; whether that changed anything.

        Those of a number that is not known are new and have the class `name`.
        """
        before = [row["area"] for row in self._rows]
        for row in self._rows:
            if row["plane"] == _where(plane):
                row["area"] = areas.get(row["index"], 0)  # 0: it was rubbed out
        for number in sorted(areas.keys() - self.classes.keys()):
            self.add(number, plane, name, areas[number])
        return before != [row["area"] for row in self._rows]

    def take(self, other: ObjectTable, numbers: Collection[int], shift: int) -> None:
        """Add objects of another table under higher numbers."""
        kept = (row for row in other._rows if row["index"] in numbers)
        self._rows += [{**row, "index": row["index"] + shift} for row in kept]
        self.classes |= {n + shift: name for n, name in other.classes.items() if n in numbers}

    def rename(self, old: str, new: str) -> None:
        """Give the objects of a class another."""
        self.classes |= {number: new for number, name in self.classes.items() if name == old}
        for row in self._rows:
            row["class"] = new if row["class"] == old else row["class"]

    def features(self) -> pd.DataFrame:
        """Return a row for each object, as napari shows it; the first row belongs to the background."""
        return pd.DataFrame([{"index": 0, "plane": "", "class": "", "area": 0, "score": 0.0}, *self._rows])


def _where(plane: PlaneId) -> str:
    return " ".join(map(str, plane.index))
