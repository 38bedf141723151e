"""Opening a project with thousands of planes, and going from plane to plane in it.

    python benchmarks/project_open.py [--planes 5000] [--boxes 4]

Makes small images in a temporary folder, half of the planes as single files and half in stacks of 50, boxes
on every second plane and scores for all. Prints one JSON object: seconds to make, open and save, milliseconds
of a gesture and of the way to the next plane in the queue, pixels included, and how much memory browsing all
planes takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile

from napari_boxprompt.boxes import Box, BoxSet, PlaneId
from napari_boxprompt.project import Project

SIDE, DEPTH = 128, 50


def write_images(folder: Path, planes: int) -> None:
    """Write images with as many planes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(planes // 2):
        tifffile.imwrite(folder / f"image{number}.tif", rng.integers(0, 255, (SIDE, SIDE), np.uint8))
    for number in range((planes - planes // 2) // DEPTH):
        pixels = rng.integers(0, 255, (DEPTH, SIDE, SIDE), np.uint8)
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


def memory() -> float:
    """Memory of this process in 10^6 bytes."""
    return float(psutil.Process().memory_info().rss) / 1e6


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=4)
    options = parser.parse_args()
    found: dict[str, float] = {}

    def timed(name: str, started: float) -> None:
        found[name] = round(time.perf_counter() - started, 3)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "images", options.planes)
        started = time.perf_counter()
        project = Project.create(folder / "project", folder / "images")
        timed("make_s", started)
        planes = project.images.planes
        project.add_boxes(some_boxes(planes[::2], options.boxes))
        scores = np.random.default_rng(2).random(len(planes)).tolist()
        project.note_predictions(dict(zip(planes, scores, strict=True)))
        project.accept(planes[1], np.ones((SIDE, SIDE), int))
        started = time.perf_counter()
        project.close()
        timed("save_all_s", started)

        started = time.perf_counter()
        with Project.open(folder / "project") as project:
            timed("open_s", started)
            before, times, gestures = memory(), [], []
            plane = None
            for _ in range(300):
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
            timed("save_states_s", started)
            project.set_boxes(planes[0], [])
            started = time.perf_counter()
            project.save()
            timed("save_boxes_s", started)
    found |= {"planes": len(planes), "boxes": options.boxes * len(planes[::2])}
    for name, values in {"next_ms": times, "gesture_ms": gestures}.items():
        found[f"{name}_median"] = round(statistics.median(values), 1)
        found[f"{name}_worst"] = round(max(values), 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
