"""`ebbtide conductors`: who runs the jobs of the store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, pass_invocation, shared_options
from ebbtide.cli.listing import short_ids
from ebbtide.cli.output import brief, columns, emit, moment, say, show, styled

if TYPE_CHECKING:
    from ebbtide.jobs import ConductorRecord

STYLES: Final = {"alive": "green", "expired": "bold red", "ended": "dim"}


@click.command()
@click.option("--all", "everybody", is_flag=True, help="Also those that have ended and hold nothing.")
@shared_options
@pass_invocation
def conductors(invocation: Invocation, everybody: bool) -> Exit:
    """List the conductors: since when, which flows they know, what runs there.

    One that is expired fell silent; its jobs are taken over by others. In a terminal ids of jobs are cut to
    what tells them apart; in a pipe they are whole.
    """
    with invocation.poster() as poster:
        found = poster.conductors()
    if not everybody:
        found = [each for each in found if each.state != "ended" or each.jobs]
    if invocation.json:
        emit([each.as_dict() for each in found])
    elif found:
        _print_table(found)
    else:
        say("no conductor is here; `ebbtide conductor` starts one")
    return Exit.DONE


def _print_table(found: Sequence[ConductorRecord]) -> None:
    whole = [job.id for each in found for job in each.jobs]
    ids = short_ids(whole) if sys.stdout.isatty() else {job_id: job_id for job_id in whole}
    rows = [
        (
            styled(each.name, "bold"),
            styled(each.state, STYLES[each.state]),
            moment(each.started_at),
            each.version or "",
            f"{len(each.jobs)} of {each.runners}",
            brief(" ".join(each.flows), 60),
            ", ".join(f"{ids[job.id]} {job.flow} {job.phase}" for job in each.jobs),
        )
        for each in found
    ]
    names = ("conductor", "state", "since", "version", "busy", "flows", "runs")
    show(columns(names, rows, right=("busy",)))
