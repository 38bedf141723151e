"""Progress, tables and shared options of the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.core import TyperCommand

from napari_boxprompt.config import TrainConfig, make_config, setting_fields
from napari_boxprompt.errors import ConfigError
from napari_boxprompt.events import Event, Finished, Metrics
from napari_boxprompt.events import Progress as Done

if TYPE_CHECKING:
    from napari_boxprompt.models import EmbeddingCache
    from napari_boxprompt.models.encoding import Encoder
    from napari_boxprompt.normalization import Normalization

__all__ = [
    "OneSource",
    "disk_cache",
    "download_bar",
    "errors",
    "load_encoder",
    "output",
    "parse_contrast",
    "parse_settings",
    "settings",
    "show_columns",
    "show_events",
    "show_table",
]

# What is printed holds paths and messages with brackets, which are no markup.
output = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)

Result = TypeVar("Result")


class OneSource(TyperCommand):
    """A command about one file or folder: says what to do where a shell has made many of a pattern."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the words of the command line."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            more = f" and {len(rest) - 1} more" if len(rest) > 1 else ""
            of_images = any(parameter.name == "images" for parameter in self.params)
            pattern = ", or put a pattern in quotes, such as 'images/*.png'" if of_images else ""
            raise ConfigError(f"There are too many words: '{rest[0]}'{more}; name the folder{pattern}.")
        return rest


PresetOption = Annotated[str, typer.Option("--preset", help="fast, balanced or best.")]
ModelOption = Annotated[str, typer.Option("--model", help="Frozen model: a name or a checkpoint file.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of every random choice.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Threads that read images ahead.")]


def _list_settings(assignments: list[str] | None) -> list[str] | None:
    """Show all settings instead, for ``--set list``."""
    if "list" not in (assignments or ()):
        return assignments
    fields = setting_fields().items()
    show_table("Settings", [(name, field.description or "") for name, field in fields])
    raise typer.Exit


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        callback=_list_settings,
        is_eager=True,  # before what is missing is asked for
        help="Any other setting, e.g. loss.size=0.02; '--set list' shows all.",
    ),
]
CompleteOption = Annotated[
    bool,
    typer.Option("--complete", help="Every object on the boxed images is boxed: the rest is background."),
]
CacheOption = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Keep embeddings on disk for the next run.")
]

ContrastOption = Annotated[
    str | None,
    typer.Option(
        "--contrast",
        metavar='"LOW HIGH [GAMMA]"',
        help="Pixel values that become black and white, and the exponent; measured by default.",
    ),
]

_PHASES = {
    "encode": "Looking at images",
    "train": "Training",
    "predict": "Predicting",
    "evaluate": "Checking",
}


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings from ``name=value`` words; dots lead into groups.

    Raises
    ------
    ConfigError
        A word without ``=``, or a name that is a setting and a group at once.
    """
    found: dict[str, Any] = {}
    for word in assignments:
        name, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"--set {word!r} has no '='; write it as NAME=VALUE.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *groups, last = name.strip().split(".")
        place: Any = found
        for group in groups:
            place = place.setdefault(group, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise ConfigError(f"--set {word!r} contradicts another --set; keep one of them.")
        place[last] = value
    return found


def settings(preset: str, assignments: Iterable[str] | None, **named: Any) -> TrainConfig:
    """Configuration from the options of a command."""
    others = parse_settings(assignments or ())
    for name in ("preset", *named):
        if name in others:
            raise ConfigError(f"Write --{name} VALUE instead of --set {name}=VALUE.")
    return make_config(preset, **others, **named)


def parse_contrast(text: str) -> Normalization:
    """Brightness scale from ``LOW HIGH`` or ``LOW HIGH GAMMA``.

    LOW and HIGH are numbers, or three of them with commas for images in colour.

    Raises
    ------
    ConfigError
        It has another form, or values that no scale can have.
    """
    from napari_boxprompt.normalization import Normalization

    try:
        low, high, *exponent = ([float(part) for part in word.split(",")] for word in text.split())
        ((gamma,),) = exponent or [[1.0]]
        if {len(low), len(high)} - {1, 3}:
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            f"--contrast {text!r} is not understood; write 'LOW HIGH' or 'LOW HIGH GAMMA' in quotes, for "
            "instance '0 4095' or '0 4095 0.7', and three values with commas where the colours differ."
        ) from error
    if len(low) != len(high):
        low, high = (values * 3 if len(values) == 1 else values for values in (low, high))
    try:
        return Normalization(low=tuple(low), high=tuple(high), gamma=gamma)
    except ValidationError as error:
        about_gamma = error.errors()[0]["loc"] == ("gamma",)
        reason = "GAMMA must lie between 0.1 and 10" if about_gamma else "HIGH must be above LOW, both finite"
        raise ConfigError(f"--contrast {text!r} cannot be used: {reason}.") from error


def show_events(events: Generator[Event, None, Result], quiet: bool = False) -> Result:
    """Run long work and show its progress; return what it gives."""
    with Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=errors,
        disable=quiet,
    ) as bars:
        show = _shower(bars)
        while True:
            try:
                event = next(events)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            show(event)


def _shower(bars: Progress) -> Callable[[Event], None]:
    tasks: dict[str, TaskID] = {}

    def show(event: Event) -> None:
        if isinstance(event, Done):
            if event.phase not in tasks:
                tasks[event.phase] = bars.add_task(_PHASES.get(event.phase, event.phase), note="")
            bars.update(tasks[event.phase], completed=event.done, total=event.total)
        elif isinstance(event, Metrics) and "train" in tasks:
            note = f"loss {event.losses['total']:.3f}"
            if event.validation:
                note += f", held-out boxes {event.validation['box_agreement']:.2f}"
            bars.update(tasks["train"], note=note)
        elif isinstance(event, Finished) and event.phase in tasks:
            bars.update(tasks[event.phase], note=f"{event.seconds:.1f} s")

    return show


@contextmanager
def download_bar() -> Iterator[Callable[[Event], None]]:
    """Show a bar while a frozen model is downloaded; nothing where it is here already."""
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=errors
    )

    def show(event: Event) -> None:
        if isinstance(event, Done):
            if not bars.tasks:
                bars.start()
                bars.add_task(f"Downloading {event.message}")
            bars.update(bars.tasks[0].id, completed=event.done, total=event.total)

    try:
        yield show
    finally:
        bars.stop()


def load_encoder(config: TrainConfig, cache: bool) -> Encoder:
    """Load the frozen model of a configuration; a download shows its progress."""
    from napari_boxprompt.api import make_encoder

    with download_bar() as show:
        return make_encoder(
            config.model,
            device=config.device,
            precision=config.precision,
            cache=disk_cache(cache),
            on_event=show,
        )


def show_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of two columns."""
    table = Table(title=title, show_header=False, title_justify="left", highlight=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    output.print(table)


def show_columns(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Print a table with these columns of some rows; the last one shrinks if need be."""
    table = Table(title=title, title_justify="left", highlight=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name != columns[-1])
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    output.print(table)


def disk_cache(wanted: bool) -> EmbeddingCache:
    """Embedding cache on disk, or in memory only."""
    from napari_boxprompt.models import EmbeddingCache, embeddings_folder

    return EmbeddingCache(embeddings_folder() if wanted else None)
