"""Races on one database: whoever commits first decides, and there is no third case.

Each contender has a store of its own, as each process has; some are processes. What is asserted holds for
every order in which they come; the orders themselves are left to the machine.
"""

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from ebbtide.errors import EdgeRefused, JobNotFound, TooLate
from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claim, Claims
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

KEYS = ["copy@1"]

CLAIMS_ALL = """
import json, sys
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.store import Store

with Store(sys.argv[1]) as store:
    claims = Claims(store, sys.argv[2], name="n", lease_seconds=1000.0)
    claims.register(flows=["copy@1"], runners=1, isolation="process")
    print("ready", flush=True)
    sys.stdin.readline()
    while (claim := claims.claim(["copy@1"])) is not None:
        print(json.dumps([claim.job_id, claim.epoch]), flush=True)
"""


@pytest.fixture
def together(made: str) -> Iterator[Callable[..., list[Any]]]:
    """Call each contender with a store of its own, all let go at once; their answers, or what they raised."""

    def call(*contenders: Callable[[Store], Any]) -> list[Any]:
        start = threading.Barrier(len(contenders))

        def contend(contender: Callable[[Store], Any]) -> Any:
            with Store(made) as own:
                start.wait()
                try:
                    return contender(own)
                except (EdgeRefused, TooLate, JobNotFound) as error:
                    return type(error)

        with ThreadPoolExecutor(len(contenders)) as pool:
            return list(pool.map(contend, contenders))

    yield call


def claims_of(store: Store, owner: str) -> Claims:
    claims = Claims(store, owner, name=owner, lease_seconds=1000.0)
    claims.register(flows=KEYS, runners=1, isolation="thread")
    return claims


def claim_all(owner: str) -> Callable[[Store], list[Claim]]:
    def contend(store: Store) -> list[Claim]:
        claims = claims_of(store, owner)
        return list(iter(lambda: claims.claim(KEYS), None))

    return contend


def complete(job: str, epoch: int) -> Callable[[Store], str]:
    """Complete the job as its holder does: only if no cancel was requested."""

    def contend(store: Store) -> str:
        unasked = (tables.jobs.c.cancel_requested_at.is_(None),)
        with store.write() as connection:
            row = apply_edge(connection, "completed", job, at=1.0, epoch=epoch, conditions=unasked)
            connection.execute(
                sa.insert(tables.job_outcomes).values(
                    job=job, attempt=row.attempt, state=row.state, undo="none", ended_at=1.0
                )
            )
        return "completed"

    return contend


def cancel(job: str, who: str = "bob") -> Callable[[Store], str]:
    return lambda store: Ledger(store).cancel(job, reason=who, who=who)


def test_each_of_fifty_jobs_is_claimed_once_by_twenty_conductors(board, together):
    jobs = {board.post(priority=number % 3) for number in range(50)}

    claims = [claim for each in together(*(claim_all(f"c{n}") for n in range(20))) for claim in each]

    assert Counter(claim.job_id for claim in claims) == Counter(jobs)
    assert {claim.epoch for claim in claims} == {1}
    for claim in claims:
        assert board.history(claim.job_id) == ["posted", "claimed"]


def test_each_of_thirty_orphans_is_taken_over_once(board, together):
    jobs = {board.put(JobState.RUNNING, owner="gone", epoch=6) for _ in range(30)}

    claims = [claim for each in together(*(claim_all(f"c{n}") for n in range(10))) for claim in each]

    assert Counter(claim.job_id for claim in claims) == Counter(jobs)
    assert {claim.epoch for claim in claims} == {7}


def test_processes_share_the_jobs_and_no_job_is_claimed_twice(board, made):
    jobs = {board.post() for _ in range(60)}  # the test's clock stands far in the past: all are due
    command = [sys.executable, "-c", CLAIMS_ALL, made]
    piped: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen([*command, f"c{number}"], **piped) for number in range(3)]
    try:
        for other in others:
            assert other.stdout.readline() == "ready\n"
        for other in others:
            other.stdin.write("go\n")
            other.stdin.flush()
        told = [other.communicate(timeout=50)[0] for other in others]
    finally:
        for other in others:
            other.kill()
            other.communicate()

    claimed = [json.loads(line) for each in told for line in each.splitlines()]
    assert Counter(job for job, _ in claimed) == Counter(jobs)
    assert {epoch for _, epoch in claimed} == {1}


def test_a_cancel_against_a_claim_has_no_third_case(board, together):
    """Cancelled before any claim, or claimed with the request there for whoever holds it."""
    jobs = [board.post() for _ in range(40)]

    def cancel_all(store: Store) -> list[str]:
        shuffled = random.sample(jobs, len(jobs))
        return [Ledger(store).cancel(job, reason="x", who="bob") for job in shuffled]

    answers, *claimed = together(cancel_all, claim_all("one"), claim_all("two"))

    assert answers == ["accepted"] * 40
    claims = {claim.job_id: claim for each in claimed for claim in each}
    waiting = {request.job_id for owner in ("one", "two") for request in _requests(board, owner)}
    for job in jobs:
        if job in claims:
            assert board.row(job).state == "running"
            assert claims[job].cancel is not None or job in waiting
        else:
            assert board.row(job).state == "cancelled"
            assert board.history(job) == ["posted", "cancel_requested", "cancelled_unclaimed"]


def _requests(board, owner: str) -> list[Any]:
    return Claims(board.store, owner, name=owner, lease_seconds=1.0).requests()


@pytest.mark.parametrize("round_number", range(10))
def test_a_cancel_against_completion_has_no_third_case(board, together, round_number):
    """P3: an accepted cancel never ends completed."""
    job = board.put(JobState.RUNNING, epoch=3, begun=1)

    answers = together(cancel(job), complete(job, 3))

    row = board.row(job)
    if answers == ["accepted", EdgeRefused]:
        assert (row.state, row.cancel_requested_at) == ("running", board.clock.now)
    else:
        assert answers == [TooLate, "completed"]
        assert (row.state, row.cancel_requested_at) == ("completed", None)
        assert board.rows(tables.job_cancels) == []


def test_of_many_cancels_one_is_accepted_and_its_reason_kept(board, together):
    job = board.post()

    answers = together(*(cancel(job, f"person {number}") for number in range(10)))

    assert Counter(answers) == {"accepted": 1, "already requested": 9}
    (request,) = board.rows(tables.job_cancels, job)
    assert request["reason"] == f"person {answers.index('accepted')}"
    assert board.history(job) == ["posted", "cancel_requested", "cancelled_unclaimed"]


def test_of_many_retries_one_makes_the_next_attempt(board, together):
    job = board.put(JobState.FAILED)

    answers = together(*[lambda store: Ledger(store).retry(job, who="bob")] * 10)

    assert Counter(answers) == {2: 1, EdgeRefused: 9}
    assert (board.row(job).attempt, board.history(job)) == (2, ["posted", "retried"])


def test_a_deletion_against_a_claim_leaves_the_job_whole_or_nothing_of_it(board, together):
    jobs = [board.post(labels={"team": "a"}, labels_text='{"team":"a"}') for _ in range(30)]

    def delete_all(store: Store) -> list[Any]:
        answers: list[Any] = []
        for job in random.sample(jobs, len(jobs)):
            gone = Ledger(store).delete(job, who="bob") == "deleted"
            answers.append(job if gone else None)
        return answers

    deleted, claimed = together(delete_all, claim_all("one"))

    kept = {claim.job_id for claim in claimed}
    assert kept | {job for job in deleted if job} == set(jobs)
    assert not kept & set(deleted)
    for table in (tables.job_entries, tables.job_parameters, tables.job_labels):
        assert {row["job"] for row in board.rows(table)} == kept


def test_posts_from_many_threads_and_stores_are_all_there(board, together):
    def post(number: int) -> Callable[[Store], list[str]]:
        def contend(store: Store) -> list[str]:
            own = type(board)(store, board.clock, board.by_hand)
            return [own.post(priority=number) for _ in range(5)]

        return contend

    posted = [job for each in together(*(post(number) for number in range(8))) for job in each]

    with board.store.read() as connection:
        stored = set(connection.scalars(sa.select(tables.jobs.c.id)))
    assert len(posted) == 40
    assert set(posted) == stored
