"""A TCP proxy that delays, stalls and cuts what passes through it, on cue and at a byte.

It knows no protocol, so it stands before any service. Its loop runs in a thread of its own; every method
may be called from any other thread, and returns once what it asks for is so.
"""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from tests.services.ports import HOST, reserved_port

# Longer than anything here takes on a busy machine; reached only when something is broken.
PATIENCE_SECONDS = 30.0
_CHUNK = 65536

Direction = Literal["to_server", "to_client"]
Moment = Literal["before", "in", "after"]


@dataclass(frozen=True)
class Pass:
    """Everything passes."""


@dataclass(frozen=True)
class Delay:
    """What passes is held for so long; of one direction, or of both."""

    seconds: float
    direction: Direction | None = None


@dataclass(frozen=True)
class Stall:
    """Nothing passes and nothing is closed. With one direction stalled the connection is half-open."""

    direction: Direction | None = None


@dataclass(frozen=True)
class CutAfter:
    """So many more bytes of the direction pass, and then the connection is cut."""

    count: int
    direction: Direction


@dataclass(frozen=True)
class CutAt:
    """The connection is cut when a client sends `pattern` for the `occurrence`th time, on any connection.

    It happens once; afterwards everything passes.

    Args:
        moment: before: the server gets nothing of what came with the pattern. In: the server gets it and
            answers, and the client never hears of it. After: the client hears the answer, and no more.
    """

    pattern: bytes
    moment: Moment = "before"
    occurrence: int = 1


Rule = Pass | Delay | Stall | CutAfter | CutAt


class _Cut(Exception):
    """The rule cuts this connection here."""


class _Setting:
    """A rule since it was set."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.seen = 0  # how often the pattern has come


class _Link:
    """One connection through the proxy."""

    def __init__(self, task: "asyncio.Task[Any]", client: asyncio.StreamWriter) -> None:
        self.task = task
        self.writers = [client]
        self.cut = False
        self.ending = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another rule holds."""
        self.counted: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self.tail = b""  # the end of what the client has sent, in which a pattern may have begun
        self.answer: Moment | None = None  # of a cut that waits for the server's answer

    async def close(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        for writer in self.writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Proxy:
    """Stands before the service on `port` of this machine until `close`. Everything passes at first.

    A rule holds from the moment it is set, for living connections too.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._holder = contextlib.ExitStack()
        #: Where it listens. Nobody else has this port while it refuses.
        self.port = self._holder.enter_context(reserved_port())
        # Touched by the loop alone:
        self._listener: asyncio.Server | None = None
        self._links: dict[int, _Link] = {}
        self._numbers = itertools.count(1)
        self._general = _Setting(Pass())
        self._own: dict[int, _Setting] = {}
        self._rule_set = asyncio.Event()
        # Guarded by `_told`:
        self._told = threading.Condition()
        self._connections = 0
        self._live = 0
        self._cuts = 0
        self._passed: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self._held: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}")
        self._thread.start()
        self.accept()

    # What is to happen.

    def set(self, rule: Rule, *, connection: int | None = None) -> None:
        """From now on this rule holds: for everybody without a rule of its own, or for one connection.

        Args:
            connection: its number, counted from 1; it may be still to come.
        """

        async def do() -> None:
            if connection is None:
                self._general = _Setting(rule)
            else:
                self._own[connection] = _Setting(rule)
            for number, link in self._links.items():
                if number == connection or (connection is None and number not in self._own):
                    link.begin_anew()
            self._rule_set.set()
            self._rule_set = asyncio.Event()

        self._do(do())

    def cut(self) -> None:
        """Cut every connection there is."""

        async def do() -> None:
            await _end(self._links.values())

        self._do(do())

    def refuse(self) -> None:
        """From now on new connections are refused; those there are go on."""

        async def do() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

        self._do(do())

    def accept(self) -> None:
        """From now on new connections are accepted again."""

        async def do() -> None:
            if self._listener is None:
                self._listener = await asyncio.start_server(self._serve, HOST, self.port)

        self._do(do())

    def close(self) -> None:
        """Cut everything and end; returns when nothing is left. Safe to call twice."""
        if self._loop.is_closed():
            return
        self.refuse()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()

    # What has happened.

    @property
    def connections(self) -> int:
        """How many there have been."""
        with self._told:
            return self._connections

    @property
    def live(self) -> int:
        """How many there are."""
        with self._told:
            return self._live

    @property
    def cuts(self) -> int:
        """How many have been cut."""
        with self._told:
            return self._cuts

    def passed(self, direction: Direction) -> int:
        """How many bytes have passed."""
        with self._told:
            return self._passed[direction]

    def held(self, direction: Direction) -> int:
        """How many bytes have come and are held by a stall; more may wait behind them."""
        with self._told:
            return self._held[direction]

    def wait_until(self, predicate: Callable[["Proxy"], object], what: str) -> None:
        """Wait until `predicate` holds of what has happened, such as ``lambda proxy: proxy.cuts == 1``."""
        with self._told:
            if not self._told.wait_for(lambda: predicate(self), PATIENCE_SECONDS):
                raise TimeoutError(f"waited in vain for {what}; {self._connections} came, {self._cuts} cut")

    def url(self, url: str) -> str:
        """The same URL by way of this proxy."""
        return url.replace(f":{urlsplit(url).port}/", f":{self.port}/", 1)

    # The loop.

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        number = next(self._numbers)
        link = self._links[number] = _Link(task, writer)
        self._count(connections=1, live=1)
        try:
            await self._carry(number, link, reader)
        except* (_Cut, asyncio.CancelledError):
            link.cut = True
        except* OSError:
            pass  # one side has gone; so does the other
        finally:
            link.ending = True
            await link.close()
            del self._links[number]
            self._count(live=-1, cuts=int(link.cut))

    async def _carry(self, number: int, link: _Link, from_client: asyncio.StreamReader) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, self._target)
        link.writers.append(to_server)
        to_client = link.writers[0]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(number, link, "to_server", from_client, to_server))
            group.create_task(self._pump(number, link, "to_client", from_server, to_client))

    async def _pump(
        self,
        number: int,
        link: _Link,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that what is drained is on its way
        while chunk := await reader.read(_CHUNK):
            await self._hold(number, direction, len(chunk))
            passing, cut = self._judge(self._setting(number), link, direction, chunk)
            if passing:
                writer.write(passing)
                await writer.drain()
                link.counted[direction] += len(passing)
                self._count(passed=(direction, len(passing)))
            if cut:
                raise _Cut
        await self._hold(number, direction, 0)
        writer.write_eof()

    def _setting(self, number: int) -> _Setting:
        return self._own.get(number, self._general)

    async def _hold(self, number: int, direction: Direction, count: int) -> None:
        """Wait for as long as the rule says."""
        rule = self._setting(number).rule
        if isinstance(rule, Delay) and rule.direction in (None, direction):
            await asyncio.sleep(rule.seconds)
        self._count(held=(direction, count))
        try:
            while True:
                rule, changed = self._setting(number).rule, self._rule_set
                if not isinstance(rule, Stall) or rule.direction not in (None, direction):
                    return
                await changed.wait()
        finally:
            self._count(held=(direction, -count))

    def _judge(
        self, setting: _Setting, link: _Link, direction: Direction, chunk: bytes
    ) -> tuple[bytes, bool]:
        """What of a chunk passes, and whether the connection is cut then."""
        if direction == "to_client" and link.answer is not None:
            return (chunk if link.answer == "after" else b"", True)
        match setting.rule:
            case CutAfter(count, towards) if towards == direction:
                left = count - link.counted[direction]
                return (chunk[:left], len(chunk) >= left)
            case CutAt(pattern, moment, occurrence) if direction == "to_server":
                sent = link.tail + chunk
                link.tail = sent[max(0, len(sent) - len(pattern) + 1) :]
                before, setting.seen = setting.seen, setting.seen + sent.count(pattern)
                if before < occurrence <= setting.seen:
                    if moment == "before":
                        return (b"", True)
                    link.answer = moment
        return (chunk, False)

    def _count(
        self,
        *,
        connections: int = 0,
        live: int = 0,
        cuts: int = 0,
        passed: tuple[Direction, int] = ("to_server", 0),
        held: tuple[Direction, int] = ("to_server", 0),
    ) -> None:
        with self._told:
            self._connections += connections
            self._live += live
            self._cuts += cuts
            self._passed[passed[0]] += passed[1]
            self._held[held[0]] += held[1]
            self._told.notify_all()


async def _end(links: Iterable[_Link]) -> None:
    links = list(links)
    for link in links:
        if not link.ending:
            link.task.cancel()
    await asyncio.gather(*(link.task for link in links))


@pytest.fixture
def proxy_to() -> Iterator[Callable[[int], Proxy]]:
    """Puts a proxy before the service on a port of this machine; it ends with the test."""
    with contextlib.ExitStack() as proxies:

        def make(port: int) -> Proxy:
            proxy = Proxy(port)
            proxies.callback(proxy.close)
            return proxy

        yield make
