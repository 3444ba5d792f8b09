"""The signal `zookeeper`: a watch on one node, by kazoo."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException, NodeExistsError
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.states import KeeperState

from ebbtide.jobs.signals.links import Link, LinkBroken, LinkedSignal

__all__ = ["ZookeeperLink", "ZookeeperSignal"]

# Nothing of ours ends with a session: a short one only finds out sooner that a link is dead.
_SESSION_SECONDS = 6.0
_CONNECT_SECONDS = 4.0
_STEP_SECONDS = 0.01
_NODE = "signal"

# Kazoo logs each try of each link; what becomes of a link is logged here, once.
_kazoo_log = logging.getLogger(f"{__name__}.kazoo")
_kazoo_log.setLevel(logging.CRITICAL)


class ZookeeperSignal(LinkedSignal):
    """Rings by a write to one node, which all who listen watch.

    Rings in quick succession are heard as one: a watch fires once, and is set again with the next look.

    Args:
        hosts: of the servers, ``HOST:PORT`` separated by commas.
        path: those who use the same one hear each other; the node is below it.
    """

    def __init__(self, hosts: str, path: str) -> None:
        super().__init__("zookeeper", lambda: ZookeeperLink(hosts, path))


class ZookeeperLink(Link):
    """One session. It counts as broken as soon as it is suspended: kazoo says much later that it is lost."""

    def __init__(self, hosts: str, path: str) -> None:
        self._node = f"{path.rstrip('/')}/{_NODE}"
        self._news = threading.Event()  # something to look at: the watch has fired, or the link broke
        self._broken = False
        self._fired = False
        self._tried = False  # whether kazoo has begun to connect to a host
        self._client = KazooClient(
            hosts=hosts,
            handler=self._handler(),
            timeout=_SESSION_SECONDS,
            # Each host once: what waits and tries again is whoever makes links.
            connection_retry={"max_tries": 1},
            logger=_kazoo_log,
        )
        self._client.add_listener(self._note_state)
        try:
            with _translated():
                self._connect()
                self._ensure_node()
        except BaseException:
            self.close()
            raise

    def ring(self, job_ids: Sequence[str]) -> None:
        with _translated():
            # They would be heard as one anyway.
            self._answer(self._client.set_async(self._node, job_ids[-1].encode()))

    def listen(self) -> None:
        with _translated():
            self._watch()

    def heard(self, seconds: float) -> bool:
        self._news.wait(seconds)
        self._news.clear()
        if self._broken:
            raise LinkBroken("the session is suspended")
        if not self._fired:
            return False
        self._fired = False
        with _translated():
            self._watch()
        return True

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        with contextlib.suppress(KazooException, KazooTimeoutError, OSError):
            self._client.stop()
        with contextlib.suppress(KazooException, KazooTimeoutError, OSError):
            self._client.close()

    def _handler(self) -> Any:
        handler = SequentialThreadingHandler()
        connect = handler.create_connection

        def create_connection(*args: Any, **kwargs: Any) -> Any:
            self._tried = True
            return connect(*args, **kwargs)

        handler.create_connection = create_connection
        return handler

    def _connect(self) -> None:
        # Not by its own start(): that waits to the end when every host has refused at once.
        give_up = time.monotonic() + _CONNECT_SECONDS
        connected = self._client.start_async()
        while not connected.wait(_STEP_SECONDS):
            if self._tried and self._client.client_state == KeeperState.CLOSED:
                raise LinkBroken("no server can be reached")
            if time.monotonic() >= give_up:
                raise LinkBroken("no server answers")

    def _ensure_node(self) -> None:
        if self._answer(self._client.exists_async(self._node)) is None:
            with contextlib.suppress(NodeExistsError):  # somebody else was quicker
                self._answer(self._client.create_async(self._node, makepath=True))

    def _watch(self) -> None:
        # Whatever is written after this read fires; a node that is gone is made anew with the next link.
        self._answer(self._client.get_async(self._node, watch=self._note_change))

    def _answer(self, asked: Any) -> Any:
        return asked.get(timeout=_CONNECT_SECONDS)

    # These two are called by threads of kazoo.

    def _note_change(self, event: Any) -> None:
        self._fired = True
        self._news.set()

    def _note_state(self, state: str) -> None:
        if state != KazooState.CONNECTED:
            self._broken = True
            self._news.set()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (KazooException, KazooTimeoutError, OSError) as error:
        raise LinkBroken(str(error) or type(error).__name__) from error
