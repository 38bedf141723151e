"""``boxprompt demo`` and ``boxprompt benchmark``."""

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
    WorkersOption,
    load_encoder,
    output,
    settings,
    show_events,
    show_table,
)
from napari_boxprompt.config import Supervision
from napari_boxprompt.errors import ConfigError


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


def benchmark(
    folder: Annotated[Path, typer.Argument(help="Folder with images/, masks/ and manifest.csv.")],
    json_: Annotated[Path, typer.Option("--json", help="Where to write the report.")],
    label: Annotated[
        int | None, typer.Option("--label", min=1, help="Value of the class in the masks.")
    ] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Each value of a mask is one object.")
    ] = False,
    one_box: Annotated[bool, typer.Option("--one-box", help="One box round the whole class.")] = False,
    shots: Annotated[int, typer.Option("--shots", min=2, help="Boxed training images.")] = 20,
    test: Annotated[int, typer.Option("--test", min=1, help="Most test images.")] = 50,
    supervision: Annotated[
        Supervision, typer.Option("--supervision", help="Learn from boxes, or from masks: the line above.")
    ] = "boxes",
    seed: SeedOption = 0,
    preset: PresetOption = "balanced",
    model: ModelOption = "litemedsam",
    device: DeviceOption = "auto",
    workers: WorkersOption = 1,
    cache: CacheOption = False,
    set_: SetOption = None,
) -> None:
    """Train on boxes of a few images and test on other subjects, against the frozen model with true boxes."""
    from napari_boxprompt.benchmarking import BenchmarkFolder, run_benchmark
    from napari_boxprompt.outputs import prepare_folder, write_json
    from napari_boxprompt.report import table_rows

    if (label is None) == (not instances):
        raise ConfigError("Give either --label N or --instances: what one object is in the masks.")
    if one_box and instances:
        raise ConfigError("--one-box goes with --label N, not with --instances.")
    config = settings(preset, set_, model=model, seed=seed, device=device)
    prepare_folder(json_.parent)
    encoder = load_encoder(config, cache)
    data = BenchmarkFolder(folder, "instances" if instances else "hull" if one_box else "components", label)
    outcome = show_events(
        run_benchmark(data, config, encoder, shots=shots, test=test, workers=workers, supervision=supervision)
    )
    write_json(json_, outcome.report)
    show_table(f"{folder.name}, {shots} shots, seed {seed}", table_rows(outcome.report))
