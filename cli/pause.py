"""`ebbtide pause` and `resume`: let jobs, or all jobs of a flow, rest and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import emit
from ebbtide.cli.several import Answer, each, ids
from ebbtide.errors import UsageError

if TYPE_CHECKING:
    from ebbtide.jobs import Poster

_FLOW = "A flow, maybe with @version: of a paused one no job is begun, unless to cancel it."


@click.command()
@click.argument("jobs", metavar="[JOB]...", nargs=-1, type=JobId())
@click.option("--flow", metavar="NAME", help=_FLOW)
@shared_options
@pass_invocation
def pause(invocation: Invocation, jobs: tuple[str, ...], flow: str | None) -> int:
    """Let jobs rest between tasks; nothing is undone.

    A waiting job is paused at once. A running one finishes the tasks at work, which is not waited for. A
    cancel wins over a pause. A JOB of - takes ids from stdin, one a line.
    """
    _one_of(jobs, flow)
    with invocation.poster() as poster:
        if flow is not None:
            name, version = _parted(flow)
            return _told(invocation, flow, poster.pause_flow(name, version), "paused", "paused already")

        def ask(job_id: str) -> Answer:
            answer = poster.pause(job_id)
            words = (
                "" if answer.job.phase == "paused" else f"{answer.job.phase}, pauses after its present tasks"
            )
            return Answer(answer.job.id, answer.answer, words or "paused", answer.job)

        return each(ids(jobs), ask, as_json=invocation.json)


@click.command()
@click.argument("jobs", metavar="[JOB]...", nargs=-1, type=JobId())
@click.option("--flow", metavar="NAME", help="A flow, as it was paused.")
@shared_options
@pass_invocation
def resume(invocation: Invocation, jobs: tuple[str, ...], flow: str | None) -> int:
    """Let paused jobs go on where they were.

    A JOB of - takes ids from stdin, one a line.
    """
    _one_of(jobs, flow)
    with invocation.poster() as poster:
        if flow is not None:
            name, version = _parted(flow)
            return _told(invocation, flow, poster.resume_flow(name, version), "resumed", "not paused")
        return each(ids(jobs), lambda job_id: _resumed(poster, job_id), as_json=invocation.json)


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


def _one_of(jobs: tuple[str, ...], flow: str | None) -> None:
    if bool(jobs) == (flow is not None):
        raise UsageError("name jobs, or a flow with --flow")


def _parted(flow: str) -> tuple[str, int | None]:
    name, at, version = flow.partition("@")
    if at and not (version.isascii() and version.isdecimal() and len(version) < 10 and int(version) > 0):
        raise UsageError(f"'{flow}' should be a flow's name, or name@version with a version from 1")
    return name, int(version) if at else None
