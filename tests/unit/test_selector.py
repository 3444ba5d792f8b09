"""What may begin or be undone is what TaskFlow says, on flows of every shape, although less is asked for it.

EBBTIDE_TEST_EXAMPLES says how many flows.
"""

import itertools
import os
import types
import warnings
from concurrent.futures import Future

from hypothesis import given, settings
from hypothesis import strategies as st
from taskflow import deciders, exceptions, retry, task
from taskflow.patterns import graph_flow, linear_flow, unordered_flow
from taskflow.persistence import models
from taskflow.types import failure

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from taskflow.engines.action_engine import engine, executor, traversal
    from taskflow.engines.action_engine import selector as stock
    from taskflow.engines.action_engine.compiler import ATOMS

    from ebbtide.conductor.bodies import Bodies
    from ebbtide.conductor.selector import Selector
    from ebbtide.conductor.turning import _Completer
from ebbtide.tasks import CancelEvent


class _Step(task.Task):
    """Fails in its first `failures` tries."""

    def __init__(self, number: int, failures: int = 0) -> None:
        super().__init__(f"t{number}")
        self._failures = failures

    def execute(self):
        if self._failures:
            self._failures -= 1
            raise RuntimeError("on purpose")
        return self.name

    def revert(self, **kwargs):
        pass


class _Compared(Selector):
    """Asks TaskFlow's own as well, each time."""

    def __init__(self, runtime):
        event = CancelEvent()
        bodies = Bodies(event, 1.0, lambda grace: None)
        super().__init__(runtime, types.SimpleNamespace(event=event, bodies=bodies))
        self.asked = self.asked_backwards = 0
        self.told = set()  # what may be undone, and was said to

    def iter_next_atoms(self, atom=None):
        for found in super().iter_next_atoms(atom):
            if self._may_go_back(found[0]):
                self.told.add(found[0])
            yield found
        state = None if atom is None else self._storage.get_atom_state(atom.name)
        asked = ()
        if state == "REVERTED":
            asked = traversal.breadth_first_iterate(
                self._execution_graph, atom, traversal.Direction.BACKWARD, through_retries=False
            )
        elif state == "FAILURE":
            asked = self._runtime.iterate_nodes(ATOMS)
        assert {node for node in asked if self._may_go_back(node)} <= self.told

    def _may_go_back(self, atom):
        return stock.Selector._get_maybe_ready_for_revert(self, atom)[0]

    def _get_maybe_ready_for_revert(self, atom):
        self.asked_backwards += 1
        ours = super()._get_maybe_ready_for_revert(atom)
        assert ours[0] == self._may_go_back(atom), atom
        return ours

    def _get_maybe_ready_for_execute(self, atom):
        self.asked += 1
        ours = super()._get_maybe_ready_for_execute(atom)
        assert ours[0] == stock.Selector._get_maybe_ready_for_execute(self, atom)[0], atom
        return ours

    def _browse_atoms_for_execute(self, atom=None):
        yielded = set()
        for found in super()._browse_atoms_for_execute(atom):
            assert found[0] not in yielded
            yielded.add(found[0])
            yield found
        if atom is not None:
            behind = traversal.breadth_first_iterate(self._execution_graph, atom, traversal.Direction.FORWARD)
            ready = {node for node in behind if stock.Selector._get_maybe_ready_for_execute(self, node)[0]}
            assert ready <= yielded


class _Here(executor.TaskExecutor):
    """Runs every task at once, in the thread that submits it."""

    def execute_task(self, task, task_uuid, arguments, progress_callback=None):
        return self._done(task, executor.EXECUTED, task.execute, arguments)

    def revert_task(self, task, task_uuid, arguments, result, failures, progress_callback=None):
        return self._done(task, executor.REVERTED, task.revert, arguments)

    def _done(self, task, word, call, arguments):
        future = Future()
        future.atom = task
        try:
            future.set_result((word, call(**arguments)))
        except Exception:  # noqa: BLE001  # as in any task executor
            future.set_result((word, failure.Failure()))
        return future


def _nothing():
    pass


class _Engine(engine.ParallelActionEngine):
    def __init__(self, flow, chosen) -> None:
        detail = models.FlowDetail("flow", "00000000-0000-0000-0000-000000000001")
        super().__init__(flow, detail, None, {"defer_reverts": True})
        self.compile()
        self.chosen = self._runtime._selector = chosen(self._runtime)
        self._runtime._completer = _Completer(
            self._runtime, _nothing, _nothing, _nothing, hold=lambda *_: False, stands_beside=lambda: False
        )

    @classmethod
    def _fetch_task_executor(cls, options):
        return _Here()

    def ended(self):
        """The errors that its run raised, and every atom's state."""
        errors = set()
        try:
            self.run()
        except (RuntimeError, exceptions.InvalidState) as raised:
            errors = {str(raised)}
        except exceptions.WrappedFailure as raised:
            errors = {each.exception_str for each in raised}
        graph = self._compilation.execution_graph
        atoms = [node.name for node, data in graph.nodes(data=True) if data["kind"] in ("task", "retry")]
        return errors, {name: self.storage.get_atom_state(name) for name in atoms}


# How TaskFlow's own ends as well now and then, of siblings with retry controllers within controllers.
STRANDED = "Flow transition from 'RUNNING' to 'SUSPENDED' is not allowed"
PATTERNS = [linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow]


@st.composite
def _items(draw):
    """A task that fails so many times, or what a flow is made from: pattern, controller, items, links."""
    return draw(
        st.recursive(
            st.sampled_from([0, 0, 0, 0, 1, 9]),
            lambda items: st.tuples(
                st.sampled_from(PATTERNS),
                st.sampled_from([None, None, retry.Times]),
                st.lists(items, min_size=1, max_size=4),
                st.lists(_LINKS, max_size=4),
            ),
            max_leaves=12,
        )
    )


_LINKS = st.tuples(
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([None, True, False]),
    st.sampled_from(deciders.Depth),
)


def _built(item, number):
    if isinstance(item, int):
        return _Step(next(number), item)
    pattern, controller, items, links = item
    name = next(number)
    flow = pattern(f"f{name}", *([controller(2, f"r{name}")] if controller else []))
    parts = [_built(each, number) for each in items]
    flow.add(*parts)
    if pattern is graph_flow.Flow:
        for early, late, answer, depth in links:
            if early < late < len(parts):
                decider = {} if answer is None else {"decider": lambda history, answer=answer: answer}
                flow.link(
                    parts[early], parts[late], **decider, **({"decider_depth": depth} if decider else {})
                )
    return flow


@settings(max_examples=int(os.environ.get("EBBTIDE_TEST_EXAMPLES", "60")), deadline=None)
@given(st.lists(_items(), min_size=1, max_size=3))
def test_on_any_flow_it_finds_what_taskflow_finds(items):
    flow = _built((linear_flow.Flow, None, items, []), itertools.count())

    errors, _ = _Engine(flow, _Compared).ended()

    # Not among them: an answer that differs, which fails the run like any error of the engine's own.
    assert errors <= {"on purpose", STRANDED}


def test_of_a_long_line_each_end_asks_for_one():
    line = linear_flow.Flow("line").add(*[_Step(number) for number in range(50)])
    made = _Engine(line, _Compared)
    made.run()

    # All of them at the start and at the end, and one for each but the last that ended.
    assert made.chosen.asked == 50 + 50 + 49


def test_of_a_long_line_that_is_undone_each_end_asks_for_one():
    line = linear_flow.Flow("line").add(*[_Step(number) for number in range(50)], _Step(50, failures=9))
    made = _Engine(line, _Compared)
    made.ended()

    # All of them at the start, when the last one failed and at the end, and one for each that was undone.
    assert made.chosen.asked_backwards <= 51 * 3 + 51


def test_of_many_that_fail_together_all_are_asked_for_the_first_alone():
    many = unordered_flow.Flow("many").add(*[_Step(number, failures=9) for number in range(50)])
    made = _Engine(many, _Compared)
    made.ended()

    # All of them at the start, for the first that failed and at the end; itself for each of the others.
    assert made.chosen.asked_backwards <= 50 * 3 + 50


def test_what_a_decider_passes_over_may_let_what_is_behind_it_begin():
    first, x, y, z = (_Step(number) for number in range(4))
    flow = graph_flow.Flow("flow").add(first, x, y, z)
    flow.link(first, x)
    flow.link(first, y, decider=lambda history: False, decider_depth=deciders.Depth.NEIGHBORS)
    flow.link(y, x)
    flow.link(x, z)

    _, states = _Engine(flow, _Compared).ended()
    assert states == {"t0": "SUCCESS", "t1": "IGNORE", "t2": "IGNORE", "t3": "SUCCESS"}


def test_a_part_that_was_about_to_be_tried_again_is_undone_with_a_flow_that_had_failed_before():
    again = linear_flow.Flow("again", retry.AlwaysRevert("r")).add(_Step(1, failures=9))
    made = _Engine(unordered_flow.Flow("flow").add(again, _Step(2)), _Compared)
    made.prepare()
    # As a runner left it that died then.
    made.storage.save("t2", failure.Failure.from_exception(RuntimeError("on purpose")), "FAILURE")
    made.storage.set_atom_state("r", "RETRYING")

    _, states = made.ended()

    assert states == {"r": "REVERTED", "t1": "REVERTED", "t2": "REVERTED"}
