"""``boxprompt train`` and ``boxprompt predict``."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_boxprompt.cli import INTERRUPTED
from napari_boxprompt.cli.console import (
    CacheOption,
    CompleteOption,
    ContrastOption,
    DeviceOption,
    ModelOption,
    PresetOption,
    SeedOption,
    SetOption,
    WorkersOption,
    disk_cache,
    download_bar,
    errors,
    load_encoder,
    output,
    parse_contrast,
    settings,
    show_events,
)
from napari_boxprompt.errors import WORK_ERRORS, ConfigError, ImageError
from napari_boxprompt.events import Event, Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.boxes import BoxSet, PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.images import Images
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.normalization import Normalization
    from napari_boxprompt.outputs import ResultWriter
    from napari_boxprompt.prompting import PromptModel
    from napari_boxprompt.training import TrainingRun

ImagesArgument = Annotated[str, typer.Argument(help="Image, stack, folder or quoted pattern.")]
ChannelOption = Annotated[
    int | None, typer.Option("--channel", min=0, help="Channel of multi-channel images.")
]


def train(
    images: ImagesArgument,
    boxes: Annotated[Path, typer.Option("--boxes", help="COCO JSON, or a folder of YOLO text files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the trained model.")],
    preset: PresetOption = "balanced",
    model: ModelOption = "litemedsam",
    generator: Annotated[
        str | None, typer.Option("--generator", help="light, wide or simple; auto: wide on whole images.")
    ] = None,
    complete: CompleteOption = False,
    outlines: Annotated[
        bool, typer.Option("--outlines", help="Learn the outlines in the COCO file too, as the truth.")
    ] = False,
    channel: ChannelOption = None,
    contrast: ContrastOption = None,
    start: Annotated[
        Path | None, typer.Option("--start", help="Folder of a trained model whose weights are the first.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the stopped training in --out.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    cache: CacheOption = True,
    set_: SetOption = None,
) -> None:
    """Train a model from boxes drawn on at least two images or planes.

    Ctrl-C stops early and keeps the best model so far; --resume goes on with it.
    """
    from napari_boxprompt.formats import load_boxes, load_class_masks
    from napari_boxprompt.images import open_images

    named = {"model": model, "seed": seed, "device": device}
    if generator is not None:  # or that of the preset
        named["generator"] = generator
    config = settings(preset, set_, **named)
    scale = None if contrast is None else parse_contrast(contrast)
    opened = open_images(images, channel=channel)
    drawn = load_boxes(boxes, opened, complete=complete)
    masks = load_class_masks(boxes, opened, drawn) if outlines else None
    scale = None if scale is None else _for_channels(scale, opened, drawn)
    _train(opened, drawn, config, out, masks=masks, scale=scale, start=start, resume=resume, cache=cache)


def _train(
    images: Images,
    drawn: BoxSet,
    config: TrainConfig,
    out: Path,
    *,
    masks: dict[PlaneId, npt.NDArray[np.integer]] | None,
    scale: Normalization | None,
    start: Path | None,
    resume: bool,
    cache: bool,
) -> None:
    # What takes seconds to load comes after everything that can be wrong with words and files.
    from napari_boxprompt.api import start_training
    from napari_boxprompt.bundle import check_target, load_bundle

    check_target(out)
    first = None if start is None else load_bundle(start)
    _hint_at_completeness(drawn)
    encoder = load_encoder(config, cache)
    run = start_training(
        images,
        drawn,
        config,
        encoder=encoder,
        normalization=scale,
        resume=out if resume else None,
        start=first,
        masks=masks,
    )
    _run(run, out, encoder.fabric.is_global_zero)
    if encoder.fabric.is_global_zero:
        _tell_reliability(run.model, out, encoder, images, drawn)


def _tell_reliability(model: PromptModel, out: Path, encoder: Encoder, images: Images, drawn: BoxSet) -> None:
    """Say how far probabilities can be trusted, and note it in the saved model."""
    from napari_boxprompt.bundle import save_bundle
    from napari_boxprompt.calibration import held_reliability
    from napari_boxprompt.prediction import Predictor

    found = held_reliability(Predictor(model, encoder), images, drawn)
    if found is None:
        return
    save_bundle(replace(model, record={**model.record, "reliability": found}), out)
    unsure = "" if found["ece_unsure"] is None else f" ({found['ece_unsure']:.2f} where it is unsure)"
    output.print(f"Calibration error on held-out planes, as boxes tell: {found['ece']:.3f}{unsure}.")


def _run(run: TrainingRun, out: Path, saves: bool) -> None:
    """Train to the end, to Ctrl-C or to an error, and save the best model."""
    from napari_boxprompt.bundle import save_bundle

    try:
        show_events(_events(run))
    except (KeyboardInterrupt, *WORK_ERRORS) as cause:
        run.close()
        if run.step and saves:
            save_bundle(run.model, out, run.state())
            errors.print(
                f"Stopped at step {run.step} of {run.model.config.steps}; the best model so far is in {out}, "
                "and the same command with --resume goes on.",
                highlight=False,
                soft_wrap=True,
            )
            if isinstance(cause, KeyboardInterrupt):
                raise typer.Exit(INTERRUPTED) from None
        raise
    if saves:
        save_bundle(run.model, out)
        found = run.model.record["validation"]
        agreement = f"; box agreement on held-out planes {found['box_agreement']:.2f}" if found else ""
        scale = "whole images" if run.model.tile is None else f"tiles of {run.model.tile:.0f} px"
        output.print(f"Model saved in {out}; {scale}{agreement}.", highlight=False, soft_wrap=True)
        if left_out := run.model.record["left_out"]:
            planes, most = run.model.record["planes"] + left_out, run.model.config.max_encodings
            errors.print(
                f"Planes left out: {left_out} of {planes}; raise 'max_encodings' (now {most}) to take all.",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )


def _for_channels(scale: Normalization, images: Images, drawn: BoxSet) -> Normalization:
    """The scale with an entry for each channel of the images."""
    channels = 1 if not drawn.boxed_planes else images.read(drawn.boxed_planes[0]).shape[2]
    if len(scale.low) == 3 and channels == 1:
        raise ConfigError("--contrast has values for three colours, but the images have one channel.")
    return scale.model_copy(
        update={name: getattr(scale, name) * (channels // len(scale.low)) for name in ("low", "high")}
    )


def _hint_at_completeness(drawn: BoxSet) -> None:
    usable = len({box.plane for box in drawn.boxes}) > 1  # else an error follows, and a hint would hide it
    if usable and not any(info.complete or info.complete_regions for info in drawn.planes.values()):
        errors.print(
            "No image is marked complete, so what is outside the boxes is only presumed to be background; "
            "add --complete if every object on the boxed images has its box.",
            style="yellow",
        )


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    images: ImagesArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for masks and the table of objects.")],
    channel: ChannelOption = None,
    frozen: Annotated[
        str | None, typer.Option("--model", help="File of the frozen model, if it is not found by its name.")
    ] = None,
    device: DeviceOption = "auto",
    cache: CacheOption = True,
    workers: WorkersOption = 1,
) -> None:
    """Segment images without any prompt.

    Images that cannot be read are left out, and named at the end.
    """
    from napari_boxprompt.outputs import ResultWriter, prepare_results

    opened, folder, left_out = prepare_results(images, out, channel=channel)
    from napari_boxprompt.api import load_model

    with download_bar() as show:
        trained = load_model(model, model=frozen, device=device, cache=disk_cache(cache), on_event=show)
    classes, overlap = trained.model.classes, not trained.model.exclusive
    writer = ResultWriter(folder, opened, classes, overlap=overlap, left_out=left_out)
    try:
        with writer:
            count = show_events(_predicted(trained, opened, writer, workers))
    except KeyboardInterrupt:
        errors.print(writer.outcome, highlight=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    if writer.written:
        output.print(
            f"{count} planes segmented; {len(writer.written)} files written to {folder}.",
            highlight=False,
            soft_wrap=True,
        )
    if writer.missing:
        raise ImageError(writer.missing)


def _events(run: TrainingRun) -> Generator[Event, None, None]:
    yield from run


def _predicted(
    trained: TrainedModel, images: Images, writer: ResultWriter, workers: int
) -> Generator[Event, None, int]:
    from napari_boxprompt.api import predict as predict_images

    done = 0
    for prediction in predict_images(trained, images, workers=workers, on_error=writer.leave_out):
        writer.add(prediction)
        done += 1
        yield Progress("predict", done, writer.planes, str(prediction.plane))
    return done
