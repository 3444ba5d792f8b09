"""`ebbtide show` and `ebbtide result`: all there is to know about one job, and what it returned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import (
    brief,
    clock,
    columns,
    emit,
    facts,
    moment,
    percent,
    phase,
    show,
    span,
    styled,
)
from ebbtide.cli.receipt import tell_receipt
from ebbtide.cli.snapshot import Snapshot
from ebbtide.cli.view import cancel_words

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ebbtide.jobs import Entry, Job, TaskRecord


@click.command("show")
@click.argument("job", type=JobId())
@click.option(
    "--receipt", "as_receipt", is_flag=True, help="What became of its undo: who, when, what, what not."
)
@shared_options
@pass_invocation
def show_job(invocation: Invocation, job: str, as_receipt: bool) -> Exit:
    """Show a job: state, tasks with their undo, history.

    JOB is an id or the beginning of one that fits no other job.
    """
    if as_receipt:
        return tell_receipt(invocation, job)
    with invocation.poster() as poster:
        found = poster.show(job)
        tasks = tuple(sorted(poster.tasks(found.id), key=lambda task: (task.attempt, task.begun_at)))
        entries = poster.entries(found.id)
    snapshot = Snapshot(found, tasks)
    if invocation.json:
        emit({**snapshot.as_dict(), "history": [entry.as_dict() for entry in entries]})
        return Exit.DONE
    show(facts(_facts(snapshot)))
    if tasks:
        click.echo()
        show(_task_table(tasks))
    click.echo()
    show(_history_table(entries))
    return Exit.DONE


@click.command()
@click.argument("job", type=JobId())
@shared_options
@pass_invocation
def result(invocation: Invocation, job: str) -> Exit:
    """Print what a completed job returned, as JSON."""
    with invocation.poster() as poster:
        value = poster.result(poster.show(job).id)
    # With or without --json: a text in quotes can be told from a number or a list.
    click.echo(json.dumps(value, indent=2))
    return Exit.DONE


def _facts(snapshot: Snapshot) -> Iterator[tuple[str, Text | str]]:
    job = snapshot.job
    yield "job", styled(job.id, "bold")
    yield "flow", f"{job.flow}@{job.version}"
    yield "state", _state(job)
    if job.error:
        yield "error", styled(f"{job.error_task}: {job.error}" if job.error_task else job.error, "red")
    if job.park_reason and job.state != "parked":
        yield "was parked", styled(job.park_reason, "magenta")
    if job.not_undone:
        yield "not undone", styled(", ".join(job.not_undone), "magenta")
    if job.waits_for:
        yield "waits for", styled(job.waits_for, "yellow")
    if job.attempt > 1:
        yield "attempt", str(job.attempt)
    attempts = job.policies.get("retry", {}).get("attempts", 1)
    if attempts > 1:
        yield "retries", f"{job.retries} of {attempts - 1}"
    if job.deadline_at is not None:
        yield "out of time", moment(job.deadline_at)
    yield "progress", _progress(job)
    if job.current:
        yield "now", ", ".join(job.current)
    if job.cancel is not None:
        asked, reached = cancel_words(snapshot)
        yield "cancel", styled(asked, "yellow")
        yield "", styled(reached, "yellow")
    yield "posted", _times(job)
    if job.owner:
        yield "conductor", job.owner
    if job.priority:
        yield "priority", str(job.priority)
    if job.labels:
        yield "labels", " ".join(f"{key}={brief(value)}" for key, value in job.labels.items())
    for number, (name, value) in enumerate(job.params.items()):
        yield "parameters" if number == 0 else "", f"{name} = {brief(json.dumps(value, ensure_ascii=False))}"


def _state(job: Job) -> Text:
    text = phase(str(job.phase))
    words = job.ending
    # Only what the phase itself does not say; the error has a line of its own.
    more = words.partition(" (")[0].removeprefix(str(job.state)).lstrip(",: ")
    if more and str(job.state) not in ("pending", "running", "paused"):
        text.append_text(styled(f", {more}"))
    return text


def _progress(job: Job) -> str:
    total = f" of {job.tasks_total}" if job.tasks_total else ""
    undone = f", {job.tasks_undone} undone" if job.tasks_undone else ""
    return f"{percent(job.progress)}, {job.tasks_done}{total} tasks done{undone}"


def _times(job: Job) -> str:
    words = moment(job.created_at)
    if job.due_at is not None and job.due_at - job.created_at >= 1 and job.started_at is None:
        words += f", due {moment(job.due_at)}"
    if job.started_at is not None:
        if job.attempt > 1:
            words += f", attempt {job.attempt} started {moment(job.started_at)}"
        else:
            words += f", started after {span(job.started_at - job.created_at)}"
        if job.ended_at is not None:
            words += f", took {span(job.ended_at - job.started_at)}"
    return words


def _task_table(tasks: Sequence[TaskRecord]) -> Table:
    names = ["task", "begun", "took", "how", "undo", "message"]
    several = {
        "attempt": len({task.attempt for task in tasks}) > 1,
        "round": any(task.round > 1 for task in tasks),
    }
    extra = [name for name, wanted in several.items() if wanted]
    rows = [[*(str(getattr(task, name)) for name in extra), *_task_row(task)] for task in tasks]
    return columns(extra + names, rows, right=(*extra, "took"))


def _task_row(task: TaskRecord) -> list[Text | str]:
    took = span(task.ended_at - task.begun_at) if task.ended_at else ""
    how = str(task.how) if task.how else f"running {percent(task.fraction or 0.0)}"
    style = {"returned": "green", "raised": "red", "None": "cyan"}.get(str(task.how), "yellow")
    return [
        styled(task.task, "bold"),
        clock(task.begun_at),
        took,
        styled(how, style),
        styled(_undo(task), "yellow"),
        brief(task.undo_error or (task.error if task.how == "raised" else "") or task.message or ""),
    ]


def _undo(task: TaskRecord) -> str:
    if task.undo_begun_at is None:
        return ""
    tries = f" ({task.undo_tries} tries)" if task.undo_tries > 1 else ""
    if task.undo_ended_at is None:
        return f"{'failed' if task.undo_error else 'begun'}{tries}"
    return f"undone in {span(task.undo_ended_at - task.undo_begun_at)}{tries}"


def _history_table(entries: Sequence[Entry]) -> Table:
    rows = [
        (
            str(entry.number),
            clock(entry.at),
            styled(entry.words, "bold"),
            f"{entry.from_state or '-'} -> {entry.to_state}" if entry.to_state else "",
            brief(_short_actor(entry.actor or ""), 40),
            brief(entry.reason, 400),
        )
        for entry in entries
    ]
    return columns(("no", "at", "history", "state", "by", "why"), rows, right=("no",))


def _short_actor(actor: str) -> str:
    """Host and process of a conductor; what sets it apart from its predecessors is left out."""
    return ":".join(actor.split(":")[:2])
