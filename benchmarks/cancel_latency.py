"""How soon a cancel takes hold: requested in this process, seen by a task in a runner of a real conductor."""

from __future__ import annotations

import getpass
import random
import threading
import time
from collections import defaultdict

from measuring import FLOWS, Listener, arguments, conductor, database, heading, scratch, spread, table

from ebbtide.jobs import JobState, Poster
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.store import Store

# Longer than the conductor's pause between two looks: the requests fall at any moment of it.
PAUSE_SECONDS = 0.03


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="how many jobs are cancelled, one by one")
    parser.add_argument("--seed", type=int, default=0, help="of the pauses before the requests")
    options = parser.parse_args()

    heading(options.database)
    chance = random.Random(options.seed)
    taken: dict[str, list[float]] = defaultdict(list)
    with scratch(options.folder) as place, database(options.database, place) as url:
        listener = Listener(place)
        with Poster(url, flow_modules=[FLOWS]) as poster, Store(url) as store:
            ledger = Ledger(store)
            with conductor(url, runners=1):
                for _ in range(options.rounds):
                    for step, seconds in cancel_one(poster, ledger, listener, chance).items():
                        taken[step].append(seconds)
        listener.close()
    table(
        f"a running job cancelled from another process, {options.rounds} times, ms",
        ["from -> to", "p50", "p95", "p99", "max"],
        [[step, *spread(seconds)] for step, seconds in taken.items()],
    )


def cancel_one(poster: Poster, ledger: Ledger, listener: Listener, chance: random.Random) -> dict[str, float]:
    """Post a job, let it begin, cancel it, and wait until it is cancelled. Returns seconds by step."""
    job = poster.post("measured.wait", {"listener": listener.path})
    listener.hear("began")
    threading.Event().wait(chance.uniform(0, PAUSE_SECONDS))
    called = time.time()
    ledger.cancel(job.id, reason="measured", who=getpass.getuser())
    committed = time.time()
    woke = listener.hear("woke")
    ended = poster.wait(job.id, timeout=60)
    if ended.state != JobState.CANCELLED or ended.cancel is None:
        raise SystemExit(f"job {job.id} ended {ended.state}")
    reverted = ended.cancel.reverted_at
    assert reverted is not None
    return {
        "request called -> committed": committed - called,
        "committed -> event set in the task": woke - committed,
        "request called -> event set in the task": woke - called,
        "committed -> job cancelled": reverted - committed,
    }


if __name__ == "__main__":
    main()
