from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from filelock import FileLock
from tests.project.conftest import FLAT, SECOND, SIDE

from napari_boxprompt.errors import OutputError, ProjectError
from napari_boxprompt.project import LockOwner, Project, lock

HOLD = """
import sys
from napari_boxprompt.project import Project
project = Project.open(sys.argv[1])
print(project.read_only, flush=True)
sys.stdin.read()
"""


def note(folder, **changes):
    owner = LockOwner.here().model_copy(update=changes)
    (folder / "lock.json").write_text(owner.model_dump_json())
    return owner


@pytest.fixture
def no_locks(monkeypatch):
    """A drive whose file system has no locks."""

    def refuse(self, *_, **__):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(FileLock, "acquire", refuse)


def test_the_second_reads_and_knows_who_writes(project):
    with Project.open(project.folder) as second:
        assert second.read_only
        assert second.owner.pid == os.getpid()
        assert f"process {os.getpid()}" in second.problems[0]
        with pytest.raises(ProjectError, match=f"process {os.getpid()}"):
            second.set_status(FLAT, "accepted")
        with pytest.raises(ProjectError):
            second.save()
    project.set_status(FLAT, "accepted")  # the reader has not given our lock back
    project.close()
    with Project.open(project.folder) as third:
        assert not third.read_only
        assert third.owner is None


def test_a_reader_sees_all_that_is_written_so_far(project):
    for number in range(1, 5):
        project.paint(FLAT, np.full((SIDE, SIDE), number))
        if number == 2:
            project.save()
        with Project.open(project.folder, read_only=True) as reader:
            assert (reader.mask(FLAT).labels == number).all()


def test_another_process(folder):
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "False\n"
        with Project.open(folder) as second:
            assert second.owner.pid == child.pid
        child.kill()
        child.wait()
    with Project.open(folder) as third:  # what it has left is recognised
        assert not third.read_only
        assert not third.problems


@pytest.mark.parametrize(
    "changes",
    [{"boot": "another start of the computer"}, {"started": 12.0}, {"pid": 2**22 + 5}],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("locks", [True, False])
def test_a_stale_lock_is_taken_over(folder, changes, locks, request):
    if not locks:
        request.getfixturevalue("no_locks")
    note(folder, **changes)
    with Project.open(folder) as project:
        assert not project.read_only
    assert not (folder / "lock.json").exists()


def test_children_of_a_dead_process_do_not_keep_the_lock(folder):
    held = FileLock(folder / ".lock")
    held.acquire()
    note(folder, boot="another start of the computer")
    with Project.open(folder) as project:
        assert not project.read_only
    held.release()


def test_without_locks_the_note_decides(folder, no_locks):
    with Project.open(folder) as project:
        assert not project.read_only
        assert "no locks" in project.problems[0]
        with Project.open(folder) as second:
            assert second.read_only
        project.set_status(FLAT, "accepted")


@pytest.mark.parametrize("locks", [True, False])
def test_another_computer_is_believed_until_told_otherwise(folder, locks, request):
    if not locks:
        request.getfixturevalue("no_locks")
    note(folder, host="elsewhere", user="ada")
    with Project.open(folder) as project:
        assert project.read_only
        assert "ada on elsewhere" in project.problems[0]
    assert json.loads((folder / "lock.json").read_text())["host"] == "elsewhere"
    with Project.open(folder, take_over=True) as project:
        assert not project.read_only


def test_who_has_lost_the_lock_writes_nothing(folder, no_locks):
    project = Project.open(folder)
    project.set_status(FLAT, "accepted")
    note(folder, host="elsewhere", user="ada")
    for write in (lambda: project.set_status(SECOND, "accepted"), project.save):
        with pytest.raises(ProjectError, match="ada on elsewhere"):
            write()
    project.abandon()
    assert json.loads((folder / "lock.json").read_text())["user"] == "ada"
    with Project.open(folder, read_only=True) as found:
        assert (found.status(FLAT), found.status(SECOND)) == ("accepted", "new")


def test_a_drive_that_fails_is_not_another_program(folder, no_locks, monkeypatch):
    with Project.open(folder) as project:
        (folder / "lock.json").write_text("{")
        project.set_status(FLAT, "accepted")
        (folder / "lock.json").unlink()
        with pytest.raises(ProjectError, match="Another program"):
            project.set_status(SECOND, "accepted")
        project.abandon()


def test_a_drive_that_does_not_answer_stops_nobody(folder, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: time.sleep(0.5))
    started = time.monotonic()
    with Project.open(folder) as project:
        assert time.monotonic() - started < 0.4
        assert not project.read_only
        assert "no locks" in project.problems[0]


def test_a_folder_that_cannot_be_written_is_read(folder, monkeypatch):
    def refuse(*_):
        raise OutputError("Cannot write.")

    monkeypatch.setattr(lock, "atomic_write_bytes", refuse)
    with Project.open(folder) as project:
        assert project.read_only
        assert project.owner is None
        assert project.problems == ("Cannot write. Until then the project can only be looked at.",)
        with pytest.raises(ProjectError, match="read only"):
            project.set_status(FLAT, "accepted")
    monkeypatch.undo()
    with Project.open(folder) as project:  # the lock was given back
        assert not project.read_only


def test_a_copied_project_is_another_one(project):
    copy = project.folder.with_name("copy")
    shutil.copytree(project.folder, copy)
    with Project.open(copy) as other:
        assert not other.read_only
