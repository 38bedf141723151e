"""``boxprompt models``: frozen models and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from napari_boxprompt.cli.console import output

app = typer.Typer(no_args_is_help=True, help="Frozen models: list, import, verify, where.")


@app.command("list")
def list_() -> None:
    """List the frozen models and whether their weights are here."""
    from napari_boxprompt.models import list_models, model_path

    table = Table(highlight=False)
    for column in ("name", "weights", "input", "licence", "what it is"):
        table.add_column(column, no_wrap=column == "name")
    for info in list_models():
        missing = "download on first use" if info.url and info.sha256 else "to be imported"
        here = "here" if model_path(info.name).is_file() else missing
        table.add_row(info.name, here, f"{info.input_size} px", info.licence, info.description)
    output.print(table)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Checkpoint in the SAM layout, or LiteMedSAM's.")],
) -> None:
    """Check a checkpoint file and copy it to where models are kept."""
    from napari_boxprompt.models import import_model

    info = import_model(file)
    output.print(
        f"Imported as {info.name} ({info.architecture}, sha256 {info.sha256[:12]}); use --model {info.name}.",
        highlight=False,
    )


@app.command()
def verify(name: Annotated[str, typer.Argument(help="Name of a model.")] = "litemedsam") -> None:
    """Compare the weights of a model with their published hash, and load them."""
    from napari_boxprompt.models import verify_model

    info = verify_model(name)
    output.print(f"{info.name}: weights are complete (sha256 {info.sha256[:12]}).", highlight=False)


@app.command()
def where() -> None:
    """Print the folder of downloaded and imported models; NAPARI_BOXPROMPT_HOME moves it."""
    from napari_boxprompt.models import models_folder

    typer.echo(models_folder())
