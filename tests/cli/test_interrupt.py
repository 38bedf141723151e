"""Ctrl-C, with real signals sent to a real process that works with the real weights."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from tests.helpers.commands import COMMAND, QUICK, Discs, Ended, boxprompt, everything, process
from typer.testing import CliRunner

from napari_boxprompt.images import Images
from napari_boxprompt.prediction import Prediction

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process without its console"
)

PATIENCE = 180.0
ENDLESS = (*QUICK, "--set", "steps=100000", "--set", "batch=1")
MODEL = {"model", *(f"model/{name}" for name in ("model.json", "weights.safetensors", "resume.safetensors"))}


class Running:
    """A command that shows its progress as on a terminal."""

    def __init__(self, words: tuple[object, ...]) -> None:
        self._shown = ""
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200", "TTY_COMPATIBLE": "1"},
            # Whoever starts the tests in the background passes on that Ctrl-C is ignored.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        while piece := os.read(self._process.stderr.fileno(), 4096):
            self._shown += piece.decode("utf-8", "replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something is shown."""
        limit = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self._plain())) is None:
            assert self._process.poll() is None, self._plain()
            assert time.monotonic() < limit, self._plain()
            time.sleep(0.02)
        return found

    def _plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._shown)

    def interrupt(self) -> Ended:
        """Press Ctrl-C and wait for the end."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        return Ended(code, self._process.stdout.read().decode(), self._shown)

    def end(self) -> None:
        """Make sure that nothing goes on."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def running(*words: object) -> Iterator[Running]:
    command = Running(words)
    try:
        yield command
    finally:
        command.end()


def said(ended: Ended) -> str:
    assert ended.code == 130, ended.err
    assert "Traceback" not in ended.err
    messages = [line for line in ended.messages if "No image is marked" not in line]
    assert len(messages) == 1, messages
    assert messages[0].endswith(".")
    return messages[0]


def test_while_looking_at_images(discs: Discs, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    many = (*ENDLESS, "--complete", "--set", "augment.views=60", "--set", "max_encodings=1000", "--seed", 5)
    with running("train", discs.images, "--boxes", discs.boxes, "--out", out, *many) as command:
        command.wait_for(r"Looking at images\D+\d+/244")
        message = said(command.interrupt())
    assert message == "Stopped. Files written before stay; no file is half-written."
    assert everything(tmp_path) <= {"new"}
    assert not list((home / "embeddings").glob(".*"))


def test_while_training_and_going_on(discs: Discs, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    train = ("train", discs.images, "--boxes", discs.boxes, "--complete", "--out", out, *ENDLESS)
    with running(*train) as command:
        command.wait_for(r"Training\D+[1-9]\d*/100000")
        message = said(command.interrupt())
    stopped = re.match(r"Stopped at step (\d+) of 100000; the best model so far is in (.*), and ", message)
    assert stopped is not None, message
    assert stopped[2] == str(out)
    assert "--resume goes on" in message
    assert everything(tmp_path) == MODEL
    predicted = ("predict", out, discs.images / "image0.png", "--out", tmp_path / "masks")
    boxprompt(*predicted).ok()

    with running(*train, "--resume") as command:
        shown = command.wait_for(r"Training\D+([1-9]\d*)/100000")
        again = re.match(r"Stopped at step (\d+) ", said(command.interrupt()))
    assert again is not None
    assert int(stopped[1]) < int(shown[1]) <= int(again[1])
    assert everything(tmp_path) - {name for name in everything(tmp_path) if "masks" in name} == MODEL

    boxprompt(*train, "--resume", "--set", f"steps={int(again[1]) + 1}").ok()
    assert everything(out) == {"model.json", "weights.safetensors"}, "a finished training is not resumed"


def test_while_predicting_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In this process: planes of the real model are too quick for a signal to come between two of them.
    import napari_boxprompt.api
    from napari_boxprompt.cli.app import app

    def predict(_: object, images: Images, **__: object) -> Iterator[Prediction]:
        for plane in images.planes[:2]:
            ones = np.ones((40, 50), np.uint8)
            yield Prediction(plane, ones, ones, ones.astype(np.uint32), ())
        raise KeyboardInterrupt

    model = SimpleNamespace(model=SimpleNamespace(classes=("cell",), exclusive=True))
    monkeypatch.setattr(napari_boxprompt.api, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(napari_boxprompt.api, "predict", predict)
    source, out = tmp_path / "s.tif", tmp_path / "out"
    tifffile.imwrite(source, np.zeros((5, 40, 50), np.uint8), photometric="minisblack")
    result = CliRunner().invoke(app, ["predict", "model", str(source), "--out", str(out)])
    assert result.exit_code == 130, result.output
    assert "2 of 5 planes of s.tif are in s_2_of_5_planes_mask.tif." in result.stderr
    assert everything(out) == {f"s_2_of_5_planes_{end}" for end in ("mask.tif", "objects.tif", "objects.csv")}


def test_before_anything_is_done(tmp_path: Path) -> None:
    # Typer is among the first things to be loaded; a real signal could come before Python listens to it.
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    ended = process("train", "images", "--boxes", "boxes.json", "--out", "model", PYTHONPATH=str(tmp_path))
    assert (ended.code, ended.messages) == (130, ["Stopped before anything was done."])
