"""Conductors, keepers and runners are killed at random while jobs are posted and cancelled.

EBBTIDE_TEST_JOBS says how many jobs; with the usual ones it takes half a minute, with 500 some minutes.

Promises: P2, P3, P6, P7, P9, P10, P13.
"""

import contextlib
import itertools
import os
import random
import signal
import time
from collections import Counter, defaultdict

import pytest

from ebbtide.errors import TooLate

JOBS = int(os.environ.get("EBBTIDE_TEST_JOBS", "60"))
# Who may be killed at one blow: each combination comes before any comes again.
KINDS = ("runner", "keeper", "conductor")
BLOWS = [kinds for size in (1, 2, 3) for kinds in itertools.combinations(KINDS, size)]
DRAIN = ()  # the kindest blow
ROUNDS = max(len([*BLOWS, DRAIN]), JOBS // 10)
# Renew, self-fence and lease seconds. With keeper and conductor dead it is the end of the lease that lets
# others in.
LEASE = (0.5, 3.0, 5.0)


class Nemesis:
    """Deals blows to two conductors and replaces what it has felled."""

    def __init__(self, stage, dice):
        self._stage = stage
        self._dice = dice
        self._blows = []
        self.dealt = Counter()
        self._conductors = [stage.conductor(wait=False, runners=2, lease=LEASE) for _ in range(2)]

    def strike(self):
        if not self._blows:
            self._blows = self._dice.sample([*BLOWS, DRAIN], len(BLOWS) + 1)
        blow = self._blows.pop()
        number = self._dice.randrange(len(self._conductors))
        print(f"{'+'.join(blow) or 'drain'} of {number}")
        victim = self._conductors[number]
        self._stage.wait_until(lambda: "conductor.ready" in victim.log, "a conductor to be ready")
        if blow == DRAIN:
            assert victim.end() == 0
        else:
            self._kill(victim, blow)
        self.dealt["+".join(blow) or "drain"] += 1
        if blow != ("runner",):
            victim.wait()  # without its keeper a conductor ends by itself
            self._conductors[number] = self._stage.conductor(wait=False, runners=2, lease=LEASE)

    def end(self):
        return [conductor.end() for conductor in self._conductors]

    def _kill(self, victim, blow):
        self._stage.wait_until(lambda: victim.runners, "a runner")
        pids = {
            "runner": self._dice.choice(victim.runners),
            "keeper": victim.keeper,
            "conductor": victim.pid,
        }
        for kind in self._dice.sample(blow, len(blow)):
            with contextlib.suppress(ProcessLookupError):  # the blow before may have felled it
                os.kill(pids[kind], signal.SIGKILL)


class Clients:
    """Posts jobs and cancels some of them."""

    def __init__(self, stage, dice):
        self._stage = stage
        self._dice = dice
        self.jobs = []
        self.accepted = set()

    def post(self, count):
        for _ in range(count):
            steps = [f"{name}:labour" for name in "abcdef"[: self._dice.randint(2, 6)]]
            if self._dice.random() < 0.2:
                steps.append("z:fail")
            self.jobs.append(self._stage.post(*steps, order=self._dice.choice(["linear", "unordered"])))

    def cancel_one(self):
        job = self._dice.choice(self.jobs[-15:])  # others have ended, most of them
        try:
            self._stage.poster.cancel(job.id)
            self.accepted.add(job.id)
        except TooLate:
            pass


@pytest.mark.timeout(240 + JOBS)
def test_whoever_is_killed_each_job_has_one_true_outcome_and_no_two_epochs_of_it_overlap(stage):
    seed = int(os.environ.get("EBBTIDE_TEST_SEED", random.randrange(2**32)))
    print(f"seed: {seed}")
    dice = random.Random(seed)
    began = time.monotonic()
    nemesis, clients = Nemesis(stage, dice), Clients(stage, dice)

    for number in range(ROUNDS):
        clients.post(JOBS * (number + 1) // ROUNDS - JOBS * number // ROUNDS)
        for _ in range(3):
            clients.cancel_one()
        seen = len(stage.effects())
        goal = seen + dice.randint(1, 60)
        stage.wait_until(
            lambda goal=goal: len(stage.effects()) >= goal or not stage.poster.list(state="pending"),
            "some progress",
        )
        nemesis.strike()
    jobs = [_ended(stage, job) for job in clients.jobs]
    codes = nemesis.end()

    assert (codes, stage.left()) == ([0, 0], [])
    lines = defaultdict(list)
    for line in stage.effects():
        lines[line["job"]].append(line)
    for job in jobs:
        with stage.explained(job):
            _check(stage, job, lines[job.id], accepted=job.id in clients.accepted)
    taken_over = sum(stage.names(job).count("reclaimed") for job in jobs)
    outcomes = Counter(str(job.state) for job in jobs)
    print(f"{len(jobs)} jobs: {dict(outcomes)}, {len(clients.accepted)} cancels accepted")
    print(f"{dict(nemesis.dealt)}, {taken_over} times taken over, {time.monotonic() - began:.0f} s")


def _ended(stage, job):
    """The job once it is final. One that happened to be hit three times without progress is let go on."""
    ended = stage.ended(job)
    while ended.state == "parked":
        assert "without progress" in ended.park_reason
        print(f"unparked: {ended.park_reason}")
        stage.poster.unpark(job.id)
        ended = stage.ended(job)
    return ended


def _check(stage, job, lines, *, accepted):
    due = "cancelled" if accepted else "failed" if "z:fail" in job.params["steps"] else "completed"
    assert job.state == due
    # P6, P9: a body begins once under each epoch, and nothing of an epoch is seen after the next one began.
    begins = [(line["task"], line["epoch"]) for line in lines if line["what"] == "begin"]
    assert len(set(begins)) == len(begins)
    epochs = [line["epoch"] for line in lines]
    assert epochs == sorted(epochs)
    # P7: what began is undone after it began for the last time, newest first; or nothing is undone.
    last = {}
    for line in lines:
        last.pop(line["task"], None)
        last[line["task"]] = line["what"]
    if job.state == "completed":
        assert set(last.values()) == {"end"}
        assert {line["what"] for line in lines} == {"begin", "end"}
    else:
        assert set(last.values()) <= {"undone"}
        assert job.undo == ("complete" if last else "none")
        assert job.params["order"] == "unordered" or list(last) == sorted(last, reverse=True)
    stage.assert_history_replays(job)
