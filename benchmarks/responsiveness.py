"""How late the viewer answers while a model is trained beside it.

    xvfb-run -a python benchmarks/responsiveness.py [--rounds 3] [--seconds 10] [--json OUT] [--boxes]

Opens a napari viewer with the nuclei stack, moves the plane slider every 200 ms and lets a timer tick every
10 ms. A tick's latency is the time from when it was due to when the event loop ran it, so one pause of 300 ms
counts as thirty late ticks: what a person meets who clicks at any moment. Meanwhile five boxed planes are
encoded, then a model is trained and untouched planes are predicted: in a thread as the widget does it, in
variants of that, and in another process. Each variant runs in a fresh process, all of them in turn in each
round; what a variant gave in all rounds is put together.

On a machine that others use too, seconds in which they take more than `--quiet` of it do not count, and the
work stands still meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import numpy as np
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.connection import Connection

TICK = 0.010
SLIDER_MS = 200
WARM_UP = 3.0
ENCODINGS = 30
PHASES = ("encode", "train", "predict")
UNITS = ("s/boxed plane", "s/training step", "s/predicted plane")
COLUMNS = ("median", "95 %", "99 %", "max", *(f"95 % {phase}" for phase in PHASES), *UNITS, "MB")


@dataclass(frozen=True)
class Variant:
    """Where the work runs and with which settings."""

    where: Literal["nowhere", "thread", "process"]
    niceness: int = 0
    threads: int | None = None
    switch_interval: float | None = None
    environment: dict[str, str] = field(default_factory=dict)


VARIANTS = {
    "idle": Variant("nowhere"),
    "thread, low priority": Variant("thread", 10),
    "thread, normal priority": Variant("thread"),
    "process, low priority": Variant("process", 10),
    "process, normal priority": Variant("process"),
    "thread, low, 1 torch thread": Variant("thread", 10, threads=1),
    "thread, low, switch 1 ms": Variant("thread", 10, switch_interval=0.001),
    "thread, low, OMP passive": Variant("thread", 10, environment={"OMP_WAIT_POLICY": "passive"}),
}


@dataclass(frozen=True)
class Plan:
    """What one run does.

    Parameters
    ----------
    variant : Variant
        Where and how.
    seconds : float
        Length of each of training and prediction, and of doing nothing.
    flag : Path
        While this file exists, others need the machine and work stands still.
    boxes : bool
        Whether the boxes are shown too.
    """

    variant: Variant
    seconds: float
    flag: Path
    boxes: bool


class Clock:
    """Collects ticks: when each was due, how late it was and what was being done."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._timer = QTimer(singleShot=True)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._due = 0.0
        self.phase = "start"
        self.ticks: list[tuple[str, float, float]] = []

    def start(self) -> None:
        """Begin: the first tick is due one tick from now."""
        self._due = time.perf_counter()
        self._tick()

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    def _tick(self) -> None:
        now = time.perf_counter()
        while self._due <= now:
            self.ticks.append((self.phase, self._due, now - self._due))
            self._due += TICK
        # Not a repeating timer: that one begins a new series of ticks after a pause.
        self._timer.start(max(0, math.ceil((self._due - time.perf_counter()) * 1000)))


def backend(plan: Plan) -> Generator[str, None, None]:
    """Encode, train, predict, with a name of the phase after each boxed plane, step and plane."""
    from napari_boxprompt.gui.backend import load_backend

    load_backend()
    import torch

    from napari_boxprompt.api import TrainedModel, make_encoder, predict, start_training
    from napari_boxprompt.config import make_config
    from napari_boxprompt.demo import load_nuclei
    from napari_boxprompt.events import Progress

    if plan.variant.threads is not None:
        torch.set_num_threads(plan.variant.threads)
    experiment = load_nuclei().experiment()
    encoder, spent = make_encoder(device="cpu"), 0.0
    config = make_config("fast", max_encodings=ENCODINGS)
    run = start_training(experiment.train_images, experiment.boxes, config, encoder=encoder)
    before = time.perf_counter()
    for event in run:
        if not isinstance(event, Progress):
            continue
        spent += time.perf_counter() - before if event.phase == "train" else 0.0
        yield event.phase
        if spent > plan.seconds:
            run.close()
        before = time.perf_counter()
    spent, before = 0.0, time.perf_counter()
    for _ in predict(TrainedModel(run.model, encoder), experiment.test_images()):
        spent += time.perf_counter() - before
        yield "predict"
        if spent > plan.seconds:
            return
        before = time.perf_counter()


def rest(plan: Plan) -> Generator[str, None, None]:
    """Do nothing."""
    for _ in range(round(plan.seconds / 0.5)):
        time.sleep(0.5)
        yield "rest"


def work(plan: Plan) -> Generator[str, None, list[tuple[str, float, float]]]:
    """Do the work, standing still while others need the machine; return when each unit began and ended."""
    units, phase = [], "start"
    generator = rest(plan) if plan.variant.where == "nowhere" else backend(plan)
    while True:
        if plan.flag.exists():
            yield "paused"
            while plan.flag.exists():
                time.sleep(0.1)
            yield phase
        started = time.perf_counter()
        try:
            phase = next(generator)
        except StopIteration:
            return units
        units.append((phase, started, time.perf_counter()))
        yield phase


def in_process(connection: Connection, plan: Plan) -> None:
    """Work in a process of its own and send what it yields."""
    from napari_boxprompt.report import peak_rss_mb

    if plan.variant.niceness:
        os.nice(plan.variant.niceness)
    generator = work(plan)
    while True:
        try:
            connection.send((next(generator), None))
        except StopIteration as ended:
            connection.send(("end", {"units": ended.value, "more_mb": peak_rss_mb()}))
            return


def start_thread(plan: Plan, clock: Clock, done: Callable[[dict[str, Any]], None]) -> object:
    """Work as the widget does."""
    from napari_boxprompt.gui import jobs

    mock.patch.object(jobs, "NICENESS", plan.variant.niceness).start()
    if plan.variant.switch_interval is not None:
        sys.setswitchinterval(plan.variant.switch_interval)
    found = jobs.Jobs()
    found.start(
        "benchmark",
        lambda stop: work(plan),
        on_event=lambda phase: setattr(clock, "phase", phase),
        on_result=lambda units: done({"units": units}),
    )
    return found


def start_process(plan: Plan, clock: Clock, done: Callable[[dict[str, Any]], None]) -> object:
    """Work in another process, which is asked every 20 ms what is new."""
    from qtpy.QtCore import QTimer

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=in_process, args=(there, plan), daemon=True)
    child.start()
    timer = QTimer()

    def look() -> None:
        while here.poll():
            clock.phase, result = here.recv()
            if result is not None:
                timer.stop()
                child.join()
                done(result)
                return

    timer.timeout.connect(look)
    timer.start(20)
    return timer


def open_viewer(boxes: bool) -> tuple[Any, Any]:
    """Viewer with the stack, and its boxes if wanted, and the timer that moves its slider."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_boxprompt.demo import load_nuclei
    from napari_boxprompt.gui.backend import load_backend

    nuclei = load_nuclei()
    viewer = napari.Viewer()
    viewer.add_image(nuclei.image)
    if boxes:
        load_backend()
        corners = [
            [[b.plane.index[0], y, x] for y, x in ((b.y0, b.x0), (b.y0, b.x1), (b.y1, b.x1), (b.y1, b.x0))]
            for b in nuclei.experiment().boxes.boxes
        ]
        viewer.add_shapes(corners, shape_type="rectangle", face_color="transparent", edge_color="yellow")
    slider = QTimer()
    slider.timeout.connect(lambda: viewer.dims.set_current_step(0, (viewer.dims.current_step[0] + 1) % 60))
    slider.start(SLIDER_MS)
    return viewer, slider


def measure(plan: Plan) -> dict[str, Any]:
    """Run one variant in this process: the part that `--one` does."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    from napari_boxprompt.report import peak_rss_mb

    kept: list[object] = [open_viewer(plan.boxes)]
    clock, figures = Clock(), dict[str, Any]()

    def begin() -> None:
        clock.start()
        start = start_process if plan.variant.where == "process" else start_thread
        kept.append(start(plan, clock, done))

    def done(result: dict[str, Any]) -> None:
        clock.stop()
        figures.update(result, mb=peak_rss_mb() + result.get("more_mb", 0.0), ticks=clock.ticks)
        QApplication.quit()

    QTimer.singleShot(round(WARM_UP * 1000), begin)
    QApplication.instance().exec()
    return figures


def processor_seconds(process: psutil.Process) -> tuple[float, float]:
    """Processor time used by everybody, and by a process and what it has started."""
    machine, own = psutil.cpu_times(), 0.0
    for each in (process, *process.children(recursive=True)):
        used = each.cpu_times()
        own += used.user + used.system + used.children_user + used.children_system
    return sum(machine) - machine.idle - getattr(machine, "iowait", 0.0), own


def run_variant(name: str, more: list[str], most: float) -> dict[str, Any]:
    """Run one variant in a fresh process; note which seconds were quiet."""
    with tempfile.TemporaryDirectory() as folder:
        flag, out, quiet = Path(folder) / "wait", Path(folder) / "out.json", list[tuple[float, float]]()
        words = ["--one", name, "--flag", str(flag), "--json", str(out), *more]
        environment = os.environ | VARIANTS[name].environment
        child = subprocess.Popen([sys.executable, __file__, *words], env=environment)
        process, shares = psutil.Process(child.pid), []
        before, then = processor_seconds(process), time.perf_counter()
        while child.poll() is None:
            time.sleep(1.0)
            try:
                used, now = processor_seconds(process), time.perf_counter()
            except psutil.NoSuchProcess:
                continue
            others = (used[0] - before[0] - used[1] + before[1]) / (now - then) / psutil.cpu_count()
            shares.append(others)
            if others <= most:
                quiet.append((then, now))
                flag.unlink(missing_ok=True)
            else:
                flag.touch()
            before, then = used, now
        if child.returncode:
            raise SystemExit(child.returncode)
        return json.loads(out.read_text()) | {"quiet": quiet, "others": shares}


def summary(results: list[dict[str, Any]]) -> dict[str, float]:
    """Figures of one variant over all rounds: latencies in ms, seconds of a unit (median)."""
    latencies, lengths = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for result in results:
        edges = np.asarray(result["quiet"]).reshape(-1, 2)

        def is_quiet(first: float, last: float, edges: np.ndarray[Any, Any] = edges) -> bool:
            inside = np.minimum(edges[:, 1], last) - np.maximum(edges[:, 0], first)
            return bool(inside.clip(0).sum() >= 0.99 * (last - first))

        for phase, due, late in result["ticks"]:
            if phase != "paused" and is_quiet(due, due + max(late, 1e-6)):
                latencies[phase].append(late * 1000)
        for phase, first, last in result["units"]:
            if is_quiet(first, last):
                lengths[phase].append(last - first)
    if not latencies:
        return {}  # others needed the machine all the time
    values = np.concatenate([np.asarray(found) for found in latencies.values()])
    figures = dict(zip(COLUMNS[:4], [*np.percentile(values, [50, 95, 99]), values.max()], strict=True))
    figures |= {f"95 % {p}": float(np.percentile(latencies[p], 95)) for p in PHASES if latencies[p]}
    for column, phase in zip(UNITS, PHASES, strict=True):
        if lengths[phase]:
            figures[column] = float(np.median(lengths[phase]))
    figures["MB"] = float(np.median([result["mb"] for result in results]))
    figures["ticks"] = len(values)
    figures["others"] = float(np.mean([share for result in results for share in result["others"]]))
    return {name: float(value) for name, value in figures.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    """Rows of a Markdown table."""
    lines = ["| variant | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, figures in found.items():
        digits = {column: 2 if column.startswith("s/") else 0 for column in figures}
        cells = [f"{figures[c]:.{digits[c]}f}" if c in figures else "" for c in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all variants in turn, several times, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of training and prediction")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument(
        "--boxes", action="store_true", help="show the boxes too: drawing takes twice as long"
    )
    parser.add_argument("--quiet", type=float, default=0.15, help="part of the machine that others may use")
    parser.add_argument("--json", type=Path, help="file for the figures of the table")
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--flag", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        plan = Plan(VARIANTS[options.one], options.seconds, options.flag, options.boxes)
        options.json.write_text(json.dumps(measure(plan)))
        return
    more = ["--seconds", str(options.seconds), *(["--boxes"] if options.boxes else [])]
    runs = defaultdict[str, list[dict[str, Any]]](list)
    for _ in range(options.rounds):
        for name in options.only:
            runs[name].append(run_variant(name, more, options.quiet))
            found = {each: summary(results) for each, results in runs.items()}
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
