from __future__ import annotations

import subprocess
import sys

import numpy as np

from napari_boxprompt import __version__
from napari_boxprompt.report import peak_rss_mb, table_rows, versions


def test_versions_say_what_ran() -> None:
    found = versions()
    assert found["napari-boxprompt"] == __version__
    assert found["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "not installed" not in found.values()


def test_peak_memory_grows_with_use() -> None:
    code = (
        "from napari_boxprompt.report import peak_rss_mb as peak\n"
        "first = peak(); block = bytearray(b'x' * 200_000_000); del block\n"
        "print(first, peak())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 5 < before < 200 < after < before + 600
    assert peak_rss_mb() > 20


def test_rows_of_a_report() -> None:
    report = {
        "dice": {"mean": 0.9, "sd": 0.05, "p5": 0.8, "p50": 0.91},
        "assd": {"mean": 1.234},
        "oracle_dice": 0.95,
        "no_prompt_dice": 0.1,
        "ratio": 0.947,
        "seconds": {"encode": 1.0, "train": 2.0, "predict": 3.0, "total": 6.5},
        "peak_rss_mb": 512.3,
        "n_boxes": 12,
        "n_train": 3,
        "n_test": 7,
        "model": "litemedsam",
        "preset": "fast",
        "device": "cpu",
        "tile": None,
    }
    found = dict(table_rows(report))
    assert found["boxes drawn"] == "12 on 3 planes"
    assert found["working scale"] == "whole images"
    assert found["seconds in all"] == "6.5"
    assert found["untouched planes scored"] == "7"
    assert "0.900" in found["Dice without prompts"]
    assert found["surface distance"] == "1.23 px"
    assert found["ratio to the oracle"] == "0.947"
    assert found["95 % interval over subjects"] == found["calibration error"] == "-"
    more = {
        "dice_interval": [0.85, 0.935],
        "reliability": {"test": {"ece": 0.0123}, "held": {"ece": 0.2}},
    }
    found = dict(table_rows({**report, **more}))
    assert found["95 % interval over subjects"] == "0.850 to 0.935"
    assert found["calibration error"] == "0.012 on untouched planes, 0.200 on held-out boxed planes"
    assert dict(table_rows({**report, "tile": 128.0}))["working scale"] == "tiles of 128 px"
