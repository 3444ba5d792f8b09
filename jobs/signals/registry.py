"""Which signals there are, by the name that the option `signal` gives them."""

from __future__ import annotations

from collections.abc import Callable

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.postgresql import Postgresql
from ebbtide.jobs.signals.signal import Signal
from ebbtide.jobs.signals.sqlite import DataVersionSignal
from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.store import Store
from ebbtide.wording import one_line

__all__ = ["SIGNALS", "open_signal", "own_signal"]


def own_signal(store: Store) -> Signal:
    """The signal that the store itself gives. Opens nothing before its first use; belongs to this process."""
    dialect = store.dialect
    return DataVersionSignal(dialect) if isinstance(dialect, Sqlite) else _notify(dialect)


def open_signal(store: Store, settings: Settings) -> Signal:
    """The signal that the option `signal` names. Connects nowhere before its first use.

    Raises:
        ConfigError: there is none of that name, it does not fit the store, or something of it is missing.
        FolderRefused: the folder of the signal `file` is not this user's alone.
    """
    if settings.signal not in SIGNALS:
        raise ConfigError(f"signal {one_line(settings.signal, 40)} is not known; known: {', '.join(SIGNALS)}")
    return SIGNALS[settings.signal](store, settings)


def _auto(store: Store, settings: Settings) -> Signal:
    return own_signal(store)


def _sqlite(store: Store, settings: Settings) -> Signal:
    if not isinstance(store.dialect, Sqlite):
        raise ConfigError(f"signal sqlite wants a database on SQLite; {_OTHERS} fit this one")
    return DataVersionSignal(store.dialect)


def _postgresql(store: Store, settings: Settings) -> Signal:
    if not isinstance(store.dialect, Postgresql):
        raise ConfigError("signal postgresql wants a database on PostgreSQL; " + _OTHERS + " fit this one")
    return _notify(store.dialect)


def _notify(dialect: Postgresql) -> Signal:
    from ebbtide.jobs.signals.postgresql import NotifySignal

    return NotifySignal(dialect)


def _redis(store: Store, settings: Settings) -> Signal:
    from ebbtide.jobs.signals.redis import RedisSignal  # its package is not everywhere

    return RedisSignal(settings.redis_url, settings.redis_channel)


def _zookeeper(store: Store, settings: Settings) -> Signal:
    from ebbtide.jobs.ensemble import Ensemble  # slow to import
    from ebbtide.jobs.signals.zookeeper import ZookeeperSignal

    return ZookeeperSignal(Ensemble.of(settings))


def _file(store: Store, settings: Settings) -> Signal:
    from ebbtide.jobs.signals.file import FileSignal

    if not settings.signal_folder:
        raise ConfigError("signal file wants a folder: set signal_folder")
    return FileSignal(settings.signal_folder)


def _local(store: Store, settings: Settings) -> Signal:
    from ebbtide.jobs.signals.local import LocalSignal

    return LocalSignal(store.url)


_OTHERS = "auto, redis, zookeeper, file and local"
SIGNALS: dict[str, Callable[[Store, Settings], Signal]] = {
    "auto": _auto,
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "redis": _redis,
    "zookeeper": _zookeeper,
    "file": _file,
    "local": _local,
}
