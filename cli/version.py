"""`ebbtide version`."""

from __future__ import annotations

import platform
from importlib import import_module

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, pass_invocation, shared_options
from ebbtide.cli.output import PROGRAM, emit


@click.command()
@shared_options
@pass_invocation
def version(invocation: Invocation) -> Exit:
    """Print the version."""
    if invocation.json:
        emit({"ebbtide": _number(), "python": platform.python_version()})
    else:
        click.echo(f"{PROGRAM} {_number()}")
    return Exit.DONE


def told(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    """The option --version, for whoever tries that first."""
    if wanted and not ctx.resilient_parsing:
        click.echo(f"{PROGRAM} {_number()}")
        ctx.exit()


def _number() -> str:
    number: str = import_module("ebbtide").__version__
    return number
