"""What is told of an undo: what it would be, before a cancel, and what it was, after one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation
from ebbtide.cli.output import brief, clock, columns, emit, emit_line, facts, moment, show, span, styled
from ebbtide.cli.several import ids

if TYPE_CHECKING:
    from rich.text import Text

    from ebbtide.jobs.preview import Preview, UndoStep
    from ebbtide.jobs.receipt import Receipt


def foretell(invocation: Invocation, jobs: tuple[str, ...]) -> Exit:
    """Print what a cancel of each job would undo. An unknown job ends it."""
    with invocation.poster() as poster:
        for job_id in ids(jobs):
            found = poster.preview(job_id)
            if invocation.json:
                emit_line(found.as_dict() | {"cannot_undo": list(found.cannot_undo)})
                continue
            show(facts(_preview_facts(found)))
            if found.steps:
                click.echo()
                rows = [_step_row(step) for step in found.steps]
                show(columns(("order", "task", "now", "undo", "took before"), rows, right=("order",)))
    return Exit.DONE


def tell_receipt(invocation: Invocation, job_id: str) -> Exit:
    """Print the receipt of a job."""
    with invocation.poster() as poster:
        found = poster.receipt(job_id)
    if invocation.json:
        emit(found.as_dict())
        return Exit.DONE
    show(facts(_receipt_facts(found)))
    for name, rows in (
        (
            "undone",
            [
                (each.task, clock(each.undo_ended_at), span(each.seconds), str(each.tries))
                for each in found.undone
            ],
        ),
        ("not undone", [(each.task, brief(each.why, 400)) for each in found.not_undone]),
    ):
        if rows:
            click.echo()
            rest = ("at", "took", "tries") if name == "undone" else ("why",)
            show(columns((name, *rest), rows))
    return Exit.DONE


def _preview_facts(found: Preview) -> Iterator[tuple[str, Text | str]]:
    yield "job", styled(found.job, "bold")
    yield "state", found.state
    yield "a cancel", f"would be answered: {found.answer}"
    if not found.in_order:
        yield "order", "the flow is not known here: the reverse order of beginning"
    yield "undoes", ", ".join(step.task for step in found.steps) or "nothing: there is no task to undo"
    if found.cannot_undo:
        yield "cannot undo", styled(", ".join(found.cannot_undo), "magenta")
    if found.skipped:
        yield "left out", styled(", ".join(found.skipped), "magenta")
    if found.running:
        yield "runs now", ", ".join(found.running)
    if found.seconds is not None and found.steps:
        yield "takes", f"about {span(found.seconds)}, as it did before"


def _step_row(step: UndoStep) -> list[Text | str]:
    undo = {None: "undone", "none": "has no undo", "irreversible": "irreversible"}[step.no_undo]
    past = "" if step.past is None else f"{span(step.past.mean)}, 95 % within {span(step.past.p95)}"
    style = "yellow" if step.no_undo is None else "magenta"
    return [
        str(step.level),
        styled(step.task, "bold"),
        "runs" if step.runs else "",
        styled(undo, style),
        past,
    ]


def _receipt_facts(found: Receipt) -> Iterator[tuple[str, Text | str]]:
    yield "job", styled(found.job, "bold")
    yield "flow", found.flow
    yield "state", found.state if found.undo is None else f"{found.state}, undo {found.undo}"
    if found.attempt > 1:
        yield "attempt", str(found.attempt)
    if found.error is not None:
        yield "error", f"{found.error_task}: {found.error}" if found.error_task else found.error
    cancel = found.cancel
    if cancel is not None:
        yield "cancelled by", cancel.who
        yield "reason", cancel.reason or "none was given"
        yield "requested", moment(cancel.requested_at)
        for name in ("forwarded", "delivered", "reverted"):
            seconds = getattr(found, f"{name}_seconds")
            if seconds is not None:
                yield name, f"after {span(seconds)}"
    if found.accepted_by is not None:
        yield "accepted by", found.accepted_by
        yield "since", found.reason or ""
