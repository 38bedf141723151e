"""Step 2: boxes, their classes, and what is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_boxprompt.boxes import BoxSet
from napari_boxprompt.gui.class_bar import ClassBar
from napari_boxprompt.gui.deleted import Deleted
from napari_boxprompt.gui.key_table import KeyTable
from napari_boxprompt.gui.on_screen import boxes_to_draw
from napari_boxprompt.gui.reading import USELESS
from napari_boxprompt.gui.section import make_primary, wrapping_label
from napari_boxprompt.gui.steps import next_step
from napari_boxprompt.gui.telling import counted, told

if TYPE_CHECKING:
    from qtpy.QtGui import QColor, QShowEvent

    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.gui.box_layer import BoxLayer
    from napari_boxprompt.gui.state import Session

__all__ = ["BoxesPanel"]

PLANE = Qt.ItemDataRole.UserRole
MOST_ROWS = 8
"""Planes that the table shows without scrolling."""

MOST_PROBLEMS = 3
"""Problems that are named at a time."""

PREVIEW, LEARNING = "preview the masks of my boxes", "preview the model as it learns"
"""What is shown over the image, without a training and during one."""

NEXT = "next"
"""Link to the problems after those that are named."""


class BoxesPanel(QWidget):
    """Makes boxes layers and shows what is drawn on them.

    Parameters
    ----------
    session : Session
        State of the widget.
    keys : KeyTable, optional
        The keys that tooltips name; by default those that are kept.
    deleted : Deleted, optional
        Boxes that can be brought back; by default those of layers that go away from now on.
    """

    from_file = Signal()
    from_labels = Signal()
    from_all_labels = Signal()
    from_shapes = Signal()
    from_object = Signal()
    export_wanted = Signal()
    regions_wanted = Signal()
    preview_wanted = Signal(bool)

    def __init__(
        self, session: Session, keys: KeyTable | None = None, deleted: Deleted | None = None
    ) -> None:
        super().__init__()
        self._session, self._keys, self._deleted = session, keys or KeyTable(), deleted or Deleted(session)
        self._first_problem, self._knows_complete = 0, False
        self.waits = wrapping_label("Choose an image first: boxes are drawn over it.", name="boxprompt-quiet")
        self.gone, self.bring_back = wrapping_label(name="boxprompt-warning"), QPushButton("Bring back")
        self._gone = _row(self.gone, self.bring_back, stretch=0)
        self._tidying = QTimer(self)
        self._tidying.setSingleShot(True)
        self.new = QPushButton("New boxes layer")
        self.new.setToolTip("A layer for boxes over the image, with the rectangle tool in your hand.")
        self.sources = QPushButton("More")
        self.sources.setToolTip("Boxes that are drawn already, or objects that are outlined already.")
        menu = QMenu(self.sources)
        menu.addAction("Boxes from a COCO or YOLO file …", self.from_file.emit)
        menu.addAction("Boxes from a Shapes layer", self.from_shapes.emit)
        menu.addAction("Boxes from a Labels layer, this plane", self.from_labels.emit)
        self._from_all = menu.addAction("Boxes from a Labels layer, all planes", self.from_all_labels.emit)
        menu.addAction("Box from the selected object of a Labels layer", self.from_object.emit)
        menu.addSeparator()
        self._export = menu.addAction("Export boxes …", self.export_wanted.emit)
        self.sources.setMenu(menu)
        self.sources.setObjectName("boxprompt-menu")
        self.undo, self.redo = QToolButton(), QToolButton()
        self.undo.setText("↶")
        self.redo.setText("↷")
        self.classes = ClassBar()
        self.here = wrapping_label()
        self.complete = QCheckBox("complete")
        self.table = QTreeWidget()
        self.table.setHeaderLabels(["plane", "complete", "boxes"])
        self.table.setRootIsDecorated(False)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setUniformRowHeights(True)
        self.hint = wrapping_label(name="boxprompt-hint")
        self.problems = wrapping_label(name="boxprompt-warning")
        self.problems.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse)
        self.fix = QPushButton("Fix")
        self.fix.setToolTip(
            "Straighten, cut at the border, delete what lies outside, twice or is too small.\n"
            "Undo brings it back."
        )
        self._faults = _row(self.problems, self.fix, stretch=0)
        self.preview = QCheckBox(PREVIEW)
        self.preview.setChecked(True)
        self.preview.setToolTip("What the untrained model makes of each box: a bad box is seen at once.")
        self.regions = QPushButton("Only parts …")
        self.regions.setToolTip("Draw rectangles inside which every object has its box.")
        self._lay_out()
        self._connect()
        self._name_keys()
        self.refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 0, 4, 4)
        layout.addWidget(self.waits)
        layout.addWidget(self._gone)
        layout.addWidget(_row(self.new, self.sources, self.undo, self.redo, stretch=0))
        layout.addWidget(self.classes)
        layout.addWidget(_row(self.here, self.complete, self.regions, stretch=0))
        for widget in (self.table, self.hint, self._faults, self.preview):
            layout.addWidget(widget)

    def _connect(self) -> None:
        session, classes = self._session, self.classes
        session.boxes_changed.connect(self.refresh)
        self._keys.changed.connect(self._name_keys)
        self._deleted.changed.connect(self._on_deleted)
        self._tidying.timeout.connect(self._deleted.tidy)
        self.bring_back.clicked.connect(lambda: told(self._deleted.bring_back)())
        session.model_changed.connect(self._highlight)
        session.result_changed.connect(self._highlight)
        session.plane_changed.connect(self._show_plane)
        self.new.clicked.connect(self._new)
        self.undo.clicked.connect(lambda: self._do("undo"))
        self.redo.clicked.connect(lambda: self._do("redo"))
        self.fix.clicked.connect(lambda: self._do("fix"))
        self.complete.clicked.connect(self._toggle)
        self.regions.clicked.connect(self.regions_wanted)
        self.preview.toggled.connect(self.preview_wanted)
        self.table.itemClicked.connect(lambda item: self._go(item.data(0, PLANE)))
        self.problems.linkActivated.connect(self._show_problem)
        classes.chosen.connect(lambda index: self._do("choose_class", index))
        classes.added.connect(lambda name: self._do("add_class", name))
        classes.renamed.connect(lambda index, name: self._do("rename_class", index, name))
        classes.removed.connect(lambda index: self._do("remove_class", index))
        classes.recolored.connect(self._recolor)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's way of writing)
        """The rows have the height of the style only now."""
        super().showEvent(event)
        self._fit_table()

    @property
    def summary(self) -> str:
        """One line."""
        boxes = self._session.boxes
        if boxes is None:
            return "waits for an image" if self._session.view is None else "no boxes yet"
        drawn = boxes.boxset
        complete = sum(info.complete for info in drawn.planes.values())
        return f"{counted(len(drawn), 'box', 'boxes')} on {counted(len(drawn.boxed_planes), 'plane')}" + (
            f", {complete} complete" if complete else ""
        )

    def refresh(self) -> None:
        """Show boxes as they are."""
        session, boxes = self._session, self._session.boxes
        self.waits.setVisible(session.view is None)
        self.new.setEnabled(session.view is not None)
        self.sources.setEnabled(session.view is not None)
        self._export.setEnabled(boxes is not None)
        self._from_all.setVisible(session.view is not None and session.view.count > 1)
        self.new.setText("New boxes layer" if boxes is None else "Draw boxes")
        self._highlight()
        self.classes.show_classes(None if boxes is None else boxes.classes)
        for widget in (self.classes, self.preview, self.undo, self.redo):
            widget.setVisible(boxes is not None)
        self.undo.setEnabled(boxes is not None and boxes.can_undo)
        self.redo.setEnabled(boxes is not None and boxes.can_redo)
        self._show_deleted()
        self._fill_table(boxes)
        self._show_hint(boxes)
        self._show_problems(boxes)
        self._show_plane()

    def _on_deleted(self) -> None:
        self._show_deleted()
        self._tidying.start()  # ends when napari has done with the layer

    def _show_deleted(self) -> None:
        """Offer boxes that went away with their layer."""
        kept = self._deleted.here
        self._gone.setVisible(kept is not None)
        if kept is not None:
            boxes = counted(len(kept.drawn), "box was", "boxes were")
            self.gone.setText(f"{boxes} deleted with the layer.")

    def _highlight(self) -> None:
        """Boxes are next where there is no model, and not enough to train one."""
        alone = self._session.boxes is None
        make_primary(self.new, alone and next_step(self._session) == "Boxes")

    def _fill_table(self, boxes: BoxLayer | None) -> None:
        self.table.clear()
        drawn = BoxSet() if boxes is None else boxes.boxset
        self.table.setVisible(bool(drawn.boxed_planes))
        for plane in sorted(drawn.boxed_planes, key=lambda plane: plane.index):
            complete = drawn.planes[plane].complete
            parts = len(drawn.planes[plane].complete_regions)
            said = "✓" if complete else f"{parts} parts" if parts else ""
            item = QTreeWidgetItem([_index(plane), said, _per_class(drawn, plane)])
            item.setData(0, PLANE, plane)
            self.table.addTopLevelItem(item)
        for column in range(2):
            self.table.resizeColumnToContents(column)
        self._fit_table()

    def _fit_table(self) -> None:
        """Give the table the height of its rows, so that none is cut and none has to be scrolled to."""
        rows = min(MOST_ROWS, self.table.topLevelItemCount())
        row = self.table.sizeHintForRow(0) if rows else 0
        self.table.setFixedHeight(self.table.header().sizeHint().height() + rows * row + 4)

    def _show_hint(self, boxes: BoxLayer | None) -> None:
        """Say what completeness is when it first matters, and no more once a plane was marked."""
        drawn = BoxSet() if boxes is None else boxes.boxset
        self._knows_complete |= any(info.complete or info.complete_regions for info in drawn.planes.values())
        self.hint.setVisible(len(drawn) >= 3 and not self._knows_complete)

    def show_learning(self, running: bool) -> None:
        """Say that the masks on screen are those of a model that learns, or that they are not any more."""
        self.preview.setText(LEARNING if running else PREVIEW)

    def _name_keys(self) -> None:
        """Name the keys as they are now."""
        undo, redo, complete = (self._keys.key("boxes", name) for name in ("undo", "redo", "toggle_complete"))
        self.undo.setToolTip(f"Undo the last change of boxes ({undo} on the boxes layer)")
        self.redo.setToolTip(f"Redo ({redo} on the boxes layer)")
        self.complete.setToolTip(
            f"Every object on this plane has its box, so everything else is background (key {complete}).\n"
            "Without it, that is only presumed, and counts less."
        )
        self.hint.setText(
            f"When every object on a plane has its box, tick <b>complete</b> (key {complete}): "
            "then the rest of it teaches the model what background is."
        )

    def _show_problems(self, boxes: BoxLayer | None) -> None:
        found = () if boxes is None else boxes.problems
        self._faults.setVisible(bool(found))
        # Boxes that are cut at the border are many and harm nothing: the others are read first.
        order = sorted(range(len(found)), key=lambda i: found[i].kind == "partly outside")
        if self._first_problem >= len(found):
            self._first_problem = 0
        shown = order[self._first_problem : self._first_problem + MOST_PROBLEMS]
        lines = [f"{found[i].message} {_link(str(i), 'Show')}" for i in shown]
        if len(found) > MOST_PROBLEMS:
            lines.append(f"{counted(len(found), 'problem')} in all. {_link(NEXT, 'Show the next')}")
        self.problems.setText("<br>".join(lines))
        self.fix.setEnabled(any(p.repair is not None or p.kind in USELESS for p in found))

    def _show_plane(self) -> None:
        boxes, plane = self._session.boxes, self._session.plane
        for widget in (self.here, self.complete, self.regions):
            widget.setVisible(boxes is not None)
        if boxes is None:
            return
        if plane is None:
            self.here.setText("another view than the boxes")
        else:
            count = sum(box.plane == plane for box in boxes.reading.boxes)
            self.here.setText(f"{_named(plane)}: {counted(count, 'box', 'boxes')}")
        self._mark_plane(plane)
        self.complete.setEnabled(plane is not None)
        self.complete.setChecked(plane is not None and boxes.is_complete(plane))

    def _mark_plane(self, plane: PlaneId | None) -> None:
        """Select the plane on screen in the table."""
        rows = [self.table.topLevelItem(row) for row in range(self.table.topLevelItemCount())]
        here = next((item for item in rows if item.data(0, PLANE) == plane), None)
        self.table.setCurrentItem(here)

    @told
    def _do(self, action: str, *arguments: object) -> None:
        boxes = self._session.boxes
        if boxes is not None:
            try:
                getattr(boxes, action)(*arguments)
            finally:
                self.classes.show_classes(boxes.classes)

    @told
    def _new(self, _: bool = False) -> None:
        boxes_to_draw(self._session)

    def _toggle(self, _: bool = False) -> None:
        if self._session.boxes is not None and self._session.plane is not None:
            self._session.boxes.toggle_complete(self._session.plane)

    def _recolor(self, index: int, color: QColor) -> None:
        self._do("recolor_class", index, (color.redF(), color.greenF(), color.blueF(), 1.0))

    def _go(self, plane: PlaneId) -> None:
        if self._session.view is not None:
            self._session.view.show(self._session.viewer, plane)

    def _show_problem(self, link: str) -> None:
        boxes = self._session.boxes
        if link == NEXT:
            self._first_problem += MOST_PROBLEMS
            self._show_problems(boxes)
            return
        if boxes is None or int(link) >= len(boxes.problems):
            return
        problem = boxes.problems[int(link)]
        if problem.plane is not None:
            self._go(problem.plane)
        self._session.viewer.layers.selection.active = boxes.shapes
        boxes.shapes.mode = "select"
        boxes.shapes.selected_data = {problem.index}


def _per_class(drawn: BoxSet, plane: PlaneId) -> str:
    counts = {name: len(drawn.on(plane, name)) for name in drawn.classes}
    if len(counts) == 1:
        return str(next(iter(counts.values())))
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "0"


def _link(target: str, text: str) -> str:
    return f"<a style='color:#2a8be0' href='{target}'>{text}</a>"


def _index(plane: PlaneId) -> str:
    return " · ".join(map(str, plane.index)) if plane.index else plane.image


def _named(plane: PlaneId) -> str:
    return f"plane {_index(plane)}" if plane.index else "this image"


def _row(*widgets: QWidget, stretch: int) -> QWidget:
    """Widgets side by side, one of which takes the spare width."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for position, widget in enumerate(widgets):
        layout.addWidget(widget, int(position == stretch))
    return row
