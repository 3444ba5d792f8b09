"""Steps: how far a job has come, forwards from its post, or backwards from its cancel request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ebbtide.jobs import CancelRequest, Job, TaskRecord
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.tasks.savepoint import PREFIX
from ebbtide.wording import span

__all__ = ["Step", "latest", "sentence", "steps_of", "undo_order"]

_SENTENCES = {
    "pending": "It waits for a conductor.",
    "scheduled": "It waits until it is due.",
    "running": "Its tasks run.",
    "cancelling": "It is to be cancelled: what runs is stopped, and what it did is undone, newest first.",
    "reverting": "What it did is being undone, newest first.",
    "overdue": "A task does not stop. It is killed once its grace is over, and then undone.",
    "paused": "It rests between tasks. Nothing is undone.",
}

DONE, NOW, AHEAD, BAD = "done", "now", "ahead", "bad"


@dataclass(frozen=True)
class Step:
    """One step. `state` is done, now, ahead or bad, where it went wrong; `after` is how long it took."""

    word: str
    state: str
    at: float | None = None
    after: str = ""


def latest(tasks: Sequence[TaskRecord]) -> list[TaskRecord]:
    """The last round of each task, in order of beginning; no savepoints."""
    found: dict[str, TaskRecord] = {}
    for task in tasks:
        if not task.task.startswith(PREFIX):
            found.pop(task.task, None)
            found[task.task] = task
    return list(found.values())


def undo_order(tasks: Sequence[TaskRecord]) -> dict[str, int]:
    """Of each task whose undo has begun, its number in the order of the undo."""
    begun = [(task.undo_begun_at, task.task) for task in tasks if task.undo_begun_at is not None]
    return {task: number for number, (_, task) in enumerate(sorted(begun), 1)}


def sentence(job: Job, tasks: Sequence[TaskRecord]) -> str:
    """What goes on, in a sentence."""
    if job.phase == "cancelling" and _turned(tasks):
        return "It is being cancelled: what it did is being undone, newest first."
    if job.waits_for is not None and JobState(job.state) not in FINAL_STATES:
        return f"It waits for {job.waits_for}."
    told = _SENTENCES.get(job.phase)
    return told if told is not None else f"{job.ending[:1].upper()}{job.ending[1:]}."


def steps_of(job: Job, tasks: Sequence[TaskRecord]) -> list[Step]:
    """The steps of the job's present attempt. `tasks` are the latest rounds of it."""
    if job.cancel is not None:
        return list(_backwards(job, job.cancel, tasks))
    return list(_forwards(job, tasks))


def _backwards(job: Job, cancel: CancelRequest, tasks: Sequence[TaskRecord]) -> Iterator[Step]:
    ended = JobState(job.state) in FINAL_STATES
    undone = sum(task.undo_ended_at is not None for task in tasks)
    moving = job.state == JobState.RUNNING
    told = [
        ("requested", cancel.requested_at),
        ("forwarded", cancel.forwarded_at),
        ("delivered", cancel.delivered_at),
    ]
    passed = _turned(tasks)
    before = cancel.requested_at
    for number, (word, at) in enumerate(told):
        later = [after for _, after in told[number + 1 :] if after is not None]
        if at is not None:
            took = f"after {span(at - before)}" if at != cancel.requested_at else ""
            yield Step(word, DONE, at, took)
            before = at
        elif later or passed or ended:
            yield Step(word, DONE, None, "nothing was running" if word == "delivered" else "not needed")
        else:
            is_next = all(each is not None for _, each in told[:number])
            yield Step(word, NOW if is_next and moving else AHEAD)
    yield _undo_step(job, tasks, undone, passed, ended)
    yield _end_step(job, "cancelled", cancel.requested_at)


def _turned(tasks: Sequence[TaskRecord]) -> bool:
    """Whether the undo has begun."""
    return any(task.undo_begun_at is not None for task in tasks)


def _undo_step(job: Job, tasks: Sequence[TaskRecord], undone: int, passed: bool, ended: bool) -> Step:
    if not tasks:
        return Step("nothing to undo", DONE if ended else AHEAD)
    word = f"reverting {undone} of {len(tasks)}"
    if ended:
        return Step(f"reverted {undone} of {len(tasks)}", DONE)
    if job.state == JobState.PARKED:
        return Step(word, BAD, None, "an undo has failed")
    begins = passed or (job.cancel is not None and job.cancel.delivered_at is not None)
    return Step(word, NOW if begins else AHEAD)


def _forwards(job: Job, tasks: Sequence[TaskRecord]) -> Iterator[Step]:
    yield Step("posted", DONE, job.created_at)
    begun = job.started_at is not None
    took = ""
    if job.started_at is not None and job.attempt == 1:  # a later one was not waited for since the post
        took = f"after {span(job.started_at - job.created_at)}"
    waits = "" if begun else job.waits_for or ""
    yield Step(
        "begun", DONE if begun else NOW, job.started_at, took or (f"waits for {waits}" if waits else "")
    )
    undone = sum(task.undo_ended_at is not None for task in tasks)
    ended = JobState(job.state) in FINAL_STATES
    total = f" of {job.tasks_total}" if job.tasks_total else ""
    failed = next((task for task in tasks if task.how == "raised"), None)
    if failed is not None:
        yield Step(f"{failed.task} failed", BAD, failed.ended_at)
        if job.state != JobState.PARKED or not job.held:
            state = DONE if ended else BAD if job.state == JobState.PARKED else NOW
            yield Step(f"{'reverted' if ended else 'reverting'} {undone} of {len(tasks)}", state)
    else:
        state = DONE if ended else NOW if begun and job.state == JobState.RUNNING else AHEAD
        yield Step(f"{job.tasks_done}{total} tasks", state)
    yield _end_step(job, "failed" if failed is not None else "completed", job.started_at)


def _end_step(job: Job, word: str, since: float | None) -> Step:
    if JobState(job.state) not in FINAL_STATES:
        resting = job.state if job.state in (JobState.PARKED, JobState.PAUSED) else None
        return Step(word, AHEAD) if resting is None else Step(str(resting), BAD, None, f"not yet {word}")
    took = f"after {span(job.ended_at - since)}" if job.ended_at is not None and since is not None else ""
    return Step(str(job.state), BAD if job.state == JobState.FAILED else DONE, job.ended_at, took)
