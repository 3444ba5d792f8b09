"""The `ebbtide` command: one module per verb, or per group of verbs that belong together.

Only click is loaded to begin with. Whatever takes time to load (rich, SQLAlchemy, TaskFlow, the options)
is imported inside the verb that needs it, so that --help, `version` and the shell's completion are quick.
"""

from __future__ import annotations

import click

from ebbtide.cli import (
    accept,
    cancel,
    conductor,
    conductors,
    db,
    delete,
    demo,
    doctor,
    flows,
    listing,
    logs,
    post,
    prove,
    retry,
    show,
    stats,
    unpark,
    version,
    watch,
)
from ebbtide.cli.exits import EXIT_CODES_HELP, Verbs
from ebbtide.cli.invocation import shared_options
from ebbtide.cli.output import PROGRAM

__all__ = ["command", "main"]


COMPLETION_HELP = """\
\b
Completion in the shell, job ids included:
  eval "$(_EBBTIDE_COMPLETE=bash_source ebbtide)"     (zsh_source, fish_source)
"""


@click.group(
    PROGRAM,
    cls=Verbs,
    epilog=f"{EXIT_CODES_HELP}\n{COMPLETION_HELP}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=version.told,
    help="Print the version.",
)
@shared_options
def command() -> None:
    """Cancelable jobs: post them, watch them, cancel them, and see that what they did is undone.

    Start with `ebbtide demo`. The options below may stand before or after the verb.
    """


command.sections = (
    (
        "Jobs",
        ("post", "ls", "show", "logs", "result", "watch", "cancel", "retry", "unpark", "accept", "delete"),
    ),
    ("Service", ("flows", "prove", "conductor", "conductors", "stats", "prune", "doctor", "db")),
    ("About", ("demo", "version")),
)
for _verb in (
    post.post,
    listing.ls,
    show.show_job,
    show.result,
    logs.logs,
    watch.watch,
    cancel.cancel,
    retry.retry,
    unpark.unpark,
    accept.accept,
    delete.delete,
    flows.flows,
    prove.prove,
    conductor.conductor,
    conductors.conductors,
    stats.stats,
    stats.prune,
    doctor.doctor,
    db.db,
    demo.demo,
    version.version,
):
    command.add_command(_verb)


def main() -> None:
    """Run the command with the arguments of this process, and end the process with its exit code."""
    command.main(prog_name=PROGRAM)
