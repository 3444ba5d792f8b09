"""The signal `zookeeper`, of which a watch fires once: it rings first, and sets the next watch after that."""

import contextlib
import uuid

import pytest

from ebbtide.jobs.ensemble import Ensemble
from ebbtide.jobs.signals.zookeeper import ZookeeperLink, ZookeeperSignal

pytestmark = pytest.mark.sqlite_only("nothing of these asks for a store")

LONG = 30.0


@pytest.fixture
def links(zookeeper):
    """Of one that listens and one that rings."""
    ensemble = Ensemble(zookeeper.hosts, f"/{uuid.uuid4().hex}")
    listens = ZookeeperLink(ensemble)
    with contextlib.closing(listens), contextlib.closing(ZookeeperLink(ensemble)) as rings:
        listens.listen()
        yield listens, rings


def test_what_is_rung_is_heard_once(links):
    listens, rings = links

    for _ in range(3):
        rings.ring(["a"])

        assert listens.heard(LONG)
        assert not listens.heard(0.0)


def test_what_is_rung_before_the_next_watch_is_set_is_heard(links):
    listens, rings = links
    rings.ring(["a"])
    assert listens.heard(LONG)

    rings.ring(["b"])  # nobody watches now

    assert listens.heard(0.0)
    assert not listens.heard(0.0)


def test_what_is_to_be_stored_next_is_told_ahead(zookeeper):
    """By then the database has stored it, as a rule: each flushes to its disk, at the same time."""
    ensemble = Ensemble(zookeeper.hosts, f"/{uuid.uuid4().hex}")
    listens, signal = ZookeeperLink(ensemble), ZookeeperSignal(ensemble)
    with contextlib.closing(listens), contextlib.closing(signal):
        listens.listen()

        signal.ring_ahead("a")

        assert listens.heard(LONG)


def test_what_has_rung_is_told_without_another_question_to_the_server(links, monkeypatch):
    listens, rings = links
    rings.ring(["a"])

    def refuses(*_, **__):
        raise AssertionError("asked before it was told")

    with monkeypatch.context() as patched:
        patched.setattr(listens._session.client, "get_async", refuses)
        assert listens.heard(LONG)

    rings.ring(["b"])
    assert listens.heard(LONG)
