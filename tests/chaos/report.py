"""Reports of runs: a page of figures for people, a part for each kind of run."""

import os
import platform
import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tests.chaos.checker import FINAL
from tests.chaos.endurance import Endured
from tests.chaos.evidence import Entry, Evidence

_END = "<!-- end of part -->"
_PACKAGES = ("ebbtide", "taskflow", "SQLAlchemy")


def write_part(page: Path, name: str, text: str) -> None:
    """Put the part of that name into the page, in place of an older one; the other parts stay."""
    begin = f"<!-- part: {name} -->"
    part = f"{begin}\n{text}{_END}\n"
    old = page.read_text() if page.exists() else ""
    found = re.search(f"{re.escape(begin)}.*?{re.escape(_END)}\n", old, re.DOTALL)
    new = old[: found.start()] + part + old[found.end() :] if found else f"{old}\n{part}".lstrip()
    page.write_text(new)


def network_report(endured: Endured, *, seed: int) -> str:
    """The part about a run in which wires were pulled."""
    evidence, dealt = endured.evidence, endured.dealt
    severed = sum(count for what, count in dealt.items() if what.startswith("sever "))
    accepted = [call for call in evidence.calls("cancel") if call.answer.get("answer") == "accepted"]
    ended = Counter(_ended_as(_fate(evidence, call.args["job"], call.args["reason"])) for call in accepted)
    entries = Counter(entry.name for entry in evidence.entries)
    states = Counter(job.state for job in evidence.jobs)
    again = f"EBBTIDE_TEST_CHAOS_SECONDS={endured.seconds:.0f} EBBTIDE_TEST_SEED={seed}"
    parts = [
        f"# {severed} partitions, with ZooKeeper and PostgreSQL",
        "Two conductors in network namespaces of their own, with PostgreSQL on one bridge and ZooKeeper on\n"
        "another; wires are pulled out and put back while clients post, cancel, retry and unpark. This part\n"
        "was written by the run itself (`tests/chaos/test_chaos.py`). The checker found no promise broken.",
        f"{endured.seconds:.0f} seconds, {len(evidence.history.calls):,} calls.",
        _table(("what was done", "times"), dealt.most_common()),
        _table(
            ("of the accepted cancels", ""),
            [
                ("accepted", len(accepted)),
                ("lost: not stored, or stored and without an outcome", ended["lost"]),
                ("ended completed or failed all the same", ended["not cancelled"]),
                ("ended cancelled", ended["cancelled"]),
            ],
        ),
        _table(("jobs ended", "times"), states.most_common()),
        _table(
            ("what happened meanwhile", "times"),
            [(name, entries[name]) for name in ("claimed", "reclaimed", "released", "retried", "unparked")],
        ),
        _machine("postgresql"),
        f"Again, in `tests/`:\n\n    {again} pytest chaos/test_chaos.py -k wire -s",
    ]
    return "\n\n".join(parts) + "\n"


def report(
    evidence: Evidence, *, seed: int, store_kind: str, seconds: float, dealt: Mapping[str, int]
) -> str:
    """The page. What became of the cancels is counted here once more, from calls and entries."""
    cancels = evidence.calls("cancel")
    accepted = [call for call in cancels if call.answer.get("answer") == "accepted"]
    fates = Counter(_fate(evidence, call.args["job"], call.args["reason"]) for call in accepted)
    ended = Counter(_ended_as(fate) for fate in fates.elements())
    answers = Counter(_answer(call.told, call.answer) for call in cancels)
    effects = Counter(effect.what for effect in evidence.effects)
    entries = Counter(entry.name for entry in evidence.entries)
    stuck = sum(job.state not in FINAL for job in evidence.jobs)
    kills = sum(dealt.values())
    again = f"EBBTIDE_TEST_CHAOS_CANCELS={len(accepted)} EBBTIDE_TEST_SEED={seed}"
    parts = [
        f"# {len(accepted):,} cancels under kill -9",
        "Jobs are posted and cancelled at random moments while conductors, keepers and runners are killed.\n"
        "This page was written by the run itself (`tests/chaos/test_cancels.py`). The checker, which\n"
        "decides from what clients and tasks told and from what is stored, found no promise broken.",
        _table(
            ("of the accepted cancels", ""),
            [
                ("accepted", len(accepted)),
                ("lost: not stored, or stored and without an outcome", ended["lost"]),
                ("ended completed or failed all the same", ended["not cancelled"]),
                ("ended cancelled", ended["cancelled"]),
                ("jobs that are still at work, or parked", stuck),
            ],
        ),
        f"{seconds:.0f} seconds, {kills:,} blows with kill -9: one every {seconds / kills:.2f} s.",
        _table(
            ("killed at one blow", "times"),
            [(name.removeprefix("kill "), count) for name, count in Counter(dealt).most_common()],
        ),
        _table(("a cancel was answered", "times"), answers.most_common()),
        _table(("an accepted cancel met", "times"), fates.most_common()),
        _table(
            ("what happened meanwhile", "times"),
            [
                ("jobs posted", len(evidence.jobs)),
                ("tasks begun", effects["begin"]),
                ("undos run to their end", effects["undone"]),
                ("jobs taken over from the dead", entries["reclaimed"]),
                ("jobs parked after three interruptions without progress, and unparked", entries["unparked"]),
            ],
        ),
        "What began and what was undone is told by the tasks, in a log outside the store. That a cancelled\n"
        "job has left nothing is checked there, and by the files that its tasks had made.",
        _machine(store_kind),
        f"Again, in `tests/`:\n\n    {again} pytest chaos/test_cancels.py -k {store_kind} -s\n\n"
        "The same calls and blows come in the same orders; when each comes, and what it meets, differs.",
    ]
    return "\n\n".join(parts) + "\n"


def _fate(evidence: Evidence, job: str, reason: str) -> str:
    """Where an accepted cancel met its job, and what became of that."""
    entries = evidence.entries_of.get(job, [])
    request = next(
        (e for e in entries if e.name == "cancel_requested" and e.detail["reason"] == reason), None
    )
    if request is None:
        return "lost"
    later = [entry for entry in entries if entry.number > request.number]
    outcome = next((e for e in later if e.attempt == request.attempt and e.to_state in FINAL), None)
    if outcome is None:
        return "lost"
    if outcome.to_state != "cancelled":
        return "not cancelled"
    return _met(evidence, job, request, later, outcome)


def _met(evidence: Evidence, job: str, request: Entry, later: list[Entry], outcome: Entry) -> str:
    if outcome.name == "cancelled_unclaimed":
        return "a job of which nothing had begun: cancelled at once"
    names = [entry.name for entry in later]
    undone = "with something to undo" if outcome.detail.get("undone") else "with nothing to undo"
    parked = ", parked and unparked on the way" if "parked" in names else ""
    takeovers = names.count("reclaimed")
    taken = f", its undo taken over {'once' if takeovers == 1 else 'more than once'}" if takeovers else ""
    return f"a claimed job {undone}{taken}{parked}"


def _ended_as(fate: str) -> str:
    return fate if fate in ("lost", "not cancelled") else "cancelled"


def _answer(told: str, answer: Mapping[str, str]) -> str:
    if told == "ok":
        return answer.get("answer", "accepted or already requested")
    if "too_late" in answer:
        return f"too late: {answer['too_late']}"
    return "nothing was stored" if told == "fail" else "unknown"


def _machine(store_kind: str) -> str:
    here = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().partition('-')[0]}"
    return f"{here}.\n{_versions(store_kind)}."


def _versions(store_kind: str) -> str:
    store = f"SQLite {sqlite3.sqlite_version}" if store_kind == "sqlite" else "PostgreSQL"
    named = [f"{package} {version(package)}" for package in _PACKAGES]
    return ", ".join([f"Python {platform.python_version()}", store, *named])


def _table(head: tuple[str, str], rows: list[tuple[str, int]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | ---: |"]
    return "\n".join(lines + [f"| {name} | {count:,} |" for name, count in rows])
