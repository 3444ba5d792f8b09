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

__all__ = ["Accept", "Desk", "desk_of"]

LOG = logging.getLogger(__name__)

#: Takes a request up and says what becomes of it; None: it stays pending, for whoever comes next.
Accept = Callable[[FiledRequest], str | None]

_SWEEP_SECONDS = 1.0
_guard = threading.Lock()
_desks: dict[tuple[int, str], Desk] = {}  # by process: a fork has none of its parent's threads


def desk_of(url: str) -> Desk:
    """The desk for the requests at this URL; it stays for as long as the process lives.

    Raises:
        ConfigError: as `open_requests`.
    """
    key = (os.getpid(), url)
    with _guard:
        if key not in _desks:
            _desks[key] = Desk(open_requests(url))
        return _desks[key]


class Desk:
    """Looks for the requests of whoever listens: when the signal rings, and once a second."""

    def __init__(self, requests: CancelRequests) -> None:
        self._requests = requests
        self._changed = threading.Condition()
        # Guarded by `_changed`:
        self._listening: dict[object, tuple[Sequence[str], Accept]] = {}
        self._thread: threading.Thread | None = None
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
            if self._thread is None:
                # A daemon: a server that does not answer must not keep a program from ending.
                self._thread = threading.Thread(target=self._run, name="ebbtide-desk", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                del self._listening[mark]

    def _run(self) -> None:
        signal: Signal | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._listening)
                present = list(self._listening.values())
            wrong: set[str] = set()
            try:
                signal = signal or self._requests.open_signal()
                signal.changed()
            except (EbbtideError, OSError) as error:
                wrong.add(one_line(str(error)))
            for uuids, accept in present:
                wrong |= self._look(uuids, accept)
            self._note(wrong)
            if signal is None:
                threading.Event().wait(_SWEEP_SECONDS)
            else:
                signal.pause(_SWEEP_SECONDS)

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
