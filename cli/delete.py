"""`ebbtide delete`: remove jobs from the store."""

from __future__ import annotations

from typing import Any

import click

from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.selecting import ask_many, of_ids, selecting, selection_of
from ebbtide.cli.several import Answer, each, ids


@click.command()
@click.argument("jobs", metavar="[JOB...]", nargs=-1, type=JobId())
@selecting
@shared_options
@pass_invocation
def delete(invocation: Invocation, jobs: tuple[str, ...], **options: Any) -> int:
    """Remove jobs with their history and logs.

    One that is at work, or half-done, is cancelled and undone first, and removed with its end. A JOB of -
    takes ids from stdin, one a line. Without a JOB, all that fit the options and have ended.
    """
    selection = selection_of(options, jobs)
    with invocation.poster() as poster:
        if selection is not None or options["dry_run"]:
            meant = selection or of_ids(poster, ids(jobs))
            return ask_many(invocation, "delete", options, lambda dry: poster.delete_many(meant, dry_run=dry))

        def ask(job_id: str) -> Answer:
            found = poster.show(job_id)
            word = poster.delete(found.id)
            return Answer(found.id, word, "" if word == "deleted" else "undone first, then removed")

        return each(ids(jobs), ask, as_json=invocation.json)
