"""Tasks that write down, in a file outside our database, what they did; and the shapes of flow made of them.

Registered in the test's own process, and copied to where runner processes import it.
"""

import os
import secrets
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskflow import retry
from taskflow.flow import Flow
from taskflow.patterns import graph_flow, linear_flow, unordered_flow

from ebbtide.flows import Registry
from ebbtide.tasks import INTERRUPTED, CancelableTask, Cancelled

PATIENCE_SECONDS = 30.0

Plan = Mapping[str, list[str]]


def note(folder: str, *words: str) -> None:
    """One line more in the effect log: one write at the file's end, so that no two lines mix."""
    line = (" ".join(words) + "\n").encode()
    log = os.open(Path(folder, "effects"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        assert os.write(log, line) == len(line)
    finally:
        os.close(log)


def noted(folder: str) -> list[list[str]]:
    try:
        return [line.split(" ") for line in Path(folder, "effects").read_text().splitlines()]
    except FileNotFoundError:
        return []


def address(folder: str) -> str:
    """Where a test hears of arrivals: a name without a file, since a socket's path has to be short."""
    return "\0" + folder[-90:]


def arrive(folder: str, place: str) -> socket.socket:
    """Tell the test that `place` is reached."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.settimeout(PATIENCE_SECONDS)
        line.connect(address(folder))
        line.sendall(place.encode())
    except OSError:
        line.close()
        raise
    return line


def pass_gate(folder: str, place: str) -> None:
    """Tell the test that `place` is reached and go on when it says so; raises once the test is over."""
    with arrive(folder, place) as line:
        if not line.recv(1):
            raise ConnectionAbortedError(f"the test ended before it opened {place}")


class Broken(Exception):
    """What a step raises when it is told to fail."""


class Step(CancelableTask):
    """Writes `begin` and `end`; its undo writes `undo`, with what it was given as the result, or `broke`.

    Besides it does what `plan` says: one word for each time that it begins, then nothing more.
    The key ``undo NAME`` holds the words for each try of its undo.
    """

    def __init__(self, name: str, *needs: str, **kwargs: Any) -> None:
        super().__init__(name=name, requires=needs, **({"provides": name} | kwargs))

    def execute(self, folder: str, plan: Plan, **needs: Any) -> Any:
        words = plan.get(self.name, [])
        times = sum(line[:2] == ["begin", self.name] for line in noted(folder))
        token = secrets.token_hex(4)
        note(folder, "begin", self.name)
        result = {"token": token} | self._do(words[times] if times < len(words) else "pass", folder)
        note(folder, "end", self.name, token)
        return result

    def _do(self, word: str, folder: str) -> dict[str, Any]:
        """What `word` says; returns what its result has besides the token."""
        place = f"execute {self.name}"
        match word:
            case "pass":
                return {}
            case "fail":
                raise Broken(f"{self.name} broke")
            case "break":
                pass_gate(folder, place)
                raise Broken(f"{self.name} broke")
            case "exit":
                raise SystemExit(3)
            case "gate":
                pass_gate(folder, place)
                return {}
            case "hold":
                self._wait_for_cancel(folder, place)
                self.checkpoint()
            case "late":
                self._wait_for_cancel(folder, place)
                return {}
            case "spoil":
                self._wait_for_cancel(folder, place)
                raise Broken(f"{self.name} broke")
            case "swallow":
                self._wait_for_cancel(folder, place)
                try:
                    self.checkpoint()
                except Cancelled:
                    note(folder, "swallowed", self.name)
                self.checkpoint()
            case "print":
                print("one")
                print("two", file=sys.stderr)
                print("x" * 10_000)
                print("no newline", end="")
                for number in range(50):
                    print(number, file=sys.stderr)
                return {}
            case "object":
                return {"made": {1, 2}}
            case "one":
                return {"one": 1}
            case "large":
                return {"bulk": "x" * 700_000}
        raise ValueError(f"no such word: {word}")

    def _wait_for_cancel(self, folder: str, place: str) -> None:
        arrive(folder, place).close()
        if not self.cancel.wait(PATIENCE_SECONDS):
            raise TimeoutError(f"no cancel came to {self.name}")

    def revert(self, result: Any, folder: str, plan: Plan) -> None:
        words = plan.get(f"undo {self.name}", [])
        times = sum(line[0] in ("undo", "broke") and line[1] == self.name for line in noted(folder))
        word = words[times] if times < len(words) else "pass"
        given = repr(INTERRUPTED) if result is INTERRUPTED else result["token"]
        if word in ("gate", "break"):
            pass_gate(folder, f"undo {self.name}")
        if word in ("fail", "break"):
            note(folder, "broke", self.name, given)
            raise Broken(f"the undo of {self.name} broke")
        note(folder, "undo", self.name, given)


@dataclass(frozen=True)
class Round:
    """How to bring a shape into a later round: what fails, and how often each task has begun before it."""

    fails: Plan
    begun: Mapping[str, int]

    def plan(self, task: str, word: str) -> Plan:
        """`task` does `word` in this round."""
        return {**self.fails, task: [*self.fails.get(task, ["pass"] * self.begun[task]), word]}

    def ends(self, task: str) -> int:
        """How often `task` has come to its end once it has done so in this round."""
        return self.begun.get(task, 0) - self.fails.get(task, []).count("fail") + 1


@dataclass(frozen=True)
class Shape:
    """A flow and what has to hold for it.

    Attributes:
        needs: each task that runs, with those it comes right after.
        workers: threads for its tasks.
        rounds: the ways into a later round.
        fatal: what fails, each time, until the flow gives up; `undone`: how often each task is then undone.
    """

    name: str
    build: Callable[[], Flow]
    needs: Mapping[str, Collection[str]]
    fatal: str
    undone: Mapping[str, int]
    rounds: Mapping[str, Round] = field(default_factory=dict)
    workers: int = 4

    @property
    def tasks(self) -> list[str]:
        return list(self.needs)

    def before(self, task: str) -> set[str]:
        """Everything that has to be done before `task` may begin."""
        direct = set(self.needs[task])
        return direct.union(*(self.before(other) for other in direct))

    def after(self, task: str) -> set[str]:
        """Everything that may begin only once `task` is done."""
        return {other for other in self.needs if task in self.before(other)}

    def without(self, task: str) -> set[str]:
        """Everything that can be done while `task` is not."""
        return set(self.needs) - self.after(task) - {task}


def _steps(*names: str) -> list[Step]:
    return [Step(name) for name in names]


def _linear(name: str, *items: Any, again: retry.Retry | None = None) -> Flow:
    return linear_flow.Flow(name, again).add(*items)


def _diamond() -> Flow:
    return graph_flow.Flow("diamond").add(
        Step("top"), Step("left", "top"), Step("right", "top"), Step("bottom", "left", "right")
    )


def _nested() -> Flow:
    between = unordered_flow.Flow("between").add(
        _linear("p", *_steps("p1", "p2")), _linear("q", *_steps("q1", "q2"))
    )
    return _linear("nested", Step("first"), between, Step("last"))


def _decided() -> Flow:
    root, taken, skipped, beyond = Step("root"), Step("taken"), Step("skipped"), Step("beyond")
    flow = graph_flow.Flow("decided").add(root, taken, skipped, beyond)
    flow.link(root, taken)
    flow.link(root, skipped, decider=lambda history: False)
    flow.link(skipped, beyond)
    return flow


def _foreach() -> Flow:
    tries = retry.ForEach([10, 20, 30], "tries", provides="value")
    return _linear("foreach", Step("a", "value"), Step("b"), Step("c", "value"), again=tries)


def _times_in_times() -> Flow:
    inner = _linear("inner", *_steps("x", "y"), again=retry.Times(2, "inner-tries"))
    return _linear("outer", Step("before"), inner, Step("after"), again=retry.Times(2, "outer-tries"))


def _revert_in_plain() -> Flow:
    inner = _linear("inner", *_steps("x", "y"), again=retry.AlwaysRevert("never"))
    return _linear("outer", Step("first"), inner, Step("last"))


def _branches() -> Flow:
    retried = _linear("retried", *_steps("x", "y"), again=retry.Times(3, "tries"))
    return unordered_flow.Flow("branches").add(_linear("plain", *_steps("p", "q")), retried)


def _tries_beside_tries() -> Flow:
    one = _linear("one", *_steps("x", "y"), again=retry.Times(3, "one-tries"))
    other = _linear("other", *_steps("u", "v"), again=retry.Times(2, "other-tries"))
    return unordered_flow.Flow("both").add(one, other)


def _fan_retried() -> Flow:
    fan = unordered_flow.Flow("fan").add(*_steps("a", "b", "c"))
    return _linear("fan-retried", fan, Step("d"), again=retry.Times(2, "tries"))


def _chain(*names: str) -> dict[str, list[str]]:
    return {name: list(names[:number][-1:]) for number, name in enumerate(names)}


def _each(number: int, *names: str) -> dict[str, int]:
    return dict.fromkeys(names, number)


_SECOND = {"second": Round({"c": ["fail"]}, _each(1, "a", "b", "c"))}
_THIRD = {
    "third, after half a second": Round({"b": ["pass", "fail"], "c": ["fail"]}, {"a": 2, "b": 2, "c": 1})
}

SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            "linear",
            lambda: _linear("linear", *_steps("a", "b", "c", "d")),
            _chain("a", "b", "c", "d"),
            fatal="d",
            undone=_each(1, "a", "b", "c", "d"),
        ),
        Shape(
            "unordered",
            lambda: unordered_flow.Flow("unordered").add(*_steps("a", "b", "c", "d", "e", "f")),
            {name: [] for name in "abcdef"},
            fatal="f",
            undone=_each(1, *"abcdef"),
            workers=2,
        ),
        Shape(
            "diamond",
            _diamond,
            {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]},
            fatal="bottom",
            undone=_each(1, "top", "left", "right", "bottom"),
        ),
        Shape(
            "nested",
            _nested,
            {"first": [], "p1": ["first"], "p2": ["p1"], "q1": ["first"], "q2": ["q1"], "last": ["p2", "q2"]},
            fatal="q2",
            undone=_each(1, "first", "p1", "p2", "q1", "q2"),
        ),
        Shape(
            "decided",
            _decided,
            {"root": [], "taken": ["root"]},
            fatal="taken",
            undone=_each(1, "root", "taken"),
        ),
        Shape(
            "times",
            lambda: _linear("times", *_steps("a", "b", "c"), again=retry.Times(3, "tries")),
            _chain("a", "b", "c"),
            fatal="c",
            undone=_each(3, "a", "b", "c"),
            rounds=_SECOND | _THIRD,
        ),
        Shape(
            "foreach",
            _foreach,
            _chain("a", "b", "c"),
            fatal="c",
            undone=_each(3, "a", "b", "c"),
            rounds=_SECOND,
        ),
        Shape(
            "times-in-times",
            _times_in_times,
            _chain("before", "x", "y", "after"),
            fatal="y",
            undone={"before": 2, "x": 4, "y": 4},
            rounds={
                "inner second": Round({"y": ["fail"]}, {"x": 1, "y": 1, "after": 0}),
                "outer second": Round({"y": ["fail", "fail"]}, {"before": 1, "x": 2, "y": 2, "after": 0}),
                "outer second, from its end": Round(
                    {"after": ["fail"]}, _each(1, "before", "x", "y", "after")
                ),
            },
        ),
        Shape(
            "revert-in-plain",
            _revert_in_plain,
            _chain("first", "x", "y", "last"),
            fatal="y",
            undone=_each(1, "first", "x", "y"),
        ),
        Shape(
            "branches",
            _branches,
            {"p": [], "q": ["p"], "x": [], "y": ["x"]},
            fatal="y",
            undone={"x": 3, "y": 3, "p": 1, "q": 1},
            rounds={"second": Round({"y": ["fail"]}, {"x": 1, "y": 1})},
        ),
        Shape(
            "tries-beside-tries",
            _tries_beside_tries,
            {"x": [], "y": ["x"], "u": [], "v": ["u"]},
            fatal="y",
            undone={"x": 3, "y": 3, "u": 1, "v": 1},
            rounds={"second": Round({"y": ["fail"]}, {"x": 1, "y": 1})},
        ),
        Shape(
            "fan-retried",
            _fan_retried,
            {"a": [], "b": [], "c": [], "d": ["a", "b", "c"]},
            fatal="d",
            undone=_each(2, "a", "b", "c", "d"),
            rounds={"second": Round({"d": ["fail"]}, _each(1, "a", "b", "c", "d"))},
            workers=3,
        ),
    )
}


def register(registry: Registry) -> None:
    """Register every shape as a flow of its name."""
    for shape in SHAPES.values():
        registry.flow(shape.name)(_factory(shape))


def _factory(shape: Shape) -> Callable[[str, dict[str, list[str]]], Flow]:
    def build(folder: str, plan: dict[str, list[str]]) -> Flow:
        return shape.build()

    return build
