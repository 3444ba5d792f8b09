"""Does to two conductors, their store and their disk what the schedule says, and heals it all in the end."""

import contextlib
import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.chaos.history import Recorder
from tests.chaos.schedule import Event
from tests.services.network import Network
from tests.services.postgresql import PostgresqlServer
from tests.services.proxy import Pass, Proxy, Stall
from tests.services.tmpfs import SmallDisk
from tests.services.zookeeper import ZookeeperServer

CONDUCTORS = 2
RUNNERS = 2
# Renew, self-fence and lease seconds. With keeper and conductor dead it is the end of the lease that lets
# others in.
LEASE = (0.5, 3.0, 5.0)
BEYOND_LEASE = 7.0


class Nemesis:
    """Deals blows and replaces what it has felled. To be used by one thread.

    Args:
        stage: where conductors are started.
        disk: which is filled.
        server: the server of the store; None: the store is a file.
        wires: the proxies before it: one for each conductor, the last one for the clients.
        network: where each conductor is on a host of its own.
        zookeeper: the server of signals and board, on that network.
        number: how many conductors there are.
        lease: their renew, self-fence and lease seconds.
        options: further ones of the conductors.
    """

    def __init__(
        self,
        stage: Any,
        recorder: Recorder,
        disk: SmallDisk,
        server: PostgresqlServer | None = None,
        wires: Sequence[Proxy] = (),
        *,
        network: Network | None = None,
        zookeeper: ZookeeperServer | None = None,
        number: int = CONDUCTORS,
        lease: tuple[float, float, float] = LEASE,
        **options: Any,
    ) -> None:
        self._stage = stage
        self._recorder = recorder
        self._disk = disk
        self._server = server
        self._wires = wires
        self._network = network
        self._zookeeper = zookeeper
        self._options: dict[str, Any] = {"runners": RUNNERS, "lease": lease} | options
        self._clock = threading.Event()  # never set
        self.dealt: Counter[str] = Counter()
        self.surprises: list[str] = []  # conductors that ended, and nobody had made them
        self._resuming: list[threading.Timer] = []
        self._conductors = [self._start(each) for each in range(number)]

    def strike(self, event: Event) -> None:
        """Do it, and undo it; but what is stopped goes on after its time, while other events happen."""
        self._clock.wait(event.pause)
        print(event)
        self._recorder.nemesis(str(event))
        self.dealt[f"{event.kind} {event.what}".strip()] += 1
        blow: Callable[[Event], None] = getattr(self, "_" + event.kind.partition(" ")[0].replace("-", "_"))
        blow(event)

    def await_all(self) -> None:
        """Returns once every conductor is whole."""
        for number in range(len(self._conductors)):
            self._await_whole(number)

    def heal(self) -> None:
        """Returns once nothing stands still any more and every conductor is whole."""
        for resume in self._resuming:
            resume.join()
        self.await_all()

    def end(self) -> list[int]:
        """Drain the conductors; returns their exit codes."""
        return [conductor.end() for conductor in self._conductors]

    # Conductors.

    def _start(self, number: int) -> Any:
        switches = [self._stage.folder / "deaf", self._stage.folder / f"deaf-{number}"]
        options = self._options | {"test_deaf": ":".join(map(str, switches))}
        if self._wires:
            options["database"] = self._wires[number].url(self._stage.database)
        if self._network is not None and self._server is not None:
            options["database"] = self._server.url(self._stage.database, self._network.store.address)
            options["inside"] = self._network.inside(self._network.hosts[number])
        return self._stage.conductor(wait=False, **options)

    def _await_whole(self, number: int) -> dict[str, Any]:
        """The processes of a conductor, once it is whole."""
        self._stage.wait_until(lambda: self._whole(number), f"conductor {number} to be whole")
        return self._whole(number) or self._await_whole(number)

    def _whole(self, number: int) -> dict[str, Any]:
        """The processes of a conductor, if it has a keeper and a runner; it is replaced when it has ended."""
        conductor = self._conductors[number]
        if conductor.ended:
            if "conductor.ready" in conductor.log:
                self.surprises.append(conductor.log[-4000:])
            self._conductors[number] = self._start(number)
            return {}
        log = conductor.log
        if log.rfind("conductor.ready") <= log.rfind("conductor.lease_over"):
            return {}  # not yet, or not again: it begins anew once its lease is over
        try:
            keeper, runners = conductor.keeper, conductor.runners
        except ValueError:  # none yet, or one more that is just ending
            return {}
        return {"conductor": conductor.pid, "keeper": keeper, "runner": runners} if runners else {}

    def _first_whole(self, number: int) -> int:
        """The number of a conductor that is whole, from this one on."""
        count = len(self._conductors)
        found: list[int] = []

        def look() -> bool:
            found.extend(each % count for each in range(number, number + count) if self._whole(each % count))
            return bool(found)

        self._stage.wait_until(look, "a conductor to be whole")
        return found[0]

    def _kill(self, event: Event) -> None:
        number = self._first_whole(event.number)
        parts = event.what.split("+")
        pids = self._await_whole(number)
        readies = self._conductors[number].log.count("conductor.ready")
        for part in parts:
            chosen = pids[part]
            _signal(chosen[event.number // 10 % len(chosen)] if part == "runner" else chosen, signal.SIGKILL)
        if parts != ["runner"]:
            # Without its keeper it ends by itself, unless it has just lost its lease and begins anew.
            conductor = self._conductors[number]
            self._stage.wait_until(
                lambda: conductor.ended or conductor.log.count("conductor.ready") > readies, "the end"
            )
            if conductor.ended:
                self._conductors[number] = self._start(number)

    def _drain(self, event: Event) -> None:
        number = event.number % len(self._conductors)
        self._await_whole(number)
        code = self._conductors[number].end()
        if code != 0:
            self.surprises.append(f"a drain ended with {code}: {self._conductors[number].log[-4000:]}")
        self._conductors[number] = self._start(number)

    def _pause(self, event: Event) -> None:
        number = event.number % len(self._conductors)
        parts = event.what.split("+")
        pids = self._await_whole(number)
        stopped: list[int] = []
        for part in parts:
            # Its keeper may stand still by now: then these are all the runners there will be.
            stopped += self._conductors[number].runners if part == "runner" else [pids[part]]
            for pid in stopped:
                _signal(pid, signal.SIGSTOP)
        if "keeper" in parts:
            # Nobody can end these in time: their bodies may go on after their job was taken over.
            self._recorder.nemesis("held", self._conductors[number].runners)
        # Meanwhile other things happen, to these processes too.
        resume = threading.Timer(event.seconds, _resume, [stopped])
        resume.start()
        self._resuming.append(resume)

    # What they hear.

    def _silence(self, event: Event) -> None:
        name = "deaf" if event.what == "all" else f"deaf-{event.number % len(self._conductors)}"
        switch = self._stage.folder / name
        switch.touch()
        self._clock.wait(event.seconds)
        switch.unlink()

    # Disk and store.

    def _fill(self, event: Event) -> None:
        self._disk.fill()
        self._clock.wait(event.seconds)
        self._disk.free()

    def _lock(self, event: Event) -> None:
        """Another program holds the file."""
        connection = sqlite3.connect(self._stage.database.removeprefix("sqlite:///"), timeout=30)
        with contextlib.closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            self._clock.wait(event.seconds)

    def _restart(self, event: Event) -> None:
        assert self._server is not None
        self._server.restart("fast" if event.what == "fast" else "immediate")

    def _zookeeper_down(self, event: Event) -> None:
        zookeeper = self._zookeeper
        assert zookeeper is not None
        if event.what == "stands still":
            zookeeper.stand_still()
            self._clock.wait(event.seconds)
            zookeeper.go_on()
        elif event.what == "forgets":
            zookeeper.lose_data()
        else:
            zookeeper.kill()
            self._clock.wait(event.seconds)
            zookeeper.start()

    # Networks.

    def _sever(self, event: Event) -> None:
        """Pull wires of one host or of all: to the store, to ZooKeeper, or both."""
        network = self._network
        assert network is not None
        which, of_whom = event.what.split(" of ")
        hosts = network.hosts if of_whom == "all" else [network.hosts[event.number % len(network.hosts)]]
        segments = {"store": [network.store], "zookeeper": [network.coordinators], "both": network.segments}
        for host in hosts:
            for segment in segments[which]:
                segment.pull(host)
        self._clock.wait(event.seconds)
        network.heal()

    # Wires.

    def _cut(self, event: Event) -> None:
        for wire in self._chosen(event):
            wire.cut()

    def _refuse(self, event: Event) -> None:
        wires = self._chosen(event)
        for wire in wires:
            wire.refuse()
            wire.cut()
        self._clock.wait(event.seconds)
        for wire in wires:
            wire.accept()

    def _half_open(self, event: Event) -> None:
        rule = Stall("to_client") if event.kind.endswith("to_client") else Stall("to_server")
        for wire in self._chosen(event):
            wire.set(rule)
        self._clock.wait(event.seconds)
        for wire in self._chosen(event):
            wire.set(Pass())

    def _chosen(self, event: Event) -> Sequence[Proxy]:
        if event.what == "all":
            return self._wires
        conductors, client = self._wires[:-1], self._wires[-1]
        return [client if event.what == "client" else conductors[event.number % len(conductors)]]


def _resume(pids: list[int]) -> None:
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the blow before may have felled it
        os.kill(pid, number)
