"""The signal `zookeeper`: a watch on one node, by kazoo."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ebbtide.jobs.ensemble import SIGNAL_NODE, Ensemble, Session, translated
from ebbtide.jobs.signals.links import Link, LinkedSignal

__all__ = ["ZookeeperLink", "ZookeeperSignal"]

# For so long nobody watches after a ring: whoever looks at the store now has the processor to himself.
_REST_SECONDS = 0.002


class ZookeeperSignal(LinkedSignal):
    """Rings by a write to one node, which all who listen watch.

    Rings in quick succession are heard as one: a watch fires once, and is set again with the next look.

    Args:
        ensemble: those who use the same servers and path hear each other.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__("zookeeper", lambda: ZookeeperLink(ensemble))

    def ring_ahead(self, job_id: str) -> None:
        """As promised by `Signal`: ZooKeeper stores what it tells, as the database does, at the same time."""
        self.ring(job_id)


class ZookeeperLink(Link):
    def __init__(self, ensemble: Ensemble) -> None:
        self._node = ensemble.node(SIGNAL_NODE)
        self._news = threading.Event()  # something to look at: the watch has fired, or the link broke
        self._fired = False  # written by a thread of kazoo as well
        self._watches = False  # since the watch fired, it is to be set again
        self._version = -1  # of the node, as it was when the watch was set
        self._session = Session(ensemble, on_broken=self._news.set)
        try:
            with translated():
                self._session.ensure_path(self._node)
        except BaseException:
            self.close()
            raise

    def ring(self, job_ids: Sequence[str]) -> None:
        with translated():
            # They would be heard as one anyway.
            self._session.answer(self._session.client.set_async(self._node, job_ids[-1].encode()))

    def listen(self) -> None:
        with translated():
            self._watch()

    def heard(self, seconds: float) -> bool:
        if not self._watches:
            # Not before the bell rang for what has fired: that takes as long as the server.
            self._news.wait(_REST_SECONDS)
            before = self._version
            with translated():
                self._watch()
            if self._version != before + 1:
                return True  # written again before the watch was there, and maybe after somebody has looked
        self._news.wait(seconds)
        self._news.clear()
        self._session.require_whole()
        if not self._fired:
            return False
        self._fired = self._watches = False
        return True

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._session.close()

    def _watch(self) -> None:
        # Whatever is written after this read fires; a node that is gone is made anew with the next link.
        asked = self._session.client.get_async(self._node, watch=self._note_change)
        self._version = self._session.answer(asked)[1].version
        self._watches = True

    def _note_change(self, event: Any) -> None:
        self._fired = True
        self._news.set()
