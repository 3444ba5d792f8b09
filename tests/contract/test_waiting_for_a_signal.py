"""Whoever waits for a change on PostgreSQL is woken by the commit of it, and need not ask."""

import threading
import time
from collections.abc import Iterator

import pytest

from ebbtide.jobs.signals import Signal, own_signal

PATIENCE_SECONDS = 30.0

pytestmark = pytest.mark.postgresql_only("what can be waited for is a connection")


@pytest.fixture
def signal(store) -> Iterator[Signal]:
    """A signal that listens, and has said all that there was to say."""
    opened = own_signal(store)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while opened.changed() or opened.descriptor is None:
        assert time.monotonic() < give_up, "it does not listen"
        opened.pause(0.01)
    yield opened
    opened.close()


@pytest.mark.parametrize("change", ["post", "cancel"])
def test_a_commit_ends_the_wait(board, signal, change):
    job = board.post() if change == "cancel" else None
    while job is not None and not signal.changed():
        pass
    waiter = threading.Thread(target=signal.pause, args=[2 * PATIENCE_SECONDS])
    waiter.start()

    if job is None:
        board.post()
    else:
        board.ledger.cancel(job, reason="enough", who="ann")

    waiter.join(PATIENCE_SECONDS)
    assert not waiter.is_alive()
    assert signal.changed()
