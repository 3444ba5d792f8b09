"""The life of a job as data: one table of edges, one word for people, one way to settle a run's end."""

import itertools
import re

import pytest

from ebbtide.jobs.states import EDGES, FINAL_STATES, PHASES, Edge, Ending, JobState, edge, phase_of, settle

# Written out once more: whoever changes the life of a job has to say so twice.
TABLE = {
    "posted": (set(), "pending"),
    "claimed": ({"pending"}, "running"),
    "reclaimed": ({"running"}, "running"),
    "released": ({"running"}, "pending"),
    "completed": ({"running"}, "completed"),
    "failed": ({"running"}, "failed"),
    "retry_scheduled": ({"running"}, "pending"),
    "cancelled": ({"running"}, "cancelled"),
    "cancelled_unclaimed": ({"pending", "paused"}, "cancelled"),
    "paused": ({"running", "pending"}, "paused"),
    "resumed": ({"paused"}, "pending"),
    "parked": ({"running"}, "parked"),
    "unparked": ({"parked"}, "pending"),
    "accepted_as_failed": ({"parked"}, "failed"),
    "accepted_as_cancelled": ({"parked"}, "cancelled"),
    "retried": ({"failed", "cancelled"}, "pending"),
}
STATES = sorted(JobState)
NAMES = sorted(TABLE)


def leaving(state: JobState) -> set[str]:
    return {each.name for each in EDGES if state in each.sources}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", NAMES)
def test_each_state_times_each_edge_is_an_edge_or_refused(name: str, state: JobState) -> None:
    sources, target = TABLE[name]

    found = edge(name)

    assert (state in found.sources) == (state.value in sources)
    assert found.target == target


def test_the_table_has_no_other_edges() -> None:
    assert [each.name for each in EDGES] == list(TABLE)


def test_the_names_of_edges_are_unique_and_fit_to_be_stored_shown_and_typed() -> None:
    names = [each.name for each in EDGES]

    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)


def test_no_edge_is_called_as_a_phase_that_it_does_not_lead_to() -> None:
    for each in EDGES:
        if each.name in PHASES:
            assert each.target == each.name


def test_an_edge_that_the_table_lacks_is_a_fault_of_the_code_that_names_it() -> None:
    with pytest.raises(KeyError):
        edge("abandoned")


def test_an_edge_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        EDGES[0].target = JobState.RUNNING  # type: ignore[misc]


def test_every_state_is_reached_from_the_post() -> None:
    reached: set[JobState] = set()
    ahead = {edge("posted").target}
    while ahead - reached:
        reached |= ahead
        ahead = {each.target for each in EDGES if each.sources & reached}

    assert reached == set(JobState)


def test_only_the_post_makes_a_job() -> None:
    assert [each.name for each in EDGES if not each.sources] == ["posted"]


def test_the_final_states_are_the_three_outcomes() -> None:
    assert {"completed", "failed", "cancelled"} == FINAL_STATES


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_ended_badly_only_goes_on_by_a_retry(state: JobState) -> None:
    assert leaving(state) == {"retried"}


def test_a_completed_job_stays_completed() -> None:
    assert leaving(JobState.COMPLETED) == set()


@pytest.mark.parametrize("state", sorted(set(JobState) - FINAL_STATES))
def test_from_each_state_that_is_not_final_a_job_can_come_to_an_outcome(state: JobState) -> None:
    ahead = {state}
    for _ in JobState:
        ahead |= {each.target for each in EDGES if each.sources & ahead}

    assert ahead & FINAL_STATES
    assert JobState.CANCELLED in ahead


@pytest.mark.parametrize("target", sorted(FINAL_STATES))
def test_an_outcome_is_given_by_the_holder_an_operator_or_before_any_claim(target: JobState) -> None:
    givers = {who for each in EDGES if each.target is target for who in each.who.split(", ")}

    assert givers <= {"holder", "operator", "client"}
    for each in EDGES:
        if each.target is target and "client" in each.who:
            assert JobState.RUNNING not in each.sources


def test_every_edge_says_who_may_take_it() -> None:
    assert all(isinstance(each, Edge) and each.who for each in EDGES)


# -- phases


def test_phases_are_the_states_and_what_a_bare_state_would_hide() -> None:
    assert (*JobState, "scheduled", "cancelling", "reverting", "overdue") == PHASES
    assert len(set(PHASES)) == len(PHASES)


def words(state: JobState, requested: bool, due: bool, undoing: bool, overdue: bool) -> str:
    """The phase once more, as a list of rules; the first that fits holds."""
    rules = [
        (state in ("completed", "failed", "cancelled", "parked"), state.value),
        (requested and overdue and state == "running", "overdue"),
        (requested, "cancelling"),
        (state == "pending" and not due, "scheduled"),
        (state == "running" and undoing, "reverting"),
    ]
    return next((word for holds, word in rules if holds), state.value)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("requested", "due", "undoing", "overdue"), list(itertools.product([False, True], repeat=4))
)
def test_the_phase_of_every_combination(
    state: JobState, requested: bool, due: bool, undoing: bool, overdue: bool
) -> None:
    phase = phase_of(state, cancel_requested=requested, due=due, undoing=undoing, overdue=overdue)

    assert phase == words(state, requested, due, undoing, overdue)
    assert phase in PHASES


@pytest.mark.parametrize("state", STATES)
def test_no_job_that_has_ended_is_called_cancelling(state: JobState) -> None:
    phase = phase_of(state, cancel_requested=True, due=True, undoing=True)

    assert (phase == "cancelling") == (state in ("pending", "running", "paused"))


# -- how a run's end is settled


@pytest.mark.parametrize(
    ("ending", "requested", "name"),
    [
        (Ending.FINISHED, False, "completed"),
        (Ending.FINISHED, True, None),
        (Ending.UNDONE, False, "failed"),
        (Ending.UNDONE, True, "cancelled"),
        (Ending.STUCK, False, "parked"),
        (Ending.STUCK, True, "parked"),
    ],
)
def test_the_truth_table_of_settling(ending: Ending, requested: bool, name: str | None) -> None:
    assert settle(ending, cancel_requested=requested) == name


def test_an_accepted_cancel_never_ends_completed_nor_failed() -> None:
    """P3, and the race of cancel against completion: there is no third case."""
    ends = {settle(ending, cancel_requested=True) for ending in Ending}

    assert ends == {None, "cancelled", "parked"}


def test_what_settling_answers_is_an_edge_that_leaves_running() -> None:
    for ending, requested in itertools.product(Ending, [False, True]):
        name = settle(ending, cancel_requested=requested)
        assert name is None or JobState.RUNNING in edge(name).sources


def test_the_truth_table_in_the_docstring_is_that_of_the_code() -> None:
    lines = re.findall(
        r"^\s*\| (finished|undone|stuck|held) +\| ([a-z, ]+?) +\| (\w+)", settle.__doc__ or "", re.M
    )
    requests = {"no": (False, False), "yes": (True, False), "limit": (True, True)}
    told = {}
    for ending, words, name in lines:
        for word in requests if words == "any" else words.split(", "):
            told[ending, word] = None if name == "None" else name

    assert told == {
        (ending.value, word): settle(ending, cancel_requested=requested, limit_passed=limit)
        for ending, (word, (requested, limit)) in itertools.product(Ending, requests.items())
    }
