"""The embedding cache: exact bits, damage, eviction, folders that cannot be written, many writers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models import EmbeddingCache, embedding_key

KEY = "ab" * 32
BYTES = 4 * 8 * 8 * 4


def tensor(value: float = 0.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.arange(256.0).reshape(4, 8, 8) / 7 + value).to(dtype)


def key(number: int) -> str:
    return f"{number:064x}"


def same_bits(first: torch.Tensor | None, second: torch.Tensor) -> bool:
    return (
        first is not None
        and first.dtype == second.dtype
        and first.shape == second.shape
        and torch.equal(first.flatten().view(torch.uint8), second.flatten().view(torch.uint8))
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_round_trip_in_a_new_instance(tmp_path: Path, dtype: torch.dtype) -> None:
    kept = tensor(dtype=dtype)
    kept[0, 0, :3] = torch.tensor([float("nan"), float("-inf"), -0.0])
    EmbeddingCache(tmp_path).put(KEY, kept)
    assert same_bits(EmbeddingCache(tmp_path).get(KEY), kept)
    assert EmbeddingCache(tmp_path).get("cd" * 32) is None


def test_a_row_of_a_batch_is_copied(tmp_path: Path) -> None:
    batch = torch.rand(4, 8, 8, 8)
    cache = EmbeddingCache(None)
    cache.put(KEY, batch[1].transpose(0, 2))
    kept = cache.get(KEY)
    assert kept is not None
    assert kept.untyped_storage().nbytes() == kept.nbytes
    expected = batch[1].transpose(0, 2).clone()
    batch.zero_()
    assert torch.equal(kept, expected)


def test_memory_only_and_its_cap() -> None:
    cache = EmbeddingCache(None, max_memory_bytes=2 * BYTES)
    cache.put(key(1), tensor(1))
    cache.put(key(2), tensor(2))
    assert cache.get(key(1)) is not None
    cache.put(key(3), tensor(3))
    assert cache.get(key(2)) is None
    assert cache.get(key(1)) is not None
    cache.put(key(1), tensor(9))
    assert same_bits(cache.get(key(1)), tensor(9))
    assert cache.get(key(3)) is not None


@pytest.mark.parametrize("damage", ["bit", "cut", "no data", "no metadata", "bad metadata", "attributes"])
def test_damage_is_a_miss_and_is_repaired(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    EmbeddingCache(tmp_path).put(KEY, tensor())
    entry = tmp_path / "ab" / f"{KEY}.zarr"
    metadata = entry / "zarr.json"
    data = next(file for file in entry.rglob("*") if file.is_file() and file != metadata)
    content = bytearray(data.read_bytes())
    if damage == "bit":
        content[100] ^= 4
        data.write_bytes(content)
    elif damage == "cut":
        data.write_bytes(content[:-10])
    elif damage == "no data":
        data.unlink()
    elif damage == "no metadata":
        metadata.unlink()
    elif damage == "bad metadata":
        metadata.write_text(metadata.read_text()[:-30])
    else:
        metadata.write_text(metadata.read_text().replace("sha256", "sha999"))
    cache = EmbeddingCache(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
    assert "damaged" in caplog.text
    assert not entry.exists()
    cache.put(KEY, tensor())
    assert same_bits(EmbeddingCache(tmp_path).get(KEY), tensor())


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path).put(key(0), tensor())
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    shutil.rmtree(tmp_path / "00")
    cache = EmbeddingCache(tmp_path, max_disk_bytes=int(4.5 * size), max_memory_bytes=0)
    for number in range(4):
        cache.put(key(number), tensor(number))
        os.utime(tmp_path / "00" / f"{key(number)}.zarr", (1000 + number, 1000 + number))
    assert same_bits(cache.get(key(0)), tensor(0))  # used just now, so 1 is the oldest
    cache.put(key(4), tensor(4))
    left = [number for number in range(5) if cache.get(key(number)) is not None]
    assert left == [0, 2, 3, 4]


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / ".unfinished-a", tmp_path / ".unfinished-b"
    old.mkdir()
    new.mkdir()
    os.utime(old, (1000, 1000))
    EmbeddingCache(tmp_path).put(KEY, tensor())
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        cache.put(key(1), tensor(1))
        cache.put(key(2), tensor(2))
    assert len(caplog.records) == 1
    assert "memory only" in caplog.text
    assert same_bits(cache.get(key(1)), tensor(1))
    assert same_bits(cache.get(key(2)), tensor(2))


def test_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    EmbeddingCache(tmp_path).put(key(9), tensor(9))
    cache = EmbeddingCache(tmp_path)
    monkeypatch.setattr("zarr.create_array", full)
    with caplog.at_level(logging.WARNING):
        cache.put(key(1), tensor(1))
        cache.put(key(2), tensor(2))
    assert len(caplog.records) == 1
    assert same_bits(cache.get(key(2)), tensor(2))
    assert same_bits(cache.get(key(9)), tensor(9)), "what is on the disk is still read"
    assert not list(tmp_path.glob(".unfinished-*"))


def test_threads_write_the_same_keys(tmp_path: Path) -> None:
    def work(_: int) -> bool:
        cache = EmbeddingCache(tmp_path, max_memory_bytes=0)
        for number in range(5):
            cache.put(key(number), tensor(number))
        return all(same_bits(cache.get(key(number)), tensor(number)) for number in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert not list(tmp_path.glob(".unfinished-*"))


def put_many(folder: Path) -> bool:
    """Run in another process: write and read entries, some of which others write too."""
    cache = EmbeddingCache(folder, max_disk_bytes=30_000, max_memory_bytes=0)
    found = []
    for number in range(20):
        cache.put(key(number), tensor(number))
        found.append(cache.get(key(number)))
    return all(item is None or same_bits(item, tensor(number)) for number, item in enumerate(found))


def test_processes_write_and_evict_together(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert all(pool.map(put_many, [tmp_path, tmp_path]))
    assert not list(tmp_path.glob(".unfinished-*"))


def test_wrong_types_and_keys_are_refused() -> None:
    with pytest.raises(ModelError, match="cannot be cached"):
        EmbeddingCache(None).put(KEY, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ModelError, match="cannot be cached"):
        EmbeddingCache(None).put("../../etc", tensor())


@settings(max_examples=25, deadline=None)
@given(pixel=st.integers(0, 191), value=st.floats(0, 1, width=32))
def test_keys_differ_when_anything_does(pixel: int, value: float) -> None:
    image = torch.full((3, 8, 8), 0.5)
    first = embedding_key("aa", "32-true", image)
    changed = image.clone()
    changed.view(-1)[pixel] = value
    assert (embedding_key("aa", "32-true", changed) == first) == (value == 0.5)


def test_keys_hold_model_precision_and_shape() -> None:
    image = torch.rand(3, 8, 8)
    keys = {
        embedding_key("aa", "32-true", image),
        embedding_key("ab", "32-true", image),
        embedding_key("aa", "bf16-mixed", image),
        embedding_key("aa", "32-true", image.reshape(3, 4, 16)),
        embedding_key("aa", "32-true", image.transpose(1, 2)),
    }
    assert len(keys) == 5
    assert embedding_key("aa", "32-true", image.clone()) in keys
