"""The checker finds and names each kind of violation in forged evidence, and finds none in sound evidence."""

import dataclasses

import pytest

from tests.chaos.checker import RULES, check
from tests.chaos.evidence import Effect, Entry, Evidence, JobRow
from tests.chaos.history import Call, History

HELD = 66
WORD = "post 1"


class Forger:
    """Writes the evidence of one job, line by line; times go on by themselves."""

    def __init__(self, *steps, order="linear"):
        self.now = 0.0
        self.calls = []
        self.entries = []
        self.effects = []
        self.made = set()
        self.steps = list(steps)
        self.attempt, self.epoch, self.state = 1, 0, None
        self.call("post", {"word": WORD, "steps": self.steps, "order": order, "rounds": 1}, job="j")
        self.edge("posted", "pending")

    def call(self, op, args=None, told="ok", **answer):
        """A call that takes one second."""
        args = {"job": "j"} if args is None else args
        self.calls.append(Call("client", op, args, self.tick(), told, self.tick(), answer))

    def look(self, **answer):
        seen = {"state": self.state, "attempt": self.attempt, "entries": len(self.entries)}
        self.call("look", **seen | answer)

    def cancel(self, reason="enough", told="ok", stored=True, **answer):
        if stored:
            self.edge("cancel_requested", None, reason=reason)
        self.call("cancel", {"job": "j", "reason": reason}, told, **answer or {"answer": "accepted"})

    def edge(self, name, to_state, **detail):
        if name == "retried":
            self.attempt += 1
        if name in ("claimed", "reclaimed"):
            self.epoch += 1
        number, source = len(self.entries) + 1, self.state if to_state else None
        self.entries.append(Entry("j", number, name, source, to_state, self.attempt, self.epoch, detail))
        self.state = to_state or self.state

    def tell(self, *words, epoch=None, pid=1, attempt=None):
        """Lines such as ``begin a``."""
        for word in words:
            what, _, task = word.partition(" ")
            line = Effect(what, task, "j", attempt or self.attempt, epoch or self.epoch, pid, self.tick())
            self.effects.append(line)
            if what == "begin":
                self.made.add(("j", task))
            if what == "undone":
                self.made.discard(("j", task))

    def tick(self):
        self.now += 1.0
        return self.now

    def evidence(self, undo=None, **changed):
        row = JobRow("j", WORD, self.state, self.attempt, undo, len(self.entries))
        row = dataclasses.replace(row, **changed)
        return Evidence(History(self.calls, frozenset({HELD})), [row], self.entries, self.effects, self.made)


def completed():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b", "end b")
    forger.edge("completed", "completed")
    return forger


def cancelled():
    """Cancelled while b was at work."""
    forger = Forger("a", "b", "c")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b")
    forger.cancel()
    forger.tell("undo b", "undone b", "undo a", "undone a")
    forger.edge("cancelled", "cancelled")
    return forger


def failed():
    forger = Forger("a", "b:fail")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b", "undo b", "undone b", "undo a", "undone a")
    forger.edge("failed", "failed")
    return forger


def told(evidence):
    return {(violation.promise, violation.job) for violation in check(evidence)}


# Sound evidence.


def test_sound_endings_break_nothing():
    assert check(completed().evidence()) == []
    assert check(cancelled().evidence("complete")) == []
    assert check(failed().evidence("complete")) == []


def test_a_retried_job_has_one_outcome_for_each_attempt():
    forger = failed()
    forger.look()
    forger.edge("retried", "pending")
    forger.call("retry", state="pending", attempt=2)
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b", "end b")
    forger.edge("completed", "completed")
    forger.look()

    assert check(forger.evidence()) == []


def test_what_was_interrupted_may_begin_again_under_the_next_epoch_and_in_the_next_round():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b")
    forger.edge("reclaimed", "running")
    forger.tell("begin b", "undo b", "undone b", "undo a", "undone a", "begin a", "end a", "begin b", "end b")
    forger.edge("completed", "completed")

    assert check(forger.evidence()) == []


def test_each_round_is_undone_newest_first_by_itself():
    forger = Forger("a", "b", "c")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b", "end b", "begin c", "undone c", "undone b", "undone a")
    forger.tell("begin a", "end a", "begin b")
    forger.cancel()
    forger.tell("undone b", "undone a")
    forger.edge("cancelled", "cancelled")

    assert check(forger.evidence("complete")) == []


def test_an_undo_that_was_killed_before_it_was_stored_is_told_again():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a")
    forger.cancel()
    forger.tell("undo b", "undone b")
    forger.edge("reclaimed", "running")
    forger.tell("undo b", "undone b", "undo a", "undone a")
    forger.edge("cancelled", "cancelled")

    assert check(forger.evidence("complete")) == []


def test_an_answer_that_was_lost_may_mean_either():
    forger = completed()
    forger.call("cancel", {"job": "j", "reason": "perhaps"}, "unknown")
    forger.call("retry", told="unknown")
    assert check(forger.evidence()) == []

    forger = Forger("a")
    forger.cancel("perhaps", "unknown", error="gone")
    forger.edge("cancelled_unclaimed", "cancelled")
    assert check(forger.evidence("none")) == []

    forger = Forger("a")
    forger.calls = [dataclasses.replace(forger.calls[0], told="unknown", answer={})]
    unstored = dataclasses.replace(forger.evidence(), jobs=[], entries=[])
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a")
    forger.edge("completed", "completed")
    assert check(unstored) == check(forger.evidence()) == []


def test_a_body_that_a_held_runner_has_begun_may_go_on_after_the_takeover():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", pid=HELD)
    forger.edge("reclaimed", "running")
    forger.tell("begin a", "end a")
    forger.tell("end a", epoch=1, pid=HELD)
    forger.tell("begin b", "end b")
    forger.edge("completed", "completed")

    assert check(forger.evidence()) == []


def test_a_body_may_tell_late_that_it_begins():
    # Its barrier had let it pass before the cancel was accepted; its first line came after that.
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a")
    forger.cancel()
    forger.tell("begin b", "undo b", "undone b", "undo a", "undone a")
    forger.edge("cancelled", "cancelled")

    assert check(forger.evidence("complete")) == []


def test_an_unordered_job_may_be_undone_in_any_order():
    forger = Forger("a", "b", order="unordered")
    forger.edge("claimed", "running")
    forger.tell("begin a", "begin b", "end a", "end b")
    forger.cancel()
    forger.tell("undo a", "undone a", "undo b", "undone b")
    forger.edge("cancelled", "cancelled")

    assert check(forger.evidence("complete")) == []


def test_one_that_was_accepted_as_it_is_may_have_left_something():
    forger = Forger("a")
    forger.edge("claimed", "running")
    forger.tell("begin a", "undo a")
    forger.edge("parked", "parked")
    assert check(forger.evidence()) == []
    forger.edge("accepted_as_failed", "failed")
    assert check(forger.evidence("accepted")) == []


# P1


def test_an_answered_post_that_is_not_stored():
    evidence = dataclasses.replace(completed().evidence(), jobs=[], entries=[], effects=[])

    assert told(evidence) == {("P1", "j")}


def test_a_post_that_was_denied_and_is_stored():
    forger = completed()
    forger.calls[0] = dataclasses.replace(forger.calls[0], told="fail", answer={"not_stored": "away"})

    assert told(forger.evidence()) == {("P1", "j")}


def test_a_post_that_is_stored_twice():
    evidence = completed().evidence()
    twin = JobRow("k", WORD, "pending", 1, None, 1)
    entry = dataclasses.replace(evidence.entries[0], job="k")
    evidence = dataclasses.replace(evidence, jobs=[*evidence.jobs, twin], entries=[*evidence.entries, entry])

    assert ("P1", "j") in told(evidence)


def test_a_post_of_nobody():
    forger = completed()
    row = dataclasses.replace(forger.evidence().jobs[0], id="k", word="post 2", entries=0)
    evidence = dataclasses.replace(forger.evidence(), jobs=[*forger.evidence().jobs, row])

    assert ("P1", "k") in {(v.promise, v.job) for v in RULES[0](evidence)}


def test_a_post_of_unknown_fate_that_was_seen_and_is_gone():
    forger = Forger("a")
    forger.calls = [dataclasses.replace(forger.calls[0], told="unknown", answer={})]
    forger.call("find", {"word": WORD}, job="j")
    evidence = dataclasses.replace(forger.evidence(), jobs=[], entries=[])

    assert told(evidence) == {("P1", "j")}


def test_a_post_that_was_seen_and_then_was_not():
    forger = completed()
    forger.call("find", {"word": WORD}, job="j")
    forger.call("find", {"word": WORD}, job=None)

    assert told(forger.evidence()) == {("P1", None)}


# P2


def test_two_outcomes_of_one_attempt():
    forger = completed()
    forger.edge("failed", "failed")

    assert ("P2", "j") in told(forger.evidence())


def test_an_outcome_that_was_seen_and_is_another():
    forger = completed()
    forger.look(state="failed")

    assert told(forger.evidence()) == {("P2", "j")}


def test_a_history_that_was_longer():
    forger = completed()
    forger.look(entries=9)

    assert told(forger.evidence()) == {("P2", "j")}


def test_a_job_that_was_seen_to_go_back():
    forger = failed()
    forger.edge("retried", "pending")
    forger.call("retry", state="pending", attempt=2)
    forger.look()
    forger.look(attempt=1)
    forger.cancel()
    forger.edge("cancelled_unclaimed", "cancelled")

    assert told(forger.evidence("none")) == {("P2", "j")}


# P3


def test_an_accepted_cancel_that_is_not_stored():
    forger = completed()
    forger.cancel(stored=False)

    assert told(forger.evidence()) == {("P3", "j")}


def test_a_cancelled_job_that_ends_otherwise():
    for outcome in ("completed", "failed"):
        forger = Forger("a")
        forger.edge("claimed", "running")
        forger.cancel()
        forger.edge(outcome, outcome)

        assert ("P3", "j") in told(forger.evidence("none"))


def test_a_cancelled_job_that_is_paused():
    forger = Forger("a")
    forger.edge("claimed", "running")
    forger.cancel()
    forger.edge("paused", "paused")

    assert ("P3", "j") in told(forger.evidence())


# P4


def test_a_cancel_that_was_denied_and_is_stored():
    forger = cancelled()
    forger.calls[-1] = dataclasses.replace(forger.calls[-1], told="fail", answer={"not_stored": "away"})

    assert told(forger.evidence("complete")) == {("P4", "j")}


def test_a_cancel_that_nobody_else_has_requested():
    forger = completed()
    forger.cancel(stored=False, answer="already requested")
    assert told(forger.evidence()) == {("P4", "j")}

    forger = cancelled()
    forger.calls[-1] = dataclasses.replace(forger.calls[-1], answer={"answer": "already requested"})
    assert told(forger.evidence("complete")) == {("P4", "j")}


def test_a_cancel_that_was_too_late_for_what_never_was():
    forger = completed()
    forger.cancel(told="fail", stored=False, too_late="failed")

    assert told(forger.evidence()) == {("P4", "j")}


def test_a_retry_that_was_answered_and_is_not_stored_and_one_that_was_denied_and_is():
    forger = failed()
    forger.call("retry", state="pending", attempt=2)
    assert told(forger.evidence("complete")) == {("P4", "j")}

    forger = failed()
    forger.edge("retried", "pending")
    forger.call("retry", told="fail", refused="running")
    forger.edge("cancelled_unclaimed", "cancelled")
    assert ("P4", "j") in told(forger.evidence("none"))


def test_a_job_that_is_there_and_was_not_found():
    forger = completed()
    forger.call("retry", told="fail", not_found="j")

    assert told(forger.evidence()) == {("P12", "j")}


# P5


def test_a_task_that_begins_after_the_one_before_ended_after_the_cancel():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a")
    forger.cancel()
    forger.tell("end a", "begin b", "undo b", "undone b", "undo a", "undone a")
    forger.edge("cancelled", "cancelled")

    assert told(forger.evidence("complete")) == {("P5", "j")}


def test_a_task_that_begins_under_a_claim_later_than_the_request():
    forger = Forger("a", order="unordered")
    forger.edge("claimed", "running")
    forger.cancel(told="unknown", error="gone")
    forger.edge("reclaimed", "running")
    forger.tell("begin a", "undo a", "undone a")
    forger.edge("cancelled", "cancelled")

    assert told(forger.evidence("complete")) == {("P5", "j")}


# P6


def test_a_body_that_begins_twice():
    forger = Forger("a")
    forger.edge("claimed", "running")
    forger.tell("begin a", "begin a", "end a")
    forger.edge("completed", "completed")

    assert told(forger.evidence()) == {("P6", "j")}


# P7


def test_a_task_that_is_not_undone():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b")
    forger.cancel()
    forger.tell("undo b", "undone b")
    forger.edge("cancelled", "cancelled")

    assert told(forger.evidence("complete")) == {("P7", "j")}


def test_an_undo_in_the_order_of_the_work():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b")
    forger.cancel()
    forger.tell("undo a", "undone a", "undo b", "undone b")
    forger.edge("cancelled", "cancelled")

    assert told(forger.evidence("complete")) == {("P7", "j")}


def test_an_undo_after_an_outcome_that_was_seen():
    forger = Forger("a")
    forger.edge("claimed", "running")
    forger.tell("begin a")
    forger.cancel()
    forger.edge("cancelled", "cancelled")
    forger.look()
    forger.tell("undo a", "undone a")

    assert told(forger.evidence("complete")) == {("P7", "j")}


def test_a_file_that_was_left_or_is_missing():
    forger = cancelled()
    forger.made.add(("j", "b"))
    assert told(forger.evidence("complete")) == {("P7", "j")}

    forger = completed()
    forger.made.remove(("j", "b"))
    assert told(forger.evidence()) == {("P7", "j")}


def test_a_completed_job_of_which_a_task_never_ended():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", "end a", "begin b")
    forger.edge("completed", "completed")

    assert told(forger.evidence()) == {("P7", "j")}


def test_an_undo_that_is_called_what_it_is_not():
    assert told(cancelled().evidence("none")) == {("P7", "j")}


# P8, P9


def test_a_stale_holder_that_begins_a_task():
    forger = Forger("a", "b")
    forger.edge("claimed", "running")
    forger.tell("begin a", pid=HELD)
    forger.edge("reclaimed", "running")
    forger.tell("begin a", "end a")
    forger.tell("end a", "begin b", epoch=1, pid=HELD)
    forger.tell("begin b", "end b")
    forger.edge("completed", "completed")

    assert told(forger.evidence()) == {("P8", "j")}


def test_a_runner_that_goes_on_after_the_takeover():
    forger = Forger("a")
    forger.edge("claimed", "running")
    forger.tell("begin a")
    forger.edge("reclaimed", "running")
    forger.tell("begin a")
    forger.tell("end a", epoch=1)
    forger.tell("end a")
    forger.edge("completed", "completed")

    assert told(forger.evidence()) == {("P9", "j")}


# P10, P13


def test_a_job_that_is_still_at_work():
    forger = Forger("a")
    forger.edge("claimed", "running")

    assert told(forger.evidence()) == {("P10", "j")}


@pytest.mark.parametrize(
    "changed",
    [
        {"entries": 2},
        {"state": "failed"},
        {"attempt": 2},
    ],
)
def test_a_row_that_is_not_where_its_history_leads(changed):
    assert ("P13", "j") in told(completed().evidence(**changed))


def test_a_history_with_a_gap():
    forger = completed()
    del forger.entries[1]
    assert ("P13", "j") in told(forger.evidence(entries=3))

    forger = completed()
    forger.call("follow", numbers=[1, 3])
    assert told(forger.evidence()) == {("P13", "j")}


def test_an_edge_that_the_table_lacks():
    forger = completed()
    forger.edge("claimed", "running")
    forger.edge("completed", "completed")

    assert ("P13", "j") in told(forger.evidence())


def test_an_epoch_that_nobody_has_claimed():
    forger = completed()
    forger.entries[-1] = dataclasses.replace(forger.entries[-1], epoch=2)

    assert told(forger.evidence()) == {("P13", "j")}
