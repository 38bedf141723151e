from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers.synthetic import make_scene, quick_config

from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.training import fit

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="several processes are supported on Linux")
def test_two_processes_train_one_model(tmp_path: Path, encoder: Encoder, tiny_generator: None) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "helpers" / "two_processes.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    worlds = {(tmp_path / f"world-{rank}.txt").read_text(encoding="utf-8") for rank in range(2)}
    assert worlds == {"2 0", "2 1"}
    for variant in ("views", "embedding"):
        first, second = (load_file(tmp_path / f"{variant}-{rank}.safetensors") for rank in range(2))
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []

    # Each process draws other views, so two of them learn something else than one.
    scene = make_scene(((96, 96),) * 4, objects=2)
    config = quick_config(steps=4, validate_every=2)
    alone = fit(scene.images, scene.boxes, config, encoder, Normalization.fit(scene.images))
    list(alone)
    pair = load_file(tmp_path / "views-0.safetensors")
    name = "generators.0.output.weight"
    assert not torch.equal(alone.model.weights[name], pair[f"model.{name}"])
    torch.testing.assert_close(alone.model.weights[name], pair[f"model.{name}"], rtol=0, atol=0.1)
