"""Benchmarks on a folder with ``images/``, ``masks/`` and ``manifest.csv``, split by subject."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_boxprompt._tiff import TiffHandles
from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.config import make_config
from napari_boxprompt.disturbance import UNDISTURBED, Disturbance
from napari_boxprompt.errors import ConfigError, ImageError
from napari_boxprompt.experiment import Experiment, Outcome, run_experiment
from napari_boxprompt.images import Images, open_reader, read_mask

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_boxprompt.config import Supervision, TrainConfig
    from napari_boxprompt.events import Event
    from napari_boxprompt.models.encoding import Encoder

__all__ = ["BenchmarkFolder", "Plan", "Split", "run_benchmark", "run_plan"]

BoxMode = Literal["instances", "components", "hull"]


@dataclass(frozen=True)
class Split:
    """Files to train on and files to test on, of different subjects."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class BenchmarkFolder:
    """A folder with reference masks.

    Parameters
    ----------
    folder : Path
        Holds ``images/``, ``masks/`` and ``manifest.csv`` with columns ``file`` and ``subject``.
    mode : str
        ``"instances"``: one box for each value of a mask; ``"components"``: one for each connected
        component of `label`; ``"hull"``: one for all of `label`, as in the paper.
    label : int or None
        Value of the class; None for all values.
    """

    folder: Path
    mode: BoxMode
    label: int | None = None

    def subjects(self) -> dict[str, str]:
        """Subject of each file.

        Raises
        ------
        ImageError
            The manifest is missing or has other columns.
        """
        path = self.folder / "manifest.csv"
        try:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                rows = list(csv.DictReader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ImageError(
                f"{path} cannot be read ({error}); write a table with the columns 'file' and 'subject'."
            ) from error
        if not rows or not all(row.get("file") and row.get("subject") for row in rows):
            raise ImageError(f"{path} needs the columns 'file' and 'subject', filled in every row; add them.")
        return {row["file"]: row["subject"] for row in rows}

    def split(self, shots: int, test: int, seed: int) -> Split:
        """Halve the subjects, then take `shots` and `test` files from the halves.

        Only training images with an object count as shots: a person draws boxes where there is
        something to draw.

        Raises
        ------
        ConfigError
            Fewer than two subjects, or fewer than two training images with an object.
        """
        subjects = self.subjects()
        names = sorted(set(subjects.values()))
        if len(names) < 2:
            raise ConfigError(f"{self.folder} has {len(names)} subject; a benchmark needs at least two.")
        rng = np.random.default_rng(seed)
        order = [names[i] for i in rng.permutation(len(names))]
        first = set(order[: len(order) // 2])
        files = sorted(subjects)
        shuffled = [files[i] for i in rng.permutation(len(files))]
        train = [f for f in shuffled if subjects[f] in first]
        chosen = list[str]()
        for file in train:
            if len(chosen) == shots:
                break
            if len(self.boxes(file)):
                chosen.append(file)
        if len(chosen) < 2:
            raise ConfigError(
                f"Only {len(chosen)} of {len(train)} training images in {self.folder} show an object; check "
                "--label and the masks."
            )
        held = [f for f in shuffled if subjects[f] not in first][:test]
        return Split(tuple(sorted(chosen)), tuple(sorted(held)))

    def mask(self, file: str) -> npt.NDArray[np.integer]:
        """Reference mask ``(H, W)`` of a file."""
        return read_mask(self.folder / "masks" / file)

    def images(self, files: Sequence[str]) -> Images:
        """Images of some files, under their names in the manifest; no other file is opened."""
        handles = TiffHandles()
        return Images({file: open_reader(self.folder / "images" / file, handles, None) for file in files})

    def foreground(self, file: str) -> npt.NDArray[np.bool_]:
        """Where the class is, bool ``(H, W)``."""
        mask = self.mask(file)
        return mask > 0 if self.label is None else mask == self.label

    def boxes(self, file: str) -> BoxSet:
        """Boxes derived from a mask; the plane is complete."""
        return BoxSet.from_labels(self.mask(file), PlaneId(file), mode=self.mode, label=self.label)

    def experiment(
        self,
        split: Split,
        supervision: Supervision = "boxes",
        disturbance: Disturbance = UNDISTURBED,
        seed: int = 0,
    ) -> Experiment:
        """Experiment in which only the training files are opened before prediction.

        The training boxes are disturbed, those of the oracle are not.

        Raises
        ------
        ImageError
            A test file is missing.
        ConfigError
            Boxes are disturbed but masks are learnt from.
        """
        if disturbance and supervision == "masks":
            raise ConfigError("Disturbed boxes change nothing where masks teach; give --supervision boxes.")
        subjects = self.subjects()

        def true_boxes(plane: PlaneId) -> Sequence[Box]:
            return self.boxes(plane.image).boxes

        def reference(plane: PlaneId) -> npt.NDArray[np.bool_]:
            return self.foreground(plane.image)

        for file in split.test:
            for path in (self.folder / "images" / file, self.folder / "masks" / file):
                if not path.is_file():
                    raise ImageError(f"There is no file {path}; correct the manifest or add the file.")
        return Experiment(
            train_images=self.images(split.train),
            boxes=disturbance.apply(BoxSet.merge([self.boxes(file) for file in split.train]), seed),
            test_images=lambda: self.images(split.test),
            reference=reference,
            true_boxes=true_boxes,
            masks=None
            if supervision == "boxes"
            else {PlaneId(file): self.foreground(file).astype(np.uint8) for file in split.train},
            subject=lambda plane: subjects[plane.image],
        )


@dataclass(frozen=True)
class Plan:
    """All that decides one run on a folder.

    Parameters
    ----------
    config : TrainConfig
        Settings, the seed among them.
    shots : int
        Boxed training images.
    test : int
        Most test images.
    supervision : str
        With ``"masks"`` the reference masks of the training images take the place of what the frozen model
        makes of their boxes: the difference is what better supervision could still give.
    disturbance : Disturbance
        What is done to the training boxes.
    """

    config: TrainConfig
    shots: int = 20
    test: int = 50
    supervision: Supervision = "boxes"
    disturbance: Disturbance = UNDISTURBED

    def describe(self, folder: BenchmarkFolder) -> dict[str, Any]:
        """The plan as JSON has it: runs that agree in it are the same run."""
        return {
            "data": folder.folder.resolve().name,
            "boxes": folder.mode,
            "label": folder.label,
            "preset": self.config.preset,
            "shots": self.shots,
            "test": self.test,
            "supervision": self.supervision,
            **asdict(self.disturbance),
            "changed": self._changed(),
            "config": self.config.model_dump(mode="json"),
        }

    def _changed(self) -> dict[str, Any]:
        """Settings besides the seed that are not those of the preset."""
        usual = _flat(make_config(self.config.preset, seed=self.config.seed).model_dump(mode="json"))
        return {
            name: value
            for name, value in _flat(self.config.model_dump(mode="json")).items()
            if value != usual[name]
        }


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their names for ``--set``."""
    found = dict[str, Any]()
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else None
        found |= {name: value} if inner is None else {f"{name}.{key}": inner[key] for key in inner}
    return found


def run_plan(
    folder: BenchmarkFolder,
    plan: Plan,
    encoder: Encoder,
    *,
    workers: int = 1,
    keep: bool = False,
    worst: int = 0,
) -> Generator[Event, None, Outcome]:
    """Train on boxed images and test on other subjects; see `run_experiment`.

    Raises
    ------
    ConfigError
        The folder has too few subjects.
    """
    split = folder.split(plan.shots, plan.test, plan.config.seed)
    experiment = folder.experiment(split, plan.supervision, plan.disturbance, plan.config.seed)
    outcome = yield from run_experiment(
        experiment, plan.config, encoder, workers=workers, keep=keep, worst=worst
    )
    outcome.report["run"] = plan.describe(folder)
    return outcome


def run_benchmark(
    folder: BenchmarkFolder,
    config: TrainConfig,
    encoder: Encoder,
    *,
    shots: int = 20,
    test: int = 50,
    workers: int = 1,
    keep: bool = False,
    supervision: Supervision = "boxes",
) -> Generator[Event, None, Outcome]:
    """Train on `shots` boxed images and test on other subjects; see `Plan` and `run_plan`."""
    plan = Plan(config, shots, test, supervision)
    return (yield from run_plan(folder, plan, encoder, workers=workers, keep=keep))
