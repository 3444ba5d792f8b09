"""`ebbtide unpark`: let parked jobs go on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.several import Answer, each, ids
from ebbtide.cli.waiting import see_through

if TYPE_CHECKING:
    from ebbtide.jobs import Job, Poster


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, type=JobId())
@click.option("--skip", metavar="TASK", help="Leave the undo of that task out; with --reason.")
@click.option("--reason", default="", metavar="TEXT", help="Why it may be left out; kept in the history.")
@click.option("--wait", is_flag=True, help="Stay until it ends; 1 if it is parked again.")
@shared_options
@pass_invocation
def unpark(invocation: Invocation, jobs: tuple[str, ...], skip: str | None, reason: str, wait: bool) -> int:
    """Let parked jobs go on, once what parked them is mended.

    What could not be undone is tried again, then what it held is undone. A job in which no undo had failed
    goes on where it was. What --skip leaves out stays as it is, and is listed as not undone. A JOB of - takes
    ids from stdin, one a line.
    """
    with invocation.poster() as poster:

        def ask(job_id: str) -> Answer:
            job = poster.unpark(job_id, skip=skip, reason=reason)
            return _waited(poster, job, invocation.json) if wait else _told(job)

        return each(ids(jobs), ask, as_json=invocation.json)


def _told(job: Job) -> Answer:
    words = f"{job.phase}, waits for {job.waits_for}" if job.waits_for else str(job.phase)
    return Answer(job.id, "unparked", words if job.ended_at is None else job.ending, job)


def _waited(poster: Poster, job: Job, quiet: bool) -> Answer:
    last = see_through(poster, job.id, stream=sys.stderr, quiet=quiet).job
    code = Exit.ENDED_BADLY if str(last.state) == "parked" else Exit.DONE
    return Answer(last.id, "unparked", last.ending, last, code)
