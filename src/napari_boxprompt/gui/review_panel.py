"""Step 5: look at what is least sure, accept it or paint it right."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_boxprompt.gui.key_table import KeyTable
from napari_boxprompt.gui.ordering import ORDERS
from napari_boxprompt.gui.section import make_primary, say, wrapping_label
from napari_boxprompt.gui.steps import next_step
from napari_boxprompt.gui.telling import counted
from napari_boxprompt.gui.thumbnails import SIDE
from napari_boxprompt.ranking import REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from qtpy.QtGui import QShowEvent

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.results import Result
    from napari_boxprompt.gui.review import Review
    from napari_boxprompt.gui.state import Session
    from napari_boxprompt.gui.thumbnails import Thumbnails
    from napari_boxprompt.ranking import Strategy

__all__ = ["ReviewPanel"]

PLANE = Qt.ItemDataRole.UserRole
MOST_ROWS, MOST_PICTURES = 8, 5
"""Planes that the list shows without scrolling, without pictures and with them."""

BUTTONS = {
    "previous": ("◂ {}", "Back to the plane before"),
    "next": ("{} ▸", "On to the next plane of the list that you have not seen"),
    "accept": ("Accept ({})", "This plane is right and has every object; the next training learns it"),
    "reject": ("Reject ({})", "This plane is wrong: it waits at the end of the list"),
    "edit": ("Edit ({})", "Paint a new object on this plane, or pick one and change it"),
}
"""Text, with the key, and tooltip by what `Review` does."""

MARKS = {"accepted": "✓", "rejected": "✗"}
STANDS_OUT = "⚑"
NOT_COMPARED = "Not known yet: choose 'Compare two views of each plane' in Predict's More, and predict again."


class ReviewPanel(QWidget):
    """Lists planes in the order in which they need a look, and takes the user's word on each.

    Parameters
    ----------
    session : Session
        State of the widget.
    review : Review
        What the buttons do.
    thumbnails : Thumbnails, optional
        Pictures of the planes; the list has none by default.
    keys : KeyTable, optional
        The keys that buttons name; by default those that are kept.
    """

    export_wanted = Signal()

    def __init__(
        self,
        session: Session,
        review: Review,
        thumbnails: Thumbnails | None = None,
        keys: KeyTable | None = None,
    ) -> None:
        super().__init__()
        self._keys = keys or KeyTable()
        self._session, self._review, self._thumbnails = session, review, thumbnails
        self.waits = wrapping_label(
            "Predict first: then the planes are listed here, the most useful to look at first.",
            name="boxprompt-quiet",
        )
        self.order = QComboBox()
        for by, text in ORDERS.items():
            self.order.addItem(text, by)
        self.order.setToolTip(
            "Most useful: unsure outlines, unusual sizes, a second look or a second view that disagrees, "
            "and planes unlike those with boxes, together."
        )
        self.standing_out = wrapping_label(name="boxprompt-quiet")
        self.queue = QListWidget()
        self.queue.setUniformItemSizes(True)
        self.queue.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # it would hide a row
        if thumbnails is not None:
            self.queue.setIconSize(QSize(SIDE, SIDE))
        self._blank = QIcon(_blank())
        self._rows: dict[PlaneId, QListWidgetItem] = {}
        self.away = wrapping_label(name="boxprompt-quiet")
        self.here = wrapping_label(name="boxprompt-small")
        self.buttons = {name: QPushButton() for name in BUTTONS}
        row = QHBoxLayout()
        for name, button in self.buttons.items():
            button.clicked.connect(getattr(review, name))
            row.addWidget(button)
        self.export = QPushButton("Export labels …")
        self.export.clicked.connect(self.export_wanted)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 0, 4, 4)
        layout.addWidget(self.waits)
        layout.addWidget(self.order)
        layout.addWidget(self.standing_out)
        layout.addWidget(self.queue)
        layout.addWidget(self.away)
        layout.addWidget(self.here)
        layout.addLayout(row)
        layout.addWidget(self.export)
        self._connect()
        self._name_keys()
        self.refresh()

    def _connect(self) -> None:
        session, review = self._session, self._review
        if self._thumbnails is not None:
            self._thumbnails.made.connect(self._show_picture)
            self.queue.verticalScrollBar().valueChanged.connect(self._want_pictures)
        self._keys.changed.connect(self._name_keys)
        session.result_changed.connect(self.refresh)
        session.plane_changed.connect(self._mark_plane)
        session.refusal.changed.connect(self._select_plane)
        session.model_changed.connect(self._highlight)
        self.order.activated.connect(lambda _: review.order.choose(self.order.currentData()))
        self.queue.itemClicked.connect(lambda item: review.go(item.data(PLANE)))

    def _name_keys(self) -> None:
        """Name the keys as they are now."""
        for name, (text, tip) in BUTTONS.items():
            key = self._keys.key("review", f"{name}_plane")
            self.buttons[name].setText(text.format(key))
            self.buttons[name].setToolTip(f"{tip} ({key})")

    @property
    def summary(self) -> str:
        """One line."""
        results = self._session.results.latest.values()
        away = self._review.away
        done = 0 if away is None else away.accepted()
        if not any(one.scores for one in results):
            number = self._waiting_away()
            return f"{counted(number, 'plane')} not opened yet" if number else "waits for a prediction"
        said = [status for one in results for status in one.status.values()]
        counts = f"{said.count('accepted') + done} accepted"
        if "rejected" in said:
            counts += f", {said.count('rejected')} rejected"
        waiting = self._review.order.waiting()
        if not waiting:
            return f"all {counts}"
        first = waiting[0]
        image = f"{first.image}, " if first.index and len(results) > 1 else ""
        return f"{counts}; next: {image}{_where(first)}"

    def refresh(self) -> None:
        """Show the planes in the order in which they need a look."""
        results = self._session.results.latest
        there = any(one.scores for one in results.values())
        self._show_away()
        self.waits.setVisible(not there and self.away.isHidden())
        shown = (self.order, self.standing_out, self.queue, self.here, self.export, *self.buttons.values())
        for widget in shown:
            widget.setVisible(there)
        self.buttons["next"].setVisible(there or not self.away.isHidden())
        self.queue.clear()
        self._rows.clear()
        if not results:
            return
        self._highlight()
        flagged = {plane: why for one in results.values() for plane, why in one.standing_out().items()}
        self.standing_out.setText(_standing_out(len(flagged)))
        self._show_orders()
        waiting, boxed = self._review.order.waiting(), set(self._session.all_boxes().boxed_planes)
        said = {plane for one in results.values() for plane in one.status}
        accepted = sorted(said - set(waiting), key=lambda plane: (plane.image, plane.index))
        parts = {name: one.together or (one,) for name, one in results.items()}  # not anew for each plane
        for plane in (*waiting, *accepted):
            result, part, why = results[plane.image], parts[plane.image], flagged.get(plane)
            self._add_row(plane, result, part, why, boxed, named=len(results) > 1)
        self._fit_queue()
        self._select_plane()
        self.queue.scrollToTop()  # what needs a look, whichever plane happens to be on screen
        self._want_pictures()

    def _show_away(self) -> None:
        """Say how many planes wait in images that are not open."""
        number, button = self._waiting_away(), self.buttons["next"].text()
        planes = counted(number, "plane")
        told = f"{planes} to review in images that are not open: '{button}' opens them, most unsure first."
        say(self.away, told if number else "")

    def _waiting_away(self) -> int:
        return 0 if self._review.away is None else len(self._review.away.waiting())

    def _add_row(
        self,
        plane: PlaneId,
        result: Result,
        parts: Sequence[Result],
        flagged: Strategy | None,
        boxed: set[PlaneId],
        *,
        named: bool,
    ) -> None:
        """Add a plane to the list, with the name of its image where there are several."""
        order = self._review.order
        # Of a plane that stands out, the line says already why.
        told = plane in result.status or order.because(plane) == (flagged or "")
        text = _line(parts, plane, flagged, named=named)
        text += "" if told else _because(order.reason(plane))
        if self._thumbnails is not None:  # beside a picture there is room for it
            text += f"\n\u2003 {_status(result, plane, boxed)}"
        item = QListWidgetItem(text)
        item.setToolTip(text.strip())  # a narrow dock cuts it
        item.setData(PLANE, plane)
        if self._thumbnails is not None:
            item.setIcon(self._blank)
        self._rows[plane] = item
        self.queue.addItem(item)

    def _show_orders(self) -> None:
        """Offer the orders that the result knows something of, and show the one that it is in."""
        order = self._review.order
        for row in range(self.order.count()):
            known = order.knows(self.order.itemData(row))
            self.order.model().item(row).setEnabled(known)
            self.order.setItemData(row, "" if known else NOT_COMPARED, Qt.ItemDataRole.ToolTipRole)
        self.order.setCurrentIndex(self.order.findData(order.by))

    def _seen_planes(self) -> list[PlaneId]:
        """Planes whose rows are in sight."""
        port = self.queue.viewport().rect()
        rows = range(max(0, self.queue.indexAt(port.topLeft()).row()), self.queue.count())
        planes = []
        for row in rows:
            item = self.queue.item(row)
            if self.queue.visualItemRect(item).top() > port.bottom():
                break
            planes.append(item.data(PLANE))
        return planes

    def _want_pictures(self, _: int = 0) -> None:
        """Show the pictures there are of the rows in sight, and have the others made."""
        if self._thumbnails is None or not self.isVisible():
            return
        planes = self._seen_planes()
        for plane in planes:
            self._show_picture(plane)
        self._thumbnails.want(planes)

    def _show_picture(self, plane: PlaneId) -> None:
        item = self._rows.get(plane)
        picture = None if self._thumbnails is None else self._thumbnails.get(plane)
        if item is not None and picture is not None:
            item.setIcon(QIcon(_pixmap(picture)))

    def show_writing(self, name: str) -> None:
        """Say which file is being written; with an empty name, that none is."""
        self.export.setText(f"Writing {name} …" if name else "Export labels …")
        self.export.setEnabled(not name)

    def _highlight(self) -> None:
        """Accepting is next once all planes are predicted; before that, predicting is."""
        waits = next_step(self._session, trains=False) == "Review" and bool(self._review.order.waiting())
        make_primary(self.buttons["accept"], waits)

    def _fit_queue(self) -> None:
        most = MOST_ROWS if self._thumbnails is None else MOST_PICTURES
        rows = min(most, self.queue.count())  # whole ones: half a row looks like a mistake
        self.queue.setFixedHeight(rows * self.queue.sizeHintForRow(0) + 2 * self.queue.frameWidth())

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's way of writing)
        """The rows have the height of the style only now."""
        super().showEvent(event)
        self._fit_queue()
        self.queue.scrollToTop()
        self._want_pictures()

    def _mark_plane(self) -> None:
        """Select the plane that the user turned to, and bring it into view."""
        item = self._select_plane()
        if item is not None:
            self.queue.scrollToItem(item)

    def _on_screen(self) -> str:
        """Name what the buttons below are about, as the list may show other planes."""
        plane, several = self._session.plane, len(self._session.results.latest) > 1
        if plane is None:
            return self._session.refusal.why or "No plane of the image is on screen."
        image = f"{plane.image}, " if several and plane.index else ""
        where = f"{image}plane {_where(plane)}" if plane.index else plane.image
        return f"On screen: {where}" + ("" if plane in self._rows else ", not predicted")

    def _select_plane(self) -> QListWidgetItem | None:
        """Select the plane on screen; not as the current one, to which the list would scroll by itself."""
        self.here.setText(self._on_screen())
        self.queue.clearSelection()
        for row in range(self.queue.count()):
            item = self.queue.item(row)
            if item.data(PLANE) == self._session.plane:
                item.setSelected(True)
                return item
        return None


def _blank() -> QPixmap:
    """Keep the place of a picture that is not there yet."""
    blank = QPixmap(SIDE, SIDE)
    blank.fill(Qt.GlobalColor.transparent)
    return blank


def _pixmap(picture: npt.NDArray[np.uint8]) -> QPixmap:
    height, width, _ = picture.shape
    data = np.ascontiguousarray(picture).tobytes()
    image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
    pixmap = QPixmap.fromImage(image)
    square = _blank()
    painter = QPainter(square)
    painter.drawPixmap((SIDE - width) // 2, (SIDE - height) // 2, pixmap)
    painter.end()
    return square


def _standing_out(number: int) -> str:
    """Say how many planes need a look, whatever the order of the list."""
    if not number:
        return "No plane stands out from the others."
    stand = "stands" if number == 1 else "stand"
    return f"{STANDS_OUT} {counted(number, 'plane')} {stand} out."


def _where(plane: PlaneId) -> str:
    return " · ".join(map(str, plane.index)) or plane.image


def _line(parts: Sequence[Result], plane: PlaneId, flagged: Strategy | None, *, named: bool) -> str:
    """Name a plane, and say what to look for where it stands out.

    Of results of one class each, it says the sums, and the mean of how well each agrees.
    """
    status = parts[0].status.get(plane, "")
    mark = MARKS.get(status, STANDS_OUT if flagged else "\u2003")
    image = f"{plane.image}, " if named else ""
    where = f"{image}plane {_where(plane)}" if plane.index else plane.image
    counts = [one.counts[plane] for one in parts if plane in one.counts]
    agreement = [one.agreement[plane] for one in parts if plane in one.agreement]
    if not counts:
        return f"{mark} {where}"
    if agreement and status == "accepted":
        return f"{mark} {where}: new prediction agrees {fmean(agreement):.2f}"
    objects, unsure = map(sum, zip(*counts, strict=True))
    said = counted(objects, "object") if objects else "nothing found"
    if flagged in ("look", "size"):
        said += f", {REASONS[flagged]}"
    elif flagged and not objects:
        said = "only something faint"
    elif flagged and unsure == objects:
        said = counted(objects, "unsure object")
    elif flagged:
        said = f"{unsure} of {said} unsure" if unsure else f"{said}, unsure edges"
    return f"{mark} {where}: {said}"


def _status(result: Result, plane: PlaneId, boxed: set[PlaneId]) -> str:
    """Say how far the work on a plane has come, and how unsure the model is of it."""
    untouched = "boxed" if plane in boxed else "predicted"
    status = result.status.get(plane, "corrected" if plane in result.painted else untouched)
    scores = result.scores.get(plane)
    return str(status) if scores is None else f"{status} · doubt {scores.doubt:.2f}"


def _because(reason: str) -> str:
    return f" · {reason}" if reason else ""
