"""A stage whose store and files are on a disk that can be filled, and whose calls and effects are kept."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ebbtide.config import Settings
from tests.chaos.checker import FINAL, Violation, check
from tests.chaos.clients import Client
from tests.chaos.evidence import Effect, Evidence, keep, read_entries, read_jobs
from tests.chaos.history import History, Recorder
from tests.process.conftest import Stage, load_flows, open_stage
from tests.services.postgresql import PostgresqlServer
from tests.services.proxy import Proxy
from tests.services.tmpfs import SmallDisk, mounted_disk

HERE = Path(__file__).parent
SECONDS = float(os.environ.get("EBBTIDE_TEST_CHAOS_SECONDS", "60"))
# When the nemesis has stopped and no history has grown for so long, what is not final by then stays so.
QUIET_SECONDS = 90.0
# A history that grows is waited for, but not for ever: a job may go round and round.
REST_SECONDS = 600.0
# What a minute of chaos takes, many times over, and what each further second does.
_DISK_BYTES, _BYTES_A_SECOND = 64 << 20, 200_000
_MAX_TOLD = 5


@pytest.fixture(scope="session")
def chaos_flows() -> ModuleType:
    """The module of the flow of the chaos."""
    return load_flows(HERE / "flows_for_chaos.py")


@pytest.fixture
def disk(tmp_path: Path, chaos_flows: ModuleType) -> Iterator[SmallDisk]:
    """Where the tasks make their files."""
    with mounted_disk(tmp_path / chaos_flows.DISK, _DISK_BYTES + int(SECONDS * _BYTES_A_SECOND)) as disk:
        (disk.path / chaos_flows.MADE).mkdir()
        yield disk


@pytest.fixture
def prepared(
    store_kind: str, disk: SmallDisk, replay: Callable[[str], None], request: pytest.FixtureRequest
) -> Iterator[str]:
    """A file as the store is on the disk of the effects."""
    if store_kind == "sqlite":
        url = f"sqlite:///{disk.path / 'ebbtide.db'}"
        yield url
        replay(url)
        return
    yield request.getfixturevalue("database")


@pytest.fixture
def server(store_kind: str, request: pytest.FixtureRequest) -> PostgresqlServer | None:
    """The server of the store, if it has one."""
    return None if store_kind == "sqlite" else request.getfixturevalue("postgresql")


@pytest.fixture
def chaos(tmp_path: Path, prepared: str, chaos_flows: ModuleType) -> Iterator["ChaosStage"]:
    with open_stage(ChaosStage, tmp_path, prepared, chaos_flows) as stage:
        yield stage
        stage.close()


@pytest.fixture
def wires(
    chaos: "ChaosStage", server: PostgresqlServer | None, proxy_to: Callable[[int], Proxy]
) -> Sequence[Proxy]:
    """Proxies before the server: one for each of two conductors, one for the clients."""
    return [] if server is None else [proxy_to(server.port) for _ in range(3)]


class ChaosStage(Stage):
    """Conductors that know the flow of the chaos, clients whose calls are recorded, and the verdict."""

    def __init__(self, folder: Path, database: str, poster: Any, flows: ModuleType) -> None:
        super().__init__(folder, database, poster, flows)
        self.recorder = Recorder(folder / "history")
        self.options: dict[str, Any] = {}  # of clients, beside the store
        self._clients: list[Client] = []

    def environment(self, **options: Any) -> dict[str, str]:
        told = super().environment(**{"flow_modules": "flows_for_chaos"} | options)
        return told | {"PYTHONPATH": os.pathsep.join([str(HERE), told["PYTHONPATH"]])}

    def client(self, name: str, url: str | None = None) -> Client:
        """A client that reaches the store under `url`, or as everybody does."""
        settings = Settings(url or self.database, **self.options)
        client = Client(name, self.folder, settings, self._flows.registry, self.recorder)
        self._clients.append(client)
        return client

    def bring_to_rest(self, quiet_seconds: float = QUIET_SECONDS) -> None:
        """Wait until every job is final, as long as histories grow; what parks is repaired."""
        operator = self.client("operator")
        heard = -1
        quiet = give_up = time.monotonic() + REST_SECONDS
        while time.monotonic() < min(quiet, give_up):
            jobs = read_jobs(self.database)
            entries = sum(job.entries for job in jobs)
            if entries != heard:
                heard, quiet = entries, time.monotonic() + quiet_seconds
            unfinished = [job for job in jobs if job.state not in FINAL]
            if not unfinished:
                return
            for job in unfinished:
                if job.state == "parked":
                    operator.unpark(job.id)
            threading.Event().wait(0.1)

    def evidence(self) -> Evidence:
        return Evidence(
            History.read(self.recorder.file),
            read_jobs(self.database),
            read_entries(self.database),
            [Effect(**line) for line in self.effects()],
            self._flows.made(str(self.folder)),
        )

    def violations(self) -> list[Violation]:
        """What the checker finds now."""
        return check(self.evidence())

    def judge(self, again: str, *, others: Sequence[str] = ()) -> Evidence:
        """Fail if a promise is broken; tell which, all about the jobs, and where the files are.

        Args:
            again: the command that runs the same schedule again.
            others: what else has gone wrong.
        """
        evidence = self.evidence()
        keep(self.folder, evidence)
        violations = check(evidence)
        if violations or others:
            told = [str(violation) for violation in violations] + list(others)
            jobs = list(dict.fromkeys(each.job for each in violations if each.job is not None))
            told += [evidence.tell(job) for job in jobs[:_MAX_TOLD]]
            told.append(f"the files of this run are in {self.folder}")
            told.append(f"the same schedule again: {again}")
            pytest.fail("\n".join(told), pytrace=False)
        return evidence

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.recorder.close()


@pytest.fixture
def seed() -> int:
    """What the schedule is a function of: EBBTIDE_TEST_SEED, else a new one."""
    return int(os.environ.get("EBBTIDE_TEST_SEED", random.randrange(2**32)))


@pytest.fixture
def again(seed: int, request: pytest.FixtureRequest) -> str:
    """The command that runs this test again on the same seed; printed, however the test may fail."""
    kept = [
        f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("EBBTIDE_TEST_")
    ]
    kept = [each for each in kept if not each.startswith("EBBTIDE_TEST_SEED=")]
    test = f"{os.path.relpath(request.path, request.config.invocation_params.dir)}::{request.node.name}"
    command = " ".join([f"EBBTIDE_TEST_SEED={seed}", *kept, f"pytest '{test}'"])
    print(f"again: {command}")
    return command
