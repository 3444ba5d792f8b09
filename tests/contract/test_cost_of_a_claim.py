"""What a claim costs: the same however many flows a conductor knows, and however many jobs wait."""

import pytest

from ebbtide.jobs.queue import first_due
from ebbtide.jobs.states import JobState
from tests.contract.messages import messages


def looks(told):
    return [statement for statement, _ in told if "unnest" in statement]


def flows(count):
    return ["copy@1", *(f"flow-{number}@{number % 3}" for number in range(count - 1))]


@pytest.mark.postgresql_only("SQLite has no lateral join, and plans in next to no time")
def test_postgresql_plans_one_look_however_many_flows_there_are(board, conductor, store):
    claims = conductor()
    few, many = [], []
    for count, told in ((1, few), (300, many)):
        board.put(JobState.PENDING)
        told += messages(store, lambda count=count: claims.claim(flows(count)))

    assert len(few) == len(many)
    assert looks(few) == looks(many)
    assert len(looks(few)) == 2  # without a lock at first, as whoever is idle does all the time


@pytest.mark.parametrize("lock", [False, True])
def test_the_first_of_many_flows_are_found_in_their_order(board, store, lock):
    ranks = [(0, 3.0), (5, 1.0), (0, 2.0), (5, 0.5)]
    jobs = {
        (priority, due_at): board.put(
            JobState.PENDING, flow=f"flow-{number}", version=number % 3, priority=priority, due_at=due_at
        )
        for number, (priority, due_at) in enumerate(ranks)
    }
    board.put(JobState.PENDING, flow="flow-0", version=7, priority=9)  # of a version that is not known here

    with store.write() as connection:
        found = first_due(connection, [*flows(300), "no version", "flow-0@x"], 3, lock=lock)

    assert [row.id for row in found] == [jobs[5, 0.5], jobs[5, 1.0], jobs[0, 2.0]]


def test_who_knows_no_flow_finds_nothing(board, store):
    board.put(JobState.PENDING)

    with store.read() as connection:
        assert first_due(connection, [], 3) == []


@pytest.mark.postgresql_only("SQLite hashes no subquery")
@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("parents", [1, 100, 5000])
def test_where_many_jobs_wait_none_is_read_for_the_sake_of_another(board, store, ask, parents, lock):
    """A planner may rather hash all children there are, or read all jobs to meet one soon."""
    job = board.put(JobState.PENDING)
    ask(
        "INSERT INTO jobs SELECT (jsonb_populate_record(NULL::jobs, to_jsonb(job) "
        "|| jsonb_build_object('id', gen_random_uuid()::text, 'parent', mod(number, ?)))).* "
        "FROM jobs AS job, generate_series(1, 5000) AS number WHERE job.id = ?",
        parents,
        job,
    )
    ask("ANALYZE jobs")

    def look():
        with store.write() as connection:
            first_due(connection, flows(10), 1, lock=lock)

    statement, parameters = messages(store, look)[-1]
    with store.write() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(row[0] for row in rows)

    assert "ix_jobs_queue" in plan and "ix_jobs_parent" in plan
    assert "hashed" not in plan and "Seq Scan on jobs" not in plan, plan
