"""`ebbtide doctor`: what a set-up lacks, and what to do about it."""

from __future__ import annotations

import os
from typing import Final

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, pass_invocation, shared_options, silence_libraries
from ebbtide.cli.output import emit, plain

STYLES: Final = {"fine": "green", "note": "yellow", "wrong": "red"}
_INDENT: Final = 21


@click.command()
@shared_options
@pass_invocation
def doctor(invocation: Invocation) -> Exit:
    """Look at store, signal, board, clocks, permissions and versions, and tell what to mend.

    Changes nothing. Ends with 1 when something is wrong; a note is no such thing.
    """
    from ebbtide.jobs.doctor import Level, examine

    silence_libraries()
    settings = invocation.settings()
    config_file = invocation.config or os.environ.get("EBBTIDE_CONFIG") or None
    findings = []
    for finding in examine(settings, config_file):
        findings.append(finding)
        if not invocation.json:
            level = click.style(f"{finding.level:<6}", fg=STYLES[finding.level])
            click.echo(f"{level} {finding.subject:<13} {plain(finding.words)}")
            if finding.advice:
                click.echo(f"{'':{_INDENT}}{plain(finding.advice)}")
    if invocation.json:
        emit([finding.as_dict() for finding in findings])
    return Exit.ENDED_BADLY if any(each.level is Level.WRONG for each in findings) else Exit.DONE
