"""How soon what does not stop is dead: a task with a program in another session, both deaf to SIGTERM."""

from __future__ import annotations

from collections import defaultdict

from measuring import FLOWS, Listener, arguments, conductor, database, heading, scratch, spread, table

from ebbtide.jobs import JobState, Poster


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how many jobs are cancelled, one by one")
    options = parser.parse_args()

    heading(options.database)
    taken: dict[str, list[float]] = defaultdict(list)
    with scratch(options.folder) as place, database(options.database, place) as url:
        listener = Listener(place)
        with (
            Poster(url, flow_modules=[FLOWS]) as poster,
            conductor(url, runners=1, grace_seconds=0, kill_after_seconds=0),
        ):
            for _ in range(options.rounds):
                for step, seconds in end_one(poster, listener).items():
                    taken[step].append(seconds)
        listener.close()
    table(
        f"a deaf task ended with its tree, {options.rounds} times, without grace, ms",
        ["from -> to", "p50", "p95", "p99", "max"],
        [[step, *spread(seconds)] for step, seconds in taken.items()],
    )


def end_one(poster: Poster, listener: Listener) -> dict[str, float]:
    """Post a job, let it begin, cancel it, wait until it was ended and undone. Returns seconds by step."""
    job = poster.post("measured.deaf", {"listener": listener.path})
    listener.hear("began")
    poster.cancel(job.id, reason="measured")
    ended = poster.wait(job.id, timeout=60)
    if ended.state != JobState.CANCELLED or ended.cancel is None or ended.cancel.reverted_at is None:
        raise SystemExit(f"job {job.id} ended {ended.state}")
    # The keeper's own stop-watch: from before it stops the runner until nothing of the tree is left.
    (again,) = [entry for entry in poster.entries(job.id) if entry.name == "reclaimed"]
    return {
        "SIGKILL -> tree proven dead": again.detail["ended_in_seconds"],
        "cancel requested -> claimed again": again.at - ended.cancel.requested_at,
        "claimed again -> job cancelled": ended.cancel.reverted_at - again.at,
    }


if __name__ == "__main__":
    main()
