"""Kill a program that works on a project, again and again, and see what the project remembers.

    python benchmarks/project_faults.py [--kills 200] [--seed 0]

A child process opens the project and makes gestures of a script: boxes, painted and accepted masks, states,
predictions, settings, rounds; now and then it saves, sometimes in a second thread. After each gesture that
the project has taken, it prints the number. It is killed (SIGKILL) at a random moment: in a gesture, in a
save, or while it opens the project. The project must then be what it was after the last printed gesture,
or after the one that followed. The next child goes on from there. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_boxprompt.boxes import Box, PlaneId
from napari_boxprompt.errors import OutputError
from napari_boxprompt.project import STATUSES, Project, Round

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
    total = hashlib.sha256()
    boxes = project.boxes
    for plane in PLANES:
        record = project.record(plane).model_copy(update={"mask": None})
        mask = project.mask(plane)
        parts = (record, boxes.on(plane), boxes.planes.get(plane), mask and sorted(mask.classes.items()))
        total.update(repr(parts).encode())
        total.update(b"" if mask is None else mask.labels.astype(np.uint32).tobytes())
    total.update(repr((project.rounds, project.classes, dict(project.settings))).encode())
    return total.hexdigest()


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


def killed(folder: Path, start: int, seed: int, delay: float, *, while_opening: bool) -> int:
    """Let a child work for a while and kill it; return the last gesture it has reported, or `start` - 1."""
    command = [sys.executable, __file__, "--child", str(folder), "--start", str(start), "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        if child.stdout is None:
            raise RuntimeError("the child has no output")
        if not while_opening:
            child.stdout.readline()
        time.sleep(delay)
        child.kill()
        lines = child.stdout.read().split("\n")[:-1]
        if child.wait() != -9:
            raise RuntimeError(f"the child ended by itself with {child.returncode}")
    return max([start - 1, *(int(line) for line in lines if line.isdecimal())])


def run(folder: Path, kills: int, seed: int = 0) -> dict[str, float]:
    """Kill as many children; return what was seen.

    Raises
    ------
    AssertionError
        A gesture was lost, or the project is not consistent.
    """
    rng = np.random.default_rng(seed)
    project = make_project(folder / "worked")
    known: list[str] = []
    seen = {"kills": 0, "gestures": 0, "ahead": 0, "opening": 0, "slowest_reopening_s": 0.0}
    with Project.open(make_project(folder / "reference")) as reference:
        known.append(digest(reference))
        done = 0  # gestures that the project contains; the k-th one, from 0, leads to known[k + 1]
        for _ in range(kills):
            opening = bool(rng.random() < 0.15)
            delay = float(rng.uniform(0.2, 1.2) if opening else rng.exponential(0.25))
            last = killed(project, done, seed, delay, while_opening=opening)
            while len(known) < last + 3:
                act(reference, len(known) - 1, seed)
                known.append(digest(reference))
            reference.save()
            started = time.perf_counter()
            with Project.open(project) as found:
                seen["slowest_reopening_s"] = max(seen["slowest_reopening_s"], time.perf_counter() - started)
                content = digest(found)
                if found.read_only or found.problems:
                    raise AssertionError(f"after gesture {last}: {found.problems or 'read-only'}")
            if content not in known[last + 1 : last + 3]:
                where = known.index(content) if content in known else "nowhere"
                raise AssertionError(f"gestures to {last} were reported, the project is at {where}")
            ahead = known[last + 1 : last + 3].index(content)
            seen["ahead"] += ahead
            seen["opening"] += opening
            seen["kills"] += 1
            done = last + 1 + ahead
    seen["gestures"] = done
    return seen


def main() -> None:
    """Parse the command line; be the child or the parent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        try:
            work(options.child, options.start, options.seed)
        except OutputError as error:
            raise SystemExit(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(Path(folder), options.kills, options.seed)))


if __name__ == "__main__":
    main()
