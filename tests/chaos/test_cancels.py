"""Jobs are cancelled at random moments while something is killed every second: none is lost or stuck.

EBBTIDE_TEST_CHAOS_CANCELS says how many are to be accepted, if that many are within
EBBTIDE_TEST_CHAOS_SECONDS; EBBTIDE_TEST_CHAOS_REPORT names a file for the report, such as
docs/chaos-report.md; EBBTIDE_TEST_SEED repeats a schedule.

Promises: P1, P2, P3, P4, P5, P6, P7, P9, P10, P13.
"""

import os
import threading
import time
from pathlib import Path

import pytest

from tests.chaos import schedule
from tests.chaos.clients import Clients
from tests.chaos.conftest import REST_SECONDS
from tests.chaos.nemesis import Nemesis
from tests.chaos.report import report, write_part
from tests.services.tmpfs import SmallDisk

CANCELS = int(os.environ.get("EBBTIDE_TEST_CHAOS_CANCELS", "100"))
MOST_SECONDS = float(os.environ.get("EBBTIDE_TEST_CHAOS_SECONDS", "inf"))
REPORT = os.environ.get("EBBTIDE_TEST_CHAOS_REPORT")
KILL_EVERY_SECONDS = 1.0
CONDUCTORS, RUNNERS = 4, 3
# Long enough that a busy machine loses no lease; what is killed with its keeper waits for the end of it.
LEASE = (1.0, 6.0, 10.0)


@pytest.fixture
def disk(tmp_path, chaos_flows):
    """No small one: nobody fills it here, and store and files of many jobs are to find room."""
    folder = tmp_path / chaos_flows.DISK
    (folder / chaos_flows.MADE).mkdir(parents=True)
    return SmallDisk(folder)


@pytest.mark.timeout(CANCELS + REST_SECONDS + 300)
def test_cancels_at_random_moments_under_kill_9_every_second(chaos, disk, seed, again, store_kind):
    nemesis = Nemesis(chaos, chaos.recorder, disk, number=CONDUCTORS, runners=RUNNERS, lease=LEASE)
    nemesis.await_all()
    each = [chaos.client(f"client {number}") for number in range(schedule.CANCELLERS)]
    clients = Clients(each, [share_of(seed, number) for number in range(schedule.CANCELLERS)])
    clock = threading.Event()
    began = due = time.monotonic()
    try:
        for blow in schedule.kills(seed):
            accepted = sum(client.accepted for client in each)
            if accepted >= CANCELS or time.monotonic() - began > MOST_SECONDS:
                break
            due = max(due + KILL_EVERY_SECONDS, time.monotonic())
            clock.wait(due - time.monotonic())
            nemesis.strike(blow)
            print(f"{accepted} cancels accepted after {time.monotonic() - began:.0f} s")
    finally:
        clients.end()
    lasted = time.monotonic() - began
    nemesis.heal()
    chaos.bring_to_rest()
    codes = nemesis.end()

    others = [*nemesis.surprises, *([f"drains ended with {codes}"] if any(codes) else [])]
    evidence = chaos.judge(again, others=others)
    assert chaos.left() == []
    told = report(evidence, seed=seed, store_kind=store_kind, seconds=lasted, dealt=nemesis.dealt)
    print(told)
    if REPORT is not None:
        write_part(Path(REPORT), "cancels", told)


def share_of(seed, client):
    return (action for action in schedule.cancels(seed) if action.client == client)
