"""Reading jobs: phase and progress, and filters that agree with them."""

import json
import sqlite3

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebbtide.errors import JobNotFound
from ebbtide.jobs import tables, views
from ebbtide.jobs.states import PHASES, JobState
from ebbtide.jobs.views import Views

NOBODY = "00000000-0000-4000-8000-000000000000"
FINAL = [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED]


@pytest.fixture
def shown(store) -> Views:
    return Views(store)


# -- phases and filters


def every_kind_of_job(board) -> list[str]:
    """One job of each combination that decides its phase."""
    return [
        board.put(
            state,
            cancel_requested_at=board.clock.now if requested else None,
            due_at=board.clock.now + (60 if later else 0),
            undoing=undoing,
            overdue_at=board.clock.now if overdue else None,
        )
        for state in JobState
        for requested in (False, True)
        for later in (False, True)
        for undoing in (0, 1)
        for overdue in (False, True)
    ]


def test_each_word_filters_exactly_the_jobs_that_are_called_so(board, shown):
    jobs = every_kind_of_job(board)
    seen = [shown.job(job) for job in jobs]

    for word in PHASES:
        found = {job.id for job in shown.jobs(state=word)}
        assert found == {job.id for job in seen if word in (job.state, job.phase)}, word


def test_every_phase_is_seen_and_every_state(board, shown):
    seen = [shown.job(job) for job in every_kind_of_job(board)]

    assert {job.phase for job in seen} == set(PHASES)
    assert {job.state for job in seen} == set(JobState)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flow=st.sampled_from([None, "copy", "move", "absent"]),
    word=st.sampled_from([None, *PHASES]),
    labels=st.sampled_from([{}, {"team": "a"}, {"team": "b"}, {"team": "a", "kind": "x"}, {"none": "a"}]),
    limit=st.integers(1, 20),
)
def test_all_filters_have_to_fit(board, shown, flow, word, labels, limit):
    if not board.rows(tables.jobs):
        for number, state in enumerate([JobState.PENDING, JobState.RUNNING, JobState.FAILED] * 4):
            job = board.put(state, flow=("copy", "move")[number % 2], created_at=float(number // 2))
            for key, value in (("team", "ab"[number % 3 % 2]), ("kind", "xyz"[number % 3])):
                board.add(tables.job_labels, job=job, key=key, value=value)
    stored = {row["id"]: row for row in board.rows(tables.jobs)}
    of = {job: {r["key"]: r["value"] for r in board.rows(tables.job_labels, job)} for job in stored}

    found = [job.id for job in shown.jobs(state=word, flow=flow, labels=labels, limit=limit)]

    fits = [
        job
        for job, row in sorted(stored.items(), key=lambda pair: (-pair[1]["created_at"], pair[0]))
        if (flow is None or row["flow"] == flow)
        and (word is None or word == row["state"])
        and labels.items() <= of[job].items()
    ]
    assert found == fits[:limit]


def test_a_scheduled_job_is_pending_once_it_is_due(board, shown):
    job = board.post(delay_seconds=60.0)
    assert (shown.job(job).phase, shown.jobs(state="scheduled")[0].id) == ("scheduled", job)

    board.clock.advance(60)

    assert shown.job(job).phase == "pending"
    assert shown.jobs(state="scheduled") == []


@pytest.mark.sqlite_only("elsewhere the number of values is not to be set")
def test_more_jobs_than_one_statement_can_name_are_listed(board, shown, monkeypatch):
    """A database takes a limited number of values in one statement; SQLite's usual limit is 32,766."""
    jobs = [board.put(state, created_at=float(n)) for n, state in enumerate([*JobState] * 4)]
    monkeypatch.setattr(views, "_AT_ONCE", 5)
    board.store.engine.dispose()
    sa.event.listen(
        board.store.engine,
        "connect",
        lambda connection, _: connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 10),
    )

    assert [job.id for job in shown.jobs(limit=1000)] == jobs[::-1]


# -- one job


def test_a_posted_job_is_shown_as_it_was_posted(board, shown):
    labels = {"team": "a", "due_at": "not a time"}
    job = board.post(
        "copy", version=3, parameters='{"at":1.5,"x":[null]}', priority=4, labels_text=json.dumps(labels)
    )

    job = shown.job(job)

    assert (job.flow, job.version, job.state, job.phase, job.attempt) == ("copy", 3, "pending", "pending", 1)
    assert (job.params, job.labels, job.priority) == ({"at": 1.5, "x": [None]}, labels, 4)
    assert (job.progress, job.tasks_total, job.tasks_done, job.tasks_undone, job.current) == (
        0.0,
        0,
        0,
        0,
        [],
    )
    assert (job.created_at, job.due_at, job.started_at, job.ended_at) == (
        board.clock.now,
        board.clock.now,
        None,
        None,
    )
    assert (job.undo, job.error, job.error_task, job.park_reason, job.owner, job.cancel) == (None,) * 6


def test_a_job_as_a_dict_is_json_with_iso_times(board, shown):
    job = board.post("copy", parameters='{"at":1.5,"cancel":{"at":2}}', labels_text='{"ended_at":"x"}')
    board.ledger.cancel(job, reason="wrong folder", who="bob")

    told = json.loads(json.dumps(shown.job(job).as_dict()))

    assert told["created_at"] == told["due_at"] == told["ended_at"] == "2023-11-14T22:13:20.000Z"
    assert told["started_at"] is None
    assert told["cancel"] == {
        "reason": "wrong folder",
        "source": "user",
        "who": "bob",
        "requested_at": "2023-11-14T22:13:20.000Z",
        "forwarded_at": None,
        "delivered_at": None,
        "reverted_at": "2023-11-14T22:13:20.000Z",
    }
    # Values of the user's own that are called as times are left as they are.
    assert (told["params"], told["labels"]) == ({"at": 1.5, "cancel": {"at": 2}}, {"ended_at": "x"})
    assert set(told) == set(type(shown.job(job)).__dataclass_fields__)


def test_the_cancel_request_shown_is_that_of_the_present_attempt(board, shown):
    job = board.post()
    board.ledger.cancel(job, reason="first", who="bob")
    assert shown.job(job).cancel.reason == "first"

    board.ledger.retry(job, who="bob")

    assert shown.job(job).cancel is None


def test_the_outcome_shown_is_that_of_the_present_attempt(board, shown):
    job = board.put(JobState.FAILED, attempt=2, undo="complete")
    for attempt, error in ((1, "old"), (2, "new")):
        kept = {"state": "failed", "undo": "complete", "error": error, "error_task": f"task-{error}"}
        board.add(tables.job_outcomes, job=job, attempt=attempt, ended_at=1.0, **kept)

    assert (shown.job(job).error, shown.job(job).error_task) == ("new", "task-new")
    board.ledger.retry(job, who="bob")
    assert (shown.job(job).error, shown.job(job).error_task) == (None, None)


def test_why_a_job_is_parked_is_shown_while_it_is_and_the_latest_reason(board, shown):
    job = board.put(JobState.PARKED)
    for number, reason in ((2, "first"), (5, "second")):
        board.add(tables.job_parks, job=job, attempt=1, number=number, reason=reason, parked_at=1.0)

    assert shown.job(job).park_reason == "second"
    board.change(job, state="pending")
    assert shown.job(job).park_reason is None


@pytest.mark.parametrize("state", JobState)
def test_who_works_on_a_job_is_shown_only_while_somebody_does(board, shown, state):
    job = board.put(state, owner="one")
    board.add_task(job, "scan")

    running = state is JobState.RUNNING
    assert shown.job(job).owner == ("one" if running else None)
    assert shown.job(job).current == (["scan"] if running else [])


def test_an_unknown_job_is_not_shown(shown):
    for look in (shown.job, shown.resolve, shown.result):
        with pytest.raises(JobNotFound):
            look(NOBODY)
    assert shown.entries(NOBODY) == shown.logs(NOBODY) == shown.tasks(NOBODY) == []


# -- progress


def test_progress_grows_with_what_is_done_and_falls_with_what_is_undone(board, shown):
    job = board.put(JobState.RUNNING, tasks_total=4)
    seen = [shown.job(job).progress]
    for task in ("a", "b"):
        board.add_task(job, task, how="returned", fraction=0.1)
        seen.append(shown.job(job).progress)
    board.add_task(job, "c", fraction=0.5)
    seen.append(shown.job(job).progress)
    for task in ("c", "b", "a"):
        with board.store.write() as connection:
            of = tables.job_tasks
            ended = sa.update(of).where(of.c.task == task).values(undo_begun_at=1.0, undo_ended_at=2.0)
            connection.execute(ended)
        seen.append(shown.job(job).progress)

    assert seen == [0.0, 0.25, 0.5, 0.625, 0.5, 0.25, 0.0]


@pytest.mark.parametrize(("state", "progress"), [("completed", 1.0), ("failed", 0.0), ("cancelled", 0.0)])
def test_a_job_that_has_ended_stands_whole_or_not_at_all(board, shown, state, progress):
    job = board.put(JobState(state), tasks_total=4)
    board.add_task(job, "a", how="returned")

    assert shown.job(job).progress == progress


def test_progress_is_that_of_the_present_attempt_and_of_the_last_rounds(board, shown):
    job = board.put(JobState.RUNNING, tasks_total=2, attempt=2)
    board.add_task(job, "a", attempt=1, how="returned")
    undone = {"undo_begun_at": 1.0, "undo_ended_at": 2.0}
    board.add_task(job, "a", attempt=2, round=1, how="returned", **undone)
    board.add_task(job, "b", attempt=2, round=1, how="raised", error="ValueError: broken", **undone)
    assert (shown.job(job).progress, shown.job(job).error_task) == (0.0, "b")

    board.add_task(job, "a", attempt=2, round=2, how="returned")
    board.add_task(job, "b", attempt=2, round=2)

    assert (shown.job(job).progress, shown.job(job).error_task) == (0.5, None)
    assert shown.job(job).current == ["b"]


def test_progress_never_passes_the_whole(board, shown):
    job = board.put(JobState.RUNNING, tasks_total=1)
    for task in ("a", "b", "c"):
        board.add_task(job, task, how="returned")

    assert shown.job(job).progress == 1.0


def test_what_runs_or_is_being_undone_is_named_in_the_order_it_began(board, shown):
    """In a later round the order may be another than in the first."""
    job = board.put(JobState.RUNNING)
    undone = {"how": "returned", "undo_begun_at": 1.0, "undo_ended_at": 2.0}
    for task in ("a", "b", "c"):
        board.add_task(job, task, round=1, **undone)
    board.add_task(job, "c", round=2)
    board.add_task(job, "a", round=2)
    board.add_task(job, "done", how="returned")
    board.add_task(job, "being undone", how="returned", undo_begun_at=1.0)

    assert shown.job(job).current == ["c", "a", "being undone"]
