"""The planted bugs still bite: what each replaces is in the product, and is put back."""

import warnings

import pytest

from tests.planted import BUGS, VARIABLE, plant_from_environment, planted

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    import ebbtide.conductor  # noqa: F401


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_replaces_what_the_product_has_and_puts_it_back(name):
    with planted(name) as replaced:
        assert replaced
        inside = [vars(owner)[attribute] for owner, attribute in replaced]
    outside = [vars(owner)[attribute] for owner, attribute in replaced]

    assert all(bug is not original for bug, original in zip(inside, outside, strict=True))
    assert all(
        getattr(original, "__module__", "ebbtide").startswith("ebbtide.") or isinstance(original, property)
        for original in outside
    )


def test_bugs_of_a_process_are_named_in_its_environment(monkeypatch):
    planted_ones = []
    monkeypatch.setitem(BUGS, "first", lambda: planted_ones.append("first"))
    monkeypatch.setitem(BUGS, "second", lambda: planted_ones.append("second"))

    monkeypatch.delenv(VARIABLE, raising=False)
    plant_from_environment()
    monkeypatch.setenv(VARIABLE, "first,second")
    plant_from_environment()

    assert planted_ones == ["first", "second"]


def test_an_unknown_bug_is_no_bug(monkeypatch):
    monkeypatch.setenv(VARIABLE, "no_such_bug")

    with pytest.raises(KeyError):
        plant_from_environment()
