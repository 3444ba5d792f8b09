"""How soon a cancel takes hold: requested in this process, seen by a task in a runner of a real conductor."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import random
import secrets
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from measuring import FLOWS, Listener, arguments, conductor, database, heading, scratch, spread, table

from ebbtide.config import load_settings
from ebbtide.jobs import Job, JobState, Poster
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.requests import Requests
from ebbtide.jobs.signals import SIGNALS, Signal, open_signal
from ebbtide.jobs.states import FINAL_STATES
from ebbtide.jobs.store import Store

# Longer than the conductor's pause between two looks: the requests fall at any moment of it.
PAUSE_SECONDS = 0.03
# After the event, until the job has ended.
_ENDS_SECONDS, _LOOK_SECONDS = 60.0, 0.01
# Not of the product: a request that another program writes into a file, and no signal at all.
REQUEST_FILE, DROPPED = "request-file", "dropped"
_TO_EVENT = ("request called -> event set in the task", "committed -> event set in the task")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="how many jobs are cancelled, one by one")
    parser.add_argument("--seed", type=int, default=0, help="of the pauses before the requests")
    parser.add_argument(
        "--signal",
        dest="signals",
        nargs="+",
        choices=(*SIGNALS, REQUEST_FILE, DROPPED),
        default=["auto"],
        help=f"what carries the request, several in turn; {REQUEST_FILE}: a file that any program may write; "
        f"{DROPPED}: nothing, so that the sweep finds it. EBBTIDE_REDIS_URL and EBBTIDE_ZOOKEEPER_HOSTS name "
        "the servers",
    )
    options = parser.parse_args()

    heading(options.database)
    measured = {name: measure(name, options) for name in options.signals}
    if len(measured) > 1:
        table(
            "from the call, and from the commit, to the event set in the task, ms",
            ["signal", *(f"{since} {p}" for since in ("called", "committed") for p in ("p50", "p95", "p99"))],
            [
                [name, *(cell for step in _TO_EVENT for cell in spread(taken[step])[:3])]
                for name, taken in measured.items()
            ],
        )


def measure(name: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Cancel as many jobs as the options say by the signal of that name; returns seconds by step."""
    chance = random.Random(options.seed)
    taken: dict[str, list[float]] = defaultdict(list)
    with scratch(options.folder) as place, database(options.database, place) as url:
        listener = Listener(place)
        chosen = signal_options(name, place)
        settings = load_settings(database=url, **chosen)
        with (
            Poster(settings=settings, flow_modules=[FLOWS]) as poster,
            Store(url) as store,
            contextlib.closing(open_signal(store, settings)) as signal,
            conductor(url, runners=1, **chosen),
        ):
            client = Client(store, signal, Requests(settings.signal_folder), name)
            for _ in range(options.rounds):
                for step, seconds in cancel_one(poster, client, listener, chance).items():
                    taken[step].append(seconds)
        listener.close()
    table(
        f"a running job cancelled from another process, signal {name}, {options.rounds} times, ms",
        ["from -> to", "p50", "p95", "p99", "max"],
        [[step, *spread(seconds)] for step, seconds in taken.items()],
    )
    return {step.replace("written", "committed"): seconds for step, seconds in taken.items()}


def signal_options(name: str, place: Path) -> dict[str, Any]:
    """The options of the conductor and of its clients, with a place of their own."""
    own = f"measured-{secrets.token_hex(4)}"
    known = {REQUEST_FILE: "file", DROPPED: "local"}  # the latter is heard by no other process
    return {
        "signal": known.get(name, name),
        "signal_folder": str(place / own),
        "redis_channel": own,
        "zookeeper_path": f"/{own}",
    }


class Client:
    """Requests a cancel, and nothing besides that a poster does for comfort."""

    def __init__(self, store: Store, signal: Signal, requests: Requests, name: str) -> None:
        self._ledger = Ledger(store)
        self._signal = signal
        self._requests = requests
        self.writes_file = name == REQUEST_FILE

    def cancel(self, job_id: str) -> None:
        """Returns once the request is stored, or the file is on disk, and the bell was rung."""
        if self.writes_file:
            self._requests.request(job_id, "measured")
        else:
            self._ledger.cancel(
                job_id,
                reason="measured",
                who=getpass.getuser(),
                ahead=lambda: self._signal.ring_ahead(job_id),
            )
            self._signal.ring(job_id)


def cancel_one(poster: Poster, client: Client, listener: Listener, chance: random.Random) -> dict[str, float]:
    """Post a job, let it begin, cancel it, and wait until it is cancelled. Returns seconds by step."""
    job = poster.post("measured.wait", {"listener": listener.path})
    listener.hear("began")
    threading.Event().wait(chance.uniform(0, PAUSE_SECONDS))
    called = time.time()
    client.cancel(job.id)
    committed = time.time()
    woke = listener.hear("woke")
    ended = await_end(poster, job.id)
    if ended.state != JobState.CANCELLED or ended.cancel is None:
        raise SystemExit(f"job {job.id} ended {ended.state}")
    reverted = ended.cancel.reverted_at
    assert reverted is not None
    stored = "written" if client.writes_file else "committed"
    return {
        f"request called -> {stored}": committed - called,
        f"{stored} -> event set in the task": woke - committed,
        "request called -> event set in the task": woke - called,
        f"{stored} -> job cancelled": reverted - committed,
    }


def await_end(poster: Poster, job_id: str) -> Job:
    """Wait by looking again and again: `Poster.wait` would listen to the signal from then on, beside what is
    measured next.
    """
    give_up = time.monotonic() + _ENDS_SECONDS
    while time.monotonic() < give_up:
        job = poster.show(job_id)
        if job.state in FINAL_STATES:
            return job
        threading.Event().wait(_LOOK_SECONDS)
    raise SystemExit(f"job {job_id} did not end within {_ENDS_SECONDS:g} s")


if __name__ == "__main__":
    main()
