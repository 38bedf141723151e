"""``boxprompt loop``."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_boxprompt.cli.benchmark import (
    FolderArgument,
    InstancesOption,
    JsonOption,
    LabelOption,
    OneBoxOption,
    TestOption,
    benchmark_folder,
)
from napari_boxprompt.cli.console import (
    CacheOption,
    DeviceOption,
    ModelOption,
    PresetOption,
    SeedOption,
    SetOption,
    load_encoder,
    settings,
    show_events,
    show_table,
)
from napari_boxprompt.ranking import Strategy

StrategyOption = Annotated[Strategy, typer.Option("--strategy", help="How the next images are chosen.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, help="Trainings.")]
PerRoundOption = Annotated[int, typer.Option("--per-round", min=2, help="Images boxed before each of them.")]


def loop(
    folder: FolderArgument,
    json_: JsonOption,
    label: LabelOption = None,
    instances: InstancesOption = False,
    one_box: OneBoxOption = False,
    strategy: StrategyOption = "combined",
    rounds: RoundsOption = 5,
    per_round: PerRoundOption = 4,
    test: TestOption = 50,
    seed: SeedOption = 0,
    preset: PresetOption = "fast",
    model: ModelOption = "litemedsam",
    device: DeviceOption = "auto",
    cache: CacheOption = True,
    set_: SetOption = None,
) -> None:
    """Label round by round, boxing the images that a strategy asks for; report Dice against boxes spent."""
    config = settings(preset, set_, model=model, seed=seed, device=device)
    data = benchmark_folder(folder, label, instances=instances, one_box=one_box)

    from napari_boxprompt.loop import LoopPlan, run_loop
    from napari_boxprompt.outputs import prepare_folder, write_json

    prepare_folder(json_.parent)
    encoder = load_encoder(config, cache)
    report = show_events(run_loop(data, config, encoder, LoopPlan(strategy, rounds, per_round, test)))
    write_json(json_, report)
    rows = [
        (f"{len(found['images'])} images, {found['n_boxes']} boxes", f"Dice {found['dice']['mean']:.3f}")
        for found in report["rounds"]
    ]
    show_table(f"{folder.name}, {strategy}, seed {seed}", rows)
