"""The file tasks' arithmetic and words: names, times, parts, errors."""

import json
import pickle
import tarfile

import pytest

from ebbtide.tasks.base import CancelableTask
from ebbtide.tasks.files import errors, names
from ebbtide.tasks.files.archive import tar_header
from ebbtide.tasks.files.entries import Entry, Kind, decimal_seconds
from ebbtide.tasks.files.progress import Meter
from ebbtide.tasks.files.scan import balance

ODD = [
    b"plain",
    b"caf\xe9",
    b"\xff",
    "日本".encode(),
    b"line\nbreak",
    b"back\\slash",
    b"\\xff",
    b"\x7f\x1b[31m",
]


def entry(path: str, size: int = 0, kind: Kind = Kind.FILE) -> Entry:
    return Entry(path, kind, size, 0o644, 0, 0, 0, 1, 1)


@pytest.mark.parametrize("raw", ODD)
def test_any_name_survives_json_that_other_languages_read(raw):
    text = json.dumps(names.to_json("path", names.from_bytes(raw)))
    assert text.encode("ascii").decode("unicode_escape").encode("utf-8")  # holds no half of a surrogate pair
    assert names.to_bytes(names.from_json("path", json.loads(text))) == raw


@pytest.mark.parametrize("raw", ODD)
def test_a_shown_name_is_one_printable_line(raw):
    assert names.shown(raw).isprintable()
    assert names.shown(names.from_bytes(raw)) == names.shown(raw)


def test_a_long_path_is_shown_by_its_end():
    shown = names.shown("a/" * 500 + "name")
    assert len(shown) == 160
    assert shown.startswith("...")
    assert shown.endswith("/a/name")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0.000000000"),
        (1_700_000_000_123_456_789, "1700000000.123456789"),
        (-1, "-0.000000001"),
        (-1_500_000_000, "-1.500000000"),
    ],
)
def test_times_keep_all_their_digits(nanoseconds, text):
    assert decimal_seconds(nanoseconds) == text


def test_parts_are_balanced_by_bytes_and_hold_everything_once():
    entries = [entry(f"{number:03}", size=(number * 7919) % 1_000_000) for number in range(200)]
    parts = balance(entries, 4)
    sizes = [sum(each.size for each in part) for part in parts]
    assert max(sizes) - min(sizes) < 0.02 * sum(sizes)
    assert sorted(each.path for part in parts for each in part) == [each.path for each in entries]
    assert all(part == sorted(part) for part in parts)


def test_many_small_files_are_spread_beside_one_large_one():
    parts = balance([entry("large", 10_000_000), *(entry(f"{number}", 1) for number in range(300))], 4)
    assert sorted(len(part) for part in parts) == [1, 100, 100, 100]


def test_folders_come_last_so_that_unpacking_in_order_sets_their_modes_at_the_end():
    parts = balance([entry("a", kind=Kind.FOLDER), entry("a/b", 5), entry("c", 4)], 2)
    assert [[each.path for each in part] for part in parts] == [["a/b"], ["a", "c"]]


def test_fewer_files_than_parts_leave_parts_empty():
    assert [len(part) for part in balance([entry("only")], 4)] == [1, 0, 0, 0]


def test_a_header_of_whole_seconds_is_one_block():
    assert len(tar_header(entry("name"))) == tarfile.BLOCKSIZE


class Loop(CancelableTask):
    def execute(self) -> None:
        """Nothing; a meter counts without it."""


@pytest.mark.parametrize(
    ("files", "size", "steps", "fraction"),
    [(4, 100, [(25, 1)], 0.25), (4, 0, [(0, 1)], 0.25), (0, 0, [(0, 0)], 1.0)],
    ids=["by bytes", "by files where there are no bytes", "of nothing"],
)
def test_a_meter_counts(files, size, steps, fraction):
    task = Loop(name="loop")
    meter = Meter(task, files, size)
    for step in steps:
        meter.step(*step)
    assert task.run.progress["loop"][0] == fraction


@pytest.mark.parametrize(
    "error",
    [
        errors.FolderUnusable("a\nb", "is missing", "name another"),
        errors.FileUnusable("\udcff", "permission denied"),
        errors.FileChanged("f", "it is gone"),
        errors.NoSpace("/d", "no space left on device"),
        errors.ArchiveDamaged("part-1.tar.gz", "it is cut off"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_one_line_that_survives_pickling_and_ends_with_what_to_do(error):
    assert str(error).isprintable()
    assert ": " in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
