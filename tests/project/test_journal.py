from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.project.conftest import DEEP, FLAT, SECOND, SIDE, write_images

from napari_boxprompt.boxes import Box
from napari_boxprompt.errors import OutputError, ProjectError
from napari_boxprompt.project import STATUSES, Project, Round, journal, masks, store
from napari_boxprompt.project.gestures import Entry, MaskPatch, PlaneChange, ProjectChange
from napari_boxprompt.project.journal import Journal, encode_entry, read_journal
from napari_boxprompt.project.masks import make_patch

PLANES = (FLAT, SECOND, DEEP)


def entry(number: int) -> Entry:
    return Entry(sequence=number, time="now", gestures=(ProjectChange(settings={"steps": number}),))


def lines(*numbers: int) -> list[bytes]:
    return [encode_entry(entry(number)) for number in numbers]


# Lines


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    written = Journal(path, read_journal(path))
    for line in lines(1, 2, 3):
        written.append(line)
    written.close()
    content = read_journal(path)
    assert content.entries == (entry(1), entry(2), entry(3))
    assert content.end == content.size == path.stat().st_size


@pytest.mark.parametrize("tail", [b"", b"{", b'{"crc32":"', b"\0" * 50, b"\n", b"nonsense\nmore nonsense\n"])
def test_a_torn_end_is_dropped_and_written_over(tmp_path, tail):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(lines(1, 2)) + tail)
    content = read_journal(path)
    assert (content.entries, content.damaged) == ((entry(1), entry(2)), ())
    written = Journal(path, content)
    written.append(lines(3)[0])
    written.close()
    assert path.read_bytes() == b"".join(lines(1, 2, 3))


def test_a_damaged_line_in_the_middle_is_reported(tmp_path):
    path = tmp_path / "journal.jsonl"
    first, second, third = lines(1, 2, 3)
    path.write_bytes(first + second.replace(b"steps", b"stops") + third)
    content = read_journal(path)
    assert (content.entries, content.damaged) == ((entry(1), entry(3)), (2,))


def test_a_whole_line_of_a_newer_version_is_an_error(tmp_path):
    path = tmp_path / "journal.jsonl"
    body = b'{"sequence":1,"time":"now","gestures":[{"kind":"dance"}]}'
    path.write_bytes(b'{"crc32":"%08x","entry":%s}\n' % (journal.zlib.crc32(body), body))
    with pytest.raises(ProjectError, match="pip install -U"):
        read_journal(path)


def test_lines_of_another_program_are_not_cut_off(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(lines(1)[0])
    mine = Journal(path, read_journal(path))
    with path.open("ab") as other:
        other.write(lines(2)[0])
    with pytest.raises(ProjectError, match="Another program"):
        mine.append(lines(2)[0])
    mine.close()
    assert path.read_bytes() == b"".join(lines(1, 2))


def test_a_refused_line_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    mine = Journal(path, read_journal(path))
    mine.append(lines(1)[0])

    def half(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", half)
        with pytest.raises(OutputError, match="disk is full"):
            mine.append(lines(2)[0])
    assert read_journal(path).entries == (entry(1),)
    mine.append(lines(3)[0])
    mine.close()
    assert read_journal(path).entries == (entry(1), entry(3))


# Gestures of any kind, and a crash after any byte

box_values = st.tuples(
    st.floats(-50, 90), st.floats(-50, 90), st.floats(0.01, 50), st.floats(0.01, 50), st.sampled_from("abé")
)
planes = st.sampled_from(PLANES)
patches = st.tuples(
    st.integers(0, SIDE - 9), st.integers(0, SIDE - 9), st.integers(1, 9), st.integers(0, 70_000)
)
gestures = st.one_of(
    st.tuples(st.just("boxes"), planes, st.lists(box_values, max_size=4), st.booleans()),
    st.tuples(st.just("paint"), planes, patches),
    st.tuples(st.just("accept"), planes, st.integers(0, 9)),
    st.tuples(st.just("status"), planes, st.sampled_from(STATUSES)),
    st.tuples(st.just("scores"), st.dictionaries(planes, st.floats(0, 1))),
    st.tuples(st.just("remove"), planes),
    st.tuples(st.just("round"), st.floats(0, 1)),
    st.tuples(st.just("save")),
)


def do(project: Project, gesture: tuple) -> None:
    match gesture:
        case ("boxes", plane, values, complete):
            drawn = [Box(y, x, y + h, x + w, plane, label) for y, x, h, w, label in values]
            project.set_boxes(plane, drawn, complete=complete)
        case ("paint", plane, (y, x, size, number)):
            project.paint(plane, np.full((size, size), number), y, x)
        case ("accept", plane, number):
            project.accept(plane, np.random.default_rng(number).integers(0, 99, (SIDE, SIDE)), {1: "a"})
        case ("status", plane, status):
            project.set_status(plane, status)
        case ("scores", scores):
            project.note_predictions(scores)
        case ("remove", plane):
            project.remove_mask(plane)
        case ("round", score):
            project.add_round(Round(number=project.next_round(), scores={"box_agreement": score}))
        case _:
            project.save()


def content(project: Project) -> tuple:
    found = {plane: project.mask(plane) for plane in PLANES}
    return (
        project.boxes,
        project.rounds,
        [project.record(plane).model_copy(update={"mask": None}) for plane in PLANES],
        {plane: (mask.labels.tolist(), mask.classes) for plane, mask in found.items() if mask is not None},
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A project in which nothing has been done."""
    place = tmp_path_factory.mktemp("empty") / "data"
    images = write_images(place / "images")
    Project.create(place / "project", images, classes=["a"]).close()
    return place


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    script=st.lists(gestures, min_size=1, max_size=8),
    small=st.booleans(),
    large=st.booleans(),
)
def test_after_a_crash_all_is_as_after_the_last_whole_line(empty, monkeypatch, data, script, small, large):
    monkeypatch.setattr(store, "_LARGE_PATCH", 64 if small else 1 << 18)
    monkeypatch.setattr(masks, "_LARGE_MASK", 0 if large else 1 << 22)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "data"
        shutil.copytree(empty, place)
        path = place / "project" / "journal.jsonl"
        project = Project.open(place / "project")
        states, saved = [content(project)], 0
        for gesture in script:
            before = project.unsaved
            do(project, gesture)
            if gesture == ("save",):
                # What was painted on large masks is in the journal still.
                states, saved = [content(project)], path.stat().st_size if path.exists() else 0
            elif project.unsaved > before:
                states.append(content(project))
        project.abandon()
        written = path.read_bytes() if path.exists() else b""
        cut = data.draw(st.integers(saved, len(written)))
        path.write_bytes(written[:cut] + data.draw(st.sampled_from([b"", b"\0" * 9, b'{"crc32":'])))
        whole = written[saved:cut].count(b"\n")
        with Project.open(place / "project") as found:
            assert not found.problems
            assert content(found) == states[whole]
        with Project.open(place / "project", read_only=True) as again:  # saved by the one before
            assert content(again) == states[whole]


def test_large_parts_go_to_a_file_before_the_journal(project, monkeypatch):
    monkeypatch.setattr(store, "_LARGE_PATCH", 64)
    noise = np.random.default_rng(0).integers(0, 250, (30, 30))
    project.paint(FLAT, noise, 5, 5)
    project.paint(FLAT, np.zeros((2, 2), int), 6, 6)
    (first, second) = read_journal(project.folder / "journal.jsonl").entries
    assert [change.mask.__class__.__name__ for change in (*first.gestures, *second.gestures)] == [
        "MaskFile",
        "MaskPatch",
    ]
    noise[1:3, 1:3] = 0
    assert np.array_equal(project.mask(FLAT).labels[5:35, 5:35], noise)


def test_strokes_on_a_large_mask_wait_until_they_are_worth_a_file(project, reopen, monkeypatch):
    monkeypatch.setattr(masks, "_LARGE_MASK", 0)
    project.paint(FLAT, np.full((5, 5), 3), 1, 1)
    project.set_boxes(FLAT, [Box(1, 2, 3, 4, FLAT, "a")])
    project.save()
    assert not list(project.folder.rglob("plane*.tif"))
    (kept,) = read_journal(project.folder / "journal.jsonl").entries
    assert kept.gestures[0].status is None
    project.paint(FLAT, np.full((5, 5), 4), 3, 3)
    project.save()
    found = reopen()
    assert (found.status(FLAT), len(found.boxes)) == ("corrected", 1)
    assert np.array_equal(found.mask(FLAT).labels, project.mask(FLAT).labels)
    monkeypatch.setattr(masks, "_MUCH_PAINT", 0)
    project.save()
    assert len(list(project.folder.rglob("plane*.tif"))) == 1
    assert (project.folder / "journal.jsonl").read_bytes() == b""
    monkeypatch.undo()
    monkeypatch.setattr(masks, "_LARGE_MASK", 0)
    project.paint(FLAT, np.full((5, 5), 5), 9, 9)
    project.save()
    project.remove_images(["flat.tif"])
    project.save()
    assert (project.folder / "journal.jsonl").read_bytes() == b""
    project.close()
    assert reopen().images.names == ("second.tif", "stack.tif")


def test_an_entry_keeps_the_very_patch(project):
    # Which patches are in a mask file is told by identity.
    patch = make_patch(np.ones((2, 2), int), 0, 0, (SIDE, SIDE))
    change = PlaneChange(image="flat.tif", mask=patch)
    assert isinstance(change.mask, MaskPatch)
    assert Entry(sequence=1, time="", gestures=(change,)).gestures[0].mask is patch
