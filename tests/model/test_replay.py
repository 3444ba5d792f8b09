"""The replay of recorded histories: what it refuses and how it says so, and that it agrees with the model."""

import itertools
import sqlite3
from contextlib import closing

import pytest

from ebbtide.jobs import Poster
from ebbtide.jobs.states import edge
from tests.model.clients import ANSWERED_ACCEPTED
from tests.model.conductors import LIMIT_PASSED
from tests.model.recorded import ByHand, complaint
from tests.model.replay import FIRST, Entry, IllegalHistory, Seen, next_seen, replay, state_after, told
from tests.model.rules import moves
from tests.model.state import NONE, Shape, State, first_state

# What a history may hold beside edges; the model knows the first two.
NOTES = (
    "cancel_requested",
    "limit_passed",
    "cancel_forwarded",
    "cancel_delivered",
    "overdue",
    "delete_requested",
)


def history(*names: str) -> list[Entry]:
    """Entries of these names, numbered, each with the attempt and epoch that it should have."""
    entries: list[Entry] = []
    state: str | None = None
    attempt, epoch = 1, 0
    for number, name in enumerate(names, 1):
        epoch += name in ("claimed", "reclaimed")
        attempt += name in ("retried", "retry_scheduled")
        if name in NOTES:
            entries.append(Entry(number, name, None, None, attempt, epoch))
        else:
            target = edge(name).target.value
            entries.append(Entry(number, name, state, target, attempt, epoch))
            state = target
    return entries


RIGHT = [
    ("posted", "claimed", "completed"),
    ("posted", "cancel_requested", "cancelled_unclaimed", "retried", "claimed", "failed"),
    ("posted", "claimed", "cancel_requested", "cancel_forwarded", "cancel_delivered", "cancelled"),
    ("posted", "claimed", "cancel_requested", "overdue", "reclaimed", "cancelled", "retried", "claimed"),
    ("posted", "claimed", "reclaimed", "parked", "unparked", "claimed", "completed"),
    ("posted", "claimed", "parked", "cancel_requested", "accepted_as_cancelled"),
    ("posted", "claimed", "delete_requested", "cancel_requested", "parked", "unparked", "claimed"),
    ("posted", "claimed", "parked", "cancel_requested", "unparked", "claimed", "cancelled"),
    ("posted", "claimed", "limit_passed", "cancel_forwarded", "parked", "accepted_as_failed"),
    ("posted", "claimed", "limit_passed", "released", "claimed", "failed"),
    ("posted", "claimed", "limit_passed", "cancel_forwarded", "cancel_requested", "cancelled"),
    ("posted", "claimed", "limit_passed", "released", "cancel_requested", "cancelled_unclaimed"),
    ("posted", "claimed", "limit_passed", "retry_scheduled", "cancel_requested", "cancelled_unclaimed"),
    ("posted", "claimed", "retry_scheduled", "claimed", "released", "paused", "resumed", "claimed"),
]
WRONG = {
    "an outcome twice": (
        ("posted", "claimed", "completed", "failed"),
        "entry 4, failed, does not begin at completed",
    ),
    "completed after an accepted cancel": (
        ("posted", "claimed", "cancel_requested", "completed"),
        "entry 4, completed, although a cancel was accepted",
    ),
    "failed after an accepted cancel": (
        ("posted", "claimed", "cancel_requested", "failed"),
        "entry 4, failed, although a cancel was accepted",
    ),
    "an edge after a final state": (
        ("posted", "claimed", "completed", "claimed"),
        "entry 4, claimed, does not begin at completed",
    ),
    "completed and retried": (
        ("posted", "claimed", "completed", "retried"),
        "entry 4, retried, does not begin at completed",
    ),
    "cancelled by a limit": (
        ("posted", "claimed", "limit_passed", "cancelled"),
        "entry 4, cancelled, although nobody has asked for a cancel",
    ),
    "failed although it was cancelled after a limit": (
        ("posted", "claimed", "limit_passed", "cancel_requested", "failed"),
        "entry 5, failed, although a cancel was accepted",
    ),
    "completed after a limit": (
        ("posted", "claimed", "limit_passed", "completed"),
        "entry 4, completed, although a cancel was accepted",
    ),
    "a limit after a cancel": (
        ("posted", "claimed", "cancel_requested", "limit_passed"),
        "entry 4, limit_passed, although it was being stopped in this attempt",
    ),
    "a limit while nothing runs": (
        ("posted", "limit_passed"),
        "entry 2, limit_passed, of a job that is pending, not running",
    ),
    "cancelled and nobody asked": (
        ("posted", "claimed", "cancelled"),
        "entry 3, cancelled, although nobody has asked for a cancel",
    ),
    "asked twice": (
        ("posted", "claimed", "cancel_requested", "cancel_requested"),
        "entry 4, cancel_requested, a second time in this attempt",
    ),
    "forwarded and nobody asked": (
        ("posted", "claimed", "cancel_forwarded"),
        "entry 3, cancel_forwarded, although nobody has asked for a cancel",
    ),
    "delivered where nothing runs": (
        ("posted", "claimed", "cancel_requested", "released", "cancel_delivered"),
        "entry 5, cancel_delivered, of a job that is pending, not running",
    ),
    "delivered twice": (
        ("posted", "claimed", "cancel_requested", "cancel_delivered", "cancel_delivered"),
        "entry 5, cancel_delivered, a second time in this attempt",
    ),
    "to be deleted and still there": (
        ("posted", "claimed", "delete_requested", "cancel_requested", "cancelled"),
        "entry 5, cancelled, and is still there, though to be deleted",
    ),
    "nothing before it": (("claimed",), "entry 1, claimed, does not begin at nothing"),
}


@pytest.mark.parametrize("names", RIGHT, ids=lambda names: names[-1])
def test_what_may_happen_replays(names):
    steps = replay(history(*names))

    assert [seen.number for seen in steps] == list(range(1, len(names) + 1))


@pytest.mark.parametrize("case", WRONG)
def test_a_forged_history_is_refused_with_the_entry_and_the_reason(case):
    names, message = WRONG[case]

    with pytest.raises(IllegalHistory) as caught:
        replay(history(*names))

    assert str(caught.value) == message


def forged(change: dict[str, object], at: int = 3) -> list[Entry]:
    """A right history in which the entry with that number is changed."""
    entries = history("posted", "claimed", "reclaimed", "completed")
    values = vars(entries[at - 1]) | change
    return [*entries[: at - 1], Entry(**values), *entries[at:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 1}, "entry 3, reclaimed, is of attempt 1, epoch 1, where 1, 2 is due"),
        ({"epoch": 0}, "entry 3, reclaimed, is of attempt 1, epoch 0, where 1, 2 is due"),
        ({"attempt": 2}, "entry 3, reclaimed, is of attempt 2, epoch 2, where 1, 2 is due"),
        ({"number": 4}, "entry 4, reclaimed, comes after number 2"),
        ({"number": 2}, "entry 2, reclaimed, comes after number 2"),
        ({"source": "pending"}, "entry 3, reclaimed, says it begins at pending, not running"),
        ({"target": "pending"}, "entry 3, reclaimed, says it leads to pending"),
        ({"name": "abandoned"}, "entry 3, abandoned, is no edge and yet leads somewhere"),
        ({"name": "abandoned", "source": None, "target": None}, "entry 3, abandoned, is unknown"),
    ],
    ids=str,
)
def test_an_entry_that_does_not_fit_is_refused(change, message):
    with pytest.raises(IllegalHistory) as caught:
        replay(forged(change))

    assert str(caught.value) == message


def test_a_history_is_told_entry_by_entry():
    assert told(history("posted", "claimed", "cancel_requested")).splitlines() == [
        "    1. posted  - -> pending  attempt 1, epoch 0",
        "    2. claimed  pending -> running  attempt 1, epoch 1",
        "    3. cancel_requested  attempt 1, epoch 1",
    ]


# -- the model seen through its history


def written(before: State, verb: str, edges: tuple[str, ...], after: State) -> list[str]:
    """The entries that a step of the model writes."""
    asked = (after.requested, after.expired) == (True, False) != (before.requested, before.expired)
    if verb == LIMIT_PASSED:
        return ["limit_passed"]
    forwarded = verb == "forwards the request to its runner"
    return ["cancel_requested"] * asked + ["cancel_forwarded"] * forwarded + list(edges)


def after_each(seen: Seen, names: list[str]) -> Seen:
    """What is seen once these entries were written."""
    for name in names:
        if name in NOTES:
            source = target = None
        else:
            source, target = seen.state or None, edge(name).target.value
        attempt = seen.attempt + (name in ("retried", "retry_scheduled"))
        epoch = seen.epoch + (name in ("claimed", "reclaimed"))
        seen = next_seen(seen, Entry(seen.number + 1, name, source, target, attempt, epoch))
    return seen


def glimpse(seen: Seen) -> Seen:
    """Without the numbers that only grow, and with what the model does not know left out."""
    return Seen(state=seen.state, attempt=seen.attempt, requested=seen.requested, expired=seen.expired)


def walk(shape: Shape) -> set[tuple[Seen, str]]:
    """Every step of the model, replayed: where it was taken, and the entry.

    Raises:
        IllegalHistory: the model takes what the replay refuses.
    """
    start = first_state(shape)
    waiting, known = [start], {start}
    taken: set[tuple[Seen, str]] = set()
    while waiting:
        before = waiting.pop()
        seen = Seen(
            state=before.state,
            attempt=before.attempt,
            requested=before.requested,
            expired=before.expired,
        )
        for action, after in moves(before, shape):
            here = seen
            for name in written(before, action.verb, action.edges, after):
                taken.add((here, name))
                here = glimpse(after_each(here, [name]))
            expected = ("" if after.state == NONE else after.state, after.attempt, after.requested)
            assert (here.state, here.attempt, here.requested) == expected, action
            assert here.expired == after.expired, action
            if after not in known:
                known.add(after)
                waiting.append(after)
    return taken


def test_every_step_of_the_model_replays_and_what_replays_the_model_takes():
    """At the level that a history shows, replay and model allow the same."""
    taken = walk(Shape("a", ((),), attempts=2, limits=True)) | walk(Shape("a", ((),), pauses=True))
    taken |= walk(Shape("a", ((),), holds=True)) | walk(Shape("a", ((),), pauses=True, limits=True))

    names = {name for _, name in taken}
    places = {seen for seen, _ in taken if seen.attempt == 1}
    allowed = set()
    for seen, name in itertools.product(places, names):
        try:
            after_each(seen, [name])
        except IllegalHistory:
            continue
        allowed.add((seen, name))
    assert {pair for pair in taken if pair[0].attempt == 1} == allowed


def test_answers_are_no_entries():
    shape = Shape("a", ((),), late_answers=True)
    state = first_state(shape)._replace(state="running", requested=True, reply="accepted")

    (answer,) = [(action, after) for action, after in moves(state, shape) if action.verb == ANSWERED_ACCEPTED]

    assert written(state, answer[0].verb, answer[0].edges, answer[1]) == []


# -- stores


@pytest.fixture
def used(tmp_path):
    """A store of its own, which nobody replays, with one job that was cancelled."""
    url = f"sqlite:///{tmp_path / 'used.db'}"
    with Poster(url) as poster:
        job = poster.post("file-processing", {"source": "/a", "destination": "/b"})
        poster.cancel(job.id, "enough")
    return url


def change(url: str, statement: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_store_as_the_product_leaves_it_has_nothing_wrong(used):
    assert complaint(used, None, ByHand()) is None


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE jobs SET state = 'completed'", "history comes out at"),
        ("UPDATE jobs SET epoch = 7", "history comes out at"),
        ("UPDATE jobs SET entries = 9", "history comes out at"),
        ("UPDATE jobs SET cancel_requested_at = NULL", "history comes out at"),
        ("DELETE FROM job_entries", "it has no history"),
        ("DELETE FROM job_entries WHERE number = 2", "entry 3, cancelled_unclaimed, comes after number 1"),
        ("DELETE FROM job_outcomes", "history tells of the outcomes {1: 'cancelled'}, stored are {}"),
        ("UPDATE job_outcomes SET state = 'failed'", "stored are {1: 'failed'}"),
        ("DROP TABLE job_entries", "the store cannot be read: no such table"),
    ],
)
def test_a_row_that_differs_from_its_history_is_told_with_the_history(used, statement, words):
    change(used, statement)

    told = complaint(used, None, ByHand())

    assert told is not None
    assert words in told
    assert "the store cannot be read" in told or told.startswith("job ")


def test_what_is_no_database_cannot_be_read(tmp_path):
    (tmp_path / "notes.txt").write_text("buy milk, and more of this than a header has " * 9)

    assert "the store cannot be read" in str(complaint(f"sqlite:///{tmp_path / 'notes.txt'}", None, ByHand()))


def test_in_a_file_that_is_not_there_or_has_no_tables_nothing_is_wrong(tmp_path):
    url = f"sqlite:///{tmp_path / 'none.db'}"
    assert complaint(url, None, ByHand()) is None
    change(url, "CREATE TABLE diary (entry text)")

    assert complaint(url, None, ByHand()) is None


def test_what_a_test_has_changed_and_told_is_taken_as_it_was_told(used):
    change(used, "UPDATE jobs SET epoch = 7")
    with closing(sqlite3.connect(used.removeprefix("sqlite:///"))) as connection:
        ((job,),) = connection.execute("SELECT id FROM jobs").fetchall()
    by_hand = ByHand()
    by_hand.changed(job, 3, {"epoch": 7})

    assert complaint(used, None, by_hand) is None


def test_bare_edges_are_held_against_the_table_alone(used):
    change(used, "DELETE FROM job_outcomes")
    assert complaint(used, None, ByHand(), bare=True) is None

    change(used, "UPDATE job_entries SET from_state = 'running' WHERE number = 3")

    assert "says it begins at running, not pending" in str(complaint(used, None, ByHand(), bare=True))


def test_a_history_that_a_poster_gives_ends_in_the_state_of_its_job(used):
    with Poster(used) as poster:
        (job,) = poster.list()
        entries = poster.entries(job.id)

    assert state_after(entries) == job.state == "cancelled"
    assert state_after([]) == FIRST.state
    with pytest.raises(IllegalHistory):
        state_after(entries[1:])
