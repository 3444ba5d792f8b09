"""The signal `redis`: publish and subscribe on one channel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ebbtide.jobs.redisclient import ANSWER_SECONDS, make_client, require_redis_url
from ebbtide.jobs.signals.links import Link, LinkBroken, LinkedSignal

import redis  # isort: skip  # what is imported above tells what to install when it is not here

__all__ = ["RedisLink", "RedisSignal"]


class RedisSignal(LinkedSignal):
    """Rings by PUBLISH. Redis keeps nothing: who does not listen at that moment never hears of it.

    Args:
        url: of the server, as redis-py takes it.
        channel: those who use the same one hear each other.

    Raises:
        ConfigError: the URL is none.
    """

    def __init__(self, url: str, channel: str) -> None:
        require_redis_url(url)
        super().__init__("redis", lambda: RedisLink(url, channel))


class RedisLink(Link):
    def __init__(self, url: str, channel: str) -> None:
        self._channel = channel
        self._client = make_client(url)
        self._pubsub = self._client.pubsub()
        self._asked = False  # whether it lives; no answer came yet

    def ring(self, job_ids: Sequence[str]) -> None:
        with _translated():
            pipeline = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.publish(self._channel, job_id)
            pipeline.execute()

    def listen(self) -> None:
        with _translated():
            self._pubsub.subscribe(self._channel)
            answer = self._pubsub.get_message(timeout=ANSWER_SECONDS)
        if answer is None or answer["type"] != "subscribe":
            raise LinkBroken("the server does not answer")

    def heard(self, seconds: float) -> bool:
        with _translated():
            message = self._pubsub.get_message(timeout=seconds)
            if message is not None:
                self._asked = False  # whatever it says, it lives
                return bool(message["type"] == "message")
            if self._asked:
                raise LinkBroken("the server does not answer")
            self._pubsub.ping()
            self._asked = True
            return False

    def wake(self) -> None:
        with _translated():
            self._pubsub.ping()  # its answer ends the wait; sending beside a reader is allowed

    def close(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            self._pubsub.close()
        with contextlib.suppress(redis.RedisError, OSError):
            self._client.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise LinkBroken(str(error)) from error
