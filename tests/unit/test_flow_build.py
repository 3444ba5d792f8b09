"""Building a job's flow: typed values in, and no flow that could not be run, cancelled and undone."""

import copy
import dataclasses
import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskflow import exceptions, retry
from taskflow import task as taskflow_task
from taskflow.patterns import graph_flow, linear_flow, unordered_flow

from ebbtide.errors import FlowRefused, ParameterError
from ebbtide.flows import FlowDefinition
from ebbtide.tasks import CancelableTask, task

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from taskflow import engines


class Step(CancelableTask):
    """A task without arguments of its own; tests name what it requires and provides."""

    def execute(self, **given): ...


class Takes(CancelableTask):
    def execute(self, total): ...


class MayTake(CancelableTask):
    def execute(self, total=0): ...


class UndoTakes(CancelableTask):
    def execute(self): ...

    def revert(self, result, total): ...


class Stock(taskflow_task.Task):
    def execute(self): ...


@task(provides="total")
def add(): ...


def define(factory, **options: Any) -> FlowDefinition:
    return FlowDefinition.of("sample", factory, **options)


def linear(*items, name="line", **options):
    return linear_flow.Flow(name, **options).add(*items)


def unordered(*items, name="any-order", **options):
    return unordered_flow.Flow(name, **options).add(*items)


def graph(*items, name="graph", **options):
    return graph_flow.Flow(name, **options).add(*items)


def refusal(factory, params=None, **options: Any) -> str:
    with pytest.raises(FlowRefused) as caught:
        define(factory, **options).build(params or {})
    assert caught.value.flow == "sample"
    assert str(caught.value).isprintable()
    return caught.value.problem


# -- what the factory and the store are given


@dataclasses.dataclass
class Window:
    width: int


def test_factory_and_store_get_typed_values_with_defaults_filled_in():
    seen = {}

    def factory(source: Path, window: Window, count: int = 3):
        seen.update(source=source, window=window, count=count)
        return linear()

    flow, store = define(factory).build({"source": "/data", "window": {"width": 2}})

    assert flow.name == "line"
    assert store == seen == {"source": Path("/data"), "window": Window(2), "count": 3}


def test_what_the_factory_does_to_its_values_changes_neither_store_nor_parameters():
    def factory(names: list[str], window: Window):
        names.append("more")
        window.width = 9
        return linear()

    params = {"names": ["a"], "window": {"width": 2}}
    _, store = define(factory).build(params)

    assert store == {"names": ["a"], "window": Window(2)}
    assert params == {"names": ["a"], "window": {"width": 2}}


def test_parameters_that_no_longer_fit_are_refused_before_the_factory_is_called():
    def factory(count: int):
        pytest.fail("called")

    with pytest.raises(ParameterError):
        define(factory).build({"count": "3"})


def test_every_build_is_a_new_flow():
    definition = define(lambda: linear(add()))

    assert definition.build({})[0] is not definition.build({})[0]


def test_a_flow_may_be_empty():
    assert len(define(lambda: linear()).build({})[0]) == 0


# -- what the factory does


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("first\nsecond"), "its factory raised ValueError: first second"),
        (KeyError("a"), "its factory raised KeyError: 'a'"),
        (SystemExit(3), "its factory raised SystemExit: 3"),
        (exceptions.DependencyFailure("a circle"), "its factory raised DependencyFailure: a circle"),
    ],
    ids=repr,
)
def test_a_factory_that_raises_is_one_line_and_the_cause_is_kept(error, told):
    def factory():
        raise error

    with pytest.raises(FlowRefused) as caught:
        define(factory).build({})

    assert caught.value.problem == told
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("returned", "kind"),
    [(None, "nothing"), ([], "a list"), (3, "an int"), (Stock("a"), "a Stock")],
    ids=repr,
)
def test_a_factory_that_returns_no_flow_is_refused(returned, kind):
    assert refusal(lambda: returned) == f"its factory returned {kind}, not a TaskFlow flow"


def test_a_flow_that_is_returned_twice_is_refused():
    kept = linear(add())
    definition = define(lambda: kept)
    definition.build({})

    with pytest.raises(FlowRefused, match="flow 'line' is part of an earlier build: make all anew"):
        definition.build({})


def test_a_task_that_is_kept_between_builds_is_refused_also_by_another_flow():
    kept = add()
    define(lambda: linear(kept)).build({})

    assert "task 'add' is part of an earlier build" in refusal(lambda: linear(unordered(kept)))


def test_a_subflow_and_a_retry_controller_that_are_kept_are_refused():
    subflow, controller = unordered(), retry.Times(2, name="again")
    define(lambda: linear(subflow)).build({})
    define(lambda: linear(retry=controller)).build({})

    assert "flow 'any-order' is part of an earlier build" in refusal(lambda: linear(subflow))
    assert "retry controller 'again' is part of an earlier build" in refusal(lambda: linear(retry=controller))


def test_a_copy_of_a_built_task_is_refused_and_a_copy_of_a_template_is_not():
    template = add()
    definition = define(lambda: linear(copy.copy(template)))
    definition.build({})
    flow, _ = definition.build({})
    (built,) = flow

    assert "is part of an earlier build" in refusal(lambda: linear(copy.copy(built)))


def test_a_flow_that_was_refused_for_something_else_is_no_earlier_build():
    takes, kept = Takes(), linear()
    kept.add(takes)

    first = refusal(lambda: kept)

    assert refusal(lambda: kept) == first
    define(lambda total: kept).build({"total": 1})


def test_a_task_that_is_bound_to_a_run_is_refused():
    bound = add()
    bound.checkpoint()  # outside of any job: a detached run

    assert refusal(lambda: linear(bound)) == "task 'add' belongs to a run already: make it anew in each call"


# -- atoms


def test_a_task_that_cannot_be_cancelled_is_refused_wherever_it_is():
    told = "task 'stock' is a Stock, which cannot be cancelled: derive it from CancelableTask"

    for factory in (
        lambda: linear(Stock("stock")),
        lambda: linear(add(), unordered(graph(Stock("stock")))),
        lambda: graph(add(), Stock("stock")),
    ):
        assert refusal(factory).startswith(told)


def test_a_functor_is_refused():
    assert "is a FunctorTask, which cannot be cancelled" in refusal(
        lambda: linear(taskflow_task.FunctorTask(lambda: None, name="functor"))
    )


def test_a_task_whose_grace_is_no_number_of_seconds_is_refused():
    impatient = Step("soon")
    impatient.grace_seconds = "60"  # as a parameter might be handed on

    told = "task 'soon' has grace_seconds '60': give a number of seconds, 0 or more, or None"
    assert refusal(lambda: linear(impatient)) == told


def test_a_task_class_that_was_not_called_is_told_as_such():
    assert refusal(lambda: linear(add)) == "task class 'add' was added: call it, to add a task"


def test_a_retry_controller_among_the_tasks_is_refused():
    assert refusal(lambda: linear(retry.Times(2, name="again"))).startswith(
        "retry controller 'again' was added as a task"
    )


def test_a_retry_controller_that_is_none_is_refused():
    class Fake:
        name = "fake"

    assert refusal(lambda: linear(retry=Fake())) == "the retry= of flow 'line' is a Fake, no controller"


def test_something_that_is_neither_task_nor_flow_is_refused():
    assert refusal(lambda: linear("scan")) == "a str was added, which is neither a task nor a flow"


def test_two_atoms_of_one_name_are_refused_wherever_they_are():
    told = "two atoms are called 'same': name them apart"

    assert refusal(lambda: linear(Step("same"), Step("same"))) == told
    assert refusal(lambda: linear(Step("same"), unordered(linear(Step("same"))))) == told
    assert refusal(lambda: linear(Step("same"), retry=retry.Times(2, name="same"))) == told


def test_retry_controllers_named_after_flows_of_one_name_are_refused():
    def factory():
        return linear(*(linear(Step(name), name="part", retry=retry.Times(2)) for name in "ab"))

    assert refusal(factory) == "two atoms are called 'part_retry': name them apart"


def test_an_object_that_is_in_a_flow_twice_is_refused():
    def task_twice():
        twice = add()
        return linear(unordered(twice, name="one"), unordered(twice, name="two"))

    def flow_twice():
        twice = unordered()
        return linear(linear(twice, name="one"), linear(twice, name="two"))

    def in_itself():
        circle = linear()
        return circle.add(circle)

    assert refusal(task_twice).startswith("task 'add' is in it twice")
    assert refusal(flow_twice).startswith("flow 'any-order' is in it twice")
    assert refusal(in_itself).startswith("flow 'line' is in it twice")


@pytest.mark.parametrize("name", ["", "a" * 256])
def test_a_name_that_cannot_be_stored_is_refused(name):
    class Unnamed(Step):
        def __init__(self):
            super().__init__()
            self.name = name

    assert "needs a name of 1 to 255 characters" in refusal(lambda: linear(Unnamed()))


# -- requirements


def test_a_missing_requirement_names_atom_and_argument():
    assert refusal(lambda: linear(Takes("sum"))) == (
        "task 'sum' needs 'total': no task provides it and no parameter is called so"
    )


def test_a_missing_requirement_of_the_undo_counts_too():
    assert refusal(lambda: linear(UndoTakes("sum"))).startswith("task 'sum' needs 'total'")


def test_a_missing_requirement_under_another_name_tells_both():
    assert refusal(lambda: linear(Takes("sum", rebind={"total": "amount"}))).startswith(
        "task 'sum' needs 'amount' (its argument 'total'): no task provides it"
    )


def test_a_requirement_that_is_provided_too_late_or_beside_is_told_with_its_provider():
    told = "task 'Takes' needs 'total': task 'add' provides it, but does not come before it"

    for factory in (
        lambda: linear(Takes("Takes"), add()),
        lambda: unordered(add(), Takes("Takes")),
        lambda: linear(unordered(linear(add(), name="one"), linear(Takes("Takes"), name="two"))),
    ):
        assert refusal(factory) == told


def test_more_missing_requirements_are_counted():
    assert refusal(lambda: linear(*(Takes(name) for name in "abc"))).endswith("(and 2 more such)")


def test_a_retry_controller_needs_its_values_too():
    def factory():
        return linear(Takes("sum"), retry=retry.ParameterizedForEach(name="each", provides="total"))

    assert refusal(factory).startswith("retry controller 'each' needs 'values'")


@pytest.mark.parametrize(
    "factory",
    [
        lambda: linear(add(), Takes("sum")),
        lambda: linear(add(), unordered(linear(Takes("sum"), name="inner"))),
        lambda: linear(linear(unordered(add()), name="inner"), Takes("sum")),
        lambda: graph(Takes("sum"), add()),
        lambda: graph(linear(Takes("sum")), unordered(add())),
        lambda: linear(Takes("sum"), retry=retry.ForEach([1], name="each", provides="total")),
        lambda: linear(unordered(Takes("sum")), retry=retry.ForEach([1], name="each", provides="total")),
        lambda: linear(MayTake("may")),
        lambda: linear(Takes("sum", inject={"total": 1})),
        lambda: linear(add(provides="amount"), Takes("sum", rebind={"total": "amount"})),
    ],
)
def test_a_requirement_that_is_met_is_found_through_every_nesting(factory):
    define(factory).build({})


def test_a_parameter_meets_requirements_everywhere():
    def factory(total: int):
        return linear(unordered(Takes("one"), graph(Takes("two"))), retry=retry.Times(2))

    define(factory).build({"total": 1})


def test_a_chain_of_thousands_of_tasks_is_checked():
    def factory():
        chain = linear(Step("0", provides="v0"))
        for number in range(1, 3000):
            chain.add(Step(str(number), requires=[f"v{number - 1}"], provides=f"v{number}"))
        return chain

    flow, _ = define(factory).build({})

    assert len(flow) == 3000


def test_what_the_flow_returns_must_be_provided_by_a_task():
    definition = define(lambda: linear(unordered(add())), returns="total")
    definition.build({})

    assert refusal(lambda total: linear(Step()), {"total": 1}, returns="total") == (
        "it returns 'total', which none of its tasks provides"
    )


# -- TaskFlow's own opinion

SYMBOLS = ("a", "b", "c")
PATTERNS = {"linear": linear_flow.Flow, "unordered": unordered_flow.Flow, "graph": graph_flow.Flow}

atoms = st.tuples(st.sets(st.sampled_from(SYMBOLS)), st.sets(st.sampled_from(SYMBOLS)))
flows = st.recursive(
    atoms,
    lambda inner: st.tuples(st.sampled_from(sorted(PATTERNS)), st.booleans(), st.lists(inner, max_size=4)),
    max_leaves=8,
)


def make(plan, numbers) -> Any:
    number = str(next(numbers))
    if len(plan) == 2:
        requires, provides = plan
        return Step(number, requires=sorted(requires), provides=tuple(sorted(provides)))
    pattern, retried, inner = plan
    controller = retry.ForEach([1], name=f"{number}-retry", provides="a") if retried else None
    return PATTERNS[pattern](number, retry=controller).add(*(make(each, numbers) for each in inner))


@settings(max_examples=300, deadline=None, database=None)
@given(plan=flows, given=st.sets(st.sampled_from(SYMBOLS)))
def test_a_flow_is_accepted_exactly_when_an_engine_would_accept_it(plan, given):
    def factory():
        return linear(make(plan, itertools.count()))

    try:
        flow = factory()
    except exceptions.TaskFlowException:  # ambiguous, or a circle: TaskFlow builds no such flow
        return
    engine = engines.load(flow, store=dict.fromkeys(given, 1))
    engine.compile()
    engine.prepare()
    try:
        engine.validate()
    except exceptions.MissingDependencies:
        accepted = False
    else:
        accepted = True

    definition = define(with_parameters(factory, given))

    if accepted:
        definition.build(dict.fromkeys(given, 1))
    else:
        with pytest.raises(FlowRefused, match="needs"):
            definition.build(dict.fromkeys(given, 1))


def with_parameters(factory, names):
    """A factory that has these parameters, and makes what `factory` makes."""
    namespace = {"make": factory}
    exec(f"def made({', '.join(sorted(names))}): return make()", namespace)
    return namespace["made"]
