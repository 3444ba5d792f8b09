"""What every signal does, whatever carries it: it may ring in vain, and whoever listens is told to look.

Each is on the store that it wants; those that want none are on SQLite. What the signals of the stores do
besides is in test_signals.py.
"""

import contextlib
import logging
import os
import threading
import time
import uuid
from pathlib import Path

import pytest
from taskflow.patterns import linear_flow

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.flows import Registry
from ebbtide.jobs import Poster, linkhealth
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.signals import SIGNALS, links, open_signal
from ebbtide.jobs.signals import postgresql as notify
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelableTask
from tests.services.proxy import Pass, Stall

PATIENCE_SECONDS = 30.0
OF_A_SERVER = ("postgresql", "redis", "zookeeper")
LINKED = ("redis", "zookeeper")
KINDS = ("sqlite", "file", "local", *OF_A_SERVER)

pytestmark = pytest.mark.sqlite_only("each signal is on the store that it wants; see `store_kind` below")


@pytest.fixture(params=KINDS)
def kind(request):
    """The signal that this test is about."""
    return request.param


@pytest.fixture
def store_kind(kind):
    return "postgresql" if kind == "postgresql" else "sqlite"


@pytest.fixture
def settings(kind, prepared, signal_options):
    """Options that choose it, with a place of the test's own."""
    return Settings(database=prepared, **signal_options(kind))


@pytest.fixture
def server(kind, request):
    """The server that it goes through."""
    return request.getfixturevalue(kind)


@pytest.fixture
def store(settings):
    with Store(settings.database) as opened:
        ensure_schema(opened)
        yield opened


class Nothing(CancelableTask):
    def execute(self):
        return None


@pytest.fixture
def registry():
    registry = Registry()
    registry.flow("nothing")(lambda: linear_flow.Flow("nothing").add(Nothing()))
    return registry


@pytest.fixture
def opened(store, settings):
    """Opens one more signal, as another process would have it."""
    with contextlib.ExitStack() as signals:

        def make(**changed):
            chosen = Settings(**(vars(settings) | changed))
            return signals.enter_context(contextlib.closing(open_signal(store, chosen)))

        yield make


@pytest.fixture
def tries_often(monkeypatch):
    monkeypatch.setattr(notify, "_RECONNECT_SECONDS", 0.2)
    monkeypatch.setattr(linkhealth, "_LONGEST_PAUSE_SECONDS", 0.2)


def until(what, predicate):
    give_up = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while not predicate():
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        pause.wait(0.005)


def attend(*signals):
    """Look until they listen and have nothing more to tell."""
    for signal in signals:
        until("it comes to rest", lambda signal=signal: not signal.changed() and signal.listening)


def tell(store, *signals):
    """Do what a client does: change a job, and once that is stored ring."""
    new = NewJob(flow="copy", version=1, parameters="{}", labels_text="{}", labels={})
    job = Ledger(store).post(new, who="ann")
    for signal in signals:
        signal.ring(job)


def hears(signal):
    until("it rings", signal.changed)
    return True


def lose(server, kind):
    server.stop("immediate") if kind != "zookeeper" else server.kill()


def test_every_signal_that_there_is_is_tested_here():
    assert {*KINDS, "auto"} == set(SIGNALS)


def test_the_first_look_says_changed_and_then_it_comes_to_rest(opened):
    signal = opened()

    first = signal.changed()

    attend(signal)
    assert first


def test_what_is_rung_is_heard_by_all_who_listen(opened, store):
    listeners = [opened() for _ in range(4)]
    attend(*listeners)

    for _ in range(5):
        tell(store, opened())

        assert all(hears(listener) for listener in listeners)
        attend(*listeners)


def test_who_rings_may_listen_as_well(opened, store):
    signal = opened()
    attend(signal)

    tell(store, signal)

    assert hears(signal)


def test_a_ring_ahead_takes_nothing_from_the_ring_that_follows(opened, store):
    listener, ringer = opened(), opened()
    attend(listener)

    ringer.ring_ahead("a")
    ringer.ring_ahead("b")
    listener.changed()  # whoever hears it looks, and finds nothing
    tell(store, ringer)

    assert hears(listener)


def test_what_was_rung_before_anybody_listened_is_looked_for_at_the_first_look(opened, store):
    tell(store, opened())

    assert opened().changed()


def test_the_last_of_many_rings_is_heard_by_all_and_then_they_come_to_rest(opened, store):
    """How many of them are heard is not promised: each says the same."""
    listeners = [opened() for _ in range(2)]
    ringer = opened()
    attend(*listeners)

    def ring():
        for _ in range(300):
            ringer.ring(str(uuid.uuid4()))

    threads = [threading.Thread(target=ring) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(store, ringer)

    assert all(hears(listener) for listener in listeners)
    attend(*listeners)


@pytest.mark.parametrize("word", ["", "no job", "\N{SNOWMAN}", "x" * 5000, str(uuid.UUID(int=0))])
def test_whatever_is_rung_does_no_harm(opened, store, word):
    listener, ringer = opened(), opened()
    attend(listener)

    ringer.ring(word)
    tell(store, ringer)

    assert hears(listener)


def test_who_waits_is_woken_by_a_ring(opened, store, kind):
    listener, ringer = opened(), opened()
    attend(listener)
    woken = threading.Event()

    def wait():
        while not listener.changed():
            listener.pause(0.02 if kind == "sqlite" else PATIENCE_SECONDS)
        woken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    tell(store, ringer)

    waiter.join(PATIENCE_SECONDS)
    assert woken.is_set()


@pytest.mark.parametrize("used", ["unused", "rung", "listening"])
def test_a_closed_signal_leaves_nothing_and_says_look_and_may_be_closed_again(store, settings, used):
    # SQLite keeps the files of a connection for as long as the process has another one to the same database.
    store.close()
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    signal = open_signal(store, settings)
    if used == "rung":
        signal.ring("a")
    elif used == "listening":
        attend(signal)

    signal.close()
    signal.close()
    signal.ring("a")

    assert signal.changed()
    until("its threads end", lambda: set(threading.enumerate()) <= threads)
    until("its descriptors are closed", lambda: len(os.listdir("/proc/self/fd")) <= files)


def test_what_was_rung_before_it_was_closed_is_sent(opened, store, settings):
    """A command that cancels a job ends at once."""
    listener = opened()
    attend(listener)

    with contextlib.closing(open_signal(store, settings)) as ringer:
        tell(store, ringer)

    assert hears(listener)


def test_closing_ends_a_pause(opened):
    signal = opened()
    attend(signal)
    ended = threading.Event()

    def pause():
        while not signal.changed():
            signal.pause(1)
        ended.set()

    waiter = threading.Thread(target=pause)
    waiter.start()
    signal.close()
    waiter.join(PATIENCE_SECONDS)

    assert ended.is_set()


def test_a_poster_rings_for_every_change_of_a_job(settings, opened, registry):
    listener = opened()
    with Poster(registry=registry, settings=settings) as poster:
        attend(listener)
        job = poster.post("nothing")
        assert hears(listener)
        attend(listener)

        poster.cancel(job.id)
        assert hears(listener)
        attend(listener)

        poster.retry(job.id)
        assert hears(listener)


# The server is away.


@pytest.mark.parametrize("kind", OF_A_SERVER, indirect=True)
def test_while_the_server_is_away_nothing_raises_and_afterwards_it_rings_again(
    opened, settings, server, kind, tries_often, caplog
):
    listener, ringer = opened(), opened()
    attend(listener)
    ringer.ring("a")

    with caplog.at_level(logging.INFO, "ebbtide"):
        lose(server, kind)
        assert hears(listener)  # so that whoever listens looks, and meets the trouble
        until("it notices", lambda: listener.changed() is None or not listener.listening)
        for _ in range(50):
            ringer.ring("b")
            listener.changed()
            listener.pause(0.01)
        server.start()
        until("it listens again", lambda: listener.changed() is None or listener.listening)
        attend(listener)

    with Store(settings.database) as store:
        until("what is rung is heard", lambda: tell(store, ringer) or listener.changed())
    if kind in LINKED:
        # One thread listens and another one rings; each says once that its link is broken.
        assert caplog.text.count(f"signal.broken {kind}") in (1, 2)
        assert "signal.mended" in caplog.text


@pytest.mark.parametrize("kind", OF_A_SERVER, indirect=True)
def test_what_was_rung_while_the_link_was_broken_is_looked_for_once_it_is_back(
    opened, settings, server, kind, tries_often
):
    """Nobody says it again: so the first look after that says changed."""
    listener = opened()
    attend(listener)

    lose(server, kind)
    until("it notices", lambda: listener.changed() is None or not listener.listening)
    server.start()
    changes = []
    until("it listens again", lambda: changes.append(listener.changed()) or listener.listening)

    assert any(changes) or hears(listener)


@pytest.mark.parametrize("kind", LINKED, indirect=True)
def test_a_server_that_lost_its_data_is_used_as_before(opened, store, server, kind, tries_often):
    listener, ringer = opened(), opened()
    attend(listener)
    ringer.ring("a")

    lose(server, kind)  # by itself: it might listen again before anybody sees that it did not
    until("it notices", lambda: listener.changed() is None or not listener.listening)
    server.lose_data()
    until("it listens again", lambda: listener.changed() is None or listener.listening)
    attend(listener)

    until("what is rung is heard", lambda: tell(store, ringer) or listener.changed())


@pytest.mark.parametrize("kind", LINKED, indirect=True)
def test_a_link_on_which_nothing_comes_any_more_is_given_up_and_made_anew(
    opened, store, server, kind, proxy_to, tries_often, monkeypatch
):
    monkeypatch.setattr(links, "_SILENCE_SECONDS", 0.3)
    proxy = proxy_to(server.port)
    through = (
        {"redis_url": f"redis://127.0.0.1:{proxy.port}/0"}
        if kind == "redis"
        else {"zookeeper_hosts": f"127.0.0.1:{proxy.port}"}
    )
    listener, ringer = opened(**through), opened()
    attend(listener)

    proxy.set(Stall())
    until("it notices", lambda: listener.changed() is None or not listener.listening)
    proxy.set(Pass())
    until("it listens again", lambda: listener.changed() is None or listener.listening)
    attend(listener)
    tell(store, ringer)

    assert hears(listener)


@pytest.mark.parametrize("kind", OF_A_SERVER, indirect=True)
def test_a_server_that_never_answers_holds_nobody_up(opened, store, server, kind, settings, proxy_to):
    """What is asserted is that it comes to an end at all: the server says nothing, ever."""
    others = set(threading.enumerate())
    proxy = proxy_to(server.port)
    proxy.set(Stall())
    through = {
        "redis": {"redis_url": f"redis://127.0.0.1:{proxy.port}/0"},
        "zookeeper": {"zookeeper_hosts": f"127.0.0.1:{proxy.port}"},
        "postgresql": {},
    }[kind]
    far = Store(proxy.url(settings.database)) if kind == "postgresql" else store
    signal = open_signal(far, Settings(**(vars(settings) | through)))

    looks = [signal.changed() for _ in range(20)]
    for number in range(20):
        signal.ring(str(number))
    proxy.wait_until(lambda p: p.live >= 1, "a connection")
    listening = signal.listening
    signal.close()
    proxy.cut()

    assert looks == [True, *[False] * 19]
    assert not listening
    until("its threads end", lambda: not {t for t in threading.enumerate() if "ebbtide-" in t.name} - others)
    if far is not store:
        far.close()


@pytest.mark.parametrize("kind", LINKED, indirect=True)
def test_a_client_whose_signal_has_no_server_gets_its_answer_all_the_same(settings, registry, kind, caplog):
    nowhere = {"redis_url": "redis://:sesame@127.0.0.1:1/0", "zookeeper_hosts": "127.0.0.1:1"}
    chosen = Settings(**(vars(settings) | nowhere))
    with Poster(registry=registry, settings=chosen) as poster:
        job = poster.post("nothing")
        answer = poster.cancel(job.id, "enough")

    assert (answer.answer, answer.job.state) == ("accepted", "cancelled")
    assert caplog.text.count("signal.broken") == 1
    assert "sesame" not in caplog.text


# The system gives no thread, or no descriptor.


@pytest.fixture
def no_threads(monkeypatch):
    """As where a limit of processes is reached; for the threads of signals alone. A context."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("ebbtide-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    @contextlib.contextmanager
    def refused():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            yield

    return refused


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", LINKED, indirect=True)
def test_a_cancel_is_answered_although_there_is_no_thread_to_ring(
    settings, registry, opened, no_threads, tries_often, caplog
):
    listener = opened()
    attend(listener)
    with Poster(registry=registry, settings=settings) as poster:
        with no_threads():
            job = poster.post("nothing")
            answer = poster.cancel(job.id, "enough")
        attend(listener)

        # What is rung before it tries again is dropped.
        until("it rings again", lambda: poster.post("nothing") is None or listener.changed())

    assert (answer.answer, answer.job.state) == ("accepted", "cancelled")
    assert caplog.text.count("signal.broken") == 1


@pytest.mark.parametrize("kind", LINKED, indirect=True)
def test_who_has_no_thread_to_listen_says_changed_once_and_loses_no_descriptor(
    opened, store, no_threads, tries_often, caplog
):
    listener, ringer = opened(), opened()
    before = descriptors()

    with no_threads():
        looks = [listener.changed() or listener.pause(0.01) or listener.changed() for _ in range(30)]
        after = descriptors()
        heard = (listener.listening, listener.descriptor)
    until("it listens", lambda: listener.changed() is None or listener.listening)
    attend(listener)
    tell(store, ringer)

    assert looks == [True, *[False] * 29]
    assert after == before
    assert heard == (False, None)
    assert hears(listener)
    assert caplog.text.count("signal.broken") == 1


@pytest.mark.parametrize("kind", ["local", *LINKED], indirect=True)
def test_who_has_no_pipe_to_be_woken_by_says_changed_once_and_listens_later(
    opened, store, monkeypatch, tries_often, caplog
):
    listener, ringer = opened(), opened()

    def none_left(flags):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("ebbtide.jobs.signals.bell.os.pipe2", none_left)
        looks = [listener.changed() for _ in range(30)]
        heard = (listener.listening, listener.descriptor)
    until("it listens", lambda: listener.changed() is None or listener.listening)
    attend(listener)
    tell(store, ringer)

    assert looks == [True, *[False] * 29]
    assert heard == (False, None)
    assert hears(listener)
    assert caplog.text.count("signal.broken") == 1


# Each by itself.


@pytest.mark.parametrize("kind", ["local"], indirect=True)
def test_local_is_for_one_store(opened, store, tmp_path, settings):
    other = Store(f"sqlite:///{tmp_path}/other.db")
    listener = opened()
    attend(listener)

    with other, contextlib.closing(open_signal(other, settings)) as elsewhere:
        elsewhere.ring("a")

    assert not listener.changed()


@pytest.mark.parametrize("kind", ["redis"], indirect=True)
def test_a_channel_is_for_those_who_named_it(opened):
    listener, other = opened(redis_channel="another"), opened()
    attend(listener)

    with contextlib.closing(other):
        other.ring("a")

    assert not listener.changed()


@pytest.mark.parametrize("kind", ["redis"], indirect=True)
def test_a_password_is_given_and_never_logged(opened, redis, caplog, tries_often):
    redis.restart(requirepass="sesame")
    refused = opened(redis_url=f"redis://:open@127.0.0.1:{redis.port}/0")
    listener = opened(redis_url=f"redis://:sesame@127.0.0.1:{redis.port}/0")

    refused.changed()
    refused.ring("a")
    attend(listener)
    until("the refusal is logged", lambda: "signal.broken" in caplog.text)

    assert not refused.listening
    assert "sesame" not in caplog.text and ":open@" not in caplog.text


@pytest.mark.parametrize("kind", ["zookeeper"], indirect=True)
def test_it_rings_on_when_the_leader_of_a_cluster_dies(opened, store, zookeeper_cluster, tries_often):
    hosts = {"zookeeper_hosts": zookeeper_cluster.hosts}
    listeners = [opened(**hosts) for _ in range(3)]
    ringer = opened(**hosts)
    attend(*listeners)

    zookeeper_cluster.leader.kill()

    for listener in listeners:
        until("what is rung is heard", lambda listener=listener: tell(store, ringer) or listener.changed())
    attend(*listeners)
    tell(store, ringer)
    assert all(hears(listener) for listener in listeners)


@pytest.mark.parametrize("kind", ["file"], indirect=True)
class TestFile:
    def test_a_folder_that_was_removed_is_made_again(self, opened, store, settings):
        listener, ringer = opened(), opened()
        attend(listener)

        ringer.ring("a")
        folder = Path(settings.signal_folder)
        for part in folder.iterdir():
            part.unlink()
        folder.rmdir()
        until("it notices", lambda: listener.changed() and folder.exists())
        attend(listener)
        tell(store, ringer)

        assert hears(listener)

    def test_a_folder_that_is_refused_says_changed_once_and_again_when_it_is_mended(
        self, opened, store, settings, caplog
    ):
        listener, ringer = opened(), opened()
        attend(listener)
        folder = Path(settings.signal_folder)

        folder.rename(folder.parent / "away")
        folder.mkdir()
        folder.chmod(0o755)
        looks = [listener.changed() for _ in range(200)]
        folder.chmod(0o700)
        mended = hears(listener)
        attend(listener)
        tell(store, ringer)

        assert looks.count(True) == 1
        assert mended
        assert hears(listener)
        assert caplog.text.count("signal.broken") == 1

    def test_the_bell_is_no_request_and_what_is_moved_there_may_be_one(self, opened, settings):
        listener, ringer = opened(), opened()
        attend(listener)
        first, then = listener.appeared(), listener.appeared()

        ringer.ring("a")
        hears(listener)
        rung = listener.appeared()
        new = Path(settings.signal_folder) / ".new"
        new.write_text("")
        new.rename(new.with_name("request.json"))
        hears(listener)

        assert (first, then, rung, listener.appeared()) == (True, False, False, True)

    def test_where_the_kernel_has_no_watch_to_give_it_is_asked(self, opened, store, monkeypatch):
        def none_left(path):
            raise OSError(24, "no inotify instance")

        monkeypatch.setattr("ebbtide.jobs.signals.file.FolderWatch", none_left)
        listener, ringer = opened(), opened()
        attend(listener)

        for _ in range(3):
            assert listener.descriptor is None
            until("what is rung is heard", lambda: tell(store, ringer) or listener.changed())
            attend(listener)

    def test_a_bell_that_is_a_link_or_a_pipe_is_not_rung_and_that_is_logged_once(
        self, opened, settings, tmp_path, caplog
    ):
        ringer = opened()
        victim = tmp_path / "victim"
        victim.write_text("precious")
        bell = Path(settings.signal_folder) / ".bell"
        bell.symlink_to(victim)
        ringer.ring("a")
        bell.unlink()
        os.mkfifo(bell)
        ringer.ring("a")

        assert victim.read_text() == "precious"
        assert caplog.text.count("signal.broken") == 1


# Which one it is.


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("postgresql", "signal postgresql wants a database on PostgreSQL"),
        ("file", "signal file wants a folder: set signal_folder"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(store, settings, name, told):
    with pytest.raises(ConfigError) as caught:
        open_signal(store, Settings(database=settings.database, signal=name))

    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "url", ["http://:sesame@cache/0", "redis://:sesame/street@cache/0", "redis://h:sesame/0"]
)
def test_an_address_that_is_none_is_refused_without_its_password(store, settings, url):
    wrong = Settings(database=settings.database, signal="redis", redis_url=url)

    with pytest.raises(ConfigError, match=r"^redis_url cannot be used: ") as caught:
        open_signal(store, wrong)

    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_sqlite_does_not_fit_postgresql(store, settings):
    with pytest.raises(ConfigError, match=r"^signal sqlite wants a database on SQLite"):
        open_signal(store, Settings(**(vars(settings) | {"signal": "sqlite"})))
