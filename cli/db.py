"""`ebbtide db`: the tables of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, pass_invocation, shared_options
from ebbtide.cli.output import emit, plain, say

if TYPE_CHECKING:
    from ebbtide.jobs.schema import SchemaReport


@click.group()
@shared_options
def db() -> None:
    """Check or upgrade the tables of the store."""


@db.command()
@shared_options
@pass_invocation
def check(invocation: Invocation) -> Exit:
    """Tell whether this program can use the store as it is; 5 if it cannot. Changes nothing."""
    from ebbtide.jobs.schema import check_schema, mismatch

    report = check_schema(invocation.settings().database)
    _tell(invocation, report)
    if report.state in ("current", "empty"):
        return Exit.DONE
    say(str(mismatch(report)))
    return Exit.STORE


@db.command()
@shared_options
@pass_invocation
def upgrade(invocation: Invocation) -> Exit:
    """Bring an older store up to this program, or create it. Stop the conductors first."""
    from ebbtide.jobs.schema import upgrade_schema

    _tell(invocation, upgrade_schema(invocation.settings().database))
    return Exit.DONE


def _tell(invocation: Invocation, report: SchemaReport) -> None:
    if invocation.json:
        emit(
            {
                "database": report.url,
                "state": str(report.state),
                "schema": report.found,
                "expected": report.expected,
            }
        )
        return
    schema = f", schema {report.found}" if report.found else ""
    click.echo(f"{plain(report.url)}: {report.state}{plain(schema)}; {report.expected} expected")
