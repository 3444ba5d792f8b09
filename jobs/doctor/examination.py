"""Looks at everything that a set-up consists of, in the order in which one would mend it."""

from __future__ import annotations

from collections.abc import Iterator

from ebbtide.config import Settings
from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.doctor import (
    board,
    clocks,
    configuration,
    flows,
    isolation,
    queue,
    signal,
    store,
    versions,
    zookeeper,
)
from ebbtide.jobs.doctor.finding import Finding, wrong
from ebbtide.jobs.store import Store

__all__ = ["examine"]

# An examination is for a person who waits.
_PATIENCE_SECONDS = 5.0


def examine(settings: Settings, config_file: str | None = None) -> Iterator[Finding]:
    """Every finding, each as soon as it is made. No database and no folder is created, and nothing changed.

    What signal and board need at their servers is made there, as by whoever comes first.

    Args:
        config_file: where the settings were read from, if from a file.
    """
    yield from versions.look()
    yield from configuration.look(settings, config_file)
    yield from flows.look(settings)
    yield from isolation.look(settings)
    with Store(settings.database, wait_seconds=_PATIENCE_SECONDS) as opened:
        usable = False
        try:
            usable = yield from store.look(opened)
            if usable:
                yield from clocks.look(opened)
                yield from queue.look(opened)
        except StoreUnavailable as error:
            yield wrong("store", str(error), "look at the database: it went away during the examination")
            usable = False
        yield from zookeeper.look(settings)
        yield from signal.look(opened, settings, usable=usable)
    yield from board.look(settings)
