"""What lies about in real folders, and what a system does not allow."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ebbtide.tasks.files import (
    FolderUnusable,
    NoSpace,
)

MEGABYTE = 1024 * 1024


def fails_undone(work, snapshot, run=None, **params) -> BaseException:
    """Run the flow, which is to fail and leave everything as it was; what failed first."""
    before = snapshot(work.folder)
    outcome = work.engine(run, **params)
    assert outcome.state == "REVERTED"
    assert snapshot(work.folder) == before
    for error in outcome.errors:
        assert "\n" not in str(error)
        assert str(error).isprintable()
    first: BaseException = outcome.errors[0]
    return first


# What is archived as it is


def test_links_are_stored_as_links_and_never_followed(work, snapshot):
    outside = work.folder / "outside"
    outside.mkdir()
    (outside / "secret").write_text("not for the archive")
    work.file("folder/file")
    for name, words in {
        "to file": "folder/file",
        "to folder": "folder",
        "out": "../outside",
        "absolute": str(outside / "secret"),
        "dangling": "nowhere",
        "to itself": "to itself",
        "up": "..",
    }.items():
        (work.source / name).symlink_to(words)

    published = work.engine().published

    assert (published["files"], published["links"]) == (1, 7)
    assert snapshot(work.unpack()) == snapshot(work.source)


def test_names_of_any_bytes_survive_and_the_manifest_stays_strict_json(work, snapshot):
    root = os.fsencode(work.source)
    odd = [b"caf\xe9", b"line\nbreak", b"tab\t", b"\xff\xfe", b" spaces ", b"-rf", b"*", b"a" * 255]
    for name in [*odd, "日本.txt".encode()]:
        with open(os.path.join(root, name), "wb") as file:
            file.write(name)
    os.symlink(b"to \xe9", os.path.join(root, b"link \xe9"))

    outcome = work.engine()

    assert outcome.state == "SUCCESS"
    assert snapshot(work.unpack()) == snapshot(work.source)
    text = (work.destination / "current" / "manifest.json").read_text(encoding="ascii")
    assert "\\ud" not in text  # no half of a pair
    by_path = {entry["path"]: entry for entry in work.manifest()["entries"]}
    assert by_path["caf\\xe9"]["path_base64"] == "Y2Fm6Q=="
    assert by_path["link \\xe9"]["target_base64"] == "dG8g6Q=="
    assert "path_base64" not in by_path["日本.txt"]


def test_a_path_deeper_than_a_tar_header_can_hold_survives(work, snapshot):
    work.file("/".join(["n" * 100] * 20) + "/file")
    work.engine()
    assert snapshot(work.unpack()) == snapshot(work.source)


def test_sparse_empty_and_hard_linked_files_keep_their_content(work, snapshot):
    work.file("empty", b"")
    with open(work.source / "sparse", "wb") as file:
        file.truncate(8 * MEGABYTE)
        file.seek(5 * MEGABYTE)
        file.write(b"in the middle")
    first = work.file("first", "shared")
    os.link(first, work.source / "second")

    published = work.engine().published

    assert published["files"] == 4
    assert snapshot(work.unpack()) == snapshot(work.source)


def test_fifos_sockets_and_devices_are_skipped_and_listed(work, caplog):
    work.file("file")
    os.mkfifo(work.source / "a fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(work.source / "a socket"))

    published = work.engine().published

    assert (published["files"], published["skipped"]) == (1, 2)
    assert work.manifest()["skipped"] == [
        {"path": "a fifo", "kind": "fifo"},
        {"path": "a socket", "kind": "socket"},
    ]
    assert "skipped a fifo: a fifo has no content to archive" in caplog.text


# What is refused


@pytest.mark.parametrize("name", ["nowhere", "file/below", "n" * 300])
def test_a_missing_source_is_one_clear_error(work, snapshot, name):
    (work.folder / "file").write_text("")
    error = fails_undone(work, snapshot, source=str(work.folder / name))
    assert isinstance(error, FolderUnusable)
    assert "is missing" in str(error) or "file name too long" in str(error)


def test_a_source_that_is_no_folder_is_refused(work, snapshot):
    error = fails_undone(work, snapshot, source=str(work.file("file")))
    assert str(error).endswith("/source/file is no folder: name a folder as the source")


def test_an_empty_folder_is_refused(work, snapshot):
    error = fails_undone(work, snapshot)
    assert "is empty (0 excluded, 0 skipped): there is nothing to archive" in str(error)


def test_a_folder_with_nothing_left_to_archive_is_refused_and_says_what_was_left_out(work, snapshot):
    work.file("__pycache__/a.pyc")
    os.mkfifo(work.source / "fifo")
    assert "is empty (1 excluded, 1 skipped)" in str(fails_undone(work, snapshot))


@pytest.mark.parametrize("name", [".", "below", "below/deeper", "../alias", "../alias/below", "../source"])
def test_a_destination_in_the_source_is_refused(work, snapshot, name):
    work.file("file")
    (work.folder / "alias").symlink_to("source")
    error = fails_undone(work, snapshot, destination=f"{work.source}/{name}")
    assert "lies in the source: name a destination beside the source" in str(error)


def test_a_source_in_the_destination_is_refused(work, snapshot):
    work.file("deep/file")
    error = fails_undone(work, snapshot, source=str(work.source / "deep"), destination=str(work.source))
    assert "lies in the destination" in str(error)


def test_a_destination_that_is_a_file_or_a_dangling_link_is_refused(work, snapshot):
    work.file("file")
    work.destination.write_text("mine")
    assert "is no folder" in str(fails_undone(work, snapshot))
    work.destination.unlink()
    work.destination.symlink_to("nowhere")
    assert "is no folder" in str(fails_undone(work, snapshot))
    error = fails_undone(work, snapshot, destination=str(work.source / "file" / "below"))
    assert "lies in the source" in str(error)


@pytest.mark.parametrize("name", ["current", "versions"])
def test_what_has_our_names_in_the_destination_and_is_not_ours_is_refused(work, snapshot, name):
    work.file("file")
    work.destination.mkdir()
    (work.destination / name).write_text("mine")
    assert f"has a `{name}` that is no" in str(fails_undone(work, snapshot))


# What the system does not allow


@contextmanager
def _ordinary_user(*folders: Path) -> Iterator[None]:
    """The rights of an ordinary user, to whom the folders belong: nothing stops root from reading a file."""
    if os.geteuid() != 0:
        yield
        return
    for folder in folders:
        os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_work(work) -> Iterator:
    """Work in a folder that an ordinary user can reach; those of pytest belong to who runs it."""
    with tempfile.TemporaryDirectory(prefix="ebbtide-") as name:
        os.chmod(name, 0o755)
        yield type(work)(Path(name))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_read_is_one_error_that_names_it(open_work, snapshot, kind):
    work = open_work
    work.file("fine")
    unreadable = work.file("sub/private")
    if kind == "folder":
        unreadable = unreadable.parent
    os.chmod(unreadable, 0)
    before = snapshot(work.folder)

    with _ordinary_user(work.folder):
        outcome = work.engine()

    os.chmod(unreadable, 0o755)
    assert outcome.state == "REVERTED"
    assert not work.destination.exists()
    assert len(outcome.errors) == 1
    named = "file sub/private" if kind == "file" else f"folder {work.source}/sub"
    assert str(outcome.errors[0]) == (
        f"{named} cannot be read, permission denied: make it readable, or exclude it"
    )
    assert before is not None


def test_a_destination_that_may_not_be_written_is_one_clear_error(open_work):
    work = open_work
    work.file("fine")
    work.destination.mkdir(mode=0o555)

    with _ordinary_user():
        outcome = work.engine()

    assert (outcome.state, len(outcome.errors)) == ("REVERTED", 1)
    assert "destination cannot be written, permission denied" in str(outcome.errors[0])
    assert os.listdir(work.destination) == []


def test_a_device_that_is_full_is_one_clear_error(work):
    work.file("file", os.urandom(2 * MEGABYTE))
    staging = work.scanned()
    os.symlink("/dev/full", Path(staging) / "version" / "part-1.tar.gz")
    with pytest.raises(NoSpace, match=r"cannot write .*part-1.tar.gz, no space left on device: make room"):
        work.archive(staging)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte more than a job leaves free."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        told = f"no small disk, which takes root and mount: {done.stderr.strip()}"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("files", [1, 5000])
def test_a_full_disk_is_one_clear_error_and_leaves_the_disk_as_it_was(work, snapshot, small_disk, files):
    if files == 1:
        work.file("too large", os.urandom(3 * MEGABYTE))
    else:
        for number in range(files):  # already their listing does not fit
            work.file(f"{number:0200}", b"")
    work.destination = small_disk / "destination"

    error = fails_undone(work, snapshot)

    assert isinstance(error, NoSpace)
    assert "but for the last 4 megabytes: make room in the destination, then retry" in str(error)
    assert os.listdir(small_disk) == []
