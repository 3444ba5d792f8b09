"""The client: a poster over HTTP has the names, the answers and the errors of one on a store."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.testclient import TestClient

from ebbtide import errors
from ebbtide.api.client import RemotePoster
from ebbtide.api.client.connection import error_of, read_token
from ebbtide.api.problems import problem_of
from ebbtide.jobs import Poster, Selection

JOB = "7f3a0000-0000-4000-8000-000000000000"
# What a store has and a server keeps to itself, or the client has by other means.
OF_THE_STORE = {
    *("acting_for", "catalogue", "credentials", "page", "counts"),
    *("graph", "signal", "prune", "marks", "choices", "tail"),
}


@pytest.fixture
def remote(serving, token):
    with RemotePoster(serving, token()) as opened:
        yield opened


@pytest.fixture
def own(poster):
    return poster.acting_for("ann", jobs_of="ann")


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_has_the_names_of_a_poster():
    assert public(Poster) - public(RemotePoster) - OF_THE_STORE == set()
    for name in public(RemotePoster) - {"registry"}:
        mine, other = (inspect.signature(getattr(kind, name)).parameters for kind in (RemotePoster, Poster))
        assert [each for each in other if each != "who"] == list(mine), name


def test_whoever_watches_a_job_looks_at_it_once_more_although_it_stays_as_it_is(remote, own):
    """What happened is told in order, so once all has been read again: not only when something else has."""
    job = own.post("add", {"a": 1})
    watched = remote.watch(job.id)

    with ThreadPoolExecutor(1) as pool:
        try:
            seen = [pool.submit(next, watched).result(10) for _ in range(2)]
        finally:
            own.cancel(job.id, "spring")  # so that nobody waits for good

    assert [each.state for each in (*seen, *watched)][:2] == ["pending", "pending"]


def near(remote, own):
    """Equal but for what is below a millisecond."""
    times = {name for name in own if name.endswith("_at") and own[name] is not None}
    for name in times:
        assert remote[name] == pytest.approx(own[name], abs=0.001)
    return {**remote, **{name: own[name] for name in times}} == own


def test_everything_that_can_be_read_is_read_alike(remote, own):
    job = own.post("add", {"a": 1, "note": "é"}, labels={"team": "red"})
    own.post("add", {"a": 2})
    own.cancel(job.id, "spring")

    assert near(vars(remote.show(job.id[:8])) | {"cancel": None}, vars(own.show(job.id)) | {"cancel": None})
    assert near(vars(remote.show(job.id).cancel), vars(own.show(job.id).cancel))
    assert [each.id for each in remote.list(limit=1)] == [each.id for each in own.list(limit=1)]
    assert [each.id for each in remote.list(labels={"team": "red"})] == [job.id]
    assert remote.list(state="cancelled")[0].params == own.show(job.id).params
    assert [each.name for each in remote.entries(job.id)] == [each.name for each in own.entries(job.id)]
    assert remote.tasks(job.id) == own.tasks(job.id)
    assert remote.logs(job.id) == own.logs(job.id)
    assert remote.chunks(job.id) == list(remote.stream(job.id)) == own.chunks(job.id)
    assert remote.preview(job.id) == own.preview(job.id)
    assert remote.receipt(job.id).as_dict() == own.receipt(job.id).as_dict()
    assert remote.conductors() == own.conductors()
    assert remote.statistics(3600.0) == own.statistics(3600.0)
    assert [flow.key for flow in remote.registry.definitions()] == ["add@1", "publish@1"]


def test_a_long_list_is_read_page_by_page(remote, own):
    for _ in range(60):
        own.post("add", {"a": 1})

    assert [each.id for each in remote.list(limit=55)] == [each.id for each in own.list(limit=55)]


def test_it_posts_cancels_retries_and_deletes(remote, own):
    job = remote.post("add", {"a": 1}, labels={"team": "red"}, priority=3)
    first, second = remote.cancel(job.id, "spring"), remote.cancel(job.id, "autumn")
    again = remote.retry(job.id)
    remote.delete(job.id)

    assert (job.priority, job.posted_by) == (3, "ann")
    assert (first.answer, second.answer) == ("accepted", "already requested")
    assert second.job.cancel.reason == "spring"
    assert again.attempt == 2
    with pytest.raises(errors.JobNotFound):
        own.show(job.id)


def test_it_pauses_and_resumes_many(remote, own):
    job = own.post("add", {"a": 1}, labels={"team": "red"})
    red = Selection(labels={"team": "red"})

    assert remote.pause_many(red, dry_run=True) == own.pause_many(red, dry_run=True)
    assert [each.answer for each in remote.pause_many(red)] == ["accepted"]
    assert own.show(job.id).state == "paused"
    assert [each.answer for each in remote.resume_many(red)] == ["accepted"]
    assert own.show(job.id).state == "pending"


def test_waiting_and_following_end_when_the_job_rests(remote, own):
    job = own.post("add", {"a": 1})
    with pytest.raises(TimeoutError):
        remote.wait(job.id, timeout=0.3)
    following = remote.follow(job.id)
    first = next(following)
    own.cancel(job.id)

    assert [entry.name for entry in (first, *following)] == [
        "posted",
        "cancel_requested",
        "cancelled_unclaimed",
    ]
    assert remote.wait(job.id).state == "cancelled"


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda remote, job: remote.show("ffffffff"), errors.JobNotFound),
        (lambda remote, job: remote.show(""), errors.JobNotFound),
        (lambda remote, job: remote.show("../x"), errors.JobNotFound),
        (lambda remote, job: remote.result(job), errors.EdgeRefused),
        (lambda remote, job: remote.retry(job), errors.EdgeRefused),
        (lambda remote, job: remote.unpark(job), errors.EdgeRefused),
        (lambda remote, job: remote.accept(job, "fine"), errors.EdgeRefused),
        (lambda remote, job: remote.list(state="nothing"), errors.UsageError),
        (lambda remote, job: remote.post("nothing"), errors.FlowNotFound),
        (lambda remote, job: remote.registry.get("nothing"), errors.FlowNotFound),
        (lambda remote, job: remote.post("add", {"a": "x"}), errors.ParameterError),
        (lambda remote, job: remote.cancel(job, "\x1b"), errors.UsageError),
        (lambda remote, job: next(remote.follow("ffffffff")), errors.JobNotFound),
    ],
)
def test_errors_are_those_of_a_poster(remote, own, call, error):
    job = own.post("add", {"a": 1}).id

    with pytest.raises(error):
        call(remote, job)


@pytest.mark.parametrize(
    "error",
    [
        errors.TooLate(JOB, "completed"),
        errors.EdgeRefused(JOB, "running", "retried"),
        errors.JobNotFound(JOB),
        errors.AmbiguousJob("7f", [JOB, "7f00"]),
        errors.FlowNotFound("x", ["y"]),
        errors.ParameterError("x", [("a", "missing")]),
        errors.PayloadTooLarge("the parameters", 2, 1),
        errors.FlowRefused("x", "it is odd"),
        errors.TokenNotFound("x"),
        errors.UsageError("the limit is odd"),
        errors.NotAllowed("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_the_way(error):
    import json

    problem = json.loads(problem_of(error).body())
    back = error_of(problem["status"], problem)

    assert (type(back), str(back), back.exit_code) == (type(error), str(error), error.exit_code)


def test_a_server_that_is_not_there_is_told_as_such():
    with RemotePoster("http://127.0.0.1:9", "ebt_x") as remote:
        with pytest.raises(errors.StoreUnavailable, match="cannot be reached"):
            remote.show("ff")
        with pytest.raises(errors.StoreUnavailable, match="cannot be reached") as caught:
            remote.cancel("ff")
    assert not isinstance(caught.value, errors.CommitUnknown)


def test_an_answer_that_is_lost_leaves_it_unknown_whether_it_is_stored():
    def lose(request):
        raise httpx.ReadError("reset")

    with (
        RemotePoster("http://127.0.0.1:9", "ebt_x", transport=httpx.MockTransport(lose)) as remote,
        pytest.raises(errors.CommitUnknown),
    ):
        remote.cancel("ff")


@pytest.mark.parametrize("server", ["ftp://x", "x", "http://", "http://ann:pw@x", "http://[::"])
def test_a_server_that_is_none_is_refused(server):
    with pytest.raises(errors.ConfigError) as caught:
        RemotePoster(server, "ebt_x")
    assert "pw" not in str(caught.value)


def test_a_token_file_is_its_owners_alone(tmp_path):
    file = tmp_path / "token"
    file.write_text("ebt_x\n")
    file.chmod(0o644)
    with pytest.raises(errors.UsageError, match="chmod 600"):
        read_token(str(file))
    file.chmod(0o600)

    assert read_token(str(file)) == "ebt_x"
    for text in ("", "a b", "é"):
        file.write_text(text)
        with pytest.raises(errors.UsageError):
            read_token(str(file))


def test_a_token_that_is_none_is_told(serving, app):
    assert TestClient(app).get("/api/v1/me").status_code == 401
    with RemotePoster(serving, "ebt_wrong") as remote, pytest.raises(errors.NotAllowed):
        remote.list()
