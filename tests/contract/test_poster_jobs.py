"""Finding, listing, waiting for and following jobs through the client, from several threads and processes."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from taskflow.patterns import linear_flow

from ebbtide.errors import (
    AmbiguousJob,
    ConfigError,
    EdgeRefused,
    JobNotFound,
    NotADatabase,
    TooLate,
    UsageError,
)
from ebbtide.flows import Registry
from ebbtide.jobs import Poster
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.states import PHASES, JobState
from ebbtide.jobs.store import Store
from ebbtide.tasks import task

LONG = 30.0
# Of a job that `move` moves, or another process.
MOVED = pytest.mark.bare_edges("how a job comes to where it is does not matter here")

OTHER = """
import sys
from ebbtide.jobs import Poster

with Poster(sys.argv[1]) as poster:
    for line in sys.stdin:
        verb, *words = line.split()
        match verb:
            case "cancel":
                answer = poster.cancel(words[0], reason=words[1])
                print(answer.answer, answer.job.cancel.reason, flush=True)
            case "wait":
                print("waiting", flush=True)
                print(poster.wait(words[0], timeout=30.0).state, flush=True)
            case "list":
                print(*sorted(job.id for job in poster.list()), flush=True)
"""


@task
def copy(): ...


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.flow("copy")(lambda: linear_flow.Flow("copy").add(copy()))
    return registry


@pytest.fixture
def poster(made: str, registry: Registry) -> Iterator[Poster]:
    with Poster(made, registry=registry) as opened:
        yield opened


@pytest.fixture
def move(made: str) -> Iterator[Callable[..., None]]:
    """Move a job along edges, by a connection that the poster knows nothing of."""
    with Store(made) as other:

        def apply(job: str, *names: str) -> None:
            for name in names:
                with other.write() as connection:
                    apply_edge(connection, name, job, at=1.0)

        yield apply


# -- ids


VERBS: dict[str, Callable[[Poster, str], Any]] = {
    "show": lambda poster, job: poster.show(job),
    "cancel": lambda poster, job: poster.cancel(job),
    "retry": lambda poster, job: poster.retry(job),
    "unpark": lambda poster, job: poster.unpark(job),
    "accept": lambda poster, job: poster.accept(job, "it is fine"),
    "delete": lambda poster, job: poster.delete(job),
    "tasks": lambda poster, job: poster.tasks(job),
    "entries": lambda poster, job: poster.entries(job),
    "logs": lambda poster, job: poster.logs(job),
    "result": lambda poster, job: poster.result(job),
    "wait": lambda poster, job: poster.wait(job, timeout=0),
    "follow": lambda poster, job: list(poster.follow(job, timeout=0)),
}
NO_IDS = [
    "",
    "../../etc/passwd",
    "' OR '1'='1",
    "%",
    "_",
    "*",
    "1; DROP TABLE jobs",
    "\0",
    "\ud800",
    "é",
    "f" * 10**6,
]


@pytest.mark.parametrize("text", NO_IDS, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("verb", VERBS)
def test_whatever_is_no_id_of_a_job_is_not_found_and_harms_none(poster, verb, text):
    job = poster.post("copy")

    with pytest.raises(JobNotFound) as caught:
        VERBS[verb](poster, text)

    assert str(caught.value).isprintable()
    assert poster.list() == [job]


@pytest.mark.parametrize("verb", VERBS)
def test_a_prefix_of_two_jobs_is_refused_by_every_verb(board, poster, verb):
    jobs = [board.put(JobState.COMPLETED, id=f"12345678-0000-4000-8000-00000000000{digit}") for digit in "01"]

    with pytest.raises(AmbiguousJob) as caught:
        VERBS[verb](poster, "1234")

    assert caught.value.matches == jobs


ANY_STATE = set(VERBS) - {"wait", "follow", "retry", "unpark", "accept", "result"}


@pytest.mark.parametrize("verb", sorted(ANY_STATE))
def test_a_unique_prefix_will_do_for_every_verb(poster, verb):
    job = poster.post("copy")

    VERBS[verb](poster, job.id[:13].upper())


# -- listing


def test_the_newest_job_comes_first_and_a_limit_cuts_the_rest(board, poster):
    jobs = [board.put(JobState.PENDING, created_at=float(number)) for number in (3, 1, 2)]

    assert [job.id for job in poster.list()] == [jobs[0], jobs[2], jobs[1]]
    assert [job.id for job in poster.list(limit=2)] == [jobs[0], jobs[2]]


@pytest.mark.parametrize(
    "word", ["", "Running", "done", "cancelling ", "%", "\x1b[31m", "x" * 10**6], ids=lambda w: ascii(w[:9])
)
def test_an_unknown_state_is_refused_and_the_words_are_named(poster, word):
    with pytest.raises(UsageError) as caught:
        poster.list(state=word)

    assert str(caught.value).isprintable()
    assert all(phase in str(caught.value) for phase in PHASES)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("limit", [0, -1, 100_001, 1.5, True, "7", None], ids=repr)
def test_a_limit_is_a_whole_number_within_limits(poster, limit):
    job = poster.post("copy")

    for call in (lambda: poster.list(limit=limit), lambda: poster.logs(job.id, limit=limit)):
        with pytest.raises(UsageError, match="the limit should be a whole number of 1 to 100000"):
            call()


@pytest.mark.parametrize(
    "flow", ["", "absent", "%", "' OR '1'='1", "\0", "\ud800", "x" * 10**6], ids=lambda f: ascii(f[:9])
)
def test_of_an_unknown_flow_there_are_no_jobs(poster, flow):
    poster.post("copy")

    assert poster.list(flow=flow) == []


# -- refusals that a person has to be told


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED])
def test_a_cancel_that_comes_too_late_names_the_outcome(board, poster, state):
    job = board.put(state)

    with pytest.raises(TooLate, match=f"is already {state}: too late to cancel it"):
        poster.cancel(job)


def test_a_job_at_work_is_neither_retried_unparked_nor_accepted_and_has_no_result(board, poster):
    job = board.put(JobState.RUNNING)

    words = {"retry": "be retried: it", "unpark": "be unparked: it", "accept": "be accepted as it is: it"}
    for verb, word in (words | {"result": "has no result: it"}).items():
        with pytest.raises(EdgeRefused, match=f"{word} is running"):
            VERBS[verb](poster, job)


def test_a_deleted_job_is_not_found_any_more(poster):
    job, other = poster.post("copy"), poster.post("copy")

    poster.delete(job.id)

    assert poster.list() == [other]
    with pytest.raises(JobNotFound):
        poster.show(job.id)


@pytest.mark.parametrize("url", ["sqlite://", ":memory:", "mysql://x/y", "postgresql+asyncpg://x/y"])
def test_a_database_of_another_kind_is_refused(url):
    with pytest.raises(ConfigError):
        Poster(url)


def test_a_text_file_is_no_database(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n" * 100)

    with pytest.raises(NotADatabase):
        Poster(str(path))

    assert path.read_text().startswith("remember the milk")


# -- waiting


@pytest.mark.parametrize(
    "state", sorted({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.PARKED})
)
def test_a_wait_for_a_job_at_rest_is_over_at_once(board, poster, state):
    job = board.put(state)

    assert poster.wait(job, timeout=0).state == state


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
@pytest.mark.parametrize("state", sorted({JobState.PENDING, JobState.RUNNING, JobState.PAUSED}))
def test_a_wait_for_any_other_ends_with_its_time_and_says_what_the_job_does(board, poster, state, timeout):
    job = board.put(state, cancel_requested_at=1.0)

    with pytest.raises(TimeoutError, match=f"job {job} is still cancelling after {timeout} seconds"):
        poster.wait(job, timeout=timeout)
    with pytest.raises(TimeoutError, match="is still cancelling"):
        list(poster.follow(job, timeout=timeout))


@MOVED
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "parked"])
def test_a_wait_ends_when_the_job_does(board, poster, move, end):
    job = board.put(JobState.RUNNING)
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(poster.wait, job, LONG)
        move(job, end)

        assert waited.result(LONG).state == end


@MOVED
def test_a_wait_goes_on_through_what_is_no_end(board, poster, move):
    job = board.put(JobState.RUNNING)
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(poster.wait, job, LONG)
        move(job, "released", "claimed", "reclaimed", "completed")

        assert waited.result(LONG).state == "completed"


def test_a_wait_for_a_job_that_is_deleted_meanwhile_says_that_it_is_gone(poster):
    job = poster.post("copy")
    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(poster.wait, job.id, LONG)
        poster.delete(job.id)

        with pytest.raises(JobNotFound):
            waited.result(LONG)


# -- following


@MOVED
def test_following_gives_each_entry_once_in_order_and_ends_with_the_final_one(board, poster, move):
    job = board.put(JobState.RUNNING)
    seen: list[str] = []
    first = threading.Event()

    def follow() -> None:
        for entry in poster.follow(job, timeout=LONG):
            seen.append(entry.name)
            first.set()

    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(follow)
        assert first.wait(LONG)
        move(job, "released", "claimed", "completed")
        followed.result(LONG)

    assert seen == ["posted", "released", "claimed", "completed"]


def test_following_a_job_at_rest_gives_its_history(poster):
    job = poster.post("copy")
    poster.cancel(job.id)

    entries = list(poster.follow(job.id))

    assert entries == poster.entries(job.id)
    assert [entry.number for entry in entries] == [1, 2, 3]


def test_who_stops_following_leaves_nothing_open(poster):
    job = poster.post("copy")
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(50):
        following = poster.follow(job.id)
        assert next(following).name == "posted"
        following.close()

    # SQLite keeps a descriptor back for as long as another connection holds a lock, and uses it again.
    assert len(os.listdir("/proc/self/fd")) < before + 10


# -- several


def test_one_poster_serves_many_threads(poster):
    def use(number: int) -> Any:
        job = poster.post("copy", labels={"n": str(number)})
        assert poster.show(job.id).labels == {"n": str(number)}
        assert poster.cancel(job.id, reason=str(number)).job.cancel.reason == str(number)
        assert [each.id for each in poster.list(labels={"n": str(number)})] == [job.id]
        return job.id

    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(use, range(24)))

    assert {job.id for job in poster.list(state="cancelled")} == set(jobs)


@MOVED
def test_two_posters_in_two_processes_see_what_the_other_did(made, board, poster, move):
    """What one was answered, the other finds stored."""
    command = [sys.executable, "-c", OTHER, made]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:

        def tell(*words: str) -> None:
            other.stdin.write(" ".join(words) + "\n")
            other.stdin.flush()

        def answer() -> Any:
            return other.stdout.readline().strip()

        jobs = sorted(poster.post("copy").id for _ in range(3))
        tell("list")
        assert answer() == " ".join(jobs)

        tell("cancel", jobs[0], "theirs")
        assert answer() == "accepted theirs"
        mine = poster.cancel(jobs[0], reason="mine")
        assert (mine.answer, mine.job.cancel.reason) == ("already requested", "theirs")

        poster.cancel(jobs[1], reason="mine")
        tell("cancel", jobs[1], "theirs")
        assert answer() == "already requested mine"

        tell("wait", jobs[2])
        assert answer() == "waiting"
        move(jobs[2], "claimed", "completed")
        assert answer() == "completed"
        other.stdin.close()
        assert other.wait(LONG) == 0


def test_a_poster_is_closed_twice_without_harm(made):
    poster = Poster(made)
    poster.close()
    poster.close()
