"""A job that takes a secret by reference: its tasks have it, and nobody else ever reads it.

Whatever a task does with it, it is neither in the store nor in a log afterwards. Where it cannot be had any
more the job fails before anything begins, and an undo that needs it parks the job, naming the reference.
"""

import io
import json
import logging
import math
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from taskflow import retry
from taskflow.patterns import linear_flow, unordered_flow

from ebbtide.flows import Secret
from ebbtide.jobs import tables
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelableTask, Cancelled

VARIABLE = "A_TOKEN_OF_THIS_TEST"
REFERENCE = f"env:{VARIABLE}"
PLAIN, NUMBER = "hunter2-hunter3-hunter4", 8172635445362718
SECRETS = {
    "odd": 'hun"ter2 \\ hünter3\N{SNOWMAN} & hunter4',
    "lines": "-----BEGIN KEY-----\nhunter2hunter2\n  hunter3hunter3\n-----END KEY-----",
}
PATIENCE_SECONDS = 30.0


def forms(secret):
    """What must not be found anywhere: the secret, and each of its lines, as others escape it."""
    parts = [secret, *(line.strip() for line in secret.split("\n") if "-----" not in line)]
    escaped = [json.dumps(part)[1:-1] for part in parts] + [repr(part)[1:-1] for part in parts]
    return {form.encode() for form in (*parts, *escaped)}


def stored(database):
    """Everything that is in the store: the rows of all tables, and the bytes of its files if it has any."""
    with Store(database) as store, store.read() as connection:
        everything = sa.MetaData()
        everything.reflect(connection)
        rows = [row for table in everything.sorted_tables for row in connection.execute(sa.select(table))]
    assert len(everything.tables) > len(tables.metadata.tables)
    files = Path(database.removeprefix("sqlite:///")).parent.glob("ebbtide.db*")
    return "\n".join(map(str, rows)).encode() + b"".join(file.read_bytes() for file in files)


@pytest.fixture(params=SECRETS)
def secret(request, monkeypatch):
    text = SECRETS[request.param]
    monkeypatch.setenv(VARIABLE, text)
    return text


@pytest.fixture
def logged():
    """All that is logged in this process, down to debug."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


class Takes(CancelableTask):
    """Does what the test gives it with the secret; its undo needs no secret."""

    def __init__(self, name, body=lambda task, token: None, **kwargs):
        super().__init__(name=name, **({"provides": name} | kwargs))
        self.body = body
        self.undone = []

    def execute(self, token):
        return self.body(self, token)

    def revert(self, result):
        self.undone.append(result)


class Returns(Takes):
    """Its undo needs the secret."""

    def revert(self, token, **rest):
        self.undone.append(token)


class Swallows(Takes):
    """Its undo is given whatever it asks for, and might need any of it."""

    def __init__(self, name):
        super().__init__(name, requires=["token"])

    def revert(self, *args, **given):
        self.undone.append(given["token"])


class Leaves(CancelableTask):
    """It has no undo."""

    def __init__(self, name):
        super().__init__(name, requires=["token"])

    def execute(self, token):
        pass


class Free(CancelableTask):
    """It takes no secret."""

    def __init__(self, name, body=lambda task: None):
        super().__init__(name=name)
        self.body = body
        self.undone = []

    def execute(self):
        self.body(self)

    def revert(self):
        self.undone.append(self.name)


@pytest.fixture
def post(bench):
    """Post a job whose flow is made of the tasks that `make` returns, anew for each run."""

    def poster(make, controller=lambda: None):
        runs = []

        @bench.registry.flow("secretive")  # type: ignore[untyped-decorator]
        def secretive(token: Secret):
            runs.append(make())
            return linear_flow.Flow("secretive", controller()).add(*runs[-1])

        return bench.poster.post("secretive", {"token": REFERENCE}), runs

    return poster


def names(bench, job):
    return [entry.name for entry in bench.poster.entries(job.id)]


# What tasks and factories are given.


def test_the_task_is_given_the_plain_text_and_everybody_else_the_reference(bench, secret):
    given = []

    @bench.registry.flow("secretive")  # type: ignore[untyped-decorator]
    def secretive(token: Secret, other: Secret | None = None):
        given.append((token, other))
        return linear_flow.Flow("secretive").add(Takes("a", lambda task, token: given.append(token)))

    job = bench.poster.post("secretive", {"token": REFERENCE})
    assert given == [(Secret(REFERENCE), None)], "at the post nothing is looked up"
    bench.start()

    assert bench.final(job).state == "completed"
    assert given[1:] == [(Secret(REFERENCE), None), secret]
    assert bench.poster.show(job.id).params == {"token": REFERENCE, "other": None}
    assert not [form for form in forms(secret) if form in stored(bench.database)]


def test_a_file_is_read_when_the_job_runs(bench, tmp_path):
    given = []

    @bench.registry.flow("secretive")  # type: ignore[untyped-decorator]
    def secretive(token: Secret):
        return linear_flow.Flow("secretive").add(Takes("a", lambda task, token: given.append(token)))

    file = tmp_path / "token"
    job = bench.poster.post("secretive", {"token": f"file:{file}"})
    file.write_text(f"{PLAIN}\n")
    bench.start()

    assert bench.final(job).state == "completed"
    assert given == [PLAIN]


# What a task does with it.


class Telling(Exception):
    """Tells its secret where nobody expects it."""

    def __init__(self, token):
        super().__init__("telling", {"headers": [token]}, token)
        self.token = token

    def __str__(self):
        return "x" * (995 - len("Telling: ")) + self.token + " and more " * 100


def _logs(task, token):
    logging.getLogger("task").warning("token %s", token)
    logging.getLogger("task").info({"token": token})
    logging.getLogger("task").debug("bytes %r", token.encode())
    try:
        raise ValueError(token)
    except ValueError:
        logging.getLogger("task").exception("caught")
    for part in token.split("\n"):
        logging.getLogger("task").warning(part)


def _reports(task, token):
    task.report(0.5, f"half of {token}")
    task.report(0.6, "x" * 495 + token)
    task.checkpoint("saved")


def _raises(task, token):
    raise ValueError(token)


def _raises_a_key(task, token):
    raise KeyError(token)


def _raises_from(task, token):
    try:
        raise ValueError(token)
    except ValueError as error:
        raise RuntimeError("the call failed") from error


def _raises_while(task, token):
    try:
        raise ValueError(token)
    except ValueError:
        raise RuntimeError("the call failed")  # noqa: B904  # as it is written by mistake


def _tells(task, token):
    raise Telling(token)


def _exits(task, token):
    raise SystemExit(f"no access with {token}")


def _pretends(task, token):
    raise Cancelled(f"cancelled by {token}")


def _keys(task, token):
    return {token + "x" * 40: {1, 2}}


BODIES = {body.__name__.strip("_"): body for body in (_logs, _reports)}
FAILING = {
    body.__name__.strip("_"): body
    for body in (
        _raises,
        _raises_a_key,
        _raises_from,
        _raises_while,
        _tells,
        _exits,
        _pretends,
        _keys,
    )
}


def kept_secret(bench, secret, logged):
    told = logged.getvalue().encode()
    found = stored(bench.database)
    assert [form for form in forms(secret) if form in found or form in told] == []


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_a_task_logs_and_reports_is_kept_without_it(bench, post, secret, logged, body):
    job, _ = post(lambda: [Takes("a", body)])
    bench.start(log_level="debug")

    assert bench.final(job).state == "completed", bench.told(job)
    kept_secret(bench, secret, logged)
    (record,) = bench.poster.tasks(job.id)
    lines = [line.text for line in bench.poster.logs(job.id)]
    assert "***" in (record.message or "") + "".join(lines)


@pytest.mark.parametrize("body", FAILING.values(), ids=FAILING)
def test_a_task_that_fails_with_it_says_why_without_it(bench, post, secret, logged, body):
    job, runs = post(lambda: [Free("first"), Takes("a", body)])
    bench.start(log_level="debug")

    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "a"), bench.told(job)
    kept_secret(bench, secret, logged)
    assert runs[-1][0].undone == ["first"]


def test_the_error_is_told_with_the_secret_hidden_in_it(bench, post, monkeypatch):
    monkeypatch.setenv(VARIABLE, PLAIN)
    job, _ = post(lambda: [Takes("a", lambda task, token: _raises(task, f"{token} is no token"))])
    bench.start()

    assert bench.final(job).error == "ValueError: *** is no token"


def test_a_message_that_is_cut_keeps_no_part_of_it(bench, post, monkeypatch):
    monkeypatch.setenv(VARIABLE, PLAIN)
    job, _ = post(lambda: [Takes("a", _tells)])
    bench.start()

    assert "hunt" not in bench.final(job).error
    assert b"hunt" not in stored(bench.database)


@pytest.mark.parametrize("how", ["result", "key", "inside", "json", "saved"])
def test_a_result_or_saved_data_that_holds_it_fails_the_task_and_is_not_stored(
    bench, post, secret, logged, how
):
    def body(task, token):
        match how:
            case "result":
                return token
            case "key":
                return {token: 1}
            case "inside":
                return {"headers": [{"Authorization": f"Bearer {token}"}]}
            case "json":
                return json.dumps({"token": token})
            case "saved":
                task.checkpoint({"token": token})

    job, runs = post(lambda: [Free("first"), Takes("a", body)])
    bench.start()

    ended = bench.final(job)

    what = "the checkpoint data of a" if how == "saved" else "the result of a"
    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "a"), bench.told(job)
    assert ended.error == (
        f"PayloadError: {what} holds the secret {REFERENCE}, which is not stored: leave it out"
    )
    kept_secret(bench, secret, logged)
    assert len(runs[-1][1].undone) == 1 and runs[-1][0].undone == ["first"]


@pytest.mark.parametrize("raised", [True, False], ids=["raised", "returned"])
def test_a_number_that_is_the_secret_is_not_stored_either(bench, post, monkeypatch, logged, raised):
    def body(task, token):
        if raised:
            raise ValueError(int(token), [int(token)])
        return [int(token)]

    monkeypatch.setenv(VARIABLE, str(NUMBER))
    job, _ = post(lambda: [Takes("a", body)])
    bench.start()

    told = "ValueError: (***, [***])" if raised else "the result of a holds the secret"
    assert told in bench.final(job).error
    kept_secret(bench, str(NUMBER), logged)


def test_a_job_whose_result_would_be_the_secret_fails(bench, monkeypatch, logged):
    monkeypatch.setenv(VARIABLE, PLAIN)

    @bench.registry.flow("secretive", returns="token")  # type: ignore[untyped-decorator]
    def secretive(token: Secret):
        # TaskFlow prefers the parameter to what a task provides under its name.
        return linear_flow.Flow("secretive").add(Takes("a", lambda task, token: "a", provides="token"))

    job = bench.poster.post("secretive", {"token": REFERENCE})
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.undo) == ("failed", "complete")
    assert ended.error == (
        f"the result of the job holds the secret {REFERENCE}, which is not stored: leave it out"
    )
    kept_secret(bench, PLAIN, logged)


def test_an_undo_that_fails_with_it_parks_the_job_and_says_why_without_it(bench, post, secret, logged):
    class Fails(Takes):
        def revert(self, token, **rest):
            logging.getLogger("task").warning("the undo has %s", token)
            raise ValueError(f"{token} was refused")

    job, _ = post(lambda: [Fails("a"), Takes("b", _raises)])
    bench.start()

    parked = bench.final(job)

    assert parked.state == "parked"
    assert parked.park_reason.startswith("the undo of a failed: ValueError: ")
    assert parked.park_reason.endswith("*** was refused")
    kept_secret(bench, secret, logged)


@pytest.mark.parametrize("verb", ["execute", "on_failure", "revert", "provides"])
def test_a_retry_controller_that_tells_it_fails_the_job_without_it(bench, post, secret, logged, verb):
    class Tells(retry.Times):
        def execute(self, history, token, **rest):
            if verb == "execute":
                raise ValueError(token, math.nan)
            return token if verb == "provides" else 1

        def on_failure(self, history, token, **rest):
            if verb == "on_failure":
                raise ValueError(token)
            return retry.REVERT

        def revert(self, history, token, **rest):
            if verb == "revert":
                raise ValueError(token)

    job, _ = post(
        lambda: [Takes("a", lambda task, token: 1 / 0)],
        controller=lambda: Tells(1, "tries", requires=["token"]),
    )
    bench.start(log_level="debug")

    assert bench.final(job).state == "failed", bench.told(job)
    kept_secret(bench, secret, logged)


def test_a_run_that_breaks_down_tells_of_it_without_the_secret(bench, post, secret, logged, monkeypatch):
    from ebbtide.conductor.engine import Engine

    def broken(self, *, backwards=False):
        raise RuntimeError(f"the engine broke down over {secret}")

    monkeypatch.setattr(Engine, "drive", broken)
    job, _ = post(lambda: [Takes("a")])
    bench.start()

    parked = bench.final(job)

    assert parked.state == "parked" and "the engine broke down over" in parked.park_reason
    kept_secret(bench, secret, logged)


# Where it cannot be had.


def test_a_job_whose_secret_is_missing_fails_before_any_task_begins_and_can_be_retried(
    bench, post, monkeypatch
):
    job, runs = post(lambda: [Free("first"), Takes("a")])
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "none", None)
    assert ended.error == (
        f"the secret {REFERENCE} of parameter 'token' cannot be used: "
        "the conductor was started without it; set it there and try again"
    )
    assert bench.poster.tasks(job.id) == [] and runs[-1][0].undone == []
    assert names(bench, job) == ["posted", "claimed", "failed"], "no interruption, not parked"

    monkeypatch.setenv(VARIABLE, PLAIN)
    bench.poster.retry(job.id)
    assert bench.final(job).state == "completed"


def test_a_retry_finds_the_secret_anew(bench, post, monkeypatch):
    given = []

    def body(task, token):
        given.append(token)
        if len(given) == 1:
            raise ValueError("refused")

    monkeypatch.setenv(VARIABLE, PLAIN)
    job, _ = post(lambda: [Takes("a", body)])
    bench.start()
    assert bench.final(job).state == "failed"

    monkeypatch.setenv(VARIABLE, "hunter4-hunter5")
    bench.poster.retry(job.id)

    assert bench.final(job).state == "completed"
    assert given == [PLAIN, "hunter4-hunter5"]


@pytest.fixture
def half_done(bench, post, monkeypatch):
    """A job that a drained conductor has released after the tasks before `last`, and whose secret is gone."""

    def prepare(make, pattern=linear_flow.Flow):
        monkeypatch.setenv(VARIABLE, PLAIN)
        reached, let_on = threading.Event(), threading.Event()

        def wait(task):
            reached.set()
            assert let_on.wait(PATIENCE_SECONDS)

        def tasks():
            return [pattern("made").add(*make()), Free("gate", wait), Free("last")]

        job, _ = post(tasks)
        first = bench.start()
        assert reached.wait(PATIENCE_SECONDS)
        bench.drain(first)
        let_on.set()
        bench.drained(first)
        assert bench.poster.show(job.id).state == "pending"
        monkeypatch.delenv(VARIABLE)
        return job

    return prepare


def undone(bench, job):
    return {record.task for record in bench.poster.tasks(job.id) if record.undo_ended_at is not None}


@pytest.mark.parametrize("kind", [Takes, Leaves, Free])
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "resumed"])
def test_an_undo_that_needs_no_secret_goes_on_without_it(bench, half_done, kind, cancelled):
    job = half_done(lambda: [kind("a"), kind("b")])
    if cancelled:
        bench.poster.cancel(job.id, "enough")

    bench.start()
    ended = bench.final(job)

    assert (ended.state, ended.undo) == ("cancelled" if cancelled else "failed", "complete"), bench.told(job)
    assert undone(bench, job) == {"a", "b", "gate"}
    if cancelled:
        assert ended.error is None
    else:
        assert REFERENCE in ended.error and ended.error_task is None
    assert "last" not in {record.task for record in bench.poster.tasks(job.id)}, "work went on without it"


@pytest.mark.parametrize("kind", [Returns, Swallows])
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "resumed"])
def test_an_undo_that_needs_the_secret_fails_and_the_others_go_on(bench, half_done, kind, cancelled):
    job = half_done(lambda: [Takes("a"), kind("b"), Free("c")], pattern=unordered_flow.Flow)
    if cancelled:
        bench.poster.cancel(job.id, "enough")

    bench.start()
    parked = bench.final(job)

    assert parked.state == "parked", bench.told(job)
    assert parked.park_reason == (
        f"the undo of b failed: SecretMissing: the secret {REFERENCE} of parameter 'token' cannot be used: "
        "the conductor was started without it; set it there and try again"
    )
    assert undone(bench, job) == {"a", "c", "gate"}
    assert "reclaimed" not in names(bench, job), "that is no interruption"


def test_the_undo_of_a_failure_that_is_taken_up_without_the_secret_keeps_its_reason(bench, post, monkeypatch):
    monkeypatch.setenv(VARIABLE, PLAIN)
    reached, let_on = threading.Event(), threading.Event()

    class Waits(Takes):
        def revert(self, result):
            reached.set()
            assert let_on.wait(PATIENCE_SECONDS)

    job, _ = post(lambda: [Takes("a"), Waits("b"), Takes("c", lambda task, token: 1 / 0)])
    first = bench.start()
    assert reached.wait(PATIENCE_SECONDS)
    bench.drain(first)
    let_on.set()
    bench.drained(first)
    monkeypatch.delenv(VARIABLE)

    bench.start()
    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", "c"), bench.told(job)
    assert ended.error == "ZeroDivisionError: division by zero"


def test_a_cancel_that_comes_while_the_secret_is_found_missing_wins(bench, post, monkeypatch):
    from ebbtide.conductor import execution

    job, _ = post(lambda: [Takes("a")])
    real = execution.resolve

    def resolve(values, allowed=None):
        found = real(values, allowed=allowed)
        bench.poster.cancel(job.id, "enough")
        return found

    monkeypatch.setattr(execution, "resolve", resolve)
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.undo) == ("cancelled", "none")


def test_a_drain_that_comes_while_the_secret_is_found_missing_parks_nothing(bench, post, monkeypatch):
    from ebbtide.conductor import execution

    job, _ = post(lambda: [Takes("a"), unordered_flow.Flow("more").add(Takes("b"), Takes("c"))])
    real = execution.resolve
    looking, let_on = threading.Event(), threading.Event()

    def resolve(values, allowed=None):
        looking.set()
        assert let_on.wait(PATIENCE_SECONDS)
        return real(values)

    monkeypatch.setattr(execution, "resolve", resolve)
    conductor = bench.start()
    assert looking.wait(PATIENCE_SECONDS)
    bench.drain(conductor)
    let_on.set()
    bench.drained(conductor)

    bench.start()

    assert (bench.final(job).state, bench.final(job).undo) == ("failed", "none"), bench.told(job)
    assert "parked" not in names(bench, job)
