"""`ebbtide ls`: the jobs of the store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import FlowName, Invocation, Whole, pairs, pass_invocation, shared_options
from ebbtide.cli.output import brief, columns, emit, moment, percent, phase, say, show, styled

if TYPE_CHECKING:
    from ebbtide.jobs import Job

SHORTEST_ID: Final = 8

# As in ebbtide.jobs.states.PHASES, which is too heavy to be loaded for --help; a test compares the two.
STATE_WORDS: Final = (
    "pending",
    "running",
    "paused",
    "parked",
    "completed",
    "failed",
    "cancelled",
    "scheduled",
    "cancelling",
    "reverting",
    "overdue",
)


@click.command("ls")
@click.option("--state", type=click.Choice(STATE_WORDS, case_sensitive=False), help="Only jobs in it.")
@click.option("--flow", type=FlowName(), metavar="NAME", help="Only jobs of this flow.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only jobs with it; repeatable.")
@click.option("--limit", type=Whole(1, 10_000), metavar="N", default=50, show_default=True, help="How many.")
@shared_options
@pass_invocation
def ls(
    invocation: Invocation, state: str | None, flow: str | None, labels: tuple[str, ...], limit: int
) -> Exit:
    """List jobs, the newest first.

    In a terminal ids are cut to what tells these jobs apart; in a pipe they are whole.
    """
    with invocation.poster() as poster:
        jobs = poster.list(state=state, flow=flow, labels=pairs(labels, "--label"), limit=limit)
    if invocation.json:
        emit([job.as_dict() for job in jobs])
        return Exit.DONE
    if not jobs:
        # A server shows a token no more than its own jobs: there may be others.
        none = "no job yet" if invocation.server is None else "no job that this token may see"
        filtered = state or flow or labels
        say("no job fits" if filtered else f"{none}; `ebbtide post FLOW` puts one on the board")
        return Exit.DONE
    _print_table(jobs)
    if len(jobs) == limit and sys.stdout.isatty():
        say(f"these are the newest {limit}; --limit shows more")
    return Exit.DONE


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Each id cut to the length at which all of them still differ."""
    length = SHORTEST_ID
    while len({job_id[:length] for job_id in ids}) < len(ids):
        length += 1
    return {job_id: job_id[:length] for job_id in ids}


def _print_table(jobs: Sequence[Job]) -> None:
    ids = short_ids([job.id for job in jobs]) if sys.stdout.isatty() else {job.id: job.id for job in jobs}
    rows = [
        (
            styled(ids[job.id], "bold"),
            job.flow,
            phase(str(job.phase)),
            str(job.attempt),
            percent(job.progress),
            moment(job.created_at),
            _note(job),
        )
        for job in jobs
    ]
    show(columns(("id", "flow", "state", "try", "done", "posted", "note"), rows, right=("try", "done")))


def _note(job: Job) -> str:
    """What a person would want to know about it first."""
    if job.park_reason and str(job.state) == "parked":
        return brief(job.park_reason)
    if job.waits_for:
        return brief(f"waits for {job.waits_for}")
    if job.error:
        return brief(f"{job.error_task}: {job.error}" if job.error_task else job.error)
    if job.cancel is not None and job.cancel.reason:
        return brief(job.cancel.reason)
    if job.current:
        return brief(", ".join(job.current))
    return brief(" ".join(f"{key}={value}" for key, value in job.labels.items()))
