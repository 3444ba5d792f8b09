"""What a cancel of a running job costs: each message to a server is waited for before the job hears of it."""

import pytest

from ebbtide.jobs import Poster
from ebbtide.jobs.states import JobState
from tests.contract.messages import messages


def test_a_cancel_locks_the_job_and_says_all_else_in_one_message(board, store, store_kind):
    job = board.put(JobState.RUNNING, begun=1)

    sent = messages(store, lambda: board.ledger.cancel(job, reason="x", who="ann"))

    # The lock; and the request, the job's row, the entry of its history, and a look for its children.
    assert len(sent) == (2 if store_kind == "postgresql" else 5), sent
    assert sent[0][0].startswith("SELECT")


def test_a_cancel_of_a_job_that_has_not_begun_ends_it_in_three_messages(board, store, store_kind):
    job = board.put(JobState.PENDING)

    sent = messages(store, lambda: board.ledger.cancel(job, reason="x", who="ann"))

    # The lock; the row, request and outcome in one; and the request, the entries, the outcome, the children.
    assert len(sent) == (3 if store_kind == "postgresql" else 7), sent
    assert sent[1][0].startswith("UPDATE jobs")


def test_a_poster_that_is_given_the_whole_id_does_not_look_for_it_first(board, made):
    job = board.put(JobState.RUNNING, begun=1)

    with Poster(made) as poster:
        sent = messages(poster._store, lambda: poster.cancel(job))

    assert sent[1][0].startswith("INSERT INTO job_cancels"), sent


def test_no_statement_of_a_cancel_reads_all_the_jobs(board, store, store_kind):
    job = board.put(JobState.RUNNING, begun=1)
    sent = messages(store, lambda: board.ledger.cancel(job, reason="x", who="ann"))

    with store.read() as connection:
        if store_kind == "postgresql":
            # Of a small table it would read all otherwise.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for text, parameters in sent:
            for each in text.split(";\n"):
                plan = explained(connection, each, parameters, store_kind)
                assert "Seq Scan" not in plan and "SCAN jobs" not in plan, plan


@pytest.mark.postgresql_only("each connection is a process of the server's")
def test_who_is_alone_keeps_to_one_connection_however_many_there_are(store):
    with store.read() as one, store.read() as another:
        assert serves(one) != serves(another)

    used = set()
    for _ in range(4):
        with store.read() as connection:
            used.add(serves(connection))
    assert len(used) == 1


def serves(connection):
    return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()


def explained(connection, statement, parameters, store_kind):
    if store_kind == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    else:
        options = {"no_parameters": True}
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", execution_options=options)
    return "\n".join(str(row) for row in rows)
