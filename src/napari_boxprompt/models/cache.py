"""Image embeddings kept in memory and on disk, so that no image is encoded twice."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import torch
import zarr
import zarr.errors

from napari_boxprompt.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

__all__ = ["EmbeddingCache", "embedding_key"]

_LOGGER = logging.getLogger(__name__)
_GIB = 1 << 30
_KEEP = 0.9  # part of the cap that is left after an eviction, so that not every put evicts
_STALE_SECONDS = 86_400.0  # age at which an unfinished entry is one that a crash left behind
_TEMPORARY = ".unfinished-"
_DAMAGE = (OSError, ValueError, LookupError, TypeError, RuntimeError, zarr.errors.BaseZarrError)
# numpy has no bfloat16, so the bits are stored as integers of the same width.
_BITS: Mapping[torch.dtype, torch.dtype] = MappingProxyType(
    {torch.bfloat16: torch.uint16, torch.float16: torch.uint16, torch.float32: torch.uint32}
)
_DTYPES: Mapping[str, torch.dtype] = MappingProxyType({str(dtype): dtype for dtype in _BITS})


def embedding_key(model_sha256: str, precision: str, image: Tensor) -> str:
    """Name of an embedding in the cache.

    Parameters
    ----------
    model_sha256 : str
        Hash of the frozen model's weights.
    precision : str
        Number format of the encoder, for instance ``"32-true"``.
    image : torch.Tensor
        Exactly what the encoder is given.

    Returns
    -------
    str
        64 hexadecimal digits.

    Notes
    -----
    The exact model input is the strictest key there is: it holds the content of the plane, the
    normalisation, the tile and the working size, so none of them can be forgotten in the key.
    """
    pixels = image.detach().to("cpu").contiguous()
    digest = hashlib.sha256(f"{model_sha256}|{precision}|{pixels.dtype}|{tuple(pixels.shape)}|".encode())
    digest.update(_bytes_of(pixels.flatten().view(torch.uint8)))
    return digest.hexdigest()


class EmbeddingCache:
    """Least recently used cache of embeddings, in memory and on disk.

    Several processes may use one folder at once. An entry that is damaged in any way is deleted and
    counts as not there. When the folder cannot be written, or the disk is full, one warning is
    logged and embeddings are kept in memory only.

    Parameters
    ----------
    folder : pathlib.Path or None
        Where entries are kept; None for memory only.
    max_disk_bytes, max_memory_bytes : int
        Caps; the entries not used for longest are dropped first.
    """

    def __init__(
        self, folder: Path | None, max_disk_bytes: int = 8 * _GIB, max_memory_bytes: int = _GIB
    ) -> None:
        self._folder = folder
        self._max_disk_bytes = max_disk_bytes
        self._max_memory_bytes = max_memory_bytes
        self._memory: OrderedDict[str, Tensor] = OrderedDict()
        self._memory_bytes = 0
        self._disk_bytes: int | None = None  # not known before the first put
        self._writable = folder is not None
        self._lock = threading.Lock()

    def get(self, key: str) -> Tensor | None:
        """Return the embedding of a key with the type and bits it was put with, on the CPU, or None.

        The tensor is shared with the cache: do not change it in place.
        """
        with self._lock:
            tensor = self._memory.get(key)
            if tensor is not None:
                self._memory.move_to_end(key)
                return tensor
        tensor = self._read(key)
        if tensor is not None:
            self._remember(key, tensor)
        return tensor

    def put(self, key: str, tensor: Tensor) -> None:
        """Keep an embedding.

        Parameters
        ----------
        key : str
            From `embedding_key`.
        tensor : torch.Tensor
            bfloat16, float16 or float32, of any shape and on any device; it is copied.

        Raises
        ------
        ModelError
            The tensor has another type, or the key is not hexadecimal.
        """
        if tensor.dtype not in _BITS or not re.fullmatch(r"[0-9a-f]{8,}", key):
            raise ModelError(
                f"An embedding of type {tensor.dtype} with the key {key!r} cannot be cached; take the key "
                "from embedding_key and a tensor of bfloat16, float16 or float32."
            )
        # A clone, because a row of a batch would keep the whole batch in memory.
        kept = tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        self._remember(key, kept)
        self._write(key, kept)

    def _remember(self, key: str, tensor: Tensor) -> None:
        with self._lock:
            old = self._memory.pop(key, None)
            self._memory_bytes -= old.nbytes if old is not None else 0
            self._memory[key] = tensor
            self._memory_bytes += tensor.nbytes
            while self._memory_bytes > self._max_memory_bytes:
                self._memory_bytes -= self._memory.popitem(last=False)[1].nbytes

    def _entry(self, key: str) -> Path | None:
        return self._folder / key[:2] / f"{key}.zarr" if self._folder is not None else None

    def _read(self, key: str) -> Tensor | None:
        entry = self._entry(key)
        if entry is None or not entry.is_dir():
            return None
        try:
            tensor = _read_entry(entry)
        except _DAMAGE as error:
            _LOGGER.warning("Deleting the damaged embedding %s (%s); it is computed again.", entry, error)
            shutil.rmtree(entry, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):  # another process may have dropped it, or the folder is read-only
            os.utime(entry)
        return tensor

    def _write(self, key: str, tensor: Tensor) -> None:
        entry = self._entry(key)
        if entry is None or self._folder is None or not self._writable or entry.is_dir():
            return
        temporary: str | None = None
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            temporary = tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._folder)
            written = Path(temporary) / entry.name
            _write_entry(written, tensor)
            size = _size_of(written)
            with contextlib.suppress(FileExistsError):
                _rename(written, entry)
            self._make_room(size)
        except OSError as error:
            self._writable = False
            _LOGGER.warning(
                "Embeddings cannot be kept in %s (%s); they are kept in memory only and will be computed "
                "again next time.",
                self._folder,
                error,
            )
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    def _make_room(self, added: int) -> None:
        """Drop the entries unused for longest when the folder is over its cap."""
        if self._folder is None:
            return
        if self._disk_bytes is not None and self._disk_bytes + added <= self._max_disk_bytes:
            self._disk_bytes += added
            return
        entries = sorted(_entries(self._folder))
        total = sum(size for _, size, _ in entries)
        if total > self._max_disk_bytes:
            for _, size, entry in entries:
                if total <= _KEEP * self._max_disk_bytes:
                    break
                shutil.rmtree(entry, ignore_errors=True)
                total -= size
        self._disk_bytes = total


def _read_entry(entry: Path) -> Tensor:
    array = zarr.open_array(entry, mode="r")
    dtype = _DTYPES[str(array.attrs["dtype"])]
    bits = torch.from_numpy(cast("np.ndarray[Any, Any]", array[...]))
    if bits.dtype != _BITS[dtype] or hashlib.sha256(_bytes_of(bits)).hexdigest() != array.attrs["sha256"]:
        raise ValueError("wrong checksum")
    return bits.view(dtype)


def _write_entry(entry: Path, tensor: Tensor) -> None:
    bits = tensor.view(_BITS[tensor.dtype])
    zarr.create_array(
        entry,
        data=bits.numpy(),
        chunks=tuple(bits.shape),
        compressors=None,
        attributes={"dtype": str(tensor.dtype), "sha256": hashlib.sha256(_bytes_of(bits)).hexdigest()},
    )


def _bytes_of(bits: Tensor) -> memoryview:
    return bits.contiguous().numpy().data.cast("B")


def _rename(source: Path, target: Path) -> None:
    """Rename a folder; FileExistsError when another process was first."""
    try:
        source.rename(target)
    except OSError as error:
        if target.is_dir():
            raise FileExistsError(str(target)) from error
        raise


def _entries(folder: Path) -> list[tuple[float, int, Path]]:
    """Last use, bytes and path of every entry; what crashes left unfinished is deleted."""
    for left in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    found = []
    for entry in folder.glob("??/*.zarr"):
        with contextlib.suppress(OSError):  # dropped by another process meanwhile
            found.append((entry.stat().st_mtime, _size_of(entry), entry))
    return found


def _size_of(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
