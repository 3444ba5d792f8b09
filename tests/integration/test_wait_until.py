"""`ebbtide.testing.wait_until`: returns what it waited for, or tells the history."""

import pytest
from taskflow.patterns import linear_flow

from ebbtide.flows import FlowDefinition, Registry
from ebbtide.jobs import Poster
from ebbtide.tasks import task
from ebbtide.testing import FakeClock, WaitedInVain, history, wait_until


@task
def nothing():
    """Do nothing. There is nothing to undo."""


def factory(name: str = "x"):
    return linear_flow.Flow("quiet").add(nothing())


@pytest.fixture
def poster(prepared):
    registry = Registry()
    registry.add(FlowDefinition.of("quiet", factory))
    with Poster(prepared, registry=registry) as poster:
        yield poster


def test_what_the_predicate_finds_is_returned():
    found = iter([None, "", [1]])

    assert wait_until(lambda: next(found), "a list") == [1]


def test_what_the_predicate_raises_goes_on():
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, "nothing")


def test_in_vain_it_tells_what_it_waited_for_and_what_else_it_is_told():
    with pytest.raises(WaitedInVain) as caught:
        wait_until(lambda: False, "a miracle", seconds=0, tell=lambda: "nobody came")

    assert str(caught.value) == "waited 0 s in vain for a miracle\nnobody came"


def test_in_vain_it_tells_the_history_of_the_job(poster):
    job, other = poster.post("quiet", {"name": "a"}), poster.post("quiet")
    poster.cancel(job.id, reason="enough")

    with pytest.raises(WaitedInVain) as caught:
        wait_until(lambda: False, "the end", poster=poster, job=job, seconds=0)

    told = str(caught.value)
    assert f"job {job.id} quiet@1 cancelled {{'name': 'a'}}" in told
    assert [line.split()[1] for line in told.splitlines()[2:]] == [
        "posted",
        "cancel_requested",
        "cancelled_unclaimed",
    ]
    assert "enough" in told
    assert other.id not in told


def test_without_a_job_it_tells_of_all(poster):
    jobs = [poster.post("quiet") for _ in range(2)]

    assert all(job.id in history(poster) for job in jobs)
    assert jobs[1].id not in history(poster, jobs[0].id[:8])


def test_where_there_is_no_job_it_says_so(poster):
    assert history(poster) == "there is no job"


def test_a_delayed_job_is_due_when_the_installed_clock_says_so(poster):
    clock = FakeClock()
    with clock.installed():
        job = poster.post("quiet", delay_seconds=3600)
        before = poster.show(job.id).phase
        clock.advance(3600)

        assert (before, poster.show(job.id).phase) == ("scheduled", "pending")
