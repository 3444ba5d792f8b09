"""What a ledger has to say and to answer, written down a second time: small, in memory, and by other means.

It knows nothing of the product but words. A call is answered by a word, or by the name of the error with the
state that the error tells; what is answered with an error has changed nothing.
"""

from dataclasses import dataclass, field

LEASE_SECONDS = 30.0
INTERRUPTIONS_ALLOWED = 2
FINAL = ("completed", "failed", "cancelled")

NOT_FOUND = "JobNotFound"
CLAIM_LOST = "ClaimLost"
CANCELLED = "Cancelled"
NOT_STORED = "StoreUnavailable"
NOBODY_KNOWS = "CommitUnknown"


@dataclass
class Task:
    how: str | None = None
    saved: str | None = None
    undo_tries: int = 0
    undone: bool = False


@dataclass
class Attempt:
    cancel: str | None = None  # the reason of its request
    forwarded: bool = False
    delivered: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    outcome: tuple[str, str] | None = None  # state and undo


@dataclass
class Entry:
    name: str
    source: str | None
    target: str | None
    attempt: int
    epoch: int


@dataclass
class Job:
    id: str
    priority: int
    created: float
    due: float
    state: str = "pending"
    owner: str | None = None
    epoch: int = 0
    attempt: int = 1
    undo: str | None = None
    undoing: bool = False
    interruptions: int = 0
    deleting: bool = False
    attempts: dict[int, Attempt] = field(default_factory=lambda: {1: Attempt()})
    entries: list[Entry] = field(default_factory=list)

    @property
    def now(self) -> Attempt:
        """The present attempt."""
        return self.attempts[self.attempt]

    @property
    def requested(self) -> bool:
        return self.now.cancel is not None

    def phase(self, at: float) -> str:
        if self.state in (*FINAL, "parked"):
            return self.state
        if self.requested:
            return "cancelling"
        if self.state == "pending" and self.due > at:
            return "scheduled"
        return "reverting" if self.state == "running" and self.undoing else self.state

    def note(self, name: str) -> None:
        self.entries.append(Entry(name, None, None, self.attempt, self.epoch))

    def move(self, name: str, target: str) -> None:
        source, self.state = self.state, target
        self.entries.append(Entry(name, source, target, self.attempt, self.epoch))

    def end(self, name: str, target: str, undo: str) -> None:
        self.owner, self.undo, self.undoing = None, undo, False
        self.now.outcome = (target, undo)
        self.move(name, target)

    def interrupt(self) -> None:
        for task in self.now.tasks.values():
            task.how = task.how or "interrupted"

    def park(self) -> None:
        self.owner = None
        self.move("parked", "parked")

    def enter(self, name: str, owner: str) -> None:
        self.epoch, self.owner = self.epoch + 1, owner
        self.move(name, "running")
        self.interrupt()

    @property
    def is_worn_out(self) -> bool:
        """One more interruption parks it."""
        return self.interruptions >= INTERRUPTIONS_ALLOWED

    def take_over(self, owner: str, *, interrupted: bool) -> bool:
        """Whether it was taken over; else it is parked."""
        if interrupted and self.is_worn_out:
            self.interrupt()
            self.park()
            return False
        self.interruptions += interrupted
        self.enter("reclaimed", owner)
        return True


@dataclass
class Conductor:
    id: str
    until: float
    released: bool = False


class Reference:
    """Jobs by id, those that were deleted not among them, and conductors by id."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.conductors: dict[str, Conductor] = {}

    # Clients.

    def post(self, job: str, priority: int, at: float, due: float) -> None:
        self.jobs[job] = Job(job, priority, at, due)
        self.jobs[job].entries.append(Entry("posted", None, "pending", 1, 0))

    def cancel(self, job_id: str, reason: str, at: float) -> str:
        job = self.jobs.get(job_id)
        if job is None:
            return NOT_FOUND
        if job.requested or job.state == "cancelled":
            return "already requested"
        if job.state in FINAL:
            return f"TooLate {job.state}"
        job.now.cancel = reason
        job.note("cancel_requested")
        if job.state == "pending":
            if job.now.tasks:
                job.due = at
            else:
                job.end("cancelled_unclaimed", "cancelled", "none")
        return "accepted"

    def _bury(self, job: Job) -> None:
        """What was to be deleted goes with its end."""
        if job.deleting and job.state in FINAL:
            del self.jobs[job.id]

    def retry(self, job_id: str, at: float) -> str:
        job = self.jobs.get(job_id)
        if job is None:
            return NOT_FOUND
        if job.state not in ("failed", "cancelled"):
            return f"EdgeRefused {job.state}"
        job.attempt += 1
        job.attempts[job.attempt] = Attempt()
        job.undo, job.undoing, job.interruptions, job.due = None, False, 0, at
        job.move("retried", "pending")
        return str(job.attempt)

    def unpark(self, job_id: str, at: float) -> str:
        job = self.jobs.get(job_id)
        if job is None:
            return NOT_FOUND
        if job.state != "parked":
            return f"EdgeRefused {job.state}"
        job.due, job.interruptions = at, 0
        job.move("unparked", "pending")
        if job.requested and not job.now.tasks:
            job.end("cancelled_unclaimed", "cancelled", "none")
            self._bury(job)
        return "None"

    def accept(self, job_id: str) -> str:
        job = self.jobs.get(job_id)
        if job is None:
            return NOT_FOUND
        if job.state != "parked":
            return f"EdgeRefused {job.state}"
        target = "cancelled" if job.requested else "failed"
        job.end(f"accepted_as_{target}", target, "accepted")
        self._bury(job)
        return "None"

    def delete(self, job_id: str, at: float) -> str:
        job = self.jobs.get(job_id)
        if job is None:
            return NOT_FOUND
        if job.state in FINAL or (job.state == "pending" and not job.now.tasks):
            del self.jobs[job_id]
            return "deleted"
        if job.deleting:
            return "already requested"
        job.deleting = True
        job.note("delete_requested")
        self.cancel(job_id, "to be deleted", at)
        return "accepted"

    # Conductors.

    def is_live(self, owner: str | None, at: float) -> bool:
        conductor = self.conductors.get(owner or "")
        return conductor is not None and not conductor.released and conductor.until > at

    def renew(self, owner: str, at: float) -> bool:
        if self.is_live(owner, at):
            self.conductors[owner].until = at + LEASE_SECONDS
            return True
        return False

    def held(self, owner: str) -> dict[str, int]:
        return {j.id: j.epoch for j in self.jobs.values() if j.state == "running" and j.owner == owner}

    def orphans(self, at: float) -> list[Job]:
        return [j for j in self.jobs.values() if j.state == "running" and not self.is_live(j.owner, at)]

    def best(self, at: float) -> list[Job]:
        """The pending jobs of which any may be claimed next: those that come first, alike."""
        due = [job for job in self.jobs.values() if job.state == "pending" and job.due <= at]
        keys = {job.id: (-job.priority, job.due, job.created) for job in due}
        return [job for job in due if keys[job.id] == min(keys.values())]

    def requests(self, owner: str) -> set[tuple[str, int]]:
        """Those to be forwarded."""
        return {
            (job.id, job.attempt)
            for job in self.jobs.values()
            if job.state == "running" and job.owner == owner and job.requested and not job.now.forwarded
        }

    def forwarded(self, job_id: str) -> None:
        job = self.jobs[job_id]
        job.now.forwarded = True
        if not job.now.delivered:  # a run has heard of it by itself
            job.note("cancel_forwarded")

    # Holders.

    def holds(self, job_id: str, epoch: int) -> Job | None:
        """The job, if whoever has the claim of that epoch may still write."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.epoch == epoch and job.state == "running" else None

    def leave(self, job: Job, edge: str) -> bool:
        """Leave by the edge; False: a cancel request came first."""
        if edge in ("completed", "failed") and job.requested:
            return False
        undone = "complete" if any(task.undone for task in job.now.tasks.values()) else "none"
        if edge == "parked":
            job.park()
        elif edge == "released":
            job.owner = None
            job.move("released", "pending")
        else:
            job.end(edge, edge, "none" if edge == "completed" else undone)
            self._bury(job)
        return True
