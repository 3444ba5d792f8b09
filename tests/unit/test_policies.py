"""Retry policies and limits, as arithmetic."""

import itertools

import pytest

from ebbtide import Limits, RetryPolicy
from ebbtide.errors import FlowRefused, UsageError
from ebbtide.flows import Registry
from ebbtide.flows.policies import Policies


def pauses(policy: RetryPolicy, *, names: tuple[str, ...] = ("ValueError",), chance: float = 0.5) -> list:
    """The pause after each attempt, until there is none."""
    asked = (policy.pause_seconds(made, names, chance) for made in itertools.count(1))
    return list(itertools.takewhile(lambda pause: pause is not None, asked))


def test_by_default_there_is_one_attempt():
    assert pauses(RetryPolicy()) == []


def test_each_pause_is_longer_by_the_factor_up_to_the_cap():
    policy = RetryPolicy(attempts=6, interval_seconds=10, factor=3, cap_seconds=200)

    assert pauses(policy) == [10, 30, 90, 200, 200]


def test_the_jitter_is_a_share_of_the_pause_to_either_side_and_stays_below_the_cap():
    policy = RetryPolicy(attempts=3, interval_seconds=100, factor=2, jitter=0.25, cap_seconds=210)

    assert pauses(policy, chance=0.0) == [75, 150]
    assert pauses(policy, chance=1.0) == [125, 210]


def test_the_last_of_many_attempts_is_no_overflow():
    assert RetryPolicy(attempts=1000, factor=10).pause_seconds(999, (), 1.0) == 3600


@pytest.mark.parametrize(
    ("names", "tries_again"),
    [
        (("ConnectionResetError", "ConnectionError", "OSError"), True),
        (("OSError",), False),
        (("ValueError",), False),
        ((), False),
    ],
)
def test_only_the_named_errors_are_tried_again_with_those_that_derive_from_them(names, tries_again):
    policy = RetryPolicy(attempts=2, errors=("ConnectionError", "TimeoutError"))

    assert (policy.pause_seconds(1, names, 0.5) is not None) == tries_again


def test_without_names_every_failure_is_tried_again():
    assert pauses(RetryPolicy(attempts=2), names=()) == [60]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1001}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": 2.0}, "attempts"),
        ({"interval_seconds": -1}, "interval_seconds"),
        ({"interval_seconds": float("nan")}, "interval_seconds"),
        ({"interval_seconds": "60"}, "interval_seconds"),
        ({"factor": 0.5}, "factor"),
        ({"factor": 11}, "factor"),
        ({"jitter": 1.1}, "jitter"),
        ({"cap_seconds": float("inf")}, "cap_seconds"),
        ({"errors": ("os.error",)}, "errors"),
        ({"errors": (ValueError,)}, "errors"),
    ],
)
def test_what_no_policy_can_have_is_refused_by_name(values, name):
    with pytest.raises(UsageError, match=f"^{name} "):
        RetryPolicy(**values)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "5", True])
@pytest.mark.parametrize("name", ["job_seconds", "no_progress_seconds"])
def test_a_limit_is_a_number_of_seconds_above_none(name, seconds):
    with pytest.raises(UsageError, match=f"^{name} "):
        Limits(**{name: seconds})


def test_what_is_stored_comes_back():
    policies = Policies(
        RetryPolicy(attempts=3, errors=("OSError",)), Limits(job_seconds=5, no_progress_seconds=2), "hold"
    )

    assert Policies.from_dict(policies.as_dict()) == policies
    assert Policies.from_dict({}) == Policies()


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"retry": 3}, "retry= takes a RetryPolicy, not a int"),
        ({"limits": 3}, "limits= takes a Limits, not a int"),
        ({"on_failure": "ignore"}, "on_failure is undo or hold, not 'ignore'"),
    ],
)
def test_a_flow_takes_policies_and_nothing_else(policy, words):
    registry = Registry()

    with pytest.raises(FlowRefused, match=words):
        registry.flow("copy", **policy)(lambda: None)


def test_a_flow_knows_its_policies():
    registry = Registry()

    @registry.flow("copy", retry=RetryPolicy(2), limits=Limits(job_seconds=9), on_failure="hold")
    def copy():
        raise AssertionError("never built")

    definition = registry.get("copy")
    assert (definition.retry, definition.limits, definition.on_failure) == (
        RetryPolicy(2),
        Limits(job_seconds=9),
        "hold",
    )
