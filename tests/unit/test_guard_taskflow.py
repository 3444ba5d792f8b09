"""What the engine relies on and TaskFlow does not promise: its hooks exist, and still work as they did.

When one of these fails, TaskFlow has moved something: see `ebbtide/conductor/turning.py` first.
"""

import inspect
import warnings
from concurrent.futures import Future
from importlib.metadata import version

import pytest
from taskflow import retry, task
from taskflow.patterns import graph_flow, linear_flow, unordered_flow
from taskflow.persistence import models
from taskflow.types import failure

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from taskflow import storage
    from taskflow.engines.action_engine import completer, executor, runtime, selector
    from taskflow.engines.action_engine import engine as action_engine

    from ebbtide.conductor import backend as our_backend
    from ebbtide.conductor import engine as ours
    from ebbtide.conductor import executor as our_executor
    from ebbtide.conductor import turning as our_turning
    from ebbtide.conductor.plain import engine as our_plain


class _Here(executor.TaskExecutor):
    """Runs every task at once, in the thread that submits it."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def execute_task(self, task, task_uuid, arguments, progress_callback=None):
        self.called.append(f"execute {task.name}")
        return self._done(task, executor.EXECUTED, task.execute, arguments)

    def revert_task(self, task, task_uuid, arguments, result, failures, progress_callback=None):
        self.called.append(f"revert {task.name}")
        arguments = arguments | {"result": result, "flow_failures": failures}
        return self._done(task, executor.REVERTED, task.revert, arguments)

    def _done(self, task, word, call, arguments):
        future = Future()
        future.atom = task
        try:
            future.set_result((word, call(**arguments)))
        except Exception:  # noqa: BLE001  # as in any task executor
            future.set_result((word, failure.Failure()))
        return future


class _Engine(action_engine.ParallelActionEngine):
    """Uses the hooks as ours does, and nothing else."""

    def __init__(self, flow, **options) -> None:
        self.here = _Here()
        self.states: list[str] = []
        self.refused: set[str] = set()
        detail = models.FlowDetail("flow", "00000000-0000-0000-0000-000000000001")
        super().__init__(flow, detail, None, {"here": self.here, "defer_reverts": True} | options)

    @classmethod
    def _fetch_task_executor(cls, options):
        return options["here"]

    def _change_state(self, state):
        self.states.append(state)
        super()._change_state("FAILURE" if state in self.refused else state)


class _Fails(task.Task):
    def execute(self):
        raise RuntimeError("on purpose")


class _Passes(task.Task):
    default_provides = "value"

    def execute(self):
        return 1

    def revert(self, **kwargs):
        pass


class _FailsToRevert(_Passes):
    def revert(self, **kwargs):
        raise RuntimeError("cannot undo")


def _flow(*items):
    return linear_flow.Flow("flow").add(*items)


def test_taskflow_is_the_version_whose_hooks_these_are():
    assert version("taskflow").split(".")[:2] == ["6", "5"]


def test_fetch_task_executor_is_a_class_method_given_the_options_and_its_executor_is_used():
    hook = inspect.getattr_static(action_engine.ParallelActionEngine, "_fetch_task_executor")
    assert isinstance(hook, classmethod)
    assert list(inspect.signature(hook.__func__).parameters) == ["cls", "options"]

    engine = _Engine(_flow(_Passes("a"), _Passes("b", provides="other")))
    engine.run()

    assert engine.here.called == ["execute a", "execute b"]
    assert engine.storage.get("a") == 1


def test_change_state_is_told_every_state_of_the_flow_and_may_store_another():
    engine = _Engine(_flow(_Passes("a")))
    engine.run()
    assert engine.states == ["RESUMING", "SUSPENDED", "RUNNING", "SUCCESS"]

    engine = _Engine(_flow(_Passes("a"), _Fails("b")))
    engine.refused.add("REVERTED")
    with pytest.raises(RuntimeError, match="on purpose"):
        engine.run()
    assert engine.states[-1] == "REVERTED"
    assert engine.storage.get_flow_state() == "FAILURE"


def test_suspend_is_a_change_of_state():
    engine = _Engine(_flow(_Passes("a"), _Passes("b", provides="other")))
    machine = engine.run_iter()
    state = next(machine)
    with pytest.raises(StopIteration):
        while True:
            state = machine.send(state == "WAITING" and "SUSPENDING" not in engine.states)

    assert engine.states[-2:] == ["SUSPENDING", "SUSPENDED"]
    assert engine.here.called == ["execute a"]


def test_the_completer_of_a_runtime_is_cached_under_the_name_that_is_written():
    assert hasattr(runtime.Runtime, "completer")
    engine = _Engine(_flow(_Passes("a")))
    engine.compile()
    assert not hasattr(engine._runtime, "_completer"), "nobody has asked for it yet: it may still be replaced"

    replaced = completer.Completer(engine._runtime)
    engine._runtime._completer = replaced

    assert engine._runtime.completer is replaced
    assert engine._runtime.builder._completer is replaced


def test_the_selector_of_a_runtime_is_cached_under_the_name_that_is_written():
    assert hasattr(runtime.Runtime, "selector")
    engine = _Engine(_flow(_Passes("a")))
    engine.compile()
    assert not hasattr(engine._runtime, "_selector"), "nobody has asked for it yet: it may still be replaced"

    replaced = selector.Selector(engine._runtime)
    engine._runtime._selector = replaced

    assert engine._runtime.selector is replaced
    assert engine._runtime.builder._selector is replaced


def test_a_decider_is_one_field_of_what_a_runtime_knows_of_an_edge():
    a, b = _Passes("a"), _Passes("b")
    flow = graph_flow.Flow("f").add(a, b)
    flow.link(a, b, decider=lambda history: True)
    engine = _Engine(flow)
    engine.compile()

    (edge,) = engine._runtime.fetch_edge_deciders(b)

    assert edge._replace(decider=len).decider is len


def test_a_completer_that_does_not_keep_the_failure_of_an_undo_lets_the_others_go_on():
    asked = []

    class Going(completer.Completer):
        def complete_failure(self, node, outcome, reason):
            asked.append((node.name, outcome))
            return False if outcome == executor.REVERTED else super().complete_failure(node, outcome, reason)

    before = linear_flow.Flow("before").add(_Passes("a", provides="first"), _FailsToRevert("b"))
    engine = _Engine(_flow(before, _Passes("c", provides="third"), _Fails("d")))
    engine.compile()
    engine._runtime._completer = Going(engine._runtime)
    with pytest.raises(Exception, match=r"on purpose|cannot undo|WrappedFailure"):
        engine.run()

    assert asked == [("d", executor.EXECUTED), ("b", executor.REVERTED)]
    assert engine.here.called[-3:] == ["revert d", "revert c", "revert b"]
    states = {name: engine.storage.get_atom_state(name) for name in "abcd"}
    assert states == {"a": "SUCCESS", "b": "REVERT_FAILURE", "c": "REVERTED", "d": "REVERTED"}
    # What is wrong there, and why our engine refuses this state:
    assert engine.states[-1] == "REVERTED"


def test_the_completer_is_asked_what_a_failure_leads_to_and_told_of_every_end():
    told = []

    class Listening(completer.Completer):
        def complete(self, node, outcome, result):
            super().complete(node, outcome, result)
            told.append((node.name, outcome))

        def _determine_resolution(self, atom, reason):
            resolver = super()._determine_resolution(atom, reason)
            told.append((atom.name, type(resolver)))
            return resolver

    tries = retry.Times(2, "tries")
    engine = _Engine(linear_flow.Flow("flow", tries).add(_Passes("a"), _Fails("b")))
    engine.compile()
    engine._runtime._completer = Listening(engine._runtime)
    with pytest.raises(RuntimeError, match="on purpose"):
        engine.run()

    executed, reverted = executor.EXECUTED, executor.REVERTED
    a_round = [("tries", executed), ("a", executed), ("b", executed)]
    undone = [("b", reverted), ("a", reverted)]
    # Asked about the failed task, then, since the controller gives up, about what is around the controller.
    gives_up = [("tries", completer.RevertAll), ("b", completer.RevertAll)]
    assert told == [
        *a_round,
        ("b", completer.RevertAndRetry),
        *undone,
        *a_round,
        *gives_up,
        *undone,
        ("tries", reverted),
    ]


def test_siblings_are_handed_out_by_priority_highest_first():
    siblings = [_Passes(name, provides=name) for name in "abc"]
    for priority, sibling in enumerate(siblings):
        sibling.priority = priority
    engine = _Engine(unordered_flow.Flow("flow").add(*siblings))

    engine.run()

    assert engine.here.called == ["execute c", "execute b", "execute a"]


def test_every_atom_that_is_to_be_reverted_and_did_not_begin_is_left_alone():
    engine = _Engine(_flow(_Passes("a"), _Passes("b", provides="other")))
    machine = engine.run_iter()
    state = next(machine)
    with pytest.raises(StopIteration):
        while True:
            state = machine.send(state == "WAITING" and "SUSPENDING" not in engine.states)

    for name in "ab":
        engine.storage.set_atom_intention(name, "REVERT")
    engine.run()

    assert engine.here.called == ["execute a", "revert a"]
    assert engine.storage.get_flow_state() == "REVERTED"
    assert engine.storage.get_atom_state("b") == "PENDING"


@pytest.mark.parametrize(
    "controller",
    [
        retry.Times(9, "tries"),
        retry.ForEach([1, 2, 3], "tries"),
        retry.AlwaysRevert("tries"),
        retry.AlwaysRevertAll("tries"),
    ],
    ids=lambda controller: type(controller).__name__,
)
def test_a_retry_controller_is_asked_through_on_failure_of_the_instance(controller):
    asked = []

    def on_failure(*args, **kwargs):
        asked.append(kwargs)
        return retry.REVERT_ALL

    controller.on_failure = on_failure
    engine = _Engine(linear_flow.Flow("flow", controller).add(_Passes("a"), _Fails("b")))
    with pytest.raises(RuntimeError, match="on purpose"):
        engine.run()

    assert len(asked) == 1
    assert engine.here.called == ["execute a", "execute b", "revert b", "revert a"]


def test_our_engine_overrides_exactly_what_taskflow_still_has():
    for engine, names in (
        (our_turning.TurningEngine, ("_change_state", "compile")),
        (ours.Engine, ("_fetch_task_executor", "compile", "storage")),
        (our_plain.CancelableEngine, ("_fetch_task_executor", "compile", "reset", "suspend", "run_iter")),
    ):
        for name in names:
            assert name in vars(engine)
            assert hasattr(action_engine.ParallelActionEngine, name)
    parameters = list(inspect.signature(completer.Completer.complete_failure).parameters)
    assert parameters == ["self", "node", "outcome", "failure"]
    for name in ("_save_flow_detail", "_save_atom_detail"):
        assert name in vars(our_backend.Storage)
        assert len(inspect.signature(getattr(storage.Storage, name)).parameters) == 4
    for name in ("execute_task", "revert_task"):
        theirs = inspect.signature(getattr(executor.TaskExecutor, name)).parameters
        assert list(inspect.signature(getattr(our_executor.TaskExecutor, name)).parameters) == list(theirs)
