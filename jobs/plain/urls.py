"""Where cancel requests are, as one text."""

from __future__ import annotations

from urllib.parse import urlsplit

from ebbtide.config import Settings, load_settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.plain.file import FileRequests
from ebbtide.jobs.plain.requests import CancelRequests
from ebbtide.wording import hide_password, one_line

__all__ = ["open_requests"]

_FORMS = "write file:, file:///FOLDER, zookeeper://HOST:PORT,HOST:PORT/PATH or redis://HOST:PORT/0"


def open_requests(url: str = "file:") -> CancelRequests:
    """The cancel requests at `url`. Connects nowhere before the first use.

    ``file:`` alone is the folder that the option `signal_folder` or TASK_CANCELLATION_DIR names. TLS and the
    credential of ZooKeeper are those of the options `zookeeper_ca_file`, `zookeeper_auth` and so on.

    Raises:
        ConfigError: it is none of these forms, or a package is missing.
    """
    scheme, separator, rest = str(url).partition(":")
    if separator and scheme == "file":
        return FileRequests(rest.removeprefix("//") or None)
    if scheme == "zookeeper" and rest.startswith("//"):
        from ebbtide.jobs.ensemble import Ensemble  # slow to import
        from ebbtide.jobs.plain.zookeeper import ZookeeperRequests

        hosts, _, path = rest.removeprefix("//").partition("/")
        if hosts:
            below = f"/{path}" if path else Settings.zookeeper_path
            settings = load_settings(zookeeper_hosts=hosts, zookeeper_path=below)
            return ZookeeperRequests(Ensemble.of(settings))
    if scheme in ("redis", "rediss") and urlsplit(url).netloc:
        from ebbtide.jobs.plain.redis import RedisRequests  # its package is not everywhere

        return RedisRequests(url, Settings.redis_channel)
    raise ConfigError(f"cancel requests at '{one_line(hide_password(str(url)), 80)}': {_FORMS}")
