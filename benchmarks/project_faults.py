"""Kill a program that works on a project, again and again, and see what the project remembers.

    python benchmarks/project_faults.py [--training] [--kills 200] [--seed 0]

A child process opens the project and makes gestures of a script: boxes, painted and accepted masks, states,
predictions, settings, rounds; now and then it saves, sometimes in a second thread. After each gesture that
the project has taken, it prints the number. It is killed (SIGKILL) at a random moment: in a gesture, in a
save, or while it opens the project. The project must then be what it was after the last printed gesture,
or after the one that followed. The next child goes on from there. Prints one JSON object.

With `--training` the child draws, accepts and corrects on images of discs, and trains a round with the
command `boxprompt project train`, again and again. It is killed while it starts, in a gesture, while planes
are encoded, in training, in judging, while the model is saved and while the round is recorded. Each time the
project must have every reported gesture and round, and whole models only. The last child is left alone
until it has completed a round. Other words than these are given to the command that trains.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import tifffile
from killing import Known, content, killed, last_of

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.errors import OutputError
from napari_boxprompt.project import STATUSES, Project, Round

PROGRAM = (sys.executable, __file__)
SIDE = 400
PLANES = (*(PlaneId("stack.tif", (z,)) for z in range(5)), PlaneId("flat.tif"))


def make_project(folder: Path) -> Path:
    """Make images and a project about them."""
    (folder / "images").mkdir(parents=True)
    for name, shape in {"stack.tif": (5, SIDE, SIDE), "flat.tif": (SIDE, SIDE)}.items():
        tifffile.imwrite(folder / "images" / name, np.zeros(shape, np.uint8), photometric="minisblack")
    Project.create(folder / "project", folder / "images", classes=["cell", "nucleus"]).close()
    return folder / "project"


def act(project: Project, number: int, seed: int) -> None:
    """Make the gesture of this number, the same one every time."""
    rng = np.random.default_rng([seed, number])
    plane = PLANES[rng.integers(len(PLANES))]
    kind = rng.choice(
        ["boxes", "boxes", "paint", "paint", "accept", "status", "predict", "round", "remove", "set"]
    )
    if kind == "boxes":
        corners = rng.uniform(0, SIDE - 60, (rng.integers(0, 6), 2))
        drawn = [
            Box(y, x, y + 40, x + 50, plane, "cell", k) for k, (y, x) in enumerate(corners.tolist(), start=1)
        ]
        project.set_boxes(plane, drawn, complete=bool(rng.integers(2)))
    elif kind == "paint":
        y, x = map(int, rng.integers(0, SIDE - 30, 2))
        project.paint(plane, rng.integers(0, 9, (30, 20)), y, x, classes={1: "nucleus", number: "cell"})
    elif kind == "accept":  # of noise, so that it is too large for the journal
        project.accept(plane, rng.integers(0, 60_000, (SIDE, SIDE)))
    elif kind == "status":
        project.set_status(plane, STATUSES[rng.integers(len(STATUSES))])
    elif kind == "predict":
        scores = rng.random(len(PLANES)).tolist()
        project.note_predictions(dict(zip(PLANES, scores, strict=True)), {plane: "unlike all others"})
    elif kind == "round":
        score = {"box_agreement": float(rng.random())}
        project.add_round(
            Round(number=project.next_round(), started="2026", scores=score, boxes=len(project.boxes))
        )
    elif kind == "remove":
        project.remove_mask(plane)
    else:
        project.set_settings({"steps": number})


def digest(project: Project) -> str:
    """Hash all that a user would miss."""
    return content(project, PLANES, project.rounds)


def work(folder: Path, start: int, seed: int) -> None:
    """Open the project and make gestures for ever; the work of the child."""
    with Project.open(folder, background=bool(start % 2)) as project:
        if project.read_only:
            raise SystemExit(f"not writable: {project.problems}")
        print("open", flush=True)
        number, saving = start, threading.Thread()
        while True:
            act(project, number, seed)
            project.flush()
            print(number, flush=True)
            if number % 5 == 0 and not saving.is_alive():
                saving = threading.Thread(target=project.save, daemon=True)
                saving.start()
            elif number % 7 == 0:
                project.save()
            number += 1


def run(folder: Path, kills: int, seed: int = 0) -> dict[str, float]:
    """Kill as many children; return what was seen.

    Raises
    ------
    AssertionError
        A gesture was lost, or the project is not consistent.
    """
    rng = np.random.default_rng(seed)
    project = make_project(folder / "worked")
    seen = {"kills": 0, "gestures": 0, "ahead": 0, "opening": 0, "slowest_reopening_s": 0.0}
    with Project.open(make_project(folder / "reference")) as reference:
        known = Known(reference, lambda project, number: act(project, number, seed), digest)
        for _ in range(kills):
            opening = bool(rng.random() < 0.15)
            delay = float(rng.uniform(0.2, 1.2) if opening else rng.exponential(0.25))
            start = int(seen["gestures"])
            command = [*PROGRAM, "--child", str(project), "--start", str(start), "--seed", str(seed)]
            last = last_of(killed(command, delay, None if opening else "open"), start)
            began = time.perf_counter()
            with Project.open(project) as found:
                seen["slowest_reopening_s"] = max(seen["slowest_reopening_s"], time.perf_counter() - began)
                seen["gestures"] = known.done(found, last)
            seen["ahead"] += seen["gestures"] - last - 1
            seen["opening"] += opening
            seen["kills"] += 1
    return seen


def main() -> None:
    """Parse the command line; be the child or the parent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--training", action="store_true", help="train rounds as well")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options, words = parser.parse_known_args()
    if options.training:
        from training_faults import run_training, work_and_train  # it loads what the others do not need
    elif words:
        parser.error(f"not understood: {' '.join(words)}")
    if options.child is not None:
        try:
            if options.training:
                work_and_train(options.child, options.start, options.seed, words, once=options.once)
            else:
                work(options.child, options.start, options.seed)
        except OutputError as error:
            raise SystemExit(str(error)) from error
        return
    with tempfile.TemporaryDirectory() as name:
        folder, kills, seed = Path(name), options.kills, options.seed
        found = run_training(folder, kills, seed, words) if options.training else run(folder, kills, seed)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
