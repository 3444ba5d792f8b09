"""Statistics: counted by flow and in all, over a window and as things stand."""


from typing import Any

import pytest

from ebbtide.errors import UsageError
from ebbtide.jobs import FlowStatistics, Poster, tables
from ebbtide.jobs.states import JobState

HOUR = 3600.0
S = JobState


@pytest.fixture
def poster(made):
    with Poster(made) as poster:
        yield poster


@pytest.fixture
def put(board):
    """Put a job there that was posted, and has ended, so many hours ago."""

    def put(flow: str, state: JobState, posted: float, ended: float | None = None, took: float = 1.0) -> Any:
        columns = {"flow": flow, "created_at": board.clock.now - posted * HOUR}
        if ended is not None:
            at = board.clock.now - ended * HOUR
            columns |= {"ended_at": at, "started_at": at - took}
        return board.put(state, **columns)

    return put


def test_each_flow_is_counted_and_all_together(poster, put):
    put("copy", S.COMPLETED, 5, 1, took=10)
    put("copy", S.COMPLETED, 5, 1, took=30)
    put("copy", S.FAILED, 5, 1)
    put("copy", S.PENDING, 5)
    put("scan", S.CANCELLED, 5, 1)
    put("scan", S.RUNNING, 5)
    put("scan", S.PAUSED, 5)

    found = poster.statistics()

    copy = FlowStatistics(
        "copy", posted=4, completed=2, failed=1, pending=1, mean_seconds=20.0, p95_seconds=30.0
    )
    scan = FlowStatistics("scan", posted=3, cancelled=1, running=1, paused=1)
    assert found.flows == [copy, scan]
    assert found.total == FlowStatistics(
        None,
        posted=7,
        completed=2,
        failed=1,
        cancelled=1,
        pending=1,
        running=1,
        paused=1,
        mean_seconds=20.0,
        p95_seconds=30.0,
    )
    assert poster.statistics(flow="scan").flows == [scan]


def test_in_a_window_counts_what_happened_in_it(poster, put, board):
    put("copy", S.COMPLETED, 5, 2, took=7)
    put("copy", S.COMPLETED, 5, 0.5, took=3)
    parked = put("copy", S.PARKED, 0.5)
    for number, hours in ((2, 3), (3, 0.4), (4, 0.3)):
        at = board.clock.now - hours * HOUR
        board.add(tables.job_parks, job=parked, attempt=1, number=number, reason="x", parked_at=at)

    (found,) = poster.statistics(HOUR).flows

    assert (found.posted, found.completed, found.parked, found.parked_now) == (1, 1, 1, 1)
    assert (found.mean_seconds, found.p95_seconds) == (3.0, 3.0)


@pytest.mark.parametrize(("jobs", "p95"), [(1, 1.0), (19, 19.0), (20, 19.0), (40, 38.0)])
def test_95_of_100_took_no_longer_than_that(poster, put, jobs, p95):
    for seconds in range(1, jobs + 1):
        put("copy", S.COMPLETED, 5, 1, took=seconds)

    assert poster.statistics().total.p95_seconds == pytest.approx(p95)


@pytest.mark.parametrize("window", [0, -1, True, "1h", float("nan")])
def test_a_window_is_a_number_of_seconds(poster, put, window):
    put("copy", S.COMPLETED, 5, 1)
    with pytest.raises(UsageError, match="the window should be"):
        poster.statistics(window)
