"""One desk in each process hears the cancel requests for all flows that run there."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from ebbtide.errors import EbbtideError
from ebbtide.jobs.plain.requests import CancelRequests
from ebbtide.jobs.plain.urls import open_requests
from ebbtide.jobs.requestfiles import PENDING, FiledRequest
from ebbtide.jobs.signals import Signal
from ebbtide.wording import one_line

__all__ = ["Accept", "Desk", "close_desks", "desk_of"]

LOG = logging.getLogger(__name__)

#: Takes a request up and says what becomes of it; None: it stays pending, for whoever comes next.
Accept = Callable[[FiledRequest], str | None]

_SWEEP_SECONDS = 1.0
# A server that does not answer must not keep whoever closes from going on.
_CLOSE_SECONDS = 5.0
_guard = threading.Lock()
_desks: dict[tuple[int, str], Desk] = {}  # by process: a fork has none of its parent's threads


def desk_of(url: str) -> Desk:
    """The desk for the requests at this URL; it stays until `close_desks`, or the end of the process.

    Raises:
        ConfigError: as `open_requests`.
    """
    key = (os.getpid(), url)
    with _guard:
        if key not in _desks:
            _desks[key] = Desk(open_requests(url))
        return _desks[key]


def close_desks() -> None:
    """Let go of all desks of this process, for a program that goes on after its last flow has ended.

    Flows that still run hear of no request any more; the next engine opens a desk anew.
    """
    with _guard:
        mine = [key for key in _desks if key[0] == os.getpid()]
        closing = [_desks.pop(key) for key in mine]
    for desk in closing:
        desk.close()


class Desk:
    """Looks for the requests of whoever listens: when the signal rings, and once a second.

    It owns the requests: `close` closes them too.
    """

    def __init__(self, requests: CancelRequests) -> None:
        self._requests = requests
        self._changed = threading.Condition()
        # Guarded by `_changed`:
        self._listening: dict[object, tuple[Sequence[str], Accept]] = {}
        self._thread: threading.Thread | None = None
        self._signal: Signal | None = None
        self._closed = False
        self._noted: set[str] = set()  # what was wrong at the last look, and is logged

    @contextlib.contextmanager
    def listening(self, uuids: Sequence[str], accept: Accept) -> Iterator[None]:
        """Hand each request for one of these flows or jobs to `accept`, and answer it as that says.

        What is pending already has been handed over when the block begins, unless the requests cannot be
        read: that is logged, and tried again.
        """
        self._note(self._look(uuids, accept))
        mark = object()
        with self._changed:
            self._listening[mark] = (uuids, accept)
            self._changed.notify()
            if self._thread is None and not self._closed:
                # A daemon: a server that does not answer must not keep a program from ending.
                self._thread = threading.Thread(target=self._run, name="ebbtide-desk", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                del self._listening[mark]

    def close(self) -> None:
        """Hear no more, and let go of every connection. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread, signal = self._thread, self._signal
        if signal is not None:
            signal.close()  # ends a pause
        if thread is not None:
            thread.join(_CLOSE_SECONDS)
        self._requests.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._listening or self._closed)
                if self._closed:
                    return
                present = list(self._listening.values())
            wrong: set[str] = set()
            try:
                self._hear()
            except (EbbtideError, OSError) as error:
                wrong.add(one_line(str(error)))
            for uuids, accept in present:
                wrong |= self._look(uuids, accept)
            self._note(wrong)
            if self._signal is None:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, _SWEEP_SECONDS)
            else:
                self._signal.pause(_SWEEP_SECONDS)

    def _hear(self) -> None:
        """Take the ring away before the look, so that the next one is not missed."""
        if self._signal is None:
            signal = self._requests.open_signal()
            with self._changed:
                if self._closed:  # while it was opened: nobody else will close it
                    signal.close()
                    return
                self._signal = signal
        self._signal.changed()

    def _look(self, uuids: Sequence[str], accept: Accept) -> set[str]:
        """Look once; returns what was wrong."""
        wrong = set()
        for uuid in uuids:
            try:
                request = self._requests.check(uuid)
                if request is not None and request.status == PENDING:
                    answer = accept(request)
                    if answer is not None:
                        self._requests.answer(request, answer)
            except Exception as error:  # noqa: BLE001  # whatever it is: the other flows are still to be heard
                wrong.add(one_line(f"{uuid}: {error}"))
        return wrong

    def _note(self, wrong: set[str]) -> None:
        for told in wrong - self._noted:
            LOG.warning("requests.unreadable, and looked for again: %s", told)
        self._noted = wrong
