"""In which order the planes of a result are reviewed, and why."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from napari_boxprompt.ranking import REASONS, Strategy, order_planes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.ranking import Suggestion

__all__ = ["ORDERS", "Order", "ReviewOrder"]

Order = Strategy | Literal["index"]

ORDERS: Mapping[Order, str] = MappingProxyType(
    {
        "combined": "most useful first",
        "doubt": "most unsure first",
        "size": "unusual sizes first",
        "look": "second look disagrees first",
        "views": "two views disagree first",
        "novelty": "unlike the boxed ones first",
        "index": "in order",
    }
)
"""What the user can choose, in words; all but the last are strategies of `napari_boxprompt.ranking`."""

HEAD = 100
"""Planes that are put in order with care; of thousands, nobody comes to see the others."""

TELLING = 0.5
"""A plane that comes before most others has a reason worth telling; that of the last ones is none."""


class ReviewOrder:
    """Order of the planes of the newest result of each image.

    It is made when planes were predicted or another order is chosen. It does not change while the user
    accepts planes or draws boxes: a list that is sorted anew under one's hand cannot be worked through.

    Parameters
    ----------
    session : Session
        State of the widget.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by: Order = "combined"
        self._made_for: tuple[list[Result], Order, dict[PlaneId, float]] | None = None
        self._places: dict[PlaneId, int] = {}
        self._suggested: dict[PlaneId, Suggestion] = {}

    @property
    def by(self) -> Order:
        """The order that was chosen; the usual one where the results say nothing of that."""
        return self._by if self.knows(self._by) else "combined"

    def knows(self, by: Order) -> bool:
        """Whether planes can be put in that order: two views are compared only where asked for."""
        results = self._results()
        if by != "views" or not results:
            return True
        return not all(math.isnan(scores.views) for one in results for scores in one.scores.values())

    def _results(self) -> list[Result]:
        return list(self._session.results.latest.values())

    def choose(self, by: Order) -> None:
        """Choose another order."""
        self._by = by
        self._session.result_changed.emit()

    def waiting(self) -> list[PlaneId]:
        """Planes that are not accepted: those nobody has judged, then rejected ones."""
        results = self._results()
        self._make(results)
        said = {plane: status for one in results for plane, status in one.status.items()}
        planes = {plane for one in results for plane in one.scores} | said.keys()
        last = len(self._places)
        return sorted(
            (plane for plane in planes if said.get(plane) != "accepted"),
            key=lambda p: (p in said, self._places.get(p, last), p.image, p.index),
        )

    def because(self, plane: PlaneId) -> Strategy | None:
        """What brought a plane to the front, None where nothing did; see `ranking.REASONS`."""
        found = self._suggested.get(plane)
        return found.because if found is not None and found.score > TELLING else None

    def reason(self, plane: PlaneId) -> str:
        """What brought a plane to the front, in words; empty where nothing did."""
        because = self.because(plane)
        return "" if because is None else REASONS[because]

    def _make(self, results: list[Result]) -> None:
        by = self.by
        wanted = (results, by, {plane: doubt for one in results for plane, doubt in one.doubts.items()})
        if self._made_for == wanted:
            return
        self._made_for = wanted
        known = {plane: scores for one in results for plane, scores in one.scores.items()}
        suggested: list[Suggestion] = []
        if by != "index":
            taught = {plane for one in results for plane, said in one.status.items() if said == "accepted"}
            left = [scores for plane, scores in known.items() if plane not in taught]
            taught.update(self._session.all_boxes().boxed_planes)
            vectors = [known[plane].vector for plane in taught if plane in known]
            boxed = [vector for vector in vectors if vector is not None]
            suggested = order_planes(left, boxed, by, count=HEAD)
        self._suggested = {item.plane: item for item in suggested}
        rest = sorted((p for p in known if p not in self._suggested), key=lambda p: (p.image, p.index))
        if by != "index":
            rest.sort(key=lambda plane: -known[plane].doubt)
        self._places = {plane: i for i, plane in enumerate([*self._suggested, *rest])}
