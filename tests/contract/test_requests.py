"""Cancel requests as files: what is written, what is believed, and what a conductor records of it."""

import json
import logging
import math
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ebbtide.errors import FolderRefused, StoreUnavailable, UsageError
from ebbtide.jobs import inbox as inbox_module
from ebbtide.jobs import requests as requests_module
from ebbtide.jobs import tables
from ebbtide.jobs.inbox import Inbox
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.requests import Requests
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.signals.file import FileSignal
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

KEEP_SECONDS = 3600.0


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cancellations"


@pytest.fixture
def requests(folder):
    return Requests(str(folder))


@pytest.fixture
def inbox(requests, board, monkeypatch):
    """What a conductor has, which sweeps at each call. It waits for no writer, store or other conductor."""
    for patience in ("_WRITING_SECONDS", "_UNKNOWN_SECONDS", "_FAILED_SECONDS"):
        monkeypatch.setattr(inbox_module, patience, 0.0)
    signal = FileSignal(requests.folder)
    yield Inbox(requests, board.ledger, signal, keep_seconds=KEEP_SECONDS, sweep_seconds=0.0)
    signal.close()


@pytest.fixture
def job():
    return str(uuid.uuid4())


@pytest.fixture
def put(folder):
    """Write a file there as another program does: beside it, and then moved."""
    folder.mkdir(mode=0o700, exist_ok=True)

    def write(name, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        unfinished = folder / f".new-{name}"
        unfinished.write_bytes(data)
        unfinished.rename(folder / name)
        return folder / name

    return write


def cancels(board, job):
    return board.rows(tables.job_cancels, job)


# The names of Python.


def test_a_request_is_a_file_of_its_owner_alone_that_says_all(requests, folder, job):
    before = time.time()

    asked = requests.request(job, "wrong  folder", who="ann")

    (file,) = folder.iterdir()
    told = json.loads(file.read_text())
    assert file.name == f"{job}.json"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert before <= told.pop("requested_at") <= time.time()
    assert told == {"job": job, "status": "pending", "reason": "wrong folder", "who": "ann"}
    assert requests.check(job) == asked


def test_without_a_request_there_is_nothing_to_check(requests, job):
    assert requests.check(job) is None


def test_asking_twice_is_asking_once(requests, job):
    first = requests.request(job, "first")

    second = requests.request(job, "second")

    assert second == first == requests.check(job)


def test_a_processed_request_has_its_answer_and_may_be_asked_anew(requests, folder, job):
    requests.request(job, "enough", who="ann")

    marked = requests.mark_processed(job, "stopped")

    assert requests.check(job) == marked
    assert (marked.status, marked.answer, marked.reason, marked.who) == (
        "processed",
        "stopped",
        "enough",
        "ann",
    )
    assert marked.processed_at is not None
    assert requests.mark_processed(job, "again") is None
    assert requests.request(job, "anew").status == "pending"
    assert [file.name for file in folder.iterdir()] == [f"{job}.json"]


def test_many_at_once_are_one_file_each_and_all_or_none(requests, folder):
    jobs = [str(uuid.uuid4()) for _ in range(20)]

    with pytest.raises(UsageError):
        requests.request_many([*jobs, "../nothing"], "enough")
    assert not folder.exists()
    asked = requests.request_many(jobs, "enough")

    assert [request.job_id for request in asked] == jobs
    assert {file.name for file in folder.iterdir()} == {f"{job}.json" for job in jobs}


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "7f3a",
        "../../etc/passwd",
        "a" * 36,
        "{A}",
        str(uuid.UUID(int=0xA)).upper(),
        "urn:uuid:" + "a" * 36,
    ],
)
def test_what_is_not_the_whole_id_of_a_job_becomes_no_file(requests, folder, wrong):
    for act in (requests.request, requests.check, lambda job: requests.mark_processed(job, "done")):
        with pytest.raises(UsageError, match="is not the whole id of a job"):
            act(wrong)

    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize(("reason", "who"), [("a\x1bb", "ann"), ("x" * 1001, "ann"), ("", "a" * 256)])
def test_what_no_store_would_take_is_refused_before_it_is_written(requests, folder, job, reason, who):
    with pytest.raises(UsageError):
        requests.request(job, reason, who=who)

    assert not folder.exists()


def test_a_reason_that_is_too_long_for_a_file_is_refused(requests, folder, job):
    with pytest.raises(UsageError, match="shorten the reason"):
        requests.request(job, "\N{PILE OF POO}" * 1000)

    assert list(folder.iterdir()) == []


def test_the_folder_is_the_one_that_other_programs_know(tmp_path, monkeypatch):
    monkeypatch.setenv("TASK_CANCELLATION_DIR", str(tmp_path / "theirs"))

    assert Requests().folder == str(tmp_path / "theirs")


def test_cleaning_up_removes_what_is_older(requests, folder, monkeypatch):
    processed, pending, fresh = (str(uuid.uuid4()) for _ in range(3))
    requests.request_many([processed, pending])
    requests.mark_processed(processed, "done")
    (folder / ".left.tmp").write_text("")
    (folder / "notes").write_text("somebody's own")
    later = time.time() + 100
    monkeypatch.setattr(requests_module.time, "time", lambda: later)

    kept = requests.clean_up(200)
    removed = requests.clean_up(50)
    requests.request(fresh)

    assert (kept, removed) == (0, 3)
    assert {file.name for file in folder.iterdir()} == {"notes", f"{fresh}.json"}


def test_only_one_of_many_takes_a_request(requests, job):
    requests.request(job)

    with ThreadPoolExecutor(8) as pool:
        marks = list(pool.map(lambda number: requests.mark_processed(job, str(number)), range(8)))

    (winner,) = [mark for mark in marks if mark is not None]
    assert requests.check(job) == winner


def test_whoever_checks_while_it_is_taken_still_sees_it(requests, job):
    asked = requests.request(job)
    taken = requests.take(job)

    seen = requests.check(job)
    requests.put_back(taken)

    assert (seen.status, seen.job_id, seen.reason) == ("pending", job, asked.reason)
    assert requests.check(job) == asked


def test_whoever_checks_all_the_time_never_misses_it(requests, job):
    requests.request(job)
    done = threading.Event()

    def work():
        for number in range(200):
            requests.mark_processed(job, str(number))
            requests.request(job)
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    seen = []
    while not done.is_set():
        seen.append(requests.check(job))
    worker.join()

    assert None not in seen


def test_a_newer_request_is_not_lost_while_the_older_one_is_answered(requests, job, put):
    requests.request(job, "older")
    taken = requests.take(job)

    put(f"{job}.json", {"status": "pending", "reason": "newer"})
    requests.answer(taken, "unknown job")

    assert (requests.check(job).status, requests.check(job).reason) == ("pending", "newer")


# The folder.


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777, 0o701])
def test_a_folder_that_others_may_use_is_refused(requests, folder, job, mode):
    folder.mkdir()
    folder.chmod(mode)

    with pytest.raises(FolderRefused, match="others may use it; chmod 700"):
        requests.request(job)


def test_a_folder_that_is_a_link_is_refused(requests, folder, job, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FolderRefused, match="it is a symbolic link; name the folder itself"):
        requests.request(job)


def test_a_folder_that_somebody_could_exchange_is_refused(requests, folder, job, tmp_path):
    tmp_path.chmod(0o777)

    with pytest.raises(FolderRefused, match="others may write into the folder that it is in"):
        requests.request(job)

    tmp_path.chmod(0o1777)  # as /tmp is
    assert requests.request(job).status == "pending"


def test_a_slash_behind_a_link_makes_no_folder_of_it(requests, folder, job, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FolderRefused, match="it is a symbolic link"):
        Requests(f"{folder}/").request(job)


def test_what_is_no_path_is_refused_in_one_line(job):
    with pytest.raises(FolderRefused, match="it is no path"):
        Requests("/tmp/a\0b").request(job)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(requests, folder, job):
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, -1)

    with pytest.raises(FolderRefused, match="it belongs to user 65534"):
        requests.request(job)


# A conductor.


@pytest.mark.parametrize(
    "written",
    [
        {"status": "pending"},
        {"status": "pending", "reason": "enough", "who": "ann", "requested_at": 5, "more": [1]},
        {"status": "pending", "reason": "enough", "task_id": "something else of theirs"},
    ],
)
def test_a_request_of_any_program_is_recorded_in_the_ledger(board, requests, inbox, put, written):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    put(f"{job}.json", written)

    inbox.record()

    (recorded,) = cancels(board, job)
    owner = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert (recorded["reason"], recorded["source"]) == (written.get("reason", ""), "file")
    assert recorded["who"] == written.get("who", owner)
    assert (requests.check(job).status, requests.check(job).answer) == ("processed", "accepted")


def test_a_queued_job_is_cancelled_at_once(board, requests, inbox):
    job = board.post()
    requests.request(job, "enough")

    inbox.record()

    assert board.row(job).state == "cancelled"
    assert requests.check(job).answer == "accepted"


def test_the_answer_says_what_became_of_it(board, requests, inbox):
    unknown = str(uuid.uuid4())
    completed = board.put(JobState.COMPLETED)
    cancelled = board.post()
    board.ledger.cancel(cancelled, reason="", who="ann")
    requests.request_many([unknown, completed, cancelled])

    for _ in range(2):
        inbox.record()

    answers = [requests.check(job).answer for job in (unknown, completed, cancelled)]
    assert answers == ["unknown job", "too late: completed", "already requested"]


def test_a_request_from_before_the_job_was_posted_does_not_cancel_it(board, requests, inbox):
    job = str(uuid.uuid4())
    requests.request(job)
    for _ in range(2):
        inbox.record()

    board.put(JobState.PENDING, id=job)
    inbox.record()

    assert board.row(job).state == "pending"
    assert requests.check(job).answer == "unknown job"


def test_two_conductors_record_it_once(board, requests, inbox):
    jobs = [board.put(JobState.RUNNING, owner="one", epoch=1) for _ in range(30)]
    requests.request_many(jobs)
    other = Inbox(
        requests, board.ledger, FileSignal(requests.folder), keep_seconds=KEEP_SECONDS, sweep_seconds=0.0
    )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.record(), [inbox, other]))

    assert {requests.check(job).answer for job in jobs} == {"accepted"}
    assert all(len(cancels(board, job)) == 1 for job in jobs)


def test_while_the_store_is_away_a_request_stays_pending(board, requests, inbox, monkeypatch):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    requests.request(job)

    def away(*args, **kwargs):
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(board.ledger, "knows", away)
        with pytest.raises(StoreUnavailable):
            inbox.record()
        waiting = requests.check(job)
    inbox.record()

    assert waiting.status == "pending"
    assert requests.check(job).answer == "accepted"


def test_what_a_dead_conductor_had_taken_is_taken_up_by_another(board, requests, inbox, monkeypatch):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    requests.request(job)
    taken = requests.take(job)
    inbox.record()
    untouched = requests.check(job)
    monkeypatch.setattr(inbox_module, "_TIDY_SECONDS", 0.0)
    monkeypatch.setattr(requests_module, "_TAKEN_SECONDS", -1.0)
    inbox._next_tidying = 0.0

    inbox.record()
    inbox.record()

    assert taken is not None
    assert untouched.status == "pending"
    assert requests.check(job).answer == "accepted"


def test_a_recorded_request_wakes_the_other_conductors(board, requests, inbox):
    job = board.put(JobState.RUNNING, owner="two", epoch=1)
    other = FileSignal(requests.folder)
    requests.request(job)
    while other.changed():
        pass

    inbox.record()

    heard = other.changed()
    other.close()
    assert heard


def test_what_is_expired_is_removed(board, requests, inbox, folder, monkeypatch):
    job = board.put(JobState.COMPLETED)
    requests.request(job)
    inbox.record()
    later = time.time() + KEEP_SECONDS + 60
    monkeypatch.setattr(requests_module.time, "time", lambda: later)
    inbox._next_tidying = 0.0

    inbox.record()

    assert requests.check(job) is None
    assert [file.name for file in folder.iterdir() if file.name != ".bell"] == []


# What goes wrong.


def pending_of(put, job, size):
    """A request of exactly so many bytes with the longest reason, as another program may write it."""
    told = {"status": "pending", "reason": "\N{PILE OF POO}" * 1000}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    put(f"{job}.json", text.ljust(size))


@pytest.mark.parametrize("size", [4035, 4096])
def test_a_file_as_large_as_may_be_is_answered_with_a_shorter_reason(
    board, requests, inbox, put, folder, size
):
    job, other = board.post(), board.post()
    pending_of(put, job, size)
    requests.request(other)

    inbox.record()

    assert board.row(job).state == board.row(other).state == "cancelled"
    assert cancels(board, job)[0]["reason"] == "\N{PILE OF POO}" * 1000
    assert (requests.check(job).status, requests.check(job).answer) == ("processed", "accepted")
    assert {file.name for file in folder.iterdir()} == {f"{job}.json", f"{other}.json", ".bell"}


def test_whatever_may_be_requested_has_room_for_its_answer_and_reads_as_it_was_answered(requests, job):
    longest = ""
    for length in range(900, 1001):
        try:
            requests.request(job, "\N{PILE OF POO}" * length, who="ann")
            longest = "\N{PILE OF POO}" * length
        except UsageError:
            break
        requests.mark_processed(job, "done")

    answered = requests.check(job)
    requests.request(job, longest, who="ann")
    long_answer = requests.mark_processed(job, "\N{SNOWMAN}" * 1000)

    assert len(longest) > 900
    assert (answered.reason, answered.who, answered.answer) == (longest, "ann", "done")
    assert requests.check(job) == long_answer
    assert long_answer.status == "processed"


def test_a_request_that_cannot_be_recorded_is_answered_so_and_the_next_one_is_recorded(
    board, requests, inbox, caplog
):
    odd, fine = board.post(), board.post()
    board.change(odd, state="floating")
    requests.request_many([odd, fine])

    for _ in range(3):
        inbox.record()

    board.change(odd, state="pending")  # for the check of what is in the store
    assert requests.check(odd).answer == "cannot be recorded: 'floating' is not a valid JobState"
    assert requests.check(fine).answer == "accepted"
    assert caplog.text.count("requests.failed") == 1


def test_a_taken_request_is_never_expired(board, requests, inbox, folder, monkeypatch):
    """However short `signal_keep_seconds` is: a conductor that died leaves it to the next one."""
    job = board.post()
    requests.request(job)
    requests.take(job)
    now = time.time()
    monkeypatch.setattr(requests_module.time, "time", lambda: now + 10)
    kept = requests.clean_up(5)
    taken = [file.name for file in folder.iterdir()]

    monkeypatch.setattr(requests_module.time, "time", lambda: now + 40)
    requests.clean_up(5)
    inbox.record()

    assert (kept, len(taken)) == (0, 1)
    assert taken[0].endswith(".taken")
    assert requests.check(job).answer == "accepted"


def test_a_pending_request_does_not_expire_in_the_hands_of_a_conductor(requests, job, monkeypatch):
    requests.request(job)
    later = time.time() + 100
    monkeypatch.setattr(requests_module.time, "time", lambda: later)

    removed = requests.clean_up(50, pending_too=False)

    assert removed == 0
    assert requests.check(job).status == "pending"


def test_a_request_that_is_gone_when_it_is_put_back_is_logged(requests, folder, job, caplog):
    requests.request(job)
    taken = requests.take(job)
    (folder / taken.taken_as).unlink()

    requests.put_back(taken)

    assert f"requests.gone {job}" in caplog.text


def test_a_request_for_a_job_of_another_store_is_left_to_its_conductor(
    board, requests, inbox, tmp_path, monkeypatch
):
    monkeypatch.setattr(inbox_module, "_UNKNOWN_SECONDS", 3600.0)
    with Store(f"sqlite:///{tmp_path}/other.db") as store, closing(FileSignal(requests.folder)) as signal:
        ensure_schema(store)
        theirs = Ledger(store)
        job = theirs.post(
            NewJob(flow="copy", version=1, parameters="{}", labels_text="{}", labels={}), who="ann"
        )
        requests.request(job)

        for _ in range(3):
            again = inbox.record()
        left = requests.check(job)
        Inbox(requests, theirs, signal, keep_seconds=KEEP_SECONDS, sweep_seconds=0.0).record()

    assert not again  # nothing for it to do
    assert left.status == "pending"
    assert requests.check(job).answer == "accepted"


def test_a_request_that_was_recorded_cancels_no_later_attempt(board, requests, inbox, folder):
    """Its conductor died before it answered, the job was retried, and then the request came back."""
    job = board.post()
    requests.request(job, "enough", who="ann")
    os.utime(folder / f"{job}.json", (board.clock.now - 1, board.clock.now - 1))
    taken = requests.take(job)
    board.ledger.cancel(job, reason=taken.reason, who=taken.who, source="file")
    board.ledger.retry(job, who="bob")
    requests.put_back(taken)

    inbox.record()

    assert board.row(job).state == "pending"
    assert requests.check(job).answer == "already requested"


@pytest.mark.parametrize("asked", [("enough", "ann", 1), ("really enough", "ann", -1), ("enough", "bob", -1)])
def test_a_new_request_cancels_a_retried_job(board, requests, inbox, folder, asked):
    reason, who, after = asked
    job = board.post()
    board.ledger.cancel(job, reason="enough", who="ann", source="file")
    board.ledger.retry(job, who="bob")
    requests.request(job, reason, who=who)
    os.utime(folder / f"{job}.json", (board.clock.now + after, board.clock.now + after))

    inbox.record()

    assert board.row(job).state == "cancelled"
    assert requests.check(job).answer == "accepted"


def test_a_pass_records_some_requests_and_says_that_there_are_more(board, requests, inbox, monkeypatch):
    monkeypatch.setattr(inbox_module, "_MOST_AT_ONCE", 5)
    monkeypatch.setattr(inbox, "_sweep_seconds", KEEP_SECONDS)
    jobs = [board.post() for _ in range(12)]
    requests.request_many(jobs)

    done = []
    again = True
    while again and len(done) < 10:
        again = inbox.record()
        done.append(sum(requests.check(job).status == "processed" for job in jobs))

    assert done == [5, 10, 12, 12]


def test_the_folder_is_read_only_when_something_came_or_for_the_sweep(board, requests, inbox, monkeypatch):
    monkeypatch.setattr(inbox, "_sweep_seconds", KEEP_SECONDS)
    looks = []
    scandir = os.scandir
    monkeypatch.setattr(inbox_module.os, "scandir", lambda folder: looks.append(folder) or scandir(folder))
    monkeypatch.setattr(inbox, "_next_tidying", math.inf)
    signal = inbox._signal

    def woken():
        while signal.changed():
            pass
        return inbox.record()

    woken()
    before = len(looks)
    for _ in range(20):
        signal.ring("a")
        woken()
    rung = len(looks)
    job = board.post()
    requests.request(job)
    woken()

    assert (before, rung, len(looks)) == (1, 1, 2)
    assert requests.check(job).answer == "accepted"


def test_a_request_that_fails_alone_rests_and_the_others_are_recorded(
    board, requests, inbox, monkeypatch, caplog
):
    monkeypatch.setattr(inbox_module, "_FAILED_SECONDS", 3600.0)
    jobs = [board.post() for _ in range(4)]
    requests.request_many(jobs)
    locked, cancel, tries = jobs[2], board.ledger.cancel, []

    def hangs(job_id, **options):
        if job_id == locked:
            tries.append(job_id)
            raise StoreUnavailable("the row is locked")
        return cancel(job_id, **options)

    monkeypatch.setattr(board.ledger, "cancel", hangs)
    for _ in range(3):
        inbox.record()
    left = requests.check(locked).status
    monkeypatch.setattr(board.ledger, "cancel", cancel)
    inbox._resting.clear()  # as if it had rested for long enough
    inbox.record()

    assert tries == [locked]
    assert left == "pending"
    assert {requests.check(job).answer for job in jobs} == {"accepted"}
    assert caplog.text.count("requests.not_recorded") == 1


def test_when_two_fail_in_a_row_it_is_the_store(board, requests, inbox, monkeypatch):
    jobs = [board.post() for _ in range(4)]
    requests.request_many(jobs)
    tries = []

    def away(job_id, **options):
        tries.append(job_id)
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(board.ledger, "cancel", away)
        with pytest.raises(StoreUnavailable):
            inbox.record()
    inbox.record()

    assert len(tries) == 2
    assert {requests.check(job).answer for job in jobs} == {"accepted"}


def test_a_store_that_is_away_is_told_also_when_nothing_can_be_put_back(
    board, requests, inbox, folder, monkeypatch, caplog
):
    jobs = [board.post() for _ in range(2)]
    requests.request_many(jobs)

    def away(job_id, **options):
        raise StoreUnavailable("gone")

    def no_links(*args, **options):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(board.ledger, "cancel", away)
        patch.setattr(requests_module.os, "link", no_links)
        with pytest.raises(StoreUnavailable):
            inbox.record()

    assert caplog.text.count("requests.not_put_back") == 2
    assert {requests.check(job).status for job in jobs} == {"pending"}


def test_one_that_cannot_be_put_back_keeps_no_other_from_it(requests, monkeypatch):
    jobs = [str(uuid.uuid4()) for _ in range(3)]
    requests.request_many(jobs)
    taken = [requests.take(job) for job in jobs]
    monkeypatch.setattr(requests_module, "_TAKEN_SECONDS", -1.0)
    link = os.link

    def not_for_one(name, *args, **options):
        if name == taken[1].taken_as:
            raise PermissionError(1, "Operation not permitted")
        link(name, *args, **options)

    monkeypatch.setattr(requests_module.os, "link", not_for_one)
    with pytest.raises(PermissionError):
        requests.put_back_orphaned()

    monkeypatch.undo()
    assert [requests.take(job) is not None for job in jobs] == [True, False, True]


def test_a_folder_on_a_disk_without_second_names_is_refused_in_one_line(folder, monkeypatch):
    def no_links(*args, **options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("ebbtide.jobs.folders.os.link", no_links)
    with pytest.raises(FolderRefused) as refused:
        FileSignal(str(folder))

    assert str(refused.value) == (
        f"folder {folder} is refused: no file in it can have two names (Operation not permitted); "
        "name one on another disk"
    )
    assert list(folder.iterdir()) == []


def test_a_folder_named_like_a_job_is_no_request_and_stays_where_it_is(requests, folder, job):
    requests.request(str(uuid.uuid4()))
    (folder / f"{job}.json").mkdir()

    assert requests.mark_processed(job, "done") is None
    with pytest.raises(UsageError, match="is a folder: remove it"):
        requests.request(job)
    assert (folder / f"{job}.json").is_dir()


def test_a_request_is_written_over_what_is_none(requests, folder, job, put):
    put(f"{job}.json", b"garbage")

    asked = requests.request(job, "enough")

    assert requests.check(job) == asked


@pytest.mark.parametrize("wrong", ["x" * 1001, "a\x1bb"])
def test_an_answer_that_cannot_be_stored_leaves_the_request_pending(requests, folder, job, wrong):
    asked = requests.request(job)

    with pytest.raises(UsageError, match="the answer"):
        requests.mark_processed(job, wrong)

    assert requests.check(job) == asked
    assert [file.name for file in folder.iterdir()] == [f"{job}.json"]


def test_an_answer_that_cannot_be_written_leaves_the_request_pending(requests, job, monkeypatch):
    asked = requests.request(job)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(requests, "answer", full)
        with pytest.raises(OSError, match="No space left"):
            requests.mark_processed(job, "done")

    assert requests.check(job) == asked
    assert requests.take(job) is not None


def test_the_folder_is_listed_once_for_a_request_that_is_not_there(requests, folder, job, monkeypatch):
    requests.request(str(uuid.uuid4()))
    listings = []
    listed = os.listdir
    monkeypatch.setattr(requests_module.os, "listdir", lambda path: listings.append(path) or listed(path))

    assert requests.check(job) is None
    assert len(listings) == 1


# What is not believed.


def _link(path, tmp_path):
    (tmp_path / "target").write_text('{"status": "pending"}')
    path.symlink_to(tmp_path / "target")


def _hard_link(path, tmp_path):
    (tmp_path / "target").write_text('{"status": "pending"}')
    os.link(tmp_path / "target", path)


def _socket(path, tmp_path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _foreign(path, tmp_path):
    path.write_text('{"status": "pending"}')
    os.chown(path, 65534, -1)


PLANTED = {
    "a link": (_link, "it is a symbolic link"),
    "a second name": (_hard_link, "it has a second name"),
    "a pipe": (lambda path, _: os.mkfifo(path), "it is no regular file"),
    "a socket": (_socket, "it is no regular file"),
    "a folder": (lambda path, _: path.mkdir(), "it is no regular file"),
}
WRITTEN = {
    "empty": (b"", "it is not JSON"),
    "half": (b'{"status": "pend', "it is not JSON"),
    "not text": (b"\xff\xfe\x00", "it is not JSON"),
    "no number": (b'{"status": "pending", "requested_at": NaN}', "it is not JSON"),
    "deep": (b"[" * 4000, "it is not JSON"),
    "a list": (b"[]", "it is JSON, but no object"),
    "no status": (b"{}", 'its status is neither "pending" nor "processed"'),
    "another status": (b'{"status": "cancelled"}', 'its status is neither "pending" nor "processed"'),
    "another job": (b'{"status": "pending", "job": "x"}', "it names another job inside than outside"),
    "too long": (b'{"status": "pending", "reason": "' + b"x" * 4096 + b'"}', "bytes; 4096 are allowed"),
    "a number": (b'{"status": "pending", "reason": 5}', "the reason should be a text"),
    "a long reason": (b'{"status": "pending", "reason": "' + b"x" * 1001 + b'"}', "1000 are allowed"),
    "an escape": (b'{"status": "pending", "reason": "\\u001b[2J"}', "cannot be shown"),
    "a surrogate": (b'{"status": "pending", "who": "\\ud800"}', "cannot be shown"),
}


def refused_once(inbox, caplog, why):
    with caplog.at_level(logging.WARNING, "ebbtide"):
        for _ in range(3):
            inbox.record()
    assert caplog.text.count("requests.refused") == 1
    assert why in caplog.text
    return True


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_no_file_of_ours_is_refused_and_logged_once(board, inbox, folder, tmp_path, caplog, planted):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    plant, why = PLANTED[planted]
    path = folder / f"{job}.json"
    plant(path, tmp_path)

    assert refused_once(inbox, caplog, why)
    assert cancels(board, job) == []
    assert os.path.lexists(path)  # nothing is done to it


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused_and_logged_once(board, inbox, folder, tmp_path, caplog):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    _foreign(folder / f"{job}.json", tmp_path)

    assert refused_once(inbox, caplog, "it belongs to user 65534")
    assert cancels(board, job) == []


@pytest.mark.parametrize("written", WRITTEN)
def test_what_says_no_request_is_refused_and_logged_once(board, folder, requests, inbox, caplog, written):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    content, why = WRITTEN[written]
    (folder / f"{job}.json").write_bytes(content)

    assert refused_once(inbox, caplog, why)
    assert cancels(board, job) == []
    with pytest.raises(UsageError, match="is no request"):
        requests.check(job)


@pytest.mark.parametrize("name", ["readme.txt", "x.json", "UPPER.json", "-.json", "a\nb\x1b.json"])
def test_a_file_that_is_named_like_no_job_is_refused_and_logged_once(inbox, folder, caplog, name):
    (folder / name).write_text('{"status": "pending"}')

    assert refused_once(inbox, caplog, "its name is not the id of a job")
    assert "\x1b" not in caplog.text


def test_what_is_mended_after_it_was_refused_is_recorded(board, requests, inbox, folder):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    (folder / f"{job}.json").write_text('{"status": "pen')
    inbox.record()

    (folder / f"{job}.json").write_text('{"status": "pending"}')
    inbox.record()

    assert requests.check(job).answer == "accepted"


def test_who_is_still_writing_is_not_complained_of(board, requests, inbox, folder, caplog, monkeypatch):
    monkeypatch.setattr(inbox_module, "_WRITING_SECONDS", 3600.0)
    job = board.put(JobState.RUNNING, owner="one", epoch=1)

    with open(folder / f"{job}.json", "w") as out:
        out.write('{"status": "pen')
        out.flush()
        inbox.record()
        out.write('ding"}')
    inbox.record()

    assert requests.check(job).answer == "accepted"
    assert "requests.refused" not in caplog.text


def test_what_has_two_names_for_a_moment_is_not_complained_of(
    board, requests, inbox, folder, put, tmp_path, caplog, monkeypatch
):
    """As while it is put back. When it was written says nothing about that."""
    monkeypatch.setattr(inbox_module, "_WRITING_SECONDS", 3600.0)
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    file = put(f"{job}.json", {"status": "pending"})
    os.utime(file, (1, 1))
    os.link(file, tmp_path / "other")

    inbox.record()
    (tmp_path / "other").unlink()
    inbox.record()

    assert requests.check(job).answer == "accepted"
    assert "requests.refused" not in caplog.text


def test_a_folder_that_others_may_use_is_not_read_and_logged_once(board, requests, inbox, folder, caplog):
    job = board.put(JobState.RUNNING, owner="one", epoch=1)
    requests.request(job)
    folder.chmod(0o755)
    for _ in range(3):
        inbox.record()
    untouched = cancels(board, job)

    folder.chmod(0o700)
    inbox.record()

    assert untouched == []
    assert len(cancels(board, job)) == 1
    assert caplog.text.count("requests.unreadable") == 1


def test_what_killed_processes_had_taken_is_lost_to_nobody(board, requests, inbox, monkeypatch):
    monkeypatch.setattr(requests_module, "_TAKEN_SECONDS", -1.0)
    monkeypatch.setattr(inbox_module, "_TIDY_SECONDS", 0.0)
    jobs = [board.put(JobState.RUNNING, owner="one", epoch=1) for _ in range(20)]
    requests.request_many(jobs)
    program = (
        "import os, signal, sys\n"
        "from ebbtide.jobs.requests import Requests\n"
        "for job in sys.argv[2:]:\n"
        "    assert Requests(sys.argv[1]).take(job)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for share in (jobs[:5], jobs[5:12]):
        killed = subprocess.run([sys.executable, "-c", program, requests.folder, *share], check=False)
        assert killed.returncode == -9

    for _ in range(2):
        inbox.record()

    assert {requests.check(job).answer for job in jobs} == {"accepted"}


def test_nothing_else_is_left_in_the_folder(board, requests, inbox, folder):
    jobs = [board.post() for _ in range(5)]
    requests.request_many(jobs)
    inbox.record()

    assert {file.name for file in Path(folder).iterdir()} == {f"{job}.json" for job in jobs} | {".bell"}
