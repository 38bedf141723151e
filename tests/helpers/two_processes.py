"""Train on a synthetic scene in this process, one of several, and save what came out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tests.helpers.synthetic import FakeModel, make_scene, quick_config, tiny_generator_known

from napari_boxprompt.devices import make_fabric
from napari_boxprompt.images import Normalization
from napari_boxprompt.models.encoding import Encoder
from napari_boxprompt.training import fit


def main(folder: Path) -> None:
    fabric = make_fabric("cpu", "32")
    scene = make_scene(((96, 96),) * 4, objects=2)
    encoder = Encoder(FakeModel(), fabric)
    rank = os.environ["RANK"]
    variants: dict[str, Any] = {"views": {}, "embedding": {"loss": {"consistency_of": "embedding"}}}
    with tiny_generator_known():
        for name, changes in variants.items():
            config = quick_config(steps=4, validate_every=2, **changes)
            run = fit(scene.images, scene.boxes, config, encoder, Normalization.fit(scene.images))
            list(run)
            state = run.state() | {f"model.{key}": value.clone() for key, value in run.model.weights.items()}
            save_file(state, folder / f"{name}-{rank}.safetensors")
    (folder / f"world-{rank}.txt").write_text(f"{fabric.world_size} {fabric.global_rank}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
