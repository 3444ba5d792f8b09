"""Conductors on hosts of their own, PostgreSQL and ZooKeeper elsewhere, and wires that are pulled out.

Promises: P3, P5, P8, P9 (a conductor's runners are dead before the takeover), P10.
"""

import pytest

from ebbtide.config import Settings
from ebbtide.jobs import Poster

pytestmark = pytest.mark.postgresql_only("nothing lies between a program and its file")

# Renew, self-fence and lease seconds of whoever is cut off.
SHORT_LEASE = (0.5, 3.0, 6.0)


class Site:
    """A conductor for each of two hosts, and a client that nobody cuts off."""

    def __init__(self, stage, network, postgresql, zookeeper, path):
        self.network = network
        self._stage = stage
        self.options = {"signal": "zookeeper", "board": "zookeeper"}
        self.options |= {"zookeeper_hosts": zookeeper.hosts, "zookeeper_path": path}
        self._database = postgresql.url(stage.database, network.store.address)

    def conductor(self, number, **options):
        inside = self.network.inside(self.network.hosts[number])
        options = self.options | {"database": self._database, "runners": 1} | options
        return self._stage.conductor(inside=inside, **options)


@pytest.fixture
def site(stage, flows, network, postgresql, network_zookeeper, zookeeper_path):
    opened = Site(stage, network, postgresql, network_zookeeper, zookeeper_path)
    with Poster(registry=flows.registry, settings=Settings(stage.database, **opened.options)) as poster:
        stage.poster.close()
        stage.poster = poster
        yield opened


def test_a_host_that_is_cut_off_runs_nothing_by_the_time_another_takes_over(site, stage):
    first = site.conductor(0, lease=SHORT_LEASE)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    runners = first.runners

    for segment in site.network.segments:
        segment.pull(site.network.hosts[0])
    second = site.conductor(1)
    again = stage.await_effect(job, "begin", "b", 2)

    assert (again["epoch"], stage.alive(runners)) == (2, [])
    stage.open("b")
    assert stage.ended(job).state == "completed"
    assert second.end() == 0
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    # Once the wires are back it serves again, all alone.
    site.network.heal()
    assert stage.ended(stage.post("x")).state == "completed"
    assert first.end() == 0


def test_a_cancel_of_what_runs_on_a_host_that_is_cut_off_is_carried_out_by_another(site, stage):
    first = site.conductor(0, lease=SHORT_LEASE)
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")

    site.network.store.pull(site.network.hosts[0])
    answer = stage.poster.cancel(job.id, "enough")
    site.conductor(1)
    ended = stage.ended(job)

    with stage.explained(job):
        assert answer.answer == "accepted"
        assert (ended.state, ended.undo) == ("cancelled", "complete")
        assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
        stage.assert_history_replays(ended)
    site.network.heal()
    assert first.end() == 0


def test_cut_off_from_zookeeper_alone_a_conductor_hears_of_cancels_by_the_ledger(site, stage):
    """No notification arrives, and no lease is lost: what it runs goes on, and its sweep finds the rest."""
    conductor = site.conductor(0)
    running = stage.post("a", "b:wait")
    stage.await_effect(running, "waiting", "b")

    site.network.coordinators.pull(site.network.hosts[0])
    stage.poster.cancel(running.id, "enough")
    posted = stage.post("a", "b")

    assert stage.ended(running).state == "cancelled"
    assert stage.ended(posted).state == "completed"
    assert stage.names(running).count("claimed") == 1
    assert "reclaimed" not in stage.names(running)
    site.network.heal()
    assert conductor.end() == 0


def test_a_wire_that_is_back_within_the_lease_costs_no_job_anything(site, stage):
    conductor = site.conductor(0, runners=2)
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")

    site.network.store.pull(site.network.hosts[0])
    site.network.store.plug(site.network.hosts[0])
    stage.open("b")

    assert stage.ended(job).state == "completed"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin c"]
    assert conductor.end() == 0
