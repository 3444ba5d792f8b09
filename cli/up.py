"""`ebbtide up`: a conductor and the API in one command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import click

from ebbtide.cli.api import PORT, require_extra, url_of
from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import Invocation, Whole, pass_invocation, shared_options
from ebbtide.cli.output import emit_line, say

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_HEARD = _STOPS | {signal.SIGCHLD}


@click.command()
@click.option(
    "--port",
    type=Whole(0, 65535),
    metavar="N",
    default=PORT,
    show_default=True,
    help="The port of the API; 0 takes a free one.",
)
@click.option("--runners", type=Whole(1, 512), metavar="N", help="How many jobs run at once; 2 unless told.")
@shared_options
@pass_invocation
def up(invocation: Invocation, port: int, runners: int | None) -> Exit:
    """Run a conductor and serve the API on this machine; print a URL that logs in once.

    For one person on one machine: no other machine can reach it. Ctrl-C or SIGTERM ends it, once the running
    tasks have ended; a second one hurries. Ends with 1 when the conductor or the API ends by itself. Needs
    the extra `api`.
    """
    require_extra()
    from ebbtide.api.server import bound
    from ebbtide.jobs.credentials import LOGIN_SECONDS, Kind, Role
    from ebbtide.jobs.texts import whoami

    settings = invocation.settings(runners=runners)
    with invocation.poster(create=True) as poster:  # makes the tables, before two processes want them
        code, _ = poster.credentials.create(whoami(), Role.ADMIN, seconds=LOGIN_SECONDS, kind=Kind.LOGIN)
    shared = [] if invocation.config is None else ["--config", invocation.config]
    # By the environment: a password in it is nothing for the list of processes.
    environment = os.environ | {
        "EBBTIDE_DATABASE": settings.database,
        "EBBTIDE_FLOW_MODULES": ",".join(settings.flow_modules),
    }
    with bound("127.0.0.1", port) as listener:
        parts = (
            ["conductor", "--runners", str(settings.runners), *shared],
            ["api", "--inherited", str(listener.fileno()), *shared],
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        try:
            running = [_started(words, listener.fileno(), environment) for words in parts]
            url = url_of(listener.getsockname())
            _tell(url, f"{url}/login/{code}", as_json=invocation.json)
            return _seen_to_the_end(running)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell(url: str, login: str, *, as_json: bool) -> None:
    if as_json:
        emit_line({"api": url, "login": login})
        return
    say(f"up at {url}; open this within ten minutes, it logs in once:")
    click.echo(login)
    sys.stdout.flush()


def _started(words: list[str], descriptor: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A program of ours that is told to stop when this one ends, however that is.

    In a session of its own: Ctrl-C comes once, from here.
    """
    from ebbtide.trees import die_with_parent

    parent = os.getpid()

    def prepare() -> None:
        die_with_parent(parent, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    return subprocess.Popen(
        [sys.executable, "-m", "ebbtide", *words],
        env=environment,
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=prepare,  # this process has one thread
    )


def _seen_to_the_end(running: list[subprocess.Popen[bytes]]) -> Exit:
    """Wait until all have ended; as soon as one has, or a signal comes, the others are told to stop."""
    told = gone = False
    while True:
        living = [process for process in running if process.poll() is None]
        if not living:
            ended_well = told and not any(process.returncode for process in running)
            return Exit.DONE if ended_well else Exit.ENDED_BADLY
        if len(living) < len(running) and not told and not gone:
            gone = True
            say("a part of it has ended by itself, its log tells why; the other one is told to stop")
            _stop(living)
        if signal.sigwait(_HEARD) in _STOPS:
            told = True
            _stop(living)


def _stop(living: list[subprocess.Popen[bytes]]) -> None:
    for process in living:
        process.send_signal(signal.SIGTERM)
