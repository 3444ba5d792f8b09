"""The server is restarted again and again under load. What was answered is true, and every job ends once.

Promises: P1, P2, P3, P4, P6, P7, P10, P13.
"""

import random
import threading
from collections import Counter

import pytest

from ebbtide.errors import AnswerLost, CommitUnknown, EdgeRefused, StoreUnavailable, TooLate
from ebbtide.jobs import Poster

pytestmark = pytest.mark.postgresql_only("SQLite has no server to be restarted")

RESTARTS = 10
CLIENTS = 2
# What a client is told.
DONE, NOT_STORED, UNKNOWN, REFUSED = "done", "not stored", "unknown", "refused"
HOW_OFTEN = {DONE: {1}, NOT_STORED: {0}, UNKNOWN: {0, 1}, REFUSED: {0}}


class Client:
    """Posts, cancels and retries until it is told to stop; keeps what it was told of each call."""

    def __init__(self, stage, flows, seed):
        self._stage = stage
        self._flows = flows
        self._dice = random.Random(seed)
        self._name = f"client {seed}"
        self._numbers = 0
        self.posts = {}  # by label
        self.cancels = {}  # by reason: the job, and what was told
        self.retries = Counter()  # by job and what was told
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.raised = None
        self._thread.start()

    def end(self):
        self.stopped.set()
        self._thread.join()
        if self.raised is not None:
            raise self.raised

    def _run(self):
        jobs = []
        try:
            with Poster(self._stage.database, registry=self._flows.registry) as poster:
                while not self.stopped.is_set():
                    self._numbers += 1
                    word = f"{self._name} {self._numbers}"
                    self._post(poster, word, jobs)
                    if jobs and self._dice.random() < 0.6:
                        self._cancel(poster, word, self._dice.choice(jobs))
                    if jobs and self._dice.random() < 0.3:
                        job = self._dice.choice(jobs)
                        self.retries[job, told(lambda job=job: poster.retry(job))] += 1
                    self.stopped.wait(0.05)  # a client that is never idle would be another test
        except BaseException as error:  # noqa: BLE001  # `end` raises it
            self.raised = error

    def _post(self, poster, word, jobs):
        steps = [f"{name}:work" for name in "abcd"[: self._dice.randint(1, 4)]]
        if self._dice.random() < 0.2:
            steps.append("z:fail")
        params = {"folder": str(self._stage.folder), "steps": steps}
        self.posts[word] = told(lambda: jobs.append(poster.post("steps", params, labels={"word": word}).id))

    def _cancel(self, poster, word, job):
        answers = []
        answer = told(lambda: answers.append(poster.cancel(job, word).answer))
        if answers == ["already requested"]:
            answer = REFUSED  # nothing is stored for it
        self.cancels[word] = (job, answer)


def told(ask):
    """What the client is told."""
    try:
        ask()
    except AnswerLost:
        return DONE
    except CommitUnknown:
        return UNKNOWN
    except StoreUnavailable:
        return NOT_STORED
    except (TooLate, EdgeRefused):
        return REFUSED
    return DONE


@pytest.mark.timeout(180)
def test_ten_restarts_lose_and_double_nothing(stage, flows, postgresql):
    seed = random.randrange(2**32)
    print(f"seed: {seed}")
    dice = random.Random(seed)
    conductor = stage.conductor(runners=2)
    clients = [Client(stage, flows, dice.randrange(2**32)) for _ in range(CLIENTS)]

    for number in range(RESTARTS):
        goal = len(stage.effects()) + dice.randint(5, 25)
        stage.wait_until(lambda goal=goal: len(stage.effects()) >= goal, "some progress")
        postgresql.restart(dice.choice(["fast", "immediate"]))
        print(f"restart {number + 1}")
    for client in clients:
        client.end()
    told_of = Counter(answer for client in clients for answer in client.posts.values())
    print(f"posts: {dict(told_of)}")
    with Poster(stage.database, registry=flows.registry) as poster:
        stage.poster = poster  # the connections of the other one have died, each for itself
        jobs = [stage.ended(job) for job in poster.list(limit=10_000)]
        assert conductor.end() == 0

        for client in clients:
            check_answers(stage, client, jobs)
        for job in jobs:
            with stage.explained(job):
                check_job(stage, job, clients)
    assert told_of[DONE] > RESTARTS


def check_answers(stage, client, jobs):
    """P1, P3 and P4: what was answered is stored once; what was "not stored" is not."""
    posted = Counter(job.labels["word"] for job in jobs)
    for word, answer in client.posts.items():
        assert posted[word] in HOW_OFTEN[answer], (word, answer)
    asked = Counter(
        entry.detail["reason"] for job in jobs for entry in stage.entries(job, "cancel_requested")
    )
    for reason, (job_id, answer) in client.cancels.items():
        assert asked[reason] in HOW_OFTEN[answer], (job_id, reason, answer)
    for job_id in {job_id for job_id, _ in client.retries}:
        retried = stage.names(stage.poster.show(job_id)).count("retried")
        least = client.retries[job_id, DONE]
        assert least <= retried <= least + client.retries[job_id, UNKNOWN], job_id


def check_job(stage, job, clients):
    """P2, P3, P6, P7 and P13."""
    assert job.state in ("completed", "failed", "cancelled")
    stage.assert_history_replays(job)
    begins = Counter((line["task"], line["attempt"], line["epoch"]) for line in stage.effects(job, "begin"))
    assert set(begins.values()) <= {1}
    last = [line for line in stage.effects(job) if line["attempt"] == job.attempt]
    words = {line["task"]: line["what"] for line in last}
    assert set(words.values()) <= ({"end"} if job.state == "completed" else {"undone"})
    # An accepted cancel ends its attempt: it never completes or fails.
    state = None
    for entry in stage.poster.entries(job.id):
        if entry.name == "cancel_requested":
            state = "requested"
        elif entry.to_state in ("completed", "failed", "cancelled"):
            assert state != "requested" or entry.to_state == "cancelled"
            state = None
