"""The hint that a store itself gives when something in it has changed: the commit rings, whoever made it.

What all signals do is in test_every_signal.py, the ways of the one of SQLite in integration/test_signal.py,
those on a server at the end.
"""

import contextlib
import subprocess
import sys
import threading
import time

import psycopg2
import pytest

from ebbtide.jobs.edges import record
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.signals import own_signal
from ebbtide.jobs.signals import postgresql as notify
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from tests.services.proxy import Stall

PATIENCE_SECONDS = 10.0

# Another process: does what it is told, each word in a commit of its own, and answers once that is made.
ACTOR = """
import sys
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.store import Store

store = Store(sys.argv[1])
ledger = Ledger(store)
claims = Claims(store, "one", name="one", lease_seconds=0.0)
for line in sys.stdin:
    word, job = line.split()
    if word == "post":
        ledger.post(NewJob(flow="copy", version=1, parameters="{}", labels_text="{}", labels={}), who="ann")
    elif word == "cancel":
        ledger.cancel(job, reason="enough", who="ann")
    elif word == "complete":
        with store.write() as connection:
            apply_edge(connection, "completed", job, at=1.0, epoch=0)
    elif word == "release":
        claims.release()
    print("done", flush=True)
"""
WORDS = ["post", "cancel", "complete", "release"]


@pytest.fixture
def signal(store):
    opened = own_signal(store)
    yield opened
    opened.close()


@pytest.fixture
def actor(made):
    """Another process, told a word and a job; returns once it has committed."""
    process = subprocess.Popen(
        [sys.executable, "-c", ACTOR, made], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def act(word, job="-"):
        print(word, job, file=process.stdin, flush=True)
        assert process.stdout.readline() == "done\n"

    with process:
        yield act
        process.stdin.close()


def rings(signal):
    """Whether it rings before patience is over."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not signal.changed():
        if time.monotonic() > give_up:
            return False
        signal.pause(0.01)
    return True


def attend(signal):
    """Look until it is connected and has nothing more to tell."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while signal.changed() or not signal.listening:
        assert time.monotonic() < give_up, "it never came to rest"
        signal.pause(0.01)


@pytest.mark.bare_edges("what is committed does not matter here")
@pytest.mark.parametrize("word", WORDS)
def test_it_rings_for_what_another_process_commits(board, conductor, signal, actor, word):
    conductor("one")
    job = board.put(JobState.RUNNING)
    attend(signal)

    actor(word, job)

    assert rings(signal)


def test_it_rings_for_each_commit_of_this_process_on_another_connection(board, signal):
    attend(signal)

    for _ in range(50):
        job = board.post()
        signal.ring(job)
        assert rings(signal)


def test_commits_of_other_threads_are_never_missed(board, signal):
    """What was committed before a look that said "nothing new" was announced before, or will be."""
    jobs = []
    attend(signal)
    writer = threading.Thread(target=lambda: jobs.extend(board.post() for _ in range(50)))
    writer.start()

    seen = 0
    give_up = time.monotonic() + PATIENCE_SECONDS
    while seen < 50 and time.monotonic() < give_up:
        if signal.changed():
            with board.store.read() as connection:
                seen = connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one()
        signal.pause(0.001)
    writer.join()

    assert seen == 50


# PostgreSQL.

on_a_server = pytest.mark.postgresql_only("SQLite has no server to be away, and no NOTIFY")


@pytest.fixture
def tries_often(monkeypatch):
    monkeypatch.setattr(notify, "_RECONNECT_SECONDS", 0.2)


def commit_an_entry(made):
    """By a store of its own: the connections of the others are dead."""
    with Store(made) as store:
        Ledger(store).post(
            NewJob(flow="copy", version=1, parameters="{}", labels_text="{}", labels={}), who="ann"
        )


@on_a_server
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_while_the_server_is_away_it_is_silent_and_afterwards_it_rings_again(
    board, made, signal, postgresql, tries_often, mode
):
    attend(signal)

    postgresql.stop(mode)
    assert rings(signal)  # so that whoever listens looks, and meets the trouble
    looks = []
    while len(looks) < 50:
        looks.append(signal.changed())
        assert signal.descriptor is None
        signal.pause(0.005)
    postgresql.start()
    attend(signal)
    commit_an_entry(made)

    assert rings(signal)


@on_a_server
def test_what_was_committed_while_it_was_cut_off_is_looked_for_once_it_is_back(
    board, made, postgresql, signal, tries_often
):
    """Nobody says it again: so the first look after that says changed."""
    attend(signal)
    postgresql.terminate_backends(made)
    commit_an_entry(made)

    while signal.descriptor is not None:
        signal.changed()
        signal.pause(0.005)
    while signal.descriptor is None:
        changed = signal.changed()
        signal.pause(0.005)

    assert changed


@on_a_server
def test_a_signal_whose_server_never_answers_neither_waits_nor_raises(board, made, postgresql, proxy_to):
    proxy = proxy_to(postgresql.port)
    proxy.set(Stall())
    with Store(proxy.url(made)) as store, contextlib.closing(own_signal(store)) as signal:
        looks = [signal.changed() for _ in range(20)]
        assert signal.descriptor is None
        proxy.wait_until(lambda p: p.live == 1, "the connection")

    assert looks == [True, *[False] * 19]


@on_a_server
def test_what_is_rolled_back_or_only_read_does_not_ring_and_a_commit_rings_once(board, made, store):
    job = board.put(JobState.RUNNING)
    with contextlib.closing(psycopg2.connect(made)) as listener:
        listener.autocommit = True
        cursor = listener.cursor()
        cursor.execute("LISTEN ebbtide")

        with pytest.raises(ValueError), store.write() as connection:
            record(connection, "cancel_forwarded", job, at=1.0)
            raise ValueError
        board.row(job)
        board.ledger.cancel(job, reason="enough", who="ann")
        cursor.execute("SELECT 1")  # what was said before comes with the answer

        assert len(listener.notifies) == 1


# Asks the server over the listener's own connection, once a fork that had inherited it is gone.
FORKED = """
import os, sys
from ebbtide.jobs.poster import Poster

poster = Poster(sys.argv[1])
signal = poster.signal()
while not signal.listening:
    signal.changed()
child = os.fork()
if child == 0:
    signal.close()
    os._exit(0)
os.waitpid(child, 0)
cursor = signal._connection.cursor()
cursor.execute("SELECT 1")
while signal._connection.poll() != 0:
    pass
print(cursor.fetchone(), signal.listening)
"""


@on_a_server
def test_a_fork_that_closes_what_it_has_inherited_leaves_the_connection_to_its_parent(made):
    ran = subprocess.run(
        [sys.executable, "-c", FORKED, made], capture_output=True, text=True, timeout=50, check=False
    )

    assert (ran.stdout, ran.stderr) == ("(1,) True\n", "")
