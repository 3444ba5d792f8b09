"""The signal of each store: whoever listens is told of what others commit, also after it was broken."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ebbtide.jobs.signals import Signal, open_signal

PATIENCE_SECONDS = 30.0


@pytest.fixture
def signal(store) -> Iterator[Signal]:
    opened = open_signal(store)
    yield opened
    opened.close()


@pytest.fixture
def listens(signal, store_kind) -> Callable[[], None]:
    """Returns once the signal listens and has said all that there was to say until then."""

    def wait() -> None:
        until(lambda: store_kind == "sqlite" or signal.descriptor is not None, signal)
        while signal.changed():
            pass

    return wait


def until(happened: Callable[[], bool], signal: Signal) -> None:
    """Ask the signal until `happened`, as a conductor does."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < give_up, "in vain"
        signal.changed()
        threading.Event().wait(0.002)


def rings(signal: Signal) -> bool:
    """Whether it says "look" before patience is over, and then is quiet."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not signal.changed():
        if time.monotonic() > give_up:
            return False
        signal.pause(0.05)
    return not signal.changed()


def test_the_first_look_says_changed(signal):
    assert signal.changed()


def test_every_post_and_every_cancel_is_heard(board, signal, listens):
    listens()

    heard = []
    for _ in range(5):
        job = board.post()
        heard.append(rings(signal))
        board.ledger.cancel(job, reason="enough", who="ann")
        heard.append(rings(signal))

    assert heard == [True] * 10


@pytest.mark.postgresql_only("a signal that can be waited for is a connection")
def test_what_is_committed_can_be_waited_for(board, signal, listens):
    listens()

    waiter = threading.Thread(target=signal.pause, args=[PATIENCE_SECONDS])
    waiter.start()
    board.post()
    waiter.join(PATIENCE_SECONDS / 2)

    assert not waiter.is_alive()
    assert signal.changed()


@pytest.mark.postgresql_only("the server ends its connections")
def test_a_signal_that_was_cut_off_says_look_and_listens_again(board, signal, listens, postgresql, made):
    listens()

    postgresql.terminate_backends(made)
    cut_off = rings(signal)
    listens()
    board.post()

    assert cut_off
    assert rings(signal)


@pytest.mark.postgresql_only("a server that can be away")
def test_a_signal_without_a_server_says_nothing_that_it_does_not_know(signal, listens, postgresql):
    listens()

    postgresql.stop()
    try:
        until(lambda: signal.descriptor is None, signal)
    finally:
        postgresql.start()
    listens()

    assert signal.descriptor is not None
