"""Memory and time for one plane far larger than a laptop's memory likes.

    python benchmarks/large_image.py MODEL [--side 10000] [--tile 1024]

MODEL is the folder of a trained model, for instance `demo-output/model`. The plane is made by repeating a
plane of the nuclei stack, written as an uncompressed TIFF and read from there. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_boxprompt import load_model, open_images, predict
from napari_boxprompt.demo import load_nuclei
from napari_boxprompt.models import EmbeddingCache
from napari_boxprompt.report import peak_rss_mb


def main() -> None:
    """Predict once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument(
        "--tile", type=float, default=1024, help="side of a tile in pixels: the working scale"
    )
    options = parser.parse_args()
    trained = load_model(options.model, cache=EmbeddingCache(None, max_memory_bytes=0))
    trained = dataclasses.replace(trained, model=dataclasses.replace(trained.model, tile=options.tile))
    plane = load_nuclei().image[34]
    repeats = -(-options.side // plane.shape[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.tif"
        tifffile.imwrite(path, np.tile(plane, (repeats, repeats))[: options.side, : options.side])
        del plane
        before, started = peak_rss_mb(), time.perf_counter()
        tiles = 0

        def count(done: int, total: int) -> None:
            nonlocal tiles
            tiles = total

        (found,) = predict(trained, open_images(path), on_tile=count)
        seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "side": options.side,
                "tile": options.tile,
                "tiles": tiles,
                "objects": len(found.objects),
                "seconds": round(seconds, 1),
                "seconds_per_megapixel": round(seconds / (options.side**2 / 1e6), 3),
                "peak_rss_mb": round(peak_rss_mb()),
                "peak_rss_mb_before": round(before),
            }
        )
    )


if __name__ == "__main__":
    main()
