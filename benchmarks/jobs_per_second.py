"""Jobs per second through a real conductor, how soon an idle one starts a job, and what calls cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from measured_flows import Nothing
from measuring import FLOWS, Listener, arguments, conductor, database, heading, scratch, spread, table
from taskflow import task

from ebbtide.flows import load_flows
from ebbtide.jobs import Job, JobState, Poster
from ebbtide.jobs.claims import Claims, new_owner_id
from ebbtide.jobs.store import Store

RUNNERS = 2
WAIT_SECONDS = 300.0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="one-step jobs posted at once")
    parser.add_argument("--rounds", type=int, default=100, help="jobs posted to an idle one, one by one")
    parser.add_argument("--calls", type=int, default=20_000, help="calls of a task that are timed together")
    options = parser.parse_args()

    heading(options.database)
    with scratch(options.folder) as place:
        with database(options.database, place) as url:
            many(url, options.jobs)
        with database(options.database, place) as url:
            idle(url, place, options.rounds)
        with database(options.database, place) as url:
            claims(url, options.jobs)
    calls(options.calls)


def many(url: str, jobs: int) -> None:
    """Post `jobs` jobs of one step to a conductor that waits for them."""
    with Poster(url, flow_modules=[FLOWS]) as poster, conductor(url, RUNNERS):
        poster.wait(poster.post("measured.linear").id, timeout=WAIT_SECONDS)
        began = time.time()
        posted = [poster.post("measured.linear").id for _ in range(jobs)]
        all_posted = time.time()
        ended = [job.ended_at for job in wait_for_all(poster, posted)]
    last = max(at for at in ended if at is not None)
    table(
        f"{jobs} jobs of one step, {RUNNERS} runners",
        ["what", "seconds", "jobs/s"],
        [
            ["first post -> last post", *rate(all_posted - began, jobs)],
            ["first post -> last job completed", *rate(last - began, jobs)],
        ],
    )


def wait_for_all(poster: Poster, posted: list[str]) -> list[Job]:
    """Wait without disturbing: one look at the newest jobs now and then."""
    give_up = time.monotonic() + WAIT_SECONDS
    while poster.list(state="pending", limit=1) or poster.list(state="running", limit=1):
        if time.monotonic() > give_up:
            raise SystemExit(f"jobs are still open after {WAIT_SECONDS:.0f} seconds")
        threading.Event().wait(0.1)
    jobs = [poster.show(job_id) for job_id in posted]
    if any(job.state != JobState.COMPLETED for job in jobs):
        raise SystemExit("not all jobs completed")
    return jobs


def idle(url: str, place: Path, rounds: int) -> None:
    """Post one job at a time to a conductor that has nothing else to do."""
    to_start, to_end = [], []
    listener = Listener(place)
    with Poster(url, flow_modules=[FLOWS]) as poster, conductor(url, runners=1):
        for _ in range(rounds):
            job = poster.post("measured.start", {"listener": listener.path})
            posted = time.time()
            to_start.append(listener.hear("began") - posted)
            ended = poster.wait(job.id, timeout=WAIT_SECONDS).ended_at
            assert ended is not None
            to_end.append(ended - posted)
    listener.close()
    table(
        f"one job posted to an idle conductor, {rounds} times, ms",
        ["from -> to", "p50", "p95", "p99", "max"],
        [["posted -> task begins", *spread(to_start)], ["posted -> job completed", *spread(to_end)]],
    )


def claims(url: str, jobs: int) -> None:
    """Claim every one of `jobs` queued jobs, in this process."""
    with Poster(url, registry=load_flows([FLOWS])) as poster, Store(url) as store:
        for _ in range(jobs):
            poster.post("measured.linear")
        board = Claims(store, new_owner_id(), name="measured", lease_seconds=3600)
        board.register(flows=["measured.linear@1"], runners=1, isolation="thread")
        taken = [timed(lambda: board.claim(["measured.linear@1"])) for _ in range(jobs)]
    table(
        f"{jobs} jobs claimed one after the other, ms",
        ["what", "p50", "p95", "p99", "max"],
        [["one claim", *spread(taken)]],
    )


class Bare(task.Task):  # type: ignore[misc]  # taskflow is untyped
    """The task that does nothing, without a wrapper."""

    def execute(self) -> None:
        pass


def calls(count: int) -> None:
    """What the wrapper around execute() and a checkpoint add to a call, with no job around."""
    bare, wrapped = Bare("bare"), Nothing("wrapped")
    rows = [
        ["execute(), bare", per_call(bare.execute, count)],
        ["execute(), wrapped", per_call(wrapped.execute, count)],
        ["checkpoint()", per_call(wrapped.checkpoint, count)],
    ]
    table(f"one call, the best of 5 x {count}, microseconds", ["call", "us"], rows)


def per_call(call: Callable[[], object], count: int) -> str:
    def repeated() -> None:
        for _ in range(count):
            call()

    return f"{1e6 * min(timed(repeated) for _ in range(5)) / count:.2f}"


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def rate(seconds: float, jobs: int) -> list[str]:
    return [f"{seconds:.2f}", f"{jobs / seconds:.0f}"]


if __name__ == "__main__":
    main()
