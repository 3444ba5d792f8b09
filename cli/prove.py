"""`ebbtide prove`: kill and cancel a flow at every point, and look at what is left."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import (
    FlowName,
    Invocation,
    Seconds,
    Whole,
    pairs,
    pass_invocation,
    shared_options,
    silence_libraries,
)
from ebbtide.cli.output import emit, plain, say
from ebbtide.interrupts import Raised

if TYPE_CHECKING:
    from ebbtide.testing.proving import Covered, Proof
    from ebbtide.testing.proving.world import Check


@click.command()
@click.argument("flow", type=FlowName())
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; repeatable.")
@click.option(
    "--same",
    multiple=True,
    metavar="PATH",
    help="A file or folder that an undo has to leave as it was; put back before each job. Repeatable.",
)
@click.option(
    "--check", metavar="MODULE:FUNCTION", help="What it returns has to be the same after each undo."
)
@click.option(
    "--points",
    type=Whole(0),
    metavar="N",
    help="Try the ends of tasks and undos and N other points; else all.",
)
@click.option(
    "--doubles",
    type=Whole(0),
    default=20,
    show_default=True,
    metavar="N",
    help="Double crashes to try, chosen by chance.",
)
@click.option("--seed", type=Whole(0), metavar="N", help="For what is chosen by chance, to choose it again.")
@click.option(
    "--timeout",
    type=Seconds(),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a run of a job may take.",
)
@click.option(
    "--undo-retries",
    type=Whole(0),
    default=3,
    show_default=True,
    metavar="N",
    help="How often an undo that fails is tried again.",
)
@click.option(
    "--undo-timeout",
    type=Seconds(),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a try of an undo may take.",
)
@click.option("--yes", is_flag=True, help="Run it for real without asking.")
@shared_options
@pass_invocation
def prove(
    invocation: Invocation,
    flow: str,
    params: tuple[str, ...],
    same: tuple[str, ...],
    check: str | None,
    points: int | None,
    doubles: int,
    seed: int | None,
    timeout: float,
    undo_retries: int,
    undo_timeout: float,
    yes: bool,
) -> Exit:
    """Run a flow for real, kill it and cancel it at every point, and tell what its undo leaves.

    Its tasks run with all their effects, some hundred times; so it wants --yes. Jobs are kept in a temporary
    store, or in the empty one that --database names here. What --same names is put back; without it no job
    completes: each is cancelled at its last commit and undone. Exits with 1 when something was found.
    """
    from ebbtide.testing.proving import prove_flow

    _require_seconds(("--timeout", timeout), ("--undo-timeout", undo_timeout))
    definition = (registry := invocation.registry()).get(flow)
    values = definition.parse(pairs(params, "-p"))
    checked = _function(check)
    _consent(definition.key, yes)
    silence_libraries()
    try:
        with Raised(signal.SIGTERM, signal.SIGHUP):
            proof = prove_flow(
                definition.key,
                values,
                registry=registry,
                same=same,
                check=checked,
                database=invocation.database,
                points=points,
                doubles=doubles,
                seed=seed,
                task_threads=invocation.settings().task_threads,
                timeout_seconds=timeout,
                undo_retries=undo_retries,
                undo_seconds=undo_timeout,
                on_point=_silent if invocation.json else _show,
            )
    except KeyboardInterrupt:
        say("interrupted; what --same names is as it was" if same else "interrupted")
        return Exit.INTERRUPTED
    return _told(proof, as_json=invocation.json)


def _require_seconds(*given: tuple[str, float]) -> None:
    for name, seconds in given:
        if not 0 < seconds < float("inf"):
            raise click.UsageError(f"{name} wants a number of seconds, above 0")


def _told(proof: Proof, *, as_json: bool) -> Exit:
    if as_json:
        emit(proof.as_dict())
    else:
        click.echo("\n" + plain(proof.report(), keep="\n"))
    return Exit.DONE if proof.holds else Exit.ENDED_BADLY


def _show(covered: Covered) -> None:
    click.echo(plain(covered))
    sys.stdout.flush()


def _silent(covered: Covered) -> None:
    pass


def _function(reference: str | None) -> Check | None:
    from ebbtide.flows.registry import load_function

    return None if reference is None else load_function(reference, "--check")


def _consent(flow: str, yes: bool) -> None:
    """Go on only if somebody wants the flow to run for real."""
    real = f"{plain(flow)} runs for real, with all its effects, again and again, and is killed"
    if yes:
        say(real)
    elif not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"{real}: say --yes if that does no harm here")
    elif not click.confirm(f"{real}. Go on?", err=True):
        raise click.Abort
