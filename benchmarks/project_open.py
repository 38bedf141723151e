"""Opening a project with thousands of planes, and going from plane to plane in it.

    python benchmarks/project_open.py [--planes 5000] [--boxes 4] [--stack] [--predicted] [--viewer]

Makes small images, half of the planes as single files and half in stacks of 50, or all of them in one stack;
boxes on every second plane and scores for all, with `--predicted` a predicted mask of every plane too. Prints
one JSON object: seconds to make, open and save, milliseconds of a gesture and of the way to the next plane in
the queue, pixels included, and how much memory browsing all planes takes.

With `--viewer` the project is opened in the dock widget of a real viewer instead, each time in a new one.
Seconds until it is on screen and can be worked on, of the clock and of the processor (on a machine that
others use too, compare these), until all jobs have ended, and the longest time in between that the viewer
did not answer; then the way to the next plane of the review until it is drawn.
Without a display: ``xvfb-run -a python benchmarks/project_open.py --viewer``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.project import Project

SIDE, DEPTH = 128, 50
STEPS, REVIEWED = 300, 30
"""Planes that are gone to, and those in each viewer."""


def write_images(folder: Path, planes: int, *, stack: bool) -> None:
    """Write images with as many planes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    single, depth = (0, planes) if stack else (planes // 2, DEPTH)
    for number in range(single):
        tifffile.imwrite(folder / f"image{number}.tif", rng.integers(0, 255, (SIDE, SIDE), np.uint8))
    for number in range((planes - single) // depth):
        pixels = rng.integers(0, 255, (depth, SIDE, SIDE), np.uint8)
        tifffile.imwrite(folder / f"stack{number}.tif", pixels, photometric="minisblack", compression="zlib")


def some_boxes(planes: tuple[PlaneId, ...], each: int) -> BoxSet:
    """Boxes on all planes."""
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, SIDE - 30, (len(planes), each, 2)).tolist()
    return BoxSet(
        tuple(
            Box(y, x, y + 20, x + 25, plane, "object", k)
            for plane, places in zip(planes, corners, strict=True)
            for k, (y, x) in enumerate(places, start=1)
        )
    )


def predict(project: Project, boxes: BoxSet) -> None:
    """Fill boxes and keep that as predictions, numbered through each image as the viewer does it."""
    last: dict[str, int] = {}
    for plane in boxes.planes:
        labels = np.zeros((SIDE, SIDE), np.uint32)
        first = last.get(plane.image, 0) + 1
        drawn = boxes.on(plane)
        last[plane.image] = first + len(drawn) - 1
        for number, box in enumerate(drawn, start=first):
            labels[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = number
        names = {int(n): "object" for n in np.unique(labels) if n}
        status = project.status(plane)
        project.paint(plane, labels, classes=names, status="boxed" if status == "boxed" else "predicted")


def memory() -> float:
    """Memory of this process in 10^6 bytes."""
    return float(psutil.Process().memory_info().rss) / 1e6


def make(folder: Path, options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write images and a project about them."""
    write_images(folder / "images", options.planes, stack=options.stack)
    started = time.perf_counter()
    project = Project.create(folder / "project", folder / "images", background=True)
    found["make_s"] = since(started)
    planes = project.images.planes
    project.add_boxes(some_boxes(planes[:: options.every], options.boxes))
    scores = np.random.default_rng(2).random(len(planes)).tolist()
    project.note_predictions(dict(zip(planes, scores, strict=True)))
    if options.predicted:
        predict(project, some_boxes(planes, options.boxes))
    project.accept(planes[1], np.ones((SIDE, SIDE), int))
    started = time.perf_counter()
    project.close()
    found["save_all_s"] = since(started)


def since(started: float) -> float:
    """Seconds."""
    return round(time.perf_counter() - started, 3)


def middle_and_worst(name: str, values: list[float]) -> dict[str, float]:
    """Say what is usual, and what is worst."""
    return {f"{name}_median": round(statistics.median(values), 1), f"{name}_worst": round(max(values), 1)}


def headless(folder: Path, found: dict[str, Any]) -> None:
    """Open the project without a viewer, go through it, and save."""
    started = time.perf_counter()
    with Project.open(folder) as project:
        found["open_s"] = since(started)
        planes = project.images.planes
        before, times, gestures = memory(), [], []
        plane = None
        for _ in range(STEPS):
            started = time.perf_counter()
            plane = project.next_plane(plane)
            if plane is None:
                break
            project.images.read(plane)
            times.append(1e3 * (time.perf_counter() - started))
            started = time.perf_counter()
            project.set_status(plane, "rejected")
            gestures.append(1e3 * (time.perf_counter() - started))
        for plane in planes:
            project.images.read(plane)
        found["browsing_mb"] = round(memory() - before, 1)
        started = time.perf_counter()
        project.save()
        found["save_states_s"] = since(started)
        project.set_boxes(planes[0], [])
        started = time.perf_counter()
        project.save()
        found["save_boxes_s"] = since(started)
    found |= middle_and_worst("next_ms", times) | middle_and_worst("gesture_ms", gestures)


def in_viewer(folder: Path, repeats: int, found: dict[str, Any]) -> None:
    """Open the project in viewers, and review some planes in each."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_boxprompt.gui.widget import BoxPromptWidget

    opened: list[float] = []
    frozen, all_there, times, grown, worked = [], [], [], [], []
    for _ in range(repeats):
        viewer = napari.Viewer()
        widget = BoxPromptWidget(viewer)
        viewer.window.add_dock_widget(widget)

        def turn(longest: float = 0.0) -> float:
            started = time.perf_counter()
            QApplication.processEvents()
            time.sleep(0.001)
            return max(longest, time.perf_counter() - started)

        while widget.jobs.names or widget._later.isActive():
            turn()
        there: list[float] = []
        started, used = time.perf_counter(), time.process_time()
        widget.projects.opened.connect(lambda *_: there.append(time.perf_counter()))  # noqa: B023
        widget.projects.open(folder)
        longest = 0.0
        while not there:
            longest = turn(longest)
        longest = turn(longest)
        opened.append(time.perf_counter() - started)
        worked.append(time.process_time() - used)
        result = widget.session.result
        while result is not None and widget.jobs.names:
            longest = turn(longest)
        all_there.append(time.perf_counter() - started)
        frozen.append(longest)
        before = memory()
        for _ in range(REVIEWED if result is not None else 0):
            began = time.perf_counter()
            widget.review.next()
            QApplication.processEvents()
            times.append(1e3 * (time.perf_counter() - began))
        grown.append(memory() - before)
        viewer.close()
        while any(widget.jobs.names):
            turn()
    found["opened_s"] = [round(value, 2) for value in opened]
    found["opened_s_median"] = round(statistics.median(opened), 2)
    found["opened_cpu_s_median"] = round(statistics.median(worked), 2)
    found["rest_s_median"] = round(statistics.median(all_there), 2)
    found["frozen_s_median"] = round(statistics.median(frozen), 2)
    found["browsing_mb"] = round(max(grown), 1)
    found |= middle_and_worst("next_ms", times) if times else {}


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=4, help="boxes on a plane that has some")
    parser.add_argument("--every", type=int, default=2, help="of so many planes one has boxes")
    parser.add_argument("--stack", action="store_true", help="one stack, and no single files")
    parser.add_argument("--predicted", action="store_true", help="a predicted mask of every plane")
    parser.add_argument("--viewer", action="store_true", help="open it in the dock widget of a viewer")
    parser.add_argument("--repeats", type=int, default=3, help="viewers that it is opened in")
    parser.add_argument("--keep", type=Path, help="folder to make it in, or to find it in again")
    options = parser.parse_args()
    found: dict[str, Any] = {
        "planes": options.planes,
        "boxes": options.boxes * len(range(0, options.planes, options.every)),
    }
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / "project").exists():
            make(folder, options, found)
        # A sibling, because the paths of images are relative; and a copy, because the work changes it.
        used = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        shutil.copytree(folder / "project", used, dirs_exist_ok=True)
        if options.viewer:
            in_viewer(used, options.repeats, found)
        else:
            headless(used, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
