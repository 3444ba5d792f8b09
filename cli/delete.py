"""`ebbtide delete`: remove jobs from the store."""

from __future__ import annotations

import click

from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.several import Answer, each, ids


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, type=JobId())
@shared_options
@pass_invocation
def delete(invocation: Invocation, jobs: tuple[str, ...]) -> int:
    """Remove jobs with their history and logs.

    Only jobs that have ended or never began. A JOB of - takes ids from stdin, one a line.
    """
    with invocation.poster() as poster:

        def ask(job_id: str) -> Answer:
            found = poster.show(job_id)
            poster.delete(found.id)
            return Answer(found.id, "deleted", "")

        return each(ids(jobs), ask, as_json=invocation.json)
