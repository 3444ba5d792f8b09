"""Signals by way of a server: links that may break at any moment, and are made again."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from ebbtide.jobs.linkhealth import Health, LinkBroken, start_thread
from ebbtide.jobs.sending import Sender
from ebbtide.jobs.signals.bell import Bell
from ebbtide.jobs.signals.signal import Signal, wait_for

__all__ = ["Link", "LinkBroken", "LinkedSignal"]

# How long a link may be silent before it is asked whether it lives.
_SILENCE_SECONDS = 5.0
# How long `close` waits for a thread to end.
_CLOSE_SECONDS = 2.0
_MEANWHILE = "until it is mended the sweep finds what changes"


class Link(ABC):
    """One connection to a server, for one thread. Every method but `close` may raise LinkBroken.

    Whoever makes one waits until it is connected, within limits of the link's own.
    """

    @abstractmethod
    def ring(self, job_ids: Sequence[str]) -> None:
        """Tell all who listen."""

    @abstractmethod
    def listen(self) -> None:
        """Returns once whatever rings from then on will be heard."""

    @abstractmethod
    def heard(self, seconds: float) -> bool:
        """Wait at most so long, once it listens; whether anything has rung since the last call."""

    @abstractmethod
    def wake(self) -> None:
        """End a wait in `heard`, from another thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; raises nothing."""


class LinkedSignal(Signal):
    """Rings and listens over links of a kind, each in a thread of its own: no caller waits for a server.

    What is rung while the server is away is dropped, and what the others rang meanwhile is looked for once
    the link is back. A link that breaks is logged once, and once more when it is mended.

    Args:
        name: of the signal, for the log.
        open_link: makes a link; may raise LinkBroken.
    """

    # What happens inside a job does not ring.
    sweep_seconds = 0.25

    def __init__(self, name: str, open_link: Callable[[], Link]) -> None:
        super().__init__()
        self._ringer: Sender[Link, None] = Sender(
            f"ebbtide-ring-{name}",
            Health("signal", name, _MEANWHILE),
            open_link,
            lambda link, job_ids: link.ring(list(job_ids)),
            f"signal.not_rung {name}",
        )
        self._listener = _Listener(name, open_link)

    def ring(self, job_id: str) -> None:
        """As promised by `Signal`: it is sent by another thread, within a moment."""
        # Each says "look" about the whole store: nobody needs to hear of all of them.
        self._ringer.put(job_id, None)

    def changed(self) -> bool:
        """As promised by `Signal`."""
        return self._closed.is_set() or self._listener.heard()

    @property
    def listening(self) -> bool:
        """As promised by `Signal`."""
        return self._listener.listening

    @property
    def descriptor(self) -> int | None:
        """As promised by `Signal`; it rings as well when the link breaks, and when it is mended."""
        return self._listener.descriptor

    def pause(self, seconds: float) -> None:
        """As promised by `Signal`."""
        descriptor = self.descriptor
        if descriptor is None:
            super().pause(seconds)
        else:
            wait_for(descriptor, seconds)

    def close(self) -> None:
        """Send what is still to be rung, as far as the server answers, and end; within seconds."""
        super().close()
        self._ringer.close()
        self._listener.close()


class _Listener:
    """Hears what the others ring, in a thread that begins with the first look."""

    def __init__(self, name: str, open_link: Callable[[], Link]) -> None:
        self._name = name
        self._open_link = open_link
        self._health = Health("signal", name, _MEANWHILE)  # touched by the thread alone, once it has begun
        self._first = True
        self._closed = threading.Event()
        self._guard = threading.Lock()
        # Guarded: the link that listens, for `close` to wake it; made and closed by the thread.
        self._link: Link | None = None
        self._bell: Bell | None = None
        self._thread: threading.Thread | None = None

    def heard(self) -> bool:
        """Whether anything has rung since the last call; True at the first one."""
        if self._closed.is_set():
            return True
        first, self._first = self._first, False
        if self._thread is None and self._health.may_try:
            with self._health.watched():
                self._begin()
        rang = self._bell is not None and self._bell.heard()
        return rang or first

    def _begin(self) -> None:
        try:
            bell = Bell()
        except OSError as error:
            raise LinkBroken(f"no pipe to be woken by: {error.strerror}") from error
        try:
            self._thread = start_thread(f"ebbtide-listen-{self._name}", self._run, bell)
        except LinkBroken:
            bell.close()
            raise
        self._bell = bell

    @property
    def listening(self) -> bool:
        with self._guard:
            return self._link is not None

    @property
    def descriptor(self) -> int | None:
        return None if self._bell is None else self._bell.descriptor

    def close(self) -> None:
        self._closed.set()
        with self._guard, contextlib.suppress(LinkBroken):
            if self._link is not None:
                self._link.wake()
        if self._bell is not None:
            self._bell.close()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self, bell: Bell) -> None:
        while not self._closed.is_set():
            with self._health.watched(), contextlib.closing(self._open_link()) as link:
                link.listen()
                with self._published(link):
                    self._health.mended()
                    bell.ring()  # what was said before it listened is looked for once, now
                    while not self._closed.is_set():
                        if link.heard(_SILENCE_SECONDS):
                            bell.ring()
            bell.ring()  # it broke: whoever listens looks, and meets the trouble
            self._closed.wait(self._health.seconds_left)

    @contextlib.contextmanager
    def _published(self, link: Link) -> Iterator[None]:
        with self._guard:
            self._link = link
        try:
            yield
        finally:
            with self._guard:
                self._link = None
