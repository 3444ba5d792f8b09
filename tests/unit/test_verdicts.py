"""Whose doing it is that something is left: by what was undone when it was there, and when it was not."""

import pytest

from ebbtide.testing.proving.verdicts import Seen, Verdict, _How, verdicts

WHOLE, PART, REPEATED = _How.WHOLE, _How.PART, _How.REPEATED


def case(name, *differences, failed=None, **undone):
    return Seen(name, frozenset(undone.items()), differences, failed)


def verdict_of(*seen, looked_at=True, tasks="abc"):
    found, nobodys = verdicts(tasks, seen, looked_at=looked_at)
    return {each.task: each.verdict for each in found}, nobodys, {each.task: each.found for each in found}


def test_what_leaves_nothing_is_complete_and_what_never_ran_was_not_seen():
    found, nobodys, _ = verdict_of(case("one", a=WHOLE), case("two", a=WHOLE, b=PART))

    assert found == {"a": Verdict.COMPLETE, "b": Verdict.COMPLETE, "c": Verdict.NOT_SEEN}
    assert nobodys == []


def test_what_nobody_looked_at_is_not_called_complete():
    found, _, _ = verdict_of(case("one", a=WHOLE), looked_at=False, tasks="a")

    assert found == {"a": Verdict.NOT_LOOKED_AT}


def test_the_task_that_is_there_whenever_something_is_left_leaks():
    found, _, words = verdict_of(
        case("one", a=WHOLE),
        case("two", "x is new", a=WHOLE, b=WHOLE),
        case("three", "x is new", a=WHOLE, b=WHOLE, c=WHOLE),
    )

    assert found == {"a": Verdict.COMPLETE, "b": Verdict.LEAKS, "c": Verdict.COMPLETE}
    assert words["b"] == ("x is new (two)",)


def test_what_leaks_when_it_is_undone_once_is_to_blame_when_it_is_undone_twice():
    found, nobodys, _ = verdict_of(
        case("one", a=WHOLE),
        case("two", "x is new", a=WHOLE, b=WHOLE),
        case("three", "x is new", a=WHOLE, b=REPEATED, c=WHOLE),
    )

    assert found == {"a": Verdict.COMPLETE, "b": Verdict.LEAKS, "c": Verdict.COMPLETE}
    assert nobodys == []


def test_two_that_leak_are_told_apart_by_what_they_leave():
    found, _, _ = verdict_of(
        case("one", a=WHOLE),
        case("two", "x is new", a=WHOLE, b=WHOLE),
        case("three", "x is new", "y is new", a=WHOLE, b=WHOLE, c=WHOLE),
    )

    assert found == {"a": Verdict.COMPLETE, "b": Verdict.LEAKS, "c": Verdict.LEAKS}


def test_what_is_left_only_when_an_undo_is_repeated_makes_it_not_repeatable():
    found, _, _ = verdict_of(
        case("one", a=WHOLE), case("two", a=WHOLE, b=WHOLE), case("three", "x is new", a=WHOLE, b=REPEATED)
    )

    assert found["b"] is Verdict.NOT_REPEATABLE


def test_a_task_that_was_cut_once_without_harm_is_not_innocent_when_it_is_cut_elsewhere():
    found, _, _ = verdict_of(
        case("one", a=WHOLE), case("two", a=WHOLE, b=PART), case("three", "x is new", a=WHOLE, b=PART)
    )

    assert found["b"] is Verdict.LEAKS


@pytest.mark.parametrize("how, verdict", [(WHOLE, Verdict.LEAKS), (REPEATED, Verdict.NOT_REPEATABLE)])
def test_an_undo_that_fails_is_judged_by_how_it_ran(how, verdict):
    failed = case("two", "its undo failed: no", a=WHOLE, b=how, failed=("b", how))

    found, nobodys, words = verdict_of(case("one", a=WHOLE, b=WHOLE), failed)

    assert (found["b"], nobodys) == (verdict, [])
    assert words["b"] == ("its undo failed: no (two)",)


def test_what_has_another_name_each_time_is_somebodys_all_the_same():
    found, nobodys, _ = verdict_of(
        case("one", a=WHOLE),
        case("two", "x1 is new", a=WHOLE, b=WHOLE),
        case("three", "x2 is new", a=WHOLE, b=WHOLE),
    )

    assert (found["b"], nobodys) == (Verdict.LEAKS, [])


def test_what_is_left_where_all_are_innocent_is_nobodys():
    found, nobodys, _ = verdict_of(case("one", a=WHOLE), case("two", "x is new", a=WHOLE))

    assert found["a"] is Verdict.COMPLETE
    assert nobodys == ["x is new (two)"]


def test_tasks_that_cannot_be_told_apart_are_both_named():
    found, _, words = verdict_of(case("one", "x is new", a=WHOLE, b=WHOLE))

    assert found == {"a": Verdict.LEAKS, "b": Verdict.LEAKS, "c": Verdict.NOT_SEEN}
    assert words["a"] == ("x is new (one; or that of b)",)
