"""`ebbtide version`."""

from __future__ import annotations

import platform
from importlib import import_module

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, pass_invocation, shared_options
from ebbtide.cli.output import emit


@click.command()
@shared_options
@pass_invocation
def version(invocation: Invocation) -> Exit:
    """Print the version."""
    number: str = import_module("ebbtide").__version__
    if invocation.json:
        emit({"ebbtide": number, "python": platform.python_version()})
    else:
        click.echo(f"ebbtide {number}")
    return Exit.DONE
