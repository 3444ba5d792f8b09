"""The job of a dead conductor meets one that does not know its flow, or knows it in another shape. P12.

The job is left alone, visibly, or parked with the reason; and it goes on once somebody comes who fits.
"""

import pytest
from taskflow.patterns import linear_flow

from ebbtide.flows import Registry
from ebbtide.jobs import Poster
from ebbtide.tasks import CancelableTask

# A module of flows as a later release of the same program might have it.
CHANGED = """
from taskflow.patterns import linear_flow
from ebbtide.flows import flow
from ebbtide.tasks import CancelableTask

class Other(CancelableTask):
    def execute(self): ...
    def revert(self): ...

@flow("steps", version={version})
def steps(folder: str, steps: list[str], order: str = "linear"):
    return linear_flow.Flow("steps").add(Other("quite-another"))

@flow("errand")
def errand():
    return linear_flow.Flow("errand").add(Other("errand"))
"""


@pytest.fixture
def orphan(stage):
    """A job in the middle of its second task, whose conductor was killed with all its tree."""
    conductor = stage.conductor()
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")
    tree = conductor.tree
    conductor.kill()
    stage.await_end_of(tree)
    return job


@pytest.fixture
def changed(stage):
    """Starts a conductor that knows the flows of the later release alone."""

    def start(version):
        (stage.folder / "changed.py").write_text(CHANGED.format(version=version))
        return stage.conductor(flow_modules="changed")

    return start


class Errand(CancelableTask):
    """Stands for the task of the later release."""

    def execute(self): ...

    def revert(self): ...


def run_an_errand(stage):
    """Post a job that the later release alone knows; returns once it has ended."""
    registry = Registry()
    registry.flow("errand")(lambda: linear_flow.Flow("errand").add(Errand("errand")))
    with Poster(stage.database, registry=registry) as poster:
        assert stage.ended(poster.post("errand")).state == "completed"


def test_a_job_of_an_unknown_version_is_left_alone_visibly_and_goes_on_with_who_knows_it(
    stage, orphan, changed
):
    other = changed(version=2)
    before = stage.names(orphan)

    run_an_errand(stage)  # orphans come first: it has passed this one by

    left = stage.poster.show(orphan.id)
    assert (left.state, stage.names(orphan)) == ("running", before)
    assert left.waits_for == "a conductor that knows steps@1: none of those running does"
    stage.conductor()
    stage.await_effect(orphan, "waiting", "b", 2)
    stage.open("b")
    assert stage.ended(orphan).state == "completed"
    assert stage.told(orphan, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    assert other.end() == 0


def test_a_cancel_of_a_job_of_an_unknown_version_waits_and_is_carried_out(stage, orphan, changed):
    changed(version=2)
    answer = stage.poster.cancel(orphan.id, "enough")

    run_an_errand(stage)

    assert (answer.answer, stage.poster.show(orphan.id).phase) == ("accepted", "cancelling")
    stage.conductor()
    ended = stage.ended(orphan)
    assert (ended.state, ended.undo) == ("cancelled", "complete")
    assert stage.told(orphan, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]


def test_a_job_of_another_shape_is_parked_and_goes_on_where_its_shape_is_known(stage, orphan, changed):
    other = changed(version=1)

    parked = stage.ended(orphan)

    assert parked.state == "parked"
    assert parked.park_reason == "flow steps@1 has another shape now than when this attempt began"
    assert other.end() == 0
    stage.conductor()
    stage.poster.unpark(orphan.id)
    stage.await_effect(orphan, "waiting", "b", 2)
    stage.open("b")
    assert stage.ended(orphan).state == "completed"
    assert stage.told(orphan, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    stage.assert_history_replays(stage.poster.show(orphan.id))
