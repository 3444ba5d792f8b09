"""AsyncTasks in a conductor: one loop for a job, beside tasks in threads; cancelled and undone in order."""

import asyncio
import logging
import threading

import pytest
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.tasks import AsyncTask, CancelableTask

LOG = logging.getLogger(__name__)
MANY = 300


class Waiting(AsyncTask):
    """Waits until it is cancelled; its cleanup and its undo are noted."""

    log: list[tuple[str, str]]
    threads: set[int]
    begun: threading.Semaphore

    async def execute(self):
        self.threads.add(threading.get_ident())
        LOG.warning("hello of %s", self.name)
        self.begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.log.append(("cleaned", self.name))

    async def revert(self, result, **given):
        await asyncio.sleep(0)
        self.log.append(("undone", self.name))


class Quick(AsyncTask):
    """Returns its number; undone it says which it was given."""

    log: list[tuple[object, ...]]

    async def execute(self, number=3):
        await self.checkpoint({"half": number})
        return number

    async def revert(self, result, **given):
        self.log.append((self.name, result, self.saved))


class Plain(CancelableTask):
    def execute(self, quick):
        self.log.append((self.name, quick))
        return quick + 1

    def revert(self, result):
        self.log.append((self.name, result))


@pytest.fixture(autouse=True)
def _fresh():
    Waiting.log, Waiting.threads, Waiting.begun = [], set(), threading.Semaphore(0)
    Quick.log = Plain.log = []


def begun(number):
    for _ in range(number):
        assert Waiting.begun.acquire(timeout=30)


def test_many_that_wait_share_one_thread_and_all_are_cancelled_and_undone(bench):
    names = [f"w{number}" for number in range(MANY)]

    @bench.registry.flow("many")
    def many():
        return unordered_flow.Flow("many").add(*(Waiting(name=name) for name in names))

    threads = threading.active_count()
    job = bench.poster.post("many")
    bench.start(workers=1)
    begun(MANY)
    assert threading.active_count() < threads + 54  # 32 that wait for commits, and the run's own
    bench.poster.cancel(job.id)
    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.tasks_undone) == ("cancelled", "complete", MANY)
    assert len(Waiting.threads) == 1
    assert sorted(Waiting.log[:MANY]) == sorted(("cleaned", name) for name in names)
    assert sorted(Waiting.log[MANY:]) == sorted(("undone", name) for name in names)
    records = bench.poster.tasks(job.id)
    assert {record.how for record in records} == {"cancelled"}
    assert all(record.undo_ended_at is not None for record in records)


def test_both_kinds_mix_in_one_flow_in_order_and_are_undone_in_reverse(bench):
    class Last(Plain):
        def execute(self, plain):
            raise ValueError("broken")

    @bench.registry.flow("mixed")
    def mixed():
        return linear_flow.Flow("mixed").add(
            Quick(name="quick", provides="quick"), Plain(name="plain", provides="plain"), Last(name="last")
        )

    job = bench.poster.post("mixed")
    bench.start()
    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "last")
    assert Plain.log == [
        ("plain", 3),
        ("last", bench.steps.INTERRUPTED),
        ("plain", 4),
        ("quick", 3, {"half": 3}),
    ]


def test_what_a_coroutine_logs_is_kept_under_its_own_task(bench):
    @bench.registry.flow("two")
    def two():
        return unordered_flow.Flow("two").add(Waiting(name="a"), Waiting(name="b"))

    job = bench.poster.post("two")
    bench.start()
    begun(2)
    bench.poster.cancel(job.id)

    assert bench.final(job).state == "cancelled"
    lines = {(line.task, line.text) for line in bench.poster.logs(job.id)}
    assert lines == {(name, f"hello of {name}") for name in "ab"}


def test_a_drain_waits_for_what_runs_in_the_loop_and_goes_on_elsewhere(bench):
    let_on = threading.Event()

    class First(AsyncTask):
        async def execute(self):
            Waiting.begun.release()
            await asyncio.to_thread(let_on.wait)
            return 1

    @bench.registry.flow("drained")
    def drained():
        return linear_flow.Flow("drained").add(First(name="first"), Quick(name="quick", provides="quick"))

    job = bench.poster.post("drained")
    conductor = bench.start()
    begun(1)
    bench.drain(conductor)
    let_on.set()
    bench.drained(conductor)
    assert bench.poster.show(job.id).state == "pending"
    assert [record.how for record in bench.poster.tasks(job.id)] == ["returned"]

    bench.start()
    assert bench.final(job).state == "completed"


def test_what_has_ended_is_stored_although_others_go_on_waiting_in_the_loop(bench):
    @bench.registry.flow("one-ends")
    def one_ends():
        return unordered_flow.Flow("one-ends").add(Waiting(name="waits"), Quick(name="quick", provides="q"))

    job = bench.poster.post("one-ends")
    bench.start()
    begun(1)

    def how():
        return {record.task: record.how for record in bench.poster.tasks(job.id)}.get("quick")

    bench.until("quick is stored as returned", lambda: how() == "returned")
    bench.poster.cancel(job.id)
    assert bench.final(job).state == "cancelled"


def test_past_its_limit_a_coroutine_fails_and_its_failed_undo_is_tried_again(bench):
    class Late(Waiting):
        limit_seconds = 0.05
        revert_retries = 1

        async def revert(self, result, **given):
            await asyncio.sleep(0)
            self.log.append(("tried", self.name))
            if len(self.log) < 3:
                raise ValueError("not yet")

    @bench.registry.flow("late")
    def late():
        return linear_flow.Flow("late").add(Late(name="late"))

    job = bench.poster.post("late")
    bench.start(revert_retry_seconds=0.01)
    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "late")
    assert Waiting.log == [("cleaned", "late"), ("tried", "late"), ("tried", "late")]
