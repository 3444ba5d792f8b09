"""Cancel requests without a ledger, wherever they are put: file, ZooKeeper, Redis."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from taskflow import engines

    from ebbtide.conductor.plain.engine import CancelableEngine

from ebbtide.errors import ConfigError, StoreUnavailable, UsageError
from ebbtide.jobs.plain import CancelRequests, open_requests
from ebbtide.jobs.plain.desk import Desk
from ebbtide.jobs.requestfiles import PENDING, PROCESSED, FiledRequest
from ebbtide.tasks import CancelableTask, Cancelled

KINDS = ("file", "zookeeper", "redis")
PATIENCE_SECONDS = 30.0


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def store_kind():
    return "sqlite"  # nothing of these asks for a store


@pytest.fixture
def url(kind: str, signal_options: Callable[[str], dict[str, Any]]) -> str:
    options = signal_options(kind)
    if kind == "zookeeper":
        return f"zookeeper://{options['zookeeper_hosts']}{options['zookeeper_path']}"
    return str(options["redis_url"]) if kind == "redis" else f"file://{options['signal_folder']}"


@pytest.fixture
def requests(url: str) -> Iterator[CancelRequests]:
    with open_requests(url) as opened:
        yield opened


@pytest.fixture
def uuid() -> str:
    return str(uuid4())


def wait_until(happened: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > give_up:
            pytest.fail(f"waited {PATIENCE_SECONDS} s in vain for {what}")
        threading.Event().wait(0.01)


def test_a_request_is_there_for_others_until_it_is_answered(url, requests, uuid):
    asked = requests.request(uuid, reason="wrong  customer", who="ann")

    with open_requests(url) as others:
        found = others.check(uuid)
        assert found is not None
        assert (found.status, found.reason, found.who) == (PENDING, "wrong customer", "ann")
        assert found.requested_at == asked.requested_at
        others.answer(found, "accepted")

    told = requests.check(uuid)
    assert told is not None
    assert (told.status, told.answer, told.reason) == (PROCESSED, "accepted", "wrong customer")


def test_asking_twice_is_asking_once_and_after_the_answer_it_is_a_new_request(requests, uuid):
    requests.request(uuid, reason="first", who="ann")
    assert requests.request(uuid, reason="second", who="bob").reason == "first"

    requests.answer(requests.check(uuid), "accepted")
    assert requests.request(uuid, reason="third").reason == "third"

    assert requests.check(uuid).status == PENDING


def test_a_late_answer_is_none_to_a_request_that_came_since(requests, uuid):
    requests.request(uuid, "the first")
    first = requests.check(uuid)
    assert first is not None
    requests.answer(first, "accepted")
    requests.request(uuid, "the second")

    requests.answer(first, "accepted by an owner that is slow")

    second = requests.check(uuid)
    assert second is not None
    assert (second.status, second.reason, second.answer) == (PENDING, "the second", None)


def test_nothing_is_there_that_nobody_has_asked_for(requests, uuid):
    assert requests.check(uuid) is None


@pytest.mark.parametrize("wrong", ["", "../../etc/passwd", "12345678", None], ids=str)
def test_what_is_no_uuid_is_refused(requests, wrong):
    with pytest.raises(UsageError, match="not the whole id"):
        requests.request(wrong)
    with pytest.raises(UsageError, match="not the whole id"):
        requests.check(wrong)


def test_a_reason_that_cannot_be_shown_is_refused_and_nothing_is_requested(requests, uuid):
    with pytest.raises(UsageError, match="the reason"):
        requests.request(uuid, reason="\x1b[2J")

    assert requests.check(uuid) is None


def test_a_desk_hands_over_what_is_pending_and_what_comes(url, requests, uuid):
    later = str(uuid4())
    taken: list[str] = []

    def accept(request: FiledRequest) -> str | None:
        taken.append(request.job_id)
        return "accepted"

    requests.request(uuid)
    with closing(Desk(open_requests(url))) as desk, desk.listening([uuid, later], accept):
        assert taken == [uuid]
        requests.request(later)
        wait_until(lambda: requests.check(later).status == PROCESSED, "the answer")

    assert taken == [uuid, later]


def test_what_is_not_accepted_stays_pending_for_the_next(url, requests, uuid):
    requests.request(uuid)

    with closing(Desk(open_requests(url))) as desk, desk.listening([uuid], lambda request: None):
        pass

    assert requests.check(uuid).status == PENDING


def test_a_running_flow_is_cancelled_through_it(url, requests):
    began = threading.Event()

    class Waits(CancelableTask):
        def execute(self) -> None:
            began.set()
            while True:
                self.sleep(0.01)

    engine: CancelableEngine = engines.load(Waits(), engine="cancelable", requests=url)
    raised: list[Exception] = []

    def run() -> None:
        try:
            engine.run()
        except Cancelled as error:
            raised.append(error)

    runner = threading.Thread(target=run)
    runner.start()
    assert began.wait(PATIENCE_SECONDS)
    requests.request(engine.storage.flow_uuid, reason="no more")
    runner.join(PATIENCE_SECONDS)

    assert [str(error) for error in raised] == ["cancelled: no more"]
    assert engine.storage.get_flow_state() == "REVERTED"


@pytest.mark.parametrize("url", ["zookeeper://127.0.0.1:1/x", "redis://127.0.0.1:1/0"])
def test_a_server_that_is_away_is_told_and_nothing_is_requested(url, uuid):
    with open_requests(url) as requests, pytest.raises(StoreUnavailable):
        requests.request(uuid)


@pytest.mark.parametrize("url", ["", "file", "zookeeper://", "http://host/x", "redis:"])
def test_a_url_of_another_form_is_refused_with_the_forms_there_are(url):
    with pytest.raises(ConfigError, match="write file:, file:///FOLDER, zookeeper://"):
        open_requests(url)
