"""What all runs of one conductor share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ebbtide.config import Settings
from ebbtide.tasks import payload

__all__ = ["RunOptions"]


@dataclass(frozen=True)
class RunOptions:
    """Travels to the keeper and its runners as JSON, over their sockets: it may hold a password.

    Attributes:
        database: URL of the store.
        flow_modules: modules to import for their flows.
        owner: the conductor's id, as claims and history name it.
        task_threads: how many tasks of a job run at once.
        patience_seconds: how long the store may stay away before a run gives its claim up.
        log_lines: how many captured lines are kept for a job.
        log_level: the least that is captured of what tasks log.
        max_result_bytes: of a task's result, the data of a checkpoint, and the job's result.
        grace_seconds: how long bodies without a grace of their own may take to a checkpoint.
        kill_after_seconds: how long what does not stop may take to end after SIGTERM.
        revert_retries: how often an undo is tried again after a failure.
        revert_retry_seconds: how long after the first one; after each further one twice as long.
        revert_timeout_seconds: how long one try of an undo may take.
        memory_limit_mib: what a runner may use; 0: no limit.
        secret_references: which secrets jobs are given; without any: all that can be read.
        max_retries, retry_interval, job_timeout: of jobs that tasks post, where nothing nearer says so.
    """

    database: str
    flow_modules: tuple[str, ...]
    owner: str
    task_threads: int
    patience_seconds: float
    log_lines: int
    log_level: str = "info"
    max_result_bytes: int = payload.MAX_BYTES
    grace_seconds: float = 10.0
    kill_after_seconds: float = 5.0
    revert_retries: int = 0
    revert_retry_seconds: float = 1.0
    revert_timeout_seconds: float = 600.0
    memory_limit_mib: int = 0
    secret_references: tuple[str, ...] = ()
    max_retries: int = 0
    retry_interval: float = 60.0
    job_timeout: float = 0.0

    @classmethod
    def of(cls, settings: Settings, database: str, owner: str) -> RunOptions:
        """What the settings of a conductor say of its runs. Their patience is that of its lease."""
        same = {field.name for field in fields(cls)} & set(vars(settings))
        values = {name: getattr(settings, name) for name in same}
        patience = settings.self_fence_seconds
        return cls(**(values | {"database": database, "owner": owner, "patience_seconds": patience}))

    @property
    def wait_seconds(self) -> float:
        """How long a single statement may wait: well below the patience, so that it can be repeated."""
        return self.patience_seconds / 2

    @property
    def for_children(self) -> Settings:
        """By which the jobs are posted that a task of a run posts."""
        return Settings(
            database=self.database,
            max_retries=self.max_retries,
            retry_interval=self.retry_interval,
            job_timeout=self.job_timeout,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunOptions:
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists))
