"""A claim that no runner has got: it is kept, and interrupts nothing. P10, P11."""

from ebbtide.conductor.threads import ThreadRunners


def test_a_claim_waits_for_the_next_runner_when_the_idle_one_has_just_died(bench, monkeypatch):
    refused = []
    run = ThreadRunners.run

    def run_at_the_fifth_time(runners, claim):
        if len(refused) < 4:
            refused.append(claim)
            return False
        return run(runners, claim)

    monkeypatch.setattr(ThreadRunners, "run", run_at_the_fifth_time)
    job = bench.post("linear")
    bench.start(sweep_seconds=0.05)

    ended = bench.final(job)

    assert ended.state == "completed"
    assert len(set(refused)) == 1
    names = [entry.name for entry in bench.poster.entries(job.id)]
    assert names == ["posted", "claimed", "completed"]
