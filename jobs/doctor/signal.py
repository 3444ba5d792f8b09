"""Whether the signal that was chosen comes through: one is rung and listened for."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from ebbtide.config import Settings
from ebbtide.errors import EbbtideError
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong
from ebbtide.jobs.postgresql import CHANNEL
from ebbtide.jobs.signals import Signal, open_signal
from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.store import Store

__all__ = ["look"]

_SUBJECT = "signal"
_PATIENCE_SECONDS = 6.0
_QUIET_SECONDS = 1.0
_STEP_SECONDS = 0.02


def look(store: Store, settings: Settings, *, usable: bool) -> Iterator[Finding]:
    """The signal of the settings, on a store that may be of no use yet."""
    name, own = settings.signal, settings.signal in ("auto", "sqlite", "postgresql")
    if own and not usable:
        return  # it comes with the store
    if name == "file" and not os.path.exists(settings.signal_folder):
        yield fine(_SUBJECT, f"file: {settings.signal_folder} is made when it is first used")
        return
    try:
        signal = open_signal(store, settings)
    except EbbtideError as error:
        yield wrong(_SUBJECT, str(error), "mend that, or choose another signal")
        return
    with contextlib.closing(signal):
        if name == "local":
            told = "local: heard in one process alone; others wait for the sweep"
            yield note(_SUBJECT, told, "set signal to auto unless everything runs in one program")
        elif own and isinstance(store.dialect, Sqlite):
            yield fine(_SUBJECT, "sqlite: the file itself tells of every commit")
        else:
            yield _tried(name, signal, _ringer(store, signal, own=own), settings.sweep_seconds)


def _ringer(store: Store, signal: Signal, *, own: bool) -> Callable[[], object]:
    if not own:
        return lambda: signal.ring(str(uuid.uuid4()))  # a job that nobody knows: conductors look, no more

    def notify() -> None:
        # As the triggers of the tables do with each commit.
        with store.write() as connection:
            connection.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))

    return notify


def _tried(name: str, signal: Signal, ring: Callable[[], object], sweep_seconds: float) -> Finding:
    later = f"a cancel waits for the sweep, {sweep_seconds:g} s at most"
    if not _heard_within(signal, lambda _: signal.listening):
        advice = "see that its server runs, and that the options name it"
        return wrong(_SUBJECT, f"{name} cannot be reached: {later}", advice)
    # What rang before this is not what is rung here; where it never stops, it surely comes through.
    _heard_within(signal, lambda rang: not rang, _QUIET_SECONDS)
    ring()
    began = time.monotonic()
    if not _heard_within(signal, lambda rang: rang):
        advice = "see that nothing on the way drops it, such as a pooler that shares sessions"
        return wrong(_SUBJECT, f"{name} does not come through: {later}", advice)
    return fine(_SUBJECT, f"{name} comes through in {1000 * (time.monotonic() - began):.0f} ms")


def _heard_within(signal: Signal, wanted: Callable[[bool], bool], seconds: float = _PATIENCE_SECONDS) -> bool:
    """Ask the signal until what it says is wanted; whether that came in time."""
    give_up = time.monotonic() + seconds
    while not wanted(signal.changed()):
        if time.monotonic() > give_up:
            return False
        signal.pause(_STEP_SECONDS)
    return True
