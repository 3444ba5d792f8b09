"""Conductors with a board: they find jobs there, and do without it when it is away, empty or wrong.

Promises: P6, P10.
"""

import collections
import threading
import warnings

import pytest
import sqlalchemy as sa
from kazoo.client import KazooClient
from taskflow.patterns import linear_flow

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor import Conductor
    from ebbtide.conductor.intake import Intake
from ebbtide.config import Settings
from ebbtide.flows import Registry
from ebbtide.jobs import Poster
from ebbtide.jobs.boards import Notice, open_boards
from ebbtide.jobs.boards import zookeeper as of_zookeeper
from ebbtide.jobs.boards.redis import RedisBoard
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelableTask
from ebbtide.testing import wait_until

PLACES = {"zookeeper": of_zookeeper.ZookeeperBoard, "redis": RedisBoard}
KINDS = tuple(PLACES)
# Nobody looks at the ledger by himself before the test is over.
NEVER = 3600.0

pytestmark = pytest.mark.sqlite_only("what a board does is no matter of the store")


class Stage:
    """A store, conductors in this process, and a flow whose task counts its executions and may be held up."""

    def __init__(self, database, options):
        self.options = options
        self.database = database
        self.executed = collections.Counter()
        self.open = threading.Event()
        self.open.set()
        self.conductors = []
        self.registry = Registry()
        stage = self

        class Count(CancelableTask):
            def execute(self):
                stage.executed[self.job.id] += 1
                while not stage.open.wait(0.01):
                    self.checkpoint()

        self.registry.flow("count")(lambda: linear_flow.Flow("count").add(Count()))
        self.poster = Poster(registry=self.registry, settings=self.settings())

    def settings(self, **changed):
        return Settings(database=self.database, isolation="thread", runners=2, **(self.options | changed))

    def conductor(self, **changed):
        ready = threading.Event()
        started = Conductor(self.settings(**changed), registry=self.registry, on_ready=ready.set)
        started.start()
        self.conductors.append(started)
        assert ready.wait(30)
        return started

    def post(self, number=1):
        return [self.poster.post("count").id for _ in range(number)]

    def await_completed(self, jobs):
        for job in jobs:
            assert self.poster.wait(job, timeout=60).state == "completed"
        assert [self.executed[job] for job in jobs] == [1] * len(jobs)

    def look(self):
        """What stands on the board, by somebody who has just come."""
        board = open_boards(self.settings())()
        try:
            return board.pinned()
        finally:
            board.close()

    def await_empty_board(self):
        wait_until(lambda: not self.look(), "an empty board")

    def close(self):
        self.open.set()
        for conductor in self.conductors:
            conductor.stop()
        for conductor in self.conductors:
            conductor.wait()
        self.poster.close()


@pytest.fixture(params=KINDS)
def kind(request):
    """The board that this test is about."""
    return request.param


@pytest.fixture
def server(kind, request):
    return request.getfixturevalue(kind)


@pytest.fixture
def stage(database, kind, board_options):
    opened = Stage(database, board_options(kind))
    yield opened
    opened.close()


@pytest.fixture
def from_board(monkeypatch):
    """The jobs that were claimed by way of the board."""
    claimed = []

    def claim_one(self, job_id, keys, original=Claims.claim_one):
        claim = original(self, job_id, keys)
        claimed.extend([] if claim is None else [job_id])
        return claim

    monkeypatch.setattr(Claims, "claim_one", claim_one)
    return claimed


@pytest.fixture
def intakes(monkeypatch):
    """The intakes of the conductors, as they are made."""
    made = []

    def init(self, *args, original=Intake.__init__):
        original(self, *args)
        made.append(self)

    monkeypatch.setattr(Intake, "__init__", init)
    return made


def await_board(intakes):
    wait_until(lambda: intakes and all(intake._offers.works for intake in intakes), "the board to work")


def test_a_posted_job_comes_by_way_of_the_board_and_leaves_it(stage, from_board, intakes):
    stage.conductor(sweep_seconds=NEVER)
    await_board(intakes)

    jobs = stage.post(5)
    # The last ones find no signal when they arrive on the board after it: rung by the ends of the first.
    stage.await_completed(jobs)

    assert sorted(from_board) == sorted(jobs)
    stage.await_empty_board()


def test_two_conductors_share_a_board_and_each_job_is_run_once(stage, from_board, intakes):
    stage.open.clear()
    stage.conductor(), stage.conductor()
    await_board(intakes)

    jobs = stage.post(30)
    stage.open.set()

    stage.await_completed(jobs)
    stage.await_empty_board()
    assert from_board


def test_a_post_waits_for_no_board_and_its_job_is_run_without_one(stage, server):
    server.stop()
    stage.conductor(sweep_seconds=0.2)

    jobs = stage.post(3)

    stage.await_completed(jobs)
    server.start()


def test_a_board_that_loses_everything_while_jobs_wait_loses_none(stage, server, intakes):
    stage.open.clear()
    stage.conductor(sweep_seconds=0.2, renew_seconds=0.1)
    await_board(intakes)
    jobs = stage.post(8)
    wait_until(lambda: len(stage.look()) >= 6, "the others to stand on the board")

    server.lose_data()
    wait_until(lambda: len(stage.look()) >= 6, "them to stand there again")
    stage.open.set()

    stage.await_completed(jobs)
    stage.await_empty_board()


def test_what_is_deleted_and_doubled_by_hand_is_run_once_each(stage, intakes):
    stage.open.clear()
    stage.conductor(sweep_seconds=0.2, renew_seconds=0.1)
    await_board(intakes)
    jobs = stage.post(8)
    wait_until(lambda: len(stage.look()) >= 6, "the others to stand on the board")

    board = open_boards(stage.settings())()
    there = board.pinned()
    board.remove(there[:3])
    for job in [*jobs, *jobs, "3a69438f-b748-4ff6-8a7a-4e9cb736f67e"]:
        board.post(Notice(job, "count@1", 9, 1.0))
    board.close()
    stage.open.set()

    stage.await_completed(jobs)
    stage.await_empty_board()


def test_a_cancelled_job_is_taken_from_the_board_and_never_run(stage, intakes):
    stage.open.clear()
    stage.conductor(sweep_seconds=0.2, renew_seconds=0.1)
    await_board(intakes)
    jobs = stage.post(5)
    wait_until(lambda: len(stage.look()) >= 3, "the others to stand on the board")

    answers = [stage.poster.cancel(job, "enough").job.state for job in jobs[2:]]
    stage.open.set()

    stage.await_completed(jobs[:2])
    stage.await_empty_board()
    assert answers == ["cancelled"] * 3
    assert sum(stage.executed.values()) == 2


@pytest.mark.parametrize("kind", ["zookeeper"], indirect=True)
def test_a_conductor_whose_session_has_ended_makes_a_new_one(stage, intakes, from_board, monkeypatch):
    sessions = []

    def init(self, *args, original=of_zookeeper.ZookeeperBoard.__init__):
        original(self, *args)
        sessions.append(self._session)

    monkeypatch.setattr(of_zookeeper.ZookeeperBoard, "__init__", init)
    stage.conductor(sweep_seconds=0.2, renew_seconds=0.1)
    await_board(intakes)
    wait_until(lambda: len(sessions) >= 2, "the outbox to have a session, and the offers")
    stage.await_completed(stage.post(2))

    for session in list(sessions):
        twin = KazooClient(hosts=stage.options["zookeeper_hosts"], client_id=session.client.client_id)
        twin.start()
        twin.stop()
        twin.close()
    wait_until(lambda: all(session.broken for session in sessions[:2]), "the sessions to end")
    stage.await_completed(stage.post(5))
    wait_until(lambda: not sessions[-1].broken and intakes[0]._offers.works, "the board to work again")
    before = len(from_board)
    wait_until(lambda: stage.await_completed(stage.post(3)) or len(from_board) > before, "the board in use")


@pytest.fixture
def cluster_stage(database, zookeeper_cluster, zookeeper_path):
    options = {
        "board": "zookeeper",
        "zookeeper_hosts": zookeeper_cluster.hosts,
        "zookeeper_path": zookeeper_path,
    }
    opened = Stage(database, options)
    yield opened
    opened.close()


def test_without_a_quorum_jobs_are_run_by_the_ledger_and_afterwards_by_the_board(
    cluster_stage, zookeeper_cluster, intakes, from_board
):
    stage = cluster_stage
    stage.conductor(sweep_seconds=0.2, renew_seconds=0.1)
    await_board(intakes)
    stage.await_completed(stage.post(2))
    leader, follower = zookeeper_cluster.leader, zookeeper_cluster.followers[0]

    leader.kill()
    stage.await_completed(stage.post(3))
    follower.kill()
    stage.await_completed(stage.post(3))
    zookeeper_cluster.settle()

    wait_until(lambda: intakes[0]._offers.works, "the board to work again", seconds=60.0)
    before = len(from_board)
    wait_until(lambda: stage.await_completed(stage.post(3)) or len(from_board) > before, "the board in use")
    stage.await_empty_board()


def test_an_idle_conductor_with_a_board_asks_little(stage, intakes, kind, monkeypatch):
    """Counted from one sweep to the next: statements to the store and looks at the board, by the conductor
    that keeps the outbox as well.
    """
    sweeps, statements, looks, enough = [], [], [], threading.Event()

    def requests(self, original=Claims.requests):
        sweeps.append((len(statements), len(looks)))
        if len(sweeps) > 8:
            enough.set()
        return original(self)

    def note(connection, cursor, statement, *_):
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            statements.append(statement)

    def init(self, *args, original=Store.__init__, **options):
        original(self, *args, **options)
        sa.event.listen(self.engine, "before_cursor_execute", note)

    def pinned(self, *args, original=PLACES[kind].pinned):
        looks.append(kind)
        return original(self, *args)

    monkeypatch.setattr(Claims, "requests", requests)
    monkeypatch.setattr(Store, "__init__", init)
    monkeypatch.setattr(PLACES[kind], "pinned", pinned)
    stage.conductor(sweep_seconds=0.5)
    await_board(intakes)

    assert enough.wait(60)

    # Its cancels, its jobs, what is due, who is gone; and what is due once more for the board. A look is one
    # question to the server while nothing stands there; ZooKeeper's offers wait to be told.
    rest, last = sweeps[3], sweeps[-1]
    assert (last[0] - rest[0]) / (len(sweeps) - 4) <= 6
    assert (last[1] - rest[1]) / (len(sweeps) - 4) <= (1.5 if kind == "zookeeper" else 2.5)
