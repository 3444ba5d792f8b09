"""The one place where clients of Redis are made."""

from __future__ import annotations

from typing import Any

from ebbtide.errors import ConfigError

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError as error:
    raise ConfigError(
        'Redis wants the package redis, which is not here: pip install "ebbtide[redis]"'
    ) from error

__all__ = ["ANSWER_SECONDS", "make_client", "require_redis_url"]

ANSWER_SECONDS = 2.0


def require_redis_url(url: str) -> None:
    """Raises ConfigError for one that is none. Connects nowhere."""
    try:
        redis.Redis.from_url(url).close()
    except (ValueError, TypeError):
        # What redis says of it quotes parts of it, and the password may be any of them.
        raise ConfigError(
            "redis_url cannot be used: write redis://:PASSWORD@HOST:PORT/0, % escapes in the password"
        ) from None


def make_client(url: str) -> Any:
    """A client that has not connected yet, and waits for no answer longer than ANSWER_SECONDS."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_keepalive=True,
        # Not by the library, which waits in between: a broken link is made anew.
        retry=Retry(NoBackoff(), 0),
        # With a later one redis-py 8 asks each new connection for what no Redis before 8 has; and it tells
        # its own name to those before 7.2, which do not know how to be told.
        protocol=2,
        driver_info=None,
        client_name="ebbtide",
    )
