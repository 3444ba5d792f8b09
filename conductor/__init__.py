"""Who runs a job: the conductor with its keeper and runners, the engine, the journal, the lease."""

from ebbtide.conductor.embedding import Service
from ebbtide.conductor.service import Conductor

__all__ = ["Conductor", "Service"]
