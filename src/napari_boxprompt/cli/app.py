"""The command ``boxprompt`` and what all its commands share."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from rich.text import Text
from typer.core import TyperGroup

from napari_boxprompt import __version__
from napari_boxprompt.cli import INTERRUPTED, data, models, project
from napari_boxprompt.cli.benchmark import benchmark
from napari_boxprompt.cli.console import OneSource, errors
from napari_boxprompt.cli.demo import demo
from napari_boxprompt.cli.doctor import doctor
from napari_boxprompt.cli.loop import loop
from napari_boxprompt.errors import BoxPromptError

__all__ = ["app"]


class _Group(TyperGroup):
    """Turns errors into one sentence and an exit code; ``--debug`` shows where they come from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BoxPromptError as error:
            if ctx.params.get("debug"):
                raise
            _print_error(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            if ctx.params.get("debug"):
                raise
            errors.print("Stopped. Files written before stay; no file is half-written.")
            raise typer.Exit(INTERRUPTED) from error
        except (OSError, MemoryError, RuntimeError, ValueError) as error:
            if ctx.params.get("debug") or isinstance(error, (typer.Exit, typer.Abort)):
                raise
            _print_error(f"{type(error).__name__}: {error}")
            errors.print("This was not expected. Run 'boxprompt --debug ...' and report what it prints.")
            raise typer.Exit(1) from error


def _print_error(message: str) -> None:
    sentence = " ".join(message.splitlines())
    errors.print(Text.assemble(("Error:", "bold red"), f" {sentence}"), soft_wrap=True)


app = typer.Typer(
    name="boxprompt",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Boxes on a few images, masks on all others.",
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and log messages.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Boxes on a few images, masks on all others."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=errors, show_time=False, show_path=debug)],
    )
    for noisy in ("PIL", "numba", "lightning_fabric", "lightning.fabric", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


app.command()(demo)
app.command(cls=OneSource)(data.train)
app.command(cls=OneSource)(data.predict)
app.command()(benchmark)
app.command()(loop)
app.add_typer(project.app, name="project")
app.add_typer(models.app, name="models")
app.command()(doctor)
