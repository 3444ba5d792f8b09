"""The engine plug-in `cancelable`: stock flows and stock persistence, cancelled from outside and undone."""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from taskflow import exceptions, retry, states, task
from taskflow.patterns import linear_flow, unordered_flow
from taskflow.persistence import backends, models

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from taskflow import engines

    from ebbtide.conductor.plain.engine import CancelableEngine

from ebbtide.errors import ConfigError
from ebbtide.jobs.plain import CancelRequests, open_requests
from ebbtide.jobs.requestfiles import PENDING, PROCESSED
from ebbtide.tasks import CancelableTask, Cancelled

PATIENCE_SECONDS = 20.0


class Diary:
    """What the tasks of a test have done; and where they wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reached = threading.Event()
        self.go_on = threading.Event()


diary = Diary()


@pytest.fixture(autouse=True)
def _new_diary() -> Iterator[None]:
    global diary
    diary = Diary()
    yield
    diary.go_on.set()


class Step(CancelableTask):
    def execute(self) -> dict[str, list[int]]:
        diary.lines.append(f"do {self.name}")
        return {"made": [1]}

    def revert(self, result: Any) -> None:
        diary.lines.append(f"undo {self.name} {result}")


class Waits(CancelableTask):
    """Waits at its checkpoints for a cancel."""

    def execute(self) -> None:
        diary.lines.append(f"do {self.name}")
        self.checkpoint({"at": 1})
        diary.reached.set()
        while True:
            self.sleep(0.01)

    def revert(self, result: Any) -> None:
        diary.lines.append(f"undo {self.name} {result} {self.saved}")


class Plain(task.Task):
    def execute(self) -> str:
        diary.lines.append(f"do {self.name}")
        return "plain"

    def revert(self, result: Any, **_: Any) -> None:
        told = result if isinstance(result, str) else type(result).__name__
        diary.lines.append(f"undo {self.name} {told}")


class DeafPlain(Plain):
    """Knows of no checkpoint, and ends when the test lets it."""

    def execute(self) -> str:
        diary.reached.set()
        assert diary.go_on.wait(PATIENCE_SECONDS)
        return super().execute()


class Fails(Plain):
    def execute(self) -> str:
        super().execute()
        raise RuntimeError("on purpose")


class FailsToUndo(Plain):
    def revert(self, result: Any, **kwargs: Any) -> None:
        raise RuntimeError("cannot be undone")


class Exits(Plain):
    def execute(self) -> str:
        super().execute()
        raise SystemExit(3)


@pytest.fixture
def persistence(database: str) -> Iterator[Any]:
    """TaskFlow's own, on the store of this test."""
    url = database.replace("postgresql://", "postgresql+psycopg2://")
    backend = backends.fetch({"connection": url})
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
    yield backend
    backend.close()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "cancellations")


@pytest.fixture
def requests(folder: str) -> Iterator[CancelRequests]:
    with open_requests(f"file://{folder}") as opened:
        yield opened


@pytest.fixture
def load(persistence: Any, folder: str) -> Callable[..., CancelableEngine]:
    """Loads a flow in the engine, for a new flow detail or one that is there."""

    def loaded(
        *atoms: Any, detail: models.FlowDetail | None = None, flow: Any = None, **options: Any
    ) -> CancelableEngine:
        if flow is None:
            flow = linear_flow.Flow("flow").add(*atoms)
        book = None
        if detail is None:
            book = models.LogBook("book")
            detail = models.FlowDetail("flow", uuid=_uuid())
            book.add(detail)
            with contextlib.closing(persistence.get_connection()) as connection:
                connection.save_logbook(book)
        options = {"requests": f"file://{folder}"} | options
        engine: CancelableEngine = engines.load(
            flow, flow_detail=detail, backend=persistence, engine="cancelable", **options
        )
        return engine

    return loaded


@pytest.fixture
def stored(persistence: Any) -> Callable[[CancelableEngine], models.FlowDetail]:
    """Reads from the store what there is of an engine's flow."""

    def read(engine: CancelableEngine) -> models.FlowDetail:
        with contextlib.closing(persistence.get_connection()) as connection:
            return connection.get_flow_details(engine.storage.flow_uuid)

    return read


def _uuid() -> str:
    return str(uuid4())


@contextlib.contextmanager
def running(engine: CancelableEngine) -> Iterator[list[BaseException]]:
    """The engine runs in another thread within the block; it has ended after it."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            engine.run()
        except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def atoms_of(detail: models.FlowDetail) -> dict[str, str]:
    return {atom.name: atom.state for atom in detail if not atom.name.startswith("_TaskFlow")}


def answered(requests: CancelRequests, uuid: str) -> str | None:
    request = requests.check(uuid)
    return None if request is None else request.answer


def test_without_a_request_it_runs_as_any_engine_does(load, stored):
    engine = load(Step("a"), Plain("b"), task.FunctorTask(lambda: diary.lines.append("do c"), name="c"))

    engine.run()

    assert diary.lines == ["do a", "do b", "do c"]
    assert stored(engine).state == states.SUCCESS


def test_a_request_during_a_run_undoes_what_began_newest_first(load, stored, requests):
    engine = load(Step("a"), Plain("b"), Waits("c"), Step("d"))

    with running(engine) as raised:
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.storage.flow_uuid, reason="wrong customer", who="ann")

    assert diary.lines == [
        "do a",
        "do b",
        "do c",
        "undo c INTERRUPTED {'at': 1}",
        "undo b plain",
        "undo a {'made': [1]}",
    ]
    assert [type(error) for error in raised] == [Cancelled]
    assert raised[0].reason == "wrong customer"
    detail = stored(engine)
    assert detail.state == states.REVERTED
    assert atoms_of(detail) == {"a": "REVERTED", "b": "REVERTED", "c": "REVERTED", "d": "PENDING"}
    assert (detail.meta["ebbtide_cancel"]["who"], detail.meta["ebbtide_cancel"]["undone"]) == ("ann", True)
    assert answered(requests, engine.storage.flow_uuid) == "accepted"


def test_a_request_before_the_run_lets_no_task_begin(load, stored, requests):
    engine = load(Step("a"), Plain("b"))
    requests.request(engine.storage.flow_uuid)

    with pytest.raises(Cancelled):
        engine.run()

    assert diary.lines == []
    assert stored(engine).state == states.REVERTED
    assert requests.check(engine.storage.flow_uuid).status == PROCESSED


def test_a_task_that_knows_of_no_cancel_runs_to_its_end_and_is_undone(load, stored, requests):
    engine = load(DeafPlain("a"), Plain("b"))

    with running(engine) as raised:
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.storage.flow_uuid)
        _wait_for_answer(requests, engine)
        diary.go_on.set()

    assert diary.lines == ["do a", "undo a plain"]
    assert [type(error) for error in raised] == [Cancelled]
    assert stored(engine).state == states.REVERTED


def test_a_request_in_the_last_task_undoes_the_finished_flow(load, stored, requests):
    engine = load(Step("a"), DeafPlain("b"))

    with running(engine) as raised:
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.storage.flow_uuid)
        _wait_for_answer(requests, engine)
        diary.go_on.set()

    assert diary.lines == ["do a", "do b", "undo b plain", "undo a {'made': [1]}"]
    assert [type(error) for error in raised] == [Cancelled]


def test_a_request_by_job_is_found_where_the_engine_knows_its_job(load, requests):
    engine = load(Waits("a"))
    engine.job_id = _uuid()

    with running(engine) as raised:
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.job_id)

    assert [type(error) for error in raised] == [Cancelled]
    assert answered(requests, engine.job_id) == "accepted"


def test_a_request_after_the_end_stays_pending(load, requests):
    engine = load(Step("a"))
    engine.run()

    requests.request(engine.storage.flow_uuid)

    assert requests.check(engine.storage.flow_uuid).status == PENDING


def test_a_request_that_comes_as_the_flow_ends_is_told_that_it_is_too_late(load, requests):
    engine = load(Step("a"))
    engine.run()

    answer = engine._accept(requests.request(engine.storage.flow_uuid))

    assert answer == "too late: success"


def test_siblings_are_undone_newest_first_and_what_is_queued_does_not_begin(load, stored, requests):
    flow = unordered_flow.Flow("flow").add(Waits("a"), Step("b"), Step("c"))
    engine = load(flow=flow, max_workers=1)

    with running(engine):
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.storage.flow_uuid)

    done = [line.split()[1] for line in diary.lines if line.startswith("do")]
    undone = [line.split()[1] for line in diary.lines if line.startswith("undo")]
    assert done[-1] == "a"
    assert undone == done[::-1]
    assert stored(engine).state == states.REVERTED


def test_a_retry_controller_begins_no_other_round_after_a_request(load, stored, requests):
    flow = linear_flow.Flow("flow", retry.Times(50)).add(Step("a"), Waits("b"))
    engine = load(flow=flow)

    with running(engine) as raised:
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.storage.flow_uuid)

    assert diary.lines.count("do b") == 1
    assert [type(error) for error in raised] == [Cancelled]
    assert stored(engine).state == states.REVERTED


def test_a_failure_is_what_it_is_with_any_engine(load, stored):
    engine = load(Step("a"), Fails("b"))

    with pytest.raises(RuntimeError, match="on purpose"):
        engine.run()

    assert diary.lines == ["do a", "do b", "undo b Failure", "undo a {'made': [1]}"]
    assert stored(engine).state == states.REVERTED


def test_an_exit_in_a_plain_task_is_its_failure_and_is_undone(load, stored):
    engine = load(Step("a"), Exits("b"))

    with pytest.raises(Exception, match="b left with SystemExit: 3"):
        engine.run()

    assert diary.lines[-2:] == ["undo b Failure", "undo a {'made': [1]}"]
    assert stored(engine).state == states.REVERTED


def test_after_a_failed_undo_the_flow_is_never_said_to_be_reverted(load, stored, requests):
    engine = load(Step("a"), FailsToUndo("b"), Waits("c"))

    with running(engine) as raised:
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.storage.flow_uuid)

    assert stored(engine).state == states.FAILURE
    assert atoms_of(stored(engine)) == {"a": "SUCCESS", "b": "REVERT_FAILURE", "c": "REVERTED"}
    assert [str(error) for error in raised] == ["cannot be undone"]


def test_a_result_that_lacks_a_name_it_provides_undoes_all(load, stored):
    class Lacks(Plain):
        default_provides = ("x", "y")

        def execute(self) -> list[str]:  # type: ignore[override]  # that is what is wrong with it
            super().execute()
            return ["x"]

    class Wants(Plain):
        def execute(self, y: object) -> str:  # type: ignore[override]  # TaskFlow goes by the names
            return super().execute()

    engine = load(Step("a"), Lacks("b"), Wants("c"))

    with pytest.raises(exceptions.NotFound):
        engine.run()

    assert diary.lines == ["do a", "do b", "undo b list", "undo a {'made': [1]}"]
    assert stored(engine).state == states.REVERTED


# Stopped, taken over, run again.


def test_a_suspended_flow_goes_on_where_it_was(load, stored):
    engine = load(DeafPlain("a"), Step("b"))

    with running(engine) as raised:
        assert diary.reached.wait(PATIENCE_SECONDS)
        engine.suspend()
        diary.go_on.set()

    assert raised == []
    assert diary.lines == ["do a"]
    assert stored(engine).state == states.SUSPENDED

    load(DeafPlain("a"), Step("b"), detail=stored(engine)).run()
    assert diary.lines == ["do a", "do b"]


def test_a_flow_left_by_the_caller_of_its_iterator_is_suspended(load, stored):
    engine = load(Step("a"), Step("b"))

    states_of_engine = engine.run_iter()
    while "do a" not in diary.lines:
        next(states_of_engine)
    states_of_engine.close()

    assert "do b" not in diary.lines
    assert stored(engine).state == states.SUSPENDED


def test_an_accepted_request_outlives_its_owner(load, stored, requests):
    engine = load(Step("a"), DeafPlain("b"), Step("c"))
    with running(engine):
        assert diary.reached.wait(PATIENCE_SECONDS)
        engine.suspend()
        requests.request(engine.storage.flow_uuid, reason="no more")
        _wait_for_answer(requests, engine)
        detail = stored(engine)  # as it would be found after a crash: `b` is running
        diary.go_on.set()
    diary.lines.clear()

    after_a_crash = load(Step("a"), Plain("b"), Step("c"), detail=detail)
    with pytest.raises(Cancelled, match="no more"):
        after_a_crash.run()

    assert diary.lines == ["undo b NoneType", "undo a {'made': [1]}"]
    assert stored(engine).state == states.REVERTED


def test_what_an_owner_that_died_has_saved_is_there_for_the_undo(load, stored, requests):
    engine = load(Step("a"), Waits("b"))
    with running(engine):
        assert diary.reached.wait(PATIENCE_SECONDS)
        detail = stored(engine)
        requests.request(engine.storage.flow_uuid)
    diary.lines.clear()

    after_a_crash = load(Step("a"), Waits("b"), detail=detail)
    requests.request(engine.storage.flow_uuid)
    with pytest.raises(Cancelled):
        after_a_crash.run()

    assert diary.lines == ["undo b INTERRUPTED {'at': 1}", "undo a {'made': [1]}"]


def test_who_takes_over_after_the_undo_runs_nothing_again(load, stored, requests):
    first = load(Step("a"))
    first.job_id = _uuid()
    requests.request(first.job_id)
    with pytest.raises(Cancelled):
        first.run()

    second = load(Step("a"), detail=stored(first))
    second.job_id = first.job_id
    with pytest.raises(Cancelled):
        second.run()

    assert diary.lines == []
    assert stored(first).state == states.REVERTED


def test_a_cancelled_flow_that_is_posted_again_runs_from_its_beginning(load, stored, requests):
    first = load(Step("a"))
    first.job_id = _uuid()
    requests.request(first.job_id)
    with pytest.raises(Cancelled):
        first.run()

    again = load(Step("a"), detail=stored(first))
    again.job_id = _uuid()
    again.run()

    assert diary.lines == ["do a"]
    assert stored(first).state == states.SUCCESS
    assert stored(first).meta["ebbtide_cancel"] is None


# Options, and what cannot be read.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"never_resolve": True}, "never_resolve"),
        ({"max_workers": 0}, "max_workers of engine cancelable should be a whole number from 1"),
        ({"requests": "ftp://host"}, "write file:, file:///FOLDER"),
        ({"requests": "zookeeper:///path"}, "write file:, file:///FOLDER"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_refused_with_words(load, options, told):
    with pytest.raises(ConfigError, match=told):
        load(Step("a"), **options)


def test_a_file_that_is_no_request_hinders_no_flow(load, folder, requests, caplog):
    engine = load(Step("a"))
    requests.check(engine.storage.flow_uuid)  # makes the folder
    Path(folder, f"{engine.storage.flow_uuid}.json").write_text("{")

    engine.run()

    assert diary.lines == ["do a"]
    assert "requests.unreadable" in caplog.text


def test_a_result_is_what_the_undo_is_given_whatever_others_did_to_it(load, requests):
    class Provides(Step):
        default_provides = "made"

    class Spoils(Waits):
        def execute(self, made: dict[str, Any]) -> None:  # type: ignore[override]  # as above
            made.clear()
            super().execute()

    engine = load(Provides("a"), Spoils("b"))
    with running(engine):
        assert diary.reached.wait(PATIENCE_SECONDS)
        requests.request(engine.storage.flow_uuid)

    assert diary.lines[-1] == "undo a {'made': [1]}"


def _wait_for_answer(requests: CancelRequests, engine: CancelableEngine) -> None:
    waiting = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if answered(requests, engine.storage.flow_uuid) is not None:
            return
        waiting.wait(0.01)
    pytest.fail("nobody has answered the request")


class Says(CancelableTask):
    def execute(self, word: str) -> None:
        diary.lines.append(f"say {word}")


def test_what_an_owner_left_that_died_as_it_put_the_store_down_is_loaded(load, stored, persistence):
    """Between two commits of TaskFlow's: its own engines cannot open that, and a conductor throws it away."""
    engine = load(Says("say"))
    flow = stored(engine)
    with contextlib.closing(persistence.get_connection()) as connection:
        flow.add(models.TaskDetail(engine.storage.injector_name, uuid=_uuid()))
        connection.update_flow_details(flow)
    with pytest.raises(AttributeError, match="keys"):
        stock = engines.load(Says("say"), flow_detail=stored(engine), backend=persistence)
        stock.storage.inject({"word": "hello"})

    again = load(Says("say"), detail=stored(engine), store={"word": "hello"})
    again.run()

    assert again.storage.get_flow_state() == states.SUCCESS
    assert diary.lines == ["say hello"]
