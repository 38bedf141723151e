"""Rounds that are trained by children that are killed; the part of project_faults.py with `--training`."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from killing import Known, content, killed, last_of

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.labels import boxes_from_labels
from napari_boxprompt.project import Project, Round

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy.typing as npt

PROGRAM = (sys.executable, str(Path(__file__).with_name("project_faults.py")))

DISCS = tuple(PlaneId(f"disc{k}.tif") for k in range(5))

FEW = ("--preset=fast", *("--set", "steps=8", "--set", "batch=2", "--set", "augment.views=1"))
FEW += ("--set", "generator=light", "--set", "validate_every=4", "--set", "tile=whole")

BETWEEN = 3
"""Gestures between two rounds."""

WHERE = {None: 4.0, "open": 0.05, "encode": 1.0, "train": 0.5, "evaluate": 0.3}
WHERE |= {"save": 0.02, "saved": 0.003, "recorded": 0.05}
"""What a child has begun when it is killed, and so many seconds later on average."""


def disc_labels(number: int) -> npt.NDArray[np.uint16]:
    """Label image of three discs."""
    rows, columns = np.ogrid[:112, :128]
    labels = np.zeros((112, 128), np.uint16)
    for k in range(3):
        y, x = 24 + 32 * k, 24 + (37 * number + 41 * k) % 80
        labels[(rows - y) ** 2 + (columns - x) ** 2 < (9 + (number + k) % 5) ** 2] = k + 1
    return labels


def make_discs(folder: Path) -> Path:
    """Make images of discs, and a project about them with boxes on each."""
    (folder / "images").mkdir(parents=True)
    for number, plane in enumerate(DISCS):
        noise = np.random.default_rng(number).normal(0, 8, (112, 128))
        values = (40 + 130 * (disc_labels(number) > 0) + noise).clip(0, 255).astype(np.uint8)
        tifffile.imwrite(folder / "images" / plane.image, values, photometric="minisblack")
    with Project.create(folder / "project", folder / "images", classes=["disc"]) as project:
        for number, plane in enumerate(DISCS):
            boxes = boxes_from_labels(disc_labels(number), plane, name="disc")
            project.set_boxes(plane, boxes, complete=True)
    return folder / "project"


def label(project: Project, number: int, seed: int) -> None:
    """Draw, accept or correct: the gesture of this number, the same one every time."""
    rng = np.random.default_rng([seed, number])
    which = int(rng.integers(len(DISCS)))
    plane, labels = DISCS[which], disc_labels(which)
    kind = rng.choice(["boxes", "boxes", "accept", "paint", "remove"])
    if kind == "boxes":
        y, x = rng.uniform(-1.0, 1.0, 2).tolist()
        drawn = [
            Box(box.y0 + y, box.x0 + x, box.y1 + y, box.x1 + x, plane, "disc", box.id)
            for box in boxes_from_labels(labels, plane)
        ]
        project.set_boxes(plane, drawn, complete=True)
    elif kind == "accept":
        project.accept(plane, labels, {1: "disc", 2: "disc", 3: "disc"})
    elif kind == "paint":
        y, x = map(int, rng.integers(0, 60, 2))
        project.paint(plane, labels[y : y + 40, x : x + 40], y, x, classes={1: "disc", 2: "disc", 3: "disc"})
    else:
        project.remove_mask(plane)


def work_and_train(folder: Path, start: int, seed: int, words: Sequence[str], *, once: bool) -> None:
    """Make gestures and train rounds, for ever or until one is complete; the work of the child."""
    from napari_boxprompt.cli.app import app

    tell_phases()
    for first in itertools.count(start, BETWEEN):
        with Project.open(folder) as project:
            if project.read_only:
                raise SystemExit(f"not writable: {project.problems}")
            print("open", flush=True)
            for number in range(first, first + BETWEEN):
                label(project, number, seed)
                print(number, flush=True)
            more = ("--go-on",) if project.rounds else ()
        app(["project", "train", str(folder), *FEW, *more, *words], standalone_mode=False)
        print("round", flush=True)
        if once:
            return


def tell_phases() -> None:
    """Print what the command that trains begins to do."""
    from napari_boxprompt.cli import project as command

    show, record, place = command.show_events, Project.add_round, Project.model_folder

    def told(events: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
        phase = ""
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return end.value
            if getattr(event, "phase", phase) != phase:
                phase = event.phase
                print(phase, flush=True)
            yield event

    def model_folder(project: Project, number: int) -> Path:
        print("save", flush=True)
        return place(project, number)

    def add_round(project: Project, found: Round) -> None:
        known = any(found.number == before.number for before in project.rounds)
        print("judged" if known else "saved", flush=True)
        record(project, found)
        if not known:
            print("recorded", flush=True)

    command.show_events = lambda events, *more: show(told(events), *more)
    Project.model_folder, Project.add_round = model_folder, add_round


def check_rounds(project: Project, least: int, seen: dict[int, str]) -> int:
    """Return how many rounds a project has; all models are there and whole, and those of before unchanged.

    Raises
    ------
    AssertionError
        It is not so, or there are not `least` rounds or one more.
    """
    from napari_boxprompt.bundle import load_bundle

    count = len(project.rounds)
    if [record.number for record in project.rounds] != list(range(1, count + 1)):
        raise AssertionError(f"the rounds have the numbers {[r.number for r in project.rounds]}")
    if not least <= count <= least + 1 or project.next_round() != count + 1:
        raise AssertionError(f"{least} rounds were reported, the project has {count}")
    for record in project.rounds:
        folder = project.model_folder(record.number)
        if record.model != folder.relative_to(project.folder).as_posix():
            raise AssertionError(f"round {record.number} has the model {record.model}")
        load_bundle(folder)
        weights = (folder / "weights.safetensors").read_bytes()
        now = hashlib.sha256(weights + record.model_dump_json().encode()).hexdigest()
        if seen.setdefault(record.number, now) != now:
            raise AssertionError(f"round {record.number} is not what it was")
    models = project.folder / "models"
    for folder in models.iterdir() if models.exists() else ():
        if folder.name > f"{count + 1:03d}":  # one that was saved and not recorded is replaced by the next
            raise AssertionError(f"there is a model {folder.name}, and {count} rounds")
        load_bundle(folder)
    return count


def run_training(
    folder: Path, kills: int, seed: int = 0, words: Sequence[str] = (), program: Sequence[str] = PROGRAM
) -> dict[str, Any]:
    """Kill as many children that train rounds, and leave the last one alone; return what was seen.

    Parameters
    ----------
    folder : Path
        An empty one.
    kills, seed : int
        How many children are killed, and the seed of when.
    words : sequence of str
        Added to the command that trains.
    program : sequence of str
        What runs this file, or what does the same with other models.

    Raises
    ------
    AssertionError
        A gesture or a round was lost, or the project is not consistent.
    """
    rng = np.random.default_rng(seed)
    project = make_discs(folder / "worked")
    gestures = rounds = 0
    where, models, slowest = Counter[str](), dict[int, str](), 0.0
    with Project.open(make_discs(folder / "reference")) as reference:
        known = Known(
            reference,
            lambda project, number: label(project, number, seed),
            lambda project: content(project, DISCS),
        )
        for kill in range(kills + 1):
            command = [*program, "--training", "--child", str(project), "--seed", str(seed), *words]
            command += ["--start", str(gestures)]
            if kill < kills:
                sign = list(WHERE)[rng.integers(len(WHERE))]
                lines = killed(command, float(rng.exponential(WHERE[sign])), sign)
                where[next((line for line in reversed(lines) if line in (*WHERE, "round")), "start")] += 1
            else:
                done = subprocess.run([*command, "--once"], capture_output=True, text=True, check=False)
                lines = done.stdout.split("\n")
                if done.returncode or "round" not in lines:
                    raise AssertionError(f"the last child completed no round: {done.stderr[-3000:]}")
            least = rounds + lines.count("recorded")
            began = time.perf_counter()
            with Project.open(project) as found:
                slowest = max(slowest, time.perf_counter() - began)
                gestures = known.done(found, last_of(lines, gestures))
                rounds = check_rounds(found, least, models)
    return {
        "kills": kills,
        "last line before the kill": dict(where),
        "gestures": gestures,
        "rounds": rounds,
        "slowest_reopening_s": slowest,
    }
