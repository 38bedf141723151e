"""PyTorch and what needs it, loaded by the first worker that asks: the viewer must not wait for it.

On Linux, Mesa's software renderer brings an LLVM library of its own into the process. The compiler Triton,
which CUDA builds of PyTorch and torchvision import, has another LLVM inside, and once a canvas has been
drawn, loading it takes the process down: the two find each other's symbols (pytorch/pytorch#96060 is of
this kind). So there Triton is loaded first, bound to its own symbols.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["load_backend", "load_triton_apart"]

_MAPS = Path("/proc/self/maps")
_LOCK = threading.Lock()


def load_backend() -> None:
    """Load PyTorch and `napari_boxprompt.api` safely, once; call it in a worker before importing them."""
    with _LOCK:
        load_triton_apart()
        importlib.import_module("napari_boxprompt.api")


@cache
def load_triton_apart(maps: Path = _MAPS) -> bool:
    """Load Triton so that it does not see the LLVM of a display driver; True where that was needed.

    Parameters
    ----------
    maps : pathlib.Path
        Where the kernel lists the libraries of the process.
    """
    if sys.platform != "linux" or "torchvision" in sys.modules or find_spec("triton") is None:
        return False
    if "libLLVM" not in maps.read_text(encoding="utf-8", errors="replace"):
        return False
    before = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    try:
        importlib.import_module("triton._C.libtriton")
    except ImportError:
        return False  # then PyTorch does without it too
    finally:
        sys.setdlopenflags(before)
    return True
