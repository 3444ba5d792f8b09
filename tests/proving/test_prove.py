"""`ebbtide prove` finds an undo that is not what it should be, and a product that is not; and refuses.

Promises: P2, P3, P5, P7, P8.
"""

import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

few = ("--points", 0, "--doubles", 0)
pytestmark = pytest.mark.timeout(300)


def told(proof):
    return {task["task"]: task["verdict"] for task in proof["tasks"]}


# Undos.


def test_an_undo_that_forgets_a_file_is_found_and_its_task_is_named(workshop):
    ended = workshop.prove(
        "forgetful", "-p", f"folder={workshop.world}", "--same", "world", "--yes", "--seed", 1, *few
    )

    assert ended.returncode == 1
    points, _, verdicts = ended.stdout.partition("\n\n")
    assert "task.ended forget: killed: completed; " in points
    lines = [" ".join(line.split()) for line in verdicts.splitlines()]
    assert lines[:2] == ["before undo complete", "forget undo leaks"]
    assert "world/forgotten is new (cancel at task.ended forget)" in lines
    assert "after undo complete" in lines
    assert lines[-1].endswith("1 violations (seed 1)")
    assert ended.stderr == (
        "ebbtide: forgetful@1 runs for real, with all its effects, again and again, and is killed\n"
    )
    assert workshop.there == {"text": "old"}


def test_an_undo_that_goes_once_is_found(workshop):
    proof = workshop.proof("edit", *few, code=1)

    assert told(proof) == {"before": "undo complete", "edit": "undo not repeatable"}
    (found,) = (task["found"] for task in proof["tasks"] if task["task"] == "edit")
    assert all(words.startswith("its undo failed: FileNotFoundError") for words in found)
    assert any("then kill at undo.ended edit" in words for words in found)
    assert proof["broken"] == []
    assert workshop.there == {"text": "old"}


def test_an_undo_that_knows_only_the_result_is_found_when_the_result_is_lost(workshop):
    proof = workshop.proof("keep", *few, code=1)

    assert told(proof) == {"keep": "undo leaks", "after": "undo complete"}
    (found,) = [task["found"] for task in proof["tasks"] if task["task"] == "keep"]
    assert [words for words in found if "cancel at task.ended keep" in words] == []


def test_a_pipe_that_is_left_where_a_file_was_is_found_and_the_file_is_put_back(workshop):
    proof = workshop.proof("pipe", *few, code=1)

    assert told(proof) == {"pipe": "undo leaks"}
    assert proof["stopped"] is None
    assert f"{workshop.world}/text differs: something else, mode 644 instead of a file" in str(proof["tasks"])
    assert workshop.there == {"text": "old"}


def test_a_locked_folder_is_copied_and_put_back(workshop):
    (workshop.world / "locked").mkdir()
    (workshop.world / "locked" / "file").write_text("kept")
    (workshop.world / "locked").chmod(0o555)

    proof = workshop.proof("locked", *few, code=1)

    assert told(proof) == {"lock": "undo leaks"}
    assert workshop.there == {"locked": False, "locked/file": "kept", "text": "old"}
    assert stat.S_IMODE((workshop.world / "locked").stat().st_mode) == 0o555
    assert list(workshop.temporary.iterdir()) == []


def test_what_cannot_be_put_back_is_kept(workshop):
    given = ("-p", f"folder={workshop.world}", "--same", workshop.world, "--yes")

    ended = workshop.prove("deep", *given, *few)

    assert ended.returncode != 0
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ebbtide: the proof could not be ended: what should be the same could not be put")
    kept = Path(last.rpartition("the copies are in ")[2])
    assert (kept / "0" / "text").read_text() == "old"
    assert kept.parent == workshop.temporary
    assert list(workshop.temporary.iterdir()) == [kept]


def test_without_anything_to_look_at_no_undo_is_called_complete_and_no_job_completes(workshop):
    ended = workshop.prove("serial", "-p", f"folder={workshop.world}", "--yes", "--json", *few)

    proof = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert set(told(proof).values()) == {"undo not looked at"}
    assert {end for point in proof["points"] for end in point["ends"].values()} == {"cancelled"}
    assert workshop.there == {"text": "old"}


def test_a_check_function_tells_whether_the_world_is_as_before(workshop):
    given = ("-p", f"folder={workshop.world}", "--check", "provable:names", "--yes", "--json", *few)

    good = workshop.prove("serial", *given)
    bad = workshop.prove("forgetful", *given)

    assert (good.returncode, bad.returncode) == (0, 1)
    assert set(told(json.loads(good.stdout)).values()) == {"undo complete"}
    proof = json.loads(bad.stdout)
    # What is left hides what the next job leaves: it ends there, and knows whose it is.
    assert proof["stopped"].startswith("the world is not as it was, and nothing can put it back")
    assert told(proof) == {"before": "undo complete", "forget": "undo leaks", "after": "undo not seen"}
    assert "forgotten" in workshop.there


def test_what_a_check_raises_is_a_difference(workshop):
    given = ("-p", f"folder={workshop.world}", "--check", "provable:asserts", "--yes", "--json", *few)

    ended = workshop.prove("forgetful", *given)

    proof = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert told(proof) == {"before": "undo complete", "forget": "undo leaks", "after": "undo not seen"}
    assert "the check function failed: AssertionError: it was forgotten" in proof["stopped"]


def test_what_only_a_check_looks_at_is_not_left_by_a_job_that_completes(workshop):
    elsewhere = workshop.folder / "elsewhere"
    elsewhere.mkdir()
    given = ("-p", f"folder={workshop.world}", "--same", elsewhere, "--check", "provable:names", "--yes")

    good = workshop.prove("serial", *given, "--json", *few)
    bad = workshop.prove("forgetful", *given, "--json", *few)

    proof = json.loads(good.stdout)
    assert (good.returncode, proof["stopped"]) == (0, None)
    assert set(told(proof).values()) == {"undo complete"}
    assert {end for point in proof["points"] for end in point["ends"].values()} == {"cancelled"}
    proof = json.loads(bad.stdout)
    assert bad.returncode == 1
    assert proof["stopped"].startswith("the world is not as it was, and nothing can put it back: the check")
    assert told(proof) == {"before": "undo complete", "forget": "undo leaks", "after": "undo not seen"}


def test_where_a_completed_job_changes_nothing_nothing_is_proven(workshop):
    given = ("-p", f"folder={workshop.world}", "--same", workshop.folder / "wrold", "--yes", "--json", *few)

    ended = workshop.prove("serial", *given)

    proof = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert proof["stopped"] == (
        "a job that completes changes nothing of what --same names: name what its tasks change"
    )
    assert set(told(proof).values()) == {"undo not looked at"}


def test_file_processing_is_proven(workshop):
    source, destination = workshop.folder / "source", workshop.folder / "destination"
    (source / "folder").mkdir(parents=True)
    for number in range(6):
        (source / "folder" / f"{number}.txt").write_text(f"{number}\n" * 50)
    (source / "link").symlink_to("folder/1.txt")
    given = ("-p", f"source={source}", "-p", f"destination={destination}", "--yes", "--json", "--seed", 1)

    ended = workshop.prove("file-processing", *given, "--same", source, "--same", destination, *few)

    proof = json.loads(ended.stdout)
    assert (ended.returncode, proof["violations"]) == (0, 0), ended.stdout
    assert set(told(proof).values()) == {"undo complete"}
    assert len(told(proof)) == 13
    assert not destination.exists()


@pytest.mark.parametrize("odd", ["flaky", "hangs-once"])
def test_an_undo_that_succeeds_when_it_is_tried_again_is_complete(odd, workshop):
    proof = workshop.proof("odd-undo", "-p", f"fail={odd}", *few, code=0)

    assert set(told(proof).values()) == {"undo complete"}
    assert {end for point in proof["points"] for end in point["ends"].values()} == {"completed", "cancelled"}
    assert bool(proof["ended"]) == (odd == "hangs-once")


@pytest.mark.parametrize(
    ("odd", "words"),
    [("fails", "OSError: busy"), ("hangs", "it did not end within 0.2 s, and its runner was ended")],
    ids=["fails", "hangs"],
)
def test_an_undo_that_fails_for_good_parks_its_job_whatever_happens_and_is_named(odd, words, workshop):
    proof = workshop.proof("odd-undo", "-p", f"fail={odd}", *few, code=1)

    assert (proof["broken"], proof["unexplained"], proof["stopped"]) == ([], [], None)
    assert told(proof)[odd] == "undo leaks"
    assert {verdict for task, verdict in told(proof).items() if task != odd} == {"undo complete"}
    (found,) = (task["found"] for task in proof["tasks"] if task["task"] == odd)
    assert all(line.startswith(f"its undo failed: {words}") for line in found)
    assert "parked" in {end for point in proof["points"] for end in point["ends"].values()}
    assert workshop.there == {"text": "old"}


# A product that breaks its promises.


@pytest.mark.parametrize(
    "planted, broken",
    [
        ("fence_off", "P8: a stale holder has changed what is stored"),
        ("outcome_ignores_the_request", "P3: its cancel was accepted and it ended completed"),
        ("cancel_only_signalled", "P4: its cancel was accepted and is not stored"),
        ("nobody_looks", "P5: second began after the cancel was accepted"),
        ("outcome_before_undo", "P7: it is cancelled, its undo "),
    ],
)
def test_a_bug_that_is_planted_in_the_product_is_found(planted, broken, workshop):
    proof = workshop.proof("serial", *few, code=1, planted=planted)

    assert any(words.startswith(broken) for words in proof["broken"]), proof["broken"]


# Refusals.


@pytest.mark.parametrize(
    "words, code, line",
    [
        (("serial", "-p", "folder=x"), 2, "say --yes if that does no harm here"),
        (("seriel", "--yes"), 3, "flow seriel is not known; did you mean serial? (known: "),
        (("serial", "--yes"), 2, "parameters do not fit flow serial: folder: missing"),
        (("serial", "--yes", "-p", "folder=x", "--check", "names"), 2, "write it as package.module:function"),
        (("serial", "--yes", "-p", "folder=x", "--check", "provable:nothing"), 2, "has no function nothing"),
        (("serial", "--yes", "-p", "folder=x", "--check", "nowhere:names"), 2, "there is no such module"),
        (
            ("serial", "--yes", "-p", "folder=x", "--check", "provable:raises"),
            2,
            "the check function failed before anything was run: LookupError: nothing to look at",
        ),
        (("serial", "--yes", "-p", "folder=x", "--check", "provable:no_json"), 2, "not JSON"),
        (("serial", "--yes", "-p", "folder=x", "--timeout", "0"), 2, "--timeout wants"),
        (("serial", "--yes", "-p", "folder=x", "--undo-timeout", "0"), 2, "--undo-timeout wants"),
        (("serial", "--yes", "-p", "folder=x", "--same", "/"), 2, "/ holds the folder for temporary files"),
    ],
)
def test_a_wrong_call_is_one_line(words, code, line, workshop):
    ended = workshop.prove(*words)

    last = ended.stderr.splitlines()[-1]
    assert (ended.returncode, ended.stdout) == (code, "")
    assert line in last
    assert "Traceback" not in ended.stderr
    assert workshop.there == {"text": "old"}


def test_a_database_with_jobs_in_it_is_refused(workshop):
    post = [sys.executable, "-m", "ebbtide", "post", "serial", "-p", "folder=x", "--database", "jobs.db"]
    subprocess.run([*post, "--flow-module", "provable"], cwd=workshop.folder, check=True, capture_output=True)

    ended = workshop.prove("serial", "-p", "folder=x", "--yes", "--database", "jobs.db")

    assert ended.returncode == 2
    assert "jobs.db holds jobs: a proof wants an empty database" in ended.stderr


def test_a_flow_that_ends_its_process_is_told_as_such(workshop):
    proof = workshop.proof("exits", *few, code=1)

    assert [words.partition(" (")[0] for words in proof["broken"]] == [
        "a holder ended by itself with status 3"
    ]
    assert proof["stopped"].startswith("a job is still running")


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name
)
def test_however_a_proof_is_ended_nothing_of_it_is_left(number, workshop):
    os.mkfifo(workshop.folder / "pipe")
    given = ("-p", f"folder={workshop.world}", "-p", "pipe=pipe", "--same", "world", "--timeout", 100000)
    with workshop.started("sleep", *given, "--yes") as process:
        pids = [*map(int, (workshop.folder / "pipe").read_text().split())]
        ends = [os.pidfd_open(pid) for pid in pids]
        fast = workshop.held_below("/dev/shm", pids)
        assert len(list(workshop.temporary.iterdir())) == 1

        process.send_signal(number)  # to it alone: the others are not in its group, or hear nothing of it
        _, words = process.communicate()
        for end in ends if number == signal.SIGKILL else ():
            select.select([end], [], [])

    assert select.select(ends, [], [], 0)[0] == ends
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert number == signal.SIGKILL or words.endswith("interrupted; what --same names is as it was\n")
    assert workshop.there == {"text": "old"}
    assert [each for each in (*fast, *workshop.temporary.iterdir()) if each.exists()] == []
    for end in ends:
        os.close(end)


def test_ctrl_c_puts_back_what_is_to_be_the_same(workshop):
    given = ("-p", f"folder={workshop.world}", "--same", "world", "--yes")
    with workshop.started("serial", *given) as process:
        for line in process.stdout:
            if line.startswith("task.ended"):
                break

        process.send_signal(signal.SIGINT)
        _, words = process.communicate()

    assert process.returncode == 130
    assert words.endswith("ebbtide: interrupted; what --same names is as it was\n")
    assert workshop.there == {"text": "old"}
