"""``boxprompt project``: labelling projects without a viewer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_boxprompt.cli.console import errors, output, show_table
from napari_boxprompt.errors import ConfigError

if TYPE_CHECKING:
    from napari_boxprompt.project import Project

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Labelling projects: make, look at, export, import.")

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the project.")]


@app.command()
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
) -> None:
    """Make a project about images, which are not copied."""
    from napari_boxprompt.project import Project, import_into

    sizes = None if pixel_size is None else dict.fromkeys("yx", _parse_size(pixel_size))
    with Project.create(
        folder,
        images,
        classes=classes or ["object"],
        exclusive=not overlap,
        channel=channel,
        pixel_size=sizes,
    ) as project:
        said = "" if boxes is None else f" {import_into(project, boxes)}"
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
    last = project.rounds[-1] if project.rounds else None
    return {
        "images": len(project.entries),
        "planes": len(project.images),
        "missing": list(project.missing),
        "changed": list(project.changed),
        "classes": list(project.classes),
        "boxes": len(project.boxes),
        "status": dict(project.counts()),
        "masks": len(project.masked_planes()),
        "rounds": len(project.rounds),
        "scores": {} if last is None else last.scores,
        "not saved": project.unsaved,
    }


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@app.command(name="export")
def export(
    folder: FolderArgument,
    kind: Annotated[str, typer.Argument(help="coco, yolo, tiff, zarr, csv or zip.")],
    out: Annotated[Path, typer.Argument(help="File or folder to write.")],
    images: Annotated[bool, typer.Option("--images", help="Put the images into the zip.")] = False,
) -> None:
    """Write boxes, masks or tables for other programs, or all of a project for a colleague."""
    from napari_boxprompt.project import Project, export_project

    with Project.open(folder, read_only=kind != "zip") as project:
        output.print(export_project(project, kind, out, images=images), highlight=False, soft_wrap=True)


@app.command(name="import")
def import_(
    folder: FolderArgument,
    source: Annotated[
        Path, typer.Argument(help="COCO or YOLO boxes, label TIFF or OME-Zarr; or a packed project.")
    ],
) -> None:
    """Take boxes and masks into a project, or unpack a zip of a project into a new folder."""
    from napari_boxprompt.project import Project, import_into, unpack

    if source.suffix.lower() == ".zip":
        unpack(source, folder)
        with Project.open(folder) as project:
            said = f"Project with {len(project.entries)} images unpacked in {folder}."
            problems = project.problems
    else:
        with Project.open(folder) as project:
            said, problems = import_into(project, source), project.problems
    output.print(said, highlight=False, soft_wrap=True)
    for problem in problems:
        errors.print(problem, style="yellow", highlight=False, soft_wrap=True)
