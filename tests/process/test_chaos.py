"""Conductors, keepers and runners are killed at random while jobs are posted and cancelled.

Promises: P2, P3, P6, P7, P9, P10, P13.
"""

import os
import random
import signal

import pytest

from ebbtide.errors import TooLate

BLOWS = 5


class Nemesis:
    """Deals blows to two conductors and replaces what it has felled."""

    def __init__(self, stage, dice):
        self._stage = stage
        self._dice = dice
        self._conductors = [stage.conductor(wait=False, runners=2) for _ in range(2)]
        for conductor in self._conductors:
            stage.wait_until(lambda c=conductor: "conductor.ready" in c.log, "a conductor to be ready")

    def strike(self):
        blow = self._dice.choice([self._runner, self._runner, self._keeper, self._conductor, self._drain])
        number = self._dice.randrange(len(self._conductors))
        print(f"{blow.__name__} {number}")
        victim = self._conductors[number]
        blow(victim)
        if blow != self._runner:
            self._conductors[number] = self._stage.conductor(runners=2)

    def end(self):
        return [conductor.end() for conductor in self._conductors]

    def _runner(self, conductor):
        self._stage.wait_until(lambda: conductor.runners, "a runner")
        os.kill(self._dice.choice(conductor.runners), signal.SIGKILL)

    def _keeper(self, conductor):
        os.kill(conductor.keeper, signal.SIGKILL)
        conductor.wait()

    def _conductor(self, conductor):
        conductor.kill()
        conductor.wait()

    def _drain(self, conductor):
        assert conductor.end() == 0


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
        job = self._dice.choice(self.jobs)
        try:
            self._stage.poster.cancel(job.id)
            self.accepted.add(job.id)
        except TooLate:
            pass


@pytest.mark.timeout(240)
def test_whoever_is_killed_each_job_has_one_true_outcome_and_no_two_epochs_of_it_overlap(stage):
    seed = random.randrange(2**32)
    print(f"seed: {seed}")
    dice = random.Random(seed)
    nemesis, clients = Nemesis(stage, dice), Clients(stage, dice)

    for _ in range(BLOWS):
        clients.post(10)
        for _ in range(3):
            clients.cancel_one()
        seen = len(stage.effects())
        goal = seen + dice.randint(1, 30)
        stage.wait_until(
            lambda goal=goal: len(stage.effects()) >= goal or not stage.poster.list(state="pending"),
            "some progress",
        )
        nemesis.strike()
    jobs = [stage.ended(job) for job in clients.jobs]
    codes = nemesis.end()

    assert (codes, stage.left()) == ([0, 0], [])
    for job in jobs:
        with stage.explained(job):
            _check(stage, job, accepted=job.id in clients.accepted)


def _check(stage, job, *, accepted):
    due = "cancelled" if accepted else "failed" if "z:fail" in job.params["steps"] else "completed"
    assert job.state in ("parked", due)
    lines = stage.effects(job)
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
    elif job.state != "parked":
        assert set(last.values()) <= {"undone"}
        assert job.undo == ("complete" if last else "none")
        assert job.params["order"] == "unordered" or list(last) == sorted(last, reverse=True)
    stage.assert_history_replays(job)
