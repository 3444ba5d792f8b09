"""Everything breaks at random while clients post, cancel, retry, unpark and watch; then a checker decides.

EBBTIDE_TEST_CHAOS_SECONDS says for how long, a minute for each store as a rule; EBBTIDE_TEST_SEED repeats a
schedule: the same events and the same calls in the same orders. When each happens is never quite the same.

Promises: P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P13.
"""

import itertools
import time
from collections import Counter

import pytest

from tests.chaos import schedule
from tests.chaos.clients import Clients
from tests.chaos.conftest import REST_SECONDS, SECONDS
from tests.chaos.nemesis import BEYOND_LEASE, Nemesis


def share_of(seed, client):
    return (action for action in schedule.actions(seed) if action.client == client)


@pytest.mark.timeout(SECONDS + REST_SECONDS + 240)
def test_whatever_breaks_no_promise_does(chaos, disk, server, wires, store_kind, seed, again):
    nemesis = Nemesis(chaos, chaos.recorder, disk, server, wires)
    nemesis.await_all()
    url = wires[-1].url(chaos.database) if wires else chaos.database
    numbers = range(schedule.CLIENTS)
    clients = Clients(
        [chaos.client(f"client {number}", url) for number in numbers],
        [share_of(seed, number) for number in numbers],
    )
    give_up = time.monotonic() + SECONDS
    events = schedule.events(seed, schedule.faults(store_kind, BEYOND_LEASE))
    try:
        for event in itertools.takewhile(lambda _: time.monotonic() < give_up, events):
            nemesis.strike(event)
    finally:
        clients.end()
    nemesis.heal()
    chaos.bring_to_rest()
    codes = nemesis.end()

    others = [*nemesis.surprises, *([f"drains ended with {codes}"] if any(codes) else [])]
    evidence = chaos.judge(again, others=others)
    assert chaos.left() == []
    told = Counter(f"{call.op} {call.told}" for call in evidence.history.calls)
    print(f"{len(evidence.jobs)} jobs: {dict(Counter(job.state for job in evidence.jobs))}")
    print(f"calls: {dict(told)}")
    print(f"entries: {dict(Counter(entry.name for entry in evidence.entries))}")
    print(f"blows: {dict(nemesis.dealt)}, {len(evidence.history.held)} runners held")
