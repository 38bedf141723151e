"""Downloads of weights: verified, resumed after a cut, with sentences for what can go wrong."""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import pooch
import requests

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models.checkpoints import file_sha256
from napari_boxprompt.models.home import HOME_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_boxprompt.models.base import ModelInfo

__all__ = ["check_hash", "disk_error", "fetch"]

_CHUNK_BYTES = 1 << 18
_TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between two pieces of data
_FULL = (errno.ENOSPC, errno.EDQUOT)


def fetch(info: ModelInfo, folder: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Path of a model's weights file, downloaded if it is not there.

    Parameters
    ----------
    info : ModelInfo
        The model; a file called ``info.filename`` in the folder is used without any network.
    folder : pathlib.Path
        Folder of weights files; created when it is missing.
    progress : callable, optional
        Called with bytes done and bytes in all (0 when the server does not say).

    Returns
    -------
    pathlib.Path
        The file, of which the hash has been checked now.

    Raises
    ------
    ModelError
        No address or hash is known, the hash is wrong, the connection was cut or refused, or the
        folder cannot be written or is full. After a cut, what was received stays in
        ``<filename>.part`` and the next call goes on from there.
    """
    path = folder / info.filename
    if path.is_file():
        check_hash(info, path)
        return path
    if info.url is None:
        raise ModelError(f"The file of {info.name} is no longer at {path}; import it again.")
    if not info.sha256:
        raise ModelError(
            f"{info.name} is not there and cannot be downloaded safely, as no hash of it is published; get "
            f"{info.filename} from {info.url} yourself and import it, or put it into {folder}."
        )
    source = pooch.create(
        path=folder,
        base_url="",
        registry={info.filename: f"sha256:{info.sha256}"},
        urls={info.filename: info.url},
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        source.fetch(info.filename, downloader=_Resuming(info, path, progress))
    except ValueError as error:  # what pooch raises for a wrong hash, after removing the file
        raise ModelError(
            f"The download of {info.name} was removed because its hash is wrong; try again ({error})."
        ) from error
    except OSError as error:
        raise disk_error(info.name, info.size, folder, error) from error
    return path


def check_hash(info: ModelInfo, path: Path) -> str:
    """SHA-256 of a file, compared with the one in ``info`` unless that is empty.

    Raises
    ------
    ModelError
        They differ, or the file cannot be read.
    """
    found = file_sha256(path)
    if info.sha256 and found != info.sha256:
        raise ModelError(
            f"The weights file {path} has the SHA-256 {found} instead of {info.sha256}, so it is damaged or "
            "another file; delete it and load the model again."
        )
    return found


def disk_error(what: str, size: int, folder: Path, error: OSError) -> ModelError:
    """Say what to do about a folder of models that is full or cannot be written.

    Parameters
    ----------
    what : str
        What was being written.
    size : int
        Bytes it takes in all, 0 when not known.
    folder : pathlib.Path
        Where it was being written.
    error : OSError
        What happened.
    """
    if error.errno in _FULL:
        need = f", which takes {_megabytes(size)}" if size else ""
        return ModelError(
            f"The disk of {folder} is too full for {what}{need}; free some space, or set the environment "
            f"variable {HOME_VARIABLE} to a folder on another disk, and try again."
        )
    return ModelError(
        f"{folder} cannot be written ({error.strerror or error}); set the environment variable "
        f"{HOME_VARIABLE} to a folder that can."
    )


@dataclass(frozen=True)
class _Resuming:
    """Downloader for pooch that keeps ``<filename>.part`` and goes on where it ends."""

    info: ModelInfo
    path: Path
    progress: Callable[[int, int], None] | None

    def __call__(self, url: str, output_file: str, _: object) -> None:
        part = self.path.with_name(f"{self.path.name}.part")
        done, total = part.stat().st_size if part.is_file() else 0, 0
        try:
            with _open(url, done) as response:
                if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    total = _range_total(response)
                else:
                    done, total = self._receive(response, part, done)
        except requests.RequestException as error:
            raise self._cut(done, total, url) from error
        if total and done < total:
            raise self._cut(done, total, url)
        if total and done > total:
            part.unlink()
            raise self._cut(0, total, url)
        part.replace(output_file)

    def _receive(self, response: requests.Response, part: Path, done: int) -> tuple[int, int]:
        """Write what the server sends; bytes on disk and bytes in all."""
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise ModelError(
                f"The server of {self.info.name} answered {response.status_code} ({response.reason}) for "
                f"{response.url}; try again later, or get the file another way and import it."
            )
        resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
        done = done if resumed else 0
        length = int(response.headers.get("Content-Length", "0"))
        total = done + length if length else 0
        free = shutil.disk_usage(part.parent).free
        if length > free:
            raise OSError(errno.ENOSPC, f"{length} bytes are needed and {free} are free")
        with part.open("ab" if resumed else "wb") as file:
            try:
                for piece in response.iter_content(_CHUNK_BYTES):
                    file.write(piece)
                    done += len(piece)
                    if self.progress is not None:
                        self.progress(done, total)
            except requests.RequestException as error:
                raise self._cut(done, total, response.url) from error
        return done, total

    def _cut(self, done: int, total: int, url: str) -> ModelError:
        if not done:
            return ModelError(
                f"{self.info.name} could not be downloaded from {url}; check the connection and try again, "
                f"or get {self.path.name} another way and put it into {self.path.parent}."
            )
        of_all = f" of {_megabytes(total)}" if total else ""
        return ModelError(
            f"The download of {self.info.name} was cut after {_megabytes(done)}{of_all}; run it again and it "
            "goes on from there."
        )


def _open(url: str, start: int) -> requests.Response:
    # Without "identity" a server may compress, and then lengths and ranges count other bytes.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS)


def _range_total(response: requests.Response) -> int:
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
