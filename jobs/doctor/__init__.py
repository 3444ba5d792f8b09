"""What a set-up lacks: store, signal, clocks, permissions, versions are looked at, and nothing changed."""

from ebbtide.jobs.doctor.examination import examine
from ebbtide.jobs.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
