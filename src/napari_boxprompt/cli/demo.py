"""``boxprompt demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_boxprompt.cli.console import (
    CacheOption,
    DeviceOption,
    ModelOption,
    PresetOption,
    SeedOption,
    SetOption,
    load_encoder,
    output,
    settings,
    show_events,
    show_table,
)


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for labels, model, picture and report.json.")
    ] = Path("boxprompt-demo"),
    preset: PresetOption = "fast",
    model: ModelOption = "litemedsam",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    cache: CacheOption = False,
    set_: SetOption = None,
) -> None:
    """Train on boxes of 5 planes of a real nuclei stack, segment all others, compare with the reference."""
    from napari_boxprompt.bundle import check_target, save_bundle
    from napari_boxprompt.demo import load_nuclei, write_demo
    from napari_boxprompt.experiment import run_experiment
    from napari_boxprompt.outputs import prepare_folder, write_json
    from napari_boxprompt.report import table_rows

    config = settings(preset, set_, model=model, seed=seed, device=device)
    nuclei = load_nuclei()
    folder = prepare_folder(out)
    check_target(folder / "model")
    encoder = load_encoder(config, cache)
    experiment = nuclei.experiment()
    outcome = show_events(run_experiment(experiment, config, encoder, keep=True))
    save_bundle(outcome.model, folder / "model")
    write_json(folder / "report.json", outcome.report)
    write_demo(folder, nuclei, experiment, outcome)
    show_table("Nuclei, 60 planes of 256 x 256, boxes on 5", table_rows(outcome.report))
    output.print(
        f"Labels, model, picture and report are in {folder}; open overlay.png first.",
        highlight=False,
        soft_wrap=True,
    )
