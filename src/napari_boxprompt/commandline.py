"""The command that repeats a training, for notes, scripts and larger machines."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from napari_boxprompt.config import PRESETS, TrainConfig, make_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_boxprompt.normalization import Normalization

__all__ = ["command_line", "contrast_words", "prediction_line"]

NAMED = ("model", "generator", "seed", "device")
"""Settings that have an option of their own; without it, the preset decides."""


def command_line(
    images: str | Path,
    boxes: str | Path,
    out: str | Path,
    config: TrainConfig,
    *,
    normalization: Normalization | None = None,
    channel: int | None = None,
    start: str | Path | None = None,
    outlines: bool = False,
) -> str:
    """``boxprompt train`` with the options that give exactly these settings.

    Parameters
    ----------
    images : str or Path
        File, folder or pattern.
    boxes : str or Path
        Box file; it also says which planes are complete.
    out : str or Path
        Folder for the model.
    config : TrainConfig
        Settings.
    normalization : Normalization, optional
        Intensity range; measured again by default.
    channel : int, optional
        Channel of multi-channel images.
    start : str or Path, optional
        Folder of the model that the training starts from.
    outlines : bool
        Whether the outlines in the box file are learnt.

    Returns
    -------
    str
        One line, quoted for a POSIX shell or PowerShell.
    """
    preset = config.preset if config.preset in PRESETS else TrainConfig().preset
    words = ["boxprompt", "train", str(images), "--boxes", str(boxes), "--out", str(out), "--preset", preset]
    base = make_config(preset)
    for name in NAMED:
        value = getattr(config, name)
        if value != getattr(base, name):
            words += [f"--{name}", str(value)]
    for name, value in _changes(config.model_dump(), base.model_dump()):
        if name not in (*NAMED, "preset"):
            words += ["--set", f"{name}={_text(value)}"]
    if channel is not None:
        words += ["--channel", str(channel)]
    if normalization is not None:
        words += ["--contrast", contrast_words(normalization)]
    if start is not None:
        words += ["--start", str(start)]
    if outlines:
        words.append("--outlines")
    return shlex.join(words)


def prediction_line(
    model: str | Path, images: str | Path, out: str | Path, *, device: str = TrainConfig().device
) -> str:
    """``boxprompt predict`` with a trained model.

    Parameters
    ----------
    model : str or Path
        Folder of the model.
    images : str or Path
        File, folder or pattern.
    out : str or Path
        Folder for masks and tables.
    device : str, optional
        Device that was asked for.

    Returns
    -------
    str
        One line, quoted for a POSIX shell or PowerShell.
    """
    words = ["boxprompt", "predict", str(model), str(images), "--out", str(out)]
    return shlex.join(words + (["--device", device] if device != TrainConfig().device else []))


def contrast_words(normalization: Normalization) -> str:
    """What ``--contrast`` takes: ``LOW HIGH GAMMA``, where the colours differ with commas between them."""
    ends = [
        ",".join(repr(value) for value in (values[:1] if len(set(values)) == 1 else values))
        for values in (normalization.low, normalization.high)
    ]
    return " ".join(ends if normalization.gamma == 1.0 else [*ends, repr(normalization.gamma)])


def _changes(values: dict[str, object], base: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Settings that differ from the base, by dotted name."""
    for name, value in values.items():
        other = base[name]
        if isinstance(value, dict) and isinstance(other, dict):
            yield from ((f"{name}.{inner}", found) for inner, found in _changes(value, other))
        elif value != other:
            yield name, value


def _text(value: object) -> str:
    """Text that is read as the value: words as they are, unless they look like a number or the like."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return value
    return json.dumps(value)
