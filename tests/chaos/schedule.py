"""What the clients do and what is done to the system: functions of the seed alone, as events in their order.

When each of them happens varies from run to run, and so does what it meets.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

CLIENTS = 4
CANCELLERS = 16  # clients that do nothing but post and cancel
NAMES = "abcde"
# What a job may be made of, by how often.
_KINDS = {"labour": 12, "": 4, "fail": 1, "stuck": 1}
_OPS = {"post": 7, "cancel": 5, "look": 3, "follow": 1, "retry": 2, "unpark": 1}
_RECENT = 12  # posts of late, which may still be at work

KILLS = [
    "+".join(kinds)
    for size in (1, 2, 3)
    for kinds in itertools.combinations(("runner", "keeper", "conductor"), size)
]
PAUSES = ["conductor", "keeper", "runner", "conductor+keeper", "conductor+keeper+runner"]


@dataclass(frozen=True)
class Action:
    """What a client does, after a pause. `word` is the label of the post that it is or is about.

    Args:
        cancel_after: of a post: so many seconds after its answer its job is cancelled.
        once_begun: or after its first task has begun, or that was waited for for too long.
    """

    client: int
    op: str
    word: str
    pause: float
    args: dict[str, Any] = field(default_factory=dict)
    cancel_after: float | None = None
    once_begun: bool = False


@dataclass(frozen=True)
class Event:
    """What is done to the system, after a pause.

    Args:
        kind: kill, drain, pause, ...
        what: which parts, or how.
        number: of whom there are several, this one.
        seconds: for how long.
    """

    kind: str
    what: str = ""
    number: int = 0
    seconds: float = 0.0
    pause: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.what} of {self.number} for {self.seconds:.1f} s"


def actions(seed: int) -> Iterator[Action]:
    """What the clients do, without end; each does its own in this order."""
    dice = random.Random(f"{seed} clients")
    words: list[str] = []
    for number in itertools.count():
        client, pause = number % CLIENTS, dice.uniform(0.05, 0.6)
        (op,) = dice.choices(list(_OPS), list(_OPS.values()))
        if op == "post" or not words:
            words.append(f"post {len(words) + 1}")
            # Three in ten are cancelled while they are at work; what others ask for comes whenever it comes.
            cancel_after = dice.uniform(0.0, 0.8) if dice.random() < 0.3 else None
            at_work = cancel_after is not None
            yield Action(client, "post", words[-1], pause, _job(dice), cancel_after, at_work)
        else:
            yield Action(client, op, dice.choice(words[-_RECENT:]), pause)


def _job(dice: random.Random) -> dict[str, Any]:
    names = NAMES[: dice.randint(1, len(NAMES))]
    steps = [f"{name}:{dice.choices(list(_KINDS), list(_KINDS.values()))[0]}" for name in names]
    order, rounds = dice.choice(["linear", "linear", "unordered"]), 1
    if order == "linear" and dice.random() < 0.15:
        steps[-1], rounds = f"{names[-1]}:shaky", 2
    return {"steps": steps, "order": order, "rounds": rounds}


def cancels(seed: int) -> Iterator[Action]:
    """Posts without end of short jobs, each to be cancelled at any moment of its life."""
    dice = random.Random(f"{seed} cancels")
    for number in itertools.count():
        names = NAMES[: dice.randint(2, 4)]
        steps = [f"{name}:{dice.choice(['pause', 'pause', 'labour', '', ''])}" for name in names]
        job = {"steps": steps, "order": dice.choice(["linear", "linear", "unordered"])}
        once_begun, delay = dice.random() < 0.7, dice.uniform(0.0, 0.6)
        yield Action(number % CANCELLERS, "post", f"post {number + 1}", 0.0, job, delay, once_begun)


def kills(seed: int) -> Iterator[Event]:
    """Blows with kill -9, without end. Most fall on runners, which are back at once."""
    dice = random.Random(f"{seed} kills")
    # One in twenty fells a keeper or a conductor, which take seconds to come back on a busy machine.
    weights = [19 * (len(KILLS) - 1) if parts == "runner" else 1 for parts in KILLS]
    while True:
        yield Event("kill", dice.choices(KILLS, weights)[0], dice.randrange(1000))


def events(seed: int, faults: Sequence[Event]) -> Iterator[Event]:
    """What is done to the system, without end. Every fault comes before any comes again."""
    dice = random.Random(f"{seed} nemesis")
    while True:
        for fault in dice.sample(list(faults), len(faults)):
            seconds = fault.seconds * dice.uniform(0.8, 1.2)
            yield Event(fault.kind, fault.what, dice.randrange(1000), seconds, dice.uniform(0.1, 1.0))


_RESTARTS = (Event("restart", "fast"), Event("restart", "immediate"))


def faults_of_network(beyond_lease: float) -> list[Event]:
    """What can be done to conductors on hosts of their own, PostgreSQL and ZooKeeper elsewhere; each once.

    Partitions are what this is about: they are more than half of it.
    """
    partitions = [
        Event("sever", f"{which} of {whom}", seconds=seconds)
        for which in ("store", "zookeeper", "both")
        for whom in ("one", "all")
        for seconds in (0.7, 2.0, beyond_lease)
    ]
    return [
        *partitions,
        Event("kill", "runner"),
        Event("kill", "keeper"),
        Event("kill", "conductor"),
        Event("kill", "keeper+conductor"),
        Event("drain"),
        Event("pause", "conductor+keeper+runner", seconds=beyond_lease),
        Event("silence", "all", seconds=2.0),
        *_RESTARTS,
        Event("zookeeper-down", "killed", seconds=2.0),
        Event("zookeeper-down", "stands still", seconds=4.0),
        Event("zookeeper-down", "forgets"),
    ]


def faults(store_kind: str, beyond_lease: float) -> list[Event]:
    """All that can be done to a system on such a store, each once.

    Args:
        beyond_lease: seconds, after which others may take a silent conductor's jobs.
    """
    everywhere = [
        *(Event("kill", parts) for parts in KILLS),
        Event("drain"),
        *(Event("pause", parts, seconds=0.7) for parts in PAUSES),
        *(Event("pause", parts, seconds=beyond_lease) for parts in PAUSES),
        Event("silence", "all", seconds=2.0),
        Event("silence", "one", seconds=2.0),
        Event("fill", seconds=1.5),
    ]
    if store_kind == "sqlite":
        return [*everywhere, Event("lock", seconds=1.0), Event("lock", seconds=beyond_lease)]
    wires = ["conductor", "client", "all"]
    return [
        *everywhere,
        *_RESTARTS,
        *(Event("cut", wire) for wire in wires),
        *(Event("refuse", wire, seconds=1.0) for wire in wires),
        Event("half-open to_client", "all", seconds=1.0),
        Event("half-open to_server", "all", seconds=1.0),
        Event("half-open to_client", "conductor", seconds=beyond_lease),
        Event("half-open to_server", "client", seconds=2.0),
    ]
