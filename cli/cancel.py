"""`ebbtide cancel`: have jobs stopped and undone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import say
from ebbtide.cli.receipt import foretell
from ebbtide.cli.selecting import ask_many, selecting, selection_of
from ebbtide.cli.several import STDIN, Answer, each, ids
from ebbtide.cli.waiting import awaited, see_through

if TYPE_CHECKING:
    from ebbtide.jobs import CancelAnswer, Poster


@click.command()
@click.argument("jobs", metavar="[JOB...]", nargs=-1, type=JobId())
@selecting
@click.option("--reason", default="", metavar="TEXT", help="Why; kept with the job and shown with it.")
@click.option("--wait", is_flag=True, help="Stay until it is undone; 1 unless it ended cancelled.")
@shared_options
@pass_invocation
def cancel(invocation: Invocation, /, jobs: tuple[str, ...], reason: str, wait: bool, **options: Any) -> int:
    """Have jobs stopped, and what they did undone, newest first.

    The request is stored when this returns; the undo may take longer. Asking twice is asking once. A JOB of -
    takes ids from stdin, one a line. Without a JOB, all that fit the options and have not ended. With
    --dry-run nothing is changed; of a JOB it tells what would be undone, and in which order.
    """
    selection = selection_of(options, jobs)
    if selection is not None and wait:
        raise click.UsageError("--wait is for jobs that are named")
    if selection is None and options["dry_run"]:
        return foretell(invocation, jobs)
    with invocation.poster() as poster:
        if selection is not None:
            return ask_many(
                invocation,
                "cancel",
                options,
                lambda dry: poster.cancel_many(selection, reason=reason, dry_run=dry),
            )
        if STDIN in jobs and not invocation.json:
            say("ready for job ids on stdin, one a line")

        def ask(job_id: str) -> Answer:
            answer = poster.cancel(job_id, reason=reason)
            return _waited(poster, answer, invocation.json) if wait else _told(answer)

        return each(ids(jobs), ask, as_json=invocation.json)


def _told(answer: CancelAnswer) -> Answer:
    job = answer.job
    words = {"cancelling": "being undone", "overdue": "overdue: it does not stop"}.get(job.phase, job.ending)
    if answer.answer == "already requested" and job.cancel is not None:
        request = job.cancel
        words += f"; first asked by {request.who}" + (f" ({request.reason})" if request.reason else "")
    return Answer(job.id, answer.answer, words, job)


def _waited(poster: Poster, answer: CancelAnswer, quiet: bool) -> Answer:
    last = see_through(poster, answer.job.id, stream=sys.stderr, quiet=quiet)
    return Answer(last.job.id, answer.answer, last.job.ending, last.job, awaited(last, "cancelled"))
