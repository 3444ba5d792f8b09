"""Cancelable tasks in TaskFlow's own engines, without a conductor: the same promises within one process."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from taskflow import exceptions, states
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.tasks import INTERRUPTED, CancelableTask, CancelEvent, Cancelled, task
from ebbtide.tasks.run import DetachedRun
from ebbtide.tasks.wrapping import TaskExited

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from taskflow import engines

Log = list[Any]


class Step(CancelableTask):
    """Notes what it did and undid; fails, or cancels its job, where a test says so."""

    def __init__(
        self, name: str, log: Log, act: Callable[[Any], Any] = lambda task: None, **options: Any
    ) -> None:
        super().__init__(name=name, **options)
        self.log, self.act = log, act

    def execute(self):
        self.log.append(self.name)
        self.act(self)
        return f"result of {self.name}"

    def revert(self, result):
        self.log.append((self.name, result))


def fail(task):
    raise ValueError("broken")


def cancel(task):
    task.cancel.set("enough")


def cancel_here(task):
    task.cancel.set("enough")
    task.checkpoint()


@pytest.fixture(params=["serial", "parallel"])
def load(request) -> Iterator[Callable[..., Any]]:
    """Load a flow into one of TaskFlow's engines; its tasks share one event, as those of a job do."""
    with ThreadPoolExecutor(2) as pool:
        options = {"executor": pool} if request.param == "parallel" else {}

        def load_flow(flow, *, store=None, event=None):
            for atom, _ in flow.iter_nodes():
                if event is not None:
                    atom.bind(DetachedRun(event))
            return engines.load(flow, engine=request.param, store=store or {}, **options)

        yield load_flow


def linear(*atoms):
    return linear_flow.Flow("line").add(*atoms)


def test_a_flow_runs_and_its_results_reach_the_next_task(load):
    @task(provides="total")
    def add(a, b):
        return a + b

    @task(provides="told")
    def tell(total, *, before="total: "):
        return f"{before}{total}"

    engine = load(linear(add(), tell()), store={"a": 1, "b": 2})
    engine.run()

    assert engine.storage.fetch("told") == "total: 3"
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_failure_undoes_what_was_done_newest_first_with_the_true_results(load):
    log: Log = []
    engine = load(linear(Step("a", log), Step("b", log), Step("c", log, fail), Step("d", log)))

    with pytest.raises(ValueError, match="broken"):
        engine.run()

    undone = [("c", INTERRUPTED), ("b", "result of b"), ("a", "result of a")]
    assert log == ["a", "b", "c", *undone]
    assert engine.storage.get_flow_state() == states.REVERTED


@pytest.mark.parametrize(
    ("act", "own"), [(cancel_here, INTERRUPTED), (cancel, "result of b")], ids=["inside", "at its end"]
)
def test_a_cancel_undoes_what_began_and_begins_nothing_more(load, act, own):
    log: Log = []
    engine = load(linear(Step("a", log), Step("b", log, act), Step("c", log)), event=CancelEvent())

    with pytest.raises(Cancelled, match="enough"):
        engine.run()

    assert log == ["a", "b", ("b", own), ("a", "result of a")]
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_cancel_in_the_last_task_undoes_all_of_it(load):
    log: Log = []
    engine = load(linear(Step("a", log), Step("b", log, cancel)), event=CancelEvent())

    with pytest.raises(Cancelled):
        engine.run()

    assert log == ["a", "b", ("b", "result of b"), ("a", "result of a")]


def test_a_cancel_before_the_first_task_does_and_undoes_nothing(load):
    log: Log = []
    event = CancelEvent()
    event.set("enough")
    engine = load(linear(Step("a", log), Step("b", log)), event=event)

    with pytest.raises(Cancelled):
        engine.run()

    assert log == []
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_cancel_of_many_at_once_undoes_exactly_those_that_began(load):
    log: Log = []
    event = CancelEvent()
    steps = [Step(f"s{number}", log, cancel if number == 3 else lambda task: None) for number in range(12)]
    engine = load(unordered_flow.Flow("any order").add(*steps), event=event)

    with pytest.raises((Cancelled, exceptions.WrappedFailure)):
        engine.run()

    began = {each for each in log if isinstance(each, str)}
    undone = [each[0] for each in log if isinstance(each, tuple)]
    assert sorted(undone) == sorted(began)
    assert "s3" in began


def test_an_exit_of_a_task_is_a_failure_and_leaves_nothing_half_done(load):
    log: Log = []

    def leave(task):
        raise SystemExit(3)

    engine = load(linear(Step("a", log), Step("b", log, leave)))

    with pytest.raises(TaskExited, match="b left with SystemExit: 3"):
        engine.run()

    assert log == ["a", "b", ("b", INTERRUPTED), ("a", "result of a")]
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_result_that_is_not_json_is_undone_and_does_not_loop(load):
    log: Log = []

    class Odd(Step):
        def execute(self):
            self.log.append(self.name)
            return {1, 2}

    engine = load(linear(Step("a", log), Odd("b", log)))

    with pytest.raises(ValueError, match="the result of b is a set"):
        engine.run()

    assert log == ["a", "b", ("b", INTERRUPTED), ("a", "result of a")]


def test_a_later_task_that_changes_a_result_does_not_change_what_the_undo_sees(load):
    seen: Log = []

    @task(provides="files")
    def scan():
        return {"found": ["a"]}

    @scan.undo
    def forget(result):
        seen.append(result)

    @task
    def spoil(files):
        files["found"].clear()
        files["spoiled"] = True
        raise ValueError("broken")

    engine = load(linear(scan(), spoil()))
    with pytest.raises(ValueError, match="broken"):
        engine.run()

    assert seen == [{"found": ["a"]}]


# -- what revert may name


def no_arguments(self):
    return []


def only_result(self, result):
    return [result]


def only_failures(self, flow_failures):
    return sorted(flow_failures)


def own_argument(self, source):
    return [source]


def another_argument(self, result, owner):
    return [result, owner]


def with_default(self, result, missing="default", *, source):
    return [result, missing, source]


def everything(self, *rest, **given):
    return sorted(given)


@pytest.mark.parametrize(
    ("revert", "given"),
    [
        (no_arguments, []),
        (only_result, ["made"]),
        (only_failures, ["last"]),
        (own_argument, ["/data"]),
        (another_argument, ["made", "ann"]),
        (with_default, ["made", "default", "/data"]),
        (everything, ["flow_failures", "result"]),
    ],
)
def test_revert_names_only_what_it_wants(load, revert, given):
    seen: Log = []

    def noting(self, *args, **kwargs):
        seen.append(revert(self, *args, **kwargs))

    noting.__wrapped__ = revert  # its signature is that of revert
    members = {"execute": lambda self, source: "made", "revert": noting}
    first = type("First", (CancelableTask,), members)(name="first")
    engine = load(linear(first, Step("last", [], fail)), store={"source": "/data", "owner": "ann"})

    with pytest.raises(ValueError, match="broken"):
        engine.run()

    assert seen == [given]


def test_what_only_revert_names_is_required_before_the_flow_runs(load):
    class Copy(CancelableTask):
        def execute(self): ...

        def revert(self, result, owner): ...

    engine = load(linear(Copy()))

    with pytest.raises(exceptions.MissingDependencies, match="owner"):
        engine.run()


# -- what TaskFlow lets a task be given


@pytest.mark.parametrize(
    "options",
    [
        {"rebind": {"source": "first", "target": "second"}},
        {"rebind": ["first", "second"]},
        {"rebind": ("first", "second")},
        {"inject": {"source": 1, "target": 2}},
        {"rebind": {"source": "first"}, "inject": {"target": 2}},
    ],
    ids=str,
)
def test_revert_is_given_what_execute_was_given_by_name_however_that_was_bound(load, options):
    seen: Log = []

    class Copy(CancelableTask):
        def execute(self, source, target):
            seen.append((source, target))

        def revert(self, result, target):
            seen.append(target)

    engine = load(linear(Copy(**options), Step("last", [], fail)), store={"first": 1, "second": 2})
    with pytest.raises(ValueError, match="broken"):
        engine.run()

    assert seen == [(1, 2), 2]


def test_a_revert_without_arguments_goes_with_requires_and_rebind(load):
    seen: Log = []

    class Copy(CancelableTask):
        def execute(self, **given):
            seen.append(given)

        def revert(self):
            seen.append("undone")

    engine = load(
        linear(Copy(requires=["a"], rebind={"b": "c"}), Step("last", [], fail)), store={"a": 1, "c": 3}
    )
    with pytest.raises(ValueError, match="broken"):
        engine.run()

    assert seen == [{"a": 1, "b": 3}, "undone"]


def test_revert_may_be_bound_by_itself(load):
    seen: Log = []

    class Copy(CancelableTask):
        def execute(self, source): ...

        def revert(self, source):
            seen.append(source)

    copy = Copy(rebind=["first"], revert_rebind={"source": "second"})
    with pytest.raises(ValueError, match="broken"):
        load(linear(copy, Step("last", [], fail)), store={"first": 1, "second": 2}).run()

    assert seen == [2]


@pytest.mark.parametrize(
    ("provides", "result"),
    [("one", 1), (("one", "two"), (1, 2)), ({"one", "two"}, {"one": 1, "two": 2})],
    ids=["name", "tuple", "set"],
)
def test_what_a_class_provides_by_default_is_provided(load, provides, result):
    class Make(CancelableTask):
        default_provides = provides

        def execute(self):
            return result

    engine = load(linear(Make()))
    engine.run()

    assert engine.storage.fetch("one") == 1
    if provides != "one":
        assert engine.storage.fetch("two") == 2
