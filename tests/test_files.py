from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from napari_boxprompt.errors import OutputError
from napari_boxprompt.files import atomic_path, atomic_write_bytes


def test_writes_replaces_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "result.json"
    atomic_write_bytes(target, b"first")
    atomic_write_bytes(target, b"second")
    assert target.read_bytes() == b"second"
    assert [entry.name for entry in target.parent.iterdir()] == ["result.json"]


def test_temporary_keeps_folder_and_suffix(tmp_path):
    with atomic_path(tmp_path / "mask.tif") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tif"
        temporary.write_bytes(b"x")
    assert (tmp_path / "mask.tif").read_bytes() == b"x"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_interruption_keeps_the_old_file(tmp_path, error):
    target = tmp_path / "a.json"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(OutputError, match=r"a\.json"), atomic_path(tmp_path / "a.json"):
        pass


def test_target_is_a_folder(tmp_path):
    with pytest.raises(OutputError, match="folder of that name"):
        atomic_write_bytes(tmp_path, b"x")


def test_parent_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="Cannot write"):
        atomic_write_bytes(tmp_path / "file" / "a.json", b"x")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EIO, "choose"),
    ],
)
def test_refusals_are_explained(tmp_path, monkeypatch, number, text):
    def refuse(self, data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match=text):
        atomic_write_bytes(tmp_path / "a.json", b"x")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not permitted"):
        atomic_write_bytes(tmp_path / "a.json", b"x")
    tmp_path.chmod(0o700)


def test_link_stays_a_link(tmp_path):
    real = tmp_path / "real.json"
    real.write_bytes(b"old")
    link = tmp_path / "link.json"
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("no links here")
    atomic_write_bytes(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
