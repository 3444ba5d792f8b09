"""A conductor is cut off from its store beyond its lease, while others are not. It begins nothing more.

Promises: P8, P9 (its runners are dead before the takeover), P10.
"""

import pytest

from tests.services.proxy import Pass, Stall

pytestmark = pytest.mark.postgresql_only("nothing lies between a program and its file")

# Renew, self-fence and lease seconds of whoever is cut off.
SHORT_LEASE = (0.5, 3.0, 6.0)


def nothing_is_answered(proxy):
    proxy.set(Stall("to_client"))


def nothing_passes(proxy):
    proxy.set(Stall())


def all_is_refused(proxy):
    proxy.refuse()
    proxy.cut()


@pytest.mark.parametrize("cut_off", [nothing_is_answered, nothing_passes, all_is_refused])
def test_the_runners_of_a_conductor_that_is_cut_off_are_dead_before_the_takeover(
    stage, postgresql, proxy_to, cut_off
):
    proxy = proxy_to(postgresql.port)
    first = stage.conductor(runners=1, lease=SHORT_LEASE, database=proxy.url(stage.database))
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    runners = first.runners

    cut_off(proxy)
    second = stage.conductor()
    again = stage.await_effect(job, "begin", "b", 2)

    assert (again["epoch"], stage.alive(runners)) == (2, [])
    stage.open("b")
    assert stage.ended(job).state == "completed"
    assert second.end() == 0
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    assert stage.names(job) == ["posted", "claimed", "reclaimed", "completed"]
    # Once it is reached again it serves again, all alone.
    proxy.set(Pass())
    proxy.accept()
    assert stage.ended(stage.post("x")).state == "completed"
    assert first.end() == 0
