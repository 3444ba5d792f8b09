"""Many jobs at once, and many one after the other.

Promises: P2, P3, P6, P7, P10, P13.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

# As many connections as a process may keep to its store.
POOL = 4

# Posts jobs and cancels some of them, some at once, some later; tells what was answered.
_CLIENT = """
import json, random, sys
from ebbtide.errors import TooLate
from ebbtide.jobs import Poster
seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dice = random.Random(seed)
posted, answers = [], {}
with Poster(flow_modules=["flows_for_tests"]) as poster:
    def cancel(job):
        try:
            answers[job] = poster.cancel(job).answer
        except TooLate:
            answers[job] = "too late"
    for _ in range(count):
        order = dice.choice(["linear", "unordered"])
        steps = [f"{name}:work" for name in "abcd"[:dice.randint(1, 4)]]
        posted.append(poster.post("steps", {"folder": folder, "steps": steps, "order": order}).id)
        if dice.random() < 0.5:
            cancel(dice.choice(posted))
print(json.dumps({"posted": posted, "answers": answers}))
"""


def _clients(stage, seeds, count):
    """Run the client for each seed, all at the same time; returns what they posted and were answered."""
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", _CLIENT, str(seed), str(count), str(stage.folder)],
            env=stage.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    told = [json.loads(client.communicate()[0]) for client in clients]
    posted = [job for one in told for job in one["posted"]]
    answers = {job: answer for one in told for job, answer in one["answers"].items()}
    return posted, answers


@pytest.mark.timeout(240)
def test_jobs_of_several_clients_on_several_conductors_each_have_one_true_outcome(stage):
    seeds = [random.randrange(2**32) for _ in range(2)]
    print(f"seeds: {seeds}")
    conductors = [stage.conductor(wait=False, runners=2) for _ in range(2)]

    posted, answers = _clients(stage, seeds, 30)
    jobs = [stage.ended(stage.poster.show(job_id)) for job_id in posted]
    codes = [conductor.end() for conductor in conductors]

    assert len(set(posted)) == 60
    assert (codes, stage.left()) == ([0, 0], [])
    for job in jobs:
        accepted = answers.get(job.id, "never asked") in ("accepted", "already requested")
        begun = [line["task"] for line in stage.effects(job, "begin")]
        undone = [line["task"] for line in stage.effects(job, "undo")]
        with stage.explained(job):
            assert job.state == ("cancelled" if accepted else "completed")
            assert len(set(begun)) == len(begun)
            assert sorted(undone) == (sorted(begun) if accepted else [])
            assert job.params["order"] == "unordered" or undone in ([], begun[::-1])
            assert job.undo == ("complete" if undone else "none")
            stage.assert_history_replays(job)


def _descriptors(pid):
    """What it has open. Of the store only whether it has: a pool of connections grows by and by."""
    found = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    store = [link for link in found if ".db" in link]
    assert len(store) <= POOL * len(["the file", "its log", "its index"])
    return sorted(set(found)), len(found) - len(store)


def _threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def _zombies(pid):
    """Its children that have ended and wait to be reaped."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    stats = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in listed]
    return stats.count("Z")


@pytest.mark.timeout(240)
def test_a_runner_holds_no_more_after_two_hundred_jobs_than_after_twenty(stage):
    conductor = stage.conductor(runners=1)
    watched = [conductor.pid, conductor.keeper, *conductor.runners]

    def run(count):
        jobs = [stage.post("a:litter", "b") for _ in range(count)]
        assert {stage.ended(job).state for job in jobs} == {"completed"}
        stage.wait_until(lambda: _threads(watched[2]) == 1, "the last run to be over")
        return [(_descriptors(pid), _threads(pid)) for pid in watched]

    after_twenty = run(20)
    after_two_hundred = run(180)

    assert after_two_hundred == after_twenty
    assert conductor.runners == watched[2:]
    assert _zombies(watched[2]) < 10  # those of its last jobs
