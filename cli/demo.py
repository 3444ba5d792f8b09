"""`ebbtide demo`: a job that works on real files is cancelled half-way, undone, retried, and checked."""

from __future__ import annotations

import errno
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ebbtide.cli.exits import Exit, emit_error
from ebbtide.cli.invocation import Invocation, pass_invocation, shared_options, silence_libraries
from ebbtide.cli.output import emit, plain, say, show, span
from ebbtide.errors import StoreUnavailable
from ebbtide.interrupts import Raised
from ebbtide.wording import one_line

if TYPE_CHECKING:
    from ebbtide.cli.demo_acts import Scene
    from ebbtide.cli.demo_proof import Size
    from ebbtide.flows import Registry


@click.command()
@click.argument("path", required=False, type=click.Path(readable=False, path_type=Path))
@shared_options
@pass_invocation
def demo(invocation: Invocation, path: Path | None) -> Exit:
    """Show on files of yours that a cancel undoes.

    Archives and checksums the folder PATH (Python's standard library unless you name one) three times: one
    job completes, one is cancelled half-way by another process, undone and retried, one runs beside it
    unharmed. PATH is only read. Store, conductor and results are the demo's own and are gone when it ends.
    Exits with 1 when anything of what it promises does not hold.
    """
    from ebbtide.cli.demo_stage import FLOW_MODULE, DemoFailed, require_room
    from ebbtide.flows import load_flows

    source = Path(sysconfig.get_path("stdlib")) if path is None else path.absolute()
    registry = load_flows([FLOW_MODULE])
    size = _size(source, registry)
    out = sys.stderr if invocation.json else sys.stdout
    click.echo(f"ebbtide demo: {plain(source)} ({_in_words(size)})", file=out)
    begun = time.monotonic()
    try:
        with Raised():
            require_room(size.bytes if size else 0)
            scenes = _played(source, registry, as_json=invocation.json)
    except (DemoFailed, StoreUnavailable) as failure:
        return _failed(failure, as_json=invocation.json)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _failed(f"no room for the demo: {error}; set TMPDIR", as_json=invocation.json)
    except KeyboardInterrupt:
        say("interrupted; conductor and folder of the demo are gone")
        return Exit.INTERRUPTED
    return _told(scenes, time.monotonic() - begun, as_json=invocation.json)


def _played(source: Path, registry: Registry, *, as_json: bool) -> list[Scene]:
    from ebbtide.cli.demo_acts import Play
    from ebbtide.cli.demo_stage import stage
    from ebbtide.jobs import Poster

    silence_libraries()

    with stage() as place:
        if place.folder.is_relative_to(source.resolve()):
            raise click.UsageError(f"{source} holds the temporary folder; name another, or set TMPDIR")
        with Poster(place.database, registry=registry) as poster, place.conductor() as conductor:
            play = Play(place, conductor, poster, source, sys.stderr if as_json else sys.stdout)
            return play.run()


def _failed(reason: object, *, as_json: bool) -> Exit:
    problem = one_line(reason, 1000)
    say(problem)
    if as_json:
        emit_error(problem, Exit.ENDED_BADLY)
    return Exit.ENDED_BADLY


def _size(source: Path, registry: Registry) -> Size | None:
    """How much there is to do; a usage error when there is nothing, None when not all can be read."""
    from ebbtide.cli.demo_proof import measure

    if not source.exists():
        raise click.UsageError(f"there is no folder {source}")
    if not source.is_dir():
        raise click.UsageError(f"{source} is a file; name a folder")
    definition = registry.get("file-processing")
    exclude = definition.validate({"source": str(source), "destination": str(source)})["exclude"]
    try:
        size = measure(source, exclude)
    except OSError as error:
        if Path(error.filename) != source:
            return None  # which the job will meet
        raise click.UsageError(f"{source} cannot be read: {error.strerror}") from error
    if not size.files:
        holds = "is empty" if not size.entries else f"holds no regular file (entries: {size.entries:,})"
        raise click.UsageError(f"{source} {holds}: there is nothing to process")
    return size


def _in_words(size: Size | None) -> str:
    if size is None:
        return "not all of it can be read"
    left_out = f"; left out, since without content: {size.left_out:,}" if size.left_out else ""
    return f"{size.files:,} files, {size.bytes / 1e6:,.1f} MB{left_out}"


def _told(scenes: Sequence[Scene], seconds: float, *, as_json: bool) -> Exit:
    from ebbtide.cli.demo_report import as_dict, report

    holds = all(scene.holds for scene in scenes)
    if as_json:
        emit(as_dict(scenes))
    else:
        click.echo()
        show(report(scenes))
        click.echo()
    words = f"in {span(seconds)}; nothing is left behind"
    if holds:
        say(f"all of it holds, {words}")
        return Exit.DONE
    say(f"NOT all of it holds, {words}")
    return Exit.ENDED_BADLY
