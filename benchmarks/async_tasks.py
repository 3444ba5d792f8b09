"""Coroutines that wait, all cancelled at once: how soon every cleanup has run, and every undo."""

from __future__ import annotations

import time

from measuring import FLOWS, Listener, arguments, conductor, database, heading, scratch, table

from ebbtide.jobs import JobState, Poster


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[100, 1_000], help="AsyncTasks in the job")
    options = parser.parse_args()

    heading(options.database)
    rows = []
    for tasks in options.tasks:
        with scratch(options.folder) as place, database(options.database, place) as url:
            rows.append(
                [f"{tasks:,}", *(f"{seconds:.2f}" for seconds in measure(url, Listener(place), tasks))]
            )
    head = ["waiting", "post -> all wait", "cancel -> all cleaned up", "-> all undone"]
    table("AsyncTasks in one runner, seconds", head, rows)


def measure(url: str, listener: Listener, tasks: int) -> list[float]:
    """Post a job, let all its tasks wait, cancel it, wait until it was undone. Returns seconds."""
    with Poster(url, flow_modules=[FLOWS]) as poster, conductor(url, runners=1):
        posted = time.time()
        job = poster.post("measured.many-waiting", {"listener": listener.path, "tasks": tasks})
        began = listener.hear("waiting")
        poster.cancel(job.id, reason="measured")
        cancelled = time.time()
        cleaned = listener.hear("cleaned")
        ended = poster.wait(job.id, timeout=300)
        done = time.time()
    listener.close()
    if ended.state != JobState.CANCELLED or ended.tasks_undone != tasks:
        raise SystemExit(f"job {job.id} ended {ended.state} with {ended.tasks_undone} of {tasks} undone")
    return [began - posted, cleaned - cancelled, done - cancelled]


if __name__ == "__main__":
    main()
