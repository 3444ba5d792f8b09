"""A holder that is to sleep: no body begins beside it, and none waits for ever for one that may not begin."""

import threading
import warnings
from types import SimpleNamespace

import pytest

from ebbtide.errors import ClaimLost
from ebbtide.testing import wait_until
from ebbtide.testing.proving.plans import Act, Address, Deed

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from ebbtide.testing.proving.holder import _Watch

COMMIT = Address("journal.committing", "")


class Holding:
    """Bodies `waits`, which ends once `late` has begun, and a thread that is to sleep beside them."""

    def __init__(self, rest_seconds, sleep=lambda: None):
        self.told = []
        acts = (Act(COMMIT, Deed.SLEEP),)
        self.watch = _Watch(
            acts, None, lambda **facts: self.told.append(facts), sleep, passed=(), rest_seconds=rest_seconds
        )
        claim = SimpleNamespace(job_id="7f3a", epoch=1)
        self.watch.begin(SimpleNamespace(claim=claim))
        self.begun, self.begins = threading.Event(), threading.Event()

    def waits(self):
        self.watch.come("task.begun", "waits")
        self.begun.set()
        self.begins.wait()
        self.watch.come("task.ended", "waits")

    def late(self):
        wait_until(lambda: self.watch._tired, "somebody who is to sleep")
        self.watch.come("task.begun", "late")
        self.begins.set()
        self.watch.come("task.ended", "late")

    def commits(self):
        self.begun.wait()
        self.watch.come(COMMIT.name, None)

    @property
    def slept(self):
        return {"deed": Deed.SLEEP} in self.told


def test_who_waits_for_a_sibling_that_may_not_begin_goes_on_and_nobody_sleeps():
    holding = Holding(rest_seconds=1)
    threads = [threading.Thread(target=call) for call in (holding.waits, holding.commits, holding.late)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert not holding.slept
    assert {"point": ["task.ended", "waits", 1]} in holding.told


def test_who_sleeps_lets_no_body_begin_until_somebody_else_has_the_job():
    asleep, woken = threading.Event(), threading.Event()
    holding = Holding(rest_seconds=30, sleep=lambda: (asleep.set(), woken.wait()))
    holding.begun.set()
    sleeper = threading.Thread(target=holding.commits)
    sleeper.start()
    asleep.wait()

    def wake():
        comes = {"point": ["task.begun", "late", 1]}
        wait_until(lambda: comes in holding.told, "a body that may not begin")
        woken.set()

    waker = threading.Thread(target=wake)
    waker.start()

    with pytest.raises(ClaimLost):
        holding.late()

    assert holding.slept and not holding.begins.is_set()
    sleeper.join()
    waker.join()
