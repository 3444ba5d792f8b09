"""Whatever stands in the store, none of it is imported, unpickled or called. P14.

The rows are altered by hand, as by somebody who may write to the database and no more. They name a module on
the path in the ways of pickle, jsonpickle and TaskFlow's own factories; nobody may import it.
"""

import json
import sys

import pytest

PICKLE = "cplanted_code\nrun\n(tR."  # protocol 0: text that calls planted_code.run() when it is loaded
OBJECT = {
    "py/object": "planted_code.Thing",
    "py/reduce": [{"py/function": "planted_code.run"}, {"py/tuple": []}],
    "__class__": "planted_code.Thing",
}
FACTORY = json.dumps({"factory": {"name": "planted_code.run", "args": [], "kwargs": {}}})
FAILURE = json.dumps(
    {
        "version": 1,
        "exc_type_names": ["planted_code.Thing", "builtins.Exception"],
        "exception_str": PICKLE,
        "traceback_str": "",
        "exc_args": [OBJECT],
        "causes": [],
    }
)


@pytest.fixture(autouse=True)
def planted_code(tmp_path, monkeypatch):
    """A module that anybody could import; afterwards, whether somebody has."""
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "planted_code.py").write_text("class Thing(Exception): ...\ndef run(*args, **kwargs): ...\n")
    monkeypatch.syspath_prepend(str(folder))
    yield
    assert "planted_code" not in sys.modules


def _drained_before_c(bench):
    """A job of which a and b are done, and nobody holds it."""
    job = bench.post("linear", {"b": ["gate"], "c": ["hold"]})
    first = bench.start()
    bench.reached("execute b")
    bench.drain(first)
    bench.gates.open("execute b")
    bench.drained(first)
    return job


def test_a_job_goes_on_and_is_undone_with_what_was_planted_as_plain_data(bench):
    job = _drained_before_c(bench)
    ((stored,),) = bench.sql("SELECT CAST(results AS TEXT) FROM atomdetails WHERE name = 'a'")
    bench.sql("UPDATE logbooks SET meta = ?", FACTORY)
    bench.sql("UPDATE flowdetails SET meta = ?", FACTORY)
    bench.sql(
        "UPDATE atomdetails SET meta = ?, failure = ?, results = ? WHERE name = 'a'",
        FACTORY,
        FAILURE,
        json.dumps(json.loads(stored) | OBJECT),
    )
    bench.sql("UPDATE job_tasks SET saved = ? WHERE task = 'a'", json.dumps(OBJECT))

    bench.start()
    bench.reached("execute c")
    bench.cancel(job)

    bench.cancelled_and_undone(job, bench.shapes["linear"])


@pytest.mark.sqlite_only("a server keeps these columns in types that refuse such values")
@pytest.mark.parametrize(
    ("column", "value"),
    [("results", PICKLE), ("failure", PICKLE), ("meta", PICKLE), ("atom_type", "planted_code.Thing")],
)
def test_what_cannot_be_read_parks_the_job(bench, column, value):
    job = _drained_before_c(bench)
    bench.sql(f"UPDATE atomdetails SET {column} = ? WHERE name = 'a'", value)

    bench.start()

    parked = bench.final(job)
    assert parked.state == "parked"
    assert "cannot be read" in parked.park_reason


@pytest.mark.parametrize(
    "parameters",
    [PICKLE, '["planted_code.run"]', '{"folder": 7}', "null", "[" * 100_000, None],
    ids=["pickle", "list", "number", "null", "deep", "gone"],
)
def test_parameters_that_nobody_posted_so_park_the_job_and_hide_no_other(bench, parameters):
    job = bench.post("linear")
    if parameters is None:
        bench.sql("DELETE FROM job_parameters")
    else:
        bench.sql("UPDATE job_parameters SET parameters = ?", parameters)

    bench.start()

    parked = bench.final(job)
    assert parked.state == "parked"
    assert [entry.name for entry in bench.poster.entries(job.id)] == ["posted", "claimed", "parked"]
    assert bench.words("begin") == []
    assert [listed.id for listed in bench.poster.list()] == [job.id]


def test_a_flow_that_is_named_like_a_function_waits_for_somebody_who_knows_it(bench):
    job = bench.post("linear")
    bench.sql("UPDATE jobs SET flow = 'planted_code.run' WHERE id = ?", job.id)

    bench.start()
    other = bench.final(bench.post("linear"))

    assert other.state == "completed"
    waiting = bench.poster.show(job.id)
    assert waiting.state == "pending"
    assert "planted_code.run@1" in waiting.waits_for
