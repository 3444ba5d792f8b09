"""What the command line prints: inert in a terminal, whole in a pipe, in words that fit what happened."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from click.testing import CliRunner

from ebbtide.cli import command, output
from ebbtide.cli.flows import type_words
from ebbtide.cli.invocation import Invocation
from ebbtide.cli.listing import STATE_WORDS, short_ids
from ebbtide.cli.snapshot import Happening, Snapshot, happenings
from ebbtide.cli.view import cancel_words, job_view, ordinal
from ebbtide.cli.waiting import InOrder, Teller
from ebbtide.jobs import CancelRequest, Entry, Job, LogLine, TaskRecord
from ebbtide.jobs.states import PHASES

NASTY = "\x1b[31mred\x1b[0m\r\n\u202eevil\x00\x9b [bold]loud[/bold] :smile:"


def job(**changed) -> Job:
    facts = {
        "id": "7f3a0000-0000-4000-8000-000000000000",
        "flow": "copy",
        "version": 1,
        "state": "running",
        "phase": "running",
        "attempt": 1,
        "priority": 0,
        "labels": {},
        "params": {},
        "progress": 0.5,
        "undo": None,
        "error": None,
        "error_task": None,
        "park_reason": None,
        "tasks_total": 3,
        "tasks_done": 1,
        "tasks_undone": 0,
        "current": [],
        "owner": None,
        "created_at": 1000.0,
        "due_at": 1000.0,
        "started_at": 1001.0,
        "ended_at": None,
    }
    return Job(**{**facts, **changed})


def task(name="scan", **changed) -> TaskRecord:
    facts = {
        "task": name,
        "attempt": 1,
        "round": 1,
        "begun_at": 1001.0,
        "ended_at": None,
        "how": None,
        "fraction": None,
        "message": None,
        "undo_begun_at": None,
        "undo_ended_at": None,
        "undo_tries": 0,
        "error": None,
    }
    return TaskRecord(**{**facts, **changed})


def entry(number=1, name="posted", at=1000.0, **changed) -> Entry:
    facts = {"from_state": None, "to_state": "pending", "attempt": 1, "epoch": 0, "actor": "ada"}
    return Entry(number=number, at=at, name=name, **{**facts, **changed})


class OneJob:
    """A poster that knows one job, as the readers of the command line use it."""

    def __init__(self, shown, tasks=(), entries=(), lines=()):
        self.shown, self._tasks, self._entries, self._lines = shown, list(tasks), list(entries), list(lines)

    def show(self, job_id):
        return self.shown

    def watch(self, job_id):
        yield self.shown  # as one that has come to rest

    def list(self, **filters):
        return [self.shown]

    def tasks(self, job_id, attempt=None):
        return self._tasks

    def entries(self, job_id, after=0):
        return [entry for entry in self._entries if entry.number > after]

    def logs(self, job_id, after=0, limit=1000):
        return [line for line in self._lines if line.number > after][:limit]


@pytest.fixture
def printed(monkeypatch):
    """Run a command on a poster; returns what it prints on stdout."""

    def run(poster, *words) -> str:
        @contextmanager
        def opened(self, registry=None) -> Iterator[OneJob]:
            yield poster

        monkeypatch.setattr(Invocation, "poster", opened)
        result = CliRunner().invoke(command, list(words))
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return run


def drawn(renderable) -> str:
    console = output.console(io.StringIO())
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def is_inert(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_what_a_terminal_obeys_is_escaped():
    assert is_inert(output.plain(NASTY))
    assert output.plain("\x1b[2J\u2066a\u200b\ud800") == "\\x1b[2J\\u2066a\\u200b\\ud800"


def test_escaping_leaves_what_is_readable():
    assert output.plain("Grüße, 世界 100 %") == "Grüße, 世界 100 %"


def test_json_is_inert_and_exact(capsys):
    output.emit_line({"name": NASTY})

    printed = capsys.readouterr().out
    assert is_inert(printed.rstrip("\n")) and printed.isascii()
    assert json.loads(printed) == {"name": NASTY}


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1, "0 ms"), (0.0124, "12 ms"), (1.5, "1.50 s"), (59.999, "1 min 00 s"), (3700, "1 h 01 min")],
)
def test_a_duration_is_told_in_the_unit_that_suits_it(seconds, told):
    assert output.span(seconds) == told


@pytest.mark.parametrize(("fraction", "told"), [(0, "0 %"), (0.29, "29 %"), (0.999, "99 %"), (1, "100 %")])
def test_100_percent_is_said_of_what_is_done(fraction, told):
    assert output.percent(fraction) == told


def test_short_ids_are_as_long_as_it_takes_to_tell_them_apart():
    ids = ["7f3a0000-1", "7f3a0000-2", "11111111-1"]

    assert set(short_ids(ids).values()) == {"7f3a0000-1", "7f3a0000-2", "11111111-1"}
    assert short_ids(["7f3a0000-1"]) == {"7f3a0000-1": "7f3a0000"}


def test_ls_takes_every_word_for_a_state():
    assert sorted(STATE_WORDS) == sorted(map(str, PHASES))


def test_show_is_inert_whatever_users_and_tasks_say(printed):
    nasty = job(
        labels={"k": NASTY},
        params={NASTY: NASTY},
        error=NASTY,
        error_task=NASTY,
        current=[NASTY],
        cancel=CancelRequest(NASTY, "user", NASTY, 1002.0),
    )
    poster = OneJob(
        nasty, [task(NASTY, message=NASTY, error=NASTY)], [entry(actor=NASTY, detail={"reason": NASTY})]
    )

    text = printed(poster, "show", "7f")

    assert is_inert(text)
    assert "[bold]loud[/bold] :smile:" in text


@pytest.mark.parametrize("verb", ["ls", "show", "logs", "watch"])
def test_without_a_terminal_there_are_no_colours(printed, verb):
    poster = OneJob(
        job(state="completed", phase="completed"),
        [task()],
        [entry()],
        [LogLine(1, 1.0, 1, "scan", "error", "x")],
    )

    assert "\x1b" not in printed(poster, verb, *([] if verb == "ls" else ["7f"]))


def test_nothing_is_cut_in_a_pipe(printed):
    failed = job(state="failed", phase="failed", error="e" * 110, labels={})

    text = printed(OneJob(failed), "ls")

    assert failed.id in text and "e" * 110 in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_show_names_the_failing_task_its_message_and_the_undo(printed):
    failed = job(
        state="failed",
        phase="failed",
        undo="complete",
        error="no space left",
        error_task="archive",
        tasks_undone=2,
    )
    tasks = [
        task("scan", how="returned", ended_at=1002.0, undo_begun_at=1004.0, undo_ended_at=1004.005),
        task(
            "archive",
            how="raised",
            ended_at=1003.0,
            error="no space left",
            undo_begun_at=1003.5,
            undo_ended_at=1003.75,
        ),
    ]

    text = printed(OneJob(failed, tasks, [entry()]), "show", "7f")

    assert "archive: no space left" in text
    assert "failed, everything undone" in text
    assert "undone in 5 ms" in text and "undone in 250 ms" in text


def test_show_as_json_is_a_job_with_tasks_and_history(printed):
    text = printed(OneJob(job(), [task()], [entry()]), "--json", "show", "7f")

    shown = json.loads(text)
    assert shown["id"] == job().id and shown["progress"] == 0.5
    assert [each["task"] for each in shown["tasks"]] == ["scan"]
    assert [each["name"] for each in shown["history"]] == ["posted"]


@pytest.mark.parametrize("words", [("--json", "ls"), ("ls", "--json")])
def test_json_may_stand_before_and_after_the_verb(printed, words):
    assert [each["id"] for each in json.loads(printed(OneJob(job()), *words))] == [job().id]


def test_log_lines_keep_their_tabs_and_nothing_worse(printed):
    lines = [LogLine(1, 1.0, 1, "scan", "stdout", "a\tb\x1b[2J"), LogLine(2, 2.0, 2, None, "error", "no")]

    text = printed(OneJob(job(), lines=lines), "logs", "7f")

    assert "scan  a\tb\\x1b[2J" in text
    assert text.splitlines()[1] == "-- attempt 2 --"
    assert text.endswith("-  error: no\n")


def test_logs_as_json_are_an_array_and_lines_when_followed(printed):
    ended = OneJob(
        job(state="completed"),
        lines=[LogLine(1, 1.0, 1, "scan", "stdout", "a"), LogLine(2, 2.0, 1, "scan", "stdout", "b")],
    )

    array = json.loads(printed(ended, "logs", "7f", "--json"))
    lines = [json.loads(line) for line in printed(ended, "logs", "-f", "7f", "--json").splitlines()]

    assert array == lines
    assert [line["text"] for line in lines] == ["a", "b"]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"state": "completed", "undo": "none"}, "completed"),
        ({"state": "cancelled", "undo": "none"}, "cancelled, nothing had begun"),
        ({"state": "cancelled", "undo": "complete"}, "cancelled, everything undone"),
        (
            {"state": "failed", "undo": "accepted", "error": "x", "error_task": "t"},
            "failed, accepted as it is (t: x)",
        ),
        ({"state": "parked", "park_reason": "undo of t failed"}, "parked: undo of t failed"),
    ],
)
def test_an_ending_says_what_became_of_the_work(facts, told):
    assert job(**facts).ending == told


def test_a_cancel_tells_each_step_in_time_since_the_request():
    request = CancelRequest("slow", "user", "ada", 1000.0, 1000.004, 1000.012, 1000.2)

    asked, reached = cancel_words(Snapshot(job(cancel=request), ()))

    assert asked == "requested by ada: slow"
    assert reached == "forwarded after 4 ms, delivered after 12 ms, reverted after 200 ms"


def test_the_order_of_the_undo_is_told_in_ordinals():
    assert list(map(ordinal, (1, 2, 3, 4, 11, 21))) == ["1st", "2nd", "3rd", "4th", "11th", "21st"]


def test_the_bar_of_an_undone_task_is_empty():
    done = task("scan", how="returned", ended_at=1002.0, fraction=1.0)
    undone = task("scan", how="returned", ended_at=1002.0, fraction=1.0, undo_begun_at=1.0, undo_ended_at=1.5)

    before, after = (drawn(job_view(Snapshot(job(), (each,)), now=1010.0)) for each in (done, undone))

    assert "100 %" in before and "done in 1.00 s" in before
    assert "100 %" not in after and "undone 1st, in 500 ms" in after


def test_an_undo_that_failed_is_drawn_as_such_and_one_that_is_tried_again_is_not():
    failed = {"how": "returned", "fraction": 1.0, "undo_begun_at": 1003.0, "undo_tries": 2}
    parked = job(state="parked", phase="parked", park_reason="busy", not_undone=["scan"])

    broken = task("scan", **failed, undo_error="OSError: busy")
    text = drawn(job_view(Snapshot(parked, (broken,)), now=1010.0))
    again = drawn(job_view(Snapshot(job(), (task("scan", **failed),)), now=1010.0))

    assert "undo failed: OSError: busy" in text and "not undone: scan" in text
    assert "undoing, try 2" in again and "failed" not in again


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, ""),
        ({"state": "pending", "phase": "pending"}, "waits for a free runner"),
        ({"state": "pending", "phase": "scheduled", "due_at": 1100.0}, ""),
        ({"state": "pending", "phase": "pending", "due_at": 1009.0, "waits_for": "a conductor"}, ""),
        (
            {"state": "pending", "phase": "cancelling", "waits_for": "a conductor: none is running"},
            "waits for a conductor: none is running; `ebbtide conductor` runs one",
        ),
    ],
)
def test_a_job_that_nobody_takes_says_whom_it_waits_for_after_a_while(facts, told):
    assert Snapshot(job(**facts), ()).unclaimed(1010.0) == told


def test_a_view_of_many_tasks_fits_and_keeps_those_in_motion():
    tasks = [task(f"t{n}", how="returned", ended_at=1002.0) for n in range(30)]
    tasks[0] = task("first", fraction=0.5)

    text = drawn(job_view(Snapshot(job(), tuple(tasks)), rows=5, now=1010.0))

    assert "first" in text and "t29" in text and "t3 " not in text
    assert "and 25 more" in text


def test_what_happened_between_two_looks_is_told_once_and_in_order():
    begun = task("scan")
    undone = task("scan", how="cancelled", ended_at=1002.0, undo_begun_at=1003.0, undo_ended_at=1004.0)
    cancel = entry(2, "cancel_requested", 1001.5, to_state=None, detail={"reason": "slow"})

    first = happenings(None, Snapshot(job(), (begun,)), [entry()])
    second = happenings(Snapshot(job(), (begun,)), Snapshot(job(), (undone,)), [cancel])

    assert [each.text for each in first] == ["posted (attempt 1)", "scan begun"]
    assert [each.text for each in second] == [
        "cancel requested: slow",
        "scan cancelled",
        "scan is being undone",
        "scan undone",
    ]


def test_a_task_that_begins_once_more_is_told_once_more():
    failed = Snapshot(job(), (task(how="raised", ended_at=1001.0, error="no disk"),))
    again = Snapshot(job(), (task(begun_at=1002.0),))
    over = Snapshot(job(), (task(begun_at=1002.0, how="returned", ended_at=1003.0),))

    assert [each.text for each in happenings(failed, again, [])] == ["scan begun"]
    assert [each.text for each in happenings(again, over, [])] == ["scan returned"]
    assert [each.text for each in happenings(failed, over, [])] == ["scan begun", "scan returned"]


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (["scan"], "overdue: scan did not stop within 10 s"),
        (["scan", "copy"], "overdue: scan, copy did not stop within 10 s"),
        ([], "overdue: it did not stop within 10 s"),
    ],
)
def test_the_history_names_what_does_not_stop(tasks, told):
    overdue = entry(2, "overdue", to_state=None, detail={"tasks": tasks, "grace_seconds": 10.0})

    assert overdue.text == told


def test_the_history_tells_why_a_job_was_taken_up_again():
    again = entry(2, "reclaimed", to_state="running", detail={"cause": "its runner was ended by SIGSEGV"})

    assert again.text == "reclaimed: its runner was ended by SIGSEGV"


def test_an_end_is_told_after_the_undo_that_was_read_later():
    # Given: the last commit lies between the read of the tasks and that of the history.
    undoing = task(how="cancelled", ended_at=1001.0, undo_begun_at=1002.0)
    poster = OneJob(job(), entries=[entry(1, at=1000.0)])
    teller, in_order = Teller(poster, now=lambda: 1009.0), InOrder()
    first = in_order(teller(Snapshot(job(), (undoing,))), last=False)
    poster._entries.append(entry(2, "cancelled", at=1004.0, to_state="cancelled"))

    then = in_order(teller(Snapshot(job(), (undoing,))), last=False)
    over = Snapshot(job(state="cancelled"), (replace(undoing, undo_ended_at=1003.0),))
    last = in_order(teller(over), last=True)

    assert first == []
    assert [each.at for each in then] == [1000.0, 1001.0, 1001.0, 1002.0]
    assert [each.text for each in last] == ["scan undone", "cancelled"]


def test_what_is_found_late_is_told_before_what_was_held_and_is_newer():
    in_order = InOrder()
    one, two, three = (Happening(at, f"{at}") for at in (1.0, 2.0, 3.0))

    told = [in_order([two], last=False), in_order([three, one], last=False), in_order([], last=False)]

    assert told == [[], [one, two], [three]]


def test_a_schema_is_told_in_a_few_words():
    assert type_words({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {}) == "integer or null"
    assert (
        type_words({"type": "array", "items": {"$ref": "#/$defs/X"}}, {"X": {"enum": ["a", "b"]}})
        == 'list of "a" | "b"'
    )
    assert type_words({}, {}) == "any"
    assert type_words(True, {}) == "any"
