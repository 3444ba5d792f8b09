"""ChunkBuffer: what waits is stored in order, by rows; of a job the newest is kept."""

import json

import pytest

from ebbtide.conductor import chunks
from ebbtide.conductor.chunks import ChunkBuffer
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.store import Store


@pytest.fixture
def buffer(tmp_path):
    with Store(f"sqlite:///{tmp_path / 'chunks.db'}") as store:
        ensure_schema(store)
        buffer = ChunkBuffer(
            store, Claim(job_id="j", flow="f", version=1, attempt=2, epoch=3, write=0, cancel=None)
        )
        assert buffer.open("a") == 0
        yield buffer


def test_neighbours_of_one_task_share_a_row_and_are_numbered_without_gaps(buffer):
    for task, text in (("a", '"1"'), ("a", '"2"'), ("b", "3"), ("a", "4")):
        buffer.add(task, text)

    rows, dropped = buffer.take()

    assert [(row["task"], row["number"], row["count"], json.loads(row["chunks"])) for row in rows] == [
        ("a", 2, 2, ["1", "2"]),
        ("b", 3, 1, [3]),
        ("a", 4, 1, [4]),
    ]
    assert (dropped, buffer.take()) == (0, ([], 0))


def test_a_row_has_a_size(buffer):
    for _ in range(5):
        buffer.add("a", '"' + "x" * 40_000 + '"')

    assert [row["count"] for row in buffer.take()[0]] == [2, 2, 1]


def test_who_sends_faster_than_it_is_stored_is_told_to_wait(buffer):
    text = '"' + "x" * 100_000 + '"'

    assert [buffer.add("a", text) for _ in range(4)] == [False, False, True, True]
    buffer.take()
    assert not buffer.add("a", text)


def test_the_newest_are_kept_and_the_oldest_make_room(buffer, monkeypatch):
    monkeypatch.setattr(chunks, "MAX_BYTES", 150)
    gone = []
    for number in range(10):
        buffer.add("a", json.dumps(f"{number}" + "x" * 40))
        rows, dropped = buffer.take()
        assert len(rows) == 1
        gone.append(dropped)

    assert gone == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
