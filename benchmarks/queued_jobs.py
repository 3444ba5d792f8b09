"""What a long queue costs: post, list, show and cancel, with more and more jobs in the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from measuring import FLOWS, arguments, database, heading, median_ms, scratch, table

from ebbtide.flows import load_flows
from ebbtide.jobs import Poster, Selection

SAMPLES = 50
LABELS = {"batch": "measured"}

T = TypeVar("T")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000], help="queued jobs")
    options = parser.parse_args()

    heading(options.database)
    rows, totals = [], []
    for jobs in options.jobs:
        with scratch(options.folder) as place, database(options.database, place) as url:
            row, total = measure(url, jobs)
        rows.append([f"{jobs:,}", *row])
        totals.append([f"{jobs:,}", *total])
    table("milliseconds for one", ["queued jobs", "post", "list 100", "show", "cancel"], rows)
    table(
        "seconds for all",
        ["queued jobs", "post", "list", "cancel each", "retry by label", "cancel by label"],
        totals,
    )


def measure(url: str, jobs: int) -> tuple[list[str], list[str]]:
    """Fill a queue of `jobs`, then list it, show some and cancel all. The cells of both tables."""
    with Poster(url, registry=load_flows([FLOWS])) as poster:
        posting, posted = [], []
        for _ in range(jobs):
            seconds, job = timed(lambda: poster.post("measured.linear", labels=LABELS))
            posting.append(seconds)
            posted.append(job.id)
        listing = [timed(lambda: poster.list(limit=100))[0] for _ in range(SAMPLES)]
        list_all, found = timed(lambda: poster.list(limit=jobs))
        if len(found) != jobs:
            raise SystemExit(f"{len(found)} of {jobs} jobs were listed")
        showing = [timed(lambda: poster.show(posted[0]))[0] for _ in range(SAMPLES)]
        cancelling = [timed(partial(poster.cancel, one, "measured"))[0] for one in posted]
        all_of_them = Selection(labels=LABELS)
        together = []
        for ask in (poster.retry_many, partial(poster.cancel_many, reason="measured")):
            seconds, answers = timed(partial(ask, all_of_them))
            if [answer.answer for answer in answers] != ["accepted"] * jobs:
                raise SystemExit(f"of {jobs} jobs not all were accepted: {answers[:3]}")
            together.append(seconds)
    # At the queue's full length: the last hundredth that was posted, the first that was cancelled.
    share = max(1, jobs // 100)
    each = [posting[-share:], listing, showing, cancelling[:share]]
    return (
        [f"{median_ms(seconds):.2f}" for seconds in each],
        [f"{seconds:.2f}" for seconds in (sum(posting), list_all, sum(cancelling), *together)],
    )


def timed(call: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


if __name__ == "__main__":
    main()
