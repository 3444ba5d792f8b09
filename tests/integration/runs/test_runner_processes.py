"""The same promises with runner processes, which are what runs jobs outside of tests."""

import sys
from collections import Counter

import pytest

from ebbtide.errors import TooLate
from ebbtide.flows import Registry, load_flows
from ebbtide.flows import registry as registry_module


@pytest.fixture
def processes(bench, steps_file, monkeypatch):
    """A bench whose jobs run in runner processes; those import the shapes from the current folder."""
    (bench.folder / "matrix_steps.py").write_bytes(steps_file.read_bytes())
    (bench.folder / "matrix_flows.py").write_text(
        "import matrix_steps\n"
        "from ebbtide.flows.registry import registered\n"
        "matrix_steps.register(registered)\n"
    )
    monkeypatch.chdir(bench.folder)
    # The conductor imports them, too: into a registry that is this test's, once all others are in theirs.
    load_flows()
    monkeypatch.setattr(registry_module, "registered", Registry())

    def start(workers=4, **settings):
        return type(bench).start(
            bench, workers, isolation="process", flow_modules=("matrix_flows",), **settings
        )

    monkeypatch.setattr(bench, "start", start)
    yield bench
    for name in ("matrix_steps", "matrix_flows"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("spot", [("linear", "b"), ("nested", "q2"), ("times-in-times", "y")], ids="-".join)
@pytest.mark.parametrize("word", ["hold", "late"])
def test_cancel_in_a_runner_process_undoes_what_began(processes, spot, word):
    shape, task = processes.shapes[spot[0]], spot[1]
    job = processes.run(shape.name, {task: [word]})
    processes.reached(f"execute {task}")
    processes.ended(*shape.without(task))

    processes.cancel(job)

    ended = processes.cancelled_and_undone(job, shape)
    assert set(processes.words("begin")) == shape.without(task) | {task}
    assert processes.given() == ({task: "INTERRUPTED"} if word == "hold" else {})
    assert ended.cancel.delivered_at is not None


def test_cancel_of_a_runner_process_while_it_reverts_ends_cancelled_and_keeps_the_failure(processes):
    shape = processes.shapes["linear"]
    job = processes.run("linear", {"d": ["fail"], "undo b": ["gate"]})
    processes.reached("undo b")

    processes.cancel(job)
    processes.gates.open("undo b")

    ended = processes.cancelled_and_undone(job, shape)
    assert (ended.error_task, ended.error) == ("d", "Broken: d broke")


def test_a_job_in_a_runner_process_is_cancelled_retried_and_then_too_late_to_cancel(processes):
    shape = processes.shapes["diamond"]
    job = processes.run("diamond", {"bottom": ["hold"]})
    processes.reached("execute bottom")
    processes.cancel(job)
    processes.cancelled_and_undone(job, shape)

    processes.retry(job)
    assert processes.final(job).state == "completed"

    with pytest.raises(TooLate):
        processes.cancel(job)
    processes.undone_in_order(shape, stays=shape.tasks)
    processes.recorded_truly(job)
    assert Counter(processes.words("begin")) == dict.fromkeys(shape.tasks, 2)


def test_what_a_task_prints_in_a_runner_process_is_captured_and_bounded(processes):
    job = processes.post("linear", {"b": ["print"]})
    processes.start(log_lines=53)
    assert processes.final(job).state == "completed"

    lines = [(line.task, line.level, line.text) for line in processes.poster.logs(job.id)]
    assert lines[:2] == [("b", "stderr", "two"), ("b", "stdout", "x" * 4000)], "the oldest made room"
    assert lines[2:52] == [("b", "stderr", str(number)) for number in range(50)]
    assert lines[52:] == [("b", "stdout", "no newline")]
