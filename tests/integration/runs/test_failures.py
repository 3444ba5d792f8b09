"""A flow that fails, for whatever reason: it is undone and says why; what cannot be undone parks the job."""

import pytest
from taskflow import retry
from taskflow.patterns import graph_flow, linear_flow, unordered_flow

ALWAYS = ["fail"] * 9


def test_a_task_that_fails_is_undone_with_all_that_was_done(bench, place):
    shape, task = place
    job = bench.run(shape.name, {task: ALWAYS})

    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.cancel) == ("failed", "complete", None)
    assert (ended.error_task, ended.error) == (task, f"Broken: {task} broke")
    assert bench.poster.entries(job.id)[-1].detail["error"] == ended.error
    bench.undone_in_order(shape)
    bench.recorded_truly(job)
    assert {record.how for record in bench.poster.tasks(job.id) if record.task == task} == {"raised"}


def test_a_task_that_leaves_with_system_exit_fails_its_job_and_is_undone(bench):
    job = bench.run("linear", {"c": ["exit"]})

    ended = bench.final(job)

    assert (ended.state, ended.error_task, ended.error) == ("failed", "c", "SystemExit: 3")
    bench.undone_in_order(bench.shapes["linear"])
    bench.recorded_truly(job)


def test_of_two_tasks_that_fail_the_first_is_named(bench):
    job = bench.run("diamond", {"left": ["break"], "right": ["break"]})
    bench.reached("execute left", "execute right")
    bench.gates.open("execute right")
    bench.until(
        "right has failed", lambda: {r.task: r.how for r in bench.poster.tasks(job.id)}["right"] == "raised"
    )
    bench.gates.open("execute left")

    assert bench.final(job).error_task == "right"
    bench.undone_in_order(bench.shapes["diamond"])


def test_the_failure_that_ended_a_job_is_named_not_one_that_was_retried(bench):
    # c fails in the first round; in the second and third it is b.
    job = bench.run("times", {"b": ["pass", "fail", "fail"], "c": ["fail"]})

    ended = bench.final(job)

    assert (ended.state, ended.error_task, ended.error) == ("failed", "b", "Broken: b broke")


def test_a_cancelled_job_names_no_failure_that_was_retried(bench):
    job = bench.run("times", {"a": ["pass", "hold"], "c": ["fail"]})
    bench.reached("execute a")
    bench.cancel(job)

    ended = bench.final(job)

    assert (ended.state, ended.error_task, ended.error) == ("cancelled", None, None)


@pytest.mark.parametrize("verb", ["execute", "on_failure"])
def test_a_retry_controller_that_raises_fails_the_job_and_is_asked_no_more(bench, verb):
    def bad(self, *args, **kwargs):
        raise ValueError("bad controller")

    controller = type("Bad", (retry.Times,), {verb: bad})

    @bench.registry.flow("bad")
    def flow(folder, plan):
        inner = linear_flow.Flow("inner", controller(3, "tries")).add(*map(bench.steps.Step, "ab"))
        return linear_flow.Flow("bad").add(bench.steps.Step("first"), inner)

    job = bench.post("bad", {"b": ["fail"]})
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.undo) == ("failed", "complete"), bench.told()
    assert bench.words("undo") == bench.words("begin")[::-1]
    bench.recorded_truly(job)


def test_a_retry_controller_whose_revert_raises_parks_the_job(bench):
    def bad(self, *args, **kwargs):
        raise ValueError("bad controller")

    controller = type("Bad", (retry.Times,), {"revert": bad})

    @bench.registry.flow("bad")
    def flow(folder, plan):
        inner = linear_flow.Flow("inner", controller(1, "tries")).add(*map(bench.steps.Step, "ab"))
        return linear_flow.Flow("bad").add(bench.steps.Step("first"), inner)

    job = bench.post("bad", {"b": ["fail"]})
    bench.start()

    parked = bench.final(job)

    assert (parked.state, parked.undo) == ("parked", None)
    assert "bad controller" in parked.park_reason
    assert bench.words("undo") == ["b", "a"]


def test_a_decider_that_raises_fails_the_job_and_is_undone(bench):
    @bench.registry.flow("decides")
    def decides(folder, plan):
        one, two = bench.steps.Step("one"), bench.steps.Step("two")
        flow = graph_flow.Flow("decides").add(one, two)
        flow.link(one, two, decider=lambda history: 1 / 0)
        return flow

    job = bench.post("decides")
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", None)
    assert ended.error == "ZeroDivisionError: division by zero"
    assert bench.effects == ["begin one", "end one", "undo one"]


# What a task returns.


def test_a_result_that_is_no_json_fails_its_task_once_and_is_undone(bench):
    job = bench.run("linear", {"c": ["object"]})

    ended = bench.final(job)

    assert (ended.state, ended.error_task, ended.undo) == ("failed", "c", "complete")
    assert "the result of c['made'] is a set" in ended.error
    assert bench.words("begin") == ["a", "b", "c"]
    assert bench.words("undo") == ["c", "b", "a"]
    assert bench.given() == {"c": "INTERRUPTED"}
    assert [record.how for record in bench.poster.tasks(job.id)] == ["returned", "returned", "raised"]


def _short(bench, *, needed_by, returns=None, tries=0):
    """The end of a job whose second task is to provide two values and returns one; who needs the other?"""

    class Takes(bench.steps.Step):
        def execute(self, folder, plan, two):
            return super().execute(folder, plan)

    class UndoesWith(Takes):
        def revert(self, result, folder, plan, two):
            super().revert(result, folder, plan)

    third = {"nobody": bench.steps.Step, "execute": Takes, "execute and revert": UndoesWith}[needed_by]

    @bench.registry.flow("short", returns=returns)
    def short(folder, plan):
        second = bench.steps.Step("b", provides={"one", "two"})
        controller = retry.Times(tries, "tries") if tries else None
        return linear_flow.Flow("short", controller).add(bench.steps.Step("a"), second, third("c"))

    job = bench.post("short", {"b": ["one"] * 9})
    bench.start()
    return bench.final(job)


@pytest.mark.parametrize("tries", [0, 3], ids=["plain", "retried"])
@pytest.mark.parametrize("needed_by", ["execute", "execute and revert"])
def test_a_result_that_lacks_a_value_which_is_needed_fails_the_job_and_is_undone(bench, needed_by, tries):
    ended = _short(bench, needed_by=needed_by, tries=tries)

    assert (ended.state, ended.undo) == ("failed", "complete"), bench.told()
    assert "two" in ended.error
    assert "c" not in bench.words("begin")
    bench.undone_in_order(bench.shapes["times"])
    records = bench.poster.tasks(ended.id)
    assert all(record.undo_ended_at is not None for record in records)


def test_a_result_that_lacks_what_the_job_returns_fails_the_job_and_is_undone(bench):
    ended = _short(bench, needed_by="nobody", returns="two")

    assert (ended.state, ended.undo) == ("failed", "complete"), bench.told()
    assert "two" in ended.error
    bench.undone_in_order(bench.shapes["times"])


def test_a_job_whose_returned_value_was_skipped_by_a_decider_fails_and_is_undone(bench):
    @bench.registry.flow("skips", returns="two")
    def skips(folder, plan):
        one, two = bench.steps.Step("one"), bench.steps.Step("two")
        flow = graph_flow.Flow("skips").add(one, two)
        flow.link(one, two, decider=lambda history: False)
        return flow

    job = bench.post("skips")
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.undo) == ("failed", "complete"), bench.told()
    assert "two" in ended.error
    assert bench.effects == ["begin one", "end one", "undo one"]


@pytest.mark.parametrize("tries", [0, 3], ids=["plain", "retried"])
def test_a_job_result_that_is_too_large_fails_the_job_and_is_undone(bench, tries):
    @bench.registry.flow("large")
    def large(folder, plan):
        controller = retry.Times(tries, "tries") if tries else None
        return linear_flow.Flow("large", controller).add(*map(bench.steps.Step, "abc"))

    job = bench.post("large", {"a": ["large"], "b": ["large"]})
    bench.start()

    ended = bench.final(job)

    assert (ended.state, ended.undo, ended.error_task) == ("failed", "complete", None)
    assert ended.error.startswith("the result of the job takes 14")
    assert bench.words("begin") == ["a", "b", "c"]
    assert bench.words("undo") == ["c", "b", "a"]
    bench.recorded_truly(job)


def test_the_reason_of_an_undo_outlives_a_drain(bench):
    @bench.registry.flow("large")
    def large(folder, plan):
        return linear_flow.Flow("large").add(*map(bench.steps.Step, "abc"))

    job = bench.post("large", {"a": ["large"], "b": ["large"], "undo b": ["gate"]})
    first = bench.start()
    bench.reached("undo b")
    bench.drain(first)
    bench.gates.open("undo b")
    bench.drained(first)
    assert bench.poster.show(job.id).state == "pending"

    bench.start()

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("failed", "complete")
    assert bench.words("undo") == ["c", "b", "a"]
    assert ended.error.startswith("the result of the job takes 14")


@pytest.mark.parametrize("drained", range(4))
def test_siblings_are_undone_newest_first_also_by_whoever_goes_on_with_it(bench, drained):
    @bench.registry.flow("siblings")
    def siblings(folder, plan):
        four = unordered_flow.Flow("four").add(*map(bench.steps.Step, "abcd"))
        return linear_flow.Flow("siblings").add(four, bench.steps.Step("last"))

    job = bench.post("siblings", {"last": ["break"]} | {f"undo {task}": ["gate"] for task in "abcd"})
    first = bench.start(1)
    bench.reached("execute last")
    newest_first = bench.words("begin")[-2::-1]
    bench.gates.open("execute last")
    for number, task in enumerate(newest_first):
        bench.reached(f"undo {task}")
        if number == drained:
            bench.drain(first)
        bench.gates.open(f"undo {task}")
        if number == drained:
            bench.drained(first)
            bench.start(1)

    ended = bench.final(job)
    assert (ended.state, ended.undo) == ("failed", "complete")
    assert bench.words("undo") == ["last", *newest_first]


# An undo that fails.


@pytest.mark.parametrize("how", ["failed", "cancelled"])
@pytest.mark.parametrize(
    ("flow", "last", "broken", "held"),
    [
        ("linear", "d", "b", {"a"}),
        ("linear", "d", "d", {"a", "b", "c"}),
        ("unordered", "f", "c", set()),
        ("diamond", "bottom", "left", {"top"}),
        ("nested", "last", "p2", {"p1", "first"}),
        ("times-in-times", "after", "x", {"before"}),
        ("revert-in-plain", "last", "y", {"x", "first"}),
    ],
)
def test_an_undo_that_fails_parks_the_job_holds_what_came_before_and_undoes_the_rest(
    bench, flow, last, broken, held, how
):
    shape = bench.shapes[flow]
    again = {"times-in-times": 2}.get(flow, 1) if how == "failed" else 1
    plan = {last: ["break"] * again if how == "failed" else ["hold"]}
    job = bench.run(flow, plan | {f"undo {broken}": ["pass"] * (again - 1) + ["fail"] * 9})
    for _ in range(again):
        bench.reached(f"execute {last}")
        bench.ended(*shape.without(last))
        if how == "failed":
            bench.gates.open(f"execute {last}")
        else:
            bench.cancel(job)

    parked = bench.final(job)

    assert (parked.state, parked.phase, parked.undo) == ("parked", "parked", None)
    assert parked.park_reason == f"the undo of {broken} failed: Broken: the undo of {broken} broke"
    entry = bench.poster.entries(job.id)[-1]
    assert (entry.name, entry.detail["task"], entry.detail["reason"]) == (
        "parked",
        broken,
        parked.park_reason,
    )
    bench.undone_in_order(shape, stays={broken} | held)
    bench.recorded_truly(job)
    records = {record.task: record for record in bench.poster.tasks(job.id)}
    assert records[broken].undo_error == f"Broken: the undo of {broken} broke"
    assert records[broken].undo_tries == 1
    assert all(records[task].undo_begun_at is None for task in held)


def test_an_undo_that_fails_in_a_retry_round_lets_nothing_more_begin_and_undoes_the_branches_beside_it(bench):
    shape = bench.shapes["branches"]
    job = bench.run("branches", {"p": ["gate"], "y": ["fail"], "undo x": ["fail"]})
    bench.reached("execute p")
    bench.until("the undo of x has failed", lambda: _undo_has_failed(bench, job, "x"))
    bench.gates.open("execute p")

    parked = bench.final(job)

    assert (parked.state, parked.park_reason) == (
        "parked",
        "the undo of x failed: Broken: the undo of x broke",
    )
    assert "q" not in bench.words("begin"), "work went on after the incident"
    bench.undone_in_order(shape, stays={"x"})


def _undo_has_failed(bench, job, task):
    return any(r.task == task and r.undo_error for r in bench.poster.tasks(job.id))


def test_two_undos_that_fail_park_the_job_once_and_both_are_recorded(bench):
    @bench.registry.flow("pair")
    def pair(folder, plan):
        step = bench.steps.Step
        return linear_flow.Flow("pair").add(
            step("a"), unordered_flow.Flow("both").add(step("b"), step("c")), step("d")
        )

    job = bench.post("pair", {"d": ["fail"], "undo b": ["fail"], "undo c": ["fail"]})
    bench.start()

    parked = bench.final(job)

    assert parked.state == "parked"
    assert bench.words("undo") == ["d"]
    errors = {r.task: r.undo_error for r in bench.poster.tasks(job.id) if r.undo_error}
    assert errors == {t: f"Broken: the undo of {t} broke" for t in "bc"}
    assert [entry.name for entry in bench.poster.entries(job.id)].count("parked") == 1


def test_cancel_of_a_parked_job_is_recorded_and_runs_nothing(bench):
    job = bench.run("linear", {"d": ["fail"], "undo b": ["fail"]})
    bench.final(job)
    before = bench.effects

    answer = bench.cancel(job, "anyway")

    assert (answer.answer, answer.job.state, answer.job.phase) == ("accepted", "parked", "parked")
    assert answer.job.cancel.reason == "anyway"
    assert bench.cancel(job).answer == "already requested"
    later = bench.in_folder("later").post("linear")
    assert bench.final(later).state == "completed"
    assert bench.poster.show(job.id).state == "parked"
    bench.folder = bench.folder.parent
    assert bench.effects == [*before, "accepted"]
