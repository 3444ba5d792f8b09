"""Real conductors that are told of a cancel by each signal, and what becomes of it when that is lost.

Each signal is on the store that it wants; those that want none are on SQLite. Promises: P3, P10.
"""

import os
import shutil
import signal
import subprocess
import sys
import uuid

import pytest

from ebbtide.config import Settings
from ebbtide.jobs import Poster, clock
from ebbtide.jobs.requests import Requests
from ebbtide.jobs.signals import open_signal
from ebbtide.jobs.store import Store

# A conductor that would not look by itself before the test is over.
NEVER = 3600.0

pytestmark = pytest.mark.sqlite_only("each signal is on the store that it wants; see `store_kind` below")


@pytest.fixture(params=["sqlite", "postgresql", "redis", "zookeeper", "file"])
def kind(request):
    """The signal that this test is about."""
    return request.param


@pytest.fixture
def store_kind(kind):
    return "postgresql" if kind == "postgresql" else "sqlite"


@pytest.fixture
def options(kind, signal_options):
    return signal_options(kind)


@pytest.fixture
def poster(stage, flows, options):
    """A client with the same signal as the conductors."""
    settings = Settings(database=stage.database, **options)
    with Poster(registry=flows.registry, settings=settings) as opened:
        stage.poster.close()
        stage.poster = opened
        yield opened


def only(kind):
    return pytest.mark.parametrize("kind", [kind], indirect=True)


def test_post_and_cancel_arrive_by_the_signal_alone(stage, poster, options):
    conductor = stage.conductor(sweep_seconds=NEVER, **options)

    job = stage.post("a", "b:wait")
    stage.await_effect(job, "waiting", "b")
    poster.cancel(job.id, "enough")
    ended = stage.ended(job)

    with stage.explained(job):
        assert (ended.state, ended.undo) == ("cancelled", "complete")
        assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    assert conductor.end() == 0


def test_a_hint_at_jobs_that_nobody_knows_does_no_harm(stage, poster, options):
    conductor = stage.conductor(sweep_seconds=NEVER, **options)
    with Store(stage.database) as store:
        ringer = open_signal(store, Settings(database=stage.database, **options))
        for word in ("", "nothing", str(uuid.uuid4()), "\N{SNOWMAN}" * 100):
            ringer.ring(word)
        ringer.close()

    job = stage.post("a")

    assert stage.ended(job).state == "completed"
    assert conductor.end() == 0


@only("redis")
def test_a_cancel_arrives_although_redis_is_gone(stage, poster, options, redis):
    _lose_and_cancel(stage, poster, options, lambda: redis.stop("immediate"), redis.start)


@only("redis")
def test_a_cancel_arrives_although_redis_stands_still(stage, poster, options, redis):
    _lose_and_cancel(stage, poster, options, redis.stand_still, redis.go_on)


@only("zookeeper")
def test_a_cancel_arrives_although_zookeeper_is_gone(stage, poster, options, zookeeper):
    _lose_and_cancel(stage, poster, options, zookeeper.kill, zookeeper.start)


@only("zookeeper")
def test_a_cancel_arrives_although_zookeeper_stands_still(stage, poster, options, zookeeper):
    _lose_and_cancel(stage, poster, options, zookeeper.stand_still, zookeeper.go_on)


@only("file")
def test_a_cancel_arrives_although_the_folder_is_gone(stage, poster, options):
    folder = options["signal_folder"]
    _lose_and_cancel(stage, poster, options, lambda: shutil.rmtree(folder), lambda: None)


def _lose_and_cancel(stage, poster, options, lose, mend):
    """Nothing is lost, and the conductor lives: before, while the signal is away, and afterwards."""
    conductor = stage.conductor(runners=2, **options)
    running = stage.post("a", "b:wait")
    stage.await_effect(running, "waiting", "b")

    lose()
    answer = poster.cancel(running.id, "enough")
    posted = stage.post("a")
    ended = [stage.ended(running), stage.ended(posted)]
    mend()
    later = stage.post("a", "b:wait")
    stage.await_effect(later, "waiting", "b")
    poster.cancel(later.id, "enough")
    ended.append(stage.ended(later))

    assert answer.answer == "accepted"
    assert [job.state for job in ended] == ["cancelled", "completed", "cancelled"]
    for job in ended:
        stage.assert_history_replays(job)
    assert not conductor.ended
    assert conductor.end() == 0
    assert conductor.log.count("signal.broken") <= 1


@only("sqlite")
def test_with_every_signal_lost_the_sweep_finds_posts_and_cancels(stage, flows):
    """`local` is heard by no other process: nothing carries anything."""
    settings = Settings(database=stage.database, signal="local")
    stage.conductor(signal="local")

    with Poster(registry=flows.registry, settings=settings) as poster:
        job = stage.post("a", "b:wait")
        stage.await_effect(job, "waiting", "b")
        poster.cancel(job.id, "enough")

    assert stage.ended(job).state == "cancelled"


@only("file")
def test_a_conductor_that_begins_anew_goes_on_although_the_folder_is_refused_by_then(
    stage, poster, options, ask
):
    conductor = stage.conductor(runners=1, lease=(0.5, 3.0, 6.0), **options)
    folder = options["signal_folder"]

    os.chmod(folder, 0o755)
    stopped = conductor.stop_tree()
    ((until,),) = ask("SELECT lease_until FROM conductors")
    stage.wait_until(lambda: clock.boot_seconds() > until, "the end of the lease")
    stage.go_on(*stopped)
    stage.wait_until(lambda: conductor.log.count("conductor.ready") == 2, "the conductor to begin anew")
    job = stage.post("a")
    ended = stage.ended(job)
    os.chmod(folder, 0o700)
    waiting = stage.post("a", "b:wait")
    stage.await_effect(waiting, "waiting", "b")
    ask_by_shell(options, waiting)

    assert ended.state == "completed"
    assert stage.ended(waiting).state == "cancelled"
    assert conductor.end() == 0


# Requests that other programs write.

SHELL = """
umask 077
file=$(mktemp "$FOLDER/.request.XXXXXX")
printf '{"status": "pending", "reason": "%s"}' "$REASON" > "$file"
mv "$file" "$FOLDER/$JOB.json"
"""


def ask_by_shell(options, job, reason="from a shell"):
    told = {"FOLDER": options["signal_folder"], "JOB": job.id, "REASON": reason}
    subprocess.run(["sh", "-ec", SHELL], env=os.environ | told, check=True)


@only("file")
def test_a_shell_cancels_a_job_that_runs(stage, poster, options):
    stage.conductor(sweep_seconds=NEVER, **options)
    job = stage.post("a", "b:wait")
    stage.await_effect(job, "waiting", "b")

    ask_by_shell(options, job)

    ended = stage.ended(job)
    with stage.explained(job):
        assert (ended.state, ended.undo) == ("cancelled", "complete")
        assert (ended.cancel.reason, ended.cancel.source) == ("from a shell", "file")
    assert Requests(options["signal_folder"]).check(job.id).answer == "accepted"


@only("file")
def test_a_request_from_while_no_conductor_ran_is_recorded_by_the_next_one(stage, poster, options):
    job = stage.post("a")
    asked = Requests(options["signal_folder"]).request(job.id, "before anybody came", who="ann")

    stage.conductor(sweep_seconds=NEVER, **options)

    ended = stage.ended(job)
    assert asked.status == "pending"
    assert (ended.state, ended.undo) == ("cancelled", "none")
    assert (ended.cancel.reason, ended.cancel.who) == ("before anybody came", "ann")
    assert stage.told(job, "begin") == []


@only("file")
def test_whichever_conductor_finds_a_request_the_one_that_runs_the_job_is_told(stage, poster, options):
    for _ in range(2):
        stage.conductor(runners=3, sweep_seconds=NEVER, **options)
    jobs = [stage.post("a", "b:wait") for _ in range(6)]
    for job in jobs:
        stage.await_effect(job, "waiting", "b")

    for job in jobs:
        ask_by_shell(options, job)

    for job in jobs:
        assert stage.ended(job).state == "cancelled"
    assert len({stage.entries(job, "claimed")[0].actor for job in jobs}) == 2


@only("file")
def test_requests_are_not_lost_when_the_conductor_that_reads_them_is_killed(stage, poster, options):
    jobs = [stage.post("a") for _ in range(30)]
    first = stage.conductor(runners=1, **options)
    Requests(options["signal_folder"]).request_many([job.id for job in jobs], "enough")
    first.kill(signal.SIGKILL)
    first.wait()

    stage.conductor(runners=1, **options)

    requests = Requests(options["signal_folder"])
    # What the first one held when it died comes back half a minute later, and is no concern of this test.
    stage.wait_until(
        lambda: sum(requests.check(job.id).status == "pending" for job in jobs) <= 1, "the answers"
    )
    for job in jobs:
        ended = stage.ended(job)
        stage.assert_history_replays(ended)
        if requests.check(job.id).answer == "accepted":
            assert ended.state == "cancelled"


# What cannot be used.


def refusal(stage, program, **options):
    """What a conductor says that does not start."""
    ran = subprocess.run(
        [sys.executable, "-c", program, "conductor"],
        env=stage.environment(**options),
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return ran.returncode, ran.stderr


MAIN = "from ebbtide.__main__ import main; main()"


@only("sqlite")
def test_a_signal_that_does_not_fit_ends_the_conductor_with_one_line(stage):
    code, told = refusal(stage, MAIN, signal="postgresql")

    assert code == 2
    assert told.strip().splitlines() == [
        "ebbtide: signal postgresql wants a database on PostgreSQL; auto, redis, zookeeper, file and local "
        "fit this one"
    ]


@only("sqlite")
def test_a_folder_that_is_not_ours_ends_the_conductor_with_one_line(stage, tmp_path):
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)

    code, told = refusal(stage, MAIN, signal="file", signal_folder=tmp_path / "open")

    assert code == 2
    assert told.strip().splitlines() == [
        f"ebbtide: folder {tmp_path}/open is refused: others may use it; chmod 700 {tmp_path}/open"
    ]


@only("sqlite")
@pytest.mark.parametrize("option", ["signal", "board"])
def test_without_its_package_redis_is_refused_with_one_line(stage, option):
    code, told = refusal(stage, f"import sys; sys.modules['redis'] = None; {MAIN}", **{option: "redis"})

    assert code == 2
    assert told.strip().splitlines() == [
        'ebbtide: Redis wants the package redis, which is not here: pip install "ebbtide[redis]"'
    ]
