"""A user's hand: mouse and keys on the canvas of a viewer, as Qt sends them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

__all__ = ["TIMEOUT", "Hand"]

TIMEOUT = 120_000
"""Milliseconds; these tests also run on machines that do other things."""

Point = tuple[float, float]


class Hand:
    """Mouse and keys over a viewer whose window is shown.

    Parameters
    ----------
    viewer : napari.Viewer
        In two dimensions; it may be a proxy.
    qtbot : QtBot
        Waits until what was done has been taken in.
    """

    def __init__(self, viewer: Any, qtbot: QtBot) -> None:
        self._viewer, self._qtbot = viewer, qtbot
        # There is no public way to the widget that gets the events.
        self.canvas: QWidget = getattr(viewer, "__wrapped__", viewer).window._qt_viewer.canvas.native

    def draw(self, *corners: Point) -> None:
        """Press at the first point of the world, ``(y, x)`` as displayed, and drag to the others."""
        self.move(corners[0])
        self._send(QEvent.Type.MouseButtonPress, corners[0], pressed=True)
        for first, second in pairwise(corners):
            middle = ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2)
            self.move(middle, pressed=True)
            self.move(second, pressed=True)
        self._send(QEvent.Type.MouseButtonRelease, corners[-1])

    def flick(self, start: Point, end: Point) -> None:
        """Drag so quickly, or while the viewer is so busy, that it sees no move in between."""
        self.move(start)
        self._send(QEvent.Type.MouseButtonPress, start, pressed=True)
        self._send(QEvent.Type.MouseButtonRelease, end)

    def click(self, point: Point) -> None:
        """Press and release at a point of the world."""
        self.draw(point)

    def move(self, point: Point, *, pressed: bool = False) -> None:
        """Move to a point of the world and wait until napari has noticed: it skips moves that come fast."""
        displayed = list(self._viewer.dims.displayed)
        half = 0.51 / self._viewer.scene.camera.zoom  # the mouse stands on whole pixels of the screen

        def arrived() -> bool:
            # Again each time, as the canvas may grow or shrink meanwhile: the status line takes its place.
            self._send(QEvent.Type.MouseMove, point, pressed=pressed)
            here = np.array(self._viewer.cursor.position)[displayed]
            return bool(np.all(np.abs(here - point) <= half))

        self._qtbot.waitUntil(arrived, timeout=TIMEOUT)

    def press(self, key: str, *modifiers: Qt.KeyboardModifier) -> None:
        """Press a key over the canvas."""
        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers:
            held |= modifier
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{key}"), held)

    def undo(self) -> None:
        """Press Ctrl+Z."""
        self.press("Z", Qt.KeyboardModifier.ControlModifier)

    def redo(self) -> None:
        """Press Ctrl+Shift+Z."""
        self.press("Z", Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier)

    def place(self, point: Point) -> QPointF:
        """Pixel of the canvas at which a point of the world is seen."""
        camera = self._viewer.scene.camera
        away = np.subtract(point, camera.center[-2:]) * camera.zoom
        size = self.canvas.size()
        x, y = size.width() / 2 + away[1], size.height() / 2 + away[0]
        assert 0 <= x < size.width(), "not on screen"
        assert 0 <= y < size.height(), "not on screen"
        return QPointF(round(x), round(y))

    def _send(self, kind: QEvent.Type, point: Point, *, pressed: bool = False) -> None:
        place = self.place(point)
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        event = QMouseEvent(
            kind,
            place,
            QPointF(self.canvas.mapToGlobal(place.toPoint())),
            none if kind == QEvent.Type.MouseMove else left,
            left if pressed else none,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(self.canvas, event)
