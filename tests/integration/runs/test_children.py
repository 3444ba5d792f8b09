"""Jobs that a job has posted: cancelled with it, ended before it is undone, and posted once."""

import threading
from typing import Any

import pytest
from taskflow.patterns import linear_flow

from ebbtide.errors import ParentEnding
from ebbtide.flows.policies import Limits
from ebbtide.jobs.limits import LimitWatch


@pytest.fixture
def family(bench) -> Any:
    """A flow `parent` whose first task posts two jobs of the flow `child`; each says who it is."""
    steps: Any = bench.steps

    class Posting(steps.Step):
        def execute(self, folder, plan, **needs):
            for name in plan.get("children", []):
                self.post_child("child", {"folder": folder, "plan": plan, "name": name})
            return super().execute(folder, plan, **needs)

    @bench.registry.flow("child")  # type: ignore[untyped-decorator]  # of a fixture
    def child(folder: str, plan: dict[str, list[str]], name: str) -> Any:
        return linear_flow.Flow("child").add(steps.Step(name))

    @bench.registry.flow("parent")  # type: ignore[untyped-decorator]  # of a fixture
    def parent(folder: str, plan: dict[str, list[str]]) -> Any:
        return linear_flow.Flow("parent").add(Posting("first"), steps.Step("second"))

    return bench


def children(bench, parent) -> dict[str, Any]:
    """The children by their names."""
    found = [job for job in bench.poster.list() if job.parent == parent.id]
    return {job.params["name"]: job for job in found}


def test_children_are_undone_before_their_parent_when_it_is_cancelled(family):
    bench = family
    plan = {"children": ["a", "b"], "a": ["hold"], "b": ["hold"], "undo a": ["gate"], "second": ["hold"]}
    job = bench.post("parent", plan)
    bench.start(runners=3)
    bench.reached("execute a", "execute b", "execute second")

    bench.cancel(job, "enough")
    bench.reached("undo a")
    bench.until("b has ended", lambda: children(bench, job)["b"].state == "cancelled")
    bench.until("the parent waits", lambda: bench.poster.show(job.id).state == "pending")
    kids = children(bench, job)
    assert bench.poster.show(job.id).waits_for == f"the end of its children: {kids['a'].id}"
    assert {kid.cancel.source for kid in kids.values()} == {"parent"}
    assert {kid.cancel.reason for kid in kids.values()} == {"enough"}
    bench.gates.open("undo a")

    assert bench.final(job).state == "cancelled"
    assert bench.words("undo")[-2:] == ["second", "first"]
    assert {kid.state for kid in children(bench, job).values()} == {"cancelled"}
    names = [entry.name for entry in bench.poster.entries(job.id)]
    assert names[-3:] == ["released", "claimed", "cancelled"]


@pytest.mark.parametrize("runners", [1, 3])
def test_a_parent_that_fails_cancels_its_children_and_is_undone_after_them(family, runners):
    """With one runner it gives that up, or its children could never be undone."""
    bench = family
    plan = {"children": ["a"], "a": ["hold"], "second": ["break"]}
    job = bench.post("parent", plan)
    bench.start(runners=runners)
    bench.reached("execute second", *["execute a"] * (runners > 1))

    bench.gates.open("execute second")

    ended = bench.final(job)
    assert (ended.state, ended.error_task) == ("failed", "second")
    (child,) = children(bench, job).values()
    assert (child.state, child.cancel.reason) == ("cancelled", "its parent has failed")
    assert bench.words("undo") == ["a"] * (runners > 1) + ["second", "first"]


def test_a_parent_that_is_out_of_time_cancels_its_children_and_is_undone_after_them(family):
    bench = family
    looks, record = threading.Event(), LimitWatch.record
    bench.monkeypatch.setattr(LimitWatch, "record", lambda self: record(self) if looks.is_set() else [])
    plan = {"children": ["a"], "a": ["hold"], "second": ["hold"]}
    params = {"folder": str(bench.folder), "plan": plan}
    job = bench.poster.post("parent", params, limits=Limits(job_seconds=0.05))
    bench.start(runners=3, sweep_seconds=0.02)
    bench.reached("execute a", "execute second")

    looks.set()

    ended = bench.final(job)
    assert (ended.state, ended.cancel.source) == ("failed", "deadline")
    (child,) = children(bench, job).values()
    assert (child.state, child.cancel.reason) == ("cancelled", "its parent has passed a limit")
    assert bench.words("undo") == ["a", "second", "first"]


def test_a_parent_that_completes_leaves_its_children_alone(family):
    bench = family
    job = bench.post("parent", {"children": ["a", "b"]})
    bench.start(runners=1)

    assert bench.final(job).state == "completed"
    kids = children(bench, job)
    assert [bench.final(kids[name]).state for name in ("a", "b")] == ["completed"] * 2


def test_a_child_has_the_policies_that_its_conductor_is_configured_with(family):
    bench = family
    job = bench.post("parent", {"children": ["a"]})
    bench.start(max_retries=2, retry_interval=7.0, job_timeout=600.0)

    assert bench.final(job).state == "completed"
    (child,) = children(bench, job).values()
    assert (child.policies["retry"]["attempts"], child.policies["retry"]["interval_seconds"]) == (3, 7.0)
    assert child.policies["limits"]["job_seconds"] == 600.0


def test_nobody_posts_a_child_to_a_job_that_is_being_undone(family):
    bench = family
    job = bench.post("parent", {"second": ["hold"], "undo second": ["gate"]})
    params = {"folder": str(bench.folder), "plan": {}, "name": "late"}
    bench.start()
    bench.reached("execute second")
    bench.cancel(job)
    bench.reached("undo second")

    with pytest.raises(ParentEnding, match="is being undone: no child can be posted to it"):
        bench.poster.post("child", params, parent=job.id)
    free = bench.poster.post("child", params, parent=job.id, detached=True)
    bench.gates.open("undo second")

    assert bench.final(job).state == "cancelled"
    assert (bench.final(free).state, free.parent) == ("completed", None)
    assert bench.poster.entries(free.id)[0].detail == {"parent": job.id, "detached": True}
