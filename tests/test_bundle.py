from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers.synthetic import FakeModel

from napari_boxprompt import bundle
from napari_boxprompt.bundle import (
    FORMAT_VERSION,
    check_target,
    load_bundle,
    load_state,
    same_model,
    save_bundle,
)
from napari_boxprompt.config import make_config
from napari_boxprompt.errors import BundleError, OutputError
from napari_boxprompt.images import Normalization
from napari_boxprompt.prompting import PromptModel, PromptNet

FILES = {"model.json", "weights.safetensors"}
MAPS = Path("/proc/self/maps")


@pytest.fixture
def model(frozen: FakeModel) -> PromptModel:
    net = PromptNet(frozen, "light", 1)
    for weight in net.parameters():
        torch.nn.init.normal_(weight)
    return PromptModel(
        weights={name: value.clone() for name, value in net.state_dict().items()},
        classes=("nucleus",),
        exclusive=False,
        config=make_config("best", seed=7, loss={"size": 0.5}, augment={"mirror": "yes"}, tile=96.0),
        normalization=Normalization(low=(1.5,), high=(2.25,), gamma=0.7),
        tile=96.0,
        side=1234.5,
        frozen_sha256="ab" * 32,
        object_area={"nucleus": (10.0, 20.5, 31.25)},
        record={"steps": 12, "validation": {"pseudo_dice": 0.75}, "pixel_types": ["uint8"]},
    )


@pytest.fixture
def saved(model: PromptModel, tmp_path: Path) -> Path:
    return save_bundle(model, tmp_path / "model")


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    description = json.loads(path.read_text("utf-8"))
    change(description)
    path.write_text(json.dumps(description), "utf-8")


# --- round trip ---------------------------------------------------------------------------------------------


def test_round_trip_is_exact(model: PromptModel, saved: Path) -> None:
    loaded = load_bundle(saved)
    assert same(loaded.weights, model.weights)
    for name in ("classes", "exclusive", "config", "normalization", "tile", "side", "frozen_sha256"):
        assert getattr(loaded, name) == getattr(model, name), name
    assert {key: tuple(value) for key, value in loaded.object_area.items()} == model.object_area
    assert loaded.record["steps"] == 12
    assert loaded.record["validation"] == {"pseudo_dice": 0.75}
    assert same_model(loaded, model)
    assert loaded.pixel_types == model.pixel_types == ("uint8",)
    assert set(loaded.record["versions"]) == {"napari-boxprompt", "torch"}
    again = load_bundle(save_bundle(loaded, saved.parent / "again"))
    assert same(again.weights, model.weights)
    assert replace(again, weights={}) == replace(loaded, weights={})


def test_models_differ_by_weights_names_and_history(model: PromptModel) -> None:
    name, value = next(iter(model.weights.items()))
    assert same_model(model, replace(model, weights=dict(model.weights)))
    assert not same_model(model, replace(model, weights={**model.weights, name: value + 1}))
    assert not same_model(model, replace(model, weights={**model.weights, "more": value}))
    assert not same_model(model, replace(model, classes=("cell",)))
    assert not same_model(model, replace(model, record={"steps": 13}))


def test_model_of_one_class_is_small_and_holds_no_pickle(saved: Path) -> None:
    assert {entry.name for entry in saved.iterdir()} == FILES
    assert sum(entry.stat().st_size for entry in saved.iterdir()) < 2_000_000
    assert json.loads((saved / "model.json").read_text("utf-8"))["format"] == FORMAT_VERSION
    for entry in saved.iterdir():
        assert entry.read_bytes()[:2] not in (b"PK", b"\x80\x02")


def test_whole_images_and_several_classes(frozen: FakeModel, model: PromptModel, tmp_path: Path) -> None:
    weights = PromptNet(frozen, "light", 2).state_dict()
    two = replace(model, weights=weights, classes=("a", "é b"), exclusive=True, tile=None, object_area={})
    loaded = load_bundle(save_bundle(two, tmp_path / "two"))
    assert (loaded.classes, loaded.exclusive, loaded.tile, loaded.object_area) == (
        ("a", "é b"),
        True,
        None,
        {},
    )
    assert same(loaded.weights, weights)


def test_frozen_model_is_named_by_its_file(model: PromptModel, tmp_path: Path) -> None:
    config = model.config.model_copy(update={"model": "/home/someone/secret/weights.pth"})
    folder = save_bundle(replace(model, config=config), tmp_path / "model")
    named = json.loads((folder / "model.json").read_text("utf-8"))["frozen"]["name"]
    assert named == "weights.pth"


def test_state_is_saved_beside_the_model(model: PromptModel, tmp_path: Path) -> None:
    state = {"net.a": torch.rand(3, 4).T, "progress": torch.tensor([3.0, -torch.inf], dtype=torch.float64)}
    folder = save_bundle(model, tmp_path / "model", state)
    assert same(load_state(folder), state)
    assert same(load_bundle(folder).weights, model.weights)
    save_bundle(model, folder)
    with pytest.raises(BundleError, match="no stopped training"):
        load_state(folder)


def test_saving_again_replaces_everything(model: PromptModel, saved: Path) -> None:
    other = replace(model, weights={name: value + 1 for name, value in model.weights.items()}, classes=("b",))
    save_bundle(other, saved)
    assert load_bundle(saved).classes == ("b",)
    assert same(load_bundle(saved).weights, other.weights)
    assert [entry.name for entry in saved.parent.iterdir()] == ["model"]


def test_folders_on_the_way_are_made(model: PromptModel, tmp_path: Path) -> None:
    folder = save_bundle(model, str(tmp_path / "some" / "where" / "model.v2"))
    assert load_bundle(folder).classes == model.classes


# --- what cannot be read ------------------------------------------------------------------------------------


def test_newer_version_is_refused(saved: Path) -> None:
    def newer(description: dict[str, Any]) -> None:
        description["format"] = FORMAT_VERSION + 1
        description["record"]["versions"]["napari-boxprompt"] = "9.9"
        del description["config"]

    rewrite(saved, newer)
    with pytest.raises(BundleError, match=r"napari-boxprompt 9\.9, which is newer.*pip install -U"):
        load_bundle(saved)


@pytest.mark.parametrize(
    ("versions", "named"),
    [({"napari-boxprompt": "9.9"}, r"9\.9"), ({}, "of another version"), (3, "of another")],
)
def test_a_setting_of_another_version_is_no_damage(saved: Path, versions: object, named: str) -> None:
    def other(description: dict[str, Any]) -> None:
        description["config"]["loss"]["sharpness"] = 0.1
        description["record"]["versions"] = versions

    rewrite(saved, other)
    message = rf"saved by napari-boxprompt {named}.*does not know, 'loss\.sharpness'; run 'pip install -U"
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(saved)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["format", "frozen", "classes", "exclusive", "tile", "side", "normalization", "config", "record"]
)
def test_missing_entries(saved: Path, key: str) -> None:
    rewrite(saved, lambda description: description.pop(key))
    with pytest.raises(BundleError, match=rf"model\.json is damaged.*{key}"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "new"},
        {"format": None},
        {"frozen": "litemedsam"},
        {"classes": 3},
        {"normalization": {"low": [0], "high": [0]}},
        {"config": {"steps": -1}},
        {"config": {"unknown": 1}},
        {"format": FORMAT_VERSION + 1, "record": None},
    ],
)
def test_entries_that_make_no_sense(saved: Path, change: dict[str, Any]) -> None:
    rewrite(saved, lambda description: description.update(change))
    with pytest.raises(BundleError):
        load_bundle(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"null"])
def test_damaged_description(saved: Path, content: bytes) -> None:
    (saved / "model.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.json"):
        load_bundle(saved)


@pytest.mark.parametrize("damage", ["empty", "short", "garbage", "missing", "pickle"])
def test_damaged_weights(saved: Path, damage: str) -> None:
    path = saved / "weights.safetensors"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "pickle":
        torch.save({"a": torch.zeros(3)}, path)
    else:
        path.write_bytes({"empty": b"", "short": content[: len(content) // 2], "garbage": b"x" * 500}[damage])
    with pytest.raises(BundleError, match=r"weights\.safetensors is (damaged|missing)"):
        load_bundle(saved)


def test_damaged_state(saved: Path) -> None:
    (saved / "resume.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(BundleError, match="is damaged"):
        load_state(saved)


def test_no_model_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BundleError):
            load_bundle(path)


# --- what cannot be written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["other file", "file", "folder in it"])
def test_foreign_folders_are_refused(model: PromptModel, saved: Path, kind: str) -> None:
    target = saved
    if kind == "file":
        target = saved.parent / "notes.txt"
        target.write_text("mine", "utf-8")
    elif kind == "folder in it":
        (saved / "data").mkdir()
    else:
        (saved / "notes.txt").write_text("mine", "utf-8")
    before = sorted(saved.parent.rglob("*"))
    for refused in (lambda: save_bundle(model, target), lambda: check_target(target)):
        with pytest.raises(OutputError, match="not a saved model"):
            refused()
    assert sorted(saved.parent.rglob("*")) == before


def test_empty_and_older_folders_are_accepted(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (saved, tmp_path / "empty", tmp_path / "new" / "deep"):
        check_target(target)
    assert not (tmp_path / "new" / "deep").exists()


@pytest.mark.skipif(not MAPS.exists(), reason="tells which files are mapped")
def test_a_model_in_use_does_not_hold_its_files(model: PromptModel, saved: Path) -> None:
    save_bundle(model, saved, {"a": torch.arange(3.0)})
    loaded, state = load_bundle(saved), load_state(saved)
    assert saved.name not in {Path(line.split()[-1]).parent.name for line in MAPS.read_text().splitlines()}
    save_bundle(replace(model, weights={}), saved, {"a": torch.zeros(3)})
    assert same(loaded.weights, model.weights)
    assert state["a"].tolist() == [0, 1, 2]


def assert_untouched(saved: Path, model: PromptModel) -> None:
    assert [entry.name for entry in saved.parent.iterdir()] == ["model"]
    assert {entry.name for entry in saved.iterdir()} == FILES
    assert same(load_bundle(saved).weights, model.weights)


@pytest.mark.parametrize("name", ["weights.safetensors", "resume.safetensors", "model.json"])
def test_full_disk_leaves_the_old_model(
    model: PromptModel, saved: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write = Path.write_bytes

    def refuse(self: Path, data: bytes) -> int:
        if self.name.startswith(f".{name.partition('.')[0]}"):
            write(self, data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    new = replace(model, weights={key: value + 1 for key, value in model.weights.items()})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(OutputError, match="disk is full"):
            save_bundle(new, saved, {"a": torch.zeros(3)})
    assert_untouched(saved, model)


def test_full_disk_before_anything_is_written(
    model: PromptModel, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(bundle.tempfile, "TemporaryDirectory", refuse)
        with pytest.raises(OutputError, match="No space left"):
            save_bundle(model, saved)
    assert_untouched(saved, model)


@pytest.mark.parametrize("refused", ["old", "new"])
def test_folder_that_cannot_be_renamed_stays(
    model: PromptModel, saved: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if (
            (self.name == "new") == (refused == "new")
            and target.name in ("old", "model")
            and self.name != "old"
        ):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    new = replace(model, weights={key: value + 1 for key, value in model.weights.items()})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OutputError, match="could not be written"):
            save_bundle(new, saved)
    assert_untouched(saved, model)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(model: PromptModel, saved: Path) -> None:
    saved.parent.chmod(0o500)
    try:
        for refused in (lambda: save_bundle(model, saved), lambda: check_target(saved)):
            with pytest.raises(OutputError, match="cannot be written"):
                refused()
    finally:
        saved.parent.chmod(0o700)
    assert_untouched(saved, model)


def test_place_that_cannot_be_written(
    model: PromptModel, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(bundle.tempfile, "TemporaryFile", refuse)
        with pytest.raises(OutputError, match=r"cannot be written \(Read-only"):
            save_bundle(model, saved)
    assert_untouched(saved, model)
    with pytest.raises(OutputError, match="cannot be written"):
        check_target(saved / "model.json" / "inside")
