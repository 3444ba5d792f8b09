"""A registered flow without a conductor: its tasks one after the other, cut on cue, and undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskflow import flow as taskflow_flow

from ebbtide.flows.registry import registered
from ebbtide.tasks import CancelableTask, JobInfo
from ebbtide.testing import Cue, FakeClock, TaskRun


class FlowRun:
    """One job of a flow. `runs` has the `TaskRun` of each task that was begun, by its name, in order."""

    def __init__(self, flow: str, params: Mapping[str, Any], *, job: str = "job", epoch: int = 1) -> None:
        self._definition = registered.get(flow)
        self._params = self._definition.validate(params)
        built, self.store = self._definition.build(self._params)
        self.tasks = list(tasks_of(built))
        self.job = JobInfo(id=job, flow=flow, epoch=epoch)
        self.clock = FakeClock()
        self.runs: dict[str, TaskRun] = {}

    def forward(self, *, until: str | None = None) -> FlowRun:
        """Execute the tasks that have not begun yet, up to and with `until`; raises what one raises."""
        for task in self.tasks:
            if task.name not in self.runs:
                self.begin(task.name)
                self.keep(task.name)
            if task.name == until:
                break
        return self

    def begin(self, name: str, *, cancel: Cue | None = None, kill: Cue | None = None) -> TaskRun:
        """Execute one task, what comes before it being done; it may have been cancelled or killed then."""
        task = next(task for task in self.tasks if task.name == name)
        arguments = {argument: self.store[bound] for argument, bound in task.rebind.items()}
        run = self.runs[name] = TaskRun(task, arguments, job=self.job, clock=self.clock)
        run.execute(cancel=cancel, kill=kill)
        return run

    def keep(self, name: str) -> None:
        """Give what a task has returned to those after it; raises what it raised."""
        result = self.runs[name].result
        for provided in self.runs[name].task.save_as:
            self.store[provided] = result

    def back(self) -> None:
        """Undo what had begun, newest first."""
        for run in reversed(self.runs.values()):
            run.revert()

    @property
    def result(self) -> Any:
        return self.store[self._definition.returns or ""]


def tasks_of(flow: taskflow_flow.Flow) -> Iterator[CancelableTask]:
    """The tasks of a flow and of those in it, in the order in which they were added."""
    for item, _ in flow.iter_nodes():
        if isinstance(item, taskflow_flow.Flow):
            yield from tasks_of(item)
        else:
            yield item
