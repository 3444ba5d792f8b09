"""The pool of runner processes by itself: what its user is told when runners die at awkward moments."""

import dataclasses
import os
import signal
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor import processes
    from ebbtide.conductor.options import RunOptions
    from ebbtide.conductor.processes import ProcessRunners
    from ebbtide.conductor.seat import Seat
from ebbtide.jobs.claims import Claim, Request


def options(stage):
    return RunOptions(
        database=stage.database,
        flow_modules=("flows_for_tests",),
        owner="a-test",
        task_threads=1,
        patience_seconds=10.0,
        log_lines=0,
    )


@pytest.fixture
def runners(stage, monkeypatch):
    """One runner of a keeper. Nothing polls but the test."""
    monkeypatch.setenv("PYTHONPATH", stage.environment()["PYTHONPATH"])
    pool = ProcessRunners(1, options(stage))
    yield pool
    pool.close()


@pytest.fixture
def claim():
    return Claim("00000000-0000-4000-8000-000000000000", "steps", 1, attempt=1, epoch=1, write=1)


def _poll_until(stage, runners, predicate):
    ended = []

    def holds():
        ended.extend(runners.poll(0.0))
        return predicate()

    stage.wait_until(holds, "news of a runner")
    return ended


def _kill_unseen(stage, pid):
    """Kill a runner; returns once the keeper has told of it and waits again."""
    keeper = int(_status(pid)[1])
    os.kill(pid, signal.SIGKILL)
    stage.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the runner to be reaped")
    stage.wait_until(lambda: _status(keeper)[0] == "S", "the keeper to wait")


def _status(pid):
    """State and parent of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rpartition(")")[2].split()[:2]


def test_a_runner_that_dies_right_after_it_was_started_is_replaced(stage, runners):
    """Its death and the end of its channel come in one batch of events, in either order."""
    seen = set(runners.pids)
    for _ in range(3):
        (pid,) = runners.pids

        _kill_unseen(stage, pid)
        ended = _poll_until(stage, runners, lambda: runners.pids and runners.idle)

        assert ended == []
        assert seen.isdisjoint(runners.pids)
        seen.update(runners.pids)


def test_a_job_is_not_given_to_a_runner_that_has_died_unheard(stage, runners, claim):
    (pid,) = runners.pids
    _kill_unseen(stage, pid)

    given = [runners.idle, runners.run(claim), runners.idle]
    ended = _poll_until(stage, runners, lambda: runners.idle)

    assert (given, ended) == ([1, False, 0], [])
    assert runners.run(claim)
    ended = _poll_until(stage, runners, lambda: runners.idle)
    assert [(end.claim, end.edge) for end in ended] == [(claim, "lost")]


def test_a_death_is_told_once_with_its_claim_although_a_message_to_the_runner_failed_before(
    stage, runners, claim
):
    (pid,) = runners.pids
    os.kill(pid, signal.SIGSTOP)
    runners.run(claim)
    _kill_unseen(stage, pid)

    forwarded = runners.cancel(Request(claim.job_id, "", "user", claim.attempt))
    ended = _poll_until(stage, runners, lambda: runners.pids and runners.idle)

    assert not forwarded
    assert [(end.claim, end.edge, end.cause) for end in ended] == [
        (claim, None, "its runner was ended by SIGKILL")
    ]
    # The next one is heard as well: it says that nobody holds this claim.
    runners.run(claim)
    ended = _poll_until(stage, runners, lambda: runners.idle)
    assert [(end.claim, end.edge) for end in ended] == [(claim, "lost")]


def test_what_a_runner_said_before_it_died_counts(stage, runners, claim):
    (pid,) = runners.pids
    runners.run(claim)
    stage.wait_until(lambda: runners._selector.select(0), "the runner's word")  # seen, not heard

    _kill_unseen(stage, pid)
    ended = _poll_until(stage, runners, lambda: runners.pids and runners.idle)

    assert [(end.claim, end.edge) for end in ended] == [(claim, "lost")]


def test_a_request_of_another_attempt_is_not_forwarded(stage, runners, claim):
    (pid,) = runners.pids
    os.kill(pid, signal.SIGSTOP)
    runners.run(claim)

    assert not runners.cancel(Request(claim.job_id, "", "user", claim.attempt + 1))
    assert runners.cancel(Request(claim.job_id, "", "user", claim.attempt))
    os.kill(pid, signal.SIGKILL)


def test_a_fault_of_whoever_climbs_the_ladders_is_not_kept_from_the_conductor(
    stage, runners, claim, monkeypatch
):
    def climb(seat, asked):
        raise ZeroDivisionError

    monkeypatch.setattr(Seat, "climb", climb)
    (pid,) = runners.pids
    os.kill(pid, signal.SIGSTOP)
    runners.run(claim)
    runners.cancel(Request(claim.job_id, "", "user", claim.attempt))

    with pytest.raises(ZeroDivisionError):
        _poll_until(stage, runners, lambda: False)


# A keeper some of whose runners are in the hands of the kernel: none of them dies while its file is there.
_STUCK = """
import os, sys
from ebbtide.conductor import keeper
folder, real = sys.argv.pop(1), keeper.end_step
keeper.end_step = lambda pid: not os.path.exists(f"{folder}/stuck-{pid}") and real(pid)
keeper.main()
"""


def test_a_tree_that_the_kernel_does_not_let_die_holds_up_no_other(stage, monkeypatch, claim):
    monkeypatch.setenv("PYTHONPATH", stage.environment()["PYTHONPATH"])
    monkeypatch.setattr(processes, "_KEEPER", ("-P", "-c", _STUCK, str(stage.folder)))
    pool = ProcessRunners(2, options(stage))
    try:
        stuck, other = pool.pids
        for pid in (stuck, other):
            (stage.folder / f"stuck-{pid}").touch()
            os.kill(pid, signal.SIGSTOP)
        pool.run(claim)
        later = dataclasses.replace(claim, epoch=2)
        pool.run(later)
        pool.end_all()
        (stage.folder / f"stuck-{other}").unlink()

        first = _poll_until(stage, pool, lambda: other not in pool.pids and pool.idle)
        assert (stage.alive([stuck, other]), len(first)) == ([stuck], 1)
        (stage.folder / f"stuck-{stuck}").unlink()
        second = _poll_until(stage, pool, lambda: stuck not in pool.pids and pool.idle == 2)

        assert {end.claim.epoch for end in first + second} == {1, 2}
        assert {end.cause for end in first + second} == {"its runner was ended by SIGKILL"}
    finally:
        pool.close()
