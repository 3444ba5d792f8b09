"""Whether the clocks of hosts and database agree. No decision rests on that, but every time that is shown."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from ebbtide.jobs import clock
from ebbtide.jobs.conductors import ALIVE, read_conductors
from ebbtide.jobs.doctor.finding import Finding, fine, wrong
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.postgresql import Postgresql
from ebbtide.jobs.store import Store

__all__ = ["look"]

_SUBJECT = "clocks"
_MOST_SECONDS = 2.0
_ADVICE = "have it set by NTP (`timedatectl set-ntp true`): times of several hosts do not compare until then"


def look(store: Store) -> Iterator[Finding]:
    """The clock of this host, and those of conductors when these came, against the database's."""
    if not isinstance(store.dialect, Postgresql):
        return  # one machine, one clock
    with store.read() as connection:
        connection.execute(sa.select(WallNow()))  # connected, so that the next one is quick
        before = clock.wall()
        theirs = connection.execute(sa.select(WallNow())).scalar_one()
        after = clock.wall()
    ahead = (before + after) / 2 - theirs
    off = {"this host": ahead} if abs(ahead) > _MOST_SECONDS + (after - before) else {}
    for each in read_conductors(store):
        skew = each.clock_ahead_seconds
        if each.state == ALIVE and skew is not None and abs(skew) > _MOST_SECONDS:
            off[f"conductor {each.name}"] = skew
    for who, skew in off.items():
        words = f"the clock of {who} is {abs(skew):.1f} s {'before' if skew > 0 else 'behind'} the database's"
        yield wrong(_SUBJECT, words, _ADVICE)
    if not off:
        yield fine(_SUBJECT, f"this host and the database agree within {abs(ahead) + (after - before):.3f} s")
