"""A Redis server of the test session's own, and a database and a channel in it for single tests."""

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.services.absence import missing
from tests.services.ports import HOST, reserved_port
from tests.services.server import Server, folder_for

_DATABASES = 64
_SIGNALS = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}

Mode = Literal["fast", "immediate"]


class RedisServer(Server):
    """One server in a folder of its own. It stands still until `start`; may be restarted as often as wanted.

    Args:
        program: `redis-server`.
        folder: where everything is kept.
        port: free, and nobody else's meanwhile.
    """

    def __init__(self, program: str, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.port = port
        self._program = program
        self._changed: dict[str, Any] = {}  # the options that it was started with, beyond the usual ones

    def start(self, **options: Any) -> None:
        """Returns once it answers. Options of the server, such as ``requirepass="secret"``."""
        self._changed = options
        given: dict[str, Any] = {
            "port": self.port,
            "bind": HOST,
            "dir": self.folder,
            "databases": _DATABASES,
            "appendonly": "yes",
            "appendfsync": "no",
            "save": "",
        }
        command = [self._program]
        for name, value in (given | options).items():
            command += [f"--{name}", str(value)]
        self._launch(command)
        self._await_ready(self._trouble)

    def stop(self, mode: Mode = "fast") -> None:
        """Returns once it has ended; nothing happens when it has already.

        Args:
            mode: fast says goodbye; immediate is a SIGKILL.
        """
        self._end(_SIGNALS[mode])

    def restart(self, mode: Mode = "fast", **options: Any) -> None:
        """Stop and start; the options of the start before are gone, the data is not."""
        self.stop(mode)
        self.start(**options)

    def lose_data(self) -> None:
        """Restart without anything that was stored."""
        self.stop("immediate")
        for part in self.folder.iterdir():
            if part.name != "log":
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        self.start()

    def settle(self) -> None:
        """Run as usual, whatever a test has done."""
        self.go_on()
        if self._changed or not self.running:
            self.restart()

    def url(self, database: int = 0) -> str:
        return f"redis://{HOST}:{self.port}/{database}"

    def call(self, *command: Any, database: int = 0) -> Any:
        """Ask the server past all our code."""
        # Here: some tests run where nothing but pytest is installed.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        never_again = Retry(NoBackoff(), 0)
        with redis.Redis(host=HOST, port=self.port, db=database, retry=never_again) as client:
            return client.execute_command(*command)

    def cut_clients(self) -> int:
        """End every connection to it from the server's side; how many."""
        return int(self.call("CLIENT", "KILL", "SKIPME", "yes"))

    def _trouble(self) -> object:
        import redis

        try:
            self.call("PING")
        except redis.AuthenticationError:
            return None  # it answers; whoever started it knows the password
        except redis.RedisError as error:
            return error
        return None


@pytest.fixture(scope="session")
def _redis_of_session() -> Iterator[RedisServer]:
    program = shutil.which("redis-server", path=os.defpath)
    if program is None:
        missing("no Redis here: no redis-server on the PATH")
    with folder_for("redis") as folder, reserved_port() as port:
        server = RedisServer(program, folder, port)
        try:
            server.start()
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture
def redis(_redis_of_session: RedisServer) -> Iterator[RedisServer]:
    """The server of the session. Whatever a test does to it, the next one finds it as usual."""
    yield _redis_of_session
    _redis_of_session.settle()


_numbers = itertools.count(1)


@pytest.fixture
def redis_database(redis: RedisServer) -> Iterator[str]:
    """The URL of a database of the test's own, empty."""
    number = next(_numbers) % _DATABASES
    redis.call("FLUSHDB", database=number)
    yield redis.url(number)


@pytest.fixture
def redis_channel(redis: RedisServer) -> str:
    """A channel that nobody else uses: channels know no databases."""
    return f"ebbtide-test-{next(_numbers)}"
