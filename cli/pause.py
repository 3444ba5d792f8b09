"""`ebbtide pause` and `resume`: let jobs, or all jobs of a flow, rest and go on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import emit
from ebbtide.cli.selecting import FILTERS, ask_many, of_ids, selecting, selection_of
from ebbtide.cli.several import Answer, each, ids
from ebbtide.cli.waiting import awaited, see_through
from ebbtide.errors import UsageError

if TYPE_CHECKING:
    from ebbtide.jobs import JobAnswer, Poster


@click.command()
@click.argument("jobs", metavar="[JOB...]", nargs=-1, type=JobId())
@selecting
@click.option("--wait", is_flag=True, help="Stay until it rests; 1 unless it is paused then.")
@shared_options
@pass_invocation
def pause(invocation: Invocation, /, jobs: tuple[str, ...], wait: bool, **options: Any) -> int:
    """Let jobs rest between tasks; nothing is undone.

    A waiting job is paused at once. A running one finishes the tasks at work first. A cancel wins over a
    pause. A JOB of - takes ids from stdin, one a line. Without a JOB, all that fit the options and wait
    or run.

    --flow alone, maybe with @version, pauses the flow itself: no job of it is begun, unless to cancel it, and
    what runs goes on.
    """
    flow = _flow_itself(jobs, options)
    if flow is not None:
        if wait or options["dry_run"]:
            raise click.UsageError("--flow alone pauses the flow itself: --wait and --dry-run are for jobs")
        with invocation.poster() as poster:
            return _told(invocation, flow, poster.pause_flow(*_parted(flow)), "paused", "paused already")
    selection = selection_of(options, jobs)
    if selection is not None and wait:
        raise click.UsageError("--wait is for jobs that are named")
    with invocation.poster() as poster:
        if selection is not None or options["dry_run"]:
            meant = selection or of_ids(poster, ids(jobs))
            return ask_many(invocation, "pause", options, lambda dry: poster.pause_many(meant, dry_run=dry))

        def ask(job_id: str) -> Answer:
            answer = poster.pause(job_id)
            return _waited(poster, answer, invocation.json) if wait else _paused(answer)

        return each(ids(jobs), ask, as_json=invocation.json)


@click.command()
@click.argument("jobs", metavar="[JOB...]", nargs=-1, type=JobId())
@selecting
@shared_options
@pass_invocation
def resume(invocation: Invocation, /, jobs: tuple[str, ...], **options: Any) -> int:
    """Let paused jobs go on where they were.

    A JOB of - takes ids from stdin, one a line. Without a JOB, all that fit the options and are paused, or to
    be paused. --flow alone resumes a flow that was paused itself.
    """
    flow = _flow_itself(jobs, options)
    if flow is not None:
        if options["dry_run"]:
            raise click.UsageError("--flow alone resumes the flow itself: --dry-run is for jobs")
        with invocation.poster() as poster:
            return _told(invocation, flow, poster.resume_flow(*_parted(flow)), "resumed", "not paused")
    selection = selection_of(options, jobs)
    with invocation.poster() as poster:
        if selection is not None or options["dry_run"]:
            meant = selection or of_ids(poster, ids(jobs))
            return ask_many(invocation, "resume", options, lambda dry: poster.resume_many(meant, dry_run=dry))
        return each(ids(jobs), lambda job_id: _resumed(poster, job_id), as_json=invocation.json)


def _paused(answer: JobAnswer) -> Answer:
    phase = answer.job.phase
    words = "paused" if phase == "paused" else f"{phase}, pauses after its present tasks"
    return Answer(answer.job.id, answer.answer, words, answer.job)


def _waited(poster: Poster, answer: JobAnswer, quiet: bool) -> Answer:
    last = see_through(poster, answer.job.id, stream=sys.stderr, quiet=quiet, to_pause=True)
    return Answer(last.job.id, answer.answer, last.job.ending, last.job, awaited(last, "paused"))


def _resumed(poster: Poster, job_id: str) -> Answer:
    job = poster.resume(job_id)
    words = f"{job.phase}, waits for {job.waits_for}" if job.waits_for else str(job.phase)
    return Answer(job.id, "resumed", words, job)


def _told(invocation: Invocation, flow: str, changed: bool, word: str, otherwise: str) -> int:
    if invocation.json:
        emit({"flow": flow, "answer": word if changed else otherwise})
    else:
        click.echo(f"{flow}  {word if changed else otherwise}")
    return Exit.DONE


def _flow_itself(jobs: tuple[str, ...], options: dict[str, Any]) -> str | None:
    """The flow that is meant itself, and not jobs of it: nothing else is named."""
    if jobs or any(options[name] for name in FILTERS if name != "flow"):
        return None
    flow: str | None = options["flow"]
    return flow


def _parted(flow: str) -> tuple[str, int | None]:
    name, at, version = flow.partition("@")
    if at and not (version.isascii() and version.isdecimal() and len(version) < 10 and int(version) > 0):
        raise UsageError(f"'{flow}' should be a flow's name, or name@version with a version from 1")
    return name, int(version) if at else None
