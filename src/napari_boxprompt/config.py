"""Settings of a training, each with title and meaning: forms, CLI options and saved runs read them here."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from napari_boxprompt.errors import ConfigError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = [
    "OURS",
    "PRESETS",
    "AugmentConfig",
    "LossConfig",
    "PresetName",
    "Supervision",
    "TrainConfig",
    "make_config",
    "setting_fields",
]

PresetName = Literal["fast", "balanced", "best", "paper", "paper-2024"]
Supervision = Literal["boxes", "masks"]
Weight = Annotated[float, Field(ge=0.0, le=1000.0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LossConfig(_Settings):
    """Which constraints are used, and how strongly; most are of Gaillochet et al. 2025 (arXiv 2507.02743)."""

    pseudo_label: Weight = Field(
        1.0,
        title="Pseudo-label weight",
        description="Weight of the agreement with the masks that the frozen model gives for your boxes.",
    )
    size: Weight = Field(0.01, title="Size weight", description="Weight of the area range inside each box.")
    outside: Weight = Field(
        0.01,
        title="Outside weight",
        description="Weight of emptiness outside all boxes, where marked complete.",
    )
    distant: Weight = Field(
        1.0,
        title="Distant background",
        description="Weight of known background that is not just round a box, beside 1 for a pixel in a box.",
    )
    presumed: Weight = Field(
        0.3,
        title="Presumed background",
        description="On planes of which nothing is marked complete: weight of a pixel outside all boxes as "
        "background, beside 1 for a pixel in a box.",
    )
    consistency: Weight = Field(
        0.1,
        title="Consistency weight",
        description="Weight of giving the same mask in two views of one image.",
    )
    tightness: Weight = Field(
        0.0001,
        title="Tightness weight",
        description="Weight of the object touching all four sides of its box.",
    )
    affinity: Weight = Field(
        0.5,
        title="Affinity weight",
        description="Weight of neighbouring pixels that look alike being the same, in and around boxes.",
    )
    activation: Literal["sigmoid", "minmax"] = Field(
        "sigmoid",
        title="Activation",
        description="How logits become probabilities; 'minmax' as in the paper's released code.",
    )
    outside_variant: Literal["masked", "released"] = Field(
        "masked",
        title="Outside constraint",
        description="'released' also pushes the object itself to background, as the released code.",
    )
    size_range: Literal["learnt", "fixed"] = Field(
        "learnt",
        title="Size range",
        description="Area range of a class: learnt from its pseudo-labels, or 0.7-0.9 of the box.",
    )
    barrier: Literal["fraction", "epochs"] = Field(
        "fraction",
        title="Hardening",
        description="The constraints harden with the fraction of training done, or per 5 epochs.",
    )
    consistency_of: Literal["views", "embedding"] = Field(
        "views",
        title="Consistency between",
        description="Consistency between encoded views, or under flips of the embedding (released).",
    )


def _as_choice(value: object) -> object:
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


class AugmentConfig(_Settings):
    """Random views of each training image, encoded like images of their own."""

    views: int = Field(
        5,
        ge=0,
        le=64,
        title="Views per image",
        description="Augmented views encoded for each training image or tile.",
    )
    rotation: float = Field(
        20.0,
        ge=0.0,
        le=180.0,
        title="Largest rotation",
        description="Largest rotation of a view, in degrees.",
    )
    zoom: float = Field(
        1.5, ge=1.0, le=4.0, title="Largest zoom", description="Largest enlargement or reduction of a view."
    )
    shift: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        title="Largest shift",
        description="Largest shift, as a fraction of the view's side.",
    )
    gamma: float = Field(
        2.0, ge=1.0, le=4.0, title="Largest gamma", description="Largest brightening or darkening exponent."
    )
    mirror: Annotated[Literal["auto", "yes", "no"], BeforeValidator(_as_choice)] = Field(
        "auto",
        title="Mirror views",
        description="Mirror half of the views; wrong where left and right differ. auto: see where boxes lie.",
    )
    emptied: float = Field(
        0.1,
        ge=0.0,
        le=1.0,
        title="Emptied views",
        description="Part of what is learnt from that has its objects painted over: there may be nothing. "
        "Made of complete images with several objects, if no part without objects is known.",
    )


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) else value


class TrainConfig(_Settings):
    """Everything that decides a training besides images and boxes."""

    preset: str = Field(
        "balanced", title="Preset", description="Name of the preset these settings started from."
    )
    model: str = Field(
        "litemedsam",
        title="Frozen model",
        description="Frozen model: a name of 'boxprompt models' or a file.",
    )
    generator: str = Field(
        "auto",
        title="Prompt generator",
        description="Prompt generator, the only part trained. auto: wide on whole images, light on tiles.",
    )
    generator_weights: str = Field(
        "",
        title="Generator weights",
        description="File of published ImageNet weights that the generator 'hardnet85' starts from.",
    )
    steps: int = Field(480, ge=1, le=1_000_000, title="Steps", description="Training steps.")
    batch: int = Field(4, ge=1, le=256, title="Views per step", description="Views in a training step.")
    token_step: int = Field(
        2,
        ge=1,
        le=2,
        title="Token step",
        description="Each step learns from one in so many rows and columns of image tokens, drawn anew: "
        "2 takes less than half the time of 1, all of them.",
    )
    learning_rate: float = Field(
        4e-3, gt=0.0, le=1.0, title="Learning rate", description="Adam's learning rate at its peak."
    )
    weight_decay: float = Field(
        1e-4, ge=0.0, le=1.0, title="Weight decay", description="Adam's weight decay."
    )
    optimizer: Literal["adamw", "adam"] = Field(
        "adamw",
        title="Optimizer",
        description="Weight decay apart from the gradient (adamw), or as a part of it (adam).",
    )
    schedule: Literal["cosine", "step"] = Field(
        "cosine",
        title="Rate schedule",
        description="Learning rate: a warm-up and a cosine, or constant and a tenth from half way on.",
    )
    clip: float = Field(
        1.0, gt=0.0, title="Gradient clipping", description="Largest norm of a gradient step."
    )
    ema: float = Field(
        0.97,
        ge=0.0,
        lt=1.0,
        title="Weight averaging",
        description="Memory of the weight average that is kept.",
    )
    validate_every: int = Field(
        40, ge=1, title="Steps between checks", description="Steps between checks on held-out boxed planes."
    )
    hold_out: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        title="Held-out fraction",
        description="Fraction of boxed planes held out for checks (from three planes on, no class whole).",
    )
    max_encodings: int = Field(
        160,
        ge=1,
        title="Most views encoded",
        description="Most views encoded for training; where there are more images, some are left out.",
    )
    tile: Literal["auto", "whole"] | Annotated[float, Field(ge=32.0, le=100_000.0)] = Field(
        "auto",
        title="Tile side",
        description="Side of a tile in image pixels, 'whole' images, or 'auto': from your boxes.",
    )
    refine: bool = Field(
        True,
        title="Second look",
        description="Give each found object a second look, prompted by its box; on whole images only.",
    )
    levels: Literal["tight", "zero"] = Field(
        "tight",
        title="Mask cut",
        description="Cut the frozen model's masks where they reach the sides of your boxes, or at 0.",
    )
    renew: float = Field(
        0.4,
        ge=0.0,
        lt=1.0,
        title="Renew masks after",
        description="Part of the training after which it learns from its own masks in your boxes, no longer "
        "from the frozen model's; 0: never.",
    )
    seed: int = Field(0, ge=0, title="Random seed", description="Seed of every random choice.")
    device: str = Field("auto", title="Device", description="auto, cpu, cuda or mps.")
    precision: Annotated[Literal["auto", "32", "bf16", "16"], BeforeValidator(_as_text)] = Field(
        "auto",
        title="Precision",
        description="Number format of the frozen model's work; auto picks what this machine does fast.",
    )
    loss: LossConfig = Field(
        default_factory=LossConfig,
        title="Box constraints",
        description="What your boxes demand of the masks, and how strongly.",
    )
    augment: AugmentConfig = Field(
        default_factory=AugmentConfig,
        title="Augmented views",
        description="Random views of each training image, and how far they go.",
    )


# What the code released with Gaillochet et al. 2025 does; of the 200 epochs of 20 images, 5 steps of 4 each.
_PAPER: dict[str, Any] = {
    "generator": "hardnet85",
    "steps": 1000,
    "batch": 4,
    "token_step": 1,
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "optimizer": "adam",
    "schedule": "step",
    "clip": 1.0,
    "ema": 0.0,
    "hold_out": 0.0,
    "tile": "whole",
    "refine": False,
    "levels": "zero",
    "renew": 0.0,
    "loss": {
        "pseudo_label": 1.0,
        "size": 0.01,
        "outside": 0.001,
        "presumed": 0.0,
        "consistency": 0.001,
        "tightness": 0.0,
        "affinity": 0.0,
        "activation": "minmax",
        "outside_variant": "released",
        "size_range": "fixed",
        "barrier": "epochs",
        "consistency_of": "embedding",
    },
    "augment": {"views": 0, "emptied": 0.0},
}

# Gaillochet et al. 2024: constraints alone, weighted as in the code of Kervadec et al. 2020 (tightness 1e-4,
# size 1; the weight of emptiness is written there as '1-2', which can only mean 1e-2).
_PAPER_2024: dict[str, Any] = {
    **_PAPER,
    "generator": "simple",
    "loss": {
        **_PAPER["loss"],
        "pseudo_label": 0.0,
        "size": 1.0,
        "outside": 0.01,
        "tightness": 0.0001,
        "consistency": 0.0,
        "activation": "sigmoid",
        "outside_variant": "masked",
    },
}

PRESETS: dict[str, dict[str, Any]] = {
    # With few steps, the mass of easy background far from the boxes takes too much of them.
    "fast": {"steps": 200, "max_encodings": 100, "augment": {"views": 4}, "loss": {"distant": 0.3}},
    "balanced": {},
    "best": {"steps": 1500, "max_encodings": 480, "augment": {"views": 11}, "ema": 0.99},
    "paper": _PAPER,
    "paper-2024": _PAPER_2024,
}

OURS: tuple[PresetName, ...] = ("fast", "balanced", "best")
"""Presets to choose from; the others are there to compare with."""


def make_config(preset: str = "balanced", **changes: Any) -> TrainConfig:
    """Settings of a preset with changes.

    Parameters
    ----------
    preset : str
        One of `PRESETS`.
    **changes
        Fields of `TrainConfig`; ``loss`` and ``augment`` may be mappings of their own fields.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ConfigError
        Unknown preset or field, or a value out of its range; the message names it.
    """
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset!r}; choose one of {', '.join(PRESETS)}.")
    merged: dict[str, Any] = {"preset": preset, **PRESETS[preset]}
    for key, value in changes.items():
        base = merged.get(key)
        merged[key] = {**base, **value} if isinstance(base, dict) and isinstance(value, dict) else value
    try:
        return TrainConfig.model_validate(merged)
    except ValidationError as error:
        found = error.errors()
        place = _place(found[0]["loc"])
        if found[0]["type"] == "extra_forbidden":
            raise ConfigError(_no_setting(".".join(place))) from error
        # A setting of several kinds has one message for each kind.
        reasons = [problem["msg"] for problem in found if _place(problem["loc"]) == place]
        raise ConfigError(f"Setting '{'.'.join(place)}': {'; or: '.join(reasons)}.") from error


def _place(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """Setting, or group and setting, that a message is about."""
    return tuple(str(part) for part in location[: 2 if location[0] in ("loss", "augment") else 1])


def setting_fields() -> dict[str, FieldInfo]:
    """Return what is said of every setting, by its name with that of its group, as in ``loss.size``."""
    fields: dict[str, FieldInfo] = {}
    for name, field in TrainConfig.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            fields |= {f"{name}.{inner}": about for inner, about in group.model_fields.items()}
        else:
            fields[name] = field
    return fields


def _no_setting(name: str) -> str:
    """Return what to say of a setting that there is not, with the one that may be meant."""
    names = list(setting_fields())
    # Without its group too: that is what is left out most.
    by_word = {known.rpartition(".")[2]: known for known in names} | {known: known for known in names}
    exact = by_word.get(name.rpartition(".")[2])
    near = [exact] if exact else [by_word[word] for word in difflib.get_close_matches(name, by_word, 1, 0.75)]
    meant = f"; did you mean '{near[0]}'?" if near else "."
    return f"There is no setting '{name}'{meant} 'boxprompt train --set list' shows all there are."
