"""Downloads from a server on this machine that behaves, cuts, lies or knows no ranges."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest

from napari_boxprompt.errors import ModelError
from napari_boxprompt.models import base, download
from napari_boxprompt.models.download import fetch

CONTENT = bytes(range(256)) * 20_000  # 5.1 MB: several pieces


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    ranges: bool = True
    cut_at: int | None = None
    status: int | None = None
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if state.status is not None:
                self.send_error(state.status)
                return
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : state.cut_at])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/w.pth"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def model(url: str | None, content: bytes = CONTENT) -> base.ModelInfo:
    return base.ModelInfo(
        name="tiny",
        description="",
        architecture="vit_b",
        input_size=1024,
        sha256=hashlib.sha256(content).hexdigest() if content else "",
        url=url,
        filename="w.pth",
        size=len(CONTENT),
    )


def test_download_with_progress_and_then_without_network(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(model(server.url), tmp_path / "new" / "models", lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert fetch(model(server.url), path.parent) == path
    assert len(server.asked) == 1
    assert [file.name for file in path.parent.iterdir()] == ["w.pth"]


def test_a_cut_download_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cut_at = 3_000_000
    with pytest.raises(ModelError, match=r"cut after .* MB of 5\.1 MB; run it again"):
        fetch(model(server.url), tmp_path)
    had = (tmp_path / "w.pth.part").stat().st_size
    assert 0 < had <= 3_000_000
    server.cut_at = None
    seen: list[tuple[int, int]] = []
    path = fetch(model(server.url), tmp_path, lambda *step: seen.append(step))
    assert server.asked == [None, f"bytes={had}-"]
    assert seen[0][0] > had
    assert path.read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "w.pth.part").write_bytes(b"x" * 1000)
    assert fetch(model(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_everything_was_received_before_a_crash(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    assert fetch(model(server.url), tmp_path).read_bytes() == CONTENT


def test_too_much_was_received(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT + b"more")
    with pytest.raises(ModelError, match="try again"):
        fetch(model(server.url), tmp_path)
    assert fetch(model(server.url), tmp_path).read_bytes() == CONTENT


def test_wrong_hash(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hash is wrong") as caught:
        fetch(model(server.url, b"other"), tmp_path)
    assert hashlib.sha256(b"other").hexdigest() in str(caught.value)
    assert hashlib.sha256(CONTENT).hexdigest() in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_put_there_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("network used")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    (tmp_path / "w.pth").write_bytes(CONTENT)
    assert fetch(model("http://example.invalid/w.pth"), tmp_path) == tmp_path / "w.pth"
    (tmp_path / "w.pth").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=re.escape(hashlib.sha256(b"damaged").hexdigest())):
        fetch(model("http://example.invalid/w.pth"), tmp_path)


def test_no_connection(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ModelError, match="check the connection"):
            fetch(model(f"http://127.0.0.1:{port}/w.pth"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [404, 503])
def test_the_server_refuses(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(ModelError, match=f"answered {status}"):
        fetch(model(server.url), tmp_path)


def test_a_disk_known_to_be_too_small(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ModelError, match=r"too full for tiny.*5\.1 MB.*NAPARI_BOXPROMPT_HOME"):
        fetch(model(server.url), tmp_path)


def test_a_disk_that_fills_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    class Full:
        """A file on a disk with room for two pieces."""

        def __init__(self, file: IO[bytes]) -> None:
            self.file, self.pieces = file, 0

        def write(self, piece: bytes) -> int:
            self.pieces += 1
            if self.pieces > 2:
                raise OSError(28, "No space left on device")
            return self.file.write(piece)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    def open_full(self: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        file = opened(self, mode, *rest, **named)
        return Full(file) if self.suffix == ".part" else file

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(ModelError, match="NAPARI_BOXPROMPT_HOME"):
        fetch(model(server.url), tmp_path)
    monkeypatch.setattr(Path, "open", opened)
    assert fetch(model(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked[1] is not None, "what was written before is kept"


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be written"):
        fetch(model(server.url), tmp_path / "file" / "models")


def test_no_hash_no_download(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"get w\.pth from http://example\.invalid yourself and import it"):
        fetch(model("http://example.invalid", b""), tmp_path)
    with pytest.raises(ModelError, match="import it again"):
        fetch(model(None), tmp_path)
