"""Files that change between scan, archive and checksum, and archives that change before they are verified."""

import os
import shutil
from pathlib import Path

import pytest

from ebbtide.tasks.files import ArchiveDamaged, FileChanged

MEGABYTE = 1024 * 1024


def _remove(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    shutil.copystat(path, other)
    other.replace(path)


def _become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _become_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    ("meddle", "told"),
    [
        (_remove, "it is gone"),
        (_replace, "it was replaced by another"),
        (_become_fifo, "it was replaced by another"),
        (_become_link, "it was replaced by a link"),
        (_touch, "it was written to"),
        (_grow, "it has 12 bytes, 8 at the scan"),
    ],
)
def test_a_file_that_changes_between_scan_and_archive_is_named(work, meddle, told):
    path = work.file("folder/one file")
    staging = work.scanned()
    meddle(path)
    with pytest.raises(FileChanged, match=f"file folder/one file .*{told}"):
        work.archive(staging)


def _shrink(path: Path) -> None:
    os.truncate(path, MEGABYTE)


@pytest.mark.parametrize(
    ("meddle", "told"),
    [
        (_grow, "it has grown beyond 3145728 bytes"),
        (_shrink, "it is shorter than its 3145728 bytes"),
        (_touch, "it was written to"),
    ],
)
@pytest.mark.parametrize("reader", ["archive-1", "checksum-1"])
def test_a_file_that_changes_while_it_is_read_is_named(work, snapshot, reader, meddle, told):
    path = work.file("a log", b"0" * 3 * MEGABYTE)
    run = work.watched()
    run.on_report = lambda task, fraction: meddle(path) if task == reader and 0.3 < fraction < 0.5 else None
    before = snapshot(work.destination)
    walk = work.walk(run)

    with pytest.raises(FileChanged, match=f"file a log changed while the job ran, {told}"):
        walk.forward()
    walk.back()

    assert snapshot(work.destination) == before


def test_a_file_that_grows_without_end_is_read_no_further_than_it_was(work):
    path = work.file("endless", b"0" * MEGABYTE)
    run = work.watched()
    chunks: list[str] = []

    def feed(task: str, fraction: float) -> None:
        if task.startswith("archive"):
            chunks.append(task)
            with path.open("ab") as file:
                file.write(b"0" * MEGABYTE)

    run.on_report = feed
    with pytest.raises(FileChanged, match="it has grown beyond 1048576 bytes"):
        work.walk(run).forward()
    assert len(chunks) == 1


def test_a_change_that_no_time_betrays_is_found_by_comparing_the_archives(work, snapshot):
    path = work.file("file", "before\n")
    walk = work.walk().forward("archive-4")
    times = os.stat(path)
    path.write_text("after!\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    with pytest.raises(ArchiveDamaged, match="file is not what was read for its checksum"):
        walk.forward()
    walk.back()

    assert snapshot(work.destination) is None


@pytest.mark.parametrize("place", [0.0, 0.5, 0.999, 1.0], ids=["head", "middle", "end", "checksum"])
@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_archive_is_not_published(work, snapshot, harm, place):
    work.file("one", os.urandom(MEGABYTE))
    walk = work.walk().forward("manifest")
    archive = Path(walk.store["staging"]) / "version" / "part-1.tar.gz"
    content = bytearray(archive.read_bytes())
    position = int((len(content) - 8) * place)  # gzip's own checksum is in the last eight bytes
    if harm == "cut":
        archive.write_bytes(content[:position])
    else:
        content[position] ^= 0xFF
        archive.write_bytes(content)

    with pytest.raises(ArchiveDamaged, match=r"part-1\.tar\.gz does not fit its manifest"):
        walk.forward()
    walk.back()

    assert snapshot(work.destination) is None
