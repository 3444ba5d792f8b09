"""`ebbtide watch`: a job as it runs, and as it is undone."""

from __future__ import annotations

import sys

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import emit_line, say
from ebbtide.cli.snapshot import Snapshot, follow
from ebbtide.cli.waiting import awaited, conclusion, goes_on, see_through
from ebbtide.interrupts import Raised


@click.command()
@click.argument("job", type=JobId())
@shared_options
@pass_invocation
def watch(invocation: Invocation, job: str) -> Exit:
    """Watch a job until it ends, and its undo.

    In a terminal: a bar for each task, running backwards while it is undone.

    Without a terminal: a line for each thing that happens. With --json: the job as one line of JSON, with its
    tasks, each time that something has changed. Ctrl-C ends the watching, not the job.
    """
    with invocation.poster() as poster:
        job_id = poster.show(job).id
        if not invocation.json:
            last = see_through(poster, job_id, stream=sys.stdout)
        else:
            before = None
            try:
                with Raised():
                    for last in follow(poster, job_id):
                        before = _emit_if_new(before, last)
            except KeyboardInterrupt:
                goes_on(job_id)
    if not invocation.json:
        say(conclusion(last))
    return awaited(last)


def _emit_if_new(before: Snapshot | None, snapshot: Snapshot) -> Snapshot:
    if snapshot != before:
        emit_line(snapshot.as_dict())
    return snapshot
