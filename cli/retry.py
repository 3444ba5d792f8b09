"""`ebbtide retry`: run a failed or cancelled job once more."""

from __future__ import annotations

import sys
from typing import Any

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import emit, say
from ebbtide.cli.selecting import ask_many, of_ids, selecting, selection_of
from ebbtide.cli.waiting import awaited, conclusion, see_through


@click.command()
@click.argument("job", required=False, type=JobId())
@selecting
@click.option("--from-failure", is_flag=True, help="Of a job that holds: go on at the task that failed.")
@click.option("--wait", is_flag=True, help="Stay until it ends; 1 unless it completed.")
@shared_options
@pass_invocation
def retry(invocation: Invocation, job: str | None, from_failure: bool, wait: bool, **options: Any) -> int:
    """Run a failed or cancelled job once more.

    The same id and parameters, the next attempt. Without a JOB, all that fit the options. A job that was
    posted with --on-failure hold, and whose task has failed, is parked with all that it had done:
    --from-failure lets it go on from there, in the same attempt. `cancel` undoes it."""
    named = () if job is None else (job,)
    selection = selection_of(options, named)
    if selection is not None and (wait or from_failure):
        raise click.UsageError("--wait and --from-failure are for a job that is named")
    with invocation.poster() as poster:
        if job is None or selection is not None or options["dry_run"]:
            meant = selection or of_ids(poster, named)
            return ask_many(invocation, "retry", options, lambda dry: poster.retry_many(meant, dry_run=dry))
        retried = poster.retry(job, from_failure=from_failure)
        if not invocation.json:
            click.echo(f"{retried.id}  {retried.phase}  attempt {retried.attempt}")
            sys.stdout.flush()
        if not wait:
            if invocation.json:
                emit(retried.as_dict())
            return Exit.DONE
        last = see_through(poster, retried.id, stream=sys.stderr, quiet=invocation.json)
    if invocation.json:
        emit(last.job.as_dict())
    say(conclusion(last))
    return awaited(last)
