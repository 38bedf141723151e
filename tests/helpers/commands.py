"""Folders with images to work on, and the command line, in this process or as one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Rich and typer look at these when they are imported; what is printed shall not depend on where tests run.
os.environ["COLUMNS"] = "100"
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("NO_COLOR", None)
os.environ.pop("PY_COLORS", None)
os.environ.pop("GITHUB_ACTIONS", None)

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from napari_boxprompt.cli.app import app

QUICK = (
    *("--preset", "fast", "--set", "steps=12", "--set", "batch=2", "--set", "learning_rate=0.005"),
    *("--set", "ema=0.5", "--set", "augment.views=1", "--set", "hold_out=0", "--set", "tile=whole"),
    *("--set", "generator=light"),
)
"""Settings with which the real model learns discs in seconds."""

COMMAND = (sys.executable, "-m", "napari_boxprompt")
COLOURS = {"disc": (170, 170, 170), "red": (200, 60, 60), "green": (60, 200, 60)}
_BARS = ("Looking at images", "Training", "Predicting")

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """Lines of standard error without progress bars and colours."""
        # What is left after the colours moves the cursor from line to line.
        moved = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", colourless(self.err))
        lines = [line.strip() for line in moved.splitlines()]
        return [line for line in lines if line and not line.startswith(_BARS)]

    def ok(self) -> Ended:
        """Return itself if the command went well."""
        assert self.code == 0, self.err
        return self

    def sentence(self, code: int = 1) -> str:
        """Return the one sentence that a failed command has said."""
        assert self.code == code, (self.code, self.out, self.err)
        assert "Traceback" not in self.err
        assert len(self.messages) == 1, self.messages
        message = self.messages[0]
        assert message.startswith("Error: ")
        assert message.endswith((".", ".)"))
        return message


def colourless(text: str) -> str:
    """Return text without colours: typer uses them in continuous integration, whatever it writes to."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def boxprompt(*words: object) -> Ended:
    """Run a command in this process; an error that is not reported as one comes through."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app([str(word) for word in words], prog_name="boxprompt")
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Ended(code, colourless(out.getvalue()), colourless(err.getvalue()))


def process(*words: object, **environment: str) -> Ended:
    """Run a command as a process of its own, and wait."""
    ended = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )
    return Ended(ended.returncode, colourless(ended.stdout), colourless(ended.stderr))


@dataclass(frozen=True)
class Disc:
    """A bright disc; the centre in pixels, counted from the corner of the image."""

    y: float
    x: float
    radius: float
    name: str = "disc"

    @property
    def bbox(self) -> list[float]:
        """As COCO has it."""
        return [self.x - self.radius, self.y - self.radius, 2 * self.radius, 2 * self.radius]


@dataclass(frozen=True)
class Discs:
    """A folder with ``images/``, ``boxes.json``, ``labels/`` (YOLO), and what is on the images."""

    folder: Path
    shapes: dict[str, tuple[int, int]]
    discs: dict[str, list[Disc]]

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.folder / "images"

    @property
    def boxes(self) -> Path:
        """The COCO file."""
        return self.folder / "boxes.json"

    def mask(self, name: str, kind: str | None = None) -> npt.NDArray[np.bool_]:
        """Where the discs of a class are."""
        found = [disc for disc in self.discs[name] if kind in (None, disc.name)]
        return paint(self.shapes[name], found) > 0


def paint(shape: tuple[int, int], discs: Sequence[Disc]) -> Mask:
    """Number of the disc at each pixel, 0 for none."""
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None] + 0.5
    labels = np.zeros(shape, np.uint8)
    for number, disc in enumerate(discs, start=1):
        labels[np.hypot(rows - disc.y, columns - disc.x) < disc.radius] = number
    return labels


def draw(shape: tuple[int, int], discs: Sequence[Disc], rng: np.random.Generator) -> Mask:
    """Noisy RGB picture of discs."""
    picture = np.full((*shape, 3), 50.0)
    labels = paint(shape, discs)
    for number, disc in enumerate(discs, start=1):
        picture[labels == number] = COLOURS[disc.name]
    picture += rng.normal(0, 8, shape)[..., None]
    return picture.clip(0, 255).astype(np.uint8)


def place(
    shape: tuple[int, int], names: Sequence[str], rng: np.random.Generator, radius: float = 17.0
) -> list[Disc]:
    """Discs at random, side by side, so that their boxes do not touch."""
    width = shape[1] / len(names)
    assert width > 2.6 * radius
    found = []
    for i, name in enumerate(names):
        r = radius * rng.uniform(0.8, 1.2)
        middle = (i + 0.5) * width
        slack = width / 2 - r - 1
        x = middle + rng.uniform(-slack, slack)
        found.append(Disc(rng.uniform(r + 2, shape[0] - r - 2), x, r, name))
    return found


def make_discs(
    folder: Path,
    shapes: Sequence[tuple[int, int]] = ((112, 128), (112, 128), (128, 112), (112, 128)),
    *,
    names: Sequence[str] = ("disc", "disc"),
    colour: bool = False,
    suffix: str = ".png",
    seed: int = 0,
) -> Discs:
    """Write images of discs with their boxes."""
    rng = np.random.default_rng(seed)
    classes = list(dict.fromkeys(names))
    sizes, discs = {}, {}
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for i, shape in enumerate(shapes):
        name = f"image{i}{suffix}"
        sizes[name], discs[name] = shape, place(shape, names, rng)
        pixels = draw(shape, discs[name], rng)
        write_image(folder / "images" / name, pixels if colour else pixels[..., 0])
        scale = np.array([shape[1], shape[0], shape[1], shape[0]])
        lines = []
        for disc in discs[name]:
            values = np.array([disc.x, disc.y, 2 * disc.radius, 2 * disc.radius]) / scale
            lines.append(f"{classes.index(disc.name)} {' '.join(f'{v:.6f}' for v in values)}\n")
        (folder / "labels" / f"image{i}.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "labels" / "classes.txt").write_text("\n".join(classes), encoding="utf-8")
    result = Discs(folder, sizes, discs)
    write_boxes(result.boxes, {name: [(d.name, d.bbox) for d in found] for name, found in discs.items()})
    return result


def write_image(path: Path, pixels: npt.NDArray[np.generic]) -> None:
    """Write PNG or TIFF."""
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels)


def write_boxes(path: Path, boxes: dict[str, list[tuple[str, list[float]]]]) -> Path:
    """Write class names and boxes of images as plain COCO."""
    classes = sorted({kind for found in boxes.values() for kind, _ in found})
    rows = [(i, kind, bbox) for i, found in enumerate(boxes.values()) for kind, bbox in found]
    content = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(boxes)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": classes.index(kind), "bbox": bbox}
            for n, (i, kind, bbox) in enumerate(rows)
        ],
        "categories": [{"id": i, "name": kind} for i, kind in enumerate(classes)],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def everything(folder: Path) -> set[str]:
    """Names of all files and folders below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
