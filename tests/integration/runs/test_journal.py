"""What a run stores, when, in how many commits; and that TaskFlow's own API reads it."""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator

import pytest
from taskflow import retry
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.urls import as_text, normalise

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from taskflow.persistence import backends

LOG = logging.getLogger("ebbtide-test")


# What a conductor stores of itself: its lease, and the flows that it knows.
OF_CONDUCTORS = ("conductors", "published_flows")


@pytest.fixture
def transactions(bench, store_kind, request, monkeypatch) -> Callable[[], list[list[str]]]:
    """Gives the statements of every transaction that was committed from here on, about jobs: without what a
    conductor stores of itself.

    As the database itself was told, over connections that are opened from here on: those of conductors.
    """
    if store_kind == "sqlite":
        told = _told_to_sqlite(monkeypatch)
        return lambda: _committed(told)
    server = request.getfixturevalue("postgresql")
    name = bench.database.rpartition("/")[2]
    server.log_statements(name)
    return lambda: _committed(_told_to_postgresql(server.log, name))


def _told_to_sqlite(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, str]]:
    told: list[tuple[object, str]] = []
    real = Sqlite.connect

    def connect(self):
        connection = real(self)
        connection.set_trace_callback(lambda statement: told.append((connection, statement)))
        return connection

    monkeypatch.setattr(Sqlite, "connect", connect)
    return told


def _told_to_postgresql(log: str, database: str) -> list[tuple[object, str]]:
    """The connections and what each was told, by the log of the server; a batch is several statements."""
    logged = re.findall(
        rf"^\S+ \S+ \S+ (\d+) {database} LOG:  statement: (.*\n(?:\t.*\n)*)", log, re.MULTILINE
    )
    return [(process, one) for process, text in logged for one in re.split(r";\n\t?", text.strip())]


def _committed(told: list[tuple[object, str]]) -> list[list[str]]:
    """What was told, by transaction, of those that were told to commit."""
    current: dict[object, list[str]] = {}
    committed: list[list[str]] = []
    for connection, statement in told:
        word = statement.split(None, 1)[0].upper()
        if word == "BEGIN":
            current[connection] = []
        elif word == "COMMIT":
            statements = current.pop(connection)
            if not all(any(table in one for table in OF_CONDUCTORS) for one in statements):
                committed.append(statements)
        else:
            current.setdefault(connection, []).append(statement)
    return committed


@pytest.fixture
def taskflow_logbook(bench) -> Iterator:
    """TaskFlow's own way to a logbook, by the uuid that is the job's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = backends.fetch({"connection": as_text(normalise(bench.database))})
    connections = []

    def read(job):
        connections.append(backend.get_connection())
        return connections[-1].get_logbook(job.id)

    yield read
    for connection in connections:
        connection.close()
    backend.close()


# Commits.


@pytest.mark.parametrize("number", [1, 5, 20])
def test_a_linear_flow_of_n_tasks_makes_at_most_n_plus_3_commits_after_its_post(bench, transactions, number):
    @bench.registry.flow("chain")
    def chain(folder, plan):
        return linear_flow.Flow("chain").add(*(bench.steps.Step(f"t{index}") for index in range(number)))

    bench.start()
    job = bench.post("chain")
    assert bench.final(job).state == "completed"

    stored = transactions()
    assert len(stored) <= number + 3, "\n\n".join("\n".join(one)[:2000] for one in stored)
    # The claim, one for each task at least, and the outcome: else nothing was counted.
    assert len(stored) >= number + 2
    assert len(bench.words("end")) == number


def test_the_fence_is_the_last_statement_of_every_commit_of_a_run(bench, transactions):
    bench.start()
    job = bench.post("linear")
    bench.final(job)

    claimed, *of_run, outcome = transactions()
    assert "UPDATE jobs" in claimed[2] or any("UPDATE jobs" in one for one in claimed)
    for statements in of_run:
        assert statements[-1].startswith("UPDATE jobs"), statements[-1]
        assert "epoch" in statements[-1].partition("WHERE")[2]
    assert any("INSERT INTO job_outcomes" in one for one in outcome)


# TaskFlow's own API.


def test_taskflow_reads_the_logbook_of_a_completed_job(bench, taskflow_logbook):
    job = bench.run("linear")
    bench.final(job)

    (flow,) = taskflow_logbook(job)

    assert (flow.name, flow.state) == ("linear@1", "SUCCESS")
    ends = {line[1]: line[2] for line in bench.steps.noted(str(bench.folder)) if line[0] == "end"}
    assert {atom.name: atom.state for atom in flow} == dict.fromkeys("abcd", "SUCCESS")
    assert {atom.name: atom.results for atom in flow} == {name: {"token": ends[name]} for name in "abcd"}
    assert {atom.intention for atom in flow} == {"EXECUTE"}


def test_taskflow_reads_the_logbook_of_a_cancelled_job(bench, taskflow_logbook):
    job = bench.run("linear", {"c": ["hold"]})
    bench.reached("execute c")
    bench.cancel(job)
    bench.final(job)

    (flow,) = taskflow_logbook(job)

    assert flow.state == "REVERTED"
    states = {atom.name: atom.state for atom in flow}
    assert states == {"a": "REVERTED", "b": "REVERTED", "c": "REVERTED", "d": "PENDING"}


def test_taskflow_reads_the_rounds_of_a_retried_flow(bench, taskflow_logbook):
    job = bench.run("foreach", {"c": ["fail"]})
    bench.final(job)

    (flow,) = taskflow_logbook(job)

    (tries,) = (atom for atom in flow if atom.name == "tries")
    # Of a round that failed TaskFlow 6.5 reads the value wrongly, and the failures rightly.
    ((_, first), (value, second)) = tries.results
    assert first["c"].exception_str == "c broke"
    assert (value, second) == (20, {})


@pytest.mark.parametrize("plan", [{}, {"c": ["fail"]}], ids=["completed", "failed"])
def test_parameters_are_not_stored_in_the_tables_of_taskflow(bench, plan):
    job = bench.run("foreach", plan | {"nobody": ["a secret word"]})
    bench.final(job)

    stored = [bench.sql(f"SELECT * FROM {table}") for table in ("logbooks", "flowdetails", "atomdetails")]

    assert all(stored)
    assert "a secret word" not in repr(stored)
    assert str(bench.folder) not in repr(stored)
    assert "a secret word" in repr(bench.sql("SELECT parameters FROM job_parameters"))


# What is in the store while the run goes on.


def _stored_result(bench, job, task):
    return bench.sql(
        "SELECT a.state, CAST(a.results AS TEXT) FROM atomdetails a"
        " JOIN flowdetails f ON a.parent_uuid = f.uuid WHERE f.parent_uuid = ? AND a.name = ?",
        job.id,
        task,
    )[0]


@pytest.mark.parametrize("workers", [2, 4])
def test_the_result_of_a_task_is_stored_while_its_siblings_still_run(bench, workers):
    job = bench.post("unordered", {"a": ["gate"]})
    bench.start(workers)
    bench.reached("execute a")

    others = ["b", "c", "d", "e", "f"]
    bench.until(
        "the ends of the others are stored",
        lambda: {r.task for r in bench.poster.tasks(job.id) if r.how == "returned"} == set(others),
    )

    ends = {line[1]: line[2] for line in bench.steps.noted(str(bench.folder)) if line[0] == "end"}
    for task in others:
        state, results = _stored_result(bench, job, task)
        assert (state, json.loads(results)) == ("SUCCESS", {"token": ends[task]})
    bench.gates.open("execute a")
    assert bench.final(job).state == "completed"


def test_the_end_of_an_undo_is_stored_while_its_siblings_are_still_being_undone(bench):
    job = bench.post("unordered", {"f": ["break"], "undo a": ["gate"]})
    bench.start(2)
    bench.reached("execute f")
    bench.ended("a", "b", "c", "d", "e")
    bench.gates.open("execute f")
    bench.reached("undo a")

    bench.until(
        "the undos of the others are stored",
        lambda: sum(r.undo_ended_at is not None for r in bench.poster.tasks(job.id)) == 5,
    )

    assert bench.poster.show(job.id).tasks_undone == 5
    bench.gates.open("undo a")
    assert bench.final(job).state == "failed"


def test_checkpoint_data_is_stored_when_checkpoint_returns_and_given_to_the_undo(bench):
    seen = []

    class Saving(bench.steps.Step):
        def _do(self, word, folder):
            self.checkpoint({"parts": 1})
            self.checkpoint({"parts": 2})
            bench.steps.pass_gate(folder, "saved")
            return super()._do(word, folder)

        def revert(self, result, folder, plan):
            seen.append((self.interrupted, self.saved))
            super().revert(result, folder, plan)

    @bench.registry.flow("saving")
    def saving(folder, plan):
        return linear_flow.Flow("saving").add(bench.steps.Step("a"), Saving("b"))

    job = bench.post("saving", {"b": ["fail"]})
    bench.start()
    bench.reached("saved")

    stored = bench.sql("SELECT saved FROM job_tasks WHERE job = ? AND task = 'b'", job.id)

    assert [json.loads(text) for (text,) in stored] == [{"parts": 2}]
    bench.gates.open("saved")
    assert bench.final(job).state == "failed"
    assert seen == [(True, {"parts": 2})]


def test_progress_and_log_lines_are_stored_while_a_task_runs(bench):
    class Telling(bench.steps.Step):
        def _do(self, word, folder):
            self.report(0.25, "a quarter")
            LOG.warning("one %s\nand another", "line")
            return super()._do(word, folder)

    @bench.registry.flow("telling")
    def telling(folder, plan):
        return linear_flow.Flow("telling").add(Telling("a"))

    job = bench.post("telling", {"a": ["gate"]})
    bench.start()
    bench.reached("execute a")

    bench.until("progress is stored", lambda: bench.poster.show(job.id).progress == 0.25)
    bench.until("lines are stored", lambda: len(bench.poster.logs(job.id)) == 2)

    (record,) = bench.poster.tasks(job.id)
    assert (record.fraction, record.message) == (0.25, "a quarter")
    lines = [
        (line.number, line.attempt, line.task, line.level, line.text) for line in bench.poster.logs(job.id)
    ]
    assert lines == [(1, 1, "a", "warning", "one line"), (2, 1, "a", "warning", "and another")]
    bench.gates.open("execute a")
    assert bench.final(job).progress == 1.0


def test_captured_lines_are_bounded_in_number_over_all_attempts_and_in_length(bench):
    class Loud(bench.steps.Step):
        def _do(self, word, folder):
            for number in range(30):
                LOG.warning("%d %s", number, "x" * 10_000)
            return super()._do(word, folder)

    @bench.registry.flow("loud")
    def loud(folder, plan):
        return linear_flow.Flow("loud").add(Loud("a"))

    job = bench.post("loud", {"a": ["fail"]})
    bench.start(log_lines=40)
    bench.final(job)
    bench.retry(job)
    assert bench.final(job).state == "completed"

    lines = bench.poster.logs(job.id)
    assert [line.number for line in lines] == list(range(21, 61)), "the newest are kept"
    assert [line.attempt for line in lines] == [1] * 10 + [2] * 30
    assert max(len(line.text) for line in lines) == 4000


# What is given is what was returned.


def _changing(bench, word):
    class Changing(bench.steps.Step):
        def execute(self, folder, plan, a):
            a["token"] = "changed"
            return super().execute(folder, plan)

    @bench.registry.flow("changing", returns="a")
    def changing(folder, plan):
        return linear_flow.Flow("changing").add(bench.steps.Step("a"), Changing("b"))

    job = bench.post("changing", {"b": [word]})
    bench.start()
    return bench.final(job)


def test_a_task_that_changes_its_argument_does_not_change_what_the_undo_is_given(bench):
    job = _changing(bench, "fail")

    assert job.state == "failed"
    assert bench.given() == {"b": "INTERRUPTED"}


def test_a_task_that_changes_its_argument_does_not_change_what_the_job_returns(bench):
    job = _changing(bench, "pass")

    ends = {line[1]: line[2] for line in bench.steps.noted(str(bench.folder)) if line[0] == "end"}
    assert json.loads(_stored_result(bench, job, "a")[1]) == {"token": ends["a"]}
    assert bench.poster.result(job.id) == {"token": ends["a"]}


def test_the_result_of_a_job_is_what_nobody_consumed(bench):
    @bench.registry.flow("outputs")
    def outputs(folder, plan):
        step = bench.steps.Step
        fan = unordered_flow.Flow("fan").add(step("b", "a"), step("c", "a"), step("d", provides=()))
        return linear_flow.Flow("outputs", retry.Times(2, "tries", provides="count")).add(step("a"), fan)

    job = bench.post("outputs", {"c": ["fail"]})
    bench.start()
    bench.final(job)

    tokens = {line[1]: line[2] for line in bench.steps.noted(str(bench.folder)) if line[0] == "end"}
    assert bench.poster.result(job.id) == {name: {"token": tokens[name]} for name in ("b", "c")}
