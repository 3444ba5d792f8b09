"""Streams: chunks are stored while the task works, read live, and stay as the partial result."""

import asyncio
import threading

import pytest
from taskflow.patterns import linear_flow

from ebbtide.tasks import StreamTask


class Talks(StreamTask):
    """Sends some words, then waits to be let on, or to be cancelled, and sends the last."""

    let_on: threading.Event

    async def execute(self):
        for number in range(3):
            yield f"word {number}"
        while not self.let_on.is_set():
            await asyncio.sleep(0.01)
        yield {"last": True}


@pytest.fixture
def talks(bench):
    Talks.let_on = threading.Event()

    @bench.registry.flow("talks")
    def flow():
        return linear_flow.Flow("talks").add(Talks(name="talks", provides="said"))

    return bench.poster.post("talks")


WORDS = [f"word {number}" for number in range(3)]


def test_a_stream_is_read_while_its_task_goes_on_and_ends_with_the_job(bench, talks):
    bench.start()
    stream = bench.poster.stream(talks.id, timeout=30)

    first = [next(stream) for _ in range(3)]
    assert [chunk.value for chunk in first] == WORDS
    assert bench.poster.show(talks.id).state == "running"
    Talks.let_on.set()
    rest = list(stream)

    assert [chunk.value for chunk in rest] == [{"last": True}]
    assert [chunk.number for chunk in [*first, *rest]] == [1, 2, 3, 4]
    assert {(chunk.task, chunk.attempt, chunk.epoch) for chunk in rest} == {("talks", 1, 1)}
    assert bench.poster.result(talks.id) == {"said": [*WORDS, {"last": True}]}


def test_what_was_sent_before_a_cancel_stays_and_a_retry_goes_on_counting(bench, talks):
    bench.start()
    stream = bench.poster.stream(talks.id, timeout=30)
    assert [next(stream).value for _ in range(3)] == WORDS

    bench.poster.cancel(talks.id)
    assert list(stream) == []
    assert bench.final(talks).state == "cancelled"
    assert [chunk.value for chunk in bench.poster.chunks(talks.id, after=1)] == WORDS[1:]

    Talks.let_on.set()
    bench.poster.retry(talks.id)
    assert bench.final(talks).state == "completed"
    again = bench.poster.chunks(talks.id, after=3)
    assert [(chunk.number, chunk.attempt) for chunk in again] == [(4, 2), (5, 2), (6, 2), (7, 2)]


def test_of_a_deleted_job_no_chunk_stays(bench, talks):
    Talks.let_on.set()
    bench.start()
    bench.final(talks)
    bench.poster.delete(talks.id)

    assert bench.sql("SELECT COUNT(*) FROM job_chunks")[0][0] == 0
