"""A form for the settings of a training, built from their model: titles, limits and tooltips are its own."""

from __future__ import annotations

from decimal import Decimal
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, create_widget
from pydantic import BaseModel
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_boxprompt.config import PRESETS, TrainConfig, make_config
from napari_boxprompt.gui.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from magicgui.widgets.bases import ValueWidget
    from pydantic.fields import FieldInfo

__all__ = ["SettingsForm"]

FIRST: tuple[tuple[str, ...], ...] = (
    ("model",),
    ("steps",),
    ("augment", "views"),
    ("augment", "mirror"),
    ("refine",),
    ("tile",),
    ("hold_out",),
)
"""Settings that are changed before others, and by people who have never trained a network."""

ELSEWHERE = frozenset({"preset"})
"""Settings that have a widget of their own outside the form."""


class SettingsForm(QWidget):
    """All settings of `TrainConfig`.

    Parameters
    ----------
    choices : mapping of str to sequence of str
        Values of the text settings that have a list, for instance the models.
    """

    valueChanged = Signal()  # noqa: N815 (Qt's way of writing)

    def __init__(self, choices: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._widgets: dict[tuple[str, ...], ValueWidget[Any]] = {}
        self._preset = "balanced"
        settings = {place: info for place, info in _settings(TrainConfig) if place[-1] not in ELSEWHERE}
        rare = QWidget()
        self.experts = Section("For experts", rare, is_open=False)
        layout, first, rest = QVBoxLayout(self), QFormLayout(), QFormLayout(rare)
        for part in (layout, first, rest):
            part.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(first)
        layout.addWidget(self.experts)
        for place in FIRST:
            self._add(first, place, settings.pop(place), choices)
        group: tuple[str, ...] = ()
        for place, info in settings.items():
            if place[:-1] != group:
                group = place[:-1]
                rest.addRow(_heading(TrainConfig.model_fields[group[0]]))
            self._add(rest, place, info, choices)
        self.setValue(make_config())

    def _add(
        self,
        form: QFormLayout,
        place: tuple[str, ...],
        info: FieldInfo,
        choices: Mapping[str, Sequence[str]],
    ) -> None:
        widget = _widget(place, info, choices.get(place[-1]))
        widget.changed.connect(lambda _=None: self.valueChanged.emit())
        self._widgets[place] = widget
        label = QLabel(info.title or place[-1])
        label.setToolTip(widget.tooltip)
        form.addRow(label, widget.native)

    def set_choices(self, name: str, choices: Sequence[str]) -> None:
        """Offer other values for a text setting; the chosen one stays."""
        widget = self._widgets[(name,)]
        if isinstance(widget, ComboBox):
            chosen = widget.value
            blocked = self.blockSignals(True)
            widget.choices = tuple(dict.fromkeys((*choices, chosen)))
            widget.value = chosen
            self.blockSignals(blocked)

    def text(self, name: str) -> str:
        """Return a text setting as it stands, whether or not the others are allowed."""
        return str(self._widgets[(name,)].value)

    def value(self) -> TrainConfig:
        """Settings as they stand.

        Raises
        ------
        ConfigError
            A value that the settings do not allow; the message names it.
        """
        changes: dict[str, Any] = {}
        for (*groups, name), widget in self._widgets.items():
            target = changes
            for group in groups:
                target = target.setdefault(group, {})
            target[name] = _number_or_text(widget.value) if name == "tile" else widget.value
        return make_config(self._preset, **changes)

    def setValue(self, config: TrainConfig) -> None:  # noqa: N802 (Qt's way of writing)
        """Show settings."""
        self._preset = config.preset if config.preset in PRESETS else "balanced"
        values = config.model_dump()
        blocked = self.blockSignals(True)
        for (*groups, name), widget in self._widgets.items():
            source = values
            for group in groups:
                source = source[group]
            value = source[name]
            if isinstance(widget, ComboBox) and value not in widget.choices:
                widget.choices = (*widget.choices, value)
            if isinstance(widget, FloatSpinBox):
                _show_digits(widget, _digits(value))
            widget.value = str(value) if isinstance(widget, LineEdit) else value
        self.blockSignals(blocked)
        self.valueChanged.emit()


def _settings(
    model: type[BaseModel], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Each setting that is no group of others, with its place; those of groups last."""
    groups: list[tuple[str, type[BaseModel]]] = []
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            groups.append((name, info.annotation))
        else:
            yield (*place, name), info
    for name, group in groups:
        yield from _settings(group, (*place, name))


def _heading(info: FieldInfo) -> QLabel:
    heading = QLabel(f"<b>{info.title}</b>")
    heading.setToolTip(info.description or "")
    return heading


def _widget(place: tuple[str, ...], info: FieldInfo, choices: Sequence[str] | None) -> ValueWidget[Any]:
    """Widget for one setting."""
    tooltip = f"{info.description}\nOn the command line: --set {'.'.join(place)}=…"
    named: dict[str, Any] = {"name": place[-1], "label": info.title}
    annotation: Any = info.annotation
    limits = [*info.metadata]
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        limits += more
    if get_origin(annotation) in (Union, UnionType):
        return LineEdit(value=str(info.default), tooltip=tooltip, **named)
    options: dict[str, Any] = {"tooltip": tooltip}
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
    if choices is not None:
        options |= {"widget_type": "ComboBox", "choices": tuple(choices)}
        annotation = str
    elif annotation in (int, float):
        options |= _limits(limits, annotation)
    widget = create_widget(value=info.default, annotation=annotation, options=options, **named)
    if isinstance(widget, FloatSpinBox):
        _show_digits(widget, _digits(info.default) + 2)
    elif isinstance(widget, CheckBox):
        widget.text = ""  # its title stands beside it
    return widget  # type: ignore[return-value]  # each of these is a value widget


def _digits(value: float) -> int:
    """Digits after the point that a number needs."""
    exponent = Decimal(repr(float(value))).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _show_digits(widget: FloatSpinBox, digits: int) -> None:
    """Let a box show this many digits at least: it would cut off the rest of its value without a word."""
    widget.step = 10.0**-digits  # the box takes its digits from the smallest step it was given
    widget.adaptive_step = True


def _limits(metadata: Sequence[Any], kind: type) -> dict[str, Any]:
    """Smallest and largest value of a number, from pydantic's constraints."""
    found: dict[str, Any] = {"min": 0, "max": 10**6 if kind is int else 1e6}
    for item in metadata:
        for bound, option in (("ge", "min"), ("gt", "min"), ("le", "max"), ("lt", "max")):
            value = getattr(item, bound, None)
            if value is not None:
                found[option] = value
        metadata_of = getattr(item, "metadata", None)  # pydantic's FieldInfo inside Annotated
        if metadata_of:
            found |= _limits(metadata_of, kind)
    return found


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()
