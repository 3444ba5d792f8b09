"""`ebbtide rewind`: undo a job back to a savepoint, and leave it paused there."""

from __future__ import annotations

import sys

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import emit, say
from ebbtide.cli.waiting import awaited, conclusion, see_through


@click.command()
@click.argument("job", type=JobId())
@click.option("--to", "savepoint", required=True, metavar="SAVEPOINT", help="What comes after it is undone.")
@click.option("--wait", is_flag=True, help="Stay until it is there; 1 unless it is paused then.")
@shared_options
@pass_invocation
def rewind(invocation: Invocation, job: str, savepoint: str, wait: bool) -> Exit:
    """Undo what a job did after a savepoint.

    Newest first; then the job is paused, and `ebbtide resume` lets it go on from there. The wish is stored
    when this returns; the undo may take longer. A cancel undoes the rest as well.
    """
    with invocation.poster() as poster:
        answer = poster.rewind(job, savepoint)
        if not invocation.json:
            click.echo(f"{answer.job.id}  {answer.answer}  goes back to {savepoint}")
            sys.stdout.flush()
        if not wait:
            if invocation.json:
                emit(answer.job.as_dict() | {"answer": answer.answer})
            return Exit.DONE
        last = see_through(poster, answer.job.id, stream=sys.stderr, quiet=invocation.json, to_pause=True)
    if invocation.json:
        emit(last.job.as_dict() | {"answer": answer.answer})
    say(conclusion(last))
    return awaited(last, "paused")
