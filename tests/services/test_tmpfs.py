"""The small disk is full when it is filled, and takes more once it is freed."""

import errno
import os
import sqlite3

import pytest

from tests.services.tmpfs import SIZE_BYTES


def test_a_small_disk_is_a_disk_of_its_own_and_small(small_disk, tmp_path):
    assert os.stat(small_disk.path).st_dev != os.stat(tmp_path).st_dev
    assert small_disk.free_bytes <= SIZE_BYTES


def test_a_full_disk_takes_nothing_until_it_is_freed(small_disk):
    small_disk.fill()

    assert small_disk.free_bytes == 0
    with pytest.raises(OSError) as caught:
        (small_disk.path / "more").write_bytes(b"x" * 10_000)
    assert caught.value.errno == errno.ENOSPC

    small_disk.free()
    small_disk.free()
    assert (small_disk.path / "more").write_bytes(b"x" * 10_000) == 10_000


@pytest.mark.parametrize("leaving", [1, 4096, 100_000])
def test_a_disk_that_is_filled_but_for_some_bytes_takes_these(small_disk, leaving):
    small_disk.fill(leaving=leaving)

    (small_disk.path / "more").write_bytes(b"x" * leaving)
    assert small_disk.free_bytes == 0


def test_a_disk_may_be_filled_again_after_something_was_removed(small_disk):
    (small_disk.path / "old").write_bytes(b"x" * 1_000_000)
    small_disk.fill()
    (small_disk.path / "old").unlink()
    assert small_disk.free_bytes >= 1_000_000

    small_disk.fill()

    assert small_disk.free_bytes == 0


def test_sqlite_stores_nothing_on_a_full_disk_and_goes_on_once_there_is_room(small_disk):
    connection = sqlite3.connect(small_disk.path / "some.db")
    with connection:
        connection.execute("CREATE TABLE texts (text)")
    small_disk.fill()

    with pytest.raises(sqlite3.OperationalError, match="disk is full"), connection:
        connection.execute("INSERT INTO texts VALUES (?)", ("x" * 50_000,))
    small_disk.free()
    with connection:
        connection.execute("INSERT INTO texts VALUES ('y')")

    assert connection.execute("SELECT text FROM texts").fetchall() == [("y",)]
    connection.close()
