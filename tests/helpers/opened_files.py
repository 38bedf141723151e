"""Run a benchmark and print, as JSON, which of its files were opened before and after training ended."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.conftest import quick_config
from tests.helpers.synthetic import FakeModel, tiny_generator_known

from napari_boxprompt.benchmarking import BenchmarkFolder, run_benchmark
from napari_boxprompt.devices import make_fabric
from napari_boxprompt.events import Finished
from napari_boxprompt.models.encoding import Encoder


def main(folder: Path) -> None:
    opened: dict[str, list[str]] = {"before": [], "after": []}
    when = "before"

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = Path(os.path.abspath(os.fsdecode(arguments[0])))
            if path.is_relative_to(folder):
                opened[when].append(path.relative_to(folder).as_posix())

    sys.addaudithook(hook)
    encoder = Encoder(FakeModel(), make_fabric("cpu", "32"))
    data = BenchmarkFolder(folder, "components", 1)
    with tiny_generator_known():
        for event in run_benchmark(data, quick_config(steps=3), encoder, shots=3, test=2, workers=2):
            if isinstance(event, Finished) and event.phase == "train":
                when = "after"
    sys.stdout.write(json.dumps(opened))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
