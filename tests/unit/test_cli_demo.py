"""What the demo's own checks find, when it sends its cancel, and which folders it refuses."""

import base64
import hashlib
import io
import json
import os
import tarfile
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ebbtide.cli import command
from ebbtide.cli.demo_acts import Cue, Play, check_undo
from ebbtide.cli.demo_proof import check_publication, check_unchanged, content, measure
from ebbtide.cli.demo_stage import DemoFailed, Stage, Stall
from ebbtide.cli.exits import Exit
from ebbtide.errors import StoreUnavailable
from ebbtide.jobs import TaskRecord


def task(name: str, **changed) -> TaskRecord:
    facts = dict.fromkeys(TaskRecord.__dataclass_fields__)
    return TaskRecord(
        **{**facts, "task": name, "attempt": 1, "round": 1, "begun_at": 0.0, "undo_tries": 0, **changed}
    )


@pytest.fixture
def source(tmp_path):
    """A folder with every kind of entry, and one whose name is no UTF-8 and would move a cursor."""
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b" * 5000)
    (folder / "link").symlink_to("a.txt")
    with open(os.fsencode(folder) + b"/n\xff\x1b[2J", "w") as odd:
        odd.write("odd")
    return folder


@pytest.fixture
def publish(tmp_path, source):
    """Write what a job would publish as version `v`; each function given may falsify the manifest first."""

    def write(*falsify):
        folder = tmp_path / "published" / "versions" / "v"
        folder.mkdir(parents=True)
        entries = []
        with tarfile.open(folder / "part-1.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(source.rglob("*")):
                name = os.fsencode(path.relative_to(source))
                archive.add(path, arcname=name.decode("utf-8", "surrogateescape"), recursive=False)
                entries.append(listed(path, name))
        for change in falsify:
            change(entries)
        (folder / "manifest.json").write_text(json.dumps({"entries": entries}))
        (tmp_path / "published" / "current").symlink_to("versions/v")
        return tmp_path / "published"

    return write


def listed(path, name):
    entry = {"path": name.decode("utf-8", "backslashreplace"), "path_base64": base64.b64encode(name).decode()}
    if path.is_symlink():
        return {**entry, "kind": "link", "target": os.readlink(path)}
    if path.is_dir():
        return {**entry, "kind": "folder"}
    return {**entry, "kind": "file", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_a_publication_that_holds_the_source_passes(publish, source):
    check = check_publication(publish(), "v", content(source))

    assert check.holds, check.found
    assert "entries: 5, digests: 3" in check.statement


def test_a_wrong_digest_in_the_manifest_is_found(publish, source):
    def falsify(entries):
        next(entry for entry in entries if entry["path"] == "a.txt")["sha256"] = "0" * 64

    check = check_publication(publish(falsify), "v", content(source))

    assert not check.holds and check.found == "manifest and source differ in a.txt"


def test_a_file_that_is_not_in_the_archives_is_found(publish, source):
    published = publish()
    (source / "new.txt").write_text("new")

    assert "new.txt" in check_publication(published, "v", content(source)).found


@pytest.mark.parametrize("spoil", ["manifest.json", "part-1.tar.gz"])
def test_a_damaged_file_is_found(publish, source, spoil):
    published = publish()
    (published / "current" / spoil).write_bytes(b"\x1f\x8b")

    assert not check_publication(published, "v", content(source)).holds


def test_another_version_and_none_are_found(publish, source, tmp_path):
    published = publish()

    assert check_publication(published, "w", content(source)).found == "the current version is v"
    assert not check_publication(tmp_path / "nowhere", "v", content(source)).holds


def test_what_is_left_out_is_neither_read_nor_counted(source):
    assert measure(source, ["sub", "*.txt", "l*"]).entries == 1
    assert set(content(source, ["sub/b.txt", "n*"])) == {"a.txt", "link", "sub"}
    assert content(source / "nothing here") == {}


@pytest.mark.parametrize("name", [".staging-x/part", "a.txt"])
def test_anything_left_or_changed_is_found(source, name):
    before = content(source)
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text("other")

    check = check_unchanged(before, source, "all is as before")

    assert not check.holds and name in check.found


class Canceller:
    def __init__(self):
        self.cancelled = []

    def cancel(self, job_id):
        self.cancelled.append(job_id)


def look(*tasks, resting=False):
    return [SimpleNamespace(job=SimpleNamespace(id="j"), tasks=tasks, resting=resting)]


def test_a_long_job_is_cancelled_once_and_in_the_middle_of_an_archive():
    canceller = Canceller()
    cue = Cue(canceller, "j", archives_seconds=10.0, early=False)

    cue(look(task("scan", fraction=0.9), task("archive-1", fraction=0.1)))
    too_early = list(canceller.cancelled)
    for _ in range(2):
        cue(look(task("archive-1", fraction=0.1), task("archive-2", fraction=0.5)))

    assert (too_early, canceller.cancelled) == ([], ["j"])


def test_a_short_job_is_cancelled_by_the_clock():
    canceller = Canceller()
    cue = Cue(canceller, "j", archives_seconds=1.0, early=False, now=iter([100.2, 100.4]).__next__)

    cue(look(task("scan")))
    cue(look(task("archive-1", begun_at=100.0)))
    too_early = list(canceller.cancelled)
    cue(look(task("archive-1", begun_at=100.0)))

    assert (too_early, canceller.cancelled) == ([], ["j"])


def test_no_cancel_is_sent_for_a_job_that_has_ended():
    canceller = Canceller()

    Cue(canceller, "j", archives_seconds=0.1, early=True)(look(task("scan"), resting=True))

    assert canceller.cancelled == []


def test_an_undo_in_the_wrong_order_is_found():
    early = task("scan", undo_begun_at=1.0, undo_ended_at=2.0)
    late = task("archive-1", undo_begun_at=1.5, undo_ended_at=3.0)

    complete, ordered = check_undo([early, late])

    assert complete.holds and not ordered.holds
    assert ordered.found == "scan before archive-1"
    assert all(
        check.holds for check in check_undo([task("scan", undo_begun_at=3.0, undo_ended_at=4.0), late])
    )


def test_a_task_that_is_not_undone_is_found():
    complete, _ = check_undo([task("scan"), task("archive-1", undo_begun_at=1.5, undo_ended_at=3.0)])

    assert not complete.holds and complete.found == "not undone: scan"


class Rehearsal(Play):
    """The second act with a job two that ends as it is told to, try by try."""

    def __init__(self, folder, endings):
        super().__init__(Stage(folder), None, None, folder, io.StringIO())
        self.endings = iter(endings)

    def _post(self, destination):
        return "j"

    def _watch(self, jobs, cue=None):
        done = task("prepare", undo_begun_at=1.0, undo_ended_at=2.0)
        ends = ((next(self.endings), "complete"), ("completed", "none"))
        return [
            SimpleNamespace(
                job=SimpleNamespace(id="j", attempt=1, state=state, undo=undo, tasks_undone=1), tasks=(done,)
            )
            for state, undo in ends
        ]


def test_a_job_that_ends_before_its_cancel_is_posted_once_more(tmp_path):
    two, _ = Rehearsal(tmp_path, ["completed", "cancelled"])._cancelled_beside_another(Canceller(), 0.1)

    assert two.end.job.state == "cancelled" and two.holds


def test_a_job_that_always_ends_before_its_cancel_is_no_success(tmp_path):
    with pytest.raises(DemoFailed, match="name a larger folder"):
        Rehearsal(tmp_path, ["completed"] * 10)._cancelled_beside_another(Canceller(), 0.1)


def test_what_has_no_content_is_counted_and_said(source, publish):
    published = publish()
    os.mkfifo(source / "pipe")
    os.mkfifo(source / "sub" / "fifo")

    assert measure(source, []).left_out == 2
    check = check_publication(published, "v", content(source), left_out=2)
    assert check.holds and "exactly but for what has no content: 2 (entries: 5" in check.statement


def only_links(path):
    path.mkdir()
    for name in "abc":
        (path / name).symlink_to("somewhere")


def test_a_demo_without_room_says_so_with_both_numbers(source, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1_000_000))

    result = CliRunner().invoke(command, ["demo", str(source), "--json"])

    _, line = result.stderr.splitlines()
    assert result.exit_code == Exit.ENDED_BADLY
    assert "the demo needs 16.8 MB in " in line and "where 1.0 MB are free" in line
    assert json.loads(result.stdout) == {"error": line.removeprefix("ebbtide: "), "exit_code": 1}
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_store_that_fails_ends_the_demo_in_one_line(source, tmp_path, monkeypatch):
    def full(*_):
        raise StoreUnavailable("database or disk is full")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Play, "run", full)

    result = CliRunner().invoke(command, ["demo", str(source)])

    assert result.exit_code == Exit.ENDED_BADLY
    assert len(result.stderr.splitlines()) == 1 and "database or disk is full" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("free", "states", "ends"),
    [
        (0, ["same", "same", "same"], True),
        (0, ["same", "same", "other"], False),
        (10_000_000, ["same", "same", "same"], False),
    ],
    ids=["full and still", "full and moving", "room and still"],
)
def test_only_jobs_that_stand_still_on_a_full_disk_end_the_demo(tmp_path, monkeypatch, free, states, ends):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    times = iter([0.0, *(4.0 * number for number in range(10))])
    stall = Stall(tmp_path / "demo", now=times.__next__)

    def look():
        for state in states:
            stall.look(state)

    if ends:
        with pytest.raises(DemoFailed, match=f"the disk of {tmp_path} is full"):
            look()
    else:
        look()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no folder"),
        (lambda path: path.write_text("x"), "is a file"),
        (lambda path: path.mkdir(), "is empty"),
        (lambda path: (path / "__pycache__").mkdir(parents=True), "is empty"),
        (only_links, "holds no regular file (entries: 3)"),
    ],
    ids=["missing", "file", "empty", "nothing to process", "only links"],
)
def test_a_path_with_nothing_to_process_is_refused_in_one_line(tmp_path, make, said):
    make(tmp_path / "path")

    result = CliRunner().invoke(command, ["demo", str(tmp_path / "path")])

    assert result.exit_code == Exit.USAGE and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert said in line and str(tmp_path / "path") in line


def test_a_path_that_holds_the_demo_itself_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    result = CliRunner().invoke(command, ["demo", str(tmp_path)])

    assert result.exit_code == Exit.USAGE and "TMPDIR" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
