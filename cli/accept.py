"""`ebbtide accept`: close a parked job as it is."""

from __future__ import annotations

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, JobId, pass_invocation, shared_options
from ebbtide.cli.output import brief, emit


@click.command()
@click.argument("job", type=JobId())
@click.option("--reason", required=True, metavar="TEXT", help="Why it may stay so; kept in its history.")
@shared_options
@pass_invocation
def accept(invocation: Invocation, job: str, reason: str) -> Exit:
    """Close a parked job as it is.

    Nothing more is done or undone. It ends cancelled if that was requested, else failed; what is not undone
    stays listed. It can be retried.
    """
    with invocation.poster() as poster:
        accepted = poster.accept(job, reason)
    if invocation.json:
        emit(accepted.as_dict())
        return Exit.DONE
    words = "; ".join(filter(None, (accepted.ending, accepted.standing)))
    click.echo(f"{accepted.id}  {brief(words, 400)}")
    return Exit.DONE
