"""A Redis server of the test session's own, and a database and a channel in it for single tests."""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.services import servants
from tests.services.absence import missing
from tests.services.ports import HOST, reserved_port

# Longer than anything here takes on a busy machine; reached only when something is broken.
PATIENCE_SECONDS = 40.0
_DATABASES = 64
_SIGNALS = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}

Mode = Literal["fast", "immediate"]


class RedisServer:
    """One server in a folder of its own. It stands still until `start`; may be restarted as often as wanted.

    Args:
        program: `redis-server`.
        folder: where everything is kept.
        port: free, and nobody else's meanwhile.
    """

    def __init__(self, program: str, folder: Path, port: int) -> None:
        self.port = port
        self.folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._changed: dict[str, Any] = {}  # the options that it was started with, beyond the usual ones
        self._stopped = False  # by SIGSTOP

    def start(self, **options: Any) -> None:
        """Returns once it answers. Options of the server, such as ``requirepass="secret"``."""
        if self.running:
            raise RuntimeError("the server runs already")
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
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},
            )
        servants.add(self._process.pid)
        self._await_ready(self._process)

    def stop(self, mode: Mode = "fast") -> None:
        """Returns once it has ended; nothing happens when it has already.

        Args:
            mode: fast says goodbye; immediate is a SIGKILL.
        """
        if self._process is None:
            return
        self.go_on()
        self._process.send_signal(_SIGNALS[mode])
        self._process.wait(PATIENCE_SECONDS)
        servants.remove(self._process.pid)
        self._process = None

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

    def stand_still(self) -> None:
        """SIGSTOP: its connections stay and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def go_on(self) -> None:
        """The end of `stand_still`."""
        if self._process is not None and self._stopped:
            self._process.send_signal(signal.SIGCONT)
        self._stopped = False

    def settle(self) -> None:
        """Run as usual, whatever a test has done."""
        self.go_on()
        if self._changed or not self.running:
            self.restart()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

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

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        import redis

        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while True:
            try:
                self.call("PING")
                return
            except redis.AuthenticationError:
                return  # it answers; whoever started it knows the password
            except redis.RedisError as error:
                if process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"Redis does not start: {error}\n{self.log[-4000:]}") from error
            pause.wait(0.01)


@pytest.fixture(scope="session")
def _redis_of_session() -> Iterator[RedisServer]:
    program = shutil.which("redis-server", path=os.defpath)
    if program is None:
        missing("no Redis here: no redis-server on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-redis-"))
    try:
        with reserved_port() as port:
            server = RedisServer(program, folder, port)
            try:
                server.start()
                yield server
            finally:
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


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
