"""`ebbtide stats` and `ebbtide prune`: what became of the jobs of a store, and removing old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import FlowName, Invocation, Seconds, pass_invocation, shared_options
from ebbtide.cli.output import columns, emit, say, show, span, styled

if TYPE_CHECKING:
    from rich.text import Text

    from ebbtide.jobs import FlowStatistics

_ENDED = ("completed", "failed", "cancelled")
_COUNTS = ("posted", *_ENDED, "parked", "pending", "running", "paused", "parked_now")


@click.command()
@click.option("--window", type=Seconds(), metavar="SECONDS", help="Only what happened in these last seconds.")
@click.option("--flow", type=FlowName(), metavar="NAME", help="Only jobs of this flow.")
@shared_options
@pass_invocation
def stats(invocation: Invocation, window: float | None, flow: str | None) -> Exit:
    """Count the jobs of the store, by flow, and say how long they took.

    Posted, completed, failed, cancelled and parked are counted over the window, or all that the store holds;
    pending, running, paused and parked now are as things stand. Durations are of completed jobs.
    """
    with invocation.poster() as poster:
        found = poster.statistics(window, flow=flow)
    if invocation.json:
        emit(found.as_dict())
        return Exit.DONE
    if not found.flows:
        say("no job yet")
        return Exit.DONE
    lines = [*found.flows, found.total] if len(found.flows) > 1 else found.flows
    heads = ("flow", *(name.replace("_", " ") for name in _COUNTS), "mean", "95 %")
    rows = [_row(each) for each in lines]
    show(columns(heads, rows, right=heads[1:]))
    return Exit.DONE


def _row(found: FlowStatistics) -> list[Text | str]:
    counts = [str(getattr(found, name)) for name in _COUNTS]
    took = ["" if each is None else span(each) for each in (found.mean_seconds, found.p95_seconds)]
    return [styled(found.flow or "all", "bold"), *counts, *took]


@click.command()
@click.option("--completed", type=Seconds(), metavar="DAYS", help="Remove jobs that completed longer ago.")
@click.option("--failed", type=Seconds(), metavar="DAYS", help="Remove jobs that failed longer ago.")
@click.option("--cancelled", type=Seconds(), metavar="DAYS", help="Remove jobs cancelled longer ago.")
@click.option("--dry-run", is_flag=True, help="Remove nothing, and say how many it would be.")
@shared_options
@pass_invocation
def prune(
    invocation: Invocation,
    completed: float | None,
    failed: float | None,
    cancelled: float | None,
    dry_run: bool,
) -> Exit:
    """Remove jobs that ended long ago, with all that is stored of them.

    Without an option: as keep_completed_days and its like in the configuration say, which conductors do by
    themselves once an hour. A job that has not ended is never removed.
    """
    given = {"completed": completed, "failed": failed, "cancelled": cancelled}
    days = {state: each for state, each in given.items() if each is not None}
    with invocation.poster() as poster:
        removed = poster.prune(days or None, dry_run=dry_run)
    if invocation.json:
        emit({"dry_run": dry_run, "removed": removed})
        return Exit.DONE
    if not removed:
        say("nothing is to be removed: every job is kept for ever")
    for state, number in removed.items():
        click.echo(f"{state}  {number}{' would be removed' if dry_run else ' removed'}")
    return Exit.DONE
