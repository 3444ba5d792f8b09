"""StreamTask: chunks are sent while it works; a cancel closes the generator, and what was sent stays."""

import asyncio

import pytest

from ebbtide.tasks import INTERRUPTED, PayloadError, StreamTask
from ebbtide.tasks.run import How
from ebbtide.testing import TaskRun, at_checkpoint, run_task


class Words(StreamTask):
    log: list[object]

    def __init__(self, **options):
        super().__init__(**options)
        self.log = []

    async def execute(self, words, waits=False):
        try:
            for word in words[self.sent :]:
                yield word
            if waits:
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.log.append("closed")

    async def revert(self, result):
        self.log.append(("undo", result))


def test_its_chunks_are_sent_and_joined_they_are_the_result():
    run = run_task(Words(), {"words": ["a", "b", "c"]})

    assert (run.sent, run.result) == (["a", "b", "c"], "abc")


@pytest.mark.parametrize("words", [[1, "b"], [{"token": "x"}], []])
def test_what_is_not_all_text_is_the_result_as_a_list(words):
    assert run_task(Words(), {"words": words}).result == words


def test_without_collecting_the_result_is_how_many():
    class Counted(Words):
        collects = False

    assert run_task(Counted(), {"words": ["x" * 900_000, "y" * 900_000]}).result == 2


def test_more_than_a_result_may_take_fails_at_once_and_closes_it():
    task = Words()
    run = run_task(task, {"words": ["x" * 900_000, "y" * 900_000]})

    assert isinstance(run.error, PayloadError)
    assert "collects = False" in str(run.error)
    assert (len(run.sent), task.log) == (1, ["closed"])


def test_a_chunk_that_is_no_json_fails_the_task():
    run = run_task(Words(), {"words": ["a", {1, 2}]})

    assert (run.how, run.sent) == (How.RAISED, ["a"])
    assert "a chunk of" in str(run.error)


@pytest.mark.parametrize("waits", [True, False], ids=["while it waits", "between two chunks"])
def test_a_cancel_closes_the_generator_and_what_was_sent_stays(waits):
    words = ["a", "b"] if waits else ["a", "b", "c", "d"]
    task = Words()
    # It looks after each chunk, and at each await of its own.
    run = run_task(task, {"words": words, "waits": waits}, cancel=at_checkpoint(3 if waits else 2))
    run.revert()

    assert (run.how, run.sent) == (How.CANCELLED, ["a", "b"])
    assert task.log == ["closed", ("undo", INTERRUPTED)]


def test_what_is_begun_again_knows_how_much_was_sent():
    run = TaskRun(Words, {"words": ["a", "b", "c"]})
    run.execute(kill=at_checkpoint(2))
    run.execute()

    assert run.sent == ["a", "b", "c"]


def test_a_body_may_send_on_what_that_of_its_base_sends():
    class Louder(Words):
        async def execute(self, words):
            async for word in super().execute(words):
                yield word.upper()

    assert run_task(Louder(), {"words": ["a", "b"]}).result == "AB"


def test_what_does_not_yield_is_refused():
    async def execute(self): ...

    with pytest.raises(TypeError, match="that yields"):
        type("Wrong", (StreamTask,), {"execute": execute})
