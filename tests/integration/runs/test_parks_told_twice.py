"""A park whose answer is lost is tried again, finds itself stored, and is no error. P4, P12."""

from ebbtide.conductor.execution import Execution
from ebbtide.errors import CommitUnknown


def test_a_park_whose_answer_is_lost_is_stored_once(bench, monkeypatch):
    real = Execution._write_unreadable
    tries = []

    def write(execution, reason):
        tries.append(reason)
        real(execution, reason)
        if len(tries) == 1:
            raise CommitUnknown("the connection was lost")

    monkeypatch.setattr(Execution, "_write_unreadable", write)
    job = bench.post("linear")
    bench.sql("UPDATE job_parameters SET parameters = 'no JSON'")

    bench.start()

    assert bench.final(job).state == "parked"
    bench.until("the second try", lambda: len(tries) == 2)
    other = bench.final(bench.post("linear"))
    assert other.state == "completed"
    assert [entry.name for entry in bench.poster.entries(job.id)] == ["posted", "claimed", "parked"]
