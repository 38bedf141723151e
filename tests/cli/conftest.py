"""What the tests of the command line share: a place for caches, and one model trained with real weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.commands import QUICK, Discs, boxprompt, make_discs


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of models and embeddings, also for processes that are started."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_BOXPROMPT_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def discs(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Discs:
    """Four grey images with two boxed discs each."""
    return make_discs(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="session")
def unseen(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Discs:
    """Three images of other sizes that no training sees."""
    return make_discs(tmp_path_factory.mktemp("unseen"), ((96, 128), (128, 128), (120, 104)), seed=7)


@pytest.fixture(scope="session")
def model(discs: Discs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on `discs` from COCO, with the real frozen model."""
    out = tmp_path_factory.mktemp("trained") / "model"
    boxprompt("train", discs.images, "--boxes", discs.boxes, "--complete", "--out", out, *QUICK).ok()
    return out
