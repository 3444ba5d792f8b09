"""A conductor is silent beyond its lease. Others may take its jobs; it begins and stores nothing more.

Promises: P8 (a stale holder stores nothing and begins nothing), P9 (its runners are dead in time), P10.
"""

import os
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor import Conductor
from ebbtide.config import Settings
from ebbtide.errors import ConfigError, EbbtideError, StoreUnavailable
from ebbtide.jobs import clock
from ebbtide.jobs.claims import Claims

# Renew, self-fence and lease seconds of whoever falls silent.
SHORT_LEASE = (0.5, 3.0, 6.0)


@pytest.fixture
def served_again(stage):
    """Checks that a conductor that was silent goes on, all alone, under another owner id."""

    def check(conductor, old_owner):
        stage.wait_until(lambda: conductor.log.count("conductor.ready") == 2, "the conductor to begin anew")
        job = stage.post("x", "y")
        assert stage.ended(job).state == "completed"
        owner = stage.entries(job, "claimed")[0].actor
        assert owner != old_owner
        assert owner.split(":")[1] == str(conductor.pid)
        assert conductor.end() == 0

    return check


def test_the_runners_of_a_stopped_conductor_are_dead_before_another_one_takes_its_job_over(
    stage, served_again
):
    first = stage.conductor(runners=1, lease=SHORT_LEASE)
    job = stage.post("a", "b:spawn", "c")
    stage.await_effect(job, "spawned", "b")
    owner = stage.poster.show(job.id).owner
    runners = first.runners

    first.stop()
    second = stage.conductor()
    again = stage.await_effect(job, "begin", "b", 2)

    assert (again["epoch"], again["living"], stage.alive(runners)) == (2, [], [])
    stage.open("b")
    assert stage.ended(job).state == "completed"
    assert second.end() == 0
    stage.go_on(first.pid)
    served_again(first, owner)
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    assert stage.names(job) == ["posted", "claimed", "reclaimed", "completed"]


def test_what_wakes_up_after_another_one_took_over_begins_and_stores_nothing_more(stage, ask, served_again):
    first = stage.conductor(runners=1, lease=SHORT_LEASE)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    owner = stage.poster.show(job.id).owner
    parent, keeper, runner = first.stop_tree()
    second = stage.conductor()
    stage.await_effect(job, "waiting", "b", 2)
    before = ask("SELECT epoch, write, entries, tasks_done FROM jobs"), ask("SELECT * FROM job_tasks")

    # The body that was stopped half-way comes to its end: nobody can call that back. Then the fence holds.
    stage.open("b-1")
    stage.go_on(runner)
    stage.await_effect(job, "end", "b")
    stage.wait_until(lambda: len(os.listdir(f"/proc/{runner}/task")) == 1, "the stale run to be over")

    after = ask("SELECT epoch, write, entries, tasks_done FROM jobs"), ask("SELECT * FROM job_tasks")
    assert (before, stage.effects(job, "begin", task="c")) == (after, [])
    stage.open("b")
    assert stage.ended(job).state == "completed"
    assert second.end() == 0
    stage.go_on(keeper, parent)
    served_again(first, owner)
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    assert [line["epoch"] for line in stage.effects(job, "end")] == [1, 1, 2, 2]
    assert stage.names(job) == ["posted", "claimed", "reclaimed", "completed"]


def test_a_conductor_that_wakes_up_and_finds_its_job_untouched_takes_it_up_itself(
    stage, ask, served_again, store_kind
):
    conductor = stage.conductor(runners=1, lease=SHORT_LEASE)
    job = stage.post("a", "b:wait", "c")
    stage.await_effect(job, "waiting", "b")
    owner = stage.poster.show(job.id).owner

    stopped = conductor.stop_tree()
    ((until,),) = ask("SELECT lease_until FROM conductors")
    now = clock.boot_seconds if store_kind == "sqlite" else clock.wall  # that of the server is this machine's
    stage.wait_until(lambda: now() > until, "the end of the lease")
    stage.go_on(*stopped)
    stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")

    assert stage.ended(job).state == "completed"
    assert stage.names(job) == ["posted", "claimed", "reclaimed", "completed"]
    served_again(conductor, owner)


@pytest.mark.sqlite_only("a server has no lock that is on all of it")
def test_a_conductor_that_cannot_renew_ends_its_runs_while_the_store_is_still_away(stage, ask, served_again):
    conductor = stage.conductor(runners=1, lease=SHORT_LEASE)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    owner = stage.poster.show(job.id).owner
    runners = conductor.runners

    ask("BEGIN IMMEDIATE")
    stage.await_end_of(runners)
    ask("ROLLBACK")
    stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")

    assert stage.ended(job).state == "completed"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    served_again(conductor, owner)


def test_a_conductor_whose_store_takes_its_lease_along_is_back_when_the_store_is(stage, flows, monkeypatch):
    settings = Settings(
        stage.database, isolation="thread", lease_seconds=60, self_fence_seconds=40, renew_seconds=0.05
    )
    register, renew = Claims.register, Claims.renew
    registered = []
    answers = iter([False])

    def register_or_fail(claims, **about):
        registered.append(claims.owner)
        if len(registered) in (2, 3):
            raise StoreUnavailable("database is away")
        register(claims, **about)

    monkeypatch.setattr(Claims, "register", register_or_fail)
    monkeypatch.setattr(Claims, "renew", lambda claims: next(answers, True) and renew(claims))
    conductor = Conductor(settings, registry=flows.registry)

    conductor.start()
    stage.wait_until(lambda: len(registered) == 4, "the store to be away and back")
    job = stage.ended(stage.post("a"))
    conductor.stop()
    conductor.wait()

    assert job.state == "completed"
    assert registered[0] != registered[1] == registered[3]


@pytest.mark.altered_by_hand("an epoch is raised without a claim")
@pytest.mark.parametrize("action", ["wait", "deaf"])
def test_a_body_leaves_a_run_that_has_lost_its_job_or_is_ended_and_its_conductor_goes_on(stage, ask, action):
    conductor = stage.conductor(runners=1, grace_seconds=0.1, kill_after_seconds=0.1)
    job = stage.post("a:wait", f"b:{action}", order="unordered")
    stage.await_effect(job, "waiting", "a")
    runner = stage.await_effect(job, "waiting", "b")["pid"]

    # As if it had been taken away and left: nobody but this conductor may take it up again.
    ask("UPDATE jobs SET epoch = epoch + 1, write = write + 1")
    stage.open("a")
    again = stage.await_effect(job, "waiting", "b", 2)

    # Heard at its checkpoint, the runner lives. Deaf to it the body was ended with its runner, before.
    assert (again["pid"] == runner, stage.alive([runner]) == [runner]) == (action == "wait",) * 2
    stage.open("b")
    assert stage.ended(job).state == "completed"
    assert stage.names(job) == ["posted", "claimed", "reclaimed", "completed"]
    assert conductor.end() == 0


@pytest.fixture
def lost_once(stage, flows, monkeypatch):
    """Starts a conductor that loses its lease once; takes what becomes of its runners then."""
    settings = Settings(
        stage.database, isolation="thread", lease_seconds=60, self_fence_seconds=40, renew_seconds=0.05
    )
    renew, runners = Claims.renew, Conductor._runners
    answers = iter([False])
    monkeypatch.setattr(Claims, "renew", lambda claims: next(answers, True) and renew(claims))

    def start(*outcomes):
        coming = iter([None, *outcomes])

        def start_or_fail(conductor, *args):
            error = next(coming, None)
            if error is not None:
                raise error
            return runners(conductor, *args)

        monkeypatch.setattr(Conductor, "_runners", start_or_fail)
        conductor = Conductor(settings, registry=flows.registry)
        conductor.start()
        return conductor

    return start


def test_a_conductor_whose_runners_are_killed_while_it_begins_anew_starts_them_again(stage, lost_once):
    conductor = lost_once(EbbtideError("a runner ended at once"), EbbtideError("and another"))

    job = stage.ended(stage.post("a"))
    conductor.stop()
    conductor.wait()

    assert job.state == "completed"


def test_a_conductor_whose_flows_cannot_be_imported_any_more_ends_and_says_so(lost_once):
    conductor = lost_once(ConfigError("flow module gone"))

    with pytest.raises(ConfigError, match="flow module gone"):
        conductor.wait()
