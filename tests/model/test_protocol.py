"""The protocol keeps its promises in every state it can come to; each wrong variant breaks one of them.

What the model leaves out: more than one job, rounds of a retry controller, and times. What it adds: none.
"""

import functools

import pytest

from ebbtide.jobs.states import EDGES, FINAL_STATES
from tests.model.explorer import Explored, explore
from tests.model.promises import PROMISES
from tests.model.state import FINAL, PARKED, PAUSED, Shape
from tests.model.variants import Variant

ALONE = ((),)
SERIAL = ((), (0,))
PARALLEL = ((), (), (0, 1))

# With each the least that it has to come to: a model that explores next to nothing proves nothing.
SHAPES = {
    "two attempts": (Shape("a", ALONE, attempts=2, late_answers=True), 5_000),
    "pauses": (Shape("a", ALONE, pauses=True, unknown_commits=True), 10_000),
    "serial": (Shape("a -> b", SERIAL, unknown_commits=True), 10_000),
    "zombies": (Shape("a -> b", SERIAL, freezes=True), 20_000),
    "limits": (Shape("a", ALONE, attempts=2, limits=True), 5_000),
    "holds": (Shape("a -> b", SERIAL, holds=True, unknown_commits=True), 5_000),
    "parallel": (Shape("a || b, then c", PARALLEL, alike=((0, 1),)), 10_000),
}
# Where a variant breaks a promise that the protocol keeps, in a flow as small as will do.
WRONG = [
    (Variant.NO_FENCE, "P8", Shape("a", ALONE, freezes=True)),
    (Variant.NO_FENCE, "P2", Shape("a", ALONE, freezes=True)),
    (Variant.OUTCOME_IGNORES_REQUEST, "P3", Shape("a", ALONE)),
    (Variant.ANSWER_FIRST, "P1", Shape("a", ALONE)),
    (Variant.ANSWER_FIRST, "P3", Shape("a", ALONE)),
    (Variant.TOO_LATE_IS_ACCEPTED, "P4", Shape("a", ALONE)),
    (Variant.ONLY_BEGUN_MARKED, "P5", Shape("a -> b", SERIAL)),
    (Variant.ONLY_BEGUN_MARKED, "P7", Shape("a -> b", SERIAL)),
    (Variant.BOARDS_WORD, "P9", Shape("a", ALONE)),
    (Variant.UNDO_BEFORE_DEATH, "P9", Shape("a", ALONE)),
    (Variant.CANCEL_ONLY_SIGNALLED, "P3", Shape("a", ALONE)),
    (Variant.NEVER_LOOKED_UP, "P5", Shape("a -> b", SERIAL)),
    (Variant.NEVER_LOOKED_UP, "P10", Shape("a", ALONE)),
    (Variant.NAME_AS_OWNER, "P9", Shape("a", ALONE)),
    (Variant.EDGE_WITHOUT_ENTRY, "P13", Shape("a", ALONE)),
    (Variant.COUNTS_NOTHING, "P11", Shape("a", ALONE)),
    (Variant.LOST_ANSWER_IS_NO_ANSWER, "P6", Shape("a", ALONE, unknown_commits=True)),
]


@functools.cache
def explored(shape: Shape) -> Explored:
    """All that can be reached by the protocol, looked at once."""
    return explore(shape)


@pytest.mark.parametrize("name", SHAPES)
def test_no_state_that_can_be_reached_breaks_a_promise(name, capsys):
    shape, least = SHAPES[name]
    found = explored(shape)
    with capsys.disabled():
        print(f"\n{name}: {found}", end="")

    assert found.breach is None, str(found.breach)
    assert found.states > least
    assert found.transitions > 2 * found.states


@pytest.mark.parametrize("name", SHAPES)
def test_the_job_comes_to_every_rest_that_there_is(name):
    shape, _ = SHAPES[name]
    rests = FINAL | {PARKED} | ({PAUSED} if shape.pauses else set())

    assert rests <= explored(shape).ends.keys()


def test_every_edge_of_the_products_table_is_taken_and_no_other():
    small = [Shape("a", ALONE, attempts=2), Shape("a", ALONE, pauses=True)]

    taken = set().union(*(explored(shape).edges for shape in small))

    assert taken == {edge.name for edge in EDGES}


def test_the_models_final_states_are_the_products():
    assert {state.value for state in FINAL_STATES} == FINAL


def test_each_variant_is_wrong():
    assert {variant for variant, _, _ in WRONG} == set(Variant) - {Variant.RIGHT}


def test_each_promise_is_broken_by_a_variant():
    assert {promise for _, promise, _ in WRONG} == PROMISES.keys()


@pytest.mark.parametrize(
    ("variant", "promise", "shape"),
    WRONG,
    ids=[f"{wrong.name.lower()}-{promise}" for wrong, promise, _ in WRONG],
)
def test_a_wrong_variant_breaks_a_promise_and_the_protocol_does_not(variant, promise, shape, capsys):
    breach = explore(shape, variant, frozenset({promise}), symmetric=False).breach

    assert breach is not None, f"{variant.name} is not caught"
    with capsys.disabled():
        print(f"\n{variant.name}: {variant.value}\n{breach}")
    assert breach.promise == promise
    assert breach.steps
    assert explored(shape).breach is None


def test_what_is_printed_tells_each_step_and_its_edge():
    shape = Shape("a", ALONE)

    told = str(explore(shape, Variant.OUTCOME_IGNORES_REQUEST, frozenset({"P3"}), symmetric=False).breach)

    assert told.splitlines()[0] == f"P3 is broken ({PROMISES['P3']}), flow a:"
    assert "client posts the job; stored  [posted]" in told
    assert told.splitlines()[-1].endswith("[completed]")
