"""The checks of a proof find and name each promise that forged evidence breaks, and nothing in a sound one.

Promises: P2 to P8, P10, P13.
"""

import dataclasses

import pytest

from ebbtide.testing.proving.account import Account
from ebbtide.testing.proving.checks import Evidence, broken_promises
from ebbtide.testing.proving.effects import Effect

A_DIGEST, B_DIGEST = "digest of a", "digest of b"


def effect(words, **changed):
    """A line of the effect log, from words such as ``begin execute a``."""
    what, verb, task = words.split()
    value = {"end execute": f"digest of {task}", "begin revert": f"digest of {task}"}.get(f"{what} {verb}")
    return dataclasses.replace(Effect(what, verb, task, "j", attempt=1, epoch=1, value=value), **changed)


def cancel(answer="accepted", *passed):
    """That answer to a cancel, when those tasks had passed their barrier."""
    return Effect("cancel", job="j", value=answer, passed=[(task, 1) for task in passed])


def ran(*tasks):
    return [effect(f"{what} execute {task}") for task in tasks for what in ("begin", "end")]


def undone(*tasks):
    return [effect(f"{what} revert {task}") for task in tasks for what in ("begin", "end")]


def row(task, how="returned", undo_ended_at=None, round=1):
    return {"task": task, "round": round, "how": how, "undo_ended_at": undo_ended_at}


def entry(number, source, target):
    return {"number": number, "from_state": source, "to_state": target}


def account(state, *tasks, undo="none", requested_at=None, **job):
    """What is stored of a job that was posted, claimed, and has come to `state`."""
    facts = {"state": state, "phase": state, "undo": undo, "not_undone": [], "park_reason": None}
    facts["cancel"] = None if requested_at is None else {"requested_at": requested_at}
    ways = [(None, "pending"), ("pending", "running"), ("running", state)]
    return Account(
        facts | job,
        list(tasks),
        [entry(number, *way) for number, way in enumerate(ways, 1)],
        [{"attempt": 1, "state": state, "undo": undo}]
        if state in ("completed", "failed", "cancelled")
        else [],
    )


def evidence(effects, account, **changed):
    before = {"a": set(), "b": {"a"}}
    return dataclasses.replace(Evidence(effects, account, before), **changed)


def completed(**changed):
    return evidence(ran("a", "b"), account("completed", row("a"), row("b")), **changed)


def cancelled(**changed):
    """Cancelled while b was at work, and undone."""
    effects = [*ran("a", "b"), cancel("accepted", "a", "b"), *undone("b", "a")]
    rows = (row("a", undo_ended_at=2.0), row("b", undo_ended_at=1.0))
    stored = account("cancelled", *rows, undo="complete", requested_at=1.0)
    return evidence(effects, stored, answers=["accepted"], **changed)


def parked():
    """The undo of a has failed."""
    effects = [*ran("a", "b"), *undone("b"), effect("begin revert a"), effect("raised revert a")]
    rows = (row("a"), row("b", undo_ended_at=1.0))
    return evidence(effects, account("parked", *rows, not_undone=["a"], park_reason="an undo failed"))


def stored(given, **changed):
    """The same evidence with something else in the ledger."""
    return dataclasses.replace(given, account=dataclasses.replace(given.account, **changed))


def job(given, **changed):
    return stored(given, job=given.account.job | changed)


def with_effects(given, *effects):
    return dataclasses.replace(given, effects=effects)


def rows(given, *tasks):
    return stored(given, tasks=list(tasks))


@pytest.mark.parametrize("sound", [completed, cancelled, parked])
def test_sound_evidence_breaks_nothing(sound):
    assert broken_promises(sound()) == []


def test_a_job_that_fails_and_one_that_was_cancelled_too_late_break_nothing():
    effects = [*ran("a"), effect("begin execute b"), effect("raised execute b")]
    undo = [effect("begin revert b", value="INTERRUPTED"), effect("end revert b"), *undone("a")]
    tasks = (row("a", undo_ended_at=2.0), row("b", how="raised", undo_ended_at=1.0))
    given = evidence([*effects, *undo], account("failed", *tasks, undo="complete"))

    assert broken_promises(given) == []
    late = with_effects(completed(answers=["too late"]), *ran("a", "b"), cancel("too late"))
    assert broken_promises(late) == []


INTERRUPTED = "INTERRUPTED"


def test_an_undo_may_be_repeated_after_its_end_died_with_its_holder_and_is_given_the_same():
    effects = [*ran("a"), cancel("accepted", "a")]
    for epoch in (2, 3):
        effects += [
            effect("begin revert a", epoch=epoch, value=INTERRUPTED),
            effect("end revert a", epoch=epoch),
        ]
    rows = (row("a", how="interrupted", undo_ended_at=1.0),)
    stored = account("cancelled", *rows, undo="complete", requested_at=1.0)

    assert broken_promises(evidence(effects, stored, answers=["accepted"], kills=2)) == []


def test_a_round_whose_holder_died_before_the_body_is_undone_as_interrupted():
    effects = [*ran("a"), *undone("a"), cancel("accepted", "a")]
    effects += [effect("begin revert a", epoch=2, value=INTERRUPTED), effect("end revert a", epoch=2)]
    rows = [row("a", undo_ended_at=1.0), row("a", how="interrupted", undo_ended_at=2.0, round=2)]
    stored = account("cancelled", *rows, undo="complete", requested_at=1.0)
    given = evidence(effects, stored, answers=["accepted"], kills=1)

    assert broken_promises(given) == []
    # Without that round it is an undo that was given another result the second time.
    once = dataclasses.replace(given, account=dataclasses.replace(stored, tasks=rows[:1]))
    assert broken_promises(once) == ["P7: a was undone in round 2, which is not recorded as begun"]


def test_a_body_may_begin_again_under_the_next_epoch_and_in_the_next_round():
    again = [effect(f"{what} execute b", epoch=2) for what in ("begin", "end")]
    given = with_effects(completed(kills=1), *ran("a"), effect("begin execute b"), *again)
    assert broken_promises(given) == []

    twice = [*ran("a", "b"), *undone("b", "a"), *ran("a", "b")]
    first = (row("a", undo_ended_at=2.0), row("b", undo_ended_at=1.0))
    given = with_effects(completed(), *twice)
    assert broken_promises(rows(given, *first, row("a", round=2), row("b", round=2))) == []


FAILED_OUTCOME = [{"attempt": 1, "state": "failed", "undo": "none"}]
POSTED, CLAIMED, COMPLETED = completed().account.entries
CANCEL = cancel("accepted", "a", "b")

#: What is broken -> evidence of it, and how the line begins.
BROKEN = {
    "an outcome that is not stored": (stored(completed(), outcomes=[]), "P2: it is completed"),
    "another outcome that is stored": (stored(completed(), outcomes=FAILED_OUTCOME), "P2: it is completed"),
    "two outcomes": (
        stored(completed(), outcomes=[*completed().account.outcomes, *FAILED_OUTCOME]),
        "P2: it is completed",
    ),
    "a second end in the history": (
        stored(completed(), entries=[POSTED, CLAIMED, COMPLETED, entry(4, "completed", "completed")]),
        "P2: it is completed",
    ),
    "an accepted cancel and a completed job": (
        job(completed(answers=["accepted"]), cancel={"requested_at": 1.0}),
        "P3: its cancel was accepted and it ended completed",
    ),
    "an accepted cancel that is not stored": (
        job(cancelled(), cancel=None),
        "P4: its cancel was accepted and is not stored",
    ),
    "a cancel that was too late for what never was": (
        dataclasses.replace(parked(), answers=["too late"]),
        "P4: its cancel was refused as too late, and it is parked",
    ),
    "a cancel that was too late after one that was accepted": (
        dataclasses.replace(cancelled(), answers=["accepted", "too late"]),
        "P4: its cancel was refused as too late, and it is cancelled",
    ),
    "a cancelled job that nobody has cancelled": (
        dataclasses.replace(cancelled(), answers=[]),
        "P4: it is cancelled and nobody was told",
    ),
    "a task that begins after the cancel": (
        with_effects(cancelled(), *ran("a"), cancel("accepted", "a"), *ran("b"), *undone("b", "a")),
        "P5: b began after the cancel was accepted",
    ),
    "a body that begins twice": (
        with_effects(completed(), effect("begin execute a"), *ran("a", "b")),
        "P6: a began 2 times in attempt 1, round 1, epoch 1",
    ),
    "a task that is not undone": (
        with_effects(cancelled(), *ran("a", "b"), CANCEL, *undone("b")),
        "P7: it is cancelled, its undo complete; not undone: [], really: ['a']",
    ),
    "a task that is not stored as undone": (
        rows(cancelled(), row("a"), row("b", undo_ended_at=1.0)),
        "P7: it is cancelled, its undo complete; not undone: ['a'], really: []",
    ),
    "an undo that is called none": (
        job(cancelled(), undo="none"),
        "P7: its undo is none after 2 tasks began",
    ),
    "a parked job that hides what is not undone": (
        job(parked(), not_undone=[]),
        "P7: it is parked, says that [] are not undone, and ['a'] are not",
    ),
    "a task that is not recorded": (rows(completed(), row("a")), "P7: b ran and is not recorded"),
    "an undo that runs once more than holders died": (
        with_effects(
            cancelled(kills=1), *ran("a", "b"), CANCEL, *[effect("begin revert b")] * 2, *undone("b", "a")
        ),
        "P7: the undo of b ran 3 times",
    ),
    "a task that begins before the one before it": (
        with_effects(completed(), *ran("b", "a")),
        "P7: b began before a",
    ),
    "an undo in the order of the work": (
        with_effects(cancelled(), *ran("a", "b"), CANCEL, *undone("a", "b")),
        "P7: a was undone before b",
    ),
    "an undo that is given another result": (
        with_effects(
            cancelled(),
            *ran("a", "b"),
            CANCEL,
            effect("begin revert b", value="another"),
            effect("end revert b"),
            *undone("a"),
        ),
        "P7: the undo of b was given another result",
    ),
    "an undo that is given a result that nobody knows": (
        rows(cancelled(), row("a", undo_ended_at=2.0), row("b", how="died", undo_ended_at=1.0)),
        "P7: the undo of b was given another result",
    ),
    "a task that is recorded as returned and did not": (
        with_effects(completed(), *ran("a"), effect("begin execute b")),
        "P7: b is recorded as returned in round 1, and did not return",
    ),
    "a task that is recorded as begun and did not": (
        rows(completed(), row("a"), row("b"), row("c", how="returned")),
        "P7: c is recorded as begun in round 1, and did not begin",
    ),
    "a task that returned and is recorded as cut": (
        rows(cancelled(), row("a", undo_ended_at=2.0), row("b", how="died", undo_ended_at=1.0)),
        "P7: b returned in round 1, and is recorded as died",
    ),
    "a holder that begins after it was overtaken": (
        with_effects(
            completed(stale=completed().account),
            effect("begin execute a"),
            *[effect(f"{what} execute a", epoch=2) for what in ("begin", "end")],
            effect("begin execute b"),
            *[effect(f"{what} execute b", epoch=2) for what in ("begin", "end")],
        ),
        "P8: a holder of epoch 1 began execute of b after its end",
    ),
    "a stale holder that stores something": (
        completed(stale=parked().account),
        "P8: a stale holder has changed what is stored: job",
    ),
    "a parked job of which no undo failed": (
        with_effects(parked(), *ran("a", "b"), *undone("b")),
        "P10: it is parked although no undo failed: an undo failed",
    ),
    "a job that is still at work": (
        evidence(ran("a"), account("running", row("a"))),
        "P10: it is still running",
    ),
    "a completed job of which a task did not return": (
        with_effects(completed(), *ran("a"), effect("begin execute b"), effect("raised execute b")),
        "P10: it completed although these did not: ['b']",
    ),
    "a completed job of which a task is not stored as returned": (
        rows(completed(), row("a"), row("b", how="raised")),
        "P10: it completed although these did not: []",
    ),
    "a history with a gap": (
        stored(completed(), entries=[POSTED, CLAIMED, COMPLETED | {"number": 4}]),
        "P13: the entries of its history are numbered [1, 2, 4]",
    ),
    "an edge from where the job was not": (
        stored(completed(), entries=[POSTED, CLAIMED, COMPLETED | {"from_state": "pending"}]),
        "P13: entry 3 goes from pending, and it was running",
    ),
    "a history that leads elsewhere": (
        stored(parked(), entries=[POSTED, CLAIMED]),
        "P13: its history leads to running, and it is parked",
    ),
}


@pytest.mark.parametrize("given, line", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_found(given, line):
    found = broken_promises(given)

    assert [words for words in found if words.startswith(line)] != [], found
