"""Cancel requests in ZooKeeper: a node for each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.ensemble import KAZOO_ERRORS, Ensemble
from ebbtide.jobs.plain.requests import CancelRequests, decode, new_request, processed
from ebbtide.jobs.requestfiles import PENDING, FiledRequest, checked_job_id, encode
from ebbtide.jobs.signals import Signal
from ebbtide.jobs.signals.zookeeper import ZookeeperSignal

__all__ = ["ZookeeperRequests"]

_ANSWER_SECONDS = 4.0
_SESSION_SECONDS = 10.0


class ZookeeperRequests(CancelRequests):
    """For programs on many machines. Connects with its first use.

    Requests stay there until somebody removes the nodes below ``PATH/requests``. Whoever may write there
    may cancel: everybody, unless the ensemble has a credential.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._guard = threading.Lock()  # over the client and the ringing signal
        self._client: Any = None
        self._ringing: Signal | None = None

    def request(self, uuid: str, reason: str = "", who: str | None = None) -> FiledRequest:
        asked = new_request(uuid, reason, who)
        with _translated():
            client = self._connected()
            node = self._node(uuid)
            try:
                self._answer(client.create_async(node, encode(asked), makepath=True))
            except NodeExistsError:
                present = self._read(uuid)
                if present is not None and present.status == PENDING:
                    return present
                self._answer(client.set_async(node, encode(asked)))
        self._ring(uuid)
        return asked

    def check(self, uuid: str) -> FiledRequest | None:
        checked_job_id(uuid)
        with _translated():
            self._connected()
            return self._read(uuid)

    def answer(self, request: FiledRequest, answer: str) -> None:
        data = encode(processed(request, answer))
        with _translated():
            client, node = self._connected(), self._node(request.job_id)
            with contextlib.suppress(NoNodeError, BadVersionError):  # removed, or answered, since it was read
                present, found = self._answer(client.get_async(node))
                if decode(present, request.job_id) == request:
                    self._answer(client.set_async(node, data, version=found.version))

    def open_signal(self) -> Signal:
        return ZookeeperSignal(self._ensemble)

    def close(self) -> None:
        with self._guard:
            client, self._client = self._client, None
            ringing, self._ringing = self._ringing, None
        if ringing is not None:
            ringing.close()
        if client is not None:
            with contextlib.suppress(*KAZOO_ERRORS):
                client.stop()
            client.close()

    def _node(self, uuid: str) -> str:
        return self._ensemble.node("requests", uuid)

    def _read(self, uuid: str) -> FiledRequest | None:
        try:
            data, _ = self._answer(self._client.get_async(self._node(uuid)))
        except NoNodeError:
            return None
        return decode(data, uuid)

    def _ring(self, uuid: str) -> None:
        with self._guard:
            if self._ringing is None:
                self._ringing = self.open_signal()
            self._ringing.ring(uuid)

    def _connected(self) -> Any:
        with self._guard:
            if self._client is None:
                client = self._ensemble.make_client(timeout=_SESSION_SECONDS)
                try:
                    client.start(timeout=_ANSWER_SECONDS)
                except BaseException:
                    client.stop()
                    client.close()
                    raise
                self._client = client
            return self._client

    def _answer(self, asked: Any) -> Any:
        return asked.get(timeout=_ANSWER_SECONDS)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except KAZOO_ERRORS as error:
        raise StoreUnavailable(f"ZooKeeper: {error or type(error).__name__}") from error
