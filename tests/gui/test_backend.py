"""PyTorch is loaded so that it and the display driver do not take the process down."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("napari", reason="napari is not installed")

from napari_boxprompt.gui.backend import load_triton_apart


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_done_where_torch_is_loaded_already() -> None:
    import torchvision  # noqa: F401

    load_triton_apart.cache_clear()
    assert not load_triton_apart()


@pytest.mark.parametrize("maps", ["", "/usr/lib/libGL.so\n"])
def test_nothing_is_done_without_another_llvm(tmp_path: Path, maps: str) -> None:
    (tmp_path / "maps").write_text(maps)
    code = f"""
import sys
from pathlib import Path
from napari_boxprompt.gui.backend import load_triton_apart
assert not load_triton_apart(Path({str(tmp_path / "maps")!r}))
assert "triton" not in sys.modules
"""
    run(code)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists its libraries in /proc")
def test_a_drawn_canvas_and_pytorch_live_in_one_process() -> None:
    # Without load_triton_apart this crashes where OpenGL is drawn in software and torch was built for CUDA.
    code = """
import numpy as np, napari
viewer = napari.Viewer(show=False)
viewer.add_image(np.random.default_rng(0).random((64, 64)))
viewer.screenshot(canvas_only=True, flash=False)
from napari_boxprompt.gui.backend import load_backend
load_backend()
from napari_boxprompt.api import make_encoder
import torch
print(tuple(make_encoder(device="cpu").encode([torch.rand(3, 256, 256)]).shape))
viewer.add_image(np.random.default_rng(0).random((64, 64)))
viewer.screenshot(canvas_only=True, flash=False)
viewer.close()
"""
    assert "(1, 256, 64, 64)" in run(code)


def test_the_widget_opens_without_pytorch() -> None:
    code = """
import sys
import napari_boxprompt.gui.widget, napari_boxprompt.gui.samples, napari_boxprompt.gui.commands
assert "torch" not in sys.modules, "the viewer would wait for it"
"""
    run(code)
