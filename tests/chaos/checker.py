"""The checker: decides after a run, from what was told and stored, which promises were broken.

It uses nothing but its evidence, and concludes no more than that allows. Two times of one machine's clock
compare; a line of the effect log is later than its time; and a body may tell that it begins long after its
barrier has let it pass, since a runner may be stopped between the two. So that a task has passed its barrier
after some moment is said only where it follows, by the order of the ledger's entries or since another task
of a serial job told something in between.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ebbtide.jobs.states import FINAL_STATES, edge
from tests.chaos.evidence import Effect, Entry, Evidence, JobRow
from tests.chaos.history import Call

FINAL = {str(state) for state in FINAL_STATES}
CLAIMS = ("claimed", "reclaimed")


@dataclass(frozen=True)
class Violation:
    promise: str
    job: str | None
    what: str

    def __str__(self) -> str:
        return f"{self.promise} is broken: job {self.job}: {self.what}"


Rule = Callable[[Evidence], Iterator[Violation]]
RULES: list[Rule] = []


def _rule(rule: Rule) -> Rule:
    RULES.append(rule)
    return rule


def check(evidence: Evidence) -> list[Violation]:
    """Every violation that the evidence shows, those of one promise together."""
    return [violation for rule in RULES for violation in rule(evidence)]


@_rule
def posts_are_stored(evidence: Evidence) -> Iterator[Violation]:
    """P1: what was answered is stored once, what was denied is not; what was seen stays."""
    stored: dict[str, list[str]] = defaultdict(list)
    for job in evidence.jobs:
        stored[job.word].append(job.id)
    for word, call in evidence.posts.items():
        found = stored.get(word, [])
        if call.told == "ok" and call.answer["job"] not in found:
            yield Violation("P1", call.answer["job"], f"posted as {word} and not stored")
        if call.told == "fail" and found:
            yield Violation("P1", found[0], f"stored as {word}, which was answered with {call.answer}")
        if len(found) > 1:
            yield Violation("P1", found[0], f"one post, {word}, is stored {len(found)} times")
    for word in stored.keys() - evidence.posts.keys():
        yield Violation("P1", stored[word][0], f"stored as {word}, and nobody posted it")
    known = {job.id for job in evidence.jobs}
    for look in _looks(evidence):
        if look.answer["job"] is not None and look.answer["job"] not in known:
            yield Violation("P1", look.answer["job"], f"was seen and is gone: {look}")
    first: dict[str, float] = {}
    for look in sorted(_looks(evidence), key=lambda call: call.answered or 0.0):
        if look.answer["job"] is not None and look.answered is not None:
            first.setdefault(look.args["word"], look.answered)
    for look in _looks(evidence):
        if look.answer["job"] is None and look.invoked > first.get(look.args["word"], look.invoked):
            yield Violation("P1", None, f"was seen before, and then not: {look}")


@_rule
def outcomes_stay(evidence: Evidence) -> Iterator[Violation]:
    """P2, P13: one outcome per attempt, and what a client saw of a job is gapless and only grows."""
    for job in evidence.jobs:
        entries = evidence.entries_of.get(job.id, [])
        outcomes = Counter(entry.attempt for entry in entries if entry.to_state in FINAL)
        for attempt, count in outcomes.items():
            if count > 1:
                yield Violation("P2", job.id, f"attempt {attempt} has {count} outcomes")
        stored = {entry.attempt: entry.to_state for entry in entries if entry.to_state in FINAL}
        seen = [look for look in evidence.calls_of.get(job.id, ()) if look.op == "look" and look.told == "ok"]
        for look in seen:
            state, attempt = look.answer["state"], look.answer["attempt"]
            if state in FINAL and stored.get(attempt) != state:
                yield Violation("P2", job.id, f"attempt {attempt} was seen {state}, is {stored.get(attempt)}")
            if look.answer["entries"] > len(entries):
                yield Violation("P2", job.id, f"entries of its history were seen and are gone: {look}")
        for earlier, later in _in_order(seen):
            was, then = ((look.answer["attempt"], look.answer["entries"]) for look in (earlier, later))
            if was[0] > then[0] or was[1] > then[1]:
                yield Violation("P2", job.id, f"has gone back: {earlier}, then {later}")

    for call in evidence.calls("follow"):
        numbers = call.answer.get("numbers", [])
        if numbers != list(range(1, len(numbers) + 1)):
            yield Violation("P13", call.args["job"], f"was seen with gaps: {call}")


@_rule
def cancels_hold(evidence: Evidence) -> Iterator[Violation]:
    """P3: an accepted cancel is stored once, and its attempt never ends but cancelled."""
    for job in evidence.jobs:
        entries = evidence.entries_of.get(job.id, [])
        for request in _requests(entries):
            for entry in entries:
                if entry.attempt == request.attempt and entry.number > request.number:
                    if entry.to_state in FINAL - {"cancelled"}:
                        yield Violation("P3", job.id, f"ended {entry.to_state} after the request {request}")
                    if entry.to_state == "paused":
                        yield Violation("P3", job.id, f"was paused after the request {request}")
    for call in evidence.calls("cancel"):
        if call.told == "ok" and call.answer.get("answer") == "accepted":
            found = _requests_of(evidence, call)
            if len(found) != 1:
                yield Violation("P3", call.args["job"], f"accepted and stored {len(found)} times: {call}")


@_rule
def answers_are_true(evidence: Evidence) -> Iterator[Violation]:
    """P4, P12: what was refused or not stored has left nothing; what was said of the job is so."""
    for call in evidence.calls("cancel"):
        job, found = call.args["job"], _requests_of(evidence, call)
        entries = evidence.entries_of.get(job, [])
        if call.told == "fail" and found:
            yield Violation("P4", job, f"stored, and denied: {call}")
        if call.told == "ok" and call.answer.get("answer") == "already requested":
            if found:
                yield Violation("P4", job, f"stored, and called another's: {call}")
            elif not any(entry.name == "cancel_requested" for entry in entries):
                yield Violation("P4", job, f"nobody has requested it: {call}")
        if "too_late" in call.answer:
            state = call.answer["too_late"]
            if not any(entry.to_state == state for entry in entries):
                yield Violation("P4", job, f"it never was {state}: {call}")
    known = {job.id for job in evidence.jobs}
    for call in evidence.history.calls:
        if call.answer.get("not_found") in known:
            yield Violation("P12", call.args["job"], f"it is there, and was not found: {call}")
    for op, edge_name in (("retry", "retried"), ("unpark", "unparked")):
        asked: dict[str, Counter[str]] = defaultdict(Counter)
        for call in evidence.calls(op):
            asked[call.args["job"]][call.told] += 1
        for job, told in asked.items():
            done = sum(entry.name == edge_name for entry in evidence.entries_of.get(job, ()))
            if not told["ok"] <= done <= told["ok"] + told["unknown"]:
                yield Violation("P4", job, f"{op} was answered {dict(told)} and is stored {done} times")


@_rule
def nothing_begins_after_a_cancel(evidence: Evidence) -> Iterator[Violation]:
    """P5: no execute passes its barrier once the cancel of its attempt is accepted."""
    accepted = {
        (call.args["job"], call.args["reason"]): call.answered
        for call in evidence.calls("cancel")
        if call.told == "ok" and call.answered is not None
    }
    for job in evidence.jobs:
        entries, lines = evidence.entries_of.get(job.id, []), evidence.effects_of.get(job.id, [])
        for request in _requests(entries):
            later = {e.epoch for e in entries if e.name in CLAIMS and e.number > request.number}
            answered = accepted.get((job.id, request.detail["reason"]))
            before: dict[int, Effect] = {}  # the line that an epoch told last
            for line in lines:
                if line.attempt != request.attempt:
                    continue
                if line.what == "begin":
                    previous = before.get(line.epoch)
                    if line.epoch in later:
                        yield Violation("P5", job.id, f"begins under a claim later than {request}: {line}")
                    elif answered and previous and previous.at > answered and evidence.is_serial(job):
                        yield Violation("P5", job.id, f"begins after {previous}, after the cancel: {line}")
                before[line.epoch] = line


@_rule
def bodies_begin_once(evidence: Evidence) -> Iterator[Violation]:
    """P6: a body begins at most once per attempt, round and epoch."""
    for job in evidence.jobs:
        begun = set()
        for line in evidence.effects_of.get(job.id, ()):
            key = (line.task, line.attempt, line.epoch)
            if line.what == "undone":
                begun.discard(key)  # a round is over
            if line.what == "begin":
                if key in begun:
                    yield Violation("P6", job.id, f"begins twice: {line}")
                begun.add(key)


@_rule
def all_is_undone(evidence: Evidence) -> Iterator[Violation]:
    """P7: what began and was not to stay is undone, newest first; what completed stands."""
    for job in evidence.jobs:
        lines = _undisputed(evidence, job)
        for outcome in evidence.entries_of.get(job.id, ()):
            if outcome.to_state in FINAL:
                told = [line for line in lines if line.attempt == outcome.attempt]
                for what in _broken_ending(evidence, job, outcome, told):
                    yield Violation("P7", job.id, what)
        for look in evidence.calls_of.get(job.id, ()):
            if look.op == "look" and look.told == "ok" and look.answer["state"] in FINAL and look.answered:
                for line in lines:
                    if line.attempt <= look.answer["attempt"] and line.at > look.answered:
                        yield Violation("P7", job.id, f"goes on after its outcome was seen: {look}: {line}")


def _broken_ending(evidence: Evidence, job: JobRow, outcome: Entry, told: list[Effect]) -> Iterator[str]:
    """What is wrong with the ending of an attempt, by what its tasks told."""
    last = {line.task: line.what for line in told}
    steps = {step.partition(":")[0] for step in evidence.posts[job.word].args["steps"]}
    present = outcome.attempt == job.attempt
    disputed = any(evidence.is_held(line) for line in evidence.effects_of.get(job.id, ()))
    made = {task for each, task in evidence.made if each == job.id}
    if outcome.name in ("accepted_as_failed", "accepted_as_cancelled"):
        return
    if outcome.to_state == "completed":
        if last != dict.fromkeys(steps, "end"):
            yield f"completed, and its tasks came to {last}"
        if present and made != steps and not disputed:
            yield f"completed, and what there is of it is {made}"
        return
    standing = {task: what for task, what in last.items() if what != "undone"}
    if standing:
        yield f"{outcome.to_state}, and not undone: {standing}"
    if present and made and not disputed:
        yield f"{outcome.to_state}, and there is still {made}"
    if present and job.undo != ("complete" if last else "none"):
        yield f"its undo is called {job.undo}, and its tasks came to {last}"
    if evidence.is_serial(job):
        yield from _not_newest_first(told)


def _not_newest_first(told: list[Effect]) -> Iterator[str]:
    """The undos of a serial job that came before that of a newer task.

    One that was killed between its barrier and its first line has told nothing of its beginning, and an undo
    that was killed before it was stored is told once more: what does not stand here is let be.
    """
    standing: list[str] = []
    for line in told:
        if line.what == "begin":
            standing = [*(task for task in standing if task != line.task), line.task]
        elif line.what == "undone" and line.task in standing:
            if standing[-1] != line.task:
                yield f"not undone newest first: {standing} stood, and {line}"
            standing.remove(line.task)


@_rule
def nobody_is_stale(evidence: Evidence) -> Iterator[Violation]:
    """P8, P9: nothing of an epoch happens once the next one has begun; at any rate nothing more begins.

    Where nobody could end a runner in time, a body that has begun may go on; what comes after that has passed
    a barrier under a claim that was another's.
    """
    for job in evidence.jobs:
        newest, late = 0, set()
        for line in evidence.effects_of.get(job.id, ()):
            if line.epoch < newest:
                if not evidence.is_held(line):
                    yield Violation("P9", job.id, f"goes on after epoch {newest} has begun: {line}")
                elif line.what in ("begin", "undo") and line.epoch in late and evidence.is_serial(job):
                    yield Violation("P8", job.id, f"is begun by a stale holder, epoch {newest}: {line}")
                late.add(line.epoch)
            newest = max(newest, line.epoch)


@_rule
def all_come_to_rest(evidence: Evidence) -> Iterator[Violation]:
    """P10: once the nemesis has stopped, every job ends or parks; the evidence is from after that."""
    for job in evidence.jobs:
        if job.state not in FINAL | {"parked"}:
            yield Violation("P10", job.id, f"is still {job.state}")


@_rule
def histories_replay(evidence: Evidence) -> Iterator[Violation]:
    """P13: gapless, along edges of the table, from nothing to the present state; numbers only grow."""
    for job in evidence.jobs:
        entries = evidence.entries_of.get(job.id, [])
        if [entry.number for entry in entries] != list(range(1, job.entries + 1)):
            yield Violation("P13", job.id, f"its history has gaps: {[entry.number for entry in entries]}")
        state, attempt, epoch = None, 1, 0
        for entry in entries:
            attempt += entry.name == "retried"
            epoch += entry.name in CLAIMS
            if (entry.attempt, entry.epoch) != (attempt, epoch):
                yield Violation("P13", job.id, f"attempt {attempt}, epoch {epoch} expected: {entry}")
            if entry.to_state is not None:
                way = edge(entry.name)
                fits = entry.from_state in way.sources if way.sources else entry.from_state is None
                if entry.from_state != state or entry.to_state != way.target or not fits:
                    yield Violation("P13", job.id, f"no edge from {state}: {entry}")
                state = entry.to_state
        if (state, attempt) != (job.state, job.attempt):
            yield Violation("P13", job.id, f"its history leads to {state} in attempt {attempt}, not to {job}")


def _looks(evidence: Evidence) -> list[Call]:
    """The calls that looked for a post by its word."""
    return [call for call in evidence.calls("find") if call.told == "ok"]


def _requests(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.name == "cancel_requested"]


def _requests_of(evidence: Evidence, call: Call) -> list[Entry]:
    """The requests that are stored for one cancel: its reason is its own."""
    entries = evidence.entries_of.get(call.args["job"], [])
    return [entry for entry in _requests(entries) if entry.detail["reason"] == call.args["reason"]]


def _in_order(calls: list[Call]) -> Iterator[tuple[Call, Call]]:
    """Pairs of calls of which one was answered before the other was made."""
    for later in calls:
        for earlier in calls:
            if earlier.answered is not None and earlier.answered < later.invoked:
                yield earlier, later


def _undisputed(evidence: Evidence, job: JobRow) -> list[Effect]:
    """The lines of a job without what was told late by a runner that nobody could end."""
    kept, newest = [], 0
    for line in evidence.effects_of.get(job.id, ()):
        if line.epoch >= newest or not evidence.is_held(line):
            kept.append(line)
        newest = max(newest, line.epoch)
    return kept
