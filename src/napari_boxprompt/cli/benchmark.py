"""``boxprompt benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_boxprompt.cli.console import (
    CacheOption,
    DeviceOption,
    ModelOption,
    SetOption,
    WorkersOption,
    errors,
    load_encoder,
    settings,
    show_columns,
    show_events,
    show_table,
)
from napari_boxprompt.config import Supervision
from napari_boxprompt.errors import ConfigError

if TYPE_CHECKING:
    from napari_boxprompt.benchmarking import BenchmarkFolder, Plan
    from napari_boxprompt.experiment import Outcome

FolderArgument = Annotated[Path, typer.Argument(help="Folder with images/, masks/ and manifest.csv.")]
JsonOption = Annotated[Path, typer.Option("--json", help="Where to write the report.")]
LabelOption = Annotated[int | None, typer.Option("--label", min=1, help="Value of the class in the masks.")]
InstancesOption = Annotated[bool, typer.Option("--instances", help="Each value of a mask is one object.")]
OneBoxOption = Annotated[bool, typer.Option("--one-box", help="One box round the whole class.")]
ShotsOption = Annotated[str, typer.Option("--shots", help="Boxed training images; several with commas.")]
SeedsOption = Annotated[str, typer.Option("--seeds", "--seed", help="Seeds, several with commas.")]
PresetsOption = Annotated[str, typer.Option("--presets", "--preset", help="Presets, several with commas.")]
TestOption = Annotated[int, typer.Option("--test", min=1, help="Most test images.")]
SupervisionOption = Annotated[
    Supervision, typer.Option("--supervision", help="Learn from boxes, or from masks: the line above.")
]
JitterOption = Annotated[
    float, typer.Option("--jitter", help="Sides of training boxes move by up to this fraction of the box.")
]
MissingOption = Annotated[
    float, typer.Option("--missing", help="Fraction of training boxes left out; planes are then incomplete.")
]
WrongOption = Annotated[
    float, typer.Option("--wrong", help="Fraction of training boxes moved to where no object is.")
]
PicturesOption = Annotated[
    Path | None, typer.Option("--pictures", help="Folder for pictures of the worst test images.")
]
WorstOption = Annotated[int, typer.Option("--worst", min=1, help="How many pictures for each run.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Keep the runs that are in the report already and do the others.")
]

SHOWN = ("preset", "shots", "seeds", "Dice (95 %)", "transductive", "oracle", "ratio", "ECE")
"""Columns that fit on a screen; the report has them all."""


def benchmark(
    folder: FolderArgument,
    json_: JsonOption,
    label: LabelOption = None,
    instances: InstancesOption = False,
    one_box: OneBoxOption = False,
    shots: ShotsOption = "20",
    seeds: SeedsOption = "0",
    presets: PresetsOption = "balanced",
    test: TestOption = 50,
    supervision: SupervisionOption = "boxes",
    jitter: JitterOption = 0.0,
    missing: MissingOption = 0.0,
    wrong: WrongOption = 0.0,
    pictures: PicturesOption = None,
    worst: WorstOption = 10,
    resume: ResumeOption = False,
    model: ModelOption = "litemedsam",
    device: DeviceOption = "auto",
    workers: WorkersOption = 1,
    cache: CacheOption = False,
    set_: SetOption = None,
) -> None:
    """Train on boxes of a few images and test on other subjects, against the frozen model with true boxes.

    Several --shots, --seeds or --presets make every combination, in one report.
    """
    data = benchmark_folder(folder, label, instances=instances, one_box=one_box)
    configs = [
        settings(preset, set_, model=model, seed=seed, device=device)
        for preset in _words("--presets", presets)
        for seed in _numbers("--seeds", seeds, 0)
    ]
    counts = _numbers("--shots", shots, 2)
    # What takes seconds to load comes after everything that can be wrong with words.
    from napari_boxprompt.benchmarking import Plan
    from napari_boxprompt.disturbance import Disturbance

    disturbed = Disturbance(jitter, missing, wrong)
    plans = [Plan(config, count, test, supervision, disturbed) for count in counts for config in configs]
    _run(data, plans, json_, pictures, worst, resume=resume, workers=workers, cache=cache)


def benchmark_folder(folder: Path, label: int | None, *, instances: bool, one_box: bool) -> BenchmarkFolder:
    """Folder whose masks are read as the options say.

    Raises
    ------
    ConfigError
        The options do not say what one object is.
    """
    if (label is None) == (not instances):
        raise ConfigError("Give either --label N or --instances: what one object is in the masks.")
    if one_box and instances:
        raise ConfigError("--one-box goes with --label N, not with --instances.")
    from napari_boxprompt.benchmarking import BenchmarkFolder

    return BenchmarkFolder(folder, "instances" if instances else "hull" if one_box else "components", label)


def _words(option: str, text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words) or len(set(words)) < len(words):
        raise ConfigError(f"{option} {text!r} is not understood; write different values with commas between.")
    return words


def _numbers(option: str, text: str, least: int) -> list[int]:
    words = _words(option, text)
    if not all(word.isdecimal() and int(word) >= least for word in words):
        raise ConfigError(f"{option} {text!r} is not understood; write whole numbers from {least} on.")
    return list(map(int, words))


def _run(
    data: BenchmarkFolder,
    plans: list[Plan],
    report: Path,
    pictures: Path | None,
    worst: int,
    *,
    resume: bool,
    workers: int,
    cache: bool,
) -> None:
    """Do what is not done yet; the report is written after every run."""
    from napari_boxprompt.benchmarking import run_plan
    from napari_boxprompt.outputs import prepare_folder
    from napari_boxprompt.report import table_rows
    from napari_boxprompt.series import Series, cells, filled, row

    prepare_folder(report.parent)
    if pictures is not None:
        prepare_folder(pictures)
    series = Series(report, len(plans), resume=resume)
    for number, plan in enumerate(plans, start=1):
        if series.find(plan.describe(data)) is not None:
            continue
        name = f"{plan.config.preset}, {plan.shots} shots, seed {plan.config.seed}"
        if len(plans) > 1:
            errors.print(f"Run {number} of {len(plans)}: {name}", highlight=False)
        # A frozen model of its own for every run: what one has encoded would shorten the times of the next.
        encoder = load_encoder(plan.config, cache)
        kept = 0 if pictures is None else worst
        outcome = show_events(run_plan(data, plan, encoder, workers=workers, worst=kept))
        series.add(outcome.report)
        if pictures is not None:
            _draw(outcome, pictures / f"{plan.config.preset}-{plan.shots}-{plan.config.seed}")
    if len(series.reports) == 1:
        (found,) = series.reports
        title = f"{data.folder.name}, {plans[0].shots} shots, seed {found['seed']}"
        show_table(title, table_rows(found))
    else:
        rows = [row(cell) for cell in cells(series.reports)]
        for changed in dict.fromkeys(line["changed"] for line in rows):  # too long for a column
            alike = [line for line in rows if line["changed"] == changed]
            show_columns(", ".join(filter(None, (data.folder.name, changed))), filled(SHOWN, alike), alike)


def _draw(outcome: Outcome, folder: Path) -> None:
    """Pictures of the worst planes, the worst first."""
    from napari_boxprompt.files import atomic_path
    from napari_boxprompt.overlays import comparison

    for rank, scored in enumerate(outcome.worst, start=1):
        dice, oracle = scored.figures["dice"], scored.figures["oracle"]
        name = "-".join([Path(scored.plane.image).stem, *map(str, scored.plane.index)])
        picture = comparison(
            f"{scored.plane}: Dice {dice:.3f}, frozen model with true boxes {oracle:.3f}",
            outcome.model.normalization.apply(scored.values),
            scored.mask,
            scored.oracle,
            scored.reference,
        )
        with atomic_path(folder / f"{rank:02d}-dice-{dice:.3f}-{name}.png") as path:
            picture.save(path)
