"""``boxprompt project``: labelling projects without a viewer."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_boxprompt.cli import INTERRUPTED
from napari_boxprompt.cli.console import (
    CacheOption,
    CompleteOption,
    DeviceOption,
    ModelOption,
    OneSource,
    PresetOption,
    SeedOption,
    SetOption,
    WorkersOption,
    disk_cache,
    download_bar,
    errors,
    load_encoder,
    output,
    settings,
    show_events,
    show_table,
)
from napari_boxprompt.errors import WORK_ERRORS, ConfigError, ImageError
from napari_boxprompt.events import Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from napari_boxprompt.api import TrainedModel
    from napari_boxprompt.boxes import PlaneId
    from napari_boxprompt.config import TrainConfig
    from napari_boxprompt.events import Event
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.project import Lessons, Project, Round
    from napari_boxprompt.training import TrainingRun

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Labelling projects: make, look at, train, export, import.")

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the project.")]


@app.command(cls=OneSource)
def new(
    folder: Annotated[Path, typer.Argument(help="New folder for the project.")],
    images: Annotated[str, typer.Argument(help="Image, stack, folder or quoted pattern; they stay there.")],
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Name of a class; may be given several times.")
    ] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Objects of several classes may overlap.")
    ] = False,
    channel: Annotated[
        int | None, typer.Option("--channel", min=0, help="Channel of multi-channel images.")
    ] = None,
    pixel_size: Annotated[
        str | None,
        typer.Option("--pixel-size", metavar='"SIZE [UNIT]"', help="For instance '0.5 micrometer'."),
    ] = None,
    boxes: Annotated[Path | None, typer.Option("--boxes", help="COCO or YOLO boxes to begin with.")] = None,
    complete: CompleteOption = False,
) -> None:
    """Make a project about images, which are not copied."""
    from napari_boxprompt.project import Project, import_into

    if complete and boxes is None:
        raise ConfigError("--complete is about the boxes of --boxes FILE; name that file, or leave it out.")
    sizes = None if pixel_size is None else dict.fromkeys("yx", _parse_size(pixel_size))
    with Project.create(
        folder,
        images,
        classes=classes or ["object"],
        exclusive=not overlap,
        channel=channel,
        pixel_size=sizes,
    ) as project:
        said = ""
        if boxes is not None:
            said = f" {import_into(project, boxes, complete=complete, named=bool(classes))}"
        count = len(project.images)
    output.print(f"Project with {count} planes made in {folder}.{said}", highlight=False, soft_wrap=True)


def _parse_size(text: str) -> tuple[float, str]:
    number, _, unit = text.strip().partition(" ")
    try:
        size = float(number)
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise ConfigError(f"--pixel-size {text!r} is not understood; write for instance '0.5 micrometer'.")
    return size, unit.strip() or "micrometer"


@app.command()
def info(
    folder: FolderArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Tell how far a project has come; it may be open elsewhere."""
    from napari_boxprompt.project import Project

    with Project.open(folder, read_only=True) as project:
        found = _summary(project)
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        else:
            show_table(str(folder), [(name, _words(value)) for name, value in found.items()])
        for problem in project.problems:
            errors.print(problem, style="yellow", highlight=False, soft_wrap=True)


def _summary(project: Project) -> dict[str, object]:
    from napari_boxprompt.project import name_of, newest_model

    rounds = [record for record in project.rounds if record.loaded_from is None]
    newest = newest_model(project.rounds, project.folder)
    return {
        "images": len(project.entries),
        "planes": len(project.images),
        "missing": list(project.missing),
        "changed": list(project.changed),
        "classes": list(project.classes),
        "boxes": len(project.boxes),
        "status": dict(project.counts()),
        "masks": len(project.masked_planes()),
        "rounds": len(rounds),
        "scores": rounds[-1].scores if rounds else {},
        "model": "" if newest is None else newest.loaded_from or name_of(newest.number, rounds),
        "not saved": project.unsaved,
    }


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@app.command()
def train(
    folder: FolderArgument,
    preset: PresetOption = "balanced",
    model: ModelOption = "litemedsam",
    go_on: Annotated[
        bool, typer.Option("--go-on", help="Begin with the weights of the last round, not from nothing.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    cache: CacheOption = True,
    set_: SetOption = None,
) -> None:
    """Train on the boxes and masks of a project, and compare with the round before and the frozen model.

    Ctrl-C stops early and keeps the best model so far.
    """
    from napari_boxprompt.project import Project, project_lessons

    config = settings(preset, set_, model=model, seed=seed, device=device)
    with Project.open(folder) as project:
        project.save()  # refused where somebody else writes it: now, not after the training
        lessons = project_lessons(project)
        for problem in project.problems:
            errors.print(problem, style="yellow", highlight=False, soft_wrap=True)
        found, stopped = _train_round(project, lessons, config, cache, go_on=go_on)
        show_table(f"{folder.name}, round {found.number}", _round_rows(found, project.rounds))
    if stopped:
        raise typer.Exit(INTERRUPTED)


def _train_round(
    project: Project, lessons: Lessons, config: TrainConfig, cache: bool, *, go_on: bool
) -> tuple[Round, bool]:
    """Train, save, judge and record a round; also whether it was stopped."""
    # What takes seconds to load comes after everything that can be wrong with words and files.
    from napari_boxprompt.api import Judgement, TrainedModel, judge_model, start_training
    from napari_boxprompt.judging import round_of
    from napari_boxprompt.training import check_boxed

    check_boxed(lessons.boxes)
    encoder = load_encoder(config, cache)
    before, previous = _last_model(project, encoder, cache)
    if go_on and previous is None:
        raise ConfigError("There is no model of an earlier round to go on from; leave out --go-on.")
    run = start_training(
        project.images,
        lessons.boxes,
        config,
        encoder=encoder,
        start=previous.model if go_on and previous is not None else None,
        masks=lessons.masks,
        previous=None if previous is None else previous.model,
    )
    ended_by = _run(run)
    number = project.next_round()
    trained = TrainedModel(run.model, encoder)
    saved = trained.save(project.model_folder(number))
    record = partial(
        round_of,
        number,
        run.model,
        boxes=len(lessons.drawn),
        masks=len(lessons.masks),
        folder=saved.relative_to(project.folder).as_posix(),
    )
    # Before it is judged, which takes a while and may be stopped.
    project.add_round(record(Judgement(reason="Not compared with other models.")))
    if isinstance(ended_by, Exception):
        raise ended_by
    judgement = show_events(judge_model(trained, project.images, lessons.drawn, previous, lessons.masks))
    found = record(judgement, against=before if previous is not None else 0)
    project.add_round(found)
    return found, ended_by is not None


def _last_model(project: Project, encoder: Encoder, cache: bool) -> tuple[int, TrainedModel | None]:
    """The newest model that is there, and the number of its round."""
    from napari_boxprompt.api import TrainedModel, load_model
    from napari_boxprompt.bundle import load_bundle
    from napari_boxprompt.project import newest_model

    record = newest_model(project.rounds, project.folder)
    if record is None:
        return 0, None
    place = project.folder / record.model
    model = load_bundle(place)
    if model.frozen_sha256 == encoder.frozen.info.sha256:
        return record.number, TrainedModel(model, encoder)
    return record.number, load_model(place, device=encoder.device.type, cache=disk_cache(cache))


def _run(run: TrainingRun) -> KeyboardInterrupt | Exception | None:
    """Train to the end, to Ctrl-C or to an error; return what ended it early, if there is a model to keep."""

    def events() -> Generator[Event, None, None]:
        yield from run

    try:
        show_events(events())
    except (KeyboardInterrupt, *WORK_ERRORS) as cause:
        run.close()
        if not run.step:
            raise
        total = run.model.config.steps
        errors.print(f"Stopped at step {run.step} of {total}; the best model so far is kept.")
        return cause
    return None


def _round_rows(record: Round, rounds: Iterable[Round]) -> list[tuple[str, str]]:
    """What a person wants to know of a round, as rows of a table."""
    from napari_boxprompt.project import describe, name_of

    before = name_of(record.against, rounds)
    rows = [
        ("learnt from", f"{record.planes} planes ({record.masks} with masks); {record.boxes} boxes drawn")
    ]
    rows.append(("held out", f"{record.held_out} planes, {record.held_out_boxes} boxes"))
    for measure, words in (("box_agreement", "boxes agree"), ("mask_dice", "Dice, accepted masks")):
        for who, scores in (
            ("new model", record.scores),
            (before, record.previous),
            ("frozen model, your boxes", record.frozen),
        ):
            if measure in scores:
                rows.append((f"{words}: {who}", f"{scores[measure]:.3f}"))
    return [*rows, ("verdict", describe(record, rounds)), ("model", record.model)]


@app.command()
def predict(
    folder: FolderArgument,
    device: DeviceOption = "auto",
    cache: CacheOption = True,
    workers: WorkersOption = 1,
) -> None:
    """Segment the planes that nobody has painted or accepted, with the newest model; review them in napari.

    Ctrl-C keeps what is done. Images that cannot be read are left out, and named at the end.
    """
    from napari_boxprompt.project import Project, newest_model, unsettled

    with Project.open(folder) as project:
        project.save()  # refused where somebody else writes it: now, not after the first plane
        for problem in project.problems:
            errors.print(problem, style="yellow", highlight=False, soft_wrap=True)
        record, planes = newest_model(project.rounds, project.folder), unsettled(project)
        if record is None:
            raise ConfigError("The project has no model yet; train one with 'boxprompt project train'.")
        if not planes:
            raise ConfigError("Every plane of the project has been painted or accepted.")
        from napari_boxprompt.api import load_model

        with download_bar() as show:
            place = project.folder / record.model
            trained = load_model(place, device=device, cache=disk_cache(cache), on_event=show)
        kept: list[PlaneId] = []
        lost: list[str] = []
        try:
            show_events(_proposed(project, trained, planes, workers, kept, lost))
        except KeyboardInterrupt:
            errors.print(f"Stopped after {len(kept)} of {len(planes)} planes; these are kept.")
            raise typer.Exit(INTERRUPTED) from None
    said = f"{len(kept)} planes segmented; open the project in napari to review them, most unsure first."
    output.print(said, highlight=False, soft_wrap=True)
    if lost:
        raise ImageError(f"{len(lost)} of {len(planes)} planes could not be segmented: {'; '.join(lost)}")


def _proposed(
    project: Project,
    trained: TrainedModel,
    planes: Sequence[PlaneId],
    workers: int,
    kept: list[PlaneId],
    lost: list[str],
) -> Generator[Event, None, None]:
    """Keep what is found on each plane as soon as it is."""
    from napari_boxprompt.api import predict as predict_images
    from napari_boxprompt.project import keep_proposal, take_classes
    from napari_boxprompt.ranking import plane_scores

    def lose(plane: PlaneId, error: ImageError) -> None:
        lost.append(f"{plane}: {error}")

    model = trained.model
    take_classes(project, model.classes, exclusive=model.exclusive)
    for found in predict_images(trained, project.images, planes, workers=workers, on_error=lose):
        scores, classes = plane_scores(found, model.object_area), {one.id: one.label for one in found.objects}
        keep_proposal(project, found.plane, found.labels, classes, float(scores.doubt), scores.signs)
        kept.append(found.plane)
        yield Progress("predict", len(kept) + len(lost), len(planes), str(found.plane))


@app.command(name="export")
def export(
    folder: FolderArgument,
    kind: Annotated[str, typer.Argument(help="coco, yolo, tiff, zarr, csv or zip.")],
    out: Annotated[Path, typer.Argument(help="File or folder to write.")],
    images: Annotated[bool, typer.Option("--images", help="Put the images into the zip.")] = False,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="Write masks that nobody has looked at, too.")
    ] = False,
) -> None:
    """Write boxes, masks or tables for other programs, or all of a project for a colleague."""
    from napari_boxprompt.project import Project, export_project

    with Project.open(folder, read_only=kind != "zip") as project:
        said = export_project(project, kind, out, images=images, predicted=predicted)
        output.print(said, highlight=False, soft_wrap=True)


@app.command(name="import", cls=OneSource)
def import_(
    folder: FolderArgument,
    source: Annotated[
        Path, typer.Argument(help="COCO or YOLO boxes, label TIFF, PNG or OME-Zarr; or a packed project.")
    ],
    complete: CompleteOption = False,
) -> None:
    """Take boxes and masks into a project, or unpack a zip of a project into a new folder."""
    from napari_boxprompt.project import Project, import_into, unpack

    if source.suffix.lower() == ".zip":
        if complete:
            raise ConfigError("A packed project says itself what is complete; leave out --complete.")
        unpack(source, folder)
        with Project.open(folder) as project:
            said = f"Project with {len(project.entries)} images unpacked in {folder}."
            problems = project.problems
    else:
        with Project.open(folder) as project:
            said, problems = import_into(project, source, complete=complete), project.problems
    output.print(said, highlight=False, soft_wrap=True)
    for problem in problems:
        errors.print(problem, style="yellow", highlight=False, soft_wrap=True)
