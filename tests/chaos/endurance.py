"""Clients at work while a nemesis strikes, for a while; then all heals, and the checker decides."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos import schedule
from tests.chaos.clients import Clients
from tests.chaos.evidence import Evidence
from tests.chaos.nemesis import Nemesis
from tests.chaos.schedule import Action, Event


@dataclass(frozen=True)
class Endured:
    """What was done and what came of it, once the checker has found no promise broken."""

    evidence: Evidence
    dealt: Counter[str]
    seconds: float

    def __str__(self) -> str:
        evidence = self.evidence
        told = Counter(f"{call.op} {call.told}" for call in evidence.history.calls)
        lines = [
            f"{len(evidence.jobs)} jobs: {dict(Counter(job.state for job in evidence.jobs))}",
            f"calls: {dict(told)}",
            f"entries: {dict(Counter(entry.name for entry in evidence.entries))}",
            f"blows: {dict(self.dealt)}, {len(evidence.history.held)} runners held",
        ]
        return "\n".join(lines)


def endure(
    chaos: Any,
    nemesis: Nemesis,
    faults: Sequence[Event],
    seconds: float,
    *,
    seed: int,
    again: str,
    url: str | None = None,
) -> Endured:
    """Strike for so many seconds, heal, wait for every job to end; fail if a promise is broken.

    Args:
        chaos: the stage.
        url: the store, as the clients reach it; None: as everybody does.
        again: the command that runs it again.
    """
    nemesis.await_all()
    clients = Clients(
        [chaos.client(f"client {number}", url) for number in range(schedule.CLIENTS)],
        [_share_of(seed, number) for number in range(schedule.CLIENTS)],
    )
    began = time.monotonic()
    try:
        for event in itertools.takewhile(
            lambda _: time.monotonic() < began + seconds, schedule.events(seed, faults)
        ):
            nemesis.strike(event)
    finally:
        clients.end()
    lasted = time.monotonic() - began
    nemesis.heal()
    chaos.bring_to_rest()
    codes = nemesis.end()
    others = [*nemesis.surprises, *([f"drains ended with {codes}"] if any(codes) else [])]
    return Endured(chaos.judge(again, others=others), nemesis.dealt, lasted)


def _share_of(seed: int, client: int) -> Iterator[Action]:
    return (action for action in schedule.actions(seed) if action.client == client)
