"""file-processing as a whole: what is published, under which name, and from which parameters."""

import hashlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from ebbtide.errors import ParameterError
from ebbtide.flows.registry import registered
from ebbtide.tasks import Cancelled


def test_a_published_folder_unpacks_to_the_same_tree(work, snapshot):
    work.small_tree()
    work.file("big", os.urandom(3 * 1024 * 1024 + 17))
    os.chmod(work.file("program"), 0o755)
    os.utime(work.file("old"), ns=(1, 1_234_567_891_987_654_321))

    outcome = work.engine()

    assert outcome.state == "SUCCESS"
    assert snapshot(work.unpack()) == snapshot(work.source)


def test_times_are_kept_to_the_nanosecond_in_manifest_and_archive(work):
    os.utime(work.file("old"), ns=(1, 1_234_567_891_987_654_321))
    os.utime(work.file("before 1970"), ns=(1, -1_500_000_000))

    work.engine()

    by_path = {entry["path"]: entry for entry in work.manifest()["entries"]}
    assert by_path["old"]["mtime"] == "1234567891.987654321"
    assert by_path["before 1970"]["mtime"] == "-1.500000000"
    assert os.stat(work.unpack() / "before 1970").st_mtime == -1.5


def test_the_archives_are_read_by_the_standard_library_too(work):
    work.small_tree()
    work.file("caf\udce9")
    work.engine()

    names: list[str] = []
    for entry in work.manifest()["archives"]:
        with tarfile.open(work.destination / "current" / entry["name"]) as archive:
            names += archive.getnames()

    found = [path.relative_to(work.source).as_posix() for path in work.source.rglob("*")]
    assert sorted(names) == sorted(found)


def test_the_manifest_says_what_each_entry_is_and_where(work):
    content = work.file("folder/file", "words\n").read_bytes()
    os.chmod(work.source / "folder" / "file", 0o640)
    (work.source / "link").symlink_to("elsewhere")

    published = work.engine().published

    manifest = work.manifest()
    file, folder, link = sorted(manifest["entries"], key=lambda entry: entry["kind"])
    assert (file["path"], file["mode"], file["size"]) == ("folder/file", "0640", 6)
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert (folder["path"], folder["kind"]) == ("folder", "folder")
    assert (link["path"], link["target"]) == ("link", "elsewhere")
    assert {entry["archive"] for entry in manifest["entries"]} <= {a["name"] for a in manifest["archives"]}
    assert (manifest["job"], manifest["attempt"], manifest["files"], manifest["bytes"]) == ("job", 1, 1, 6)
    assert (published["files"], published["folders"], published["links"], published["bytes"]) == (1, 1, 1, 6)


def test_a_second_job_switches_and_keeps_the_version_before(work):
    work.file("file", "first\n")
    first = work.engine(work.watched("one")).published
    work.file("file", "second\n")
    second = work.engine(work.watched("two", attempt=3)).published

    assert first["previous"] is None
    assert second["previous"] == "versions/one-1"
    assert os.readlink(work.destination / "current") == "versions/two-3"
    assert second["path"] == str(work.destination / "versions" / "two-3")
    assert sorted(os.listdir(work.destination / "versions")) == [".two-3.previous", "one-1", "two-3"]
    assert sorted(os.listdir(work.destination)) == ["current", "versions"]


def test_one_file_makes_one_archive(work):
    work.file("only")
    work.engine()
    assert [entry["name"] for entry in work.manifest()["archives"]] == ["part-1.tar.gz"]


def test_results_stay_small_however_many_files_there_are(work):
    for number in range(2000):
        work.file(f"{number % 20}/{number:0100}", b"")
    run = work.watched()

    assert work.engine(run).published["files"] == 2000
    assert max(map(len, run.results.values())) < 1000


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (None, {"a.py", "deep/b.py", "deep/c.txt"}),
        ([], {"a.py", "deep/b.py", "deep/c.txt", "deep/__pycache__/b.pyc", "site-packages/x.py"}),
        (["*.py"], {"deep/c.txt", "deep/__pycache__/b.pyc"}),
        (["deep/*.py", "site-packages"], {"a.py", "deep/c.txt", "deep/__pycache__/b.pyc"}),
        (["deep/"], {"a.py", "site-packages/x.py"}),
    ],
)
def test_what_a_pattern_matches_by_name_or_by_path_is_left_out(work, exclude, left):
    for name in ("a.py", "deep/b.py", "deep/c.txt", "deep/__pycache__/b.pyc", "site-packages/x.py"):
        work.file(name)

    work.engine(**({} if exclude is None else {"exclude": exclude}))

    files = {entry["path"] for entry in work.manifest()["entries"] if entry["kind"] == "file"}
    assert files == left


def test_a_cancel_in_the_middle_of_parallel_work_leaves_the_destination_as_it_was(work, snapshot):
    work.small_tree()
    work.file("big", os.urandom(4 * 1024 * 1024))
    work.engine(work.watched("earlier"))
    before = snapshot(work.destination)
    run = work.watched("cancelled")

    def cancel_half_way(task: str, fraction: float) -> None:
        if task.startswith("archive") and 0.3 < fraction < 1.0:
            run.event.set("enough")

    run.on_report = cancel_half_way
    outcome = work.engine(run)

    assert outcome.state == "REVERTED"
    assert {type(error) for error in outcome.errors} == {Cancelled}
    assert snapshot(work.destination) == before


def test_progress_goes_by_bytes(work):
    work.file("big", b"0" * 4 * 1024 * 1024)
    run = work.watched()
    seen: list[float] = []
    run.on_report = lambda task, fraction: seen.append(fraction) if task == "archive-1" else None

    work.walk(run).forward()

    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert run.progress["archive-1"] == (1.0, "1 of 1 files, 4.2 of 4.2 MB")


def test_a_relative_path_is_taken_from_where_the_job_is_posted(work, monkeypatch):
    monkeypatch.chdir(work.folder)
    params = registered.get("file-processing").validate({"source": "source", "destination": "../there"})
    assert params["source"] == str(work.source)
    assert Path(params["destination"]).is_absolute()


@pytest.mark.parametrize("wrong", ["", "nul\0", 3, None, ["/a"]])
def test_what_is_no_path_is_refused_at_the_post(wrong):
    with pytest.raises(ParameterError, match="source: should "):
        registered.get("file-processing").validate({"source": wrong, "destination": "/there"})


def test_a_link_to_a_folder_will_do_as_source_and_as_destination(work):
    work.file("file")
    (work.folder / "real").mkdir()
    (work.folder / "to source").symlink_to(work.source)
    work.destination.symlink_to(work.folder / "real")

    outcome = work.engine(source=str(work.folder / "to source"))

    assert outcome.state == "SUCCESS"
    assert work.destination.is_symlink()
    assert (work.folder / "real" / "current" / "manifest.json").is_file()


def test_the_parents_of_a_new_destination_are_made_and_the_undo_removes_them_all(work, snapshot):
    work.small_tree()
    work.destination = work.folder / "one" / "two" / "three"
    before = snapshot(work.folder)
    walk = work.walk().forward()
    assert (work.destination / "current").exists()

    walk.back()

    assert snapshot(work.folder) == before


def test_the_undo_leaves_what_somebody_else_has_put_into_the_destination(work):
    work.file("file")
    walk = work.walk().forward()
    (work.destination / "note").write_text("mine")

    walk.back()

    assert os.listdir(work.destination) == ["note"]


@pytest.mark.parametrize("removed", ["", "versions", "versions/job-1", "current"])
def test_what_was_removed_by_hand_is_no_trouble_for_the_undo(work, removed):
    work.file("file")
    walk = work.walk().forward()
    if removed == "current":
        (work.destination / removed).unlink()
    else:
        shutil.rmtree(work.destination / removed)

    walk.back()

    assert not work.destination.exists()
