"""Cancel requests in Redis: a key for each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.plain.requests import CancelRequests, decode, new_request, processed
from ebbtide.jobs.requestfiles import PENDING, FiledRequest, checked_job_id, encode
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.signals.redis import RedisSignal  # tells what to install when its package is not here

import redis  # isort: skip

__all__ = ["RedisRequests"]

_ANSWER_SECONDS = 4.0
_KEPT_SECONDS = 7 * 86400


class RedisRequests(CancelRequests):
    """For programs on many machines. Connects with its first use.

    A request is kept for a week. It is as durable as that Redis is: one that keeps nothing on disk forgets
    what nobody has taken up before it was restarted.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._ringing: Signal = RedisSignal(url, channel)
        self._client = redis.Redis.from_url(
            url, socket_connect_timeout=_ANSWER_SECONDS, socket_timeout=_ANSWER_SECONDS, protocol=2
        )

    def request(self, uuid: str, reason: str = "", who: str | None = None) -> FiledRequest:
        asked = new_request(uuid, reason, who)
        with _translated():
            if not self._client.set(self._key(uuid), encode(asked), nx=True, ex=_KEPT_SECONDS):
                present = self.check(uuid)
                if present is not None and present.status == PENDING:
                    return present
                self._client.set(self._key(uuid), encode(asked), ex=_KEPT_SECONDS)
        self._ringing.ring(uuid)
        return asked

    def check(self, uuid: str) -> FiledRequest | None:
        with _translated():
            data = self._client.get(self._key(checked_job_id(uuid)))
        return None if data is None else decode(bytes(data), uuid)  # type: ignore[arg-type]  # typed in part

    def answer(self, request: FiledRequest, answer: str) -> None:
        key, data = self._key(request.job_id), encode(processed(request, answer))
        with _translated(), self._client.pipeline() as changing:
            changing.watch(key)  # type: ignore[no-untyped-call]  # redis is typed in part
            if self.check(request.job_id) == request:
                changing.multi()
                changing.set(key, data, ex=_KEPT_SECONDS)
                with contextlib.suppress(redis.WatchError):  # answered since it was read
                    changing.execute()

    def open_signal(self) -> Signal:
        return RedisSignal(self._url, self._channel)

    def close(self) -> None:
        self._ringing.close()
        self._client.close()

    def _key(self, uuid: str) -> str:
        return f"{self._channel}:request:{uuid}"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis: {error}") from error
